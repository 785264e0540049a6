//! One shard: one thread, one core, one ring, and everything that it owns.
//!
//! ```text
//!  turn(now):  reap ─► completions ─► chunks, sends, transfers
//!              control and peer messages
//!              happenings: commands to their units (here or on another shard), logins, task management
//!              results: answers to their connections (here or on another shard)
//!              timers, retries of what waited for memory
//!              one vectored send per connection, messages and wakes to peers
//!  then the caller submits, and waits in the ring for the next completion or deadline.
//! ```

mod applicants;
mod caching;
mod closing;
mod commands;
mod completions;
mod control;
mod luns;
mod moving;
mod planted;
mod polling;
mod pressure;
mod report;
mod trim;

#[cfg(feature = "planted")]
pub use planted::Planted;

use crate::cache::Cache;
use crate::connection::{Conn, Front, Life};
use crate::latency::Latency;
use crate::links::{ControlLink, MeshEnd};
use crate::lun::{Backend, Spiller};
use crate::messages::ShardId;
use crate::pusher::Pusher;
use crate::request::{Kill, Message};
use crate::setup::{DiskSetup, GoldenSetup, ScratchSetup, ShardConfig};
use crate::shares::Shares;
use crate::stats::Counters;
use crate::token::{Key, Kind, Table, token};
use control::Draining;
use stampede_ring::{Buffer, Completion, Errno, Operation, PeerId, Ring, SocketId, Wait};
use stampede_session::SessionId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Completions handled per turn.
const BATCH: usize = 512;

/// Messages taken from each peer per turn.
const MESSAGES: usize = 256;

/// What a turn leaves to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// How long the ring may wait before the next turn.
    pub wait: Wait,
    /// The shard was told to stop and has nothing left to do.
    pub stopped: bool,
}

/// One shard over any ring.
pub struct Shard<R> {
    config: ShardConfig,
    pusher: Pusher<R>,
    conns: Table<Conn>,
    by_session: BTreeMap<SessionId, Key>,
    backend: Backend,
    mesh: MeshEnd,
    control: ControlLink,
    counters: Counters,
    /// What connections use of it.
    front: Front,
    listeners: Vec<SocketId>,
    /// Listeners whose accept ended and waits to be pushed again, and when.
    rearm_accept: Vec<(u16, u64)>,
    /// Connections with something to send.
    dirty: Vec<Key>,
    /// The room of the last turn's list, for the next one.
    dirty_spare: Vec<Key>,
    /// Connections that wait for memory, oldest first.
    stalled: VecDeque<Key>,
    /// Connections whose receive found no buffer.
    starved: Vec<Key>,
    /// Connections whose window is closed until peers have taken what was kept for them.
    windows: Vec<Key>,
    /// Connections whose window is closed until there is memory for their data.
    narrowed: Vec<Key>,
    timers: BTreeSet<(u64, Key)>,
    probes: Vec<Key>,
    draining: Option<Draining>,
    stopping: bool,
    pressure: pressure::Pressure,
    applicants: applicants::Applicants,
    trim: trim::Trim,
    travel: moving::Travel,
    #[cfg(feature = "planted")]
    planted: Option<Planted>,
    next_session: u64,
    cache: Option<Cache>,
    /// When what recorded clones used was told last.
    recorded_ns: u64,
    zeros: Buffer,
    /// A slot of the arena, once there are kept overlays.
    spare: Option<Buffer>,
    now_ns: u64,
    batch: Vec<Completion>,
    inbox: Vec<Message>,
    polling: polling::Polling,
}

/// Borrows the parts of a shard that its back needs.
macro_rules! io {
    ($shard:expr) => {
        $crate::lun::Io {
            pusher: &mut $shard.pusher,
            memory: &$shard.config.memory,
            arena: &$shard.config.arena,
            spare: &mut $shard.spare,
            zeros: &$shard.zeros,
            cache: $shard.cache.as_mut(),
            spills: $shard.front.spills,
            counters: &mut $shard.counters,
            now_ns: $shard.now_ns,
            shard: $shard.config.shard,
        }
    };
}

