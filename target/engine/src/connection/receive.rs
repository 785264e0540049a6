//! Received bytes into PDUs: headers to the session, payload straight to where it belongs.

use super::{Conn, Front, Side, Sink, borrow};
use crate::token::Key;
use stampede_ring::{Buffer, Chunk};
use stampede_scsi::cdb;
use stampede_session::{Connection, DataGrant, Disposition, Violation, short_cdb};
use stampede_wire::Opcode;
use stampede_wire::frame::{Frame, FrameError, Framer, FramerConfig, Header};
use stampede_wire::pdu::{CommandFlags, ScsiCommand};

/// Bytes that may wait for memory: what can be on its way when receiving is cancelled.
const BACKLOG_MAX: usize = 4 << 20;

/// Longest additional header segments we take, in bytes: an extended CDB of 32 bytes and a bidirectional length.
const AHS_MAX: u16 = 64;

/// How far a chunk was taken in.
#[derive(Debug)]
pub(crate) enum Fed {
    /// All of it.
    All,
    /// A command waits for memory for its data; the rest is kept.
    Stalled,
    /// The connection must be dropped.
    Broken(Broken),
}

/// Why a connection must be dropped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// It broke the protocol.
    #[error("{0}")]
    Session(Violation),
    /// Its bytes are no PDUs.
    #[error("{0}")]
    Frame(FrameError),
    /// It sent more than may wait.
    #[error("it sent {BACKLOG_MAX} bytes while it had to wait for memory")]
    Backlog,
}

/// The receiving half of a connection.
pub(crate) struct Receiver {
    framer: Framer,
    disposition: Disposition,
    /// Payload bytes of the PDU at hand so far.
    got: u32,
    /// Payload that the session wants to see.
    collected: Vec<u8>,
    /// The command whose header the framer holds waits for memory.
    stalled: bool,
    /// Bytes behind it.
    backlog: Vec<u8>,
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self {
            framer: Framer::new(FramerConfig { max_ahs: AHS_MAX, ..FramerConfig::login() }),
            disposition: Disposition::None,
            got: 0,
            collected: Vec::new(),
            stalled: false,
            backlog: Vec::new(),
        }
    }

    /// Gives back memory that nothing is in.
    pub(super) fn shrink(&mut self) {
        self.collected.shrink_to_fit();
        self.backlog.shrink_to_fit();
    }

    /// Whether a command waits for memory.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// The bytes that wait to be parsed.
    pub(crate) fn kept_mut(&mut self) -> &mut Vec<u8> {
        &mut self.backlog
    }
}

impl Conn {
    /// Takes received bytes in.
    pub(crate) fn feed(&mut self, key: Key, chunk: &Chunk, front: &mut Front) -> Fed {
        self.take_in(key, Input { rest: chunk.bytes(), chunk: Some(chunk) }, front)
    }

    fn take_in(&mut self, key: Key, mut input: Input<'_>, front: &mut Front) -> Fed {
        if self.receiver.is_stalled() {
            return self.keep(input.rest);
        }
        match self.parse(key, &mut input, front) {
            Ok(true) => Fed::All,
            Ok(false) => self.keep(input.rest),
            Err(broken) => Fed::Broken(broken),
        }
    }

    /// Keeps received bytes for later, unparsed.
    pub(crate) fn keep(&mut self, bytes: &[u8]) -> Fed {
        if self.receiver.backlog.len() + bytes.len() > BACKLOG_MAX {
            return Fed::Broken(Broken::Backlog);
        }
        self.receiver.backlog.extend_from_slice(bytes);
        Fed::Stalled
    }

    /// Tries again the command that waited for memory, if one does, and goes on with what was kept behind it.
    pub(crate) fn resume(&mut self, key: Key, front: &mut Front) -> Fed {
        if self.receiver.stalled {
            match self.receiver.begin(key, 0, &mut self.session, &mut self.side, front) {
                Ok(true) => {}
                Ok(false) => return Fed::Stalled,
                Err(broken) => return Fed::Broken(broken),
            }
        }
        let backlog = std::mem::take(&mut self.receiver.backlog);
        self.take_in(key, Input { rest: &backlog, chunk: None }, front)
    }

    /// Parses until the input is used up (true) or a command has to wait (false).
    fn parse(&mut self, key: Key, input: &mut Input<'_>, front: &mut Front) -> Result<bool, Broken> {
        let Self { receiver, session, side, .. } = self;
        // The login may have been decided since the last chunk.
        receiver.take_agreed(side);
        loop {
            match receiver.framer.next(&mut input.rest).map_err(Broken::Frame)? {
                None => return Ok(true),
                Some(Frame::Header) => {
                    if !receiver.begin(key, input.borrowable(), session, side, front)? {
                        return Ok(false);
                    }
                }
                Some(Frame::Data(bytes)) => {
                    receiver.take_payload(bytes, input.place_of(bytes), side, front.now_ns);
                }
                // Without a payload, it acted when it began.
                Some(Frame::End { .. }) if receiver.disposition == Disposition::None => {}
                Some(Frame::End { data_digest_ok }) => {
                    receiver.end(key, data_digest_ok, session, side, front)?
                }
            }
        }
    }
}

/// Bytes to be parsed.
struct Input<'a> {
    /// Those that are not parsed yet.
    rest: &'a [u8],
    /// The chunk that they are the end of; none for bytes that were kept.
    chunk: Option<&'a Chunk>,
}

