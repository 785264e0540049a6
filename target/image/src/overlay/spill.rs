//! Spilling: slots that were not written for a while go from memory to scratch space, and back when a part of one is
//! written.
//!
//! ```text
//!            begin_spill: the bytes are copied        end_spill: the copy is written
//!   Memory ─────────────────────────────► Memory, tagged ─────────────────────────► Scratch
//!     ▲                                        │ a write takes the tag off: the copy is for nothing
//!     │◄───────────────────────────────────────┘
//!     └─────────────────────────────────────────────────────────── bring_back ◄──── Scratch
//! ```
//! The tag is the number of the spill. No two spills under way have the same, so one that ends finds what it copied, or knows
//! that somebody has written since, whatever else was spilled meanwhile.

use super::{Overlay, PER_SLOT, Place, slot_parts};
use crate::ledger::Spot;

/// Slots in a row that are spilled together, so that what was written together can be read together.
const CLUSTER: u64 = 16;

/// How far the slots of an overlay were looked through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hand(usize);

impl<H> Overlay<H> {
    /// Looks through the overlay from `hand` on for a slot to spill, at most `look` places, which are counted down: one in
    /// memory that no spill copies and that was not written since it was last passed over, or `any` in memory. Returns the
    /// slots around it, of which others may be fit too; `None` at the end of the overlay or of the look.
    pub fn next_cold(
        &mut self,
        hand: &mut Hand,
        look: &mut usize,
        any: bool,
    ) -> Option<std::ops::Range<u64>> {
        let index = self.slots.go_through(&mut hand.0, look, |slot| {
            let unfit = slot.place.is_scratch() || slot.spill != 0;
            // The second chance: who is passed over is cold until it is written again.
            let was_warm = std::mem::replace(&mut slot.warm, false);
            !unfit && (any || !was_warm)
        })?;
        let start = index - index % CLUSTER;
        Some(start..start.saturating_add(CLUSTER))
    }

    /// Whether the overlay was looked through to its end.
    #[must_use]
    pub fn is_through(&self, hand: Hand) -> bool {
        hand.0 >= self.slots.ends_at()
    }

    /// Begins to spill a slot, if it is fit: its memory, whose bytes are to be copied now, and which sectors are live.
    /// `spill` is the number of the spill, not 0.
    pub fn begin_spill(&mut self, slot_index: u64, spill: u16, any: bool) -> Option<(&H, u8)> {
        debug_assert!(spill != 0, "0 is for none");
        let slot = self.slots.find_mut(slot_index)?;
        let Place::Memory(handle) = &slot.place else { return None };
        if slot.spill != 0 || (slot.warm && !any) {
            return None;
        }
        slot.spill = spill;
        Some((handle, slot.mask))
    }

    /// A spill's copy of a slot is in a block of scratch space: the slot is there now, and its memory is handed back. `None`
    /// when the slot was written since, or is gone: then the block is for nothing.
    pub fn end_spill(&mut self, slot_index: u64, spill: u16, block: u32) -> Option<H> {
        let slot = self.slots.find_mut(slot_index).filter(|slot| slot.spill == spill)?;
        slot.spill = 0;
        if let (Some(kept), Place::Memory(handle)) = (&self.kept, &slot.place) {
            kept.live(Spot::Scratch(block), slot_index, slot.mask);
            kept.gone(kept.of_memory(handle));
        }
        match self.slots.move_to(slot_index, Place::Scratch(block))? {
            Place::Memory(handle) => Some(handle),
            // Only what is in memory has a tag.
            Place::Scratch(_) => None,
        }
    }

    /// A spill of a slot has failed, or is none of its new owner's: it stays in memory.
    pub fn abandon_spill(&mut self, slot_index: u64, spill: u16) {
        if let Some(slot) = self.slots.find_mut(slot_index).filter(|slot| slot.spill == spill) {
            slot.spill = 0;
        }
    }

    /// The spilled slots that a write of this range would write to in part only, and where they are. They have to be
    /// brought back before.
    pub fn spilled_in_part(&self, start_sector: u64, sectors: u32) -> impl Iterator<Item = (u64, u32)> + '_ {
        let end = start_sector.saturating_add(u64::from(sectors));
        // Only at its ends a range covers slots in part.
        let head = slot_parts(start_sector, sectors).next();
        let tail_start = end.saturating_sub(1) / PER_SLOT * PER_SLOT;
        let tail = (tail_start > start_sector)
            .then(|| slot_parts(tail_start, (end - tail_start) as u32).next())
            .flatten();
        let parts = if self.slots_spilled() > 0 { [head, tail] } else { [None, None] };
        parts.into_iter().flatten().filter_map(|part| {
            let slot = self.slots.find(part.slot_index)?;
            match slot.place {
                Place::Scratch(block) if slot.mask & !part.mask() != 0 => Some((part.slot_index, block)),
                _ => None,
            }
        })
    }

    /// A spilled slot's bytes were read from `block` into the memory behind `handle`, and it is there now; true, and the
    /// block is to be released. If it is no longer in that block, nothing happens: it was written or brought back meanwhile.
    pub fn bring_back(&mut self, slot_index: u64, block: u32, handle: H) -> bool {
        let here = self.slots.find_mut(slot_index).filter(|slot| slot.place_is(block));
        let Some(slot) = here else { return false };
        slot.warm = true;
        if let Some(kept) = &self.kept {
            kept.live(kept.of_memory(&handle), slot_index, slot.mask);
            kept.gone(Spot::Scratch(block));
        }
        self.slots.move_to(slot_index, Place::Memory(handle));
        true
    }
}

impl<H> super::table::Slot<H> {
    fn place_is(&self, block: u32) -> bool {
        matches!(self.place, Place::Scratch(place) if place == block)
    }
}
