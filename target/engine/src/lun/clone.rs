//! An ephemeral clone: an overlay in memory on a shared golden image.
//!
//! Write data that already lies in whole slots of the arena is adopted, not copied. A slot that somebody is sending
//! is never written: its live sectors move to a new slot. What was spilled is read where it lies; it comes back into memory
//! only when a part of a slot is written.

use super::Io;
use super::job::Direction;
use super::job::Job;
use super::read_plan::{ReadPlan, Store};
use super::recorder::Recorder;
use super::step::Went;
use crate::cache::Wanted;
use crate::few::Few;
use crate::messages::{GoldenId, KeptClone};
use crate::payload::{Payload, Piece};
use crate::setup::ScratchSetup;
use crate::token::Key;
use stampede_image::align::Alignment;
use stampede_image::cache::{BLOCK, BlockKey, Published};
use stampede_image::ledger::{Beneath, Entry};
use stampede_image::overlay::{
    Keeping, Overlay, OverlayFull, OverlayLimits, Piece as OverlayPiece, Place, SECTOR, SLOT, SlotPart,
    TakenSlots, slot_parts,
};
use stampede_image::range_lock::ByteRange;
use stampede_image::scratch::Run;
use stampede_ring::{Buffer, FileId, Pool, Ring, copy_to_cold};
use stampede_scsi::{LbaState, LbaStatusDescriptor, MediaError};
use std::sync::Arc;

/// What is where the overlay has nothing.
pub(crate) enum Base {
    /// The golden.
    Golden,
    /// Zeros: it was erased.
    Zeros,
    /// A pattern: it was overwritten. This is a slot of it.
    Pattern(Buffer),
}

/// A stretch of a golden, as the cache has it.
pub(super) enum Found {
    /// It is in a block that is in memory.
    Block(Piece),
    /// It is not.
    Missing {
        /// In which block it would be.
        block: u32,
        /// Byte of the golden.
        start: u64,
        /// Byte behind it.
        end: u64,
    },
}

/// The overlay, and what is beneath it.
pub(crate) struct CloneMedium {
    pub(super) golden: GoldenId,
    pub(super) file: FileId,
    pub(super) alignment: Alignment,
    /// The ring reads the golden at once.
    pub(super) in_memory: bool,
    pub(super) base: Base,
    /// Which of the golden's blocks are in the cache, if it is cached.
    pub(super) published: Option<Arc<Published>>,
    pub(super) overlay: Overlay<Buffer>,
    /// What it uses of its golden is recorded.
    pub(super) recorder: Option<Box<Recorder>>,
    /// Where it spills to.
    pub(super) scratch: Option<ScratchSetup>,
    /// Blocks of scratch space that a sanitize operation could not overwrite; the next one tries again.
    pub(super) unwiped: Vec<u32>,
    /// Commands at the last pass of spilling, and passes that there were none before.
    pub(super) commands_before: u64,
    pub(super) idle_passes: u8,
}

/// Where a write gets slots.
///
/// A kept overlay never writes over bytes that count, so a rewrite takes a slot and gives one back. When no slot is free, it
/// takes the spare, and what it replaces is the next spare: so whoever rewrites finds room in a full arena as well.
pub(super) struct Slots<'a> {
    /// All of them.
    pub(super) arena: &'a Arc<Pool>,
    /// The spare, if this shard has kept overlays.
    pub(super) spare: &'a mut Option<Buffer>,
}

/// Why a write is not done, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwritten {
    /// The arena has no free slot.
    NoSpace,
    /// It would write a part of a slot that is in scratch space; nothing is written.
    Spilled,
}

