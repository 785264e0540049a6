//! The native overlay of an ephemeral clone: where each of its sectors is.
//!
//! A sector is live in a slot (the guest wrote it; the slot is in memory or, spilled, in scratch space), or zero (the guest unmapped it or had zeroes written), or golden
//! (the guest never touched it). Slots are 4 KiB with one bit for each of their eight sectors, so a small write needs
//! no fill read, and two concurrent 512-byte writes into one slot are both live. Zeroed ranges are run-length
//! *tombstones* with a budget, never holes that would show the golden again.
//!
//! ```text
//!             sector of the guest's disk
//!                      |
//!   slot there and its mask bit set? --yes--> Slot, or Spilled
//!                      | no
//!        in a tombstone's run? --------yes--> Zero
//!                      | no
//!                    Golden
//! ```
//! A live sector hides a tombstone beneath it, so a write never splits a run, and never fails for the runs' budget:
//! a sector that was once written or zeroed can become zero again but never golden, whatever lies beneath.

mod kept;
mod spill;
mod table;
mod tombstones;

pub use kept::{Keeping, SlotMut};
pub use spill::Hand;
pub use table::TakenSlots;
pub use tombstones::OverlayFull;

use table::SlotTable;
use tombstones::Tombstones;

/// Bytes of a sector: the unit in which an overlay knows what is live.
pub const SECTOR: u64 = 512;
/// Bytes of a slot: the unit of an overlay's memory. Slot `n` holds sectors `8n` to `8n + 7`.
pub const SLOT: u64 = 4096;
/// Sectors of a slot.
pub const SECTORS_PER_SLOT: u32 = 8;

const PER_SLOT: u64 = SECTORS_PER_SLOT as u64;

/// What bounds one overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverlayLimits {
    /// Tombstone runs kept at most.
    pub tombstone_runs_max: u32,
    /// The disk's size in bytes; a part of a sector at its end is not addressable.
    pub size_bytes: u64,
}

/// Where a slot's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<H> {
    /// In memory.
    Memory(H),
    /// In a block of the scratch space, as whole as it was in memory.
    Scratch(u32),
}

impl<H> Place<H> {
    /// Whether it is in scratch space.
    #[must_use]
    pub fn is_scratch(&self) -> bool {
        matches!(self, Self::Scratch(_))
    }
}

/// A stretch of the guest's disk that lies in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a, H> {
    /// Live in one slot's memory.
    Slot {
        /// The slot's memory.
        handle: &'a H,
        /// Where in the slot the stretch starts, in bytes.
        offset_in_slot: u32,
        /// Its first sector on the disk.
        start_sector: u64,
        /// Its length in sectors, 1 to 8.
        sectors: u32,
    },
    /// Live in one block of the scratch space.
    Spilled {
        /// Which block.
        block: u32,
        /// Where in the block the stretch starts, in bytes.
        offset_in_slot: u32,
        /// Its first sector on the disk.
        start_sector: u64,
        /// Its length in sectors, 1 to 8.
        sectors: u32,
    },
    /// As the golden has it.
    Golden {
        /// Its first sector on the disk.
        start_sector: u64,
        /// Its length in sectors.
        sectors: u32,
    },
    /// Reads as zeroes.
    Zero {
        /// Its first sector on the disk.
        start_sector: u64,
        /// Its length in sectors.
        sectors: u32,
    },
}

/// The part of one slot that a range of sectors covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotPart {
    /// Which slot.
    pub slot_index: u64,
    /// First sector of the part within the slot, 0 to 7.
    pub first: u32,
    /// Its length in sectors, 1 to 8.
    pub sectors: u32,
}

impl SlotPart {
    /// The part's sectors as a slot's mask has them: bit n is sector n.
    #[must_use]
    pub fn mask(&self) -> u8 {
        // At most 8 ones, shifted by at most 7 with first + sectors <= 8: the result fits a byte.
        ((((1_u32 << self.sectors) - 1) << self.first) & 0xff) as u8
    }

    /// First sector of the part on the disk.
    #[must_use]
    pub fn start_sector(&self) -> u64 {
        self.slot_index * PER_SLOT + u64::from(self.first)
    }

    /// Where in the slot the part starts, in bytes.
    #[must_use]
    pub fn offset_in_slot(&self) -> u32 {
        self.first * SECTOR as u32
    }
}

