//! Stopping in order: no new connections, sessions asked to log out, then closed, files flushed.

use super::{ControlThread, Ended};
use stampede_engine::messages::{FromControl, ShardId};
use std::collections::BTreeSet;

/// How long shards have for their flushes after the last session was closed by force, in nanoseconds.
const FLUSH_NS: u64 = 5_000_000_000;

/// A drain under way.
#[derive(Debug)]
pub(super) struct Drain {
    /// When nobody waits any longer.
    until: u64,
    waiting: BTreeSet<ShardId>,
}

impl Drain {
    pub(super) fn deadline(&self) -> u64 {
        self.until
    }

    pub(super) fn shard_done(&mut self, shard: ShardId) {
        self.waiting.remove(&shard);
    }
}

impl ControlThread {
    pub(super) fn start_drain(&mut self, deadline_ns: u64) {
        if self.drain.is_some() {
            return;
        }
        let count = u16::try_from(self.setup.shards.len()).unwrap_or(u16::MAX);
        let waiting = (0..count).map(ShardId).collect();
        self.drain = Some(Drain { until: deadline_ns.saturating_add(FLUSH_NS), waiting });
        self.setup.registrar.drain();
        for link in &mut self.setup.shards {
            link.send(FromControl::Drain { deadline_ns });
        }
    }

    pub(super) fn check_drain(&mut self, now: u64) {
        let Some(drain) = &self.drain else { return };
        if drain.waiting.is_empty() {
            self.ended = self.ended.take().or(Some(Ended::Drained));
        } else if drain.until <= now {
            self.ended = self.ended.take().or(Some(Ended::DrainTimeout));
        }
    }
}