impl Drop for CloneMedium {
    fn drop(&mut self) {
        if self.overlay.is_kept() {
            // It was not ended, so the process ends: the next one finds all this, and nobody may use it until then.
            self.overlay.leave_all().for_each(std::mem::forget);
            if let Base::Pattern(slot) = std::mem::replace(&mut self.base, Base::Zeros) {
                std::mem::forget(slot);
            }
            return;
        }
        // Memory frees itself; a block of scratch space has no handle.
        for place in self.overlay.take_all() {
            release(self.scratch.as_ref(), place);
        }
        for block in std::mem::take(&mut self.unwiped) {
            release(self.scratch.as_ref(), Place::Scratch(block));
        }
    }
}

/// Frees a slot's place.
fn release(scratch: Option<&ScratchSetup>, place: Place<Buffer>) {
    if let (Place::Scratch(block), Some(setup)) = (place, scratch) {
        setup.scratch.release(block);
    }
}

/// The overlay of a kept clone, with what the run before left of it, and what is beneath.
pub(super) fn found(limits: OverlayLimits, kept: KeptClone) -> (Overlay<Buffer>, Base) {
    let entry = Entry::new(kept.ledger, kept.number);
    let mut overlay = Overlay::kept(limits, Keeping::new(entry, Buffer::slot));
    for (slot_index, place, mask) in kept.slots {
        overlay.put_found(slot_index, place, mask);
    }
    let base = match (kept.beneath, kept.pattern) {
        (Beneath::Golden, _) => Base::Golden,
        (Beneath::Pattern, Some(slot)) => Base::Pattern(slot),
        (Beneath::Zeros | Beneath::Pattern, _) => Base::Zeros,
    };
    (overlay, base)
}

impl CloneMedium {
    /// Everything that the clone has is free, and nothing of it left for the next run. The clone is given up already.
    pub(super) fn end(&mut self) {
        for place in self.take_all() {
            release(self.scratch.as_ref(), place);
        }
        self.base = Base::Zeros;
    }

    /// Makes everything zeros for the next run, and hands back all memory and scratch blocks.
    pub(super) fn take_all(&mut self) -> TakenSlots<Buffer> {
        self.overlay.set_beneath(Beneath::Zeros, None);
        if let Base::Pattern(slot) = &self.base {
            self.overlay.pattern_is_gone(slot);
        }
        self.overlay.take_all()
    }

    /// Puts something else where the golden was.
    pub(super) fn set_base(&mut self, base: Base) {
        match &base {
            Base::Golden => self.overlay.set_beneath(Beneath::Golden, None),
            Base::Zeros => self.overlay.set_beneath(Beneath::Zeros, None),
            Base::Pattern(slot) => self.overlay.set_beneath(Beneath::Pattern, Some(slot)),
        }
        self.base = base;
    }

    /// Begins to read a range; `None` when buffers are missing.
    pub(super) fn read<R: Ring>(
        &self,
        job: &mut Job,
        key: Key,
        range: ByteRange,
        io: &mut Io<'_, R>,
    ) -> Option<()> {
        loop {
            match self.plan(range, job.past_cache, io) {
                Ok(plan) => return plan.begin(job, key, io),
                Err(missing) => self.want(missing, job, key, io),
            }
            if job.is_waiting() {
                return Some(());
            }
        }
    }

