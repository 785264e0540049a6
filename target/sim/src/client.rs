//! The other end of the network: what a test's clients do.

use crate::state::Occurrence;
use crate::world::SimWorld;
use stampede_ring::Errno;
use std::net::SocketAddr;

/// A client's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(pub(crate) usize);

/// What a client knows of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientStatus {
    /// Connected, as far as the client knows.
    Open,
    /// The target closed it, and the client has read everything.
    Closed,
    /// It was reset, or the process at its other end died.
    Reset,
}

impl SimWorld {
    /// Connects from `client` to a listener at `server`: one of those of all shards, drawn at random. `None` when
    /// nobody listens there.
    pub fn connect(&self, client: SocketAddr, server: SocketAddr) -> Option<ClientId> {
        self.state().connect(client, server, None).map(ClientId)
    }

    /// Connects to the listener of one shard.
    pub fn connect_to_shard(&self, client: SocketAddr, server: SocketAddr, shard: u16) -> Option<ClientId> {
        self.state().connect(client, server, Some(shard)).map(ClientId)
    }

    /// Sends bytes and returns how many fitted into the connection's buffer; 0 too when it is dead.
    pub fn client_send(&self, client: ClientId, bytes: &[u8]) -> usize {
        self.state().travel_to_target(client.0, bytes)
    }

    /// Reads everything that has arrived.
    pub fn client_recv(&self, client: ClientId) -> Vec<u8> {
        self.client_recv_some(client, usize::MAX)
    }

    /// Reads at most `most` bytes of what has arrived, as a slow client does.
    pub fn client_recv_some(&self, client: ClientId, most: usize) -> Vec<u8> {
        let mut state = self.state();
        let now = state.now;
        let link = &mut state.network.connections[client.0];
        if link.cut || link.client_gone {
            return Vec::new();
        }
        let bytes = link.to_client.take(now, most);
        if !bytes.is_empty() && !link.sends.is_empty() {
            let delay = state.short_latency();
            state.schedule_in(delay, Occurrence::Pump(client.0));
        }
        bytes
    }

    /// Whether the connection lives.
    pub fn client_status(&self, client: ClientId) -> ClientStatus {
        let state = self.state();
        let link = &state.network.connections[client.0];
        if link.failure.is_some() {
            ClientStatus::Reset
        } else if link.to_client.is_at_end(state.now) && !link.cut {
            ClientStatus::Closed
        } else {
            ClientStatus::Open
        }
    }

    /// Ends the client's direction (FIN) but goes on reading.
    pub fn client_shutdown(&self, client: ClientId) {
        let mut state = self.state();
        let at = state.now + state.transit();
        let link = &mut state.network.connections[client.0];
        if !link.to_target.is_finished() {
            let arrival = link.to_target.finish(at);
            state.schedule(arrival, Occurrence::Pump(client.0));
        }
    }

    /// Closes the client's socket: FIN, and whatever the target sends from now on provokes a reset.
    pub fn client_close(&self, client: ClientId) {
        self.client_shutdown(client);
        let mut state = self.state();
        let link = &mut state.network.connections[client.0];
        link.client_gone = true;
        let unread = link.to_client.bytes() > 0;
        link.to_client.clear();
        if unread || !link.sends.is_empty() {
            state.reset(client.0, Errno(libc::ECONNRESET));
        }
    }

    /// Resets the connection (RST).
    pub fn client_reset(&self, client: ClientId) {
        self.state().reset(client.0, Errno(libc::ECONNRESET));
    }

    /// Cuts the cable or mends it: while it is cut nothing passes in either direction, and nobody is told.
    pub fn client_cut(&self, client: ClientId, cut: bool) {
        let mut state = self.state();
        state.network.connections[client.0].cut = cut;
        let delay = state.transit();
        state.schedule_in(delay, Occurrence::Pump(client.0));
    }

    /// The target's keepalive or user timeout gives the connection up (ETIMEDOUT at the target).
    pub fn client_timeout(&self, client: ClientId) {
        let mut state = self.state();
        state.network.connections[client.0].cut = false;
        state.reset(client.0, Errno(libc::ETIMEDOUT));
    }

    /// Bytes on their way to the client, read or not: a measure of how far a slow client is behind.
    pub fn client_backlog(&self, client: ClientId) -> usize {
        self.state().network.connections[client.0].to_client.bytes()
    }

    /// The addresses of a connection: the client's and the target's.
    pub fn client_addresses(&self, client: ClientId) -> (SocketAddr, SocketAddr) {
        let state = self.state();
        let link = &state.network.connections[client.0];
        (link.client, link.server)
    }
}
