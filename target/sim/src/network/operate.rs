//! What happens on the network when something arrives, is accepted, received, sent or closed.

use super::{Connection, Listener, Pipe, SendStage};
use crate::fault::FaultKind;
use crate::state::{Occurrence, Pending, RingKey, Socket, State, Work, socket_slot};
use stampede_ring::{Accepted, Chunk, Errno, Event, Received, SocketId, Token};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Connections that wait to be accepted at one listener, at most.
const BACKLOG_MAX: usize = 4096;

impl State {
    pub(crate) fn listen(&mut self, key: RingKey, address: SocketAddr) -> Option<SocketId> {
        let listener = self.network.listeners.len();
        let ring = self.ring(key)?;
        let socket = ring.add_socket(Socket::Listener(listener));
        let backlog = VecDeque::new();
        self.network.listeners.push(Listener { ring: key, address, backlog, accept: None, open: true });
        Some(socket)
    }

    /// A client connects to one of the open listeners at an address, or to that of one shard.
    pub(crate) fn connect(
        &mut self,
        client: SocketAddr,
        server: SocketAddr,
        shard: Option<u16>,
    ) -> Option<usize> {
        let fits = |listener: &Listener| {
            listener.open
                && listener.address == server
                && listener.backlog.len() < BACKLOG_MAX
                && shard.is_none_or(|shard| listener.ring.shard == shard)
        };
        let listeners = self.network.listeners.iter().enumerate();
        let open: Vec<usize> =
            listeners.filter(|(_, listener)| fits(listener)).map(|(index, _)| index).collect();
        let listener = self.rng.choice(open)?;
        let connection = self.network.connections.len();
        self.network.connections.push(Connection {
            client,
            server,
            socket: None,
            loose: None,
            to_target: Pipe::new(self.config.network.socket_buffer),
            to_client: Pipe::new(self.config.network.socket_buffer),
            receive: None,
            sends: VecDeque::new(),
            failure: None,
            client_gone: false,
            target_gone: false,
            cut: false,
        });
        self.network.listeners[listener].backlog.push_back(connection);
        let delay = self.transit();
        self.schedule_in(delay, Occurrence::PumpListener(listener));
        Some(connection)
    }

    /// Draws how long bytes take.
    pub(crate) fn transit(&mut self) -> u64 {
        let range = self.config.network.latency.clone();
        let delay = self.draw(range);
        if self.strikes(FaultKind::SlowNetwork) { delay * self.rng.u64(10..200) } else { delay }
    }

    pub(crate) fn pump_listener(&mut self, listener: usize) {
        loop {
            let Listener { ring, address, accept, backlog, .. } = &mut self.network.listeners[listener];
            let (ring, local) = (*ring, *address);
            let (Some(key), false) = (*accept, backlog.is_empty()) else { return };
            let Some(token) = self.operations.get(&key).map(|pending| pending.token) else { return };
            if self.strikes(FaultKind::AcceptError) {
                self.end_accept(listener, key);
                let result = Err(Errno(libc::EMFILE));
                return self.post(ring, token, Event::Accepted { result, more: false });
            }
            let Some(connection) = self.network.listeners[listener].backlog.pop_front() else { return };
            let Some(state) = self.ring(ring) else { return };
            let socket = state.add_socket(Socket::Stream(connection));
            let peer = self.network.connections[connection].client;
            self.network.connections[connection].socket = Some((ring, socket));
            let more = !self.strikes(FaultKind::AcceptEnded);
            if !more {
                self.end_accept(listener, key);
            }
            let result = Ok(Accepted { socket, peer, local });
            self.post(ring, token, Event::Accepted { result, more });
        }
    }

    fn end_accept(&mut self, listener: usize, key: u64) {
        self.network.listeners[listener].accept = None;
        self.operations.remove(&key);
    }

    /// Lets a connection's receive and sends make what progress they can.
    pub(crate) fn pump(&mut self, connection: usize) {
        if !self.network.connections[connection].cut {
            self.pump_receive(connection);
            self.pump_sends(connection);
        }
    }

