//! One thread of machines.
//!
//! ```text
//!   ring ─► events ─► hear ─► step(machine) ─► commands, logins ─► ring
//!   timers ────────────────────┘ │ each machine goes as far as it can, then waits for an event or a time
//! ```

use super::check::{Checker, of_tag, short};
use super::golden::Image;
use super::machine::{Link, Machine, NEVER, State, bytes};
use super::retry;
use crate::endpoint::Endpoint;
use crate::failure::{Failure, advice};
use crate::modes::record::Figures;
use crate::run::Control;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use stampede_initiator::{Client, ClientConfig, Completed, Ending, Event, Outcome, SessionId};
use stampede_report::{Latency, MismatchEntry};
use stampede_ring::{Pool, PoolConfig};
use stampede_trace::{Op, Stage, Trace};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How long a turn may wait when nothing is due.
const TURN_NS: u64 = 50_000_000;
/// The same until the run begins.
const SHORT_TURN_NS: u64 = 1_000_000;
/// Memory for data that is being written, bytes.
const WRITE_BYTES: u64 = 64 << 20;
/// Mismatches that a shard lists.
const LISTED_MAX: usize = 20;
/// Header buffers for each session: a machine has a few commands under way.
const HEADERS: u32 = 4;

/// What a shard is to do.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) endpoint: Endpoint,
    pub(super) trace: Arc<Trace>,
    /// Commands that a session may have under way.
    pub(super) depth: u16,
    pub(super) think: f64,
    /// Machines, and when each is switched on, nanoseconds from the begin.
    pub(super) machines: Vec<(u32, u64)>,
    /// None looks at nothing.
    pub(super) image: Option<Image>,
    pub(super) writes: bool,
    pub(super) small_writes: u8,
    pub(super) read_back: bool,
    pub(super) stay_ns: u64,
    pub(super) seed: u64,
    /// Blocks of the unit.
    pub(super) blocks: u64,
    /// Bytes of the longest write.
    pub(super) write_max: u32,
}

/// What a shard has counted.
#[derive(Debug, Default)]
pub(super) struct BootResult {
    pub(super) figures: Figures,
    /// Latencies by stage.
    pub(super) firmware: Latency,
    pub(super) os: Latency,
    pub(super) counts: Counts,
    pub(super) mismatches: Vec<MismatchEntry>,
    pub(super) machines: Vec<Machine>,
    /// When the begin was.
    pub(super) begin_ns: u64,
}

/// Counters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) logins: u64,
    pub(super) replaced: u64,
    pub(super) sessions_max: u64,
    pub(super) unit_attentions: u64,
    pub(super) busy: u64,
    pub(super) task_set_full: u64,
    pub(super) other_retries: u64,
    pub(super) refused: u64,
    pub(super) small_writes: u64,
    pub(super) checked_bytes: u64,
}

/// Whose a session is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) machine: u32,
    pub(super) seat: u8,
}

/// See the module.
pub(super) struct BootShard<'a> {
    pub(super) control: &'a Control,
    pub(super) plan: Plan,
    pub(super) client: Client,
    pub(super) pool: Arc<Pool>,
    pub(super) machines: Vec<Machine>,
    image: Image,
    /// By the session's place in the client.
    pub(super) owners: Vec<Option<Owner>>,
    timers: BinaryHeap<Reverse<(u64, u32)>>,
    /// Events of calls outside of turns.
    pub(super) events: Vec<Event>,
    pub(super) rng: SmallRng,
    pub(super) over: usize,
    pub(super) result: BootResult,
    operations: u64,
    moved: u64,
}

