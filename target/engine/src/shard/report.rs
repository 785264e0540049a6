//! A shard's figures, for the control thread.

use super::Shard;
use crate::cache::Cache;
use crate::messages::{SessionReport, ShardReport};
use stampede_ring::Ring;

impl<R: Ring> Shard<R> {
    pub(super) fn report(&self, request: u64) -> ShardReport {
        let sessions = self.conns.iter().map(|(_, conn)| {
            let info = conn.session.info();
            SessionReport {
                session: conn.session.session(),
                initiator: info.map(|info| info.initiator.clone()).unwrap_or_default(),
                user: info.and_then(|info| info.user.clone()).unwrap_or_default(),
                target: info.and_then(|info| info.target.clone()).unwrap_or_default(),
                peer: conn.peer,
                commands: conn.commands,
                read_bytes: conn.read_bytes,
                written_bytes: conn.written_bytes,
                tasks: conn.session.tasks_len() as u32,
            }
        });
        let pools = self.config.memory.pools();
        let used = pools.iter().map(|pool| u64::from(pool.in_use()) * u64::from(pool.slot_len())).sum();
        let all = pools.iter().map(|pool| u64::from(pool.slots()) * u64::from(pool.slot_len())).sum();
        ShardReport {
            request,
            shard: self.config.shard,
            counters: self.counters.clone(),
            read_latency_ns: self.front.read_latency.total(),
            write_latency_ns: self.front.write_latency.total(),
            sessions: sessions.collect(),
            luns: self.backend.reports(),
            buffers_bytes: (used, all),
            cache_bytes: self.cache.as_ref().map_or((0, 0), Cache::bytes),
            goldens: self.cache.as_ref().map_or_else(Vec::new, Cache::reports),
        }
    }
}
