//! Sanitize operations (SBC-4 4.11): a unit's medium is overwritten or erased, in the background.
//!
//! ```text
//!  Step::Sanitize ─► what runs on the medium ends ─► disk:  chunks ⟲ ─► Flush ─► next pass ...─┐
//!  a unit that was sanitized when its target ended ─► │  clone: slots wiped ⟲ ─► new base ───────┤
//!                                                                                              ▼
//!                                      answer, if anybody waits ◄── store ◄── Device::sanitize_ended
//! ```
//!
//! CRYPTOGRAPHIC ERASE begins with the key, which the control thread destroys ([`Result::Rekey`]); what becomes of the blocks
//! then is a matter of space alone.
//!
//! The operation is the unit's and no task's: aborts, resets and ended sessions only take its command away. A disk has
//! a few writes in flight, and few disks of a shard are under way at once, so that other units find their share of the
//! ring; a clone gets a few slots of each turn, and a few writes to scratch space.

use super::clone::{Base, CloneMedium};
use super::disk::Disk;
use super::save::Saver;
use super::scrub::Scrub;
use super::{Backend, Io, Lun, Medium, Result, Spiller};
use crate::errno::{EAGAIN, EINTR, EINVAL, EIO, EOPNOTSUPP};
use crate::messages::LunId;
use crate::request::{Answer, Origin, Outcome, Request};
use crate::token::{Key, Kind, token};
use stampede_image::cipher::Cipher;
use stampede_image::overlay::{Place, SLOT, TakenSlots};
use stampede_image::range_lock::ByteRange;
use stampede_image::scratch::Run;
use stampede_ring::{Buffer, Errno, Event, Operation, Ring};
use stampede_scsi::{NexusId, Reply, Sanitize, Step as DeviceStep};
use std::collections::VecDeque;
use std::sync::Arc;

/// SANITIZE's operation code.
pub(crate) const SANITIZE: u8 = 0x48;

/// Disks of a shard under way at once.
const DISKS_MAX: usize = 2;
/// Writes of a disk in flight.
const DEPTH: usize = 4;
/// Bytes of one write.
const CHUNK: u64 = 128 << 10;
/// Bytes freed or zeroed by one operation.
const ERASE_CHUNK: u64 = 64 << 20;
/// Slots of a clone wiped in one turn: some ten microseconds.
const SLOTS: usize = 64;
/// How long what is missing (a buffer, a slot that is being sent) is waited for before looking again.
const PAUSE_NS: u64 = 1_000_000;

/// One unit's sanitize operation.
pub(crate) struct Sanitizing {
    how: Sanitize,
    block_size: u32,
    /// Bytes of the medium.
    size: u64,
    /// Whom to answer.
    waiter: Option<Waiter>,
    /// From 0.
    pass: u8,
    /// Where in this pass the next operation starts.
    next: u64,
    /// Bytes of this pass that are done.
    done: u64,
    parts: [Option<Part>; DEPTH],
    outstanding: u32,
    flushing: bool,
    failed: bool,
    /// What becomes of the key, if it is to be destroyed.
    key: KeyFate,
    /// It is over, and waits until its end can be saved.
    ending: bool,
    /// It is on the list of those that wait for their time.
    paused: bool,
    /// When the rate allows the next operation, in monotonic nanoseconds.
    due_ns: u64,
    way: Way,
    /// What this pass writes.
    pattern: Option<Buffer>,
    /// What is left of a clone's memory.
    wipe: Option<Wipe>,
    /// How far the journal of a disk's atomic writes is overwritten, once the disk is.
    scrub: Option<Scrub>,
}

/// What becomes of a unit's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyFate {
    /// Nothing, or nothing more.
    Settled,
    /// It is to be destroyed.
    Doomed,
    /// The control thread is about it.
    Dying,
}

/// A command that ends when the operation does.
struct Waiter {
    origin: Origin,
    nexus: NexusId,
}

/// An operation in flight.
#[derive(Clone, Copy)]
struct Part {
    offset: u64,
    len: u64,
    /// Where in the pattern's buffer it starts.
    start: u32,
}

/// How a disk is gone over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Its blocks are given back.
    Discard,
    /// They are zeroed: it cannot give them back.
    Zero,
    /// They are written.
    Write,
}