impl<'a> BootShard<'a> {
    /// Sets the shard up on this thread.
    ///
    /// # Errors
    /// No ring or no memory.
    pub(super) fn new(plan: Plan, run: u64, control: &'a Control) -> Result<Self, Failure> {
        // A machine has two sessions at times, and a third that is being closed.
        let sessions_max = u32::try_from(plan.machines.len() * 3).map_err(Failure::runtime)?;
        let config = ClientConfig { header_buffers: HEADERS, ..ClientConfig::new(sessions_max) };
        let client = Client::new(&config).map_err(Failure::runtime)?;
        let slot_len = plan.write_max.max(4096).next_multiple_of(4096);
        let slots = u32::try_from((WRITE_BYTES / u64::from(slot_len)).clamp(16, 4096)).unwrap_or(16);
        let pool = Pool::new(PoolConfig { slot_len, slots }).map_err(Failure::runtime)?;
        let machines = plan.machines.iter().map(|(number, from_ns)| Machine::new(*number, *from_ns, run));
        Ok(Self {
            control,
            client,
            pool,
            machines: machines.collect(),
            image: plan.image.clone().unwrap_or(Image::Stamped),
            owners: Vec::new(),
            timers: BinaryHeap::new(),
            events: Vec::new(),
            rng: SmallRng::seed_from_u64(plan.seed),
            over: 0,
            result: BootResult::default(),
            operations: 0,
            moved: 0,
            plan,
        })
    }

    /// The whole run of this shard.
    ///
    /// # Errors
    /// No sockets to be had, or the ring is broken.
    pub(super) fn run(mut self) -> Result<BootResult, Failure> {
        self.control.shard_ready();
        let (mut events, mut is_done) = (Vec::with_capacity(256), false);
        loop {
            self.turn(is_done, &mut events)?;
            let times = self.control.times();
            let now_ns = self.client.now_ns();
            if self.control.is_cancelled() || now_ns >= times.until_ns {
                break;
            }
            if now_ns < times.begin_ns {
                continue;
            }
            if self.result.begin_ns == 0 {
                self.begin(times.begin_ns);
            }
            self.hear_all(&mut events)?;
            self.wake(now_ns)?;
            self.publish();
            if !is_done && self.over == self.machines.len() && self.client.sessions() == 0 {
                is_done = true;
                self.control.shard_done();
            }
        }
        self.result.machines = self.machines;
        Ok(self.result)
    }

    fn turn(&mut self, is_done: bool, events: &mut Vec<Event>) -> Result<(), Failure> {
        let now_ns = self.client.now_ns();
        let idle = if self.result.begin_ns == 0 || is_done { SHORT_TURN_NS } else { TURN_NS };
        let next = self.timers.peek().map_or(NEVER, |Reverse((due_ns, _))| *due_ns);
        let checked = &mut self.result.counts.checked_bytes;
        let mut checker = Checker { machines: &mut self.machines, image: &mut self.image, checked };
        Ok(self.client.turn_into((now_ns + idle).min(next), events, &mut checker)?)
    }

    fn begin(&mut self, begin_ns: u64) {
        self.result.begin_ns = begin_ns;
        for index in 0..self.machines.len() {
            if let State::Off { from_ns } = &mut self.machines[index].state {
                *from_ns += begin_ns;
                let from_ns = *from_ns;
                self.wake_at(index, from_ns);
            }
        }
    }

    fn hear_all(&mut self, events: &mut Vec<Event>) -> Result<(), Failure> {
        loop {
            for event in events.drain(..) {
                self.hear(event)?;
            }
            if self.events.is_empty() {
                return Ok(());
            }
            std::mem::swap(events, &mut self.events);
        }
    }

    /// Steps the machines whose time has come.
    fn wake(&mut self, now_ns: u64) -> Result<(), Failure> {
        while let Some(Reverse((due_ns, index))) = self.timers.peek().copied()
            && due_ns <= now_ns
        {
            self.timers.pop();
            let index = index as usize;
            if self.machines[index].wake_ns == due_ns {
                self.machines[index].wake_ns = NEVER;
                self.step(index)?;
            }
        }
        let mut events = std::mem::take(&mut self.events);
        if !events.is_empty() {
            self.hear_all(&mut events)?;
        }
        Ok(())
    }

