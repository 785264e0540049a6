//! The world's insides: the clock, what is scheduled, and what every ring has in flight.

mod cancel;
mod submit;

use crate::config::{RingConfig, SimConfig};
use crate::disk::{Disk, Request};
use crate::fault::{FaultCounts, FaultKind};
use crate::network::{Abandoned, Network, SendStage};
use crate::trace::TraceHash;
use slab::Slab;
use stampede_ring::{
    Buffer, Completion, Errno, Event, FileId, Operation, Pool, PoolConfig, Received, SendList, SocketId,
    Token, Wait,
};
use std::collections::{BTreeMap, VecDeque};

/// A shard's ring in one life of the process: rings made after a crash are others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingKey {
    pub(crate) shard: u16,
    pub(crate) incarnation: u32,
}

/// What a socket id of a ring stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Socket {
    Listener(usize),
    Stream(usize),
}

/// The world's side of one ring.
pub(crate) struct RingState {
    pub(crate) key: RingKey,
    /// Completions that wait to be reaped.
    pub(crate) posted: VecDeque<Completion>,
    pub(crate) free_buffers: Vec<Buffer>,
    /// `None` for one that was dropped.
    pub(crate) files: Vec<Option<crate::disk::DiskId>>,
    /// By the low half of a socket id; the high half is a generation, so that a stale id is seen.
    pub(crate) sockets: Slab<(SocketId, Socket)>,
    sockets_made: u32,
    /// What the shard was ready to wait for when it last submitted.
    pub(crate) wait: Wait,
}

/// An operation in flight that can be cancelled.
pub(crate) struct Pending {
    pub(crate) ring: RingKey,
    pub(crate) token: Token,
    pub(crate) work: Work,
}

/// What is in flight.
pub(crate) enum Work {
    Disk(Request),
    Accept {
        listener: usize,
    },
    Receive {
        connection: usize,
    },
    /// A send; `hasty` once a cancel came too late for it: then it ends rather than wait for room, as the kernel does
    /// with an operation that it had begun to execute.
    Send {
        connection: usize,
        list: SendList,
        stage: SendStage,
        hasty: bool,
    },
}

/// Something that will happen at its time.
pub(crate) enum Occurrence {
    /// A disk operation is executed at the disk.
    Execute(u64),
    /// A disk operation completes.
    Complete(u64),
    /// A send has reached its socket.
    SendReady(u64),
    /// Something changed on a connection.
    Pump(usize),
    /// Something changed on a listener.
    PumpListener(usize),
    /// A short operation (cancel, close, release, wake) takes effect.
    Short { ring: RingKey, token: Token, operation: Operation },
    /// A completion is posted late.
    Post { ring: RingKey, token: Token, event: Event },
}

pub(crate) struct State {
    pub(crate) now: u64,
    pub(crate) rng: fastrand::Rng,
    pub(crate) config: SimConfig,
    pub(crate) faults: FaultCounts,
    pub(crate) trace: TraceHash,
    pub(crate) misuses: Vec<String>,
    pub(crate) rings: BTreeMap<u16, RingState>,
    pub(crate) disks: Vec<Disk>,
    pub(crate) network: Network,
    /// Loose connections whose holders dropped them.
    pub(crate) abandoned: Abandoned,
    /// By key; keys ascend, so they also order operations by submission.
    pub(crate) operations: BTreeMap<u64, Pending>,
    events: BTreeMap<(u64, u64), Occurrence>,
    sequence: u64,
    incarnations: u32,
}

impl State {
    pub(crate) fn new(config: SimConfig) -> Self {
        Self {
            now: 0,
            rng: fastrand::Rng::with_seed(config.seed),
            faults: FaultCounts::default(),
            trace: TraceHash::default(),
            misuses: Vec::new(),
            rings: BTreeMap::new(),
            disks: Vec::new(),
            network: Network::default(),
            abandoned: Abandoned::default(),
            operations: BTreeMap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            incarnations: 0,
            config,
        }
    }

