//! The slots that have a place, by index: a hash table with a fixed hash, so that a seed replays a run.
//!
//! An entry of a handle of 16 bytes, with a pointer that is never null, takes 32 bytes and one byte of control, in a table
//! that is 7/16 to 7/8 full.

use super::Place;
use hashbrown::HashTable;

#[derive(Debug)]
pub(super) struct Slot<H> {
    pub(super) index: u64,
    pub(super) place: Place<H>,
    pub(super) mask: u8,
    /// It was written since it was last passed over for spilling.
    pub(super) warm: bool,
    /// The spill that copies it; 0 for none. Whoever writes to it makes that 0.
    pub(super) spill: u16,
}

/// Slots by index.
#[derive(Debug)]
pub(super) struct SlotTable<H> {
    slots: HashTable<Slot<H>>,
    /// How many of them are in scratch space.
    spilled: usize,
}

/// The places of slots that were taken out of an overlay, in no particular order; the same for each run.
#[derive(Debug)]
pub struct TakenSlots<H>(hashbrown::hash_table::IntoIter<Slot<H>>);

impl<H> Iterator for TakenSlots<H> {
    type Item = Place<H>;

    fn next(&mut self) -> Option<Place<H>> {
        self.0.next().map(|slot| slot.place)
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
        Self { slots: HashTable::new(), spilled: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn spilled(&self) -> usize {
        self.spilled
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn find(&self, index: u64) -> Option<&Slot<H>> {
        self.slots.find(hash(index), |slot| slot.index == index)
    }

    pub(super) fn find_mut(&mut self, index: u64) -> Option<&mut Slot<H>> {
        self.slots.find_mut(hash(index), |slot| slot.index == index)
    }

    /// Puts a slot's memory in, which was just written; returns what it replaces.
    pub(super) fn insert(&mut self, index: u64, handle: H, mask: u8) -> Option<(Place<H>, u8)> {
        let slot = Slot { index, place: Place::Memory(handle), mask, warm: true, spill: 0 };
        if let Some(old) = self.find_mut(index) {
            let old = std::mem::replace(old, slot);
            self.spilled -= usize::from(old.place.is_scratch());
            return Some((old.place, old.mask));
        }
        self.slots.insert_unique(hash(index), slot, |slot| hash(slot.index));
        None
    }

    /// Puts in what was there before this run.
    pub(super) fn insert_found(&mut self, index: u64, place: Place<H>, mask: u8) {
        self.spilled += usize::from(place.is_scratch());
        let slot = Slot { index, place, mask, warm: false, spill: 0 };
        self.slots.insert_unique(hash(index), slot, |slot| hash(slot.index));
    }

    /// Gives a slot another place.
    pub(super) fn move_to(&mut self, index: u64, place: Place<H>) -> Option<Place<H>> {
        let comes = usize::from(place.is_scratch());
        let slot = self.find_mut(index)?;
        let before = std::mem::replace(&mut slot.place, place);
        self.spilled = self.spilled + comes - usize::from(before.is_scratch());
        Some(before)
    }

    pub(super) fn remove(&mut self, index: u64) -> Option<Place<H>> {
        let entry = self.slots.find_entry(hash(index), |slot| slot.index == index).ok()?;
        let (slot, _) = entry.remove();
        self.spilled -= usize::from(slot.place.is_scratch());
        Some(slot.place)
    }

    /// Clears the mask bits that `sectors` names for each slot; `changed` sees those that had some, and slots that lose
    /// their last one go to `freed`.
    pub(super) fn clear_sectors_of_all(
        &mut self,
        sectors: impl Fn(u64) -> u8,
        changed: impl Fn(&Slot<H>),
        mut freed: impl FnMut(Place<H>),
    ) {
        let emptied = self.slots.extract_if(|slot| {
            let cleared = sectors(slot.index);
            if cleared & slot.mask == 0 {
                return false;
            }
            slot.mask &= !cleared;
            changed(slot);
            slot.mask == 0
        });
        for slot in emptied {
            self.spilled -= usize::from(slot.place.is_scratch());
            freed(slot.place);
        }
    }

    /// Goes on through the table, at most `look` places of it, which are counted down, until `found` says so; the slot's
    /// index. `None` at the end of the table, where `hand` is beyond [`SlotTable::ends_at`], or of the look.
    pub(super) fn go_through(
        &mut self,
        hand: &mut usize,
        look: &mut usize,
        mut found: impl FnMut(&mut Slot<H>) -> bool,
    ) -> Option<u64> {
        while *look > 0 && *hand < self.slots.num_buckets() {
            *look -= 1;
            let at = *hand;
            *hand += 1;
            if let Some(slot) = self.slots.get_bucket_mut(at)
                && found(slot)
            {
                return Some(slot.index);
            }
        }
        None
    }

    /// Where [`SlotTable::go_through`] has seen all.
    pub(super) fn ends_at(&self) -> usize {
        self.slots.num_buckets()
    }

    /// Every slot.
    pub(super) fn each(&self) -> impl Iterator<Item = &Slot<H>> {
        self.slots.iter()
    }

    pub(super) fn take(&mut self) -> TakenSlots<H> {
        self.spilled = 0;
        TakenSlots(std::mem::replace(&mut self.slots, HashTable::new()).into_iter())
    }
}

/// Bytes of one entry of the table.
#[cfg(test)]
pub(super) fn entry_size<H>() -> usize {
    size_of::<Slot<H>>()
}