use io;

impl<R: Ring> Shard<R> {
    /// A shard without listeners and images.
    ///
    /// # Errors
    /// ENOMEM when the configured memory does not hold even one large buffer.
    pub fn new(ring: R, config: ShardConfig, mesh: MeshEnd, control: ControlLink) -> Result<Self, Errno> {
        const ENOMEM: Errno = Errno(12);
        let mut zeros = config.memory.take(stampede_ring::IoMemory::BUFFER_MAX).ok_or(ENOMEM)?;
        zeros.bytes_mut().ok_or(ENOMEM)?.fill(0);
        let latency = || Latency::new().ok_or(ENOMEM);
        let front = Front {
            shard: config.shard,
            memory: config.memory.clone(),
            arena: Arc::clone(&config.arena),
            headers: Arc::clone(&config.headers),
            connection_bytes_max: config.connection_bytes_max,
            shares: Shares::new(config.connection_bytes_max),
            happenings: VecDeque::new(),
            now_ns: 0,
            gathered_bytes: 0,
            spills: false,
            read_latency: latency()?,
            write_latency: latency()?,
        };
        let backend = Backend::new(
            config.tombstone_runs_max,
            config.shard,
            mesh.shards().collect(),
            config.token_key.clone(),
        );
        let cache = config.cache.clone().map(|setup| Cache::new(setup, config.shard));
        Ok(Self {
            cache,
            recorded_ns: 0,
            pusher: Pusher::new(ring),
            conns: Table::default(),
            by_session: BTreeMap::new(),
            backend,
            mesh,
            control,
            counters: Counters::default(),
            front,
            listeners: Vec::new(),
            rearm_accept: Vec::new(),
            dirty: Vec::new(),
            dirty_spare: Vec::new(),
            stalled: VecDeque::new(),
            starved: Vec::new(),
            windows: Vec::new(),
            narrowed: Vec::new(),
            timers: BTreeSet::new(),
            probes: Vec::new(),
            draining: None,
            stopping: false,
            pressure: pressure::Pressure::default(),
            applicants: applicants::Applicants::default(),
            trim: trim::Trim::default(),
            travel: moving::Travel::default(),
            #[cfg(feature = "planted")]
            planted: None,
            next_session: 1,
            zeros,
            spare: None,
            now_ns: 0,
            batch: Vec::with_capacity(BATCH),
            inbox: Vec::new(),
            polling: polling::Polling::default(),
            config,
        })
    }

    /// Accepts connections from this listening socket of the ring.
    pub fn add_listener(&mut self, listener: SocketId) {
        let index = self.listeners.len() as u16;
        self.listeners.push(listener);
        self.arm_accept(index);
    }

    /// Makes a golden image available for clones.
    pub fn add_golden(&mut self, golden: GoldenSetup) {
        if let Some(cache) = &mut self.cache {
            cache.add_golden(&golden);
        }
        self.backend.add_golden(golden);
    }

    /// Takes ownership of a plain logical unit.
    pub fn add_disk(&mut self, disk: DiskSetup) {
        self.backend.add_disk(disk);
    }

    /// Spills overlays to scratch space when the arena runs full; before there are clones.
    ///
    /// # Errors
    /// No memory for the writes: 1 MiB.
    pub fn add_scratch(&mut self, scratch: ScratchSetup) -> std::io::Result<()> {
        let shards = self.mesh.shards().count() as u16;
        self.backend.set_spiller(Spiller::new(scratch, self.config.shard.0, shards)?);
        Ok(())
    }

    /// The ring, for setting it up and for waiting in it.
    pub fn ring_mut(&mut self) -> &mut R {
        self.pusher.ring_mut()
    }

