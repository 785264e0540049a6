//! How often blocks were used, as far as eviction wants to know.

use std::sync::atomic::{AtomicU8, Ordering};

/// More than that counts for nothing.
const HOT: u8 = 3;

/// A small counter for each slot. A block that is used again and again soon counts as hot, and from then on its use
/// writes nothing. Shards may overlook each other's counts: it is a hint.
#[derive(Debug)]
pub struct Heat {
    counts: Box<[AtomicU8]>,
}

impl Heat {
    /// For so many slots, all cold.
    #[must_use]
    pub fn new(slots: u32) -> Self {
        Self { counts: (0..slots).map(|_| AtomicU8::new(0)).collect() }
    }

    /// A slot's block is used.
    #[inline]
    pub fn touch(&self, slot: u32) {
        if let Some(count) = self.counts.get(slot as usize) {
            let now = count.load(Ordering::Relaxed);
            if now < HOT {
                count.store(now + 1, Ordering::Relaxed);
            }
        }
    }

    /// How hot it is, 0 to 3.
    pub(super) fn get(&self, slot: u32) -> u8 {
        self.counts.get(slot as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(super) fn set(&self, slot: u32, heat: u8) {
        if let Some(count) = self.counts.get(slot as usize) {
            count.store(heat, Ordering::Relaxed);
        }
    }
}