    /// Where the bytes of a range are; or which blocks the cache is to bring, unless they are to be read past it.
    fn plan<R: Ring>(
        &self,
        range: ByteRange,
        past_cache: bool,
        io: &mut Io<'_, R>,
    ) -> Result<ReadPlan, Few<u32>> {
        let mut plan = ReadPlan::default();
        let mut missing = Few::None;
        let sectors = u32::try_from(range.len / SECTOR).unwrap_or(u32::MAX);
        self.overlay.resolve(range.start / SECTOR, sectors, |piece| match piece {
            OverlayPiece::Slot { handle, offset_in_slot, sectors, .. } => {
                plan.ready(handle.clone(), offset_in_slot, sectors * SECTOR as u32);
            }
            OverlayPiece::Zero { sectors, .. } => plan.zeros(io.zeros, u64::from(sectors) * SECTOR),
            OverlayPiece::Spilled { block, offset_in_slot, start_sector, sectors } => {
                let Some(setup) = &self.scratch else { return };
                let run = Run { start: block, blocks: 1 };
                let start = run.offset() + u64::from(offset_in_slot);
                plan.hold(setup.scratch.hold(run));
                let store = Store::scratch(setup.file, start, start_sector * SECTOR);
                plan.file(&store, start, start + u64::from(sectors) * SECTOR);
            }
            OverlayPiece::Golden { start_sector, sectors } => match &self.base {
                Base::Golden => {
                    let start = start_sector * SECTOR;
                    let end = start + u64::from(sectors) * SECTOR;
                    self.in_blocks(start, end, io, |found| match found {
                        Found::Block(Piece { buffer, start, len }) => plan.ready(buffer, start, len),
                        Found::Missing { block, .. } if !past_cache => missing.push(block),
                        Found::Missing { start, end, .. } => {
                            plan.file(&Store::image(self.file, self.alignment), start, end);
                        }
                    });
                }
                Base::Zeros => plan.zeros(io.zeros, u64::from(sectors) * SECTOR),
                Base::Pattern(slot) => {
                    for part in slot_parts(start_sector, sectors) {
                        plan.ready(slot.clone(), part.offset_in_slot(), part.sectors * SECTOR as u32);
                    }
                }
            },
        });
        if missing.is_empty() { Ok(plan) } else { Err(missing) }
    }

    /// Looks bytes `start..end` of the golden up in the cache, block by block.
    pub(super) fn in_blocks<R: Ring>(
        &self,
        start: u64,
        end: u64,
        io: &mut Io<'_, R>,
        mut visit: impl FnMut(Found),
    ) {
        let (Some(published), Some(cache)) = (&self.published, &io.cache) else {
            return visit(Found::Missing { block: u32::MAX, start, end });
        };
        if let Some(recorder) = &self.recorder {
            recorder.note(start, end, io.now_ns);
        }
        let mut at = start;
        while at < end {
            // A golden beyond 2^32 blocks is not cached.
            let block = (at / BLOCK) as u32;
            let until = end.min((u64::from(block) + 1) * BLOCK);
            visit(match cache.pin(published, block) {
                Some(buffer) => {
                    io.counters.cache_hits += 1;
                    Found::Block(Piece { buffer, start: (at % BLOCK) as u32, len: (until - at) as u32 })
                }
                None => Found::Missing { block, start: at, end: until },
            });
            at = until;
        }
    }

    /// Asks for blocks that are not in the cache.
    fn want<R: Ring>(&self, missing: Few<u32>, job: &mut Job, key: Key, io: &mut Io<'_, R>) {
        job.next_round();
        let Some(cache) = io.cache.as_deref_mut().filter(|_| self.published.is_some()) else {
            job.past_cache = true;
            return;
        };
        for block in missing {
            let block = BlockKey { golden: self.golden.0, block };
            match cache.want(block, key, io.pusher, io.counters) {
                Wanted::Waits => job.awaits_block(),
                Wanted::Look => {}
                Wanted::Past => job.past_cache = true,
            }
        }
    }

    /// Writes a payload at byte `at` of the disk. Both are moved along: on error the payload is what is not written.
    ///
    /// # Errors
    /// What stands in the way; see [`Unwritten`].
    pub(super) fn write(
        &mut self,
        at: &mut u64,
        payload: &mut Payload,
        slots: &mut Slots<'_>,
    ) -> Result<(), Unwritten> {
        if self.overlay.slots_spilled() > 0 && self.spilled_in_part(*at, payload.len()).next().is_some() {
            return Err(Unwritten::Spilled);
        }
        let mut pieces = std::mem::take(&mut payload.0).into_iter();
        while let Some(mut piece) = pieces.next() {
            let len = u64::from(piece.len);
            let in_slot = *at % SLOT;
            let is_slot = Arc::ptr_eq(piece.buffer.pool(), slots.arena) && !piece.buffer.is_shared();
            if is_slot && u64::from(piece.start) == in_slot && in_slot + len <= SLOT {
                self.adopt(*at, piece);
                *at += len;
                continue;
            }
            let done = self.copy(*at, &piece, slots);
            *at += u64::from(done);
            if done < piece.len {
                (piece.start, piece.len) = (piece.start + done, piece.len - done);
                payload.0 = std::iter::once(piece).chain(pieces).collect();
                return Err(Unwritten::NoSpace);
            }
        }
        Ok(())
    }

