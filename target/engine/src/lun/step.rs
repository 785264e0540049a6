//! The steps of a job: which follows which, and what each does.
//!
//! ```text
//!  Read                Read ─────────────────────────────────────────────────► end
//!  Verify              Read ─► Compare ──────────────────────────────────────► end       (data)
//!  Verify              Scan ⟲ ───────────────────────────────────────────────► end       (medium only)
//!  Write               Lock ─► Align ─► Merge ─► Write ─► [Flush] ────────────► end
//!  WriteVerify         Lock ─► Align ─► Merge ─► Write ─► Flush ─► Read ─► Compare ─► end
//!  CompareWrite        Lock ─► Read ─► Compare ─► Align ─► Merge ─► Write ─► [Flush] ─► end
//!  WriteAtomic         Lock ─► Write ───────────────────────────────────────────► end       (a file's: see journal)
//!  OrWrite, AndWrite   Lock ─► Read ─► Combine ─► Align ─► Merge ─► Write ─► [Flush] ─► end
//!  Unmap, WriteSame    Lock ─► Zero ─► [Flush] ───────────────────────────────► end
//!                                └► Fill ─► Align ─► Merge ─► Write ⟲ ─► [Flush] ─► end   (pattern, or no Zero)
//!  LbaStatus           Survey ────────────────────────────────────────────────► end
//!  Flush               Flush ─────────────────────────────────────────────────► end
//! ```

use super::clone::Unwritten;
use super::job::{Job, Lock};
use super::journal::During;
use super::lba_status::of_stretches;
use super::{Io, Lun, Medium, lock_owner, read_outcome};
use crate::few::Few;
use crate::payload::{Payload, Piece};
use crate::request::Outcome;
use crate::token::Key;
use stampede_image::range_lock::{Acquired, ByteRange, Kind as LockKind};
use stampede_ring::{IoMemory, Operation, Ring};
use stampede_scsi::{
    LbaStatusDescriptor, Media, MediaError, Pattern, VerifyMode, lba_status_reply, media_done,
};

/// A step of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Acquire the range, exclusively.
    Lock,
    /// Read the range.
    Read,
    /// Read the range chunk by chunk and drop it.
    Scan,
    /// Compare what was read with data-out.
    Compare,
    /// OR data-out into what was read, or AND; that is to be written.
    Combine,
    /// Read the blocks around a write that is no whole number of the device's blocks.
    Align,
    /// Put the write's data into those blocks, and encrypt what is written, if it is.
    Merge,
    /// Write.
    Write,
    /// Zero or unmap in the file, if it can.
    Zero,
    /// Prepare the next chunk of a pattern.
    Fill,
    /// Make it durable.
    Flush,
    /// Look where the file has data and where holes.
    Survey,
    /// Take a slot of the journal of atomic writes.
    Slot,
    /// Find space for an atomic write.
    Reserve,
    /// Announce an atomic write in the journal.
    Intent,
    /// Make that durable.
    Log,
    /// Withdraw it.
    Retire,
    /// Make that durable.
    Retired,
    /// What failed meanwhile, or an abort, ends the command now.
    Over,
    /// Nothing is left to do.
    End,
}

/// How a step went.
pub(super) enum Went {
    /// It is done.
    Done,
    /// Its transfers are under way.
    Transfers,
    /// Blocks of the cache are on their way: it is to be done again when they are there.
    Fetching,
    /// The range is somebody else's for now.
    Locked,
    /// No buffers are free.
    Starved,
    /// It is to be done further in another turn.
    Rests,
    /// It cannot be done.
    Failed(MediaError),
}

/// How far a job ran.
pub(super) enum Run {
    /// It waits for transfers or for its range.
    Waits,
    /// It waits for buffers.
    Starved,
    /// It has had its share of the turn.
    Rests,
    /// It has ended.
    Ended(Outcome),
}

/// Bytes per go of the steps that work in chunks.
const CHUNK: u64 = IoMemory::BUFFER_MAX as u64;

impl Step {
    /// Where a job starts.
    pub(super) fn first(media: &Media) -> Self {
        match media {
            Media::Read { .. } => Self::Read,
            Media::Verify { mode: VerifyMode::MediumOnly, .. } => Self::Scan,
            Media::Verify { .. } => Self::Read,
            Media::Flush { .. } => Self::Flush,
            Media::Prefetch { .. } => Self::End,
            Media::LbaStatus { .. } => Self::Survey,
            _ => Self::Lock,
        }
    }