/// A clone's memory on its way out.
struct Wipe {
    slots: TakenSlots<Buffer>,
    /// Slots that somebody is sending.
    pinned: Vec<Buffer>,
    /// Slots in all, those in scratch space included.
    all: usize,
    /// Those that are overwritten.
    done: usize,
}

/// How far an operation came.
enum Went {
    /// Completions will go on with it.
    Waits,
    /// It has more to do, in another turn.
    Again,
    /// It can go on at this time.
    Pause(u64),
    /// The key is to be destroyed first.
    NeedsKey,
    /// It is over.
    Ended,
}

/// The sanitize operations of a shard.
#[derive(Default)]
pub(super) struct Sanitizers {
    /// Units that can go on.
    due: VecDeque<Key>,
    /// Those that wait for their time.
    paused: Vec<(u64, Key)>,
    /// Disks whose turn has not come.
    queued: VecDeque<Key>,
    /// Disks under way.
    disks: usize,
    /// The shard is stopping: nothing more is begun. The next run begins anew.
    halted: bool,
}

impl Sanitizing {
    fn new(lun: &Lun, how: Sanitize, waiter: Option<Waiter>) -> Self {
        let config = lun.device.config();
        let way = match how {
            Sanitize::BlockErase | Sanitize::CryptographicErase => Way::Discard,
            Sanitize::Overwrite { .. } => Way::Write,
        };
        let key = match how {
            Sanitize::CryptographicErase => KeyFate::Doomed,
            _ => KeyFate::Settled,
        };
        Self {
            how,
            block_size: config.block_size,
            size: config.blocks.saturating_mul(u64::from(config.block_size)),
            waiter,
            pass: 0,
            next: 0,
            done: 0,
            parts: [None; DEPTH],
            outstanding: 0,
            flushing: false,
            failed: false,
            key,
            ending: false,
            paused: false,
            due_ns: 0,
            way,
            pattern: None,
            wipe: None,
            scrub: None,
        }
    }

    /// How far it has come, as a fraction of 65,536.
    fn progress(&self) -> u16 {
        let (done, all) = match &self.wipe {
            Some(wipe) => (wipe.done as u64, wipe.all as u64),
            None => {
                let pass = self.size.saturating_mul(u64::from(self.pass));
                (pass.saturating_add(self.done), self.size.saturating_mul(u64::from(self.how.passes())))
            }
        };
        u16::try_from(u128::from(done) * 0x1_0000 / u128::from(all.max(1))).unwrap_or(u16::MAX)
    }

    /// Begins what can be begun on a disk.
    fn go_over<R: Ring>(
        &mut self,
        key: Key,
        disk: &Disk,
        rate_bytes_s: u64,
        halted: bool,
        io: &mut Io<'_, R>,
    ) -> Went {
        if self.key != KeyFate::Settled {
            return if self.key == KeyFate::Doomed && !halted { Went::NeedsKey } else { Went::Waits };
        }
        loop {
            let over = self.failed || self.pass == self.how.passes();
            if over && self.outstanding == 0 {
                return self.scrub_journal(key, disk, halted, io);
            }
            if over || halted || self.flushing {
                return Went::Waits;
            }
            if self.next < self.size {
                let depth = if self.way == Way::Write { DEPTH } else { 1 };
                let free = self.parts.iter().take(depth).position(Option::is_none);
                let Some(part) = free else { return Went::Waits };
                if io.now_ns < self.due_ns {
                    return Went::Pause(self.due_ns);
                }
                if !self.begin(key, part, disk, rate_bytes_s, io) {
                    return Went::Pause(io.now_ns + PAUSE_NS);
                }
            } else if self.outstanding > 0 {
                return Went::Waits;
            } else {
                // Each pass has to reach the medium before the next one overwrites it.
                (self.flushing, self.outstanding) = (true, 1);
                io.counters.disk_flushes += 1;
                io.pusher.push(token(Kind::Sanitize, key, 0), Operation::Flush { file: disk.file });
            }
        }
    }

    /// The disk is gone over, or cannot be: the journal is left, if there is one.
    fn scrub_journal<R: Ring>(&mut self, key: Key, disk: &Disk, halted: bool, io: &mut Io<'_, R>) -> Went {
        let Some(journal) = disk.journal.as_ref().filter(|_| !self.failed) else { return Went::Ended };
        let scrub = *self.scrub.get_or_insert(Scrub::From(0));
        if scrub == Scrub::Done {
            return Went::Ended;
        }
        if !halted {
            self.outstanding = 1;
            scrub.begin(key, journal.file(), io);
        }
        Went::Waits
    }