    /// Has a machine looked at then, unless it is earlier anyhow.
    pub(super) fn wake_at(&mut self, index: usize, due_ns: u64) {
        if due_ns < self.machines[index].wake_ns {
            self.machines[index].wake_ns = due_ns;
            // Machines are counted in 32 bits.
            self.timers.push(Reverse((due_ns, index as u32)));
        }
    }

    fn publish(&mut self) {
        self.control.publish(self.operations, self.moved);
        (self.operations, self.moved) = (0, 0);
        let sessions = self.client.sessions() as u64;
        self.result.counts.sessions_max = self.result.counts.sessions_max.max(sessions);
    }

    fn hear(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Completed(completed) => self.completed(completed),
            Event::LoggedIn { session, times } => {
                let Some((index, seat)) = self.owner(session) else { return Ok(()) };
                self.result.figures.logins.record(&times, None);
                self.result.counts.logins += 1;
                let now_ns = self.client.now_ns();
                let machine = &mut self.machines[index];
                machine.last_done_ns = now_ns;
                let seat = machine.seat(seat);
                (seat.link, seat.failures) = (Link::Up, 0);
                self.step(index)
            }
            Event::LogoutRequested { session } => {
                self.client.logout(session);
                Ok(())
            }
            Event::Ended { session, ending } => self.ended(session, &ending),
        }
    }

    fn owner(&self, session: SessionId) -> Option<(usize, u8)> {
        let Owner { machine, seat } = (*self.owners.get(session.index())?)?;
        let place = self.machines.get(machine as usize)?.seats.get(usize::from(seat))?;
        (place.id == Some(session)).then_some((machine as usize, seat))
    }

    fn ended(&mut self, session: SessionId, ending: &Ending) -> Result<(), Failure> {
        let Some((index, seat)) = self.owner(session) else { return Ok(()) };
        let now_ns = self.client.now_ns();
        let machine = &mut self.machines[index];
        let number = machine.number;
        let why = || {
            advice(
                ending,
                self.plan.endpoint.portal,
                &self.plan.endpoint.target,
                &self.plan.endpoint.initiator_name(number),
            )
        };
        machine.seat(seat).id = None;
        if machine.seat(seat).link == Link::LoggingIn {
            machine.record.logins_put_off += 1;
            let place = machine.seat(seat);
            place.failures += 1;
            match retry::login(ending, place.stage, place.failures) {
                Some(wait_ns) => place.link = Link::Retry { from_ns: now_ns + wait_ns },
                None => {
                    let why = why();
                    return self.give_up(index, &why);
                }
            }
        } else if (machine.current != seat || machine.login_begun) && !machine.is_busy(seat) {
            // The machine goes on to another session, and the target has seen that.
            machine.seat(seat).link = Link::Down;
            self.result.counts.replaced += 1;
        } else {
            machine.seat(seat).link = Link::Retry { from_ns: now_ns + retry::LOST_NS };
            if matches!(ending, Ending::Lost(_)) {
                machine.record.sessions_lost += 1;
                self.result.figures.errors.add(|| format!("machine {number}: {}", why()));
            }
        }
        self.step(index)
    }

    fn completed(&mut self, completed: Completed) -> Result<(), Failure> {
        let (index, place) = of_tag(completed.tag);
        let now_ns = self.client.now_ns();
        let Some(machine) = self.machines.get_mut(index) else { return Ok(()) };
        let Some(Some(flight)) = machine.flights.get_mut(place) else { return Ok(()) };
        flight.tries = flight.tries.saturating_add(1);
        match retry::command(completed.outcome, flight.tries, matches!(flight.op, Op::Other { .. })) {
            retry::Verdict::Done => {}
            retry::Verdict::Again { wait_ns } => {
                self.result.counts.retry(completed.outcome);
                machine.record.retries += 1;
                flight.again_ns = Some(now_ns + wait_ns);
                flight.wrong = None;
                return self.step(index);
            }
            retry::Verdict::Refused => {
                self.result.counts.refused += 1;
            }
            retry::Verdict::Failed => {
                let op = flight.op;
                if let Op::Write { lba, blocks, .. } = op {
                    machine.disk.forget(lba, blocks);
                }
                let number = machine.number;
                self.result.figures.errors.outcome(completed.outcome, || format!("machine {number}: {op:?}"));
            }
        }
        self.finish(index, place, &completed)
    }

    /// A command is over for good.
    fn finish(&mut self, index: usize, place: usize, completed: &Completed) -> Result<(), Failure> {
        let now_ns = self.client.now_ns();
        let machine = &mut self.machines[index];
        let Some(mut flight) = machine.finish(place) else { return Ok(()) };
        machine.last_done_ns = now_ns;
        let (moved, latency_ns) = (bytes(&flight.op), now_ns.saturating_sub(flight.since_ns));
        let is_read = matches!(flight.op, Op::Read { .. });
        if completed.outcome.is_good() {
            if let Op::Read { lba, .. } = flight.op
                && u64::from(completed.received) != moved
            {
                flight.wrong = Some(Box::new(short(lba, moved, completed.received)));
            }
            let since_ns = now_ns.saturating_sub(self.result.begin_ns);
            match flight.op {
                Op::Read { .. } | Op::Write { .. } => {
                    self.result.figures.operation(is_read, moved, latency_ns, since_ns);
                }
                _ => self.result.figures.second(since_ns, 0),
            }
            let firmware = machine.seat(flight.seat).stage == Stage::Firmware;
            let phase = if firmware { &mut self.result.firmware } else { &mut self.result.os };
            phase.record_ns(latency_ns);
            machine.record.latency.get_or_insert_with(|| Box::new(Latency::coarse())).record_ns(latency_ns);
            self.operations += 1;
            self.moved += moved;
            if let Some(wrong) = flight.wrong {
                machine.record.mismatches += 1;
                if self.result.mismatches.len() < LISTED_MAX {
                    let stampede_verify::Wrong { kind, lba, expected, found } = *wrong;
                    let (kind, session) = (kind.to_owned(), machine.number);
                    self.result.mismatches.push(MismatchEntry { kind, lba, session, expected, found });
                }
            }
        }
        self.step(index)
    }

    /// A machine cannot go on.
    pub(super) fn give_up(&mut self, index: usize, why: &str) -> Result<(), Failure> {
        let number = self.machines[index].number;
        self.result.figures.errors.add(|| format!("machine {number} gave up: {why}"));
        self.machines[index].record.failure = Some(why.to_owned());
        self.switch_off(index);
        Ok(())
    }

    /// Cuts all its sessions, as power-off does.
    pub(super) fn switch_off(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        if machine.state == State::Over {
            return;
        }
        machine.state = State::Over;
        machine.flights.clear();
        machine.outstanding = 0;
        let ids: Vec<SessionId> = machine.seats.iter_mut().filter_map(|seat| seat.id.take()).collect();
        for id in ids {
            self.client.close(id, &mut self.events);
        }
        self.over += 1;
        self.control.machines[1].fetch_add(1, Ordering::Relaxed);
    }
}

impl Counts {
    fn retry(&mut self, outcome: Outcome) {
        use stampede_wire::pdu::status;
        match outcome {
            Outcome::Status { status: status::BUSY, .. } => self.busy += 1,
            Outcome::Status { status: status::TASK_SET_FULL, .. } => self.task_set_full += 1,
            Outcome::Status { sense: Some(sense), .. }
                if sense.key == stampede_initiator::Sense::UNIT_ATTENTION =>
            {
                self.unit_attentions += 1;
            }
            _ => self.other_retries += 1,
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.logins += other.logins;
        self.replaced += other.replaced;
        self.sessions_max += other.sessions_max;
        self.unit_attentions += other.unit_attentions;
        self.busy += other.busy;
        self.task_set_full += other.task_set_full;
        self.other_retries += other.other_retries;
        self.refused += other.refused;
        self.small_writes += other.small_writes;
        self.checked_bytes += other.checked_bytes;
    }
}
