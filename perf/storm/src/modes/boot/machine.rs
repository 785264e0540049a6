//! One machine: how far it is in its trace, its sessions, its commands under way.

use stampede_initiator::{SessionId, Transfer, cdb};
use stampede_report::Latency;
use stampede_ring::Buffer;
use stampede_trace::{BLOCK, Op, Stage};
use stampede_verify::Wrong;
use std::collections::VecDeque;

/// "Not yet".
pub(super) const NEVER: u64 = u64::MAX;

/// Where a machine is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// It is switched on at this time.
    Off { from_ns: u64 },
    /// It goes through its trace.
    Booting,
    /// It reads what it wrote: this extent next.
    ReadingBack { extent: usize },
    /// It stays on until then.
    Staying { until_ns: u64 },
    /// It is off again, or has given up.
    Over,
}

/// Where one of its sessions is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Link {
    /// It was never there, or was closed.
    Down,
    LoggingIn,
    Up,
    /// It logs in (again) at this time.
    Retry {
        from_ns: u64,
    },
}

/// A session's place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    pub(super) id: Option<SessionId>,
    pub(super) link: Link,
    pub(super) stage: Stage,
    /// Logins that failed since one succeeded.
    pub(super) failures: u32,
}

impl Default for Seat {
    fn default() -> Self {
        Self { id: None, link: Link::Down, stage: Stage::Os, failures: 0 }
    }
}

/// A command under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) op: Op,
    pub(super) seat: u8,
    /// When it was sent first.
    pub(super) since_ns: u64,
    /// When it is sent again; none while the target has it.
    pub(super) again_ns: Option<u64>,
    pub(super) tries: u16,
    /// Of a write: its number.
    pub(super) generation: u32,
    /// The first wrong byte of what came so far.
    pub(super) wrong: Option<Box<Wrong>>,
}

impl Flight {
    pub(super) fn new(op: Op, seat: u8, now_ns: u64) -> Self {
        Self { op, seat, since_ns: now_ns, again_ns: Some(now_ns), tries: 0, generation: 0, wrong: None }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) number: u32,
    pub(super) state: State,
    /// The next event of the trace.
    pub(super) cursor: usize,
    /// The login that the cursor is at has begun.
    pub(super) login_begun: bool,
    /// Session number to place.
    pub(super) seats: Vec<Seat>,
    /// Whose commands come.
    pub(super) current: u8,
    /// By the low bits of a command's tag.
    pub(super) flights: Vec<Option<Flight>>,
    pub(super) outstanding: u16,
    pub(super) last_done_ns: u64,
    /// What is done before the trace goes on.
    pub(super) extra: VecDeque<Op>,
    pub(super) disk: stampede_verify::Machine,
    /// When it is looked at next, if nothing else happens.
    pub(super) wake_ns: u64,
    pub(super) record: Record,
}

/// What is reported of a machine.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) started_ns: Option<u64>,
    pub(super) marker_ns: Option<u64>,
    pub(super) end_ns: Option<u64>,
    pub(super) retries: u64,
    pub(super) logins_put_off: u64,
    pub(super) sessions_lost: u64,
    pub(super) mismatches: u64,
    /// Why it gave up.
    pub(super) failure: Option<String>,
    /// Made with the first command.
    pub(super) latency: Option<Box<Latency>>,
}

impl Machine {
    pub(super) fn new(number: u32, from_ns: u64, run: u64) -> Self {
        Self {
            number,
            state: State::Off { from_ns },
            cursor: 0,
            login_begun: false,
            seats: Vec::new(),
            current: 0,
            flights: Vec::new(),
            outstanding: 0,
            last_done_ns: 0,
            extra: VecDeque::new(),
            disk: stampede_verify::Machine::new(run, number),
            wake_ns: NEVER,
            record: Record::default(),
        }
    }

    /// The place of session `session`.
    pub(super) fn seat(&mut self, session: u8) -> &mut Seat {
        let index = usize::from(session);
        if self.seats.len() <= index {
            self.seats.resize_with(index + 1, Seat::default);
        }
        &mut self.seats[index]
    }

    /// Takes a command in and returns its place.
    pub(super) fn add(&mut self, flight: Flight) -> usize {
        self.outstanding += 1;
        let free = self.flights.iter().position(Option::is_none);
        let index = free.unwrap_or(self.flights.len());
        if free.is_none() {
            self.flights.push(None);
        }
        self.flights[index] = Some(flight);
        index
    }

    /// Takes a command out.
    pub(super) fn finish(&mut self, index: usize) -> Option<Flight> {
        let flight = self.flights.get_mut(index)?.take()?;
        self.outstanding -= 1;
        Some(flight)
    }

    /// Whether a command would meet a write under way, or a write a read: an operating system waits then.
    pub(super) fn conflicts(&self, op: &Op) -> bool {
        let Some((lba, end, writes)) = range(op) else { return false };
        self.flights.iter().flatten().filter_map(|flight| range(&flight.op)).any(
            |(other, other_end, other_writes)| (writes || other_writes) && lba < other_end && other < end,
        )
    }

    /// Whether the session has commands under way.
    pub(super) fn is_busy(&self, session: u8) -> bool {
        self.flights.iter().flatten().any(|flight| flight.seat == session)
    }
}

/// First block, end, and whether it writes.
fn range(op: &Op) -> Option<(u64, u64, bool)> {
    match *op {
        Op::Read { lba, blocks } => Some((lba, lba + u64::from(blocks), false)),
        Op::Write { lba, blocks, .. } => Some((lba, lba + u64::from(blocks), true)),
        Op::Sync | Op::Other { .. } => None,
    }
}

/// The command descriptor block, and the transfer of anything but a write.
pub(super) fn command(op: &Op, checks: bool) -> ([u8; 16], Transfer) {
    match *op {
        Op::Read { lba, blocks } => {
            // At most 16 MiB, as the trace's reader sees to.
            let len = blocks * BLOCK as u32;
            let transfer = if checks { Transfer::Stream { len } } else { Transfer::Count { len } };
            (cdb::read(lba, blocks), transfer)
        }
        Op::Write { lba, blocks, fua: true } => (cdb::write_fua(lba, blocks), Transfer::None),
        Op::Write { lba, blocks, fua: false } => (cdb::write(lba, blocks), Transfer::None),
        Op::Sync => (cdb::synchronize_cache(0, 0), Transfer::None),
        Op::Other { cdb, len: 0 } => (cdb, Transfer::None),
        Op::Other { cdb, len } => (cdb, Transfer::Count { len }),
    }
}

/// The bytes that a command moves.
pub(super) fn bytes(op: &Op) -> u64 {
    match *op {
        Op::Read { blocks, .. } | Op::Write { blocks, .. } => u64::from(blocks) * BLOCK,
        Op::Sync | Op::Other { .. } => 0,
    }
}

/// The part of a buffer that a write of `op` fills.
pub(super) fn out(buffer: &mut Buffer, op: &Op) -> Option<(u64, u32)> {
    let Op::Write { lba, blocks, .. } = *op else { return None };
    let len = blocks * BLOCK as u32;
    (buffer.len() >= len as usize).then_some((lba, len))
}
