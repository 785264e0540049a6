//! Scratch space: which blocks of a file or device hold slots of overlays that were spilled.
//!
//! ```text
//!   free ──take──► 1 reference, of who writes it ──► the overlay's ──release──► free
//!                         └──share──► 2 and more: reads of it under way
//! ```
//!
//! A block is free when nobody has a reference to it, so a read under way never meets what another overlay wrote since. The
//! space is one for all shards: each looks for room from a place of its own, so that its writes are long and sequential, and
//! any may release what any took. Nothing here waits or locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

/// Bytes of a block: one slot of an overlay.
pub const BLOCK: u64 = crate::overlay::SLOT;

/// Blocks that one search looks at: some ten microseconds. The next search goes on where it ended.
const LOOK: u32 = 1 << 16;

/// Blocks in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first.
    pub start: u32,
    /// How many.
    pub blocks: u32,
}

impl Run {
    /// Its blocks.
    pub fn each(self) -> impl Iterator<Item = u32> {
        self.start..self.start + self.blocks
    }

    /// Byte of the space at which it starts.
    #[must_use]
    pub fn offset(self) -> u64 {
        u64::from(self.start) * BLOCK
    }
}

/// The blocks of the scratch space, with the references to each.
#[derive(Debug)]
pub struct Scratch {
    references: Box<[AtomicU16]>,
    used: AtomicU32,
}

impl Scratch {
    /// A space of so many blocks, all free. It takes two bytes a block.
    #[must_use]
    pub fn new(blocks: u32) -> Self {
        Self { references: (0..blocks).map(|_| AtomicU16::new(0)).collect(), used: AtomicU32::new(0) }
    }