    /// Makes a shard's ring; an earlier one of that shard must be dead.
    pub(crate) fn add_ring(&mut self, shard: u16) -> RingKey {
        self.incarnations += 1;
        let key = RingKey { shard, incarnation: self.incarnations };
        let ring = RingState {
            key,
            posted: VecDeque::new(),
            free_buffers: receive_buffers(&self.config.ring),
            files: Vec::new(),
            sockets: Slab::new(),
            sockets_made: 0,
            wait: Wait::No,
        };
        if self.rings.insert(shard, ring).is_some() {
            self.misuse(format_args!("shard {shard} has two rings at once"));
        }
        key
    }

    /// The ring, unless it died.
    pub(crate) fn ring(&mut self, key: RingKey) -> Option<&mut RingState> {
        self.rings.get_mut(&key.shard).filter(|ring| ring.key == key)
    }

    /// Draws whether a fault strikes, and counts it if so.
    pub(crate) fn strikes(&mut self, kind: FaultKind) -> bool {
        let hit = self.chance(kind);
        if hit {
            self.faults.hit(kind);
        }
        hit
    }

    /// Draws whether a fault should strike; the caller counts it once it did.
    pub(crate) fn chance(&mut self, kind: FaultKind) -> bool {
        let rate = self.config.faults.rate(kind);
        rate > 0 && self.rng.u32(..crate::config::FaultPlan::MILLION) < rate
    }

    /// Draws a duration.
    pub(crate) fn draw(&mut self, range: std::ops::Range<u64>) -> u64 {
        if range.is_empty() { range.start } else { self.rng.u64(range) }
    }

    /// Draws how long a short operation takes.
    pub(crate) fn short_latency(&mut self) -> u64 {
        let range = self.config.ring.latency.clone();
        self.draw(range)
    }

    /// Notes that the caller broke the seam's contract.
    pub(crate) fn misuse(&mut self, what: std::fmt::Arguments<'_>) {
        self.misuses.push(format!("at {} ns: {what}", self.now));
    }

    pub(crate) fn next_key(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    pub(crate) fn schedule(&mut self, at: u64, occurrence: Occurrence) {
        let key = self.next_key();
        self.events.insert((at.max(self.now), key), occurrence);
    }

    pub(crate) fn schedule_in(&mut self, delay: u64, occurrence: Occurrence) {
        self.schedule(self.now + delay, occurrence);
    }

    /// Time of the next thing that is scheduled.
    pub(crate) fn next_event(&self) -> Option<u64> {
        self.events.keys().next().map(|(at, _)| *at)
    }

    /// The earliest time until which a shard sleeps.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let deadlines = self.rings.values().filter_map(|ring| match ring.wait {
            Wait::Until(at) if at > self.now => Some(at),
            _ => None,
        });
        deadlines.min()
    }

    /// Lets the next scheduled thing happen if it is due by `limit`.
    pub(crate) fn step(&mut self, limit: u64) -> bool {
        let Some((at, _)) = self.events.keys().next().copied().filter(|(at, _)| *at <= limit) else {
            return false;
        };
        self.now = self.now.max(at);
        let Some((_, occurrence)) = self.events.pop_first() else { return false };
        self.happen(occurrence);
        true
    }

    fn happen(&mut self, occurrence: Occurrence) {
        match occurrence {
            Occurrence::Execute(key) => self.execute(key),
            Occurrence::Complete(key) => self.complete(key),
            Occurrence::SendReady(key) => self.send_ready(key),
            Occurrence::Pump(connection) => self.pump(connection),
            Occurrence::PumpListener(listener) => self.pump_listener(listener),
            Occurrence::Short { ring, token, operation } => self.short(ring, token, operation),
            Occurrence::Post { ring, token, event } => self.post(ring, token, event),
        }
    }

    /// Hands a completion to its ring, if that still lives.
    pub(crate) fn post(&mut self, key: RingKey, token: Token, event: Event) {
        if self.ring(key).is_none() {
            return;
        }
        self.trace_event(key, token, &event);
        if let Some(ring) = self.ring(key) {
            ring.posted.push_back(Completion { token, event });
        }
    }

    /// Mixes what an operation came to into the trace.
    pub(crate) fn trace_event(&mut self, key: RingKey, token: Token, event: &Event) {
        let mark = mark(event);
        for word in [self.now, u64::from(key.shard), token.0, mark.0, mark.1] {
            self.trace.mix(word);
        }
    }

    /// Posts the plain result of a short operation.
    pub(crate) fn finish(&mut self, key: RingKey, token: Token, result: Result<(), Errno>) {
        self.post(key, token, Event::Finished { result });
    }

    pub(crate) fn file(&mut self, key: RingKey, file: FileId) -> Option<crate::disk::DiskId> {
        self.ring(key)?.files.get(file.0 as usize).copied().flatten()
    }

    /// A shard lets go of a file; a later operation on it is a misuse, as is one that is under way.
    pub(crate) fn drop_file(&mut self, key: RingKey, file: FileId) {
        let Some(disk) = self.file(key, file) else {
            return self.misuse(format_args!("drop of {file:?}, which is not open"));
        };
        let on_it = |pending: &Pending| {
            pending.ring == key && matches!(&pending.work, Work::Disk(request) if request.disk == disk)
        };
        if self.operations.values().any(on_it) {
            self.misuse(format_args!("drop of {file:?}, on which an operation is in flight"));
        }
        if let Some(place) = self.ring(key).and_then(|ring| ring.files.get_mut(file.0 as usize)) {
            *place = None;
        }
    }

    pub(crate) fn socket(&mut self, key: RingKey, socket: SocketId) -> Option<Socket> {
        let (id, kind) = self.ring(key)?.sockets.get(socket_slot(socket))?;
        (*id == socket).then_some(*kind)
    }

    /// The process is gone: every ring and all operations with it. Returns the shards that had one.
    pub(crate) fn forget_rings(&mut self) {
        self.rings.clear();
        self.operations.clear();
        self.events.retain(|_, occurrence| matches!(occurrence, Occurrence::Pump(_)));
        for disk in &mut self.disks {
            disk.in_flight.clear();
        }
    }
}

