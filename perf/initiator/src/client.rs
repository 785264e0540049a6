//! The shard: sessions on one ring.

use crate::command::{Command, Completed, ReadSink};
use crate::config::{Negotiated, SessionConfig};
use crate::connect::{self, ConnectError};
use crate::connection::{Connection, LoginTimes};
use crate::reason::{Ending, Reason};
use crate::session::Session;
use stampede_ring::clock::monotonic_ns;
use stampede_ring::uring::{SetupError, UringConfig, UringRing, Waker};
use stampede_ring::{
    Chunk, Completion, Errno, Event as RingEvent, Operation, Pool, PoolConfig, Received, Ring, SendList,
    Token, Wait,
};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// Bytes of a header buffer: 85 commands without digests.
const HEADER_SLOT: u32 = 4096;
/// Header buffers per session, unless the caller says otherwise.
const HEADER_SLOTS_PER_SESSION: u32 = 64;
/// Completions that are handled at once.
const BATCH: usize = 256;
/// Between two looks at what is overdue.
const CHECK_NS: u64 = 100_000_000;

/// The limits of a client shard.
#[derive(Clone, Copy, Debug)]
pub struct ClientConfig {
    /// Sessions at once.
    pub sessions_max: u32,
    /// Receive buffers: a power of two.
    pub receive_buffers: u16,
    /// Bytes per receive buffer: a multiple of 4,096. Fewer and larger ones parse more answers at once; all of them
    /// together should stay in the core's cache.
    pub receive_buffer_len: u32,
    /// Header buffers per session, 4 KiB of address space each: for bursts of many small PDUs. They cost memory only when
    /// they are used.
    pub header_buffers: u32,
}

impl ClientConfig {
    /// The usual buffers: 2 MiB in all.
    #[must_use]
    pub fn new(sessions_max: u32) -> Self {
        Self {
            sessions_max,
            receive_buffers: 32,
            receive_buffer_len: 64 * 1024,
            header_buffers: HEADER_SLOTS_PER_SESSION,
        }
    }
}

/// Why a client could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The ring.
    #[error(transparent)]
    Ring(#[from] SetupError),
    /// Memory for headers.
    #[error("cannot reserve memory for headers: {0}")]
    Headers(io::Error),
}

/// A session of one client. One that has ended is never taken for a later one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct SessionId {
    index: u32,
    generation: u32,
}

impl SessionId {
    /// The session's place: below [`ClientConfig::sessions_max`], and its own until it ends.
    #[must_use]
    #[inline]
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// What a turn brought.
#[derive(Debug)]
pub enum Event {
    /// A login is complete: commands may be submitted.
    LoggedIn {
        /// The session.
        session: SessionId,
        /// How long it took.
        times: LoginTimes,
    },
    /// A command is over.
    Completed(Completed),
    /// The target asks for a logout (RFC 7143 11.9.1).
    LogoutRequested {
        /// The session.
        session: SessionId,
    },
    /// A session is over; its commands have completed before.
    Ended {
        /// The session.
        session: SessionId,
        /// How.
        ending: Ending,
    },
}

/// What a completion's token names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Receive = 1,
    Send = 2,
    /// Cancel and Close: nothing waits for them.
    Other = 3,
}

fn token(kind: Kind, id: SessionId) -> Token {
    Token((kind as u64) << 56 | u64::from(id.generation & 0x00ff_ffff) << 32 | u64::from(id.index))
}

struct Slot {
    generation: u32,
    connection: Option<Box<Connection>>,
}

/// See [`crate`].
pub struct Client<R: Ring = UringRing> {
    ring: R,
    slots: Vec<Slot>,
    free: Vec<u32>,
    sessions_max: u32,
    headers: Arc<Pool>,
    /// Those that have something to send.
    dirty: Vec<SessionId>,
    /// Sessions that cannot go on, found outside of a turn.
    doomed: Vec<(SessionId, Reason)>,
    /// Operations that found the ring's queue full.
    backlog: VecDeque<(Token, Operation)>,
    batch: Vec<Completion>,
    now_ns: u64,
    next_check_ns: u64,
}

