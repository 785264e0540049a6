//! One thread of verification: a plan for each session, whose operations it sends and whose outcomes it reports.

use super::LISTED_MAX;
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::modes::record::Figures;
use crate::modes::seats::{News, Seats};
use crate::run::{Control, Times};
use stampede_initiator::{Command, Completed, Event, Outcome as Ended, Sense, SessionId, Transfer, cdb};
use stampede_report::{Latency, MismatchEntry};
use stampede_ring::{Buffer, Pool, PoolConfig};
use stampede_verify::{Counts, Op, OpKind, Outcome, Plan};
use stampede_wire::pdu::status;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How long a turn may wait.
const TURN_NS: u64 = 5_000_000;
/// A last pass without any answer for so long is given up: the target is gone.
const PATIENCE_NS: u64 = 60_000_000_000;

/// One session's plan.
#[derive(Debug)]
pub(crate) struct VerifyWork {
    plan: Plan,
    /// Operations before the last pass.
    budget: u64,
    latency: Latency,
}

impl VerifyWork {
    pub(crate) fn new(plan: Plan, budget: u64) -> Self {
        Self { plan, budget, latency: Latency::compact() }
    }
}

/// What a shard has found.
#[derive(Debug)]
pub(crate) struct VerifyResult {
    pub(crate) figures: Figures,
    /// By session.
    pub(crate) counts: Vec<Counts>,
    pub(crate) mismatches: Vec<MismatchEntry>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    LogIn,
    Wait,
    Run,
    LastPass,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct VerifyShard<'a> {
    control: &'a Control,
    endpoint: Endpoint,
    seats: Seats,
    works: Vec<VerifyWork>,
    buffers: Arc<Pool>,
    figures: Figures,
    mismatches: Vec<MismatchEntry>,
    phase: Phase,
    times: Times,
    /// When something was answered last.
    progress_ns: u64,
}

impl<'a> VerifyShard<'a> {
    /// Sets the shard up on this thread; `slot` is the longest operation, bytes.
    ///
    /// # Errors
    /// No ring or no memory.
    pub(crate) fn new(
        endpoint: &Endpoint,
        numbers: Range<u32>,
        works: Vec<VerifyWork>,
        depth: u16,
        slot: u32,
        control: &'a Control,
    ) -> Result<Self, Failure> {
        // Twice the depth: data of a write stays with its send for a moment after the answer.
        let slots = u32::from(depth) * 2 * numbers.len() as u32 + 16;
        let slot_len = slot.next_multiple_of(4096);
        Ok(Self {
            control,
            endpoint: endpoint.clone(),
            seats: Seats::new(endpoint, numbers, depth)?,
            works,
            buffers: Pool::new(PoolConfig { slot_len, slots }).map_err(Failure::runtime)?,
            figures: Figures::default(),
            mismatches: Vec::new(),
            phase: Phase::LogIn,
            times: control.times(),
            progress_ns: 0,
        })
    }

    /// The whole run of this shard, the last pass included.
    ///
    /// # Errors
    /// A session cannot be had in the beginning, or the ring is broken.
    pub(crate) fn run(mut self) -> Result<VerifyResult, Failure> {
        let mut events = Vec::with_capacity(256);
        loop {
            self.seats.log_in()?;
            self.seats.client.turn(self.seats.client.now_ns() + TURN_NS, &mut events)?;
            let now_ns = self.seats.client.now_ns();
            self.times = self.control.times();
            for event in events.drain(..) {
                self.hear(event, now_ns)?;
            }
            self.advance(now_ns);
            if matches!(self.phase, Phase::Run | Phase::LastPass) {
                (0..self.works.len()).for_each(|seat| self.fill(seat));
            }
            if self.control.is_cancelled() || self.is_over(now_ns) {
                break;
            }
        }
        self.seats.log_out(&mut self.figures)?;
        let numbers = (0..self.works.len()).map(|seat| self.seats.number(seat));
        let counts = self.works.iter().map(|work| work.plan.counts()).collect();
        self.figures.sessions = numbers.zip(self.works.into_iter().map(|work| work.latency)).collect();
        Ok(VerifyResult { figures: self.figures, counts, mismatches: self.mismatches })
    }

    fn hear(&mut self, event: Event, now_ns: u64) -> Result<(), Failure> {
        match self.seats.hear(event, &mut self.figures)? {
            News::Completed { seat, completed } => self.completed(seat, &completed, now_ns),
            News::Ready { .. } => drop(self.control.logged_in.fetch_add(1, Ordering::Relaxed)),
            News::None => {}
        }
        Ok(())
    }

    fn advance(&mut self, now_ns: u64) {
        match self.phase {
            Phase::LogIn if self.seats.is_ready() => {
                self.control.shard_ready();
                self.seats.keep_going();
                self.seats.forgive();
                self.phase = Phase::Wait;
            }
            Phase::Wait if now_ns >= self.times.begin_ns => self.phase = Phase::Run,
            Phase::Run => {
                let is_spent = |work: &VerifyWork| work.budget == 0 && work.plan.in_flight() == 0;
                let all_spent = self.works.iter().all(is_spent);
                if all_spent {
                    self.control.shard_done();
                }
                if all_spent || now_ns >= self.times.until_ns {
                    self.phase = Phase::LastPass;
                    self.progress_ns = now_ns;
                    self.works.iter_mut().for_each(|work| work.plan.begin_last_pass());
                }
            }
            _ => {}
        }
    }