impl<'a> Input<'a> {
    /// How much of the rest a write's data may stay in.
    fn borrowable(&self) -> usize {
        if self.chunk.is_some() { self.rest.len() } else { 0 }
    }

    /// Where bytes are that were just taken from the front: the buffer, and the first byte's place in it.
    #[inline]
    fn place_of(&self, bytes: &[u8]) -> Option<(&'a Buffer, u32)> {
        let chunk = self.chunk?;
        Some((chunk.buffer(), chunk.len() - (self.rest.len() + bytes.len()) as u32))
    }
}

impl Receiver {
    /// A header is there, and behind it so many bytes that its data may stay in; false when its command has to wait for
    /// memory.
    fn begin(
        &mut self,
        key: Key,
        borrowable: usize,
        session: &mut Connection,
        side: &mut Side,
        front: &mut Front,
    ) -> Result<bool, Broken> {
        let header = self.framer.header();
        let granted = if header.bhs().opcode() == Ok(Opcode::ScsiCommand) {
            grant(header, borrowable, side, front)
        } else {
            Grant::Wants(0)
        };
        let wanted = match granted {
            Grant::Wants(bytes) => bytes,
            Grant::Wait => {
                self.stalled = true;
                return Ok(false);
            }
        };
        self.stalled = false;
        self.got = 0;
        let now_ns = front.now_ns;
        let mut sink = Sink { key, side, front, reply: None };
        let begun = session.begin_pdu(header, DataGrant { wanted }, now_ns, &mut sink);
        // A command that was dropped (a duplicate, say) has not taken its memory.
        side.granted.data.0.clear();
        self.disposition = begun.map_err(Broken::Session)?;
        if self.disposition == Disposition::None {
            // It has acted.
            self.take_agreed(side);
        }
        Ok(true)
    }

    /// What the login agreed on holds from the next PDU on.
    fn take_agreed(&mut self, side: &mut Side) {
        if let Some((header, data)) = side.digests.take() {
            self.framer.set_digests(header, data);
        }
        if let Some(bytes) = side.data_segment_max.take() {
            self.framer.set_max_data_segment(bytes);
        }
    }

    fn take_payload(&mut self, bytes: &[u8], place: Option<(&Buffer, u32)>, side: &mut Side, now_ns: u64) {
        let at = self.got;
        self.got += bytes.len() as u32;
        match self.disposition {
            Disposition::Task { task, offset, len } if at < len => {
                let take = bytes.len().min((len - at) as usize);
                side.owing_ns = now_ns;
                match (side.slot_mut(task), place) {
                    (Some(slot), Some((buffer, start))) if slot.borrows => {
                        side.borrow(task, buffer, start, take as u32);
                    }
                    (Some(slot), _) => slot.fill(offset + at, &bytes[..take]),
                    (None, _) => {}
                }
            }
            Disposition::Collect => self.collected.extend_from_slice(bytes),
            _ => {}
        }
    }

    fn end(
        &mut self,
        key: Key,
        data_digest_ok: bool,
        session: &mut Connection,
        side: &mut Side,
        front: &mut Front,
    ) -> Result<(), Broken> {
        let now_ns = front.now_ns;
        let mut sink = Sink { key, side, front, reply: None };
        let header = self.framer.header();
        let ended = session.end_pdu(header, &self.collected, data_digest_ok, now_ns, &mut sink);
        self.collected.clear();
        self.disposition = Disposition::None;
        self.take_agreed(side);
        ended.map_err(Broken::Session)
    }
}

/// What a command gets for the data it wants to send.
enum Grant {
    /// Memory for so many bytes, in [`Side::granted`], or none, where they stay in the chunk. With none for want of it, the connection holds memory for commands whose data may
    /// be behind this one in the stream, so reading must go on, and the command is answered TASK SET FULL.
    Wants(u32),
    /// None for now, and it may wait: the connection holds no memory, so nobody waits for what is behind it.
    Wait,
}

fn grant(header: &Header, borrowable: usize, side: &mut Side, front: &Front) -> Grant {
    let command: &ScsiCommand = header.bhs().view();
    let unit = command.lun().decode().and_then(|number| side.luns.find(number));
    let block_size = unit.map_or(512, |unit| unit.block_size);
    let moves = match command.cdb()[0] {
        cdb::LONG => cdb::data_direction_and_len(&short_cdb(header, command).0, block_size),
        _ => cdb::data_direction_and_len(command.cdb(), block_size),
    };
    side.granted.unit = unit;
    side.granted.moves = moves;
    side.granted.refused = false;
    side.granted.borrows = false;
    let (cdb::Transfer::Out(bytes), true, Some(unit)) =
        (moves, command.flags().contains(CommandFlags::WRITE), unit)
    else {
        return Grant::Wants(0);
    };
    match u32::try_from(bytes.min(u64::from(command.expected_data_transfer_length()))) {
        Ok(wanted) if u64::from(wanted) <= front.connection_bytes_max => {
            if borrow::stays(command, command.cdb(), wanted, borrowable, unit, front) {
                side.granted.borrows = true;
                return Grant::Wants(wanted);
            }
            match side.take_memory(unit, command.cdb(), wanted, front) {
                Some(payload) => {
                    side.granted.data = payload;
                    Grant::Wants(wanted)
                }
                None if side.held_bytes == 0 => Grant::Wait,
                None => {
                    side.granted.refused = true;
                    Grant::Wants(0)
                }
            }
        }
        // The device server refuses what is longer than it said; nothing of it is wanted.
        _ => Grant::Wants(0),
    }
}