    /// Begins the next operation; false when there is no buffer for what it writes.
    fn begin<R: Ring>(
        &mut self,
        key: Key,
        index: usize,
        disk: &Disk,
        rate_bytes_s: u64,
        io: &mut Io<'_, R>,
    ) -> bool {
        let most = if self.way == Way::Write { CHUNK } else { ERASE_CHUNK };
        let range = ByteRange { start: self.next, len: (self.size - self.next).min(most) };
        // What lies behind the last logical block in its device block goes with it.
        let len = disk.alignment.widen(range).map_or(range.len, |widened| widened.block.end() - range.start);
        let part = Part { offset: range.start, len, start: 0 };
        let buffer = if self.way == Way::Write {
            let Some(buffer) = self.take_chunk(part, disk.cipher.as_deref(), io) else { return false };
            Some(buffer)
        } else {
            None
        };
        self.next += range.len;
        if rate_bytes_s > 0 && self.way == Way::Write {
            let takes_ns = u128::from(range.len) * 1_000_000_000 / u128::from(rate_bytes_s);
            let takes_ns = u64::try_from(takes_ns).unwrap_or(u64::MAX);
            self.due_ns = self.due_ns.max(io.now_ns).saturating_add(takes_ns);
        }
        self.push(key, (index, part), buffer, disk, io);
        true
    }

    fn push<R: Ring>(
        &mut self,
        key: Key,
        (index, part): (usize, Part),
        buffer: Option<Buffer>,
        disk: &Disk,
        io: &mut Io<'_, R>,
    ) {
        let Part { offset, len, start } = part;
        let file = disk.file;
        let operation = match (self.way, buffer) {
            (Way::Discard, _) => Operation::Discard { file, offset, len },
            (Way::Zero, _) | (Way::Write, None) => Operation::Zero { file, offset, len },
            (Way::Write, Some(buffer)) => Operation::Write { file, offset, buffer, start, len: len as u32 },
        };
        self.parts[index] = Some(part);
        self.outstanding += 1;
        io.counters.disk_writes += 1;
        io.pusher.push(token(Kind::Sanitize, key, index as u16), operation);
    }

    /// What is written to a part: the pattern, or what that is encrypted.
    fn take_chunk<R: Ring>(
        &mut self,
        Part { offset, len, .. }: Part,
        cipher: Option<&Cipher>,
        io: &Io<'_, R>,
    ) -> Option<Buffer> {
        if !self.take_pattern(io) {
            return None;
        }
        let (pattern, Some(cipher)) = (self.pattern.as_ref()?, cipher) else { return self.pattern.clone() };
        let mut chunk = io.memory.take(len as u32)?;
        let bytes = chunk.bytes_mut()?.get_mut(..len as usize)?;
        bytes.copy_from_slice(pattern.bytes().get(..len as usize)?);
        cipher.seal(offset, bytes);
        Some(chunk)
    }

    /// Makes what this pass writes, unless it is there.
    fn take_pattern<R: Ring>(&mut self, io: &Io<'_, R>) -> bool {
        if self.pattern.is_some() {
            return true;
        }
        if self.how.leaves_zeros() && !self.how.inverts(self.pass) {
            self.pattern = Some(io.zeros.clone());
            return true;
        }
        let Some(mut buffer) = io.memory.take(CHUNK as u32) else { return false };
        let Some(bytes) = buffer.bytes_mut() else { return false };
        self.how.fill(self.pass, self.block_size, bytes);
        self.pattern = Some(buffer);
        true
    }

