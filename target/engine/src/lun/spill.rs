//! Spilling: when the arena runs full, slots that were not written for a while go to scratch space.
//!
//! ```text
//!   arena short ─► a pass over the clones, idle ones first ─► their cold slots, copied into one buffer
//!                                                                        │ one write of up to 256 KiB
//!   memory free ◄── end_spill: not written since ◄── completed ◄─────────┘
//!                          └── written since, gone ─► the block is released
//!                   failed ─► the slots stay in memory; tried again after a pause, which grows
//! ```
//!
//! The bytes are copied, so guests write on to their slots meanwhile. A block belongs to its spill until that ends, then to
//! the overlay: it is not used again while a write to it is under way, nor (`Hold`) while a read of it is.

use super::clone::CloneMedium;
use super::{Backend, Io, Lun, Medium, Result};
use crate::errno::{EAGAIN, EINTR, EIO};
use crate::setup::ScratchSetup;
use crate::stats::Counters;
use crate::token::{Key, Kind, Table, token};
use stampede_image::overlay::{Hand, SLOT};
use stampede_image::scratch::Run;
use stampede_ring::{Buffer, Errno, Event, IoMemory, Operation, Pool, PoolConfig, Ring};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of a write to scratch space.
const WRITE: u32 = IoMemory::BUFFER_MAX;
/// Slots of one.
const SLOTS: u32 = WRITE / SLOT as u32;
/// Writes of a shard under way at once.
const DEPTH: u32 = 4;
/// Places of overlays that are looked at in one turn: some ten microseconds.
const LOOK: usize = 4096;
/// The first pause after nothing was found to spill, and after a failure; each next one is twice as long, up to the most.
const PAUSE_NS: u64 = 1_000_000;
const BACKOFF_NS: u64 = 10_000_000;
const PAUSE_NS_MAX: u64 = 100_000_000;
const BACKOFF_NS_MAX: u64 = 1_000_000_000;
/// Failures in a row after which nobody waits for memory any more.
const FAILURES_MAX: u32 = 3;
/// How often other shards are told that memory is short.
const TELL_NS: u64 = 10_000_000;

/// The part of a token that is a wipe's; 0 is a spill's.
const WIPE: u16 = 1;

/// One shard's part in spilling.
pub(crate) struct Spiller {
    setup: ScratchSetup,
    buffers: Arc<Pool>,
    flights: Table<Flight>,
    /// Writes over what clones had that are being sanitized.
    wipes: Table<Wipe>,
    /// Slots that they will free.
    in_flight: u32,
    /// The number of the last one.
    number: u16,
    /// Where room is looked for.
    from: u32,
    /// Clones of this pass that were not looked through, and whether any slot of theirs will do.
    pass: VecDeque<(Key, bool)>,
    /// How far the first of them was.
    hand: Hand,
    /// When it may go on, in monotonic nanoseconds.
    due_ns: u64,
    /// Times in a row that nothing was found.
    pauses: u32,
    /// Writes in a row that failed.
    failures: u32,
    told_ns: u64,
    /// The shard is stopping: nothing more is begun.
    halted: bool,
}

/// A write under way.
struct Flight {
    number: u16,
    run: Run,
    /// Bytes of it that are done.
    done: u32,
    /// Slot `i` of them goes to block `i` of the run.
    slots: Vec<(Key, u64)>,
}

/// A write over what a clone had in these blocks.
struct Wipe {
    unit: Key,
    run: Run,
    pattern: Buffer,
    /// Bytes of it that are done.
    done: u32,
}

impl Flight {
    fn len(&self) -> u32 {
        self.slots.len() as u32 * SLOT as u32
    }

    fn each(&self) -> impl Iterator<Item = (Key, u64, u32)> {
        self.slots.iter().zip(self.run.each()).map(|((unit, slot), block)| (*unit, *slot, block))
    }
}

/// Slots of the arena that spilling keeps free: an eighth, as long as that is neither very few nor very many. Who wants more
/// than that at once must not wait for it.
pub(crate) fn kept_free(arena: &Pool) -> u32 {
    (arena.slots() / 8).clamp(64, 1 << 16).min(arena.slots() / 2)
}

fn doubled(first_ns: u64, times: u32, most_ns: u64) -> u64 {
    first_ns.saturating_mul(1 << times.min(16)).min(most_ns)
}

impl Spiller {
    /// # Errors
    /// No memory for the writes.
    pub(crate) fn new(setup: ScratchSetup, shard: u16, shards: u16) -> std::io::Result<Self> {
        let buffers = Pool::new(PoolConfig { slot_len: WRITE, slots: DEPTH })?;
        let all = u64::from(setup.scratch.blocks());
        let from = (all * u64::from(shard) / u64::from(shards.max(1))) as u32;
        Ok(Self {
            setup,
            buffers,
            flights: Table::default(),
            wipes: Table::default(),
            in_flight: 0,
            number: 0,
            from,
            pass: VecDeque::new(),
            hand: Hand::default(),
            due_ns: 0,
            pauses: 0,
            failures: 0,
            told_ns: 0,
            halted: false,
        })
    }