    /// Takes the piece's slot over, or its bytes where the disk's slot can take them.
    fn adopt(&mut self, at: u64, mut piece: Piece) {
        let sectors = (u64::from(piece.len) / SECTOR) as u32;
        let Some(part) = slot_parts(at / SECTOR, sectors).next() else { return };
        let mut mask = part.mask();
        if let Some(mut slot) = self.overlay.slot_mut(part.slot_index)
            && slot.live() & !mask != 0
        {
            if slot.memory(mask).is_some_and(|memory| put(memory, &part, piece.bytes())) {
                return slot.add(mask);
            }
            let kept = slot.live() & !mask;
            slot.bytes().into_iter().for_each(|from| carry_over(from, kept, &mut piece.buffer));
            mask |= kept;
        }
        self.install(part.slot_index, piece.buffer, mask);
    }

    /// Copies a piece into the slots it covers; how much of it, in bytes: all, unless the arena has no free slot.
    fn copy(&mut self, at: u64, piece: &Piece, slots: &mut Slots<'_>) -> u32 {
        let (mut rest, mut done) = (piece.bytes(), 0);
        for part in slot_parts(at / SECTOR, (u64::from(piece.len) / SECTOR) as u32) {
            let (bytes, behind) = rest.split_at(part.sectors as usize * SECTOR as usize);
            rest = behind;
            let mut mask = part.mask();
            if let Some(mut slot) = self.overlay.slot_mut(part.slot_index)
                && slot.memory(mask).is_some_and(|memory| put(memory, &part, bytes))
            {
                slot.add(mask);
                done += bytes.len() as u32;
                continue;
            }
            let Some(mut fresh) = self.slot_for(part.slot_index, slots) else { return done };
            // What is in scratch space is replaced as a whole: `write` has looked.
            if let Some((Place::Memory(slot), live)) = self.overlay.slot(part.slot_index) {
                carry_over(slot, live & !mask, &mut fresh);
                mask |= live;
            }
            put(&mut fresh, &part, bytes);
            match self.overlay.install(part.slot_index, fresh, mask) {
                Some(Place::Memory(replaced)) if slots.spare.is_none() && self.overlay.is_kept() => {
                    *slots.spare = Some(replaced);
                }
                replaced => replaced.into_iter().for_each(|place| release(self.scratch.as_ref(), place)),
            }
            done += bytes.len() as u32;
        }
        done
    }

    /// A slot to write slot `slot_index` of the disk to.
    fn slot_for(&self, slot_index: u64, slots: &mut Slots<'_>) -> Option<Buffer> {
        slots.arena.take().or_else(|| {
            // Only for what gives back one that nobody else holds.
            let Some((Place::Memory(replaced), _)) = self.overlay.slot(slot_index) else { return None };
            slots.spare.take_if(|spare| self.overlay.is_kept() && !replaced.is_shared() && !spare.is_shared())
        })
    }

    #[inline]
    fn install(&mut self, slot_index: u64, buffer: Buffer, mask: u8) {
        if let Some(place) = self.overlay.install(slot_index, buffer, mask) {
            release(self.scratch.as_ref(), place);
        }
    }