impl RingState {
    /// Gives a socket an id that no earlier socket had.
    pub(crate) fn add_socket(&mut self, kind: Socket) -> SocketId {
        self.sockets_made = self.sockets_made.wrapping_add(1) & 0xffff;
        let entry = self.sockets.vacant_entry();
        let id = SocketId(self.sockets_made << 16 | entry.key() as u32 & 0xffff);
        entry.insert((id, kind));
        id
    }
}

/// A ring's receive buffers.
fn receive_buffers(config: &RingConfig) -> Vec<Buffer> {
    let slot_len = config.receive_buffer_len.next_multiple_of(4096);
    let pool = Pool::new(PoolConfig { slot_len, slots: u32::from(config.receive_buffers) });
    let pool = pool.expect("memory for a ring's receive buffers");
    std::iter::from_fn(|| pool.take()).collect()
}

/// Where a socket's entry is.
pub(crate) fn socket_slot(socket: SocketId) -> usize {
    (socket.0 & 0xffff) as usize
}

/// Kind and result of an event, for the trace.
fn mark(event: &Event) -> (u64, u64) {
    let errno = |errno: &Errno| u64::from(errno.0.unsigned_abs()) | 1 << 40;
    let bytes = |result: &Result<u32, Errno>| result.as_ref().map_or_else(errno, |bytes| u64::from(*bytes));
    match event {
        Event::Accepted { result, more } => (
            1 | u64::from(*more) << 8,
            result.as_ref().map_or_else(errno, |accepted| u64::from(accepted.socket.0)),
        ),
        Event::Received { received, more } => {
            let what = match received {
                Received::Chunk(chunk) => u64::from(chunk.len()),
                Received::End => 1 << 50,
                Received::Starved => 2 << 50,
                Received::Cancelled => 3 << 50,
                Received::Failed(error) => errno(error),
            };
            (2 | u64::from(*more) << 8, what)
        }
        Event::Sent { result, .. } => (3, bytes(result)),
        Event::Transferred { result, .. } => (4, bytes(result)),
        Event::Finished { result } => (5, result.as_ref().map_or_else(errno, |()| 0)),
        Event::Woken => (6, 0),
        Event::Surveyed { result } => {
            (8, result.as_ref().map_or_else(errno, |stretches| stretches.len() as u64))
        }
        Event::Released { result } => (7, result.as_ref().map_or_else(errno, |_| 0)),
    }
}
