//! Which slot holds which block of one golden version.

use std::sync::atomic::{AtomicU32, Ordering};

/// "In no slot".
const NONE: u32 = u32::MAX;

/// One golden version's blocks, for all shards to look up. Four bytes a block.
#[derive(Debug)]
pub struct Published {
    slots: Box<[AtomicU32]>,
}

impl Published {
    /// A golden of so many blocks, none of them in memory.
    #[must_use]
    pub fn new(blocks: u32) -> Self {
        Self { slots: (0..blocks).map(|_| AtomicU32::new(NONE)).collect() }
    }

    /// Blocks of the golden.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        // Made from a u32.
        self.slots.len() as u32
    }

    /// The slot that holds a block, if one does. Between [`super::Grace::enter`] and `leave` only, and it is to be
    /// pinned before that ends.
    #[must_use]
    #[inline]
    pub fn get(&self, block: u32) -> Option<u32> {
        let slot = self.slots.get(block as usize)?.load(Ordering::SeqCst);
        (slot != NONE).then_some(slot)
    }

    pub(super) fn set(&self, block: u32, slot: Option<u32>) {
        if let Some(place) = self.slots.get(block as usize) {
            place.store(slot.unwrap_or(NONE), Ordering::SeqCst);
        }
    }
}