    fn spilled_in_part(&self, start: u64, len: u64) -> impl Iterator<Item = (u64, u32)> + '_ {
        let sectors = u32::try_from(len / SECTOR).unwrap_or(u32::MAX);
        self.overlay.spilled_in_part(start / SECTOR, sectors)
    }

    /// Puts before what is left of a payload what of it was just written, from byte `start` to byte `at` of the disk.
    #[cold]
    pub(super) fn unwrite(&self, start: u64, at: u64, rest: &mut Payload) {
        let mut pieces = Few::None;
        self.overlay.resolve(start / SECTOR, ((at - start) / SECTOR) as u32, |piece| {
            if let OverlayPiece::Slot { handle, offset_in_slot, sectors, .. } = piece {
                let len = sectors * SECTOR as u32;
                pieces.push(Piece { buffer: handle.clone(), start: offset_in_slot, len });
            }
        });
        rest.0 = pieces.into_iter().chain(std::mem::take(&mut rest.0)).collect();
    }

    /// Begins to read those spilled slots that what the job writes would change in part, into slots of the arena.
    #[cold]
    pub(super) fn begin_return<R: Ring>(&self, job: &mut Job, key: Key, io: &mut Io<'_, R>) -> Went {
        let Some(setup) = &self.scratch else { return Went::Failed(MediaError::NoSpace) };
        let returns: Vec<_> = self.spilled_in_part(job.write_start, job.write.len()).collect();
        let (mut holds, mut slots) = (Vec::new(), Vec::new());
        for (_, block) in &returns {
            match io.arena.take() {
                Some(slot) => slots.push(slot),
                None if io.spills => return Went::Starved,
                None => return Went::Failed(MediaError::NoSpace),
            }
            match setup.scratch.hold(Run { start: *block, blocks: 1 }) {
                Some(hold) => holds.push(hold),
                None => return Went::Starved,
            }
        }
        for ((index, block), slot) in returns.iter().zip(slots) {
            let offset = Run { start: *block, blocks: 1 }.offset();
            let place = (Direction::Read, setup.file, offset);
            let transfer = job.transfer(key, place, (slot, 0, SLOT as u32), SLOT as u32, io);
            job.transfers[usize::from(transfer)].shift = (index * SLOT).wrapping_sub(offset);
        }
        job.hold(holds, io);
        if let Some(spilled) = &mut job.spilled {
            spilled.returns = returns;
        }
        Went::Transfers
    }

    /// They are read.
    #[cold]
    pub(super) fn end_return(&mut self, job: &mut Job) {
        let Some(spilled) = job.spilled.take() else { return };
        let transfers = std::mem::take(&mut job.transfers);
        for ((index, block), transfer) in spilled.returns.iter().zip(transfers) {
            let Some(buffer) = transfer.buffer else { continue };
            if self.overlay.bring_back(*index, *block, buffer) {
                release(self.scratch.as_ref(), Place::Scratch(*block));
            }
        }
    }

    /// Writes a payload of whole slots at byte `start` of the disk, a slot's begin: all of it or nothing.
    ///
    /// # Errors
    /// [`Unwritten::NoSpace`] when the arena has not enough free slots; nothing is written.
    pub(super) fn write_whole(
        &mut self,
        start: u64,
        payload: &Payload,
        arena: &Arc<Pool>,
    ) -> Result<(), Unwritten> {
        debug_assert!(start.is_multiple_of(SLOT) && payload.len().is_multiple_of(SLOT));
        let mut slots = Vec::with_capacity((payload.len() / SLOT) as usize);
        for _ in 0..payload.len() / SLOT {
            slots.push(arena.take().ok_or(Unwritten::NoSpace)?);
        }
        let mut at = 0;
        for slice in payload.slices() {
            let mut rest = slice;
            while !rest.is_empty() {
                let (index, offset) = (at / SLOT as usize, at % SLOT as usize);
                let (bytes, behind) = rest.split_at(rest.len().min(SLOT as usize - offset));
                if let Some(target) = slots.get_mut(index).and_then(Buffer::bytes_mut) {
                    target[offset..offset + bytes.len()].copy_from_slice(bytes);
                }
                at += bytes.len();
                rest = behind;
            }
        }
        let scratch = self.scratch.as_ref();
        self.overlay.install_whole(start / SLOT, slots.into_iter(), |place| release(scratch, place));
        Ok(())
    }

    /// Which blocks from `lba` on are mapped, as far as one look goes: what the clone or its golden has is, what was
    /// unmapped or zeroed is not.
    pub(super) fn lba_status(&self, lba: u64, blocks: u64, block_size: u32) -> Vec<LbaStatusDescriptor> {
        let per_block = u64::from(block_size) / SECTOR;
        if self.overlay.is_empty() && matches!(self.base, Base::Zeros) {
            let count = u32::try_from(blocks.saturating_sub(lba)).unwrap_or(u32::MAX);
            return vec![LbaStatusDescriptor { lba, count, state: LbaState::Deallocated }];
        }
        let end = blocks.min(lba.saturating_add(STATUS_SECTORS_MAX / per_block));
        let mut runs = StatusRuns { list: Vec::new(), next: lba, zero: None, per_block };
        let sectors = u32::try_from((end - lba) * per_block).unwrap_or(u32::MAX);
        self.overlay.resolve(lba * per_block, sectors, |piece| match piece {
            OverlayPiece::Zero { start_sector, sectors } => runs.zero(start_sector, sectors),
            OverlayPiece::Golden { start_sector, sectors } if matches!(self.base, Base::Zeros) => {
                runs.zero(start_sector, sectors);
            }
            OverlayPiece::Slot { .. } | OverlayPiece::Spilled { .. } | OverlayPiece::Golden { .. } => {
                runs.settle();
            }
        });
        runs.settle();
        runs.until(end, LbaState::Mapped);
        runs.list
    }

    /// Makes a range read as zeros.
    ///
    /// # Errors
    /// The overlay remembers as many zeroed ranges as it may.
    pub(super) fn zero(&mut self, range: ByteRange) -> Result<(), OverlayFull> {
        let (mut at, end) = (range.start / SECTOR, range.end() / SECTOR);
        while at < end {
            let sectors = u32::try_from(end - at).unwrap_or(u32::MAX);
            let scratch = self.scratch.as_ref();
            self.overlay.zero(at, sectors, |place| release(scratch, place))?;
            at += u64::from(sectors);
        }
        Ok(())
    }
}