impl Client<UringRing> {
    /// A client on a ring of its own, which belongs to the calling thread.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn new(config: &ClientConfig) -> Result<Self, ClientError> {
        let ring = UringConfig {
            sockets_max: config.sessions_max.saturating_add(8),
            files_max: 1,
            operations_max: config.sessions_max.saturating_mul(4).clamp(1024, UringConfig::OPERATIONS_LIMIT),
            receive_buffers: config.receive_buffers,
            receive_buffer_len: config.receive_buffer_len,
            workers_max: 1,
            ..UringConfig::default()
        };
        Self::with_buffers(UringRing::new(&ring, &[])?, config.sessions_max, config.header_buffers)
    }

    /// Begins to connect and to log in. An [`Event::LoggedIn`] or [`Event::Ended`] follows.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn connect(
        &mut self,
        portal: SocketAddr,
        config: Arc<SessionConfig>,
    ) -> Result<SessionId, ConnectError> {
        self.now_ns = monotonic_ns();
        let socket = connect::start(portal)?;
        let socket = self.ring.add_socket(socket)?;
        Ok(self.adopt(socket, config))
    }

    /// Wakes this client from any thread: a turn that waits returns.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.ring.waker()
    }
}

impl<R: Ring> Client<R> {
    /// A client on this ring.
    ///
    /// # Errors
    /// [`ClientError::Headers`].
    pub fn with_ring(ring: R, sessions_max: u32) -> Result<Self, ClientError> {
        Self::with_buffers(ring, sessions_max, HEADER_SLOTS_PER_SESSION)
    }

    fn with_buffers(ring: R, sessions_max: u32, header_buffers: u32) -> Result<Self, ClientError> {
        let slots = sessions_max.saturating_mul(header_buffers).saturating_add(1024);
        let headers = Pool::new(PoolConfig { slot_len: HEADER_SLOT, slots }).map_err(ClientError::Headers)?;
        Ok(Self {
            ring,
            slots: Vec::new(),
            free: Vec::new(),
            sessions_max,
            headers,
            dirty: Vec::new(),
            doomed: Vec::new(),
            backlog: VecDeque::new(),
            batch: Vec::with_capacity(BATCH),
            now_ns: monotonic_ns(),
            next_check_ns: 0,
        })
    }