    /// Polls for at most so many nanoseconds before each sleep, as far as that pays; 0, the default, never polls.
    pub fn set_busy_poll(&mut self, limit_ns: u64) {
        self.polling = polling::Polling::new(limit_ns);
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Does everything there is to do now, without waiting.
    pub fn turn(&mut self, now_ns: u64) -> Turn {
        (self.now_ns, self.front.now_ns) = (now_ns, now_ns);
        self.front.shares.tick(now_ns);
        self.counters.turns += 1;
        self.front.spills = self.backend.makes_room();
        if let Some(cache) = &self.cache {
            cache.enter();
        }
        self.pusher.flush();
        let full = self.reap();
        self.take_control();
        let more = self.take_messages();
        self.settle();
        self.run_timers();
        self.retry_memory();
        self.settle();
        if self.backend.copy_is_due() {
            self.backend.run_copy(&mut io!(self));
            self.settle();
        }
        if self.backend.rests() {
            self.backend.run_resting(&mut io!(self));
            self.settle();
        }
        if self.backend.sanitizes() {
            self.backend.run_sanitizers(&mut io!(self));
            self.settle();
        }
        if self.backend.spill_is_due(&self.config.arena, now_ns) {
            self.backend.spill(&mut io!(self));
            self.settle();
        }
        if self.backend.retires() {
            self.backend.run_retiring(&mut io!(self));
            self.settle();
        }
        self.send_all();
        self.run_moves();
        let reads_on = self.read_ahead();
        self.flush_links();
        if let Some(cache) = &mut self.cache {
            cache.leave();
        }
        let unsettled =
            !self.front.happenings.is_empty() || !self.backend.results.is_empty() || !self.dirty.is_empty();
        let busy = full || more || unsettled || self.pusher.is_waiting() || self.backend.copy_is_due();
        let busy = busy || reads_on || self.backend.sanitizer_is_due() || self.backend.rests();
        let busy = busy || self.backend.spill_is_due(&self.config.arena, now_ns);
        Turn { wait: if busy { Wait::No } else { self.next_deadline() }, stopped: self.is_stopped() }
    }

    /// Runs until told to stop: a turn, then waiting in the ring. `clock` gives monotonic nanoseconds.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn run(&mut self, clock: impl Fn() -> u64) -> Result<(), Errno> {
        loop {
            let turn = self.turn(clock());
            if turn.stopped {
                return Ok(());
            }
            self.wait(turn.wait, &clock)?;
        }
    }

    /// Handles what connections and units gave rise to, until nothing is left.
    fn settle(&mut self) {
        loop {
            if let Some(happening) = self.front.happenings.pop_front() {
                self.handle(happening);
            } else if let Some(result) = self.backend.results.pop_front() {
                self.deliver(result);
            } else if let Some((to, message)) =
                self.cache.as_mut().and_then(|cache| cache.outgoing.pop_front())
            {
                self.post(to, message);
            } else {
                return;
            }
        }
    }

    fn arm_accept(&mut self, index: u16) {
        let key = Key { index: u32::from(index), generation: 0 };
        if let Some(listener) = self.listeners.get(usize::from(index)) {
            self.pusher.push(token(Kind::Accept, key, 0), Operation::Accept { listener: *listener });
        }
    }

    /// Puts a connection on the list of those to send on.
    fn mark(&mut self, key: Key) {
        if let Some(conn) = self.conns.get_mut(key)
            && !conn.dirty
        {
            conn.dirty = true;
            self.dirty.push(key);
        }
    }

    /// One vectored send for each connection that has something to send and is not sending.
    fn send_all(&mut self) {
        let spare = std::mem::take(&mut self.dirty_spare);
        let mut dirty = std::mem::replace(&mut self.dirty, spare);
        for key in dirty.drain(..) {
            let Some(conn) = self.conns.get_mut(key) else { continue };
            conn.dirty = false;
            if conn.side.borrows() {
                conn.side.keep_borrowed(&mut self.front, &mut self.counters);
            }
            self.retry_waiting(key);
            let Some(conn) = self.conns.get_mut(key) else { continue };
            if matches!(conn.life, Life::Open | Life::Finishing) && !conn.is_leaving() {
                let socket = conn.socket;
                if let Some(list) = conn.outbox().next() {
                    conn.sending_since_ns = Some(self.now_ns);
                    self.pusher.push(token(Kind::Send, key, 0), Operation::Send { socket, list });
                }
            }
            self.set_timer(key);
            self.advance_closing(key);
        }
        self.dirty_spare = dirty;
    }