/// Splits a range of sectors into the parts of the slots that it covers, in order. What lies beyond sector
/// `u64::MAX` is left out.
pub fn slot_parts(start_sector: u64, sectors: u32) -> impl Iterator<Item = SlotPart> {
    let end = start_sector.saturating_add(u64::from(sectors));
    let mut at = start_sector;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let first = (at % PER_SLOT) as u32;
        let count = (PER_SLOT - u64::from(first)).min(end - at);
        let part = SlotPart { slot_index: at / PER_SLOT, first, sectors: count as u32 };
        at += count;
        Some(part)
    })
}

/// The overlay of one clone, over handles `H` of its slots' memory. It holds no bytes, and releases no block of scratch space by itself.
#[derive(Debug)]
pub struct Overlay<H> {
    slots: SlotTable<H>,
    tombstones: Tombstones,
    size_sectors: u64,
    /// Its part of the ledger, if it outlives the process.
    kept: Option<Keeping<H>>,
}

impl<H> Overlay<H> {
    /// An empty overlay: all golden. Allocates nothing.
    #[must_use]
    pub fn new(limits: OverlayLimits) -> Self {
        Self {
            slots: SlotTable::new(),
            tombstones: Tombstones::new(limits.tombstone_runs_max),
            size_sectors: limits.size_bytes / SECTOR,
            kept: None,
        }
    }

    /// Says where a range of the guest's disk is: pieces in the disk's order that together are the range. Adjacent
    /// golden pieces are one, and so are adjacent zero pieces; a slot's piece never leaves its slot. What lies beyond
    /// the disk's end is left out (the device server refuses such a range before).
    pub fn resolve<'a>(&'a self, start_sector: u64, sectors: u32, mut visit: impl FnMut(Piece<'a, H>)) {
        let (start, end) = self.clip(start_sector, sectors);
        if self.slots.is_empty() {
            self.resolve_beneath(start, end, &mut visit);
            return;
        }
        let mut unresolved = start;
        for part in slot_parts(start, (end - start) as u32) {
            let Some(slot) = self.slots.find(part.slot_index) else { continue };
            let base = part.slot_index * PER_SLOT;
            for (first, sectors) in runs(slot.mask & part.mask()) {
                let start_sector = base + u64::from(first);
                self.resolve_beneath(unresolved, start_sector, &mut visit);
                let offset_in_slot = first * SECTOR as u32;
                visit(match &slot.place {
                    Place::Memory(handle) => Piece::Slot { handle, offset_in_slot, start_sector, sectors },
                    &Place::Scratch(block) => Piece::Spilled { block, offset_in_slot, start_sector, sectors },
                });
                unresolved = start_sector + u64::from(sectors);
            }
        }
        self.resolve_beneath(unresolved, end, &mut visit);
    }

    /// Where a slot is and which of its sectors are live (bit n is sector n).
    #[must_use]
    pub fn slot(&self, slot_index: u64) -> Option<(&Place<H>, u8)> {
        self.slots.find(slot_index).map(|slot| (&slot.place, slot.mask))
    }