    /// What is at fault when it fails and an intent may have been written.
    fn during(self) -> During {
        match self {
            Self::Intent | Self::Log => During::Journal,
            Self::Retire | Self::Retired => During::Retirement,
            _ => During::Image,
        }
    }

    /// What follows a step that is done.
    fn next(self, job: &Job) -> Self {
        let media = job.media();
        match (self, media) {
            (Self::Lock, Media::Write { .. } | Media::WriteVerify { .. } | Media::WriteAtomic { .. }) => {
                Self::Align
            }
            (Self::Lock, Media::Unmap { .. }) => Self::Zero,
            (Self::Lock, Media::WriteSame { pattern: Pattern::Zero, .. }) => Self::Zero,
            (Self::Lock, Media::WriteSame { unmap: true, .. }) if pattern_is_zero(job) => Self::Zero,
            (Self::Lock, Media::WriteSame { .. }) => Self::Fill,
            (Self::Lock, _) => Self::Read,
            (Self::Read, Media::Read { .. }) => Self::End,
            (Self::Read, Media::OrWrite { .. } | Media::AndWrite { .. }) => Self::Combine,
            (Self::Read, _) => Self::Compare,
            (Self::Compare, Media::CompareWrite { .. }) => Self::Align,
            (Self::Compare | Self::Scan, _) => Self::End,
            (Self::Combine | Self::Fill, _) => Self::Align,
            (Self::Align, _) => Self::Merge,
            (Self::Merge, Media::WriteAtomic { .. }) => Self::Slot,
            (Self::Slot, _) if job.announced.has_slot() => Self::Reserve,
            (Self::Reserve, _) => Self::Intent,
            (Self::Intent, _) => Self::Log,
            (Self::Slot | Self::Log | Self::Merge, _) => Self::Write,
            (Self::Write, _) if job.announced.begun => Self::Flush,
            (Self::Flush, _) if job.announced.begun => Self::Retire,
            (Self::Retire, _) => Self::Retired,
            (Self::Retired, _) => Self::Over,
            (Self::Write, Media::WriteSame { .. } | Media::Unmap { .. }) if job.cursor < job.range().len => {
                Self::Fill
            }
            (Self::Zero, Media::WriteSame { .. }) if job.unsupported => Self::Fill,
            (Self::Write | Self::Zero, media) if durable(media) => Self::Flush,
            (Self::Flush, Media::WriteVerify { .. }) => Self::Read,
            (Self::Write | Self::Zero | Self::Flush | Self::Over | Self::Survey | Self::End, _) => Self::End,
        }
    }
}

/// Whether the status must wait until the data is durable.
fn durable(media: &Media) -> bool {
    match *media {
        Media::Write { fua, .. }
        | Media::CompareWrite { fua, .. }
        | Media::OrWrite { fua, .. }
        | Media::AndWrite { fua, .. }
        | Media::WriteAtomic { fua, .. }
        | Media::WriteSame { fua, .. } => fua,
        Media::WriteVerify { .. } => true,
        _ => false,
    }
}

fn pattern_is_zero(job: &Job) -> bool {
    job.data().slices().flatten().all(|byte| *byte == 0)
}

impl Job {
    /// Runs from where the job stands until it waits or ends. Called at first, and whenever what it waited for is
    /// there.
    pub(super) fn run<R: Ring>(&mut self, key: Key, lun: &mut Lun, io: &mut Io<'_, R>) -> Run {
        if self.is_waiting() || self.lock == Lock::Waiting {
            return Run::Waits;
        }
        // Transfers of the current step have just completed, or a lock was granted: the step is done.
        let mut entered = !self.transfers.is_empty() || (self.step == Step::Lock && self.lock == Lock::Held);
        // Or what was read is being decrypted.
        entered |= self.ciphered.is_some() && self.step != Step::Merge;
        loop {
            if let Some(error) = self.error.take() {
                if !self.announced.begun {
                    return Run::Ended(lun.device.media_failed(&error, self.media()).into());
                }
                if !self.withdraw(error, lun, self.step.during()) {
                    continue;
                }
                self.step = Step::Retire;
                entered = false;
            }
            if self.is_aborted() && !self.announced.begun {
                return Run::Ended(Outcome::Aborted);
            }
            if entered {
                if self.step == Step::Scan && self.cursor < self.range().len {
                    self.transfers.clear();
                    self.sources.clear();
                    self.spilled = None;
                } else if self.step == Step::Write && self.spilled.is_some() {
                    // What it writes in part has been read: now it can be written.
                    if let Medium::Clone(clone) = &mut lun.medium {
                        clone.end_return(self);
                    }
                } else {
                    if !self.leave(lun) {
                        return Run::Rests;
                    }
                    self.step = self.step.next(self);
                }
            }
            entered = true;
            match self.enter(key, lun, io) {
                Went::Done if self.step == Step::End => return Run::Ended(self.outcome(lun)),
                Went::Done => {}
                Went::Transfers | Went::Fetching | Went::Locked => return Run::Waits,
                // What is missing are slots of the arena, and some may be written: this is not BUSY, which says that
                // nothing was done.
                Went::Starved if self.step == Step::Write => {
                    if !self.starves(io.now_ns) {
                        return Run::Starved;
                    }
                    self.error = Some(MediaError::NoSpace);
                }
                // A job that holds buffers must not wait for more: jobs would wait for each other.
                Went::Starved if !self.read.0.is_empty() => self.error = Some(MediaError::Busy),
                // Nor may it wait for long: what holds the buffers may wait for this very job, behind an ORDERED one
                // or for its range.
                Went::Starved if self.starves(io.now_ns) => self.error = Some(MediaError::Busy),
                Went::Starved => return Run::Starved,
                Went::Rests => return Run::Rests,
                Went::Failed(error) => self.error = Some(error),
            }
        }
    }

