//! Atomic writes to a file or device: announced in a journal, done, and the announcement withdrawn, each durably before
//! the next. What lies in the journal at a start is done over ([`stampede_image::intent`]).
//!
//! ```text
//!  Lock ─► Align ─► Merge ─► Slot ─► Reserve ─► Intent ─► Log ─► Write ─► Flush ─► Retire ─► Retired ─► end
//!                                        │        └─ an error from here on ──────────▲
//!                                        └─ no space: nothing was begun
//! ```
//!
//! From its intent on a write goes through to its end, aborted or not: an intent that is left behind would one day be
//! done over what was written after it. If it cannot be withdrawn, the unit takes no more writes.
//!
//! Reads see all of an atomic write or nothing of it. Those of a unit that never saw one take no lock; from the first
//! one on they do, and it waits for those that began before.

use super::job::{Direction, Job, Lock};
use super::step::Went;
use super::{Io, Lun, Medium, lock_owner};
use crate::few::Few;
use crate::payload::{Payload, Piece};
use crate::setup::JournalSetup;
use crate::token::Key;
use stampede_image::align::Alignment;
use stampede_image::intent::{self, Intent};
use stampede_image::range_lock::{Acquired, ByteRange, Kind as LockKind, RangeLocks};
use stampede_ring::{FileId, Operation, Ring};
use stampede_scsi::MediaError;

/// The journal of one unit.
pub(crate) struct Journal {
    file: FileId,
    alignment: Alignment,
    /// Who has which slot, each as one byte of a range.
    slots: RangeLocks,
    /// Reads under way that began before the first atomic write, and so have no lock.
    bare_reads: u32,
    /// Atomic writes that wait for them.
    behind_reads: Vec<Key>,
}

/// What a job has to do with a journal.
#[derive(Debug, Default)]
pub(super) struct Announced {
    /// Its slot, if it has one or waits for it.
    slot: Option<u8>,
    /// The slot may hold an intent.
    pub(super) begun: bool,
    /// Why the command fails once the intent is withdrawn. In a box, for jobs are moved and mostly have none.
    failed: Option<Box<MediaError>>,
    /// It is a read without a lock.
    bare: bool,
}

impl Announced {
    /// Whether a journal has to hear of the job's end.
    pub(super) fn concerns(&self) -> bool {
        self.slot.is_some() || self.bare
    }

    /// Whether it has a slot of a journal.
    pub(super) fn has_slot(&self) -> bool {
        self.slot.is_some()
    }
}

impl Journal {
    pub(super) fn new(setup: JournalSetup) -> Self {
        let JournalSetup { file, alignment } = setup;
        let slots = RangeLocks::new(Lun::LOCKS_MAX);
        Self { file, alignment, slots, bare_reads: 0, behind_reads: Vec::new() }
    }

    /// Its file.
    pub(super) fn file(&self) -> FileId {
        self.file
    }

    /// Whether pieces may be written to the journal as they are.
    fn takes(&self, payload: &Payload) -> bool {
        let Alignment { memory, offset } = self.alignment;
        let memory = memory.min(4096);
        payload.0.iter().all(|piece| piece.start.is_multiple_of(memory) && piece.len.is_multiple_of(offset))
    }
}

impl Lun {
    /// The job is over: who waited for its slot, or for its end, goes on.
    #[cold]
    pub(super) fn leave_journal(&mut self, key: Key, job: &Job, ready: impl FnMut(u64)) {
        let Medium::Disk(disk) = &mut self.medium else { return };
        let Some(journal) = &mut disk.journal else { return };
        let mut ready = ready;
        if job.announced.slot.is_some() {
            journal.slots.release(lock_owner(key), &mut ready);
        }
        if job.announced.bare {
            journal.bare_reads = journal.bare_reads.saturating_sub(1);
            if journal.bare_reads == 0 {
                journal.behind_reads.drain(..).for_each(|key| ready(lock_owner(key)));
            }
        }
    }

    /// An intent cannot be withdrawn. What is written from now on could be undone at the next start.
    #[cold]
    fn break_off(&mut self) {
        let Medium::Disk(disk) = &mut self.medium else { return };
        disk.broken = true;
        self.device.write_protect();
        tracing::error!(
            lun = self.report.lun.0,
            "an entry of the journal of atomic writes cannot be withdrawn: the unit takes no more writes. Look at the \
             disk of --state-dir, then start stampede again"
        );
    }
}

impl Job {
    /// A read that takes a job begins: from the unit's first atomic write on it needs its range.
    #[inline]
    pub(super) fn enter_isolation(&mut self, key: Key, lun: &mut Lun, range: ByteRange) -> Option<Went> {
        match &lun.medium {
            Medium::Disk(disk) if disk.journal.is_some() => self.isolate(key, lun, range),
            _ => None,
        }
    }