    fn flush_links(&mut self) {
        self.control.flush();
        if self.mesh.flush() {
            self.open_windows();
        }
        let peers: Vec<ShardId> = self.mesh.to_wake().collect();
        for peer in peers {
            let ignored = token(Kind::Ignored, Key { index: 0, generation: 0 }, 0);
            self.pusher.push(ignored, Operation::Wake { peer: PeerId(peer.0) });
        }
    }

    /// Sets a connection's timer to its session's deadline, if that is earlier than what is set.
    fn set_timer(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key).filter(|conn| !conn.is_leaving()) else { return };
        let Some(deadline) = conn.session.deadline_ns() else { return };
        if conn.timer_ns.is_some_and(|set| set <= deadline) {
            return;
        }
        if let Some(set) = conn.timer_ns.replace(deadline) {
            self.timers.remove(&(set, key));
        }
        self.timers.insert((deadline, key));
    }

    fn run_timers(&mut self) {
        while let Some(&(at, key)) = self.timers.first() {
            if at > self.now_ns {
                break;
            }
            self.timers.pop_first();
            let Some(conn) = self.conns.get_mut(key) else { continue };
            conn.timer_ns = None;
            // Its new owner sets it anew.
            if conn.is_leaving() {
                continue;
            }
            if conn.session.deadline_ns().is_some_and(|deadline| deadline <= self.now_ns) {
                let ticked = conn.act(key, &mut self.front, |session, now, sink| session.tick(now, sink));
                if let Err(violation) = ticked {
                    self.drop_conn(key, &violation);
                }
                self.mark(key);
            }
            self.set_timer(key);
        }
        self.run_probes();
        self.run_draining();
        self.run_trim();
        self.run_recordings();
        let now_ns = self.now_ns;
        let due: Vec<u16> =
            self.rearm_accept.iter().filter(|(_, at)| *at <= now_ns).map(|(i, _)| *i).collect();
        self.rearm_accept.retain(|(_, at)| *at > now_ns);
        for index in due {
            self.arm_accept(index);
        }
    }

    fn next_deadline(&self) -> Wait {
        /// Memory comes back with other shards' completions too, and peers take from full queues: neither wakes
        /// anybody here.
        const RETRY_NS: u64 = 1_000_000;
        let waiting = !self.stalled.is_empty() || self.backend.is_starved() || self.mesh.keeps();
        let deadlines = [
            self.timers.first().map(|(at, _)| *at),
            self.rearm_accept.iter().map(|(_, at)| *at).min(),
            waiting.then(|| self.now_ns + RETRY_NS),
            self.probe_deadline(),
            self.draining_deadline(),
            self.trim_deadline(),
            self.move_deadline(),
            self.backend.sanitizer_deadline(),
            self.backend.spill_deadline(&self.config.arena),
            self.recording_deadline(),
            self.cache.as_ref().and_then(Cache::deadline),
        ];
        deadlines.into_iter().flatten().min().map_or(Wait::Forever, Wait::Until)
    }

    /// Sends a message to the owner of a unit, or handles it here; false when it had to be kept.
    fn post(&mut self, to: ShardId, message: Message) -> bool {
        if to == self.config.shard {
            self.receive_message(message);
            return true;
        }
        self.mesh.send(to, message)
    }

    fn take_messages(&mut self) -> bool {
        let mut inbox = std::mem::take(&mut self.inbox);
        let more = self.mesh.receive(MESSAGES, &mut inbox);
        for message in inbox.drain(..) {
            self.receive_message(message);
        }
        self.inbox = inbox;
        more
    }

    fn receive_message(&mut self, message: Message) {
        match message {
            Message::Attach { lun, nexus, transport, shard, connection, luns, queries } => {
                if let Some(owner) = self.travel.owner_of(lun) {
                    let message = Message::Attach { lun, nexus, transport, shard, connection, luns, queries };
                    self.post(owner, message);
                    return;
                }
                self.backend.attach(lun, nexus, transport, queries);
                self.backend.sees(lun, nexus, luns);
                let owner = self.config.shard;
                self.post(shard, Message::Attached { connection, lun, owner });
            }
            Message::Attached { connection, lun, owner } => self.attached(connection, lun, owner),
            Message::Detach { lun, nexus } => match self.travel.owner_of(lun) {
                Some(owner) => {
                    self.post(owner, Message::Detach { lun, nexus });
                }
                None => self.backend.detach(lun, nexus),
            },
            Message::LunsChanged { lun, nexus, luns } => match self.travel.owner_of(lun) {
                Some(owner) => {
                    self.post(owner, Message::LunsChanged { lun, nexus, luns });
                }
                None => self.backend.luns_changed(lun, nexus, luns),
            },
            Message::LunsReported { lun, nexus } => match self.travel.owner_of(lun) {
                Some(owner) => {
                    self.post(owner, Message::LunsReported { lun, nexus });
                }
                None => self.backend.luns_reported(lun, nexus),
            },
            Message::Command(request) => {
                if request.origin.shard != self.config.shard {
                    self.counters.taken_over += 1;
                }
                self.execute(request);
            }
            Message::CopyCommand(request) => self.execute_for_copy(request),
            Message::StopCopy { lun, origin } => self.backend.stop_copy(lun, origin, &mut io!(self)),
            Message::Answer(answer) => self.answer(answer),
            Message::Clear { manager, lun, nexus, clearing } => {
                self.backend.clear(manager, lun, nexus, clearing, &mut io!(self));
            }
            Message::Kill(kill) => self.kill(kill),
            Message::Killed { kill, shard, victims } => {
                self.backend.killed(&kill, shard, &victims, &mut io!(self));
            }
            Message::Fetch { block, waiter } => self.fetch(block, waiter),
            Message::Fetched { job, found } => self.backend.fetched(job, found, &mut io!(self)),
            Message::Relieve => self.drop_idle(),
            Message::Spill => {}
            Message::Cleared { manager, response } => {
                if let Some(conn) = self.conns.get_mut(manager.connection) {
                    conn.cleared(manager.connection, manager.id, response, &mut self.front);
                    self.mark(manager.connection);
                }
            }
            Message::Arrive(traveller) => self.arrive(traveller),
            Message::Forwarded(message) => self.controlled(*message),
            Message::SessionOver(session) => self.travel.session_over(session),
            Message::CloneOver(lun) => self.travel.clone_over(lun),
            Message::Settled(shard) => self.travel.settle(shard),
            Message::Quiet(shard) => self.travel.quieten(shard),
        }
    }

    /// Sessions of this shard that use a unit and are meant kill their tasks of it.
    fn kill(&mut self, kill: Kill) {
        let mut victims = Vec::new();
        for key in self.conns.keys().collect::<Vec<Key>>() {
            let Some(conn) = self.conns.get_mut(key) else { continue };
            // What waits for a unit to know its session has not come to any unit yet.
            if !kill.concerns(conn.nexus()) || conn.attaching > 0 {
                continue;
            }
            let number = conn.luns().0.iter().find(|(_, address)| address.lun == kill.lun).map(|(n, _)| *n);
            if let Some(number) = number {
                if conn.has_live_task(number) {
                    victims.push(conn.nexus());
                }
                let field = stampede_wire::Lun::encode(number);
                conn.act(key, &mut self.front, |session, _, sink| session.kill(field, sink));
                self.mark(key);
            }
        }
        let shard = self.config.shard;
        self.post(kill.owner, Message::Killed { kill, shard, victims });
    }
}