    /// What the transfers of a step leave behind; false while there is more to do with it.
    fn leave(&mut self, lun: &Lun) -> bool {
        match self.step {
            Step::Read | Step::Align => {
                if self.ciphered.is_none() {
                    self.read = self.gather();
                    self.spilled = None;
                }
                if let Some(cipher) = lun.cipher() {
                    return self.unseal(cipher);
                }
            }
            Step::Retired => self.retired(),
            _ => {
                self.transfers.clear();
                self.sources.clear();
            }
        }
        true
    }

    fn enter<R: Ring>(&mut self, key: Key, lun: &mut Lun, io: &mut Io<'_, R>) -> Went {
        match self.step {
            Step::Lock => self.enter_lock(key, lun),
            Step::Read => match self.enter_isolation(key, lun, self.range()) {
                Some(went) => went,
                None => self.enter_read(key, lun, self.range(), io),
            },
            Step::Scan => {
                let range = self.range();
                let len = (range.len - self.cursor).min(CHUNK);
                let chunk = ByteRange { start: range.start + self.cursor, len };
                let went = self.enter_read(key, lun, chunk, io);
                if !matches!(went, Went::Starved | Went::Fetching) {
                    self.cursor += len;
                }
                went
            }
            Step::Compare => self.enter_compare(),
            Step::Combine => self.enter_combine(io),
            Step::Align => self.enter_align(key, lun, io),
            Step::Merge => self.enter_merge(lun, io),
            Step::Write => self.enter_write(key, lun, io),
            Step::Zero => self.enter_zero(key, lun, io),
            Step::Fill => self.enter_fill(io),
            Step::Flush => self.enter_flush(key, lun, io),
            Step::Survey => self.enter_survey(key, lun, io),
            Step::Slot => self.enter_slot(key, lun),
            Step::Reserve => self.enter_reserve(key, lun, io),
            Step::Intent => self.enter_intent(key, lun, io),
            Step::Log | Step::Retired => self.enter_log(key, lun, io),
            Step::Retire => self.enter_retire(key, lun, io),
            Step::Over | Step::End => Went::Done,
        }
    }

    fn enter_lock(&mut self, key: Key, lun: &mut Lun) -> Went {
        let range = match self.media() {
            // One lock around all descriptors: UNMAP is rare, and one range cannot deadlock.
            Media::Unmap { ranges } => ranges
                .iter()
                .map(|range| self.bytes(*range))
                .reduce(|a, b| {
                    let start = a.start.min(b.start);
                    ByteRange { start, len: a.end().max(b.end()) - start }
                })
                .unwrap_or(ByteRange { start: 0, len: 0 }),
            _ => self.range(),
        };
        if range.len == 0 {
            return Went::Done;
        }
        let range = match &lun.medium {
            Medium::Disk(disk) => disk.alignment.widen(range).map_or(range, |widened| widened.block),
            Medium::Clone(_) => range,
        };
        match lun.locks.acquire(range, LockKind::Exclusive, lock_owner(key)) {
            Acquired::Granted => {
                self.lock = Lock::Held;
                self.first_write();
                Went::Done
            }
            Acquired::Queued => {
                self.lock = Lock::Waiting;
                self.first_write();
                Went::Locked
            }
            Acquired::Full => Went::Failed(MediaError::Busy),
        }
    }