    /// An operation on a disk has completed.
    fn completed<R: Ring>(&mut self, key: Key, index: usize, event: Event, disk: &Disk, io: &mut Io<'_, R>) {
        self.outstanding = self.outstanding.saturating_sub(1);
        if let Some(scrub) = self.scrub {
            match scrub.after(&event) {
                Ok(next) => self.scrub = Some(next),
                Err(error) => self.fail("overwrite the journal", 0, error),
            }
            return;
        }
        if self.flushing {
            self.flushing = false;
            return match event {
                Event::Finished { result: Ok(()) } => {
                    self.pass += 1;
                    (self.next, self.done, self.pattern) = (0, 0, None);
                }
                Event::Finished { result: Err(error) } => self.fail("flush", self.done, error),
                _ => debug_assert!(false, "a flush completed as something else"),
            };
        }
        let Some(part) = self.parts.get_mut(index).and_then(Option::take) else { return };
        match event {
            Event::Finished { result: Ok(()) } => self.done += part.len,
            // The key is gone, and with it what the blocks say.
            Event::Finished { result: Err(Errno(EOPNOTSUPP | EINVAL)) }
                if self.how == Sanitize::CryptographicErase =>
            {
                (self.next, self.done) = (self.size, self.size);
            }
            Event::Finished { result: Err(Errno(EOPNOTSUPP | EINVAL)) } if self.way != Way::Write => {
                self.way = if self.way == Way::Discard { Way::Zero } else { Way::Write };
                self.next = part.offset;
            }
            Event::Finished { result: Err(error) } => self.fail("erase", part.offset, error),
            Event::Transferred { result: Ok(0), .. } => {
                self.fail("write", part.offset, Errno(EIO));
            }
            Event::Transferred { result: Ok(bytes), buffer } => {
                let bytes = u64::from(bytes).min(part.len);
                self.done += bytes;
                if bytes < part.len && !self.failed {
                    let start = part.start + bytes as u32;
                    let rest = Part { offset: part.offset + bytes, len: part.len - bytes, start };
                    self.push(key, (index, rest), Some(buffer), disk, io);
                }
            }
            Event::Transferred { result: Err(Errno(EINTR | EAGAIN)), buffer } if !self.failed => {
                self.push(key, (index, part), Some(buffer), disk, io);
            }
            Event::Transferred { result: Err(error), .. } => self.fail("write", part.offset, error),
            _ => debug_assert!(false, "a sanitize operation's token on another completion"),
        }
    }

    fn fail(&mut self, what: &str, offset: u64, error: Errno) {
        tracing::warn!(what, offset, pass = self.pass, %error, "the medium cannot be sanitized");
        self.failed = true;
    }

    /// Overwrites a clone's blocks of scratch space, runs of them at once; `None` when all of them are.
    fn wipe_scratch<R: Ring>(
        &mut self,
        key: Key,
        clone: &mut CloneMedium,
        spiller: Option<&mut Spiller>,
        io: &mut Io<'_, R>,
    ) -> Option<Went> {
        if self.failed && self.outstanding == 0 {
            return Some(Went::Ended);
        }
        let Some(spiller) = spiller.filter(|_| !clone.unwiped.is_empty() && !self.failed) else {
            return (self.outstanding > 0).then_some(Went::Waits);
        };
        // One pass is enough, as in memory: what it leaves is the last pass' pattern.
        self.pass = self.how.passes().saturating_sub(1);
        clone.unwiped.sort_unstable_by_key(|block| std::cmp::Reverse(*block));
        while (self.outstanding as usize) < DEPTH
            && let Some(start) = clone.unwiped.pop()
        {
            if !self.take_pattern(io) {
                clone.unwiped.push(start);
                return Some(Went::Pause(io.now_ns + PAUSE_NS));
            }
            let mut run = Run { start, blocks: 1 };
            while u64::from(run.blocks) * SLOT < CHUNK && clone.unwiped.last() == Some(&(start + run.blocks))
            {
                clone.unwiped.pop();
                run.blocks += 1;
            }
            if let Some(pattern) = self.pattern.clone() {
                self.outstanding += 1;
                spiller.overwrite(key, run, pattern, io);
            }
        }
        Some(Went::Waits)
    }

