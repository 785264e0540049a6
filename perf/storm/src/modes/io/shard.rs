//! One thread of reads and writes.

use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::load::{Next, Pattern};
use crate::modes::record::Figures;
use crate::modes::seats::{News, Seats};
use crate::run::{Control, NEVER, Times};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use stampede_initiator::{Command, Completed, Event, Outcome, Transfer, cdb};
use stampede_report::Latency;
use stampede_ring::{Buffer, Pool, PoolConfig};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How long a turn may wait when nothing else is due.
const TURN_NS: u64 = 50_000_000;
/// The same while the shard waits for the others, or for a target's window to open.
const SHORT_TURN_NS: u64 = 1_000_000;
/// How long commands may take to come back after the run's end.
const DRAIN_NS: u64 = 10_000_000_000;

/// What a shard is to do.
#[derive(Debug)]
pub(crate) struct IoPlan {
    pub(crate) endpoint: Endpoint,
    /// Numbers of its sessions.
    pub(crate) numbers: std::ops::Range<u32>,
    /// One pattern each.
    pub(crate) patterns: Vec<Pattern>,
    /// Operations of the window each; `u64::MAX` for as many as there are.
    pub(crate) budgets: Vec<u64>,
    /// Commands in flight each.
    pub(crate) depth: u16,
    /// Bytes of a logical block.
    pub(crate) block_size: u32,
    /// Bytes of the largest operation.
    pub(crate) largest: u32,
    /// Seed of the written data.
    pub(crate) seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    LogIn,
    Wait,
    Run,
    Drain,
}

/// What one session does.
#[derive(Debug)]
struct Work {
    pattern: Pattern,
    budget: u64,
    in_flight: u16,
    /// It is in `hungry`.
    is_hungry: bool,
    latency: Latency,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct IoShard<'a> {
    control: &'a Control,
    plan: IoPlan,
    seats: Seats,
    works: Vec<Work>,
    /// Seats with fewer commands in flight than they should have, since the target's window is closed.
    hungry: Vec<usize>,
    /// What is written.
    data: Buffer,
    figures: Figures,
    phase: Phase,
    times: Times,
    in_flight: u64,
    /// Seats whose budget is used up and whose commands are back.
    is_done: bool,
    unpublished: (u64, u64),
}

/// What a command's tag says: its bytes, whether it reads, whether it is of the window.
#[derive(Clone, Copy)]
struct Tag {
    bytes: u32,
    is_read: bool,
    is_measured: bool,
}

impl Tag {
    fn pack(self) -> u64 {
        u64::from(self.bytes) << 2 | u64::from(self.is_read) << 1 | u64::from(self.is_measured)
    }

    fn unpack(tag: u64) -> Self {
        // 32 bits of `pack`.
        Self { bytes: (tag >> 2) as u32, is_read: tag & 2 != 0, is_measured: tag & 1 != 0 }
    }
}

impl<'a> IoShard<'a> {
    /// Sets the shard up on this thread.
    ///
    /// # Errors
    /// No ring or no memory.
    pub(crate) fn new(mut plan: IoPlan, control: &'a Control) -> Result<Self, Failure> {
        let seats = Seats::new(&plan.endpoint, plan.numbers.clone(), plan.depth)?;
        let patterns = std::mem::take(&mut plan.patterns);
        let work = |(pattern, budget)| Work {
            pattern,
            budget,
            in_flight: 0,
            is_hungry: false,
            latency: Latency::compact(),
        };
        let works = patterns.into_iter().zip(plan.budgets.iter().copied()).map(work).collect();
        Ok(Self {
            control,
            seats,
            works,
            hungry: Vec::new(),
            data: random_data(plan.largest, plan.seed)?,
            plan,
            figures: Figures::default(),
            phase: Phase::LogIn,
            times: control.times(),
            in_flight: 0,
            is_done: false,
            unpublished: (0, 0),
        })
    }

    /// The whole run of this shard.
    ///
    /// # Errors
    /// A session cannot be had, or the ring is broken.
    pub(crate) fn run(mut self) -> Result<Figures, Failure> {
        let mut events: Vec<Event> = Vec::with_capacity(1024);
        let mut drain_until = NEVER;
        self.seats.log_in()?;
        loop {
            self.seats.client.turn(self.deadline(), &mut events)?;
            let now_ns = self.seats.client.now_ns();
            self.times = self.control.times();
            for event in events.drain(..) {
                match self.seats.hear(event, &mut self.figures)? {
                    News::Completed { seat, completed } => self.completed(seat, &completed, now_ns),
                    News::Ready { seat } => {
                        self.control.logged_in.fetch_add(1, Ordering::Relaxed);
                        self.fill(seat, now_ns);
                    }
                    News::None => {}
                }
            }
            self.advance(now_ns)?;
            if self.phase == Phase::Drain {
                drain_until = drain_until.min(now_ns + DRAIN_NS);
                if self.in_flight == 0 || now_ns >= drain_until {
                    break;
                }
            }
        }
        self.seats.log_out(&mut self.figures)?;
        let numbers = (0..self.works.len()).map(|seat| self.seats.number(seat));
        self.figures.sessions = numbers.zip(self.works.into_iter().map(|work| work.latency)).collect();
        Ok(self.figures)
    }

    /// How long the next turn may wait.
    fn deadline(&self) -> u64 {
        let now_ns = self.seats.client.now_ns();
        match self.phase {
            Phase::Wait => (now_ns + SHORT_TURN_NS).min(self.times.begin_ns),
            Phase::Run if self.is_done || !self.hungry.is_empty() => now_ns + SHORT_TURN_NS,
            Phase::Run => (now_ns + TURN_NS).min(self.times.until_ns),
            Phase::LogIn | Phase::Drain => now_ns + TURN_NS,
        }
    }