    /// Where it spills to.
    pub(super) fn setup(&self) -> ScratchSetup {
        self.setup.clone()
    }

    /// Whether the arena is short, even when what is under way has freed its slots.
    fn is_short(&self, arena: &Pool) -> bool {
        let free = arena.slots().saturating_sub(arena.in_use());
        free + self.in_flight < kept_free(arena)
    }

    fn may_begin(&self, arena: &Pool) -> bool {
        !self.halted && self.flights.len() < DEPTH as usize && self.is_short(arena)
    }

    /// Whether who finds no memory may expect some soon.
    fn makes_room(&self) -> bool {
        let room = self.setup.scratch.used() < self.setup.scratch.blocks();
        !self.halted && self.failures < FAILURES_MAX && (room || self.flights.len() > 0)
    }

    /// Whether a write under way has a copy of this unit's slots.
    fn copies(&self, unit: Key) -> bool {
        self.flights.iter().any(|(_, flight)| flight.slots.iter().any(|(of, _)| *of == unit))
    }

    /// A number that no write under way has.
    fn next_number(&mut self) -> u16 {
        loop {
            self.number = self.number.wrapping_add(1);
            let taken = self.flights.iter().any(|(_, flight)| flight.number == self.number);
            if self.number != 0 && !taken {
                return self.number;
            }
        }
    }

    /// Begins one write, if anything is found for it.
    fn begin<R: Ring>(&mut self, units: &mut Table<Lun>, io: &mut Io<'_, R>) {
        let Some(mut buffer) = self.buffers.take() else { return self.pause(io.now_ns) };
        let Some(run) = self.setup.scratch.take(&mut self.from, SLOTS) else { return self.pause(io.now_ns) };
        let number = self.next_number();
        let slots = match buffer.bytes_mut() {
            Some(bytes) => self.gather(units, number, &mut bytes[..run.blocks as usize * SLOT as usize]),
            None => Vec::new(),
        };
        let used = slots.len() as u32;
        Run { start: run.start + used, blocks: run.blocks - used }.each().for_each(|block| {
            self.setup.scratch.release(block);
        });
        if used == 0 {
            return self.pause(io.now_ns);
        }
        self.pauses = 0;
        self.in_flight += used;
        let flight = Flight { number, run: Run { blocks: used, ..run }, done: 0, slots };
        // There are at most DEPTH.
        if let Ok(key) = self.flights.insert(flight) {
            self.push(key, buffer, io);
        }
    }

    /// Begins to overwrite blocks for the sanitize operation of a unit, with a pattern that is at least as long.
    /// [`Backend::overwritten`] follows.
    pub(super) fn overwrite<R: Ring>(&mut self, unit: Key, run: Run, pattern: Buffer, io: &mut Io<'_, R>) {
        // There are at most some for each unit.
        if let Ok(key) = self.wipes.insert(Wipe { unit, run, pattern, done: 0 }) {
            self.push_wipe(key, io);
        }
    }

    fn push_wipe<R: Ring>(&self, key: Key, io: &mut Io<'_, R>) {
        let Some(wipe) = self.wipes.get(key) else { return };
        let operation = Operation::Write {
            file: self.setup.file,
            offset: wipe.run.offset() + u64::from(wipe.done),
            buffer: wipe.pattern.clone(),
            start: wipe.done,
            len: wipe.run.blocks * SLOT as u32 - wipe.done,
        };
        io.counters.disk_writes += 1;
        io.pusher.push(token(Kind::Spill, key, WIPE), operation);
    }

    /// One of those writes has completed: whose it was and what came of it, if it is over.
    fn wiped<R: Ring>(
        &mut self,
        key: Key,
        event: &Event,
        io: &mut Io<'_, R>,
    ) -> Option<(Wipe, std::result::Result<(), Errno>)> {
        let Event::Transferred { result, .. } = event else { return None };
        let wipe = self.wipes.get_mut(key)?;
        let result = match *result {
            Ok(0) => Err(Errno(EIO)),
            Ok(done) => {
                wipe.done += done;
                Ok(wipe.done >= wipe.run.blocks * SLOT as u32)
            }
            Err(Errno(EINTR | EAGAIN)) => Ok(false),
            Err(error) => Err(error),
        };
        if result == Ok(false) {
            self.push_wipe(key, io);
            return None;
        }
        Some((self.wipes.remove(key)?, result.map(|_| ())))
    }