    /// Wipes some of a clone's memory. What was in it is gone at once: commands do not get at the clone, and its
    /// overlay is empty from the beginning.
    fn wipe<R: Ring>(
        &mut self,
        key: Key,
        clone: &mut CloneMedium,
        spiller: Option<&mut Spiller>,
        io: &mut Io<'_, R>,
    ) -> Went {
        let last = self.how.passes().saturating_sub(1);
        let wipe = self.wipe.get_or_insert_with(|| {
            let slots = clone.take_all();
            Wipe { all: slots.len() + clone.unwiped.len(), done: 0, slots, pinned: Vec::new() }
        });
        for _ in 0..SLOTS {
            let mut slot = match wipe.slots.next() {
                Some(Place::Memory(slot)) => slot,
                Some(Place::Scratch(block)) => {
                    clone.unwiped.push(block);
                    continue;
                }
                None => break,
            };
            wipe.done += 1;
            match slot.bytes_mut() {
                // In memory one pass leaves nothing of what was there.
                Some(bytes) => self.how.fill(last, self.block_size, bytes),
                None => wipe.pinned.push(slot),
            }
        }
        if wipe.slots.len() > 0 {
            return Went::Again;
        }
        wipe.pinned.retain_mut(|slot| match slot.bytes_mut() {
            Some(bytes) => {
                self.how.fill(last, self.block_size, bytes);
                false
            }
            None => true,
        });
        if !wipe.pinned.is_empty() {
            return Went::Pause(io.now_ns + PAUSE_NS);
        }
        if let Some(went) = self.wipe_scratch(key, clone, spiller, io) {
            return went;
        }
        if self.how.leaves_zeros() {
            clone.set_base(Base::Zeros);
            return Went::Ended;
        }
        // The memory of a slot: the clone may move to another shard, and all share the arena.
        let Some(mut slot) = io.arena.take() else { return Went::Pause(io.now_ns + PAUSE_NS) };
        let Some(bytes) = slot.bytes_mut() else { return Went::Pause(io.now_ns + PAUSE_NS) };
        self.how.fill(last, self.block_size, bytes);
        clone.set_base(Base::Pattern(slot));
        Went::Ended
    }
}

impl Backend {
    /// A unit begins to be sanitized: what is under way on its medium comes to its end first. `killed`: whoever asked
    /// does not wait for it any more.
    pub(super) fn begin_sanitize(&mut self, place: Key, request: &Request, immediate: bool, killed: bool) {
        let Some(lun) = self.luns.get_mut(place) else { return };
        let (origin, name) = (request.origin, request.lun);
        let answer =
            if killed { Some(Outcome::Aborted) } else { immediate.then(|| Outcome::from(Reply::good())) };
        let waiter = answer.is_none().then_some(Waiter { origin, nexus: request.nexus });
        // Its command does not hold up ORDERED ones: they hear what is going on.
        lun.tasks.leave(&mut self.startable);
        if let Some(outcome) = answer {
            self.results.push_back(Result::Answer(Answer { origin, lun: name, outcome }));
        }
        tracing::info!(lun = name.0, nexus = request.nexus.0, "an initiator has the unit sanitized");
        self.prepare_sanitize(place, waiter);
        let jobs = self.jobs.iter().filter(|(_, job)| job.unit() == place).map(|(key, _)| key).collect();
        self.sanitize_after(name, place, jobs);
    }

    /// A unit that was sanitized when its target ended is sanitized anew.
    pub(super) fn resume_sanitize(&mut self, place: Key) {
        let Some(lun) = self.luns.get(place).filter(|lun| lun.device.sanitizing().is_some()) else { return };
        tracing::info!(lun = lun.report.lun.0, "sanitizing of the unit was cut off: it begins anew");
        self.prepare_sanitize(place, None);
        self.sanitize_medium(place);
    }

    fn prepare_sanitize(&mut self, place: Key, waiter: Option<Waiter>) {
        let Some(lun) = self.luns.get_mut(place) else { return };
        let Some(how) = lun.device.sanitizing().cloned() else { return };
        lun.sanitizing = Some(Box::new(Sanitizing::new(lun, how, waiter)));
    }

    /// Nothing else runs on the medium any more.
    pub(super) fn sanitize_medium(&mut self, place: Key) {
        let Some(lun) = self.luns.get(place) else { return };
        match lun.medium {
            Medium::Disk(_) if self.sanitizers.disks == DISKS_MAX => self.sanitizers.queued.push_back(place),
            Medium::Disk(_) => {
                self.sanitizers.disks += 1;
                self.sanitizers.due.push_back(place);
            }
            Medium::Clone(_) => self.sanitizers.due.push_back(place),
        }
    }

    /// Whether an operation can go on, now or at some time without a completion.
    #[inline]
    pub(crate) fn sanitizes(&self) -> bool {
        !(self.sanitizers.due.is_empty() && self.sanitizers.paused.is_empty())
    }

