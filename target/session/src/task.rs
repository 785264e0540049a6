//! Tasks: the SCSI commands of a session that are in the target.

pub use stampede_wire::pdu::TaskAttribute;
use stampede_wire::{
    Lun, Sn,
    pdu::{CommandFlags, ScsiCommand},
};

use crate::full_feature::{Collection, Fault};

/// Names a task of a connection: a slot of its task table, and which use of that slot.
///
/// `index` is dense and below [`Connection::tasks_max`](crate::Connection::tasks_max), so the engine can keep an
/// array beside the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TaskKey {
    /// Slot.
    pub index: u16,
    /// Use of the slot, counted from 1; wraps.
    pub generation: u32,
}

/// A SCSI command in the target, as the engine may see it.
///
/// It is kept as it came: what nobody asks for is never taken apart.
#[derive(Clone, Debug)]
pub struct Task {
    pub(crate) command: ScsiCommand,
    pub(crate) cdb_long: bool,
    /// Of a long CDB: what its short form has no room for.
    pub(crate) generations: u64,
    pub(crate) state: State,
    pub(crate) collection: Collection,
}

impl Task {
    /// Initiator Task Tag.
    #[must_use]
    #[inline]
    pub fn itt(&self) -> u32 {
        self.command.initiator_task_tag()
    }

    /// CmdSN of the command.
    #[must_use]
    #[inline]
    pub fn cmd_sn(&self) -> Sn {
        self.command.cmd_sn()
    }

    /// The LUN field; [`Lun::decode`] gives its number.
    #[must_use]
    #[inline]
    pub fn lun(&self) -> Lun {
        self.command.lun()
    }

    /// The CDB; of one of 32 bytes the short form ([`stampede_scsi::cdb::condensed`]).
    #[must_use]
    #[inline]
    pub fn cdb(&self) -> &[u8; 16] {
        self.command.cdb()
    }

    /// What the short form of a long CDB has no room for ([`stampede_scsi::cdb::generations`]); 0 for any other.
    #[must_use]
    #[inline]
    pub const fn generations(&self) -> u64 {
        self.generations
    }

    /// Whether the CDB came with a rest in an AHS though its operation code has none.
    #[must_use]
    #[inline]
    pub const fn cdb_long(&self) -> bool {
        self.cdb_long
    }

    /// Expected Data Transfer Length, bytes.
    #[must_use]
    #[inline]
    pub fn expected_len(&self) -> u32 {
        self.command.expected_data_transfer_length()
    }

    /// The R bit: the initiator expects data.
    #[must_use]
    #[inline]
    pub fn is_read(&self) -> bool {
        self.command.flags().contains(CommandFlags::READ)
    }

    /// The W bit: the initiator has data to send.
    #[must_use]
    #[inline]
    pub fn is_write(&self) -> bool {
        self.command.flags().contains(CommandFlags::WRITE)
    }

    /// Whether the command was marked for immediate delivery.
    #[must_use]
    #[inline]
    pub fn is_immediate(&self) -> bool {
        self.command.immediate()
    }

    /// The task attribute; a reserved one counts as simple.
    #[must_use]
    #[inline]
    pub fn attribute(&self) -> TaskAttribute {
        self.command.attribute().unwrap_or(TaskAttribute::Simple)
    }

    /// PRI, 0 to 15 (RFC 7144 5.1): reserved, and to be ignored, where RFC 7144 was not agreed on.
    #[must_use]
    #[inline]
    pub fn priority(&self) -> u8 {
        self.command.priority()
    }

    /// Bytes of write data that the target wanted, at most the Expected Data Transfer Length.
    #[must_use]
    #[inline]
    pub const fn wanted_len(&self) -> u32 {
        self.collection.wanted()
    }

    /// Bytes of write data that have arrived, of those wanted, without gaps from the start.
    #[must_use]
    pub fn received_len(&self) -> u32 {
        match self.state {
            State::Collecting => self.collection.received().min(self.wanted_len()),
            State::Waiting | State::Running | State::Killed => self.wanted_len(),
        }
    }

    /// Its write data, while that is arriving.
    #[inline]
    pub(crate) fn collecting(&mut self) -> Option<&mut Collection> {
        matches!(self.state, State::Collecting).then_some(&mut self.collection)
    }

    /// Whether the engine has not got it yet: its data is arriving, or its turn has not come.
    #[inline]
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self.state, State::Collecting | State::Waiting) && !self.is_draining()
    }

    /// Whether it was killed and the data that was asked for is still taken off the wire.
    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        matches!(self.state, State::Collecting) && self.collection.fault() == Some(Fault::Killed)
    }

    /// Whether it is an ORDERED one.
    #[inline]
    pub(crate) fn is_ordered(&self) -> bool {
        self.command.attribute() == Ok(TaskAttribute::Ordered)
    }

    /// What its end needs to know.
    #[inline]
    pub(crate) fn facts(&self) -> Facts {
        Facts {
            itt: self.itt(),
            expected: self.expected_len(),
            flags: self.command.flags(),
            immediate: self.is_immediate(),
            state: self.state,
            r2ts: self.collection.r2ts_sent(),
        }
    }

    /// Whether the task was killed (by task management, or because its session ended): its result is not sent, and
    /// the engine calls `forget` when its I/O is over.
    #[must_use]
    #[inline]
    pub const fn killed(&self) -> bool {
        matches!(self.state, State::Killed)
    }
}

/// What the end of a task needs to know of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Facts {
    pub(crate) itt: u32,
    pub(crate) expected: u32,
    /// R and W.
    pub(crate) flags: CommandFlags,
    pub(crate) immediate: bool,
    pub(crate) state: State,
    /// R2Ts that were sent for it.
    pub(crate) r2ts: u32,
}

/// Who has a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// The session layer: its write data is arriving.
    Collecting,
    /// The session layer: its data is there, but an older task goes first, whose data is not.
    Waiting,
    /// The engine.
    Running,
    /// The engine, which is to forget it.
    Killed,
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommandResult<'a> {
    /// SCSI status byte (SAM-5 5.3.1).
    pub status: u8,
    /// Sense data without the iSCSI length prefix, at most 252 bytes; longer is cut.
    pub sense: &'a [u8],
    /// What the command moved, for data and residuals.
    pub transfer: Transfer,
}

/// What a command moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transfer {
    /// No data: an Expected Data Transfer Length other than 0 becomes an underflow.
    None,
    /// Read data.
    In {
        /// Bytes that the command has to give. The engine holds the payload `0 .. min(available, expected_len)`.
        available: u64,
    },
    /// Write data.
    Out {
        /// Bytes that the command would have taken (the CDB's transfer length).
        wanted: u64,
    },
}