    /// What the time brings.
    fn advance(&mut self, now_ns: u64) -> Result<(), Failure> {
        if self.control.is_cancelled() {
            self.phase = Phase::Drain;
        }
        match self.phase {
            Phase::LogIn => {
                self.seats.log_in()?;
                if self.seats.is_ready() {
                    self.control.shard_ready();
                    self.seats.keep_going();
                    self.phase = Phase::Wait;
                }
            }
            Phase::Wait if now_ns >= self.times.begin_ns => {
                self.phase = Phase::Run;
                (0..self.works.len()).for_each(|seat| self.fill(seat, now_ns));
            }
            Phase::Run if now_ns >= self.times.until_ns => self.phase = Phase::Drain,
            Phase::Run => {
                self.seats.log_in()?;
                self.feed_hungry(now_ns);
                self.publish();
                if !self.is_done && self.in_flight == 0 && self.works.iter().all(|work| work.budget == 0) {
                    self.is_done = true;
                    self.control.shard_done();
                }
            }
            Phase::Wait | Phase::Drain => {}
        }
        Ok(())
    }

    #[inline]
    fn completed(&mut self, seat: usize, completed: &Completed, now_ns: u64) {
        let Completed { outcome, latency_ns, received, .. } = *completed;
        let Tag { bytes, is_read, is_measured } = Tag::unpack(completed.tag);
        self.works[seat].in_flight -= 1;
        self.in_flight -= 1;
        let in_window = is_measured && now_ns >= self.times.from_ns && now_ns < self.times.until_ns;
        let is_short = is_read && received != bytes;
        if !outcome.is_good() || is_short {
            self.failed(outcome, is_read, is_short);
        } else if in_window {
            let since_from_ns = now_ns - self.times.from_ns;
            self.figures.operation(is_read, u64::from(bytes), latency_ns, since_from_ns);
            self.works[seat].latency.record_ns(latency_ns);
        } else if now_ns < self.times.from_ns {
            self.figures.warmup.record_ns(latency_ns);
        }
        self.unpublished.0 += 1;
        self.unpublished.1 += u64::from(bytes);
        if self.phase == Phase::Run {
            self.fill(seat, now_ns);
        }
    }

    #[cold]
    fn failed(&mut self, outcome: Outcome, is_read: bool, is_short: bool) {
        let what = if is_read { "a read" } else { "a write" };
        if is_short && outcome.is_good() {
            self.figures.errors.add(|| "a read with status GOOD and fewer bytes than asked for".to_owned());
        } else {
            self.figures.errors.outcome(outcome, || what.to_owned());
        }
    }

    /// Brings a session to its depth.
    #[inline]
    fn fill(&mut self, seat: usize, now_ns: u64) {
        if self.phase != Phase::Run || now_ns >= self.times.until_ns {
            return;
        }
        let Some(session) = self.seats.session(seat) else { return };
        let work = &mut self.works[seat];
        // With a number of operations the warm-up is not counted; with a time what ends in the window is.
        let counts = now_ns >= self.times.from_ns;
        let by_time = self.plan.budgets[seat] == u64::MAX;
        while work.in_flight < self.plan.depth && work.budget > 0 {
            if !self.seats.client.has_room(session) {
                if !std::mem::replace(&mut work.is_hungry, true) {
                    self.hungry.push(seat);
                }
                return;
            }
            let Next { is_read, lba, blocks } = work.pattern.next();
            let len = blocks * self.plan.block_size;
            let tag = Tag { bytes: len, is_read, is_measured: counts || by_time };
            let (cdb, transfer) = if is_read {
                (cdb::read(lba, blocks), Transfer::Count { len })
            } else {
                (cdb::write(lba, blocks), Transfer::Out { buffer: self.data.clone(), start: 0, len })
            };
            let command = Command { lun: self.plan.endpoint.lun, cdb, transfer, tag: tag.pack() };
            if self.seats.client.submit(session, command).is_err() {
                return;
            }
            work.in_flight += 1;
            self.in_flight += 1;
            if counts && !by_time {
                work.budget -= 1;
            }
        }
    }

    /// Tries those again whose window was closed.
    fn feed_hungry(&mut self, now_ns: u64) {
        if self.hungry.is_empty() {
            return;
        }
        for seat in std::mem::take(&mut self.hungry) {
            self.works[seat].is_hungry = false;
            self.fill(seat, now_ns);
        }
    }

    fn publish(&mut self) {
        // Seldom enough that no core waits for another's cache line.
        if self.unpublished.0 >= 1000
            || self.seats.ready() > 0 && self.unpublished.0 > 0 && self.in_flight < 16
        {
            let (operations, bytes) = std::mem::take(&mut self.unpublished);
            self.control.publish(operations, bytes);
        }
    }
}

/// A buffer of random bytes, so that no target can store less than it is given.
fn random_data(len: u32, seed: u64) -> Result<Buffer, Failure> {
    let pool = Pool::new(PoolConfig { slot_len: len.next_multiple_of(4096), slots: 1 });
    let mut buffer = Arc::clone(&pool.map_err(Failure::runtime)?).take();
    if let Some(bytes) = buffer.as_mut().and_then(Buffer::bytes_mut) {
        SmallRng::seed_from_u64(seed).fill_bytes(bytes);
    }
    buffer.ok_or_else(|| Failure::runtime("no memory for the data to write"))
}