    /// The same of a slot in memory, to write more sectors into it and then set their bits: a spill that copies it is for
    /// nothing then.
    pub fn slot_mut(&mut self, slot_index: u64) -> Option<SlotMut<'_, H>> {
        let slot = self.slots.find_mut(slot_index)?;
        if slot.place.is_scratch() {
            return None;
        }
        (slot.warm, slot.spill) = (true, 0);
        Some(SlotMut::new(slot, self.kept.as_ref()))
    }

    /// Makes sectors of a slot live in the memory behind `handle`, where the caller has put their bytes already.
    /// Returns where the slot was before, to be freed once nobody reads it. When there was one, `mask` must hold all its
    /// live sectors too: the caller has copied their bytes.
    pub fn install(&mut self, slot_index: u64, handle: H, mask: u8) -> Option<Place<H>> {
        if let Some(kept) = &self.kept {
            kept.live(kept.of_memory(&handle), slot_index, mask);
        }
        let replaced = self.slots.insert(slot_index, handle, mask);
        debug_assert!(
            replaced.as_ref().is_none_or(|&(_, was)| was & !mask == 0),
            "live sectors are carried over"
        );
        let (place, _) = replaced?;
        self.kept.iter().for_each(|kept| kept.gone(kept.of(&place)));
        Some(place)
    }

    /// Makes a range read as zeroes (UNMAP, WRITE SAME of zeroes): its live sectors end, the places of slots left
    /// with none go to `freed`, and a tombstone covers it, merged with its neighbours.
    ///
    /// # Errors
    /// [`OverlayFull`] when that needs a tombstone run more than the budget; then nothing has changed. The caller of
    /// a WRITE SAME then writes real zeroes into slots, and answers 07/27/07 when it has no memory for them. An UNMAP
    /// only asks: the device server may leave blocks mapped (SBC-4, UNMAP command), so it may answer GOOD and do
    /// nothing. Reads stay consistent then: they go on returning the old data, the same each time.
    pub fn zero(
        &mut self,
        start_sector: u64,
        sectors: u32,
        mut freed: impl FnMut(Place<H>),
    ) -> Result<(), OverlayFull> {
        let (start, end) = self.clip(start_sector, sectors);
        if start == end {
            return Ok(());
        }
        let kept = self.kept.as_ref();
        self.tombstones.add(start, end, kept.map(Keeping::entry))?;
        let changed = |slot: &table::Slot<H>| kept.into_iter().for_each(|kept| kept.changed(slot));
        let parts = (end - start) / PER_SLOT;
        if parts > self.slots.len() as u64 {
            // A discard of a whole disk must not look at every slot that the disk could have.
            self.slots.clear_sectors_of_all(|index| mask_within(index, start, end), changed, freed);
            return Ok(());
        }
        for part in slot_parts(start, (end - start) as u32) {
            let emptied = self.slots.find_mut(part.slot_index).is_some_and(|slot| {
                slot.mask &= !part.mask();
                changed(slot);
                slot.mask == 0
            });
            if emptied && let Some(place) = self.slots.remove(part.slot_index) {
                freed(place);
            }
        }
        Ok(())
    }

    /// Makes everything golden again, and hands back all memory and scratch blocks, as the caller asks for them: it may
    /// want to do something to all of it. Of a kept overlay nothing is left for the next run either: what is beneath it was
    /// said before ([`Overlay::set_beneath`]), or its clone was given up.
    #[must_use]
    pub fn take_all(&mut self) -> TakenSlots<H> {
        if let Some(kept) = &self.kept {
            self.slots.each().for_each(|slot| kept.gone(kept.of(&slot.place)));
        }
        self.tombstones.clear(self.kept.as_ref().map(Keeping::entry));
        self.slots.take()
    }

    /// Slots that have memory.
    #[must_use]
    pub fn slots_used(&self) -> usize {
        self.slots.len() - self.slots.spilled()
    }

    /// Slots that are in scratch space.
    #[must_use]
    #[inline]
    pub fn slots_spilled(&self) -> usize {
        self.slots.spilled()
    }

    /// Tombstone runs in use.
    #[must_use]
    pub fn tombstone_runs(&self) -> usize {
        self.tombstones.runs()
    }

    /// Whether every sector is golden.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.tombstones.runs() == 0
    }

    /// The disk's size in sectors.
    #[must_use]
    pub fn size_sectors(&self) -> u64 {
        self.size_sectors
    }

    /// The range's first sector and the one behind its last, both on the disk.
    fn clip(&self, start_sector: u64, sectors: u32) -> (u64, u64) {
        let end = start_sector.saturating_add(u64::from(sectors)).min(self.size_sectors);
        (start_sector.min(end), end)
    }

    /// Says what a range without live sectors is: tombstones, and the golden between them.
    fn resolve_beneath<'a>(&'a self, start: u64, end: u64, visit: &mut impl FnMut(Piece<'a, H>)) {
        if start >= end {
            return;
        }
        let mut at = start;
        // Both differences fit: every range that comes here was `sectors: u32` long at most.
        for (run_start, run_end) in self.tombstones.within(start, end) {
            if run_start > at {
                visit(Piece::Golden { start_sector: at, sectors: (run_start - at) as u32 });
            }
            visit(Piece::Zero { start_sector: run_start, sectors: (run_end - run_start) as u32 });
            at = run_end;
        }
        if end > at {
            visit(Piece::Golden { start_sector: at, sectors: (end - at) as u32 });
        }
    }
}

/// Which sectors of a slot lie in `start..end`.
fn mask_within(slot_index: u64, start: u64, end: u64) -> u8 {
    let base = slot_index.saturating_mul(PER_SLOT);
    let from = start.saturating_sub(base).min(PER_SLOT) as u32;
    let to = end.saturating_sub(base).min(PER_SLOT) as u32;
    ((0xff_u32 << from) & !(0xff_u32 << to)) as u8
}

/// The runs of ones in a mask: first bit and length.
fn runs(mask: u8) -> impl Iterator<Item = (u32, u32)> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        if rest == 0 {
            return None;
        }
        let first = rest.trailing_zeros();
        let count = (rest >> first).trailing_ones();
        rest &= (0xff_u32 << (first + count)) as u8;
        Some((first, count))
    })
}

#[cfg(test)]
mod tests;