    /// Whether an operation can go on in the next turn.
    pub(crate) fn sanitizer_is_due(&self) -> bool {
        !self.sanitizers.due.is_empty()
    }

    /// When one that waits for its time can go on.
    pub(crate) fn sanitizer_deadline(&self) -> Option<u64> {
        self.sanitizers.paused.iter().map(|(at, _)| *at).min()
    }

    /// Goes on with those that can, each a little.
    #[cold]
    pub(crate) fn run_sanitizers<R: Ring>(&mut self, io: &mut Io<'_, R>) {
        for (_, place) in self.sanitizers.paused.extract_if(.., |(at, _)| *at <= io.now_ns) {
            if let Some(sanitizing) = self.luns.get_mut(place).and_then(|lun| lun.sanitizing.as_mut()) {
                sanitizing.paused = false;
                self.sanitizers.due.push_back(place);
            }
        }
        for _ in 0..self.sanitizers.due.len() {
            if let Some(place) = self.sanitizers.due.pop_front() {
                self.go_on_sanitizing(place, io);
            }
        }
        self.settle(io);
    }

    fn go_on_sanitizing<R: Ring>(&mut self, place: Key, io: &mut Io<'_, R>) {
        let halted = self.sanitizers.halted;
        let copied = self.is_copied(place);
        let Some(lun) = self.luns.get_mut(place) else { return };
        let Some(sanitizing) = &mut lun.sanitizing else { return };
        let rate_bytes_s = lun.device.config().sanitize_bytes_s;
        let went = match &mut lun.medium {
            Medium::Disk(disk) => sanitizing.go_over(place, disk, rate_bytes_s, halted, io),
            // What is on its way to scratch space has to be there to be overwritten.
            Medium::Clone(_) if copied => Went::Pause(io.now_ns + PAUSE_NS),
            Medium::Clone(clone) => sanitizing.wipe(place, clone, self.spiller.as_deref_mut(), io),
        };
        lun.device.sanitize_progress(sanitizing.progress());
        match went {
            Went::Waits => {}
            Went::Again => self.sanitizers.due.push_back(place),
            Went::Pause(at) => {
                if !std::mem::replace(&mut sanitizing.paused, true) {
                    self.sanitizers.paused.push((at, place));
                }
            }
            Went::NeedsKey => {
                sanitizing.key = KeyFate::Dying;
                let name = lun.report.lun;
                self.results.push_back(Result::Rekey(name));
            }
            Went::Ended => self.end_sanitize(place),
        }
    }

    /// The control thread has done what it could about a unit's key: what its blocks are encrypted with from now on, if
    /// that is another one, and whether the old one is destroyed.
    #[cold]
    pub(crate) fn rekeyed(&mut self, name: LunId, cipher: Option<Arc<Cipher>>, destroyed: bool) {
        let Some(place) = self.place(name) else { return };
        let Some(lun) = self.luns.get_mut(place) else { return };
        if let (Medium::Disk(disk), Some(_)) = (&mut lun.medium, &cipher) {
            disk.cipher = cipher;
        }
        let thin = lun.device.config().thin;
        if let Some(sanitizing) = &mut lun.sanitizing {
            sanitizing.key = KeyFate::Settled;
            sanitizing.failed |= !destroyed;
            if !thin {
                // Its blocks are not to be given back.
                (sanitizing.next, sanitizing.done) = (sanitizing.size, sanitizing.size);
            }
            self.sanitizers.due.push_back(place);
        }
    }

    /// An operation on a disk has completed.
    #[cold]
    pub(crate) fn complete_sanitize<R: Ring>(
        &mut self,
        place: Key,
        part: u16,
        event: Event,
        io: &mut Io<'_, R>,
    ) {
        let Some(lun) = self.luns.get_mut(place) else { return };
        let (Some(sanitizing), Medium::Disk(disk)) = (&mut lun.sanitizing, &lun.medium) else {
            debug_assert!(false, "an operation outlived its sanitize operation");
            return;
        };
        sanitizing.completed(place, usize::from(part), event, disk, io);
        self.go_on_sanitizing(place, io);
        self.settle(io);
    }