    /// Nothing can be spilled now.
    fn pause(&mut self, now_ns: u64) {
        self.due_ns = now_ns + doubled(PAUSE_NS, self.pauses, PAUSE_NS_MAX);
        self.pauses += 1;
    }

    /// Copies cold slots one behind the other; whose they are.
    fn gather(&mut self, units: &mut Table<Lun>, number: u16, into: &mut [u8]) -> Vec<(Key, u64)> {
        let mut slots = Vec::with_capacity(into.len() / SLOT as usize);
        let mut room = into.chunks_exact_mut(SLOT as usize).peekable();
        // In the first pass all may have been written since the one before; in the second they have had their chance.
        let (mut look, mut passes) = (LOOK, 2);
        while look > 0 && room.peek().is_some() {
            let Some(&(unit, any)) = self.pass.front() else {
                if passes == 0 || !self.begin_pass(units) {
                    break;
                }
                passes -= 1;
                continue;
            };
            let clone = units.get_mut(unit).and_then(spillable);
            let around = clone.and_then(|clone| {
                let around = clone.overlay.next_cold(&mut self.hand, &mut look, any);
                let through = around.is_none() && clone.overlay.is_through(self.hand);
                (!through).then_some((clone, around))
            });
            let Some((clone, around)) = around else {
                self.pass.pop_front();
                self.hand = Hand::default();
                continue;
            };
            for slot in around.into_iter().flatten() {
                if room.peek().is_none() {
                    break;
                }
                let Some((from, _)) = clone.overlay.begin_spill(slot, number, any) else { continue };
                if let Some(to) = room.next() {
                    to.copy_from_slice(from.bytes());
                }
                slots.push((unit, slot));
            }
        }
        slots
    }

    /// Lists the clones for a pass: those that were idle for longest first. False when none has anything in memory.
    fn begin_pass(&mut self, units: &mut Table<Lun>) -> bool {
        let keys: Vec<Key> = units.keys().collect();
        let mut clones = Vec::new();
        for key in keys {
            let Some(unit) = units.get_mut(key) else { continue };
            let commands = unit.report.reads + unit.report.writes;
            let Some(clone) = spillable(unit) else { continue };
            let was = std::mem::replace(&mut clone.commands_before, commands);
            clone.idle_passes = if was == commands { clone.idle_passes.saturating_add(1) } else { 0 };
            if clone.overlay.slots_used() > 0 {
                clones.push((clone.idle_passes, key));
            }
        }
        clones.sort_by_key(|(idle_passes, _)| std::cmp::Reverse(*idle_passes));
        self.pass.extend(clones.iter().map(|(idle_passes, key)| (*key, *idle_passes > 0)));
        self.hand = Hand::default();
        !self.pass.is_empty()
    }

    fn push<R: Ring>(&mut self, key: Key, buffer: Buffer, io: &mut Io<'_, R>) {
        let Some(flight) = self.flights.get(key) else { return };
        let operation = Operation::Write {
            file: self.setup.file,
            offset: flight.run.offset() + u64::from(flight.done),
            buffer,
            start: flight.done,
            len: flight.len() - flight.done,
        };
        io.counters.disk_writes += 1;
        io.pusher.push(token(Kind::Spill, key, 0), operation);
    }

    fn completed<R: Ring>(&mut self, key: Key, event: Event, units: &mut Table<Lun>, io: &mut Io<'_, R>) {
        let Event::Transferred { result, buffer } = event else {
            debug_assert!(false, "a spill completed as something else");
            return;
        };
        let Some(flight) = self.flights.get_mut(key) else { return };
        let result = match result {
            Ok(0) => Err(Errno(EIO)),
            Ok(done) => {
                flight.done += done.min(flight.len() - flight.done);
                Ok(flight.done == flight.len())
            }
            Err(Errno(EINTR | EAGAIN)) => Ok(false),
            Err(error) => Err(error),
        };
        match result {
            Ok(false) => return self.push(key, buffer, io),
            Ok(true) => self.succeeded(),
            Err(error) => self.failed(error, io),
        }
        if let Some(flight) = self.flights.remove(key) {
            self.in_flight -= flight.slots.len() as u32;
            self.end(&flight, result.is_ok(), units, io.counters);
        }
    }

    fn succeeded(&mut self) {
        if self.failures > 0 {
            tracing::info!("scratch space can be written again");
        }
        self.failures = 0;
    }

    fn failed<R: Ring>(&mut self, error: Errno, io: &mut Io<'_, R>) {
        io.counters.spill_failures += 1;
        if self.failures == 0 {
            tracing::error!(%error, "scratch space cannot be written: clones stay in memory, as far as there is some");
        }
        self.due_ns = io.now_ns + doubled(BACKOFF_NS, self.failures, BACKOFF_NS_MAX);
        self.failures = self.failures.saturating_add(1);
    }

