//! What the shard does for the golden cache: blocks that have their home here, for jobs of all shards or ahead of them,
//! and what recorded clones use.

use super::{Shard, io};
use crate::cache::{Waiter, Wanted};
use crate::messages::ToControl;
use crate::request::Message;
use crate::token::Key;
use stampede_image::cache::BlockKey;
use stampede_ring::{Event, Ring};

/// How often what recorded clones use is told.
const RECORDED_NS: u64 = 100_000_000;

impl<R: Ring> Shard<R> {
    /// A job of another shard wants a block.
    pub(super) fn fetch(&mut self, block: BlockKey, waiter: Waiter) {
        let wanted = match &mut self.cache {
            Some(cache) => cache.ask(block, waiter, &mut self.pusher, &mut self.counters),
            None => Wanted::Past,
        };
        match wanted {
            Wanted::Waits => {}
            Wanted::Look => self.fetched(waiter, true),
            Wanted::Past => self.fetched(waiter, false),
        }
    }

    /// A read of a block has completed, or a part of it.
    pub(super) fn cache_read(&mut self, key: Key, event: Event) {
        let Some(cache) = &mut self.cache else { return };
        let (waiters, found) = cache.completed(key, event, &mut self.pusher);
        for waiter in waiters {
            self.fetched(waiter, found);
        }
    }

    fn fetched(&mut self, Waiter { shard, job }: Waiter, found: bool) {
        if shard == self.config.shard {
            self.backend.fetched(job, found, &mut io!(self));
        } else {
            self.post(shard, Message::Fetched { job, found });
        }
    }

    /// Reads blocks ahead, after everything that somebody waits for; true when there is more to do now.
    pub(super) fn read_ahead(&mut self) -> bool {
        match &mut self.cache {
            Some(cache) if cache.reads_on() => {
                cache.read_ahead(self.now_ns, &mut self.pusher, &mut self.counters)
            }
            _ => false,
        }
    }

    /// Tells what recorded clones have used, now and then.
    pub(super) fn run_recordings(&mut self) {
        if self.recording_deadline().is_some_and(|deadline| deadline <= self.now_ns) {
            self.send_recorded();
        }
    }

    pub(super) fn send_recorded(&mut self) {
        self.recorded_ns = self.now_ns;
        for (lun, uses) in self.backend.take_recorded() {
            self.counters.blocks_recorded += uses.len() as u64;
            self.control.send(ToControl::Recorded { lun, uses });
        }
    }

    pub(super) fn recording_deadline(&self) -> Option<u64> {
        self.backend.has_recorded().then(|| self.recorded_ns + RECORDED_NS)
    }
}
