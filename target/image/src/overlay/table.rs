//! The slots that have memory, by index: a hash table with a fixed hash, so that a seed replays a run.
//!
//! An entry of a `u32` handle takes 16 bytes and one byte of control, in a table that is 7/16 to 7/8 full.

use hashbrown::HashTable;

#[derive(Debug)]
struct Slot<H> {
    index: u64,
    handle: H,
    mask: u8,
}

/// Slots by index.
#[derive(Debug)]
pub(super) struct SlotTable<H> {
    slots: HashTable<Slot<H>>,
}

/// The memory of slots that were taken out of an overlay, in no particular order; the same for each run.
#[derive(Debug)]
pub struct TakenSlots<H>(hashbrown::hash_table::IntoIter<Slot<H>>);

impl<H> Iterator for TakenSlots<H> {
    type Item = H;

    fn next(&mut self) -> Option<H> {
        self.0.next().map(|slot| slot.handle)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<H> ExactSizeIterator for TakenSlots<H> {}

/// Spreads neighbouring indices over the whole word: the table takes the bucket from the low bits and a tag from the
/// high ones. Not guest-proof: a guest that makes its own slots collide slows down only its own clone.
fn hash(index: u64) -> u64 {
    let mixed = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}

impl<H> SlotTable<H> {
    pub(super) fn new() -> Self {
        Self { slots: HashTable::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn find(&self, index: u64) -> Option<(&H, u8)> {
        self.slots.find(hash(index), |slot| slot.index == index).map(|slot| (&slot.handle, slot.mask))
    }

    pub(super) fn find_mut(&mut self, index: u64) -> Option<(&mut H, &mut u8)> {
        self.slots
            .find_mut(hash(index), |slot| slot.index == index)
            .map(|slot| (&mut slot.handle, &mut slot.mask))
    }

    /// Puts a slot in; returns the one that it replaces.
    pub(super) fn insert(&mut self, index: u64, handle: H, mask: u8) -> Option<(H, u8)> {
        if let Some((old_handle, old_mask)) = self.find_mut(index) {
            let replaced = std::mem::replace(old_handle, handle);
            return Some((replaced, std::mem::replace(old_mask, mask)));
        }
        let slot = Slot { index, handle, mask };
        self.slots.insert_unique(hash(index), slot, |slot| hash(slot.index));
        None
    }

    pub(super) fn remove(&mut self, index: u64) -> Option<H> {
        let entry = self.slots.find_entry(hash(index), |slot| slot.index == index).ok()?;
        let (slot, _) = entry.remove();
        Some(slot.handle)
    }

    /// Clears the mask bits that `sectors` names for each slot; slots that lose their last one go to `freed`.
    pub(super) fn clear_sectors_of_all(&mut self, sectors: impl Fn(u64) -> u8, mut freed: impl FnMut(H)) {
        let emptied = self.slots.extract_if(|slot| {
            let cleared = sectors(slot.index);
            slot.mask &= !cleared;
            cleared != 0 && slot.mask == 0
        });
        for slot in emptied {
            freed(slot.handle);
        }
    }

    pub(super) fn take(&mut self) -> TakenSlots<H> {
        TakenSlots(std::mem::replace(&mut self.slots, HashTable::new()).into_iter())
    }
}

/// Bytes of one entry of the table.
#[cfg(test)]
pub(super) fn entry_size<H>() -> usize {
    size_of::<Slot<H>>()
}
