//! Commands, and how far each has come.

/// A command's initiator task tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(pub u32);

/// Data of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// None.
    None,
    /// At most this many bytes come in.
    In(u32),
    /// These bytes go out.
    Out(Vec<u8>),
}

/// A SCSI command to send.
#[derive(Clone, Debug)]
pub struct Command {
    /// The logical unit.
    pub lun: u16,
    /// The CDB, padded with zeros.
    pub cdb: [u8; 16],
    /// Its data.
    pub transfer: Transfer,
    /// Whether it has the I bit: outside the CmdSN order.
    pub immediate: bool,
    /// The task attribute (RFC 7143 11.3.1): 0 untagged, 1 simple, 2 ordered, 3 head of queue.
    pub attribute: u8,
}

impl Command {
    /// An ordinary command.
    pub fn new(lun: u16, cdb: [u8; 16], transfer: Transfer) -> Self {
        Self { lun, cdb, transfer, immediate: false, attribute: 1 }
    }
}

/// What kind of answer a tag waits for.
#[derive(Debug)]
pub(super) enum Kind {
    Command,
    /// A task management function; with the tags that it ends when it is complete.
    TaskManagement {
        ends: Vec<Tag>,
    },
    Nop {
        data: Vec<u8>,
    },
    Text {
        partial: Vec<u8>,
    },
    Logout,
}

/// A request without an answer.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) kind: Kind,
    pub(super) lun: u16,
    pub(super) cmd_sn: u32,
    /// Bytes that may come in.
    pub(super) expected_in: u32,
    /// Bytes to go out, all of them.
    pub(super) out: Vec<u8>,
    /// Bytes of `out` that were sent or asked for: where the next R2T must begin.
    pub(super) solicited: u32,
    pub(super) received: Vec<u8>,
    /// The next DataSN or R2TSN, which share their numbers.
    pub(super) data_sn: u32,
    /// Bytes since the last Data-In with the F bit.
    pub(super) burst: u32,
    /// For each R2T whose data is not yet all with the network: where in the outgoing stream it ends.
    pub(super) r2ts: Vec<u64>,
}

impl Task {
    pub(super) fn new(kind: Kind, lun: u16) -> Self {
        Self {
            kind,
            lun,
            cmd_sn: 0,
            expected_in: 0,
            out: Vec::new(),
            solicited: 0,
            received: Vec::new(),
            data_sn: 0,
            burst: 0,
            r2ts: Vec::new(),
        }
    }
}