/// Sectors that one GET LBA STATUS looks at: 64 MiB, so that it holds the shard for some ten microseconds only.
const STATUS_SECTORS_MAX: u64 = (64 << 20) / SECTOR;

/// Descriptors in the making: runs of sectors become runs of blocks.
struct StatusRuns {
    list: Vec<LbaStatusDescriptor>,
    /// The first block that is in no descriptor yet.
    next: u64,
    /// Sectors that read as zeros, from and to, which may go on.
    zero: Option<(u64, u64)>,
    per_block: u64,
}

impl StatusRuns {
    fn zero(&mut self, start: u64, sectors: u32) {
        let end = start + u64::from(sectors);
        match &mut self.zero {
            Some((_, until)) if *until == start => *until = end,
            _ => {
                self.settle();
                self.zero = Some((start, end));
            }
        }
    }

    /// The run of zeros is over: the whole blocks in it are deallocated.
    fn settle(&mut self) {
        let Some((start, end)) = self.zero.take() else { return };
        let (first, behind) = (start.div_ceil(self.per_block), end / self.per_block);
        if first < behind {
            self.until(first, LbaState::Mapped);
            self.until(behind, LbaState::Deallocated);
        }
    }

    /// All blocks up to `end` that are in no descriptor yet have this state.
    fn until(&mut self, end: u64, state: LbaState) {
        if end <= self.next {
            return;
        }
        // At most what one look goes over, which fits.
        let count = u32::try_from(end - self.next).unwrap_or(u32::MAX);
        match self.list.last_mut().filter(|last| last.state == state) {
            Some(last) => last.count += count,
            None => self.list.push(LbaStatusDescriptor { lba: self.next, count, state }),
        }
        self.next = end;
    }
}

