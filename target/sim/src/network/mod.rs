//! The simulated network: listeners and connections with bounded buffers and delays.
//!
//! ```text
//!   client_send --> [to_target: in transit | arrived] --> Receive (chunks, split anywhere)
//!   client_recv <-- [arrived | in transit :to_client] <-- Send (short when the buffer is nearly full)
//! ```

mod loose;
mod operate;
mod pipe;

pub(crate) use loose::Abandoned;
pub(crate) use pipe::Pipe;

use crate::state::RingKey;
use stampede_ring::{Errno, SocketId};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// How far a send has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendStage {
    /// On its way to the socket.
    Queued,
    /// At the socket.
    Ready,
    /// At the socket, whose buffer was full.
    Blocked,
}

/// A listening socket.
pub(crate) struct Listener {
    pub(crate) ring: RingKey,
    pub(crate) address: SocketAddr,
    /// Connections that nobody has accepted.
    pub(crate) backlog: VecDeque<usize>,
    pub(crate) accept: Option<u64>,
    pub(crate) open: bool,
}

/// A connection's state when its ring let go of it, to tell what came since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AtRelease {
    pub(crate) arrived: usize,
    pub(crate) ended: bool,
}

/// A connection, from the client's connect until the world ends.
pub(crate) struct Connection {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
    /// The ring that has it: the one that accepted it, or adopted it later.
    pub(crate) socket: Option<(RingKey, SocketId)>,
    /// No ring has it: what was to be read, and whether it had ended, when it was released.
    pub(crate) loose: Option<AtRelease>,
    pub(crate) to_target: Pipe,
    pub(crate) to_client: Pipe,
    pub(crate) receive: Option<u64>,
    /// Sends in order; only the first makes progress.
    pub(crate) sends: VecDeque<u64>,
    /// The connection is dead, and why as the target sees it.
    pub(crate) failure: Option<Errno>,
    /// The client reads no more: what the target sends provokes a reset.
    pub(crate) client_gone: bool,
    /// The target closed its socket.
    pub(crate) target_gone: bool,
    /// Nothing passes, in either direction.
    pub(crate) cut: bool,
}

impl Connection {
    /// Bytes that the target could receive now, and whether the stream has ended, by FIN or reset.
    pub(crate) fn readable(&self, now: u64) -> (usize, bool) {
        (self.to_target.arrived(now), self.failure.is_some() || self.to_target.has_ended(now))
    }

    /// Kills the connection in both directions; the client may still read what had arrived.
    pub(crate) fn fail(&mut self, errno: Errno, now: u64) {
        if self.failure.is_none() {
            self.failure = Some(errno);
            self.to_target.clear();
            self.to_client.drop_in_transit(now);
        }
    }
}

/// Everything on the network.
#[derive(Default)]
pub(crate) struct Network {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) connections: Vec<Connection>,
}
