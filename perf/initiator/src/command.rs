//! Commands, what they come to, and the table of those under way.

use crate::client::SessionId;
use crate::sense::Sense;
use stampede_ring::Buffer;
use stampede_wire::Lun;
use stampede_wire::pdu::status;

/// What a command transfers. A buffer comes back with the command's [`Completed`].
#[derive(Debug)]
pub enum Transfer {
    /// Nothing.
    None,
    /// Reads `len` bytes and only counts them.
    Count {
        /// Bytes.
        len: u32,
    },
    /// Reads `len` bytes and hands them on as they come, from where they were received (see [`ReadSink`]).
    Stream {
        /// Bytes.
        len: u32,
    },
    /// Reads `len` bytes into the front of a buffer that nobody shares.
    In {
        /// Where to.
        buffer: Buffer,
        /// Bytes; at most the buffer's.
        len: u32,
    },
    /// Writes `buffer[start..start + len]`, which is sent from where it lies.
    Out {
        /// Where from.
        buffer: Buffer,
        /// First byte.
        start: u32,
        /// Bytes.
        len: u32,
    },
}

/// Takes the data of [`Transfer::Stream`] reads, piece by piece and in order.
pub trait ReadSink {
    /// The bytes from `offset` on of what the command with this tag reads. Whether they count is known when the command
    /// has completed.
    fn data(&mut self, session: SessionId, tag: u64, offset: u32, bytes: &[u8]);
}

/// For callers that stream nothing.
impl ReadSink for () {
    fn data(&mut self, _: SessionId, _: u64, _: u32, _: &[u8]) {}
}

/// A SCSI command.
#[derive(Debug)]
pub struct Command {
    /// The logical unit.
    pub lun: Lun,
    /// The command descriptor block; see [`crate::cdb`].
    pub cdb: [u8; 16],
    /// Its data.
    pub transfer: Transfer,
    /// What the caller knows it by.
    pub tag: u64,
}

/// What a command came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The target answered with a status.
    Status {
        /// The SCSI status (SAM-5 5.3.1).
        status: u8,
        /// The sense data of a CHECK CONDITION.
        sense: Option<Sense>,
    },
    /// The target answered that it failed to execute the command (RFC 7143 11.4.3).
    TargetFailure,
    /// The session ended first: whether the command took effect is not known.
    Lost,
}

impl Outcome {
    /// Whether the status is GOOD.
    #[must_use]
    #[inline]
    pub fn is_good(self) -> bool {
        matches!(self, Self::Status { status: status::GOOD, .. })
    }

    /// The sense data, if there is any.
    #[must_use]
    pub fn sense(self) -> Option<Sense> {
        match self {
            Self::Status { sense, .. } => sense,
            _ => None,
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Status { sense: Some(sense), .. } => write!(f, "CHECK CONDITION, {sense}"),
            Self::Status { status, .. } => match status {
                status::GOOD => f.write_str("GOOD"),
                status::CHECK_CONDITION => f.write_str("CHECK CONDITION without sense data"),
                status::BUSY => f.write_str("BUSY"),
                status::RESERVATION_CONFLICT => f.write_str("RESERVATION CONFLICT"),
                status::TASK_SET_FULL => f.write_str("TASK SET FULL"),
                status::TASK_ABORTED => f.write_str("TASK ABORTED"),
                other => write!(f, "status {other:#04x}"),
            },
            Self::TargetFailure => f.write_str("the target failed to execute the command"),
            Self::Lost => f.write_str("the session was lost"),
        }
    }
}

/// A command that is over.
#[derive(Debug)]
pub struct Completed {
    /// Of which session.
    pub session: SessionId,
    /// The command's tag.
    pub tag: u64,
    /// What it came to.
    pub outcome: Outcome,
    /// From its submission, nanoseconds.
    pub latency_ns: u64,
    /// Bytes that were read.
    pub received: u32,
    /// The command's buffer. That of a write may still be shared with a send for a moment.
    pub buffer: Option<Buffer>,
}

/// A command under way.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) tag: u64,
    pub(crate) lun: Lun,
    pub(crate) submitted_ns: u64,
    /// Bytes that may come in.
    pub(crate) expected_in: u32,
    /// Bytes that came in, in order.
    pub(crate) received: u32,
    /// They are handed on as they come.
    pub(crate) streams: bool,
    /// Where they go, or where written bytes come from.
    pub(crate) buffer: Option<Buffer>,
    /// First byte to write in `buffer`.
    pub(crate) out_start: u32,
    /// Bytes to write.
    pub(crate) out_len: u32,
    generation: u16,
    in_use: bool,
}