    fn pump_receive(&mut self, connection: usize) {
        while let Some((key, ring, token)) = self.receive_of(connection) {
            let (now, link) = (self.now, &self.network.connections[connection]);
            let (failure, arrived) = (link.failure, link.to_target.arrived(now));
            let received = if let Some(errno) = failure {
                Received::Failed(errno)
            } else if arrived == 0 {
                if !link.to_target.is_at_end(now) {
                    return;
                }
                Received::End
            } else if self.has_no_buffer(ring) || self.chance(FaultKind::Starved) {
                self.faults.hit(FaultKind::Starved);
                Received::Starved
            } else {
                self.bring_chunk(connection, ring, token, arrived, key);
                continue;
            };
            self.end_receive(connection, key);
            self.post(ring, token, Event::Received { received, more: false });
        }
    }

    fn receive_of(&self, connection: usize) -> Option<(u64, RingKey, Token)> {
        let key = self.network.connections[connection].receive?;
        let pending = self.operations.get(&key)?;
        Some((key, pending.ring, pending.token))
    }

    fn has_no_buffer(&mut self, ring: RingKey) -> bool {
        self.ring(ring).is_none_or(|ring| ring.free_buffers.is_empty())
    }

    fn end_receive(&mut self, connection: usize, key: u64) {
        self.network.connections[connection].receive = None;
        self.operations.remove(&key);
    }

    fn bring_chunk(&mut self, connection: usize, ring: RingKey, token: Token, arrived: usize, key: u64) {
        let mut len = arrived.min(self.config.ring.receive_buffer_len as usize);
        if len > 1 && self.strikes(FaultKind::SplitReceive) {
            len = self.rng.usize(1..len);
        }
        let more = !self.strikes(FaultKind::ReceiveEnded);
        if !more {
            self.end_receive(connection, key);
        }
        let payload = self.network.connections[connection].to_target.take(self.now, len);
        self.trace.mix_bytes(&payload);
        let Some(mut buffer) = self.ring(ring).and_then(|ring| ring.free_buffers.pop()) else { return };
        let bytes = buffer.bytes_mut().expect("nobody has a free buffer");
        bytes[..payload.len()].copy_from_slice(&payload);
        let received = Received::Chunk(Chunk::new(buffer, payload.len() as u32));
        self.post(ring, token, Event::Received { received, more });
    }

    /// A send has reached its socket.
    pub(crate) fn send_ready(&mut self, key: u64) {
        let Some(Work::Send { connection, stage, .. }) =
            self.operations.get_mut(&key).map(|pending| &mut pending.work)
        else {
            return;
        };
        *stage = SendStage::Ready;
        let connection = *connection;
        self.pump(connection);
    }

    fn pump_sends(&mut self, connection: usize) {
        while let Some(key) = self.network.connections[connection].sends.front().copied() {
            let Some(Pending { work: Work::Send { list, stage, hasty, .. }, .. }) =
                self.operations.get_mut(&key)
            else {
                return;
            };
            if *stage == SendStage::Queued {
                return;
            }
            let link = &mut self.network.connections[connection];
            let wanted = usize::try_from(list.bytes()).unwrap_or(usize::MAX);
            let room = link.to_client.room();
            let blocked = link.failure.is_none() && room == 0 && wanted > 0;
            if blocked && !*hasty {
                if *stage == SendStage::Ready {
                    *stage = SendStage::Blocked;
                    self.faults.hit(FaultKind::BlockedSend);
                }
                return;
            }
            let result = match link.failure {
                Some(errno) => Err(errno),
                None if blocked => Err(Errno(libc::ECANCELED)),
                None => Ok(wanted.min(room)),
            };
            self.end_send(connection, key, result);
        }
    }

    fn end_send(&mut self, connection: usize, key: u64, result: Result<usize, Errno>) {
        self.network.connections[connection].sends.pop_front();
        let Some(Pending { ring, token, work: Work::Send { list, .. } }) = self.operations.remove(&key)
        else {
            return;
        };
        let result = result.map(|len| {
            let mut len = len;
            if len > 1 && self.strikes(FaultKind::ShortSend) {
                len = self.rng.usize(1..len);
            }
            let mut bytes = Vec::with_capacity(len);
            for slice in list.slices() {
                let take = slice.len().min(len - bytes.len());
                bytes.extend_from_slice(&slice[..take]);
            }
            self.trace.mix_bytes(&bytes);
            self.travel_to_client(connection, bytes);
            len as u32
        });
        self.post(ring, token, Event::Sent { result, list });
    }

