//! Pools for a cache: slots are handed out by number, to any number of readers, each of whom counts for itself.
//!
//! Every reader thread has a *lane*, a row of counters of its own, so that two threads that use the same slot write no
//! common cache line. Whoever fills a slot is alone with it: one more row counts the handles of who does. The two find out
//! about each other without a lock: who fills counts first and then looks at all lanes, who pins counts first and then
//! looks whether somebody fills.

use super::{Buffer, Pool, PoolConfig};
use std::io;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

impl Pool {
    /// A pool whose slots are pinned by up to `lanes` threads. It lives as long as the process, since nobody counts all of
    /// its handles; and nothing can be taken from it.
    ///
    /// # Errors
    /// As [`Pool::new`]; also `InvalidInput` for no lane, or more counters than fit.
    pub fn with_lanes(config: PoolConfig, lanes: u16) -> io::Result<Arc<Self>> {
        let rows = u32::from(lanes) + 1;
        let counters = rows.checked_mul(config.slots).filter(|_| lanes > 0);
        let counters = counters.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a cache has lanes, and fewer than 2^32 counters")
        })?;
        let mut pool = Self::unshared(config)?;
        pool.references = (0..counters).map(|_| AtomicU32::new(0)).collect();
        pool.lanes = lanes;
        // None is fresh, and none will be free.
        pool.fresh = AtomicU32::new(config.slots);
        let pool = Arc::new(pool);
        std::mem::forget(Arc::clone(&pool));
        Ok(pool)
    }

    /// A handle to a slot for reading, counted in a lane; `None` while somebody fills the slot, or for a slot or lane that
    /// does not exist. What is in the slot is for the caller to know.
    #[inline]
    pub fn pin(self: &Arc<Self>, slot: u32, lane: u16) -> Option<Buffer> {
        if lane >= self.lanes {
            return None;
        }
        let count = self.counter(slot, lane)?;
        let references = &self.references[count as usize];
        references.fetch_add(1, Ordering::SeqCst);
        if self.count(slot, self.lanes) != 0 {
            references.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Buffer { pool: ManuallyDrop::new(self.uncounted()), slot, count })
    }

    /// The one handle to a slot, for filling it; `None` while anybody has another. The slot can be pinned once this
    /// handle is gone.
    pub fn fill(self: &Arc<Self>, slot: u32) -> Option<Buffer> {
        let count = self.counter(slot, self.lanes)?;
        let fillers = &self.references[count as usize];
        fillers.compare_exchange(0, 1, Ordering::SeqCst, Ordering::Relaxed).ok()?;
        if (0..self.lanes).any(|lane| self.count(slot, lane) != 0) {
            fillers.store(0, Ordering::Release);
            return None;
        }
        Some(Buffer { pool: ManuallyDrop::new(self.uncounted()), slot, count })
    }

    /// Whether any handle to a slot exists.
    pub fn is_pinned(&self, slot: u32) -> bool {
        (0..=self.lanes).any(|row| self.count(slot, row) != 0)
    }

    /// Handles to a slot that a row counts.
    #[inline]
    fn count(&self, slot: u32, row: u16) -> u32 {
        self.counter(slot, row).map_or(0, |count| self.references[count as usize].load(Ordering::SeqCst))
    }

    /// Where a row counts the handles to a slot.
    #[inline]
    fn counter(&self, slot: u32, row: u16) -> Option<u32> {
        (slot < self.config.slots && row <= self.lanes).then(|| u32::from(row) * self.config.slots + slot)
    }
}

impl Buffer {
    /// Whether this is the one handle of who fills the slot.
    pub(super) fn fills(&self) -> bool {
        self.count >= u32::from(self.pool.lanes) * self.pool.config.slots
            && self.pool.references[self.count as usize].load(Ordering::Acquire) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Arc<Pool> {
        Pool::with_lanes(PoolConfig { slot_len: 4096, slots: 4 }, 3).unwrap()
    }

    #[test]
    fn who_fills_is_alone_and_who_reads_is_not() {
        let pool = pool();
        assert!(pool.take().is_none(), "slots go by number");
        let mut filling = pool.fill(2).unwrap();
        filling.bytes_mut().unwrap().fill(7);
        assert!(pool.fill(2).is_none() && pool.pin(2, 1).is_none() && pool.is_pinned(2));
        assert!(pool.fill(1).is_some(), "another slot is another matter");
        drop(filling);
        let mut first = pool.pin(2, 1).unwrap();
        let second = pool.pin(2, 2).unwrap();
        assert_eq!((first.bytes()[9], second.bytes().len()), (7, 4096));
        assert!(first.is_shared() && first.bytes_mut().is_none() && pool.fill(2).is_none());
        drop(first.clone());
        drop(first);
        assert!(pool.is_pinned(2) && pool.fill(2).is_none());
        drop(second);
        assert!(!pool.is_pinned(2) && pool.fill(2).is_some());
    }

    #[test]
    fn a_shared_handle_of_who_fills_cannot_be_written() {
        let pool = pool();
        let mut filling = pool.fill(0).unwrap();
        let copy = filling.clone();
        assert!(filling.bytes_mut().is_none());
        drop(copy);
        assert!(filling.bytes_mut().is_some());
        let copy = filling.clone();
        drop(filling);
        assert!(pool.pin(0, 1).is_none());
        drop(copy);
        assert!(pool.pin(0, 1).is_some());
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        let pool = pool();
        assert!(pool.pin(4, 0).is_none() && pool.pin(0, 3).is_none() && pool.fill(4).is_none());
        assert!(!pool.is_pinned(4));
        assert!(Pool::with_lanes(PoolConfig { slot_len: 4096, slots: 4 }, 0).is_err());
    }

    /// Handles that go back many at once, as those of a sent list do, of pools of both kinds.
    #[test]
    fn handles_are_dropped_in_rows() {
        let (cache, plain) = (pool(), Pool::new(PoolConfig { slot_len: 4096, slots: 4 }).unwrap());
        let mut buffers = vec![plain.take().unwrap(), cache.pin(0, 0).unwrap(), plain.take().unwrap()];
        buffers.push(cache.pin(0, 1).unwrap());
        Buffer::drop_all(&mut buffers);
        assert!(!cache.is_pinned(0) && plain.in_use() == 0);
        assert!(cache.fill(0).is_some());
    }

    /// Nor may a fill that was refused, since a reader had the slot, be taken for a later one's end by that reader.
    #[test]
    fn threads_see_whole_fills_only() {
        let pool = pool();
        std::thread::scope(|scope| {
            for lane in 1..3 {
                let pool = &pool;
                scope.spawn(move || {
                    for round in 0..20_000u32 {
                        let Some(buffer) = pool.pin(round % 2, lane) else { continue };
                        let bytes = buffer.bytes();
                        assert!(bytes.iter().step_by(512).all(|byte| *byte == bytes[0]));
                    }
                });
            }
            for round in 0..20_000u32 {
                if let Some(mut buffer) = pool.fill(round % 2) {
                    buffer.bytes_mut().unwrap().fill(round as u8);
                }
            }
        });
        assert!(!pool.is_pinned(0) && !pool.is_pinned(1));
    }
}