    #[inline(never)]
    fn isolate(&mut self, key: Key, lun: &mut Lun, range: ByteRange) -> Option<Went> {
        let Medium::Disk(disk) = &mut lun.medium else { return None };
        if !disk.isolates {
            let journal = disk.journal.as_mut()?;
            if !self.announced.bare && self.lock == Lock::None {
                self.announced.bare = true;
                journal.bare_reads += 1;
            }
            return None;
        }
        if self.lock != Lock::None || self.announced.bare {
            return None;
        }
        match lun.locks.acquire(range, LockKind::Shared, lock_owner(key)) {
            Acquired::Granted => {
                self.lock = Lock::Held;
                None
            }
            Acquired::Queued => {
                self.lock = Lock::Waiting;
                Some(Went::Locked)
            }
            Acquired::Full => Some(Went::Failed(MediaError::Busy)),
        }
    }

    /// Takes a slot of the journal; a clone has none and needs none.
    #[cold]
    pub(super) fn enter_slot(&mut self, key: Key, lun: &mut Lun) -> Went {
        let Medium::Disk(disk) = &mut lun.medium else { return Went::Done };
        // Not offered without: a file could tear it.
        let Some(journal) = &mut disk.journal else { return Went::Failed(MediaError::Hardware) };
        disk.isolates = true;
        if self.announced.slot.is_none() {
            let slot = (key.index % u32::from(intent::SLOTS)) as u8;
            let place = ByteRange { start: u64::from(slot), len: 1 };
            match journal.slots.acquire(place, LockKind::Exclusive, lock_owner(key)) {
                Acquired::Granted => self.announced.slot = Some(slot),
                Acquired::Queued => {
                    self.announced.slot = Some(slot);
                    self.lock = Lock::Waiting;
                    return Went::Locked;
                }
                Acquired::Full => return Went::Failed(MediaError::Busy),
            }
        }
        if journal.bare_reads > 0 {
            journal.behind_reads.push(key);
            self.lock = Lock::Waiting;
            return Went::Locked;
        }
        Went::Done
    }

    /// Finds space for the write: once it is announced it must not fail for want of some.
    #[cold]
    pub(super) fn enter_reserve<R: Ring>(&mut self, key: Key, lun: &Lun, io: &mut Io<'_, R>) -> Went {
        let Medium::Disk(disk) = &lun.medium else { return Went::Done };
        let operation =
            Operation::Allocate { file: disk.file, offset: self.write_start, len: self.write.len() };
        self.operate(key, operation, io);
        Went::Transfers
    }

    /// Writes the intent with its data into the slot.
    #[cold]
    pub(super) fn enter_intent<R: Ring>(&mut self, key: Key, lun: &Lun, io: &mut Io<'_, R>) -> Went {
        let (Some(slot), Some(journal)) = (self.announced.slot, lun.journal()) else {
            return Went::Failed(MediaError::Hardware);
        };
        let Some(intent) = Intent::new(self.write_start, self.write.slices()) else {
            return Went::Failed(MediaError::Hardware);
        };
        let Some(mut header) = Payload::take(io.memory, intent::HEADER) else { return Went::Starved };
        header.fill(0, &[0; intent::HEADER as usize]);
        header.fill(0, &intent.encode());
        let data = match journal.takes(&self.write) {
            true => self.write.clone(),
            false => match Payload::copied(io.memory, &self.write.to_vec()) {
                Some(data) => data,
                None => return Went::Starved,
            },
        };
        self.announced.begun = true;
        let mut offset = intent::slot(slot).start;
        for Piece { buffer, start, len } in header.0.into_iter().chain(data.0) {
            self.transfer(key, (Direction::Write, journal.file, offset), (buffer, start, len), len, io);
            offset += u64::from(len);
        }
        Went::Transfers
    }

    /// Makes durable what was done to the journal.
    #[cold]
    pub(super) fn enter_log<R: Ring>(&mut self, key: Key, lun: &Lun, io: &mut Io<'_, R>) -> Went {
        let Some(journal) = lun.journal() else { return Went::Done };
        io.counters.disk_flushes += 1;
        self.operate(key, Operation::Flush { file: journal.file }, io);
        Went::Transfers
    }

    /// Withdraws the intent.
    #[cold]
    pub(super) fn enter_retire<R: Ring>(&mut self, key: Key, lun: &Lun, io: &mut Io<'_, R>) -> Went {
        let (Some(slot), Some(journal)) = (self.announced.slot, lun.journal()) else { return Went::Done };
        let place = (Direction::Write, journal.file, intent::slot(slot).start);
        self.transfer(key, place, (io.zeros.clone(), 0, intent::HEADER), intent::HEADER, io);
        Went::Transfers
    }

    /// The intent is withdrawn: the command ends, as it would have ended before.
    #[cold]
    pub(super) fn retired(&mut self) {
        self.announced.begun = false;
        self.error = self.announced.failed.take().map(|error| *error);
    }

    /// Something failed while the slot may hold an intent: whether it is to be withdrawn now, or that is what failed.
    #[cold]
    pub(super) fn withdraw(&mut self, error: MediaError, lun: &mut Lun, during: During) -> bool {
        self.transfers = Few::None;
        self.sources = Few::None;
        self.announced.failed = Some(Box::new(match during {
            During::Image => error,
            // Not the medium's fault.
            During::Journal | During::Retirement => MediaError::Hardware,
        }));
        if during == During::Retirement {
            lun.break_off();
            self.retired();
        }
        during != During::Retirement
    }
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum During {
    /// The image.
    Image,
    /// Announcing.
    Journal,
    /// Withdrawing.
    Retirement,
}
