//! How often blocks were used, as far as eviction wants to know.

use std::sync::atomic::{AtomicU8, Ordering};

/// More than that counts for nothing.
const HOT: u8 = 3;

/// The block was read ahead, and nobody has used it. Its first use makes it 0: so telling what was read in vain costs the
/// hot path nothing.
const UNUSED: u8 = u8::MAX;

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
            let next = now.wrapping_add(1);
            if next <= HOT {
                count.store(next, Ordering::Relaxed);
            }
        }
    }

    /// How hot it is, 0 to 3.
    pub(super) fn get(&self, slot: u32) -> u8 {
        let count = self.raw(slot);
        if count == UNUSED { 0 } else { count }
    }

    /// Whether its block was read ahead, and nobody has used it.
    pub(super) fn is_unused(&self, slot: u32) -> bool {
        self.raw(slot) == UNUSED
    }

    pub(super) fn set_unused(&self, slot: u32) {
        self.set(slot, UNUSED);
    }

    fn raw(&self, slot: u32) -> u8 {
        self.counts.get(slot as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(super) fn set(&self, slot: u32, heat: u8) {
        if let Some(count) = self.counts.get(slot as usize) {
            count.store(heat, Ordering::Relaxed);
        }
    }
}
