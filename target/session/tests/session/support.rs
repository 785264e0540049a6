//! A connection under test: requests are framed and fed in, everything it does is recorded.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use stampede_session::{
    Admission, Applicant, Authentication, ChapPolicy, Close, CommandResult, Connection, DataGrant, Directory,
    Disposition, LoginRequest, LoginStage, ManagementRequest, OutData, Output, Redirection, SessionId,
    SessionInfo, Settings, TaskKey, Transfer, Violation,
};
use stampede_wire::{
    Bhs, Isid, Lun, Sn, Tsih,
    encode::{Digests, append_pdu},
    frame::{Frame, Framer, FramerConfig},
    pdu::{
        self, DataIn, DataOut, InitiatorSns, LoginResponse, LoginStep, Pdu, ReadyToTransfer, ScsiCommand,
        ScsiResponse, Stage, TaskAttribute,
    },
};

pub(crate) const INITIATOR: &str = "iqn.2026-01.example.boot:guest";
pub(crate) const TARGET: &str = "iqn.2026-01.example.boot:disk1";
pub(crate) const SECOND: u64 = 1_000_000_000;

/// What a connection did.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Event {
    Send(Bhs, Sent),
    Admit(Box<LoginRequest>),
    Accept(TaskKey),
    Command(TaskKey),
    Manage(ManagementRequest),
    Release(TaskKey),
    Digests(bool, bool),
    FullFeature(Box<SessionInfo>),
    Close(Close),
}

/// A sent data segment.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Sent {
    None,
    Bytes(Vec<u8>),
    Task { task: TaskKey, offset: u32, len: u32 },
}

#[derive(Default)]
pub(crate) struct Recorder(pub Vec<Event>);

impl Output for Recorder {
    fn send(&mut self, header: &Bhs, data: OutData<'_>) {
        assert_eq!(header.data_segment_len() as usize, data.len(), "{header:?}");
        assert!(header.opcode().is_ok_and(|opcode| !opcode.is_request()), "{header:?}");
        self.0.push(Event::Send(
            *header,
            match data {
                OutData::None => Sent::None,
                OutData::Bytes(bytes) => Sent::Bytes(bytes.to_vec()),
                OutData::Task { task, offset, len } => Sent::Task { task, offset, len },
            },
        ));
    }
    fn admit(&mut self, request: LoginRequest) {
        self.0.push(Event::Admit(Box::new(request)));
    }
    fn accept(&mut self, task: TaskKey) {
        self.0.push(Event::Accept(task));
    }
    fn command(&mut self, task: TaskKey) {
        self.0.push(Event::Command(task));
    }
    fn manage(&mut self, request: ManagementRequest) {
        self.0.push(Event::Manage(request));
    }
    fn release(&mut self, task: TaskKey) {
        self.0.push(Event::Release(task));
    }
    fn digests(&mut self, header: bool, data: bool) {
        self.0.push(Event::Digests(header, data));
    }
    fn full_feature(&mut self, session: &SessionInfo) {
        self.0.push(Event::FullFeature(Box::new(session.clone())));
    }
    fn close(&mut self, how: Close) {
        self.0.push(Event::Close(how));
    }
}

/// Two targets on two portals; a stage, credentials and another place for the first, which a test may set.
#[derive(Default)]
pub(crate) struct Targets {
    pub(crate) stage: Mutex<Option<LoginStage>>,
    pub(crate) chap: Option<Arc<ChapPolicy>>,
    pub(crate) elsewhere: Option<Redirection>,
}

impl Directory for Targets {
    fn contains(&self, target: &str) -> bool {
        target == TARGET || target == "iqn.2026-01.example.boot:disk2"
    }

    fn discover(
        &self,
        _initiator: &str,
        local: SocketAddr,
        which: Option<&str>,
        visit: &mut dyn FnMut(&str, &[String], u16),
    ) {
        for name in [TARGET, "iqn.2026-01.example.boot:disk2"] {
            if which.is_none_or(|which| which == name) {
                visit(name, &[local.to_string(), "[2001:db8::1]:3260".to_owned()], 1);
            }
        }
    }

    fn stage_override(&self, _target: &str) -> Option<LoginStage> {
        *self.stage.lock().unwrap()
    }

    fn authentication(&self, applicant: &Applicant<'_>) -> Authentication {
        match &self.chap {
            Some(chap) if applicant.target != Some("iqn.2026-01.example.boot:disk2") => {
                assert_eq!(applicant.initiator, INITIATOR, "said before it is asked for");
                Authentication::Chap(Arc::clone(chap))
            }
            _ => Authentication::None,
        }
    }

    fn redirection(&self, target: &str) -> Option<Redirection> {
        self.elsewhere.clone().filter(|_| target == TARGET)
    }
}

/// A payload byte that tells its place.
pub(crate) fn pattern(at: usize) -> u8 {
    (at.wrapping_mul(31) >> 3) as u8 ^ at as u8
}

pub(crate) fn payload(len: usize) -> Vec<u8> {
    (0..len).map(pattern).collect()
}