    /// What a command with data-out writes first.
    fn first_write(&mut self) {
        self.write_start = self.range().start;
        match self.media() {
            Media::Write { .. } | Media::WriteAtomic { .. } => {
                let (len, data) = (self.range().len, self.take_data());
                // An expected length that is no multiple of a block brings the beginning of one that is not written.
                self.write = if data.len() > len { data.slice(0, len) } else { data };
            }
            Media::WriteVerify { range, .. } => {
                let len = self.bytes(*range).len;
                self.write = self.data().slice(0, len);
            }
            Media::CompareWrite { range, .. } => {
                let len = self.bytes(*range).len;
                self.write = self.data().slice(len, len);
            }
            _ => {}
        }
    }

    fn enter_read<R: Ring>(&mut self, key: Key, lun: &Lun, range: ByteRange, io: &mut Io<'_, R>) -> Went {
        let begun = match &lun.medium {
            Medium::Disk(disk) => disk.read(self, key, range, io),
            Medium::Clone(clone) => clone.read(self, key, range, io),
        };
        match begun {
            None => Went::Starved,
            Some(()) if self.is_waiting() && self.transfers.is_empty() => Went::Fetching,
            Some(()) if self.is_waiting() => Went::Transfers,
            Some(()) => Went::Done,
        }
    }

    fn enter_compare(&mut self) -> Went {
        let one_block = matches!(self.media(), Media::Verify { mode: VerifyMode::CompareOneBlock, .. });
        if matches!(self.media(), Media::WriteVerify { mode: VerifyMode::MediumOnly, .. }) {
            return Went::Done;
        }
        let difference = if one_block {
            let len = self.data().len().max(1);
            (0..self.read.len().div_ceil(len)).find_map(|block| {
                let at = block * len;
                self.read.slice(at, len).first_difference(self.data()).map(|offset| at + offset)
            })
        } else {
            self.read.first_difference(&self.data().slice(0, self.read.len()))
        };
        match difference {
            Some(offset) => {
                Went::Failed(MediaError::Miscompare { offset: u32::try_from(offset).unwrap_or(u32::MAX) })
            }
            None => Went::Done,
        }
    }

    fn enter_combine<R: Ring>(&mut self, io: &mut Io<'_, R>) -> Went {
        let mut bytes = self.read.to_vec();
        let clears = matches!(self.media(), Media::AndWrite { .. });
        for (byte, other) in bytes.iter_mut().zip(self.data().slices().flatten()) {
            *byte = if clears { *byte & other } else { *byte | other };
        }
        match Payload::copied(io.memory, &bytes) {
            Some(payload) => {
                self.write = payload;
                Went::Done
            }
            None => Went::Starved,
        }
    }

    /// A write of whole device blocks goes as it is. Any other is made whole: the blocks that it touches are read,
    /// and written back with its data in them. The range lock covers them.
    fn enter_align<R: Ring>(&mut self, key: Key, lun: &Lun, io: &mut Io<'_, R>) -> Went {
        let Medium::Disk(disk) = &lun.medium else { return Went::Done };
        let Some(around) = disk.around(self.write_start, &self.write) else { return Went::Done };
        if disk.read(self, key, around, io).is_none() {
            return Went::Starved;
        }
        self.around = Some(around.start);
        Went::Transfers
    }

    fn enter_merge<R: Ring>(&mut self, lun: &Lun, io: &mut Io<'_, R>) -> Went {
        if let Some(start) = self.around.take() {
            self.merge(start);
        }
        match lun.cipher() {
            Some(cipher) => self.seal(cipher, io),
            None => Went::Done,
        }
    }

    fn merge(&mut self, start: u64) {
        // The buffers were read by this job and are nobody else's, so they can take the data in.
        let mut merged = std::mem::take(&mut self.read);
        let mut at = self.write_start - start;
        let write = std::mem::take(&mut self.write);
        for slice in write.slices() {
            merged.fill(at, slice);
            at += slice.len() as u64;
        }
        self.write_start = start;
        self.write = merged;
    }

