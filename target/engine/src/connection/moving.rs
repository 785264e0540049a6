//! A connection on its way to another shard.

use super::{Conn, Life};
use crate::lun::TravellingLun;
use crate::messages::{FromControl, MoveRefusal, ShardId};
use stampede_ring::LooseSocket;
use std::fmt;

/// How far a connection that is to go has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its window is closed; tasks and sends run to zero. It still receives.
    Quieting,
    /// Its receive is being cancelled; what that still brings is kept unparsed.
    Stopping,
    /// Its socket is being taken out of the ring.
    Releasing,
}

/// What a connection that is to go has beside.
#[derive(Debug)]
pub(crate) struct Moving {
    /// Where to.
    pub(crate) to: ShardId,
    pub(crate) stage: Stage,
    /// When it has waited long enough for its tasks, in monotonic nanoseconds.
    pub(crate) deadline_ns: u64,
    /// What the control thread said meanwhile: the latest of each kind.
    pub(crate) mail: Vec<FromControl>,
}

impl Moving {
    pub(crate) fn new(to: ShardId, deadline_ns: u64) -> Self {
        Self { to, stage: Stage::Quieting, deadline_ns, mail: Vec::new() }
    }

    /// Keeps a message for the session's new owner. A later one replaces an earlier one of its kind, as it would have
    /// if it had been handled.
    pub(crate) fn keep(&mut self, message: FromControl) {
        let kind = std::mem::discriminant(&message);
        self.mail.retain(|kept| std::mem::discriminant(kept) != kind);
        self.mail.push(message);
    }
}

/// A session between two shards: all of it, and no buffer of a shard's own.
pub(crate) struct Traveller {
    pub(crate) conn: Conn,
    pub(crate) socket: LooseSocket,
    /// Where it comes from.
    pub(crate) from: ShardId,
    /// The clones that it alone uses.
    pub(crate) clones: Vec<TravellingLun>,
    /// The other shard could not take it: it comes back.
    pub(crate) refused: Option<MoveRefusal>,
}

impl fmt::Debug for Traveller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traveller")
            .field("session", &self.conn.session.session())
            .field("from", &self.from)
            .field("clones", &self.clones.len())
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

impl Conn {
    /// Whether nothing of it is under way: no task, no function over tasks, no send, no greeting of a unit.
    pub(crate) fn is_idle(&self) -> bool {
        self.life == Life::Open
            && self.session.tasks_len() == 0
            && self.side.slots().next().is_none()
            && self.managing.is_empty()
            && self.attaching == 0
            && !self.is_sending()
    }

    /// Whether it takes nothing in any more, since it is about to go.
    pub(crate) fn is_leaving(&self) -> bool {
        self.moving.as_ref().is_some_and(|moving| moving.stage != Stage::Quieting)
    }

    /// Whether its socket is on its way out of the ring.
    pub(crate) fn is_releasing(&self) -> bool {
        self.moving.as_ref().is_some_and(|moving| moving.stage == Stage::Releasing)
    }
}
