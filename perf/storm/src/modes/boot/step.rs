//! A machine goes as far in its trace as it can.

use super::check::tag;
use super::machine::{Flight, Link, Machine, NEVER, State, command, out};
use super::shard::{BootShard, Owner};
use crate::failure::Failure;
use rand::RngExt as _;
use stampede_initiator::{Command, Transfer};
use stampede_trace::{Event, Op, Stage};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How long a machine waits that finds no room for a command.
const ROOM_NS: u64 = 1_000_000;
/// Blocks of the longest small write.
const SMALL_MAX: u32 = 7;
/// A read of what is around a small write begins and ends so many blocks away from it.
const AROUND: u64 = 8;

/// What a step came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// The next one may follow.
    On,
    /// An event will come.
    Wait,
    /// Nothing before this time.
    Until(u64),
}

impl BootShard<'_> {
    /// Does all that the machine can do now.
    ///
    /// # Errors
    /// No socket to be had.
    pub(super) fn step(&mut self, index: usize) -> Result<(), Failure> {
        if self.machines[index].state == State::Over {
            return Ok(());
        }
        let again_ns = self.pending(index)?;
        let step = loop {
            match self.advance(index)? {
                Step::On => {}
                other => break other,
            }
        };
        let until_ns = if let Step::Until(until_ns) = step { until_ns.min(again_ns) } else { again_ns };
        if until_ns != NEVER && self.machines[index].state != State::Over {
            self.wake_at(index, until_ns.max(self.client.now_ns() + 1));
        }
        Ok(())
    }

    /// Logins and commands that are done once more; when the next of them is due.
    fn pending(&mut self, index: usize) -> Result<u64, Failure> {
        let now_ns = self.client.now_ns();
        let mut next_ns = NEVER;
        for session in 0..self.machines[index].seats.len() {
            if let Link::Retry { from_ns } = self.machines[index].seats[session].link {
                if from_ns <= now_ns {
                    self.connect(index, session as u8)?;
                } else {
                    next_ns = next_ns.min(from_ns);
                }
            }
        }
        for place in 0..self.machines[index].flights.len() {
            let Some(Flight { again_ns: Some(due_ns), .. }) = self.machines[index].flights[place] else {
                continue;
            };
            if due_ns > now_ns {
                next_ns = next_ns.min(due_ns);
            } else if !self.send(index, place) {
                next_ns = next_ns.min(now_ns + ROOM_NS);
            }
        }
        Ok(next_ns)
    }

    fn connect(&mut self, index: usize, session: u8) -> Result<(), Failure> {
        let machine = &mut self.machines[index];
        let stage = machine.seat(session).stage;
        let config = self.plan.endpoint.boot_session(machine.number, session, stage, self.plan.depth);
        let id = self.client.connect(self.plan.endpoint.portal, config).map_err(Failure::runtime)?;
        let seat = machine.seat(session);
        (seat.id, seat.link) = (Some(id), Link::LoggingIn);
        if self.owners.len() <= id.index() {
            self.owners.resize(id.index() + 1, None);
        }
        // Machines are counted in 32 bits.
        self.owners[id.index()] = Some(Owner { machine: index as u32, seat: session });
        Ok(())
    }

    fn advance(&mut self, index: usize) -> Result<Step, Failure> {
        let now_ns = self.client.now_ns();
        match self.machines[index].state {
            State::Off { from_ns } if from_ns > now_ns => Ok(Step::Until(from_ns)),
            State::Off { .. } => {
                let machine = &mut self.machines[index];
                machine.state = State::Booting;
                (machine.last_done_ns, machine.record.started_ns) = (now_ns, Some(now_ns));
                Ok(Step::On)
            }
            State::Booting => self.event(index),
            State::ReadingBack { extent } => Ok(self.read_back(index, extent)),
            State::Staying { until_ns } if until_ns > now_ns => Ok(Step::Until(until_ns)),
            State::Staying { .. } => {
                self.switch_off(index);
                Ok(Step::Wait)
            }
            State::Over => Ok(Step::Wait),
        }
    }

    /// The trace's next event.
    fn event(&mut self, index: usize) -> Result<Step, Failure> {
        let machine = &mut self.machines[index];
        if let Some(op) = machine.extra.front().copied() {
            return Ok(self.alone(index, op, |machine| {
                machine.extra.pop_front();
            }));
        }
        let trace = Arc::clone(&self.plan.trace);
        let Some(event) = trace.events.get(machine.cursor) else {
            return Ok(self.trace_end(index));
        };
        match event {
            Event::Login { session, stage, think_us } => self.log_in(index, *session, *stage, *think_us),
            Event::Close { session } => Ok(self.close(index, *session)),
            Event::On { session } => {
                (machine.current, machine.cursor) = (*session, machine.cursor + 1);
                if machine.seat(*session).link == Link::Down {
                    // The target ended it while it was not used.
                    self.connect(index, *session)?;
                }
                Ok(Step::On)
            }
            Event::Marker { .. } => {
                if machine.outstanding > 0 {
                    return Ok(Step::Wait);
                }
                machine.cursor += 1;
                if machine.record.marker_ns.is_none() {
                    self.control.machines[0].fetch_add(1, Ordering::Relaxed);
                }
                machine.record.marker_ns = Some(machine.last_done_ns);
                Ok(Step::On)
            }
            Event::Command(command) => Ok(self.command(index, command)),
        }
    }

    fn log_in(&mut self, index: usize, session: u8, stage: Stage, think_us: u64) -> Result<Step, Failure> {
        let machine = &mut self.machines[index];
        if !machine.login_begun {
            if machine.outstanding > 0 {
                return Ok(Step::Wait);
            }
            let due_ns = machine.last_done_ns + thought(think_us, self.plan.think);
            if due_ns > self.client.now_ns() {
                return Ok(Step::Until(due_ns));
            }
            machine.login_begun = true;
            // One that stands is left to the target, which ends it for its successor.
            let seat = machine.seat(session);
            (seat.stage, seat.failures) = (stage, 0);
            self.connect(index, session)?;
            return Ok(Step::Wait);
        }
        if machine.seat(session).link != Link::Up {
            return Ok(Step::Wait);
        }
        (machine.login_begun, machine.current, machine.cursor) = (false, session, machine.cursor + 1);
        Ok(Step::On)
    }

    fn close(&mut self, index: usize, session: u8) -> Step {
        let machine = &mut self.machines[index];
        if machine.is_busy(session) {
            return Step::Wait;
        }
        machine.cursor += 1;
        let seat = machine.seat(session);
        seat.link = Link::Down;
        if let Some(id) = seat.id.take() {
            self.client.close(id, &mut self.events);
        }
        Step::On
    }

    fn command(&mut self, index: usize, command: &stampede_trace::Command) -> Step {
        let machine = &mut self.machines[index];
        if !self.plan.writes && matches!(command.op, Op::Write { .. }) {
            machine.cursor += 1;
            return Step::On;
        }
        if machine.outstanding > command.depth {
            return Step::Wait;
        }
        let due_ns = machine.last_done_ns + thought(command.think_us, self.plan.think);
        if command.depth == 0 && due_ns > self.client.now_ns() {
            return Step::Until(due_ns);
        }
        let step = self.issue(index, command.op);
        if step == Step::On {
            self.machines[index].cursor += 1;
            if matches!(command.op, Op::Write { .. }) {
                self.add_small_write(index, &command.op);
            }
        }
        step
    }

    /// A command that goes alone and at once; `taken` when it is on its way.
    fn alone(&mut self, index: usize, op: Op, taken: impl FnOnce(&mut Machine)) -> Step {
        if self.machines[index].outstanding > 0 {
            return Step::Wait;
        }
        let step = self.issue(index, op);
        if step == Step::On {
            taken(&mut self.machines[index]);
        }
        step
    }

    /// Sends a command of the machine's present session.
    fn issue(&mut self, index: usize, op: Op) -> Step {
        let now_ns = self.client.now_ns();
        let machine = &mut self.machines[index];
        let session = machine.current;
        if machine.seat(session).link != Link::Up || machine.conflicts(&op) {
            return Step::Wait;
        }
        let place = machine.add(Flight::new(op, session, now_ns));
        if self.send(index, place) {
            return Step::On;
        }
        // It has changed nothing yet.
        self.machines[index].finish(place);
        Step::Until(now_ns + ROOM_NS)
    }

    /// Gives a command to its session; whether it is on its way, or waits for a session.
    fn send(&mut self, index: usize, place: usize) -> bool {
        let machine = &mut self.machines[index];
        let Some(Some(flight)) = machine.flights.get_mut(place) else { return true };
        let seat = machine.seats[usize::from(flight.seat)];
        let (Some(id), Link::Up) = (seat.id, seat.link) else { return true };
        if !self.client.has_room(id) {
            return false;
        }
        let (cdb, mut transfer) = command(&flight.op, self.plan.image.is_some());
        if let Op::Write { .. } = flight.op {
            let Some(mut buffer) = self.pool.take() else { return false };
            let Some((lba, len)) = out(&mut buffer, &flight.op) else { return false };
            let Some(data) = buffer.bytes_mut().map(|bytes| &mut bytes[..len as usize]) else { return false };
            if flight.generation == 0 {
                machine.disk.write(lba, data);
                flight.generation = machine.disk.generation;
            } else {
                machine.disk.rewrite(lba, flight.generation, data);
            }
            transfer = Transfer::Out { buffer, start: 0, len };
        }
        let lun = self.plan.endpoint.lun;
        let sent = self.client.submit(id, Command { lun, cdb, transfer, tag: tag(index, place) }).is_ok();
        if sent {
            flight.again_ns = None;
        }
        sent
    }

    /// Now and then a few blocks are written near a write of the trace, and what is around them is read.
    fn add_small_write(&mut self, index: usize, op: &Op) {
        let Op::Write { lba, blocks, .. } = *op else { return };
        if self.rng.random_range(0..100) >= self.plan.small_writes {
            return;
        }
        let small = self.rng.random_range(1..=SMALL_MAX);
        let first = lba.saturating_sub(AROUND);
        let last = (lba + u64::from(blocks) + AROUND).min(self.plan.blocks - u64::from(small));
        let at = self.rng.random_range(first.min(last)..=last);
        let from = at.saturating_sub(AROUND);
        let to = (at + u64::from(small) + AROUND).min(self.plan.blocks);
        self.machines[index].extra.extend([
            Op::Write { lba: at, blocks: small, fua: false },
            Op::Read { lba: from, blocks: (to - from) as u32 },
        ]);
        self.result.counts.small_writes += 1;
    }

    fn trace_end(&mut self, index: usize) -> Step {
        let machine = &mut self.machines[index];
        if machine.outstanding > 0 {
            return Step::Wait;
        }
        if self.plan.read_back {
            machine.state = State::ReadingBack { extent: 0 };
            return Step::On;
        }
        self.arrived(index)
    }

    fn read_back(&mut self, index: usize, extent: usize) -> Step {
        match self.machines[index].disk.overlay.extent(extent) {
            Some((lba, blocks)) => self.alone(index, Op::Read { lba, blocks }, |machine| {
                machine.state = State::ReadingBack { extent: extent + 1 };
            }),
            None if self.machines[index].outstanding > 0 => Step::Wait,
            None => self.arrived(index),
        }
    }

    /// Everything is done.
    fn arrived(&mut self, index: usize) -> Step {
        let machine = &mut self.machines[index];
        machine.record.end_ns = Some(machine.last_done_ns);
        if machine.record.marker_ns.is_none() {
            machine.record.marker_ns = machine.record.end_ns;
            self.control.machines[0].fetch_add(1, Ordering::Relaxed);
        }
        machine.state = State::Staying { until_ns: self.client.now_ns() + self.plan.stay_ns };
        Step::On
    }
}

/// Think time as it is to be, nanoseconds.
fn thought(think_us: u64, factor: f64) -> u64 {
    (think_us as f64 * factor * 1e3) as u64
}
