//! An ephemeral clone: an overlay in memory on a shared golden image.
//!
//! Write data that already lies in whole slots of the arena is adopted, not copied. A slot that somebody is sending
//! is never written: its live sectors move to a new slot.

use super::Io;
use super::job::Job;
use super::read_plan::ReadPlan;
use crate::messages::GoldenId;
use crate::payload::{Payload, Piece};
use crate::token::Key;
use stampede_image::align::Alignment;
use stampede_image::overlay::{
    Overlay, OverlayFull, Piece as OverlayPiece, SECTOR, SLOT, SlotPart, slot_parts,
};
use stampede_image::range_lock::ByteRange;
use stampede_ring::{Buffer, FileId, Pool, Ring};
use stampede_scsi::MediaError;
use std::sync::Arc;

/// The overlay, and the golden beneath it.
pub(crate) struct CloneMedium {
    pub(super) golden: GoldenId,
    pub(super) file: FileId,
    pub(super) alignment: Alignment,
    pub(super) overlay: Overlay<Buffer>,
}

impl CloneMedium {
    /// Begins to read a range; `None` when buffers are missing.
    pub(super) fn read<R: Ring>(
        &self,
        job: &mut Job,
        key: Key,
        range: ByteRange,
        io: &mut Io<'_, R>,
    ) -> Option<()> {
        let mut plan = ReadPlan::default();
        let sectors = u32::try_from(range.len / SECTOR).unwrap_or(u32::MAX);
        self.overlay.resolve(range.start / SECTOR, sectors, |piece| match piece {
            OverlayPiece::Slot { handle, offset_in_slot, sectors, .. } => {
                plan.ready(handle.clone(), offset_in_slot, sectors * SECTOR as u32);
            }
            OverlayPiece::Zero { sectors, .. } => plan.zeros(io.zeros, u64::from(sectors) * SECTOR),
            OverlayPiece::Golden { start_sector, sectors } => {
                let start = start_sector * SECTOR;
                plan.file(self.alignment, start, start + u64::from(sectors) * SECTOR);
            }
        });
        plan.begin(job, key, self.file, io)
    }

    /// Writes a payload at byte `start` of the disk.
    ///
    /// # Errors
    /// `NoSpace` when the arena has no free slot; what came before is written.
    pub(super) fn write(
        &mut self,
        start: u64,
        payload: Payload,
        arena: &Arc<Pool>,
    ) -> Result<(), MediaError> {
        let mut at = start;
        for piece in payload.0 {
            let len = u64::from(piece.len);
            let in_slot = at % SLOT;
            let is_slot = Arc::ptr_eq(piece.buffer.pool(), arena) && !piece.buffer.is_shared();
            if is_slot && u64::from(piece.start) == in_slot && in_slot + len <= SLOT {
                self.adopt(at, piece);
            } else {
                self.copy(at, &piece, arena)?;
            }
            at += len;
        }
        Ok(())
    }

    /// Takes the piece's slot over, or its bytes where the disk's slot can take them.
    fn adopt(&mut self, at: u64, mut piece: Piece) {
        let sectors = (u64::from(piece.len) / SECTOR) as u32;
        let Some(part) = slot_parts(at / SECTOR, sectors).next() else { return };
        let mut mask = part.mask();
        if let Some((slot, live)) = self.overlay.slot_mut(part.slot_index)
            && *live & !mask != 0
        {
            if put(slot, &part, piece.bytes()) {
                *live |= mask;
                return;
            }
            carry_over(slot, *live & !mask, &mut piece.buffer);
            mask |= *live;
        }
        self.overlay.install(part.slot_index, piece.buffer, mask);
    }

    /// Copies a piece into the slots it covers.
    fn copy(&mut self, at: u64, piece: &Piece, arena: &Arc<Pool>) -> Result<(), MediaError> {
        let mut rest = piece.bytes();
        for part in slot_parts(at / SECTOR, (u64::from(piece.len) / SECTOR) as u32) {
            let (bytes, behind) = rest.split_at(part.sectors as usize * SECTOR as usize);
            rest = behind;
            let mut mask = part.mask();
            if let Some((slot, live)) = self.overlay.slot_mut(part.slot_index)
                && put(slot, &part, bytes)
            {
                *live |= mask;
                continue;
            }
            let mut fresh = arena.take().ok_or(MediaError::NoSpace)?;
            if let Some((slot, live)) = self.overlay.slot(part.slot_index) {
                carry_over(slot, live & !mask, &mut fresh);
                mask |= live;
            }
            put(&mut fresh, &part, bytes);
            self.overlay.install(part.slot_index, fresh, mask);
        }
        Ok(())
    }

    /// Makes a range read as zeros.
    ///
    /// # Errors
    /// The overlay remembers as many zeroed ranges as it may.
    pub(super) fn zero(&mut self, range: ByteRange) -> Result<(), OverlayFull> {
        let (mut at, end) = (range.start / SECTOR, range.end() / SECTOR);
        while at < end {
            let sectors = u32::try_from(end - at).unwrap_or(u32::MAX);
            self.overlay.zero(at, sectors, drop)?;
            at += u64::from(sectors);
        }
        Ok(())
    }
}

/// Writes a part of a slot, unless somebody else holds the slot.
fn put(slot: &mut Buffer, part: &SlotPart, bytes: &[u8]) -> bool {
    let Some(target) = slot.bytes_mut() else { return false };
    let start = part.offset_in_slot() as usize;
    target[start..start + bytes.len()].copy_from_slice(bytes);
    true
}

/// Copies the sectors of `mask` from one slot to the same places of another.
fn carry_over(from: &Buffer, mask: u8, to: &mut Buffer) {
    let Some(target) = to.bytes_mut() else { return };
    for sector in (0..8).filter(|sector| mask & (1 << sector) != 0) {
        let range = sector * SECTOR as usize..(sector + 1) * SECTOR as usize;
        target[range.clone()].copy_from_slice(&from.bytes()[range]);
    }
}
