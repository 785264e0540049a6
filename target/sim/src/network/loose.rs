//! Connections between two rings: released by one, and not yet adopted by another.

use super::AtRelease;
use crate::fault::FaultKind;
use crate::state::{RingKey, Socket, State, socket_slot};
use stampede_ring::{Errno, Event, LooseSocket, SocketId, Token};
use std::sync::{Arc, Mutex, PoisonError};

/// Where dropped [`LooseStream`]s leave their connections' numbers: a loose socket may be on another thread, where
/// the world is not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Abandoned(Arc<Mutex<Vec<usize>>>);

impl Abandoned {
    fn push(&self, connection: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }

    fn take(&self) -> Vec<usize> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a [`LooseSocket`] of a world holds.
struct LooseStream {
    /// `None` once a ring has it.
    connection: Option<usize>,
    abandoned: Abandoned,
}

impl Drop for LooseStream {
    fn drop(&mut self) {
        if let Some(connection) = self.connection {
            self.abandoned.push(connection);
        }
    }
}

impl State {
    /// A shard lets go of a connection.
    pub(crate) fn release(&mut self, ring: RingKey, token: Token, socket: SocketId) {
        let result = match self.socket(ring, socket) {
            Some(Socket::Stream(connection)) => Ok(self.set_loose(ring, socket, connection)),
            Some(Socket::Listener(_)) => {
                self.misuse(format_args!("release of {socket:?}, which is a listener"));
                Err(Errno(libc::EINVAL))
            }
            None => {
                self.misuse(format_args!("release of {socket:?}, which is not open"));
                Err(Errno(libc::EBADF))
            }
        };
        self.post(ring, token, Event::Released { result });
    }

    fn set_loose(&mut self, ring: RingKey, socket: SocketId, connection: usize) -> LooseSocket {
        let now = self.now;
        let link = &mut self.network.connections[connection];
        let (arrived, ended) = link.readable(now);
        link.loose = Some(AtRelease { arrived, ended });
        link.socket = None;
        if link.receive.is_some() || !link.sends.is_empty() {
            self.misuse(format_args!("release of {socket:?}, on which an operation is in flight"));
        }
        if let Some(state) = self.ring(ring) {
            state.sockets.remove(socket_slot(socket));
        }
        LooseSocket::new(LooseStream { connection: Some(connection), abandoned: self.abandoned.clone() })
    }

    /// A shard takes a loose connection in.
    pub(crate) fn adopt(
        &mut self,
        key: RingKey,
        socket: LooseSocket,
    ) -> Result<SocketId, (Errno, LooseSocket)> {
        let mut stream: LooseStream = socket.into_holder().map_err(|other| (Errno(libc::EINVAL), other))?;
        let elsewhere = !Arc::ptr_eq(&stream.abandoned.0, &self.abandoned.0);
        let full = self.strikes(FaultKind::AdoptFull);
        let connection = match stream.connection {
            Some(connection) if !elsewhere && !full => connection,
            _ => {
                let errno = if elsewhere { libc::EINVAL } else { libc::ENFILE };
                return Err((Errno(errno), LooseSocket::new(stream)));
            }
        };
        let Some(ring) = self.ring(key) else {
            return Err((Errno(libc::ENXIO), LooseSocket::new(stream)));
        };
        let id = ring.add_socket(Socket::Stream(connection));
        stream.connection = None;
        self.set_adopted(key, id, connection);
        Ok(id)
    }

    fn set_adopted(&mut self, key: RingKey, id: SocketId, connection: usize) {
        let now = self.now;
        let link = &mut self.network.connections[connection];
        link.socket = Some((key, id));
        let (arrived, ended) = link.readable(now);
        let Some(then) = link.loose.take() else { return };
        if arrived > then.arrived {
            self.faults.hit(FaultKind::LooseArrival);
        }
        if ended && !then.ended {
            self.faults.hit(FaultKind::LooseEnd);
        }
        for word in [now, 13 << 16 | u64::from(key.shard), u64::from(id.0)] {
            self.trace.mix(word);
        }
    }

    /// Closes what was dropped while it was loose.
    pub(crate) fn close_abandoned(&mut self) {
        for connection in self.abandoned.take() {
            // After a kill the connection is gone already.
            if self.network.connections[connection].loose.take().is_some() {
                self.close_stream(connection);
            }
        }
    }
}
