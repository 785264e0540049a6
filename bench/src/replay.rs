//! A ring on which every operation succeeds at once: what is left of a measurement is the shard's own work.

use stampede_ring::{
    Accepted, Buffer, Chunk, Completion, Errno, Event, FileId, LooseFile, LooseSocket, Operation, Pool,
    PoolConfig, Received, Ring, SocketId, Token, Wait,
};
use std::net::SocketAddr;

/// Operations that may wait to be reaped; the shard of a benchmark never has more under way.
const COMPLETIONS_MAX: usize = 4096;

/// Bytes of sent PDUs that are kept without taking more memory.
const SENT_MAX: usize = 1 << 16;

/// The most bytes that arrive at once.
const CHUNK_MAX: u32 = 4 << 20;

/// See the module. It has one listener, and one connection at most.
#[derive(Debug)]
pub struct ReplayRing {
    completions: Vec<Completion>,
    accept: Option<Token>,
    receive: Option<Token>,
    /// The receive buffer, while it is not the shard's.
    chunk: Option<Buffer>,
    /// What was sent, if anybody wants to see it.
    sent: Option<Vec<u8>>,
    sends: u64,
    sent_bytes: u64,
    in_memory: bool,
}

/// The listening socket.
pub const LISTENER: SocketId = SocketId(0);
const CONNECTION: SocketId = SocketId(1);

/// One buffer of a pool of one.
fn receive_buffer() -> Option<Buffer> {
    Pool::new(PoolConfig { slot_len: CHUNK_MAX, slots: 1 }).expect("memory for a benchmark").take()
}

impl Default for ReplayRing {
    fn default() -> Self {
        Self {
            completions: Vec::with_capacity(COMPLETIONS_MAX),
            accept: None,
            receive: None,
            chunk: receive_buffer(),
            sent: None,
            sends: 0,
            sent_bytes: 0,
            in_memory: true,
        }
    }
}

impl ReplayRing {
    /// Whether its files are in memory, as they are at first: then it does their reads and writes at once, as the
    /// product's ring does. Those of a device complete when they are reaped.
    pub fn set_in_memory(&mut self, in_memory: bool) {
        self.in_memory = in_memory;
    }

    /// A client connects from this address to that.
    ///
    /// # Panics
    /// When the shard does not accept.
    pub fn connect(&mut self, peer: SocketAddr, local: SocketAddr) {
        let token = self.accept.expect("the shard accepts");
        let accepted = Accepted { socket: CONNECTION, peer, local };
        self.complete(token, Event::Accepted { result: Ok(accepted), more: true });
    }

    /// The client's bytes arrive, as one chunk.
    ///
    /// # Panics
    /// When the shard does not receive, or has not done with what came before.
    pub fn feed(&mut self, bytes: &[u8]) {
        let token = self.receive.expect("the shard receives");
        let mut buffer = self.chunk.take().expect("the shard has given the receive buffer back");
        let target = buffer.bytes_mut().expect("nothing refers to the receive buffer any more");
        target[..bytes.len()].copy_from_slice(bytes);
        let chunk = Chunk::new(buffer, bytes.len() as u32);
        self.complete(token, Event::Received { received: Received::Chunk(chunk), more: true });
    }

    /// Keeps what is sent from now on, for [`ReplayRing::take_sent`], or stops keeping it.
    pub fn keep_sent(&mut self, keep: bool) {
        self.sent = keep.then(|| Vec::with_capacity(SENT_MAX));
    }

    /// What was sent since the last call, if it is kept.
    pub fn take_sent(&mut self) -> Vec<u8> {
        self.sent.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Send operations so far, and their bytes.
    pub fn sends(&self) -> (u64, u64) {
        (self.sends, self.sent_bytes)
    }

    /// Whether the shard has completions to reap.
    pub fn is_ready(&self) -> bool {
        !self.completions.is_empty()
    }

    fn complete(&mut self, token: Token, event: Event) {
        self.completions.push(Completion { token, event });
    }
}

impl Ring for ReplayRing {
    fn push(&mut self, token: Token, operation: Operation) -> Result<(), Operation> {
        let event = match operation {
            Operation::Accept { .. } => {
                self.accept = Some(token);
                return Ok(());
            }
            Operation::Receive { .. } => {
                self.receive = Some(token);
                return Ok(());
            }
            Operation::Wake { .. } => return Ok(()),
            Operation::Send { list, .. } => {
                self.sends += 1;
                self.sent_bytes += list.bytes();
                if let Some(sent) = &mut self.sent {
                    list.slices().for_each(|slice| sent.extend_from_slice(slice));
                }
                Event::Sent { result: Ok(list.bytes() as u32), list }
            }
            Operation::Read { buffer, len, .. } | Operation::Write { buffer, len, .. } => {
                Event::Transferred { result: Ok(len), buffer }
            }
            Operation::Cancel { target } => {
                if self.receive == Some(target) {
                    self.receive = None;
                    let received = Received::Cancelled;
                    self.complete(target, Event::Received { received, more: false });
                }
                Event::Finished { result: Ok(()) }
            }
            _ => Event::Finished { result: Ok(()) },
        };
        self.complete(token, event);
        Ok(())
    }

    fn at_once(&mut self, operation: Operation) -> Result<Event, Operation> {
        match operation {
            Operation::Read { buffer, len, .. } | Operation::Write { buffer, len, .. } if self.in_memory => {
                Ok(Event::Transferred { result: Ok(len), buffer })
            }
            other => Err(other),
        }
    }

    fn submit(&mut self, _: Wait) -> Result<(), Errno> {
        Ok(())
    }

    /// There is no other ring that a connection could come from.
    fn adopt(&mut self, socket: LooseSocket) -> Result<SocketId, (Errno, LooseSocket)> {
        const EOPNOTSUPP: Errno = Errno(95);
        Err((EOPNOTSUPP, socket))
    }

    fn take_file(&mut self, _: LooseFile) -> Result<FileId, Errno> {
        const EOPNOTSUPP: Errno = Errno(95);
        Err(EOPNOTSUPP)
    }

    fn drop_file(&mut self, _: FileId) {}

    fn has_news(&mut self) -> bool {
        !self.completions.is_empty()
    }

    fn reap(&mut self, batch: &mut Vec<Completion>) -> usize {
        let room = batch.capacity() - batch.len();
        let count = room.min(self.completions.len());
        batch.extend(self.completions.drain(..count));
        count
    }

    fn recycle(&mut self, chunk: Chunk) {
        self.chunk = Some(chunk.into_buffer());
    }
}