    fn is_over(&mut self, now_ns: u64) -> bool {
        if self.phase != Phase::LastPass {
            return false;
        }
        if now_ns.saturating_sub(self.progress_ns) > PATIENCE_NS {
            self.figures
                .errors
                .add(|| "the last pass got no answer for a minute: it did not come to its end".into());
            return true;
        }
        self.works.iter().all(|work| work.plan.is_done())
    }

    /// Brings a session to its depth, as far as the plan has operations that collide with none in flight.
    fn fill(&mut self, seat: usize) {
        let Some(session) = self.seats.session(seat) else { return };
        while self.seats.client.has_room(session) {
            if self.phase == Phase::Run && self.works[seat].budget == 0 {
                return;
            }
            // The longest operation's buffer comes first: an operation that was taken must be sent.
            let Some(buffer) = self.buffers.take() else { return };
            let Some(op) = self.works[seat].plan.next() else { return };
            if self.phase == Phase::Run {
                self.works[seat].budget -= 1;
            }
            if !self.send(seat, session, &op, buffer) {
                // It was not sent, so it is not done; the plan forgets it.
                self.report(seat, op.id, Outcome::Refused);
                return;
            }
        }
    }

    fn send(&mut self, seat: usize, session: SessionId, op: &Op, mut buffer: Buffer) -> bool {
        let work = &self.works[seat];
        let block_size = work.plan.config().block_size;
        let Op { lba, blocks, .. } = *op;
        let out_len = op.data_out_blocks() * block_size;
        // A buffer fresh from its pool is nobody else's.
        let Some(bytes) = buffer.bytes_mut() else { return false };
        let mut fill = |len: u32| work.plan.fill(op, &mut bytes[..len as usize]);
        let (cdb, transfer) = match op.kind {
            OpKind::Read => (cdb::read(lba, blocks), Transfer::In { buffer, len: blocks * block_size }),
            OpKind::Write => {
                fill(out_len);
                (cdb::write(lba, blocks), Transfer::Out { buffer, start: 0, len: out_len })
            }
            OpKind::WriteSame | OpKind::WriteZeros | OpKind::UnmapZeros => {
                fill(out_len);
                let unmap = op.kind == OpKind::UnmapZeros;
                (cdb::write_same_16(lba, blocks, unmap), Transfer::Out { buffer, start: 0, len: out_len })
            }
            OpKind::Unmap => {
                let list = cdb::unmap_list(lba, blocks);
                bytes[..list.len()].copy_from_slice(&list);
                let len = list.len() as u32;
                (cdb::unmap(len as u16), Transfer::Out { buffer, start: 0, len })
            }
            OpKind::Sync => (cdb::synchronize_cache(lba, blocks), Transfer::None),
        };
        let command = Command { lun: self.endpoint.lun, cdb, transfer, tag: op.id };
        self.seats.client.submit(session, command).is_ok()
    }

    fn completed(&mut self, seat: usize, completed: &Completed, now_ns: u64) {
        self.progress_ns = now_ns;
        let Ok(op) = self.works[seat].plan.find(completed.tag) else { return };
        let bytes = completed.buffer.as_ref().map(Buffer::bytes).unwrap_or_default();
        let outcome = match completed.outcome {
            Ended::Status { status: status::GOOD, .. } if op.kind == OpKind::Read => {
                Outcome::Good(&bytes[..(completed.received as usize).min(bytes.len())])
            }
            Ended::Status { status: status::GOOD, .. } => Outcome::Good(&[]),
            Ended::Lost => Outcome::Unknown,
            outcome if is_refused(outcome) => Outcome::Refused,
            outcome => {
                self.figures
                    .errors
                    .outcome(outcome, || format!("{:?} of {} blocks at {}", op.kind, op.blocks, op.lba));
                Outcome::Failed
            }
        };
        if matches!(outcome, Outcome::Good(_)) {
            let work = &mut self.works[seat];
            let moved = if op.kind == OpKind::Read { op.blocks } else { op.data_out_blocks() };
            let moved = u64::from(moved) * u64::from(work.plan.config().block_size);
            if now_ns >= self.times.from_ns && now_ns < self.times.until_ns {
                let since_from_ns = now_ns - self.times.from_ns;
                self.figures.operation(op.kind == OpKind::Read, moved, completed.latency_ns, since_from_ns);
                work.latency.record_ns(completed.latency_ns);
            }
            self.control.publish(1, moved);
        }
        self.report(seat, op.id, outcome);
    }

    /// Tells the plan, and notes what it finds wrong.
    fn report(&mut self, seat: usize, id: u64, outcome: Outcome<'_>) {
        let Err(mismatch) = self.works[seat].plan.complete(id, outcome) else { return };
        if self.mismatches.len() < LISTED_MAX {
            self.mismatches.push(MismatchEntry {
                kind: mismatch.kind.name().to_owned(),
                lba: mismatch.lba,
                session: mismatch.client,
                expected: mismatch.expected.to_string(),
                found: mismatch.found.to_string(),
            });
        }
    }
}

/// Whether the command was certainly not done.
fn is_refused(outcome: Ended) -> bool {
    match outcome {
        Ended::Status {
            status: status::BUSY | status::TASK_SET_FULL | status::RESERVATION_CONFLICT, ..
        } => true,
        Ended::Status { sense: Some(sense), .. } => sense.key == Sense::UNIT_ATTENTION,
        _ => false,
    }
}
