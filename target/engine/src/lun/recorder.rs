//! The record of which blocks of its golden a clone used first, and when. It travels with the clone, so it does not matter
//! which session reads or which shard owns the clone.
//!
//! Only a clone that is recorded has one; all others pay a look at a pointer for each stretch of the golden that they read.

use stampede_image::cache::BLOCK;
use stampede_image::recording::BLOCKS_MAX;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Recorder(RefCell<Uses>);

#[derive(Debug, Default)]
struct Uses {
    seen: BTreeSet<u32>,
    /// Not told yet: the block, and when it was used, in monotonic nanoseconds.
    fresh: Vec<(u32, u64)>,
}

impl Recorder {
    /// Bytes `start..end` of the golden are read.
    #[cold]
    pub(super) fn note(&self, start: u64, end: u64, now_ns: u64) {
        let mut uses = self.0.borrow_mut();
        // A golden beyond 2^32 blocks is not cached, and so not recorded.
        for block in (start / BLOCK) as u32..end.div_ceil(BLOCK) as u32 {
            if uses.seen.len() < BLOCKS_MAX && uses.seen.insert(block) {
                uses.fresh.push((block, now_ns));
            }
        }
    }

    /// Whether there is something to tell.
    pub(super) fn has_fresh(&self) -> bool {
        !self.0.borrow().fresh.is_empty()
    }

    /// What was noted since the last time.
    pub(super) fn take(&self) -> Vec<(u32, u64)> {
        std::mem::take(&mut self.0.borrow_mut().fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_noted_once_and_when_it_was_used_first() {
        let recorder = Recorder::default();
        recorder.note(BLOCK - 512, BLOCK + 512, 5);
        recorder.note(0, 3 * BLOCK, 7);
        assert!(recorder.has_fresh());
        assert_eq!(recorder.take(), [(0, 5), (1, 5), (2, 7)]);
        recorder.note(0, 3 * BLOCK, 9);
        assert!(!recorder.has_fresh());
    }

    #[test]
    fn a_recording_has_an_end() {
        let recorder = Recorder::default();
        recorder.note(0, (BLOCKS_MAX as u64 + 10) * BLOCK, 1);
        assert_eq!(recorder.take().len(), BLOCKS_MAX);
        recorder.note(1 << 40, (1 << 40) + 512, 2);
        assert!(!recorder.has_fresh());
    }
}