pub(crate) struct Harness {
    pub(crate) connection: Connection,
    pub(crate) out: Recorder,
    pub(crate) framer: Framer,
    pub(crate) now_ns: u64,
    /// What the engine wants of the next commands' write data.
    pub(crate) grant: u32,
    /// CmdSN of the next command.
    pub(crate) cmd_sn: Sn,
    /// What was stored into tasks' buffers.
    pub(crate) stored: Vec<(TaskKey, u32, Vec<u8>)>,
    pub(crate) digest_ok: bool,
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

impl Harness {
    pub(crate) fn new() -> Self {
        Self::with(Settings::new(Arc::new(Targets::default())))
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let mut config = FramerConfig::login();
        config.max_data_segment = (1 << 24) - 1;
        Self {
            connection: Connection::new(
                SessionId(7),
                Arc::new(settings),
                address("192.0.2.1:3260"),
                address("192.0.2.77:40000"),
                0,
            ),
            out: Recorder::default(),
            framer: Framer::new(config),
            now_ns: 0,
            grant: u32::MAX,
            cmd_sn: Sn(0),
            stored: Vec::new(),
            digest_ok: true,
        }
    }

    /// A session in the full-feature phase whose login offered `keys`.
    pub(crate) fn session(keys: &str) -> Self {
        Self::session_with(Settings::new(Arc::new(Targets::default())), keys)
    }

    pub(crate) fn session_with(settings: Settings, keys: &str) -> Self {
        let mut harness = Self::with(settings);
        let text = format!("InitiatorName={INITIATOR} TargetName={TARGET} SessionType=Normal {keys}");
        harness.login(Stage::Operational, LoginStep::Transit(Stage::FullFeature), &text).unwrap();
        harness.admit(0x1234);
        harness.out.0.clear();
        harness
    }

    /// Feeds one PDU and its payload, cut by `cut` bytes.
    pub(crate) fn feed(&mut self, pdu: &impl Pdu, data: &[u8]) -> Result<Disposition, Violation> {
        let mut bytes = Vec::new();
        append_pdu(&mut bytes, pdu, data, Digests::default());
        self.feed_bytes(&bytes)
    }

    pub(crate) fn feed_bytes(&mut self, bytes: &[u8]) -> Result<Disposition, Violation> {
        let mut input = bytes;
        let (mut disposition, mut collected) = (Disposition::None, Vec::new());
        while let Some(frame) = self.framer.next(&mut input).expect("the test frames well") {
            match frame {
                Frame::Header => {
                    let header = self.framer.header().clone();
                    let grant = DataGrant { wanted: self.grant };
                    disposition = self.connection.begin_pdu(&header, grant, self.now_ns, &mut self.out)?;
                    collected.clear();
                    if header.bhs().data_segment_len() == 0 {
                        assert_eq!(disposition, Disposition::None);
                    } else {
                        assert_ne!(disposition, Disposition::None);
                    }
                }
                Frame::Data(piece) => collected.extend_from_slice(piece),
                Frame::End { .. } => {
                    let whole: &[u8] = match disposition {
                        Disposition::Collect => &collected,
                        Disposition::Task { task, offset, len } => {
                            assert!(len as usize <= collected.len() && len > 0);
                            self.stored.push((task, offset, collected[..len as usize].to_vec()));
                            &[]
                        }
                        Disposition::None | Disposition::Discard => &[],
                    };
                    let (header, ok) = (self.framer.header(), self.digest_ok);
                    self.connection.end_pdu(header, whole, ok, self.now_ns, &mut self.out)?;
                }
            }
        }
        Ok(disposition)
    }

    /// Only the header of a PDU without data.
    pub(crate) fn begin(&mut self, pdu: &impl Pdu) -> Disposition {
        let mut input: &[u8] = &pdu.bhs().0;
        assert_eq!(self.framer.next(&mut input), Ok(Some(Frame::Header)));
        let header = self.framer.header();
        self.connection.begin_pdu(header, DataGrant::default(), self.now_ns, &mut self.out).unwrap()
    }

    /// The end of the PDU begun.
    pub(crate) fn end(&mut self, payload: &[u8]) {
        assert_eq!(self.framer.next(&mut &[][..]), Ok(Some(Frame::End { data_digest_ok: true })));
        self.connection.end_pdu(self.framer.header(), payload, true, self.now_ns, &mut self.out).unwrap();
    }

    /// One Login Request with blank-separated keys.
    pub(crate) fn login(&mut self, current: Stage, step: LoginStep, keys: &str) -> Result<(), Violation> {
        let pdu = self.login_request(current, step);
        self.feed(&pdu, &text(keys)).map(drop)
    }

    pub(crate) fn login_request(&self, current: Stage, step: LoginStep) -> pdu::LoginRequest {
        let isid = Isid([0, 2, 0x3d, 0, 0, 1]);
        pdu::LoginRequest::new(isid, Tsih::NEW, 0, 0x11, current, step, self.sns())
    }

    pub(crate) fn admit(&mut self, tsih: u16) {
        self.connection.admitted(Admission::Allow { tsih }, self.now_ns, &mut self.out);
    }

