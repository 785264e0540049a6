//! An overlay that outlives the process: each change of where its sectors are is recorded in the [`ledger`](crate::ledger).
//!
//! The order of the stores is what matters, and is kept here and where the overlay changes: what is new is recorded first,
//! then what it replaces is taken off, and only then whoever asked may free that.

use super::table::Slot;
use super::tombstones::Tombstones;
use super::{Overlay, OverlayLimits, Place};
use crate::ledger::{Beneath, Entry, Spot};

/// Where an overlay is recorded, and how its handles are told from each other.
#[derive(Clone, Debug)]
pub struct Keeping<H> {
    entry: Entry,
    /// The number of a handle's slot in the arena.
    number: fn(&H) -> u32,
}

impl<H> Keeping<H> {
    /// An overlay is recorded here; `number` tells which slot of the arena a handle is of.
    #[must_use]
    pub fn new(entry: Entry, number: fn(&H) -> u32) -> Self {
        Self { entry, number }
    }

    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }

    pub(super) fn of_memory(&self, handle: &H) -> Spot {
        Spot::Arena((self.number)(handle))
    }

    pub(super) fn of(&self, place: &Place<H>) -> Spot {
        match place {
            Place::Memory(handle) => self.of_memory(handle),
            Place::Scratch(block) => Spot::Scratch(*block),
        }
    }

    #[inline]
    pub(super) fn live(&self, spot: Spot, slot_index: u64, mask: u8) {
        self.entry.live(spot, slot_index, mask);
    }

    #[inline]
    pub(super) fn gone(&self, spot: Spot) {
        self.entry.gone(spot);
    }

    /// A slot's mask is another.
    pub(super) fn changed(&self, slot: &Slot<H>) {
        match slot.mask {
            0 => self.gone(self.of(&slot.place)),
            mask => self.live(self.of(&slot.place), slot.index, mask),
        }
    }
}

/// A slot in memory, to be written to.
#[derive(Debug)]
pub struct SlotMut<'a, H> {
    slot: &'a mut Slot<H>,
    kept: Option<&'a Keeping<H>>,
}

impl<'a, H> SlotMut<'a, H> {
    pub(super) fn new(slot: &'a mut Slot<H>, kept: Option<&'a Keeping<H>>) -> Self {
        Self { slot, kept }
    }

    /// Its live sectors, bit n is sector n.
    #[must_use]
    pub fn live(&self) -> u8 {
        self.slot.mask
    }

    /// Its memory, into which these sectors may be written. `None` when live sectors of a kept overlay are among them: if the
    /// process were killed in the middle of such a write, a sector would have something of both.
    pub fn memory(&mut self, sectors: u8) -> Option<&mut H> {
        if self.kept.is_some() && self.slot.mask & sectors != 0 {
            return None;
        }
        match &mut self.slot.place {
            Place::Memory(handle) => Some(handle),
            Place::Scratch(_) => None,
        }
    }

    /// Its memory, to be read.
    #[must_use]
    pub fn bytes(&self) -> Option<&H> {
        match &self.slot.place {
            Place::Memory(handle) => Some(handle),
            Place::Scratch(_) => None,
        }
    }

    /// These sectors are live from now on: their bytes are there.
    pub fn add(self, sectors: u8) {
        self.slot.mask |= sectors;
        self.kept.into_iter().for_each(|kept| kept.changed(self.slot));
    }
}

impl<H> Overlay<H> {
    /// An overlay that is recorded in the ledger. The zeroed ranges that the ledger has of it are there; the rest of what
    /// the run before left comes by [`Overlay::put_found`].
    #[must_use]
    pub fn kept(limits: OverlayLimits, keeping: Keeping<H>) -> Self {
        let tombstones = Tombstones::found(limits.tombstone_runs_max, keeping.entry());
        Self { tombstones, kept: Some(keeping), ..Self::new(limits) }
    }

    /// Puts in a slot that the ledger has of this overlay, once for each.
    pub fn put_found(&mut self, slot_index: u64, place: Place<H>, mask: u8) {
        self.slots.insert_found(slot_index, place, mask);
    }

    /// Whether it outlives the process.
    #[must_use]
    #[inline]
    pub fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Says for the next run what is beneath the overlay; `pattern` is the memory of a pattern.
    pub fn set_beneath(&self, beneath: Beneath, pattern: Option<&H>) {
        if let Some(kept) = &self.kept {
            kept.entry.set_beneath(beneath, pattern.map(|handle| (kept.number)(handle)));
        }
    }

    /// A pattern that was beneath the overlay is not any more: its memory may be used for something else.
    pub fn pattern_is_gone(&self, pattern: &H) {
        self.kept.iter().for_each(|kept| kept.gone(kept.of_memory(pattern)));
    }

    /// Installs whole slots, from `first` on: for the next run all of them or none. What they replace goes to `replaced`.
    pub fn install_whole(
        &mut self,
        first: u64,
        handles: impl ExactSizeIterator<Item = H>,
        mut replaced: impl FnMut(Place<H>),
    ) {
        let many = handles.len() > 1;
        let Some(kept) = self.kept.as_ref().filter(|_| many) else {
            for (handle, slot_index) in handles.zip(first..) {
                self.install(slot_index, handle, u8::MAX).into_iter().for_each(&mut replaced);
            }
            return;
        };
        let handles: Vec<H> = handles.collect();
        for (handle, slot_index) in handles.iter().zip(first..) {
            kept.entry.pending(kept.of_memory(handle), slot_index, u8::MAX);
        }
        kept.entry.commit(true);
        for (handle, slot_index) in handles.into_iter().zip(first..) {
            let spot = kept.of_memory(&handle);
            let before = self.slots.insert(slot_index, handle, u8::MAX);
            // While both are there the one that is pending counts.
            if let Some((place, _)) = before {
                kept.gone(kept.of(&place));
                replaced(place);
            }
            kept.live(spot, slot_index, u8::MAX);
        }
        kept.entry.commit(false);
    }

    /// Takes the overlay apart when the process ends: for the next run all is as it is. The memory must not be used again.
    #[must_use]
    pub fn leave_all(&mut self) -> super::TakenSlots<H> {
        self.slots.take()
    }
}
