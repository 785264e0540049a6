//! Bugs that tests plant in the moving of sessions, to prove that they would be found. Without the feature `planted`,
//! which only this crate's own tests switch on, there are none.

use super::Shard;
use crate::token::Key;
use stampede_ring::Ring;

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "planted"), allow(unreachable_pub, reason = "only tests may name it"))]
pub enum Planted {
    /// Bytes that came while a session moved are dropped.
    LeftoversLost,
    /// They are taken in twice.
    LeftoversTwice,
    /// The window stays closed after a move.
    WindowStaysClosed,
    /// A session moves though one of its tasks runs.
    MovesWithTask,
    /// A clone stays where it was, though its session believes that it came along.
    CloneLeftBehind,
}

impl<R: Ring> Shard<R> {
    /// Plants a bug.
    #[cfg(feature = "planted")]
    pub fn plant(&mut self, bug: Planted) {
        self.planted = Some(bug);
    }

    /// Whether a bug is planted.
    #[cfg(feature = "planted")]
    pub(super) fn plants(&self, bug: Planted) -> bool {
        self.planted == Some(bug)
    }

    /// None is.
    #[cfg(not(feature = "planted"))]
    #[allow(clippy::unused_self, reason = "the same call with and without the feature")]
    pub(super) fn plants(&self, _: Planted) -> bool {
        false
    }

    /// Tampers with what was kept for a session while it moved, if that is planted.
    pub(super) fn tamper(&mut self, key: Key) {
        let (lost, twice) = (self.plants(Planted::LeftoversLost), self.plants(Planted::LeftoversTwice));
        let Some(conn) = self.conns.get_mut(key).filter(|_| lost || twice) else { return };
        let kept = conn.receiver.kept_mut();
        if lost {
            kept.clear();
        } else {
            kept.extend_from_within(..);
        }
    }
}