    pub(crate) fn sns(&self) -> InitiatorSns {
        InitiatorSns { cmd_sn: self.cmd_sn, exp_stat_sn: Sn(0) }
    }

    /// The numbers of a non-immediate request: uses up a CmdSN.
    pub(crate) fn take_sns(&mut self) -> InitiatorSns {
        let sns = self.sns();
        self.cmd_sn = self.cmd_sn.next();
        sns
    }

    /// A read command of `len` expected bytes, run at once; returns its key.
    pub(crate) fn read(&mut self, itt: u32, len: u32) -> TaskKey {
        let sns = self.take_sns();
        let pdu = ScsiCommand::new(itt, Lun::ZERO, TaskAttribute::Simple, &[0x28; 16], sns).reading(len);
        self.feed(&pdu, &[]).unwrap();
        self.last_command()
    }

    /// A write command with some immediate data.
    pub(crate) fn write(
        &mut self,
        itt: u32,
        len: u32,
        immediate: usize,
        more: bool,
    ) -> Result<Disposition, Violation> {
        let sns = self.take_sns();
        let pdu =
            ScsiCommand::new(itt, Lun::ZERO, TaskAttribute::Simple, &[0x2a; 16], sns).writing(len, more);
        self.feed(&pdu, &payload(immediate))
    }

    /// Data-Out with the pattern's bytes `offset .. offset + len`.
    pub(crate) fn data_out(
        &mut self,
        itt: u32,
        tag: Option<u32>,
        sn: u32,
        offset: u32,
        len: usize,
        last: bool,
    ) -> Result<Disposition, Violation> {
        let pdu = match tag {
            Some(tag) => DataOut::solicited(itt, Lun::ZERO, tag, Sn(0)),
            None => DataOut::unsolicited(itt, Lun::ZERO, Sn(0)),
        };
        let data: Vec<u8> = (offset as usize..offset as usize + len).map(pattern).collect();
        self.feed(&pdu.at(sn, offset, last), &data)
    }

    pub(crate) fn respond(&mut self, task: TaskKey, status: u8, sense: &[u8], transfer: Transfer) {
        let result = CommandResult { status, sense, transfer };
        self.connection.respond(task, &result, self.now_ns, &mut self.out);
    }

    pub(crate) fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.out.0)
    }

    /// The headers sent since the last `take`, of one kind.
    pub(crate) fn sent<T: Pdu>(&self) -> Vec<T> {
        self.out
            .0
            .iter()
            .filter_map(|event| match event {
                Event::Send(bhs, _) => bhs.try_view::<T>().copied(),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn r2ts(&self) -> Vec<ReadyToTransfer> {
        self.sent()
    }

    pub(crate) fn data_ins(&self) -> Vec<DataIn> {
        self.sent()
    }

    pub(crate) fn responses(&self) -> Vec<ScsiResponse> {
        self.sent()
    }

    pub(crate) fn login_responses(&self) -> Vec<LoginResponse> {
        self.sent()
    }

    /// The text of all login or text responses sent, joined; pairs separated by blanks.
    pub(crate) fn sent_text(&self) -> String {
        let bytes: Vec<u8> = self
            .out
            .0
            .iter()
            .flat_map(|event| match event {
                Event::Send(_, Sent::Bytes(bytes)) => bytes.clone(),
                _ => Vec::new(),
            })
            .collect();
        String::from_utf8(bytes).unwrap().trim_end_matches('\0').replace('\0', " ")
    }

    pub(crate) fn last_command(&self) -> TaskKey {
        self.out
            .0
            .iter()
            .rev()
            .find_map(|event| match event {
                Event::Command(task) => Some(*task),
                _ => None,
            })
            .expect("a command was handed over")
    }

    pub(crate) fn commands(&self) -> Vec<TaskKey> {
        self.out
            .0
            .iter()
            .filter_map(|event| match event {
                Event::Command(task) => Some(*task),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn released(&self) -> Vec<TaskKey> {
        self.out
            .0
            .iter()
            .filter_map(|event| match event {
                Event::Release(task) => Some(*task),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn managed(&self) -> Vec<ManagementRequest> {
        self.out
            .0
            .iter()
            .filter_map(|event| match event {
                Event::Manage(request) => Some(*request),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn closed(&self) -> Option<Close> {
        self.out.0.iter().find_map(|event| match event {
            Event::Close(how) => Some(*how),
            _ => None,
        })
    }

    /// What was stored for `task`, checked to be gapless and of the pattern.
    pub(crate) fn stored_len(&self, task: TaskKey) -> usize {
        let mut at = 0;
        for (_, offset, bytes) in self.stored.iter().filter(|(key, ..)| *key == task) {
            assert_eq!(*offset as usize, at, "each byte once, in order");
            assert!(bytes.iter().enumerate().all(|(i, byte)| *byte == pattern(at + i)));
            at += bytes.len();
        }
        at
    }
}

/// Blank-separated pairs as text.
pub(crate) fn text(keys: &str) -> Vec<u8> {
    keys.split_whitespace().flat_map(|pair| [pair.as_bytes(), b"\0"].concat()).collect()
}
