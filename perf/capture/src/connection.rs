//! One iSCSI connection: its login, its commands and their ends, as facts with their times.

use crate::limits::OUTSTANDING_MAX;
use crate::pdus::{At, Cutter, Lost};
use crate::stream::{Counts, Piece, Stream};
use stampede_trace::Stage;
use stampede_wire::pdu::{CommandFlags, DataIn, LoginRequest, LoginResponse, LoginStatus, Request, Response};
use stampede_wire::text::Pairs;
use stampede_wire::{Bhs, Isid, Lun};
use std::collections::BTreeMap;

/// How iPXE's ISIDs begin: an enterprise number and four bits of a kind.
const IPXE: [u8; 4] = [0x40, 0x00, 0x27, 0x23];
/// The longest data segment that firmware takes.
const FIRMWARE_SEGMENT: u32 = 8192;

/// What happened on a connection.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// A login that succeeded; the time of the fact is when it began.
    Login { initiator: String, isid: Isid, stage: Stage, done_us: u64 },
    /// A command.
    Command(Box<Told>),
    /// The connection ended.
    Close,
}

/// A command as it was sent, and its end.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) cdb: [u8; 16],
    pub(crate) lun: Lun,
    /// Bytes that the initiator expects to move (RFC 7143 11.3.4).
    pub(crate) expected: u32,
    pub(crate) writes: bool,
    /// When its status came, and which.
    pub(crate) end: Option<(u64, u8)>,
}

/// Where facts go; the index of a fact is kept for its command's end.
pub(crate) trait Facts {
    /// Keeps a fact; none when there is no room for more.
    fn push(&mut self, at_us: u64, what: What) -> Option<usize>;
    /// A command has ended.
    fn end(&mut self, fact: usize, at_us: u64, status: u8);
}

#[derive(Debug, Default)]
struct Login {
    began_us: Option<u64>,
    isid: Isid,
    initiator: String,
    is_discovery: bool,
    immediate_data: bool,
    segment: u32,
    header_digest: bool,
    data_digest: bool,
    /// Text of the requests, and of the answers, so far.
    texts: [Vec<u8>; 2],
}

/// What the protocol says, apart from TCP.
#[derive(Debug)]
struct Talk {
    login: Login,
    stands: bool,
    /// By Initiator Task Tag: the command's fact.
    outstanding: BTreeMap<u32, usize>,
    is_full: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Connection {
    /// From the initiator, and to it.
    streams: [Option<Stream>; 2],
    cutters: [Cutter; 2],
    talk: Talk,
    /// Whose FIN was seen, and when the first was.
    fins: [bool; 2],
    closed_us: Option<u64>,
}

impl Connection {
    /// A connection whose SYN has this sequence number.
    pub(crate) fn new(seq: u32) -> Self {
        let login = Login { immediate_data: true, segment: FIRMWARE_SEGMENT, ..Login::default() };
        Self {
            streams: [Some(Stream::new(seq.wrapping_add(1))), None],
            cutters: [Cutter::new(true), Cutter::new(false)],
            talk: Talk { login, stands: false, outstanding: BTreeMap::new(), is_full: false },
            fins: [false; 2],
            closed_us: None,
        }
    }

    /// Whether this is the SYN that began it, sent again.
    pub(crate) fn is_begun_by(&self, seq: u32) -> bool {
        self.streams[0].as_ref().is_some_and(|stream| stream.is_first(seq.wrapping_add(1)))
    }

    /// The target's SYN.
    pub(crate) fn answered(&mut self, seq: u32) {
        self.streams[1].get_or_insert_with(|| Stream::new(seq.wrapping_add(1)));
    }

    /// Whether it has logged in to a target (and not for discovery).
    pub(crate) fn is_session(&self) -> bool {
        self.talk.stands
    }

    /// Bytes that wait for others.
    pub(crate) fn held_bytes(&self) -> usize {
        self.streams.iter().flatten().map(Stream::held_bytes).sum()
    }

