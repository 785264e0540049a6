//! What [`Device::start`](crate::Device::start) answers: a reply, medium work, or what must happen before it.

use crate::{Media, NexusId, Sense, Status};
use smallvec::SmallVec;

/// The outcome of starting one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The command is finished: send this.
    Done(Reply),
    /// The engine does this on the medium, then answers with [`media_done`](crate::media_done),
    /// [`lba_status_reply`](crate::lba_status_reply) or [`Device::media_failed`](crate::Device::media_failed).
    Media(Media),
    /// The unit's lasting state changes: the engine makes these bytes durable in place of those before, then goes on
    /// with [`Device::saved`](crate::Device::saved). Nothing has changed until then. No bytes: there is nothing to keep.
    Save(Vec<u8>),
    /// A change of the unit's lasting state is on its way to the store: the engine starts this command again after
    /// [`Device::saved`](crate::Device::saved).
    Wait,
    /// SANITIZE: the engine lets what is under way on the medium come to its end, does what
    /// [`Device::sanitizing`](crate::Device::sanitizing) says, and then calls
    /// [`Device::sanitize_ended`](crate::Device::sanitize_ended).
    Sanitize {
        /// IMMED: answer GOOD at once, not when it is done.
        immediate: bool,
    },
    /// A third-party copy command: the engine goes on with [`Device::third_party`](crate::Device::third_party).
    Copy,
    /// PERSISTENT RESERVE OUT that took access away: the engine ends tasks first, then sends the reply (SPC-4
    /// 5.13.11.3).
    Fence(Fence),
}

/// Tasks that must be over before a reply may go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// PREEMPT AND ABORT: all tasks of these nexuses on this logical unit end without a response, wherever they are,
    /// and those whose tasks did are told by [`Device::tasks_cleared_by`](crate::Device::tasks_cleared_by).
    pub aborted: SmallVec<[NexusId; 4]>,
    /// These nexuses lost access: what they have under way on the medium comes to its end.
    pub awaited: SmallVec<[NexusId; 4]>,
    /// What to send when that is so.
    pub reply: Reply,
}

/// A finished command: status, sense data and data-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status byte.
    pub status: Status,
    /// Sense data, present exactly when the status is CHECK CONDITION; [`Sense::encode`] gives its bytes.
    pub sense: Option<Sense>,
    /// Data-in bytes, already cut to the CDB's allocation length (not to the initiator's expected length).
    pub data: Vec<u8>,
}

impl Reply {
    /// GOOD without data.
    pub const fn good() -> Self {
        Self::status(Status::Good)
    }

    /// A bare status without sense or data.
    pub const fn status(status: Status) -> Self {
        Self { status, sense: None, data: Vec::new() }
    }

    /// CHECK CONDITION with `sense`.
    pub const fn check(sense: Sense) -> Self {
        Self { status: Status::CheckCondition, sense: Some(sense), data: Vec::new() }
    }

    /// GOOD with data-in, cut to `allocation_length` bytes (SPC-4 4.2.5.6: truncation is no error).
    pub fn data(mut data: Vec<u8>, allocation_length: usize) -> Self {
        data.truncate(allocation_length);
        Self { status: Status::Good, sense: None, data }
    }
}

impl From<Sense> for Reply {
    fn from(sense: Sense) -> Self {
        Self::check(sense)
    }
}