    /// Begins to log in over a socket that is connected or connecting.
    pub fn adopt(&mut self, socket: stampede_ring::SocketId, config: Arc<SessionConfig>) -> SessionId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, connection: None });
            // Each takes a socket of the ring, whose table is far smaller.
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        let id = SessionId { index, generation: slot.generation };
        let (session, doom) = Session::start(id, config, Arc::clone(&self.headers));
        slot.connection = Some(Box::new(Connection::new(id, session, socket, self.now_ns)));
        match doom {
            Ok(()) => self.mark(id),
            Err(reason) => self.doomed.push((id, reason)),
        }
        id
    }

    /// The time of the last turn, CLOCK_MONOTONIC in nanoseconds: that of its events.
    #[must_use]
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Sessions that have not ended.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Sessions at once, as configured.
    #[must_use]
    pub fn sessions_max(&self) -> u32 {
        self.sessions_max
    }

    /// Whether a command would be taken now.
    #[must_use]
    #[inline]
    pub fn has_room(&self, session: SessionId) -> bool {
        self.get(session)
            .is_some_and(|connection| connection.closing.is_none() && connection.session.has_room())
    }

    /// Whether the session's login is complete and its logout has not begun.
    #[must_use]
    pub fn is_logged_in(&self, session: SessionId) -> bool {
        self.get(session)
            .is_some_and(|connection| connection.closing.is_none() && connection.session.stands())
    }

    /// Whether the target's CmdSN window keeps the session from sending more.
    #[must_use]
    pub fn is_window_closed(&self, session: SessionId) -> bool {
        self.get(session).is_some_and(|connection| connection.session.is_window_closed())
    }

    /// Pings (NOP-In) of the target that the session has answered.
    #[must_use]
    pub fn pings_answered(&self, session: SessionId) -> u64 {
        self.get(session).map_or(0, |connection| connection.session.pings())
    }

    /// What was negotiated; `None` for a session that has ended.
    #[must_use]
    pub fn negotiated(&self, session: SessionId) -> Option<&Negotiated> {
        self.get(session).map(|connection| connection.session.negotiated())
    }

    /// Submits a command: it leaves with the next turn, and its time begins with the last one.
    ///
    /// # Errors
    /// The command, when there is no room for it (see [`Client::has_room`]).
    #[inline]
    pub fn submit(&mut self, session: SessionId, command: Command) -> Result<(), Command> {
        let now_ns = self.now_ns;
        let Some(connection) =
            get_mut(&mut self.slots, session).filter(|connection| connection.closing.is_none())
        else {
            return Err(command);
        };
        connection.submitting(now_ns);
        let newly_dirty = !std::mem::replace(&mut connection.is_dirty, true);
        match connection.session.submit(command, now_ns) {
            Ok(()) => {}
            Err(Ok(command)) => {
                connection.is_dirty = !newly_dirty;
                return Err(command);
            }
            Err(Err(reason)) => self.doomed.push((session, reason)),
        }
        if newly_dirty {
            self.dirty.push(session);
        }
        Ok(())
    }

    /// Asks the target for the end of the session, when the commands under way are over; further ones are not taken.
    pub fn logout(&mut self, session: SessionId) {
        let now_ns = self.now_ns;
        let Some(connection) = get_mut(&mut self.slots, session) else { return };
        match connection.logout(now_ns) {
            Ok(()) => self.mark(session),
            Err(reason) => self.doomed.push((session, reason)),
        }
    }

    /// Closes the connection without a logout, as a machine does that loses its power.
    pub fn close(&mut self, session: SessionId, events: &mut Vec<Event>) {
        self.end(session, Ending::Closed, events);
    }

    /// Sends what waits, waits at most until `until_ns` for something to happen, and reports what did. Returns early
    /// when the target or the ring has news that is no event.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn turn(&mut self, until_ns: u64, events: &mut Vec<Event>) -> Result<(), Errno> {
        self.turn_into(until_ns, events, &mut ())
    }

    /// The same, with a taker for what [`crate::Transfer::Stream`] commands read.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn turn_into(
        &mut self,
        until_ns: u64,
        events: &mut Vec<Event>,
        data: &mut dyn ReadSink,
    ) -> Result<(), Errno> {
        for (session, reason) in std::mem::take(&mut self.doomed) {
            self.end(session, Ending::Lost(reason), events);
        }
        self.flush();
        let until_ns = if self.sessions() > 0 { until_ns.min(self.next_check_ns) } else { until_ns };
        let wait = if self.backlog.is_empty() { Wait::Until(until_ns) } else { Wait::No };
        self.ring.submit(wait)?;
        self.now_ns = monotonic_ns();
        loop {
            let mut batch = std::mem::take(&mut self.batch);
            let reaped = self.ring.reap(&mut batch);
            for completion in batch.drain(..) {
                self.complete(completion, events, data);
            }
            let is_last = reaped < batch.capacity();
            self.batch = batch;
            if is_last {
                break;
            }
        }
        if self.now_ns >= self.next_check_ns {
            self.next_check_ns = self.now_ns + CHECK_NS;
            self.end_overdue(events);
        }
        Ok(())
    }

    fn get(&self, id: SessionId) -> Option<&Connection> {
        let slot = self.slots.get(id.index as usize)?;
        slot.connection.as_deref().filter(|_| slot.generation == id.generation)
    }

    fn mark(&mut self, id: SessionId) {
        if let Some(connection) = get_mut(&mut self.slots, id)
            && !std::mem::replace(&mut connection.is_dirty, true)
        {
            self.dirty.push(id);
        }
    }

    /// Hands everything that waits to the ring: one send per session.
    fn flush(&mut self) {
        while let Some((token, operation)) = self.backlog.pop_front() {
            if let Err(operation) = self.ring.push(token, operation) {
                self.backlog.push_front((token, operation));
                break;
            }
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            let Some(connection) = get_mut(&mut self.slots, id) else { continue };
            connection.is_dirty = false;
            if connection.closing.is_none()
                && let Some(list) = connection.session.outbox.next()
            {
                let socket = connection.socket;
                self.push(token(Kind::Send, id), Operation::Send { socket, list });
            }
        }
        self.dirty = dirty;
    }

    fn push(&mut self, token: Token, operation: Operation) {
        if !self.backlog.is_empty() {
            self.backlog.push_back((token, operation));
        } else if let Err(operation) = self.ring.push(token, operation) {
            self.backlog.push_back((token, operation));
        }
    }

    fn complete(&mut self, completion: Completion, events: &mut Vec<Event>, data: &mut dyn ReadSink) {
        let Token(bits) = completion.token;
        let index = bits as u32;
        let slot = self.slots.get(index as usize);
        let id = slot.map(|slot| SessionId { index, generation: slot.generation });
        let id = id.filter(|id| u64::from(id.generation & 0x00ff_ffff) == bits >> 32 & 0x00ff_ffff);
        match completion.event {
            RingEvent::Received { received, more } => {
                self.received((id, received, more), events, data);
            }
            RingEvent::Sent { result, list } => {
                if let Some(id) = id {
                    self.sent(id, result, list, events);
                }
            }
            // Nothing waits for the others.
            _ => {}
        }
    }

    fn received(
        &mut self,
        (id, received, more): (Option<SessionId>, Received, bool),
        events: &mut Vec<Event>,
        data: &mut dyn ReadSink,
    ) {
        let Some((id, connection)) = id.and_then(|id| Some((id, get_mut(&mut self.slots, id)?))) else {
            if let Received::Chunk(chunk) = received {
                self.ring.recycle(chunk);
            }
            return;
        };
        connection.receiving = more;
        let ending = match received {
            Received::Chunk(chunk) => self.chunk(id, chunk, events, data),
            Received::End => Some(Ending::Lost(Reason::ClosedByTarget)),
            Received::Failed(errno) => Some(Ending::Lost(Reason::Connection(errno))),
            Received::Starved | Received::Cancelled => None,
        };
        if let Some(ending) = ending {
            self.end(id, ending, events);
        }
        let Some(connection) = get_mut(&mut self.slots, id) else { return };
        if connection.closing.is_some() {
            self.end_if_quiet(id, events);
        } else {
            if connection.session.outbox.is_pending() {
                self.mark(id);
            }
            self.receive(id);
        }
    }

    /// Parses a chunk and gives it back.
    fn chunk(
        &mut self,
        id: SessionId,
        chunk: Chunk,
        events: &mut Vec<Event>,
        data: &mut dyn ReadSink,
    ) -> Option<Ending> {
        let mut ending = None;
        if let Some(connection) = get_mut(&mut self.slots, id)
            && connection.closing.is_none()
        {
            ending = connection.receive(chunk.bytes(), self.now_ns, events, data);
        }
        self.ring.recycle(chunk);
        ending
    }

    /// Has the ring receive, unless it does.
    fn receive(&mut self, id: SessionId) {
        let Some(connection) = get_mut(&mut self.slots, id) else { return };
        if !std::mem::replace(&mut connection.receiving, true) {
            let socket = connection.socket;
            self.push(token(Kind::Receive, id), Operation::Receive { socket });
        }
    }

    fn sent(&mut self, id: SessionId, result: Result<u32, Errno>, list: SendList, events: &mut Vec<Event>) {
        let Some(connection) = get_mut(&mut self.slots, id) else { return };
        let result = connection.session.outbox.sent(result, list);
        if connection.closing.is_some() {
            return self.end_if_quiet(id, events);
        }
        if let Err(errno) = result {
            return self.end(id, Ending::Lost(Reason::Connection(errno)), events);
        }
        if !connection.receiving && connection.session.is_logging_in() {
            connection.connected(self.now_ns);
        }
        if connection.session.outbox.is_pending() {
            self.mark(id);
        }
        self.receive(id);
    }

    /// Ends a session: its commands are lost, its socket is closed once the ring has let go of it.
    fn end(&mut self, id: SessionId, ending: Ending, events: &mut Vec<Event>) {
        let now_ns = self.now_ns;
        let Some(connection) = get_mut(&mut self.slots, id) else { return };
        if connection.closing.is_some() {
            return;
        }
        connection.closing = Some(ending);
        connection.session.lose_all(now_ns, |completed| events.push(Event::Completed(completed)));
        connection.session.outbox.clear();
        let (receiving, sending) = (connection.receiving, connection.session.outbox.in_flight());
        for (kind, under_way) in [(Kind::Receive, receiving), (Kind::Send, sending)] {
            if under_way {
                self.push(token(Kind::Other, id), Operation::Cancel { target: token(kind, id) });
            }
        }
        self.end_if_quiet(id, events);
    }

    fn end_if_quiet(&mut self, id: SessionId, events: &mut Vec<Event>) {
        let Some(connection) = get_mut(&mut self.slots, id) else { return };
        if connection.receiving || connection.session.outbox.in_flight() {
            return;
        }
        let socket = connection.socket;
        let Some(ending) = connection.closing.take() else { return };
        let slot = &mut self.slots[id.index as usize];
        slot.connection = None;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        self.push(token(Kind::Other, id), Operation::Close { socket });
        events.push(Event::Ended { session: id, ending });
    }

    fn end_overdue(&mut self, events: &mut Vec<Event>) {
        for index in 0..self.slots.len() {
            let Some(connection) = &self.slots[index].connection else { continue };
            if connection.closing.is_none()
                && let Some(reason) = connection.overdue(self.now_ns)
            {
                let id = connection.id;
                self.end(id, Ending::Lost(reason), events);
            }
        }
    }
}

#[inline]
fn get_mut(slots: &mut [Slot], id: SessionId) -> Option<&mut Connection> {
    let slot = slots.get_mut(id.index as usize)?;
    let is_it = slot.generation == id.generation;
    slot.connection.as_deref_mut().filter(|_| is_it)
}

impl<R: Ring> std::fmt::Debug for Client<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("sessions", &self.sessions()).finish_non_exhaustive()
    }
}