    /// A write over blocks of scratch space has ended; whether the blocks are still its unit's.
    #[cold]
    pub(super) fn overwritten<R: Ring>(
        &mut self,
        place: Key,
        run: Run,
        result: std::result::Result<(), Errno>,
        io: &mut Io<'_, R>,
    ) -> bool {
        let Some(lun) = self.luns.get_mut(place) else { return false };
        let (Some(sanitizing), Medium::Clone(clone)) = (&mut lun.sanitizing, &mut lun.medium) else {
            return false;
        };
        sanitizing.outstanding = sanitizing.outstanding.saturating_sub(1);
        if let Err(error) = result {
            // They stay the clone's, for another try.
            clone.unwiped.extend(run.each());
            sanitizing.fail("overwrite scratch space", run.offset(), error);
        } else if let Some(wipe) = &mut sanitizing.wipe {
            wipe.done += run.blocks as usize;
        }
        self.go_on_sanitizing(place, io);
        self.settle(io);
        result.is_err()
    }

    /// All is done, or cannot be: this is made durable, and then told.
    fn end_sanitize(&mut self, place: Key) {
        let Some(lun) = self.luns.get_mut(place) else { return };
        let name = lun.report.lun;
        let Some(sanitizing) = &mut lun.sanitizing else { return };
        if lun.saving.is_some() {
            // One change at a time: a change of the operator's is on its way to the store.
            sanitizing.ending = true;
            return;
        }
        sanitizing.ending = false;
        sanitizing.pattern = None;
        let step = lun.device.sanitize_ended(!sanitizing.failed);
        if matches!(lun.medium, Medium::Disk(_)) {
            self.sanitizers.disks = self.sanitizers.disks.saturating_sub(1);
            if let Some(next) = self.sanitizers.queued.pop_front() {
                self.sanitize_medium(next);
            }
        }
        match step {
            DeviceStep::Save(state) => self.save_for(name, Saver::Sanitizer, state),
            DeviceStep::Done(reply) => self.sanitize_over(place, reply),
            _ => debug_assert!(false, "the end of a sanitize operation is saved or done"),
        }
    }

    /// Nothing is on its way to the store any more: an operation that waited for that ends.
    pub(super) fn end_waiting_sanitize(&mut self, place: Key) {
        let ending = self.luns.get(place).and_then(|lun| lun.sanitizing.as_ref());
        if ending.is_some_and(|sanitizing| sanitizing.ending) {
            self.end_sanitize(place);
        }
    }

    /// The end of an operation is durable.
    pub(super) fn sanitize_over(&mut self, place: Key, reply: Reply) {
        let Some(lun) = self.luns.get_mut(place) else { return };
        let name = lun.report.lun;
        let Some(sanitizing) = lun.sanitizing.take() else { return };
        match reply.sense {
            None => tracing::info!(lun = name.0, "the unit is sanitized"),
            Some(_) => tracing::error!(
                lun = name.0,
                "the unit could not be sanitized: it stays out of reach until SANITIZE succeeds"
            ),
        }
        if let Some(Waiter { origin, .. }) = sanitizing.waiter {
            self.results.push_back(Result::Answer(Answer { origin, lun: name, outcome: reply.into() }));
        }
    }

    /// Commands that wait for a sanitize operation end without status; the operation goes on. Whose they were.
    pub(super) fn forsake_sanitize(
        &mut self,
        name: LunId,
        victim: impl Fn(Origin) -> bool,
    ) -> Option<NexusId> {
        let lun = self.lun_mut(name)?;
        if let Some(saving) = &mut lun.saving {
            saving.forsake(&victim);
        }
        let waiter = lun.sanitizing.as_mut()?.waiter.take_if(|waiter| victim(waiter.origin))?;
        let Waiter { origin, nexus } = waiter;
        self.results.push_back(Result::Answer(Answer { origin, lun: name, outcome: Outcome::Aborted }));
        Some(nexus)
    }

    /// The shard is stopping: nothing more is begun.
    pub(crate) fn halt_sanitizers(&mut self) {
        self.sanitizers.halted = true;
    }

    /// Whether operations of sanitize operations are in flight.
    pub(crate) fn sanitizers_are_busy(&self) -> bool {
        let sanitizing = self.luns.iter().filter_map(|(_, lun)| lun.sanitizing.as_ref());
        sanitizing.into_iter().any(|sanitizing| sanitizing.outstanding > 0)
    }
}