/// The tasks of one session, by Initiator Task Tag: the place in the table below, a generation above, so that an
/// answer to a task that is over finds nothing.
#[derive(Debug)]
pub(crate) struct Tasks {
    slots: Vec<Task>,
    free: Vec<u16>,
}

impl Tasks {
    /// Room for `depth` tasks.
    pub(crate) fn new(depth: u16) -> Self {
        // The last place is kept free of tasks, since ffffffffh is no tag.
        let depth = depth.min(u16::MAX - 1);
        let slot = |_| Task {
            tag: 0,
            lun: Lun::ZERO,
            submitted_ns: 0,
            expected_in: 0,
            received: 0,
            streams: false,
            buffer: None,
            out_start: 0,
            out_len: 0,
            generation: 0,
            in_use: false,
        };
        Self { slots: (0..depth).map(slot).collect(), free: (0..depth).rev().collect() }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes a command in and returns its Initiator Task Tag; the command comes back when all places are taken.
    #[inline]
    pub(crate) fn insert(&mut self, command: Command, now_ns: u64) -> Result<u32, Command> {
        let Some(index) = self.free.pop() else { return Err(command) };
        let task = &mut self.slots[usize::from(index)];
        task.tag = command.tag;
        task.lun = command.lun;
        task.submitted_ns = now_ns;
        task.received = 0;
        task.streams = matches!(command.transfer, Transfer::Stream { .. });
        (task.expected_in, task.out_start, task.out_len, task.buffer) = match command.transfer {
            Transfer::None => (0, 0, 0, None),
            Transfer::Count { len } | Transfer::Stream { len } => (len, 0, 0, None),
            Transfer::In { buffer, len } => (len, 0, 0, Some(buffer)),
            Transfer::Out { buffer, start, len } => (0, start, len, Some(buffer)),
        };
        task.in_use = true;
        Ok(u32::from(task.generation) << 16 | u32::from(index))
    }

    /// The task with this tag.
    #[inline]
    pub(crate) fn get(&mut self, itt: u32) -> Option<&mut Task> {
        let task = self.slots.get_mut((itt & 0xffff) as usize)?;
        (task.in_use && u32::from(task.generation) == itt >> 16).then_some(task)
    }

    /// Takes a task out.
    #[inline]
    pub(crate) fn finish(
        &mut self,
        itt: u32,
        session: SessionId,
        outcome: Outcome,
        now_ns: u64,
    ) -> Option<Completed> {
        let task = self.get(itt)?;
        task.in_use = false;
        task.generation = task.generation.wrapping_add(1);
        let completed = Completed {
            session,
            tag: task.tag,
            outcome,
            latency_ns: now_ns.saturating_sub(task.submitted_ns),
            received: task.received,
            buffer: task.buffer.take(),
        };
        // The place is below `slots.len()`, which fits 16 bits.
        self.free.push((itt & 0xffff) as u16);
        Some(completed)
    }

    /// The tags of all tasks.
    pub(crate) fn tags(&self) -> Vec<u32> {
        let used = self.slots.iter().zip(0u32..).filter(|(task, _)| task.in_use);
        used.map(|(task, index)| u32::from(task.generation) << 16 | index).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(tag: u64) -> Command {
        Command { lun: Lun::ZERO, cdb: [0; 16], transfer: Transfer::Count { len: 512 }, tag }
    }

    #[test]
    fn a_tag_that_is_over_finds_nothing() {
        let good = Outcome::Status { status: status::GOOD, sense: None };
        let mut tasks = Tasks::new(2);
        let first = tasks.insert(command(1), 10).unwrap();
        let second = tasks.insert(command(2), 10).unwrap();
        assert_eq!(tasks.insert(command(3), 10).unwrap_err().tag, 3);
        assert_eq!(tasks.tags(), [first, second]);
        let done = tasks.finish(first, SessionId::default(), good, 15).unwrap();
        assert_eq!((done.tag, done.latency_ns), (1, 5));
        let third = tasks.insert(command(3), 20).unwrap();
        assert_ne!(third, first);
        assert!(tasks.get(first).is_none() && tasks.get(third).is_some());
        assert!(tasks.get(u32::MAX).is_none());
    }
}