    /// Blocks in all.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        // Made from a u32.
        self.references.len() as u32
    }

    /// Blocks that are not free.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes a block that an overlay of the run before has; false when it is not there, or taken.
    #[must_use]
    pub fn take_found(&self, block: u32) -> bool {
        block < self.blocks() && self.claim(Run { start: block, blocks: 1 }).is_some()
    }

    /// Takes a run of at most so many free blocks, looking from `from` on, which is moved behind it: the first of that
    /// length, else the longest that it finds. `None` when it finds none where it looks; somewhere else there may be one.
    pub fn take(&self, from: &mut u32, most: u32) -> Option<Run> {
        let all = self.blocks();
        if self.used() >= all || most == 0 {
            return None;
        }
        let mut best = Run { start: 0, blocks: 0 };
        let mut run = best;
        let mut at = *from % all;
        for _ in 0..LOOK.min(all) {
            if self.references[at as usize].load(Ordering::Acquire) != 0 {
                run.blocks = 0;
            } else {
                if run.blocks == 0 {
                    run.start = at;
                }
                run.blocks += 1;
                if run.blocks > best.blocks {
                    best = run;
                }
                if best.blocks == most {
                    break;
                }
            }
            at += 1;
            if at == all {
                (at, run.blocks) = (0, 0);
            }
        }
        *from = at;
        self.claim(best)
    }

    /// Takes what of a run is still free, from its first block on.
    fn claim(&self, run: Run) -> Option<Run> {
        let claims = |block: &u32| {
            let references = &self.references[*block as usize];
            references.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let blocks = run.each().take_while(claims).count() as u32;
        self.used.fetch_add(blocks, Ordering::Relaxed);
        (blocks > 0).then_some(Run { start: run.start, blocks })
    }

    /// Adds a reference to a block that has one; false when it has as many as can be counted.
    #[must_use]
    fn share(&self, block: u32) -> bool {
        let shared = |count: u16| (count > 0 && count < u16::MAX).then(|| count + 1);
        self.references[block as usize].fetch_update(Ordering::AcqRel, Ordering::Relaxed, shared).is_ok()
    }

    /// Gives a reference back: with the last one the block is free.
    pub fn release(&self, block: u32) {
        let before = self.references[block as usize].fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before > 0, "a block is released as often as it is taken and shared");
        if before == 1 {
            self.used.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Keeps a run, whose blocks have references, from being free until the answer is dropped; `None` when one of the
    /// blocks has too many references.
    #[must_use]
    pub fn hold(self: &Arc<Self>, run: Run) -> Option<Hold> {
        let mut hold = Hold { scratch: Arc::clone(self), run: Run { blocks: 0, ..run } };
        for block in run.each() {
            if !self.share(block) {
                return None;
            }
            hold.run.blocks += 1;
        }
        Some(hold)
    }
}

/// Keeps the blocks of a run from being free.
#[derive(Debug)]
pub struct Hold {
    scratch: Arc<Scratch>,
    run: Run,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.run.each().for_each(|block| self.scratch.release(block));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_space_fills_in_long_runs_and_then_in_what_is_left() {
        let scratch = Scratch::new(10);
        let mut from = 0;
        assert_eq!(scratch.take(&mut from, 4), Some(Run { start: 0, blocks: 4 }));
        assert_eq!(scratch.take(&mut from, 4), Some(Run { start: 4, blocks: 4 }));
        scratch.release(2);
        // No run crosses the end.
        assert_eq!(scratch.take(&mut from, 4), Some(Run { start: 8, blocks: 2 }));
        assert_eq!(scratch.take(&mut from, 4), Some(Run { start: 2, blocks: 1 }));
        assert_eq!((scratch.take(&mut from, 4), scratch.used()), (None, 10));
    }

    #[test]
    fn what_is_being_read_is_not_free() {
        let scratch = Arc::new(Scratch::new(2));
        let run = scratch.take(&mut 0, 2).unwrap();
        let hold = scratch.hold(run).unwrap();
        run.each().for_each(|block| scratch.release(block));
        assert_eq!((scratch.used(), scratch.take(&mut 0, 1)), (2, None));
        drop(hold);
        assert_eq!((scratch.used(), scratch.take(&mut 0, 1)), (0, Some(Run { start: 0, blocks: 1 })));
    }

    #[test]
    fn a_block_has_only_so_many_references() {
        let scratch = Arc::new(Scratch::new(2));
        let run = scratch.take(&mut 0, 2).unwrap();
        let first = Run { blocks: 1, ..run };
        let holds: Vec<Hold> = std::iter::from_fn(|| scratch.hold(first)).collect();
        assert_eq!(holds.len(), usize::from(u16::MAX) - 1);
        assert!(scratch.hold(Run { start: 1, blocks: 1 }).is_some());
        drop(holds);
        run.each().for_each(|block| scratch.release(block));
        assert_eq!(scratch.used(), 0);
    }

    proptest! {
        /// Nobody gets what somebody has, whoever releases what in which order; nothing is lost.
        #[test]
        fn no_block_has_two_owners(
            steps in proptest::collection::vec((0u32..3, 1u32..9, any::<bool>(), any::<prop::sample::Index>()), 1..200),
            blocks in 1u32..64,
        ) {
            let scratch = Scratch::new(blocks);
            let mut from = [0, blocks / 3, blocks / 3 * 2];
            let mut owned: Vec<u32> = Vec::new();
            for (shard, most, takes, which) in steps {
                if takes {
                    match scratch.take(&mut from[shard as usize], most) {
                        Some(run) => {
                            prop_assert!(run.blocks <= most && run.start + run.blocks <= blocks);
                            for block in run.each() {
                                prop_assert!(!owned.contains(&block));
                                owned.push(block);
                            }
                        }
                        // A space this small is looked through as a whole.
                        None => prop_assert_eq!(owned.len() as u32, blocks),
                    }
                } else if !owned.is_empty() {
                    scratch.release(owned.swap_remove(which.index(owned.len())));
                }
                prop_assert_eq!(scratch.used() as usize, owned.len());
            }
        }
    }
}