    /// A write is over: its slots are in scratch space now, or stay where they are.
    fn end(&self, flight: &Flight, written: bool, units: &mut Table<Lun>, counters: &mut Counters) {
        for (unit, slot, block) in flight.each() {
            let clone = units.get_mut(unit).and_then(|unit| match &mut unit.medium {
                Medium::Clone(clone) => Some(clone),
                Medium::Disk(_) => None,
            });
            let memory = clone.and_then(|clone| match written {
                true => clone.overlay.end_spill(slot, flight.number, block),
                false => {
                    clone.overlay.abandon_spill(slot, flight.number);
                    None
                }
            });
            match memory {
                Some(_) => counters.slots_spilled += 1,
                None => {
                    counters.slots_spilled_in_vain += u64::from(written);
                    self.setup.scratch.release(block);
                }
            }
        }
    }
}

/// A clone whose slots may be spilled: not one that is being sanitized.
fn spillable(unit: &mut Lun) -> Option<&mut CloneMedium> {
    match &mut unit.medium {
        Medium::Clone(clone) if unit.sanitizing.is_none() => Some(clone),
        _ => None,
    }
}

impl Backend {
    /// Spills overlays from now on, when the arena runs full.
    pub(crate) fn set_spiller(&mut self, spiller: Spiller) {
        self.spiller = Some(Box::new(spiller));
    }

    /// Where overlays are spilled to.
    pub(super) fn scratch(&self) -> Option<ScratchSetup> {
        self.spiller.as_deref().map(Spiller::setup)
    }

    /// Whether spilling can go on in this turn.
    #[inline]
    pub(crate) fn spill_is_due(&self, arena: &Pool, now_ns: u64) -> bool {
        let due = |spiller: &Spiller| spiller.may_begin(arena) && spiller.due_ns <= now_ns;
        self.spiller.as_deref().is_some_and(due)
    }

    /// When it can go on, if it waits for its time.
    pub(crate) fn spill_deadline(&self, arena: &Pool) -> Option<u64> {
        self.spiller.as_deref().filter(|spiller| spiller.may_begin(arena)).map(|spiller| spiller.due_ns)
    }

    /// Whether who finds the arena full may expect room soon.
    #[inline]
    pub(crate) fn makes_room(&self) -> bool {
        self.spiller.as_deref().is_some_and(Spiller::makes_room)
    }

    /// Goes on with spilling.
    #[cold]
    pub(crate) fn spill<R: Ring>(&mut self, io: &mut Io<'_, R>) {
        let Some(spiller) = &mut self.spiller else { return };
        spiller.begin(&mut self.luns, io);
        // Memory that is cold may be other shards', and they asleep.
        if io.now_ns.saturating_sub(spiller.told_ns) >= TELL_NS && self.shards.len() > 1 {
            spiller.told_ns = io.now_ns;
            self.results.push_back(Result::Spill);
        }
    }

    /// A write to scratch space has completed.
    #[cold]
    pub(crate) fn spilled<R: Ring>(&mut self, key: Key, part: u16, event: Event, io: &mut Io<'_, R>) {
        let Some(spiller) = &mut self.spiller else { return };
        if part != WIPE {
            return spiller.completed(key, event, &mut self.luns, io);
        }
        let scratch = Arc::clone(&spiller.setup.scratch);
        let Some((Wipe { unit, run, .. }, result)) = spiller.wiped(key, &event, io) else { return };
        if !self.overwritten(unit, run, result, io) {
            run.each().for_each(|block| scratch.release(block));
        }
    }

    /// Whether a write to scratch space under way has a copy of this unit's slots.
    pub(super) fn is_copied(&self, unit: Key) -> bool {
        self.spiller.as_deref().is_some_and(|spiller| spiller.copies(unit))
    }

    /// A unit leaves this shard: what is copied of it is for nothing.
    pub(super) fn forsake_spills(&mut self, unit: Key) {
        let Some(spiller) = self.spiller.as_deref() else { return };
        let Some(Medium::Clone(clone)) = self.luns.get_mut(unit).map(|unit| &mut unit.medium) else { return };
        for (_, flight) in spiller.flights.iter() {
            for (_, slot) in flight.slots.iter().filter(|(of, _)| *of == unit) {
                clone.overlay.abandon_spill(*slot, flight.number);
            }
        }
    }

    /// The shard is stopping: nothing more is begun.
    pub(crate) fn halt_spiller(&mut self) {
        if let Some(spiller) = &mut self.spiller {
            spiller.halted = true;
        }
    }

    /// Whether writes to scratch space are under way.
    pub(crate) fn spiller_is_busy(&self) -> bool {
        self.spiller.as_deref().is_some_and(|spiller| spiller.flights.len() + spiller.wipes.len() > 0)
    }
}