    pub(crate) fn counts(&self) -> [Counts; 2] {
        [0, 1].map(|side| self.streams[side].as_ref().map_or_else(Counts::default, |stream| stream.counts))
    }

    /// A segment's payload, of the target (`side` 1) or of the initiator.
    pub(crate) fn segment(
        &mut self,
        side: usize,
        (seq, bytes, missing): (u32, &[u8], u32),
        at_us: u64,
        facts: &mut dyn Facts,
    ) -> Result<(), Lost> {
        self.with(side, at_us, facts, |stream, sink| stream.push(seq, bytes, missing, sink))
    }

    /// Side `side` has received all of the other's bytes before `ack`.
    pub(crate) fn acknowledged(
        &mut self,
        side: usize,
        ack: u32,
        at_us: u64,
        facts: &mut dyn Facts,
    ) -> Result<(), Lost> {
        self.with(1 - side, at_us, facts, |stream, sink| stream.acknowledged(ack, sink))
    }

    /// Side `side` says that it sends no more, or, by a RST, that nobody does. True when the connection is over: what one
    /// side still sends, or what comes late, belongs to it until then.
    pub(crate) fn closing(&mut self, side: usize, is_reset: bool, at_us: u64) -> bool {
        self.closed_us.get_or_insert(at_us);
        self.fins[side] = true;
        is_reset || self.fins == [true; 2]
    }

    /// The connection is over, or the capture is, or it cannot be followed: what still waits is given.
    pub(crate) fn finish(&mut self, at_us: u64, facts: &mut dyn Facts) -> Result<(), Lost> {
        let mut result = Ok(());
        for side in [0, 1] {
            result = result.and(self.with(side, at_us, facts, |stream, sink| stream.finish(sink)));
        }
        if let (true, Some(closed_us)) = (self.talk.stands, self.closed_us) {
            facts.push(closed_us, What::Close);
        }
        result
    }