    fn enter_write<R: Ring>(&mut self, key: Key, lun: &mut Lun, io: &mut Io<'_, R>) -> Went {
        let atomic = matches!(self.media(), Media::WriteAtomic { .. });
        match &mut lun.medium {
            Medium::Disk(disk) if disk.broken => Went::Failed(MediaError::ReadOnly),
            Medium::Disk(disk) => {
                disk.write(self, key, io);
                if self.is_waiting() { Went::Transfers } else { Went::Done }
            }
            Medium::Clone(clone) => {
                let written = match atomic {
                    true => clone.write_whole(self.write_start, &self.write, io.arena),
                    false => clone.write(&mut self.write_start, &mut self.write, &mut io.slots()),
                };
                match written {
                    Ok(()) => {
                        self.write = Payload::default();
                        Went::Done
                    }
                    Err(Unwritten::Spilled) => clone.begin_return(self, key, io),
                    Err(Unwritten::NoSpace) if io.spills => Went::Starved,
                    Err(Unwritten::NoSpace) => Went::Failed(MediaError::NoSpace),
                }
            }
        }
    }

    fn enter_zero<R: Ring>(&mut self, key: Key, lun: &mut Lun, io: &mut Io<'_, R>) -> Went {
        self.unsupported = false;
        let unmap = matches!(self.media(), Media::Unmap { .. } | Media::WriteSame { unmap: true, .. });
        let ranges: Few<ByteRange> = match self.media() {
            Media::Unmap { ranges } => ranges.iter().map(|range| self.bytes(*range)).collect(),
            _ => Few::One(self.range()),
        };
        for range in ranges {
            match &mut lun.medium {
                Medium::Clone(clone) => {
                    // An UNMAP is a hint: without room for another tombstone the blocks stay as they are. WRITE SAME
                    // is not: it then writes zeros.
                    if clone.zero(range).is_err() && !matches!(self.media(), Media::Unmap { .. }) {
                        self.unsupported = true;
                    }
                }
                Medium::Disk(disk) if disk.broken => return Went::Failed(MediaError::ReadOnly),
                Medium::Disk(disk) => {
                    let (file, offset, len) = (disk.file, range.start, range.len);
                    let operation = if unmap {
                        Operation::Discard { file, offset, len }
                    } else {
                        Operation::Zero { file, offset, len }
                    };
                    self.operate(key, operation, io);
                }
            }
        }
        if self.is_waiting() { Went::Transfers } else { Went::Done }
    }

    /// The next chunk of WRITE SAME: the pattern, repeated.
    fn enter_fill<R: Ring>(&mut self, io: &mut Io<'_, R>) -> Went {
        let range = self.range();
        let len = (range.len - self.cursor).min(CHUNK);
        let zeros = matches!(self.media(), Media::WriteSame { pattern: Pattern::Zero, .. });
        if zeros {
            self.write = Payload(Few::One(Piece { buffer: io.zeros.clone(), start: 0, len: len as u32 }));
        } else {
            let Some(mut payload) = Payload::take(io.memory, len as u32) else { return Went::Starved };
            let pattern = self.data().to_vec();
            let mut at = 0;
            while at < len && !pattern.is_empty() {
                payload.fill(at, &pattern);
                at += pattern.len() as u64;
            }
            self.write = payload;
        }
        self.write_start = range.start + self.cursor;
        self.cursor += len;
        Went::Done
    }

    fn enter_flush<R: Ring>(&mut self, key: Key, lun: &Lun, io: &mut Io<'_, R>) -> Went {
        match &lun.medium {
            // An ephemeral clone does not outlive the host's power: flushing it is ordering only.
            Medium::Clone(_) => Went::Done,
            Medium::Disk(disk) => {
                io.counters.disk_flushes += 1;
                self.operate(key, Operation::Flush { file: disk.file }, io);
                Went::Transfers
            }
        }
    }

    /// What is known of the provisioning of the blocks from `lba` on.
    #[cold]
    fn lba_status(&self, lun: &Lun, lba: u64) -> Vec<LbaStatusDescriptor> {
        let config = lun.device.config();
        match &lun.medium {
            Medium::Clone(clone) => clone.lba_status(lba, config.blocks, config.block_size),
            Medium::Disk(_) => of_stretches(
                self.stretches.as_deref().map_or(&[], Vec::as_slice),
                lba,
                config.blocks,
                config.block_size,
            ),
        }
    }

    fn outcome(&mut self, lun: &Lun) -> Outcome {
        match self.media() {
            Media::Read { .. } => read_outcome(std::mem::take(&mut self.read)),
            Media::LbaStatus { lba, allocation_length } => {
                lba_status_reply(&self.lba_status(lun, *lba), *allocation_length).into()
            }
            media => media_done(media).into(),
        }
    }
}