    fn travel_to_client(&mut self, connection: usize, bytes: Vec<u8>) {
        let arrival = self.now + self.transit();
        let reset = self.strikes(FaultKind::ConnectionReset);
        let now = self.now;
        let link = &mut self.network.connections[connection];
        if link.client_gone || reset {
            link.fail(Errno(libc::ECONNRESET), now);
            self.schedule(arrival, Occurrence::Pump(connection));
        } else {
            // The arrival is on the agenda, so that the clock never jumps past it.
            let arrival = link.to_client.put(arrival, bytes);
            self.schedule(arrival, Occurrence::Pump(connection));
        }
    }

    /// The client's bytes set out; returns how many fitted.
    pub(crate) fn travel_to_target(&mut self, connection: usize, bytes: &[u8]) -> usize {
        let link = &self.network.connections[connection];
        if link.failure.is_some() || link.client_gone {
            return 0;
        }
        let len = bytes.len().min(link.to_target.room());
        if len == 0 {
            return 0;
        }
        let mut arrival = self.now + self.transit();
        if self.strikes(FaultKind::ConnectionReset) {
            self.reset(connection, Errno(libc::ECONNRESET));
            return len;
        }
        let now = self.now;
        let link = &mut self.network.connections[connection];
        if link.target_gone {
            link.fail(Errno(libc::ECONNRESET), now);
            return len;
        }
        arrival = link.to_target.put(arrival, bytes[..len].to_vec());
        self.schedule(arrival, Occurrence::Pump(connection));
        len
    }

    /// The connection dies.
    pub(crate) fn reset(&mut self, connection: usize, errno: Errno) {
        let now = self.now;
        self.network.connections[connection].fail(errno, now);
        let delay = self.transit();
        self.schedule_in(delay, Occurrence::Pump(connection));
    }

    /// The target closes a socket.
    pub(crate) fn close(&mut self, ring: RingKey, token: Token, socket: SocketId) {
        let Some(kind) = self.socket(ring, socket) else {
            self.misuse(format_args!("close of {socket:?}, which is not open"));
            return self.finish(ring, token, Err(Errno(libc::EBADF)));
        };
        let busy = match kind {
            Socket::Listener(listener) => self.close_listener(listener),
            Socket::Stream(connection) => self.close_stream(connection),
        };
        if busy {
            self.misuse(format_args!("close of {socket:?}, on which an operation is in flight"));
        }
        if let Some(state) = self.ring(ring) {
            state.sockets.remove(socket_slot(socket));
        }
        self.finish(ring, token, Ok(()));
    }

    fn close_listener(&mut self, listener: usize) -> bool {
        let Listener { backlog, open, accept, .. } = &mut self.network.listeners[listener];
        *open = false;
        let busy = accept.is_some();
        for connection in std::mem::take(backlog) {
            self.reset(connection, Errno(libc::ECONNRESET));
        }
        busy
    }

    pub(super) fn close_stream(&mut self, connection: usize) -> bool {
        let arrival = self.now + self.transit();
        let now = self.now;
        let link = &mut self.network.connections[connection];
        link.target_gone = true;
        link.socket = None;
        if link.to_target.bytes() > 0 {
            link.fail(Errno(libc::ECONNRESET), now);
        } else {
            let arrival = link.to_client.finish(arrival);
            self.schedule(arrival, Occurrence::Pump(connection));
        }
        let link = &mut self.network.connections[connection];
        link.receive.is_some() || !link.sends.is_empty()
    }

    /// The process is gone, and every socket with it.
    pub(crate) fn drop_sockets(&mut self) {
        for listener in 0..self.network.listeners.len() {
            self.close_listener(listener);
        }
        let now = self.now;
        for link in &mut self.network.connections {
            link.fail(Errno(libc::ECONNRESET), now);
            link.receive = None;
            link.sends.clear();
            link.socket = None;
            link.loose = None;
        }
    }
}