    fn with(
        &mut self,
        side: usize,
        at_us: u64,
        facts: &mut dyn Facts,
        action: impl FnOnce(&mut Stream, &mut dyn FnMut(Piece<'_>)),
    ) -> Result<(), Lost> {
        let Some(stream) = &mut self.streams[side] else { return Ok(()) };
        let (talk, cutters, mut result) = (&mut self.talk, &mut self.cutters, Ok(()));
        let mut digests = None;
        action(stream, &mut |piece| {
            if result.is_ok() {
                result = cutters[side].push(piece, &mut |bhs, at| {
                    let agreed = talk.pdu(side, bhs, at, at_us, facts);
                    digests = agreed.or(digests);
                    agreed
                });
            }
        });
        if let Some((header, data)) = digests {
            // The initiator sends nothing between its last Login Request and the answer that ends the login.
            self.cutters[0].set_digests(header, data);
        }
        result
    }
}

impl Talk {
    /// One PDU; digests when they hold from now on.
    fn pdu(
        &mut self,
        side: usize,
        bhs: &Bhs,
        at: At<'_>,
        at_us: u64,
        facts: &mut dyn Facts,
    ) -> Option<(bool, bool)> {
        match (side, at) {
            // A command's time is that of its header; an answer's that of its last byte.
            (0, At::Header) => {
                if let (true, Some(Request::ScsiCommand(command))) = (self.stands, bhs.request()) {
                    let told = Told {
                        cdb: *command.cdb(),
                        lun: command.lun(),
                        expected: command.expected_data_transfer_length(),
                        writes: command.flags().contains(CommandFlags::WRITE),
                        end: None,
                    };
                    self.command(command.initiator_task_tag(), told, at_us, facts);
                } else if let (false, Some(Request::LoginRequest(_))) = (self.stands, bhs.request()) {
                    self.login.began_us.get_or_insert(at_us);
                }
                None
            }
            (0, At::End(text)) => {
                if let Some(Request::LoginRequest(request)) = bhs.request() {
                    self.asks(request, text);
                }
                None
            }
            (_, At::End(text)) => self.answer(bhs, text, at_us, facts),
            _ => None,
        }
    }

    fn command(&mut self, tag: u32, told: Told, at_us: u64, facts: &mut dyn Facts) {
        if self.outstanding.len() >= OUTSTANDING_MAX {
            // The oldest tags never got an answer in this capture.
            self.outstanding.pop_first();
        }
        match facts.push(at_us, What::Command(Box::new(told))) {
            Some(fact) => drop(self.outstanding.insert(tag, fact)),
            None => self.is_full = true,
        }
    }

    fn answer(&mut self, bhs: &Bhs, text: &[u8], at_us: u64, facts: &mut dyn Facts) -> Option<(bool, bool)> {
        let (tag, status) = match bhs.response()? {
            Response::LoginResponse(response) => return self.login_answer(response, text, at_us, facts),
            Response::ScsiResponse(response) => (response.initiator_task_tag(), response.status()),
            Response::DataIn(_) => {
                let data: &DataIn = bhs.view();
                (data.initiator_task_tag(), data.status()?)
            }
            _ => return None,
        };
        if let Some(fact) = self.outstanding.remove(&tag) {
            facts.end(fact, at_us, status);
        }
        None
    }

    fn asks(&mut self, request: &LoginRequest, text: &[u8]) {
        self.login.isid = request.isid();
        let Some(text) = gather(&mut self.login.texts[0], text, request.continues()) else { return };
        let Ok(pairs) = Pairs::parse(&text) else { return };
        for (key, value) in pairs {
            match key {
                "InitiatorName" => value.clone_into(&mut self.login.initiator),
                "SessionType" => self.login.is_discovery = value == "Discovery",
                "ImmediateData" => self.login.immediate_data = value == "Yes",
                "MaxRecvDataSegmentLength" => {
                    self.login.segment = value.parse().unwrap_or(self.login.segment);
                }
                _ => {}
            }
        }
    }

    fn login_answer(
        &mut self,
        response: &LoginResponse,
        text: &[u8],
        at_us: u64,
        facts: &mut dyn Facts,
    ) -> Option<(bool, bool)> {
        if response.status() != Ok(LoginStatus::Success) {
            self.login.texts = Default::default();
            return None;
        }
        let text = gather(&mut self.login.texts[1], text, response.continues())?;
        for (key, value) in Pairs::parse(&text).ok()? {
            match key {
                "HeaderDigest" => self.login.header_digest = value == "CRC32C",
                "DataDigest" => self.login.data_digest = value == "CRC32C",
                _ => {}
            }
        }
        let is_last =
            response.transit() && response.next_stage() == Ok(stampede_wire::pdu::Stage::FullFeature);
        if !is_last || self.stands {
            return None;
        }
        self.stands = !self.login.is_discovery;
        if self.stands {
            let Login { isid, immediate_data, segment, began_us, .. } = self.login;
            let is_small = !immediate_data && segment <= FIRMWARE_SEGMENT;
            let stage = if isid.0.starts_with(&IPXE) || is_small { Stage::Firmware } else { Stage::Os };
            let initiator = std::mem::take(&mut self.login.initiator);
            let login = What::Login { initiator, isid, stage, done_us: at_us };
            self.is_full |= facts.push(began_us.unwrap_or(at_us), login).is_none();
        }
        Some((self.login.header_digest, self.login.data_digest))
    }
}

/// Puts a text together that may go on in further PDUs (RFC 7143 11.12.2); all of it when it is complete.
fn gather(so_far: &mut Vec<u8>, text: &[u8], goes_on: bool) -> Option<Vec<u8>> {
    // Never more than one login's texts of TEXT_MAX and a PDU.
    if so_far.len() <= crate::limits::TEXT_MAX {
        so_far.extend_from_slice(text);
    }
    (!goes_on).then(|| std::mem::take(so_far))
}