/// Writes a part of a slot, unless somebody else holds the slot.
fn put(slot: &mut Buffer, part: &SlotPart, bytes: &[u8]) -> bool {
    let Some(target) = slot.bytes_mut() else { return false };
    let start = part.offset_in_slot() as usize;
    copy_to_cold(&mut target[start..start + bytes.len()], bytes);
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

#[cfg(test)]
mod tests {
    use super::*;
    use stampede_image::ledger::{CloneFacts, CloneNumber, Ledger, Parts, Words};
    use stampede_ring::{IoMemory, PoolConfig};
    use std::sync::atomic::AtomicU64;

    fn clone() -> CloneMedium {
        let limits = OverlayLimits { tombstone_runs_max: 100, size_bytes: 1 << 30 };
        CloneMedium {
            golden: GoldenId(0),
            file: FileId(0),
            alignment: Alignment { memory: 512, offset: 512 },
            in_memory: false,
            base: Base::Golden,
            published: None,
            overlay: Overlay::new(limits),
            scratch: None,
            unwiped: Vec::new(),
            commands_before: 0,
            idle_passes: 0,
            recorder: None,
        }
    }

    fn zeroed(clone: &mut CloneMedium, sectors: std::ops::Range<u64>) {
        let len = (sectors.end - sectors.start) * SECTOR;
        clone.zero(ByteRange { start: sectors.start * SECTOR, len }).unwrap();
    }

    fn status(clone: &CloneMedium, lba: u64, block_size: u32) -> Vec<(u64, u32, bool)> {
        let blocks = (1 << 30) / u64::from(block_size);
        let list = clone.lba_status(lba, blocks, block_size);
        list.iter().map(|run| (run.lba, run.count, run.state == LbaState::Mapped)).collect()
    }

    #[test]
    fn what_was_unmapped_is_deallocated_and_the_rest_is_mapped() {
        let mut clone = clone();
        const LOOK: u32 = STATUS_SECTORS_MAX as u32;
        assert_eq!(status(&clone, 5, 512), [(5, LOOK, true)]);
        zeroed(&mut clone, 8..24);
        zeroed(&mut clone, 24..30);
        let arena = Pool::new(PoolConfig { slot_len: SLOT as u32, slots: 4 }).unwrap();
        let memory = IoMemory::new(1 << 20).unwrap();
        let mut block = Payload::copied(&memory, &[7; 512]).unwrap();
        clone.write(&mut (12 * SECTOR), &mut block, &mut Slots { arena: &arena, spare: &mut None }).unwrap();
        let found = status(&clone, 0, 512);
        assert_eq!(found[..4], [(0, 8, true), (8, 4, false), (12, 1, true), (13, 17, false)]);
        assert_eq!(found[4], (30, LOOK - 30, true));
        assert_eq!(status(&clone, 9, 512)[0], (9, 3, false), "begins at the block asked for");
        // Of 4,096-byte blocks only whole ones are deallocated.
        assert_eq!(status(&clone, 0, 4096)[..3], [(0, 2, true), (2, 1, false), (3, LOOK / 8 - 3, true)]);
        let end = (1 << 30) / 512;
        assert_eq!(status(&clone, end - 3, 512), [(end - 3, 3, true)]);
    }

    #[test]
    fn an_atomic_write_without_room_writes_nothing() {
        let mut clone = clone();
        let arena = Pool::new(PoolConfig { slot_len: SLOT as u32, slots: 3 }).unwrap();
        let memory = IoMemory::new(1 << 20).unwrap();
        let payload = Payload::copied(&memory, &[7; 4 * 4096]).unwrap();
        assert_eq!(clone.write_whole(SLOT, &payload, &arena), Err(Unwritten::NoSpace));
        assert!(clone.overlay.is_empty());
        let bytes: Vec<u8> = (0..3 * 4096u32).map(|at| (at / 512) as u8).collect();
        let payload = Payload::copied(&memory, &bytes).unwrap();
        clone.write_whole(SLOT, &payload, &arena).unwrap();
        for slot in 0..3 {
            let Some((Place::Memory(buffer), live)) = clone.overlay.slot(1 + slot) else { panic!() };
            let start = slot as usize * 4096;
            assert_eq!((buffer.bytes(), live), (&bytes[start..start + 4096], u8::MAX));
        }
    }

    /// One whose overlay is recorded in a ledger of its own, of an arena of three slots.
    fn kept_clone() -> (CloneMedium, Arc<Ledger>, CloneNumber) {
        let words = |count: usize| -> Box<dyn Words> {
            let words: Box<[AtomicU64]> = (0..count).map(|_| AtomicU64::new(0)).collect();
            Box::new(words)
        };
        let parts = Parts { clones: words(64), arena: words(3), scratch: words(0), runs: words(1 << 15) };
        let ledger = Arc::new(Ledger::new(parts));
        let number = ledger.enter(&CloneFacts { epoch: 1, owner: 2, lun: 3, golden: [4, 5] }).unwrap();
        let limits = OverlayLimits { tombstone_runs_max: 100, size_bytes: 1 << 30 };
        let (overlay, base) = found(limits, KeptClone::empty(Arc::clone(&ledger), number));
        let mut clone = clone();
        (clone.overlay, clone.base) = (overlay, base);
        (clone, ledger, number)
    }

    /// A kept clone never writes over what counts, so it needs a slot for each rewrite; in a full arena that is the spare.
    #[test]
    fn a_kept_clone_rewrites_in_a_full_arena_and_leaves_all_to_the_next_run() {
        let (mut clone, ledger, number) = kept_clone();
        let arena = Pool::new(PoolConfig { slot_len: SLOT as u32, slots: 3 }).unwrap();
        let memory = IoMemory::new(1 << 20).unwrap();
        let mut spare = arena.take();
        for (round, sector) in [(1, 0), (2, 8), (3, 0), (4, 9), (5, 0), (6, 0)] {
            let mut block = Payload::copied(&memory, &[round; 512]).unwrap();
            let mut slots = Slots { arena: &arena, spare: &mut spare };
            clone.write(&mut (sector * SECTOR), &mut block, &mut slots).unwrap();
        }
        let mut block = Payload::copied(&memory, &[7; 512]).unwrap();
        let mut slots = Slots { arena: &arena, spare: &mut spare };
        let refused = clone.write(&mut (16 * SECTOR), &mut block, &mut slots);
        assert_eq!(refused, Err(Unwritten::NoSpace), "the spare is for rewrites only");
        drop(clone);
        assert_eq!(arena.in_use(), 3, "nobody uses what the next run will find");
        let contents = ledger.rebuild(&[number].into()).remove(&number).unwrap();
        let found: Vec<_> = contents.slots.iter().map(|found| (found.slot_index, found.mask)).collect();
        assert_eq!(found, [(0, 1), (1, 3)]);
    }

    #[test]
    fn a_kept_clone_that_is_dropped_leaves_nothing() {
        let (mut clone, ledger, number) = kept_clone();
        let arena = Pool::new(PoolConfig { slot_len: SLOT as u32, slots: 3 }).unwrap();
        let mut block = Payload::copied(&IoMemory::new(1 << 20).unwrap(), &[7; 512]).unwrap();
        clone.write(&mut 0, &mut block, &mut Slots { arena: &arena, spare: &mut None }).unwrap();
        zeroed(&mut clone, 8..24);
        clone.set_base(Base::Pattern(arena.take().unwrap()));
        clone.end();
        drop(clone);
        assert_eq!(arena.in_use(), 0);
        let contents = ledger.rebuild(&[number].into()).remove(&number).unwrap();
        assert_eq!((contents.slots.len(), contents.pattern), (0, None));
    }
}
