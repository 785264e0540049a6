//! What the shard does for the golden cache: blocks that have their home here, for jobs of all shards.

use super::{Shard, io};
use crate::cache::{Waiter, Wanted};
use crate::request::Message;
use crate::token::Key;
use stampede_image::cache::BlockKey;
use stampede_ring::{Event, Ring};

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
}
