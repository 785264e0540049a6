//! A server on the product's ring: accept, receive, one vectored send per connection and turn; any protocol.

use crate::outbox::{Memory, Outbox};
use crate::stats::{Counters, Published};
use slab::Slab;
use stampede_ring::uring::{UringConfig, UringRing, Waker};
use stampede_ring::{Accepted, Completion, Event, Operation, Received, Ring, SocketId, Token, Wait};
use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Completions handled in one turn, as in the product.
const BATCH: usize = 512;
/// Connections at once; further ones are closed right away.
const CONNECTIONS_MAX: usize = 4096;

/// What one connection does with the bytes it receives.
pub trait Connection: Sized {
    /// What all connections of the process share.
    type Shared: Send + Sync;

    /// A new connection. `local` is the address on our side that the client connected to.
    fn new(shared: &Arc<Self::Shared>, local: SocketAddr) -> Self;

    /// Takes received bytes in, and puts answers into the outbox. Counts its commands.
    ///
    /// # Errors
    /// Why the connection is to be dropped.
    fn receive(
        &mut self,
        bytes: &[u8],
        outbox: &mut Outbox,
        memory: &Memory,
        commands: &mut u64,
    ) -> Result<(), Box<dyn std::error::Error>>;

    /// Whether the connection is to be closed when everything has been sent.
    fn is_over(&self) -> bool;
}

/// What a shard shares with the thread that watches over it.
#[derive(Debug)]
pub struct Watch {
    /// Told why a connection is dropped.
    pub complain: fn(&dyn std::fmt::Display),
    /// Counters, as of the last turn.
    pub counters: Published,
    /// Set, then wake: the shard ends.
    pub stop: AtomicBool,
}

/// One thread's server.
#[derive(Debug)]
pub struct Shard<C: Connection> {
    ring: UringRing,
    listener: SocketId,
    shared: Arc<C::Shared>,
    watch: Arc<Watch>,
    memory: Memory,
    conns: Slab<Conn<C>>,
    dirty: Vec<usize>,
    batch: Vec<Completion>,
    /// Operations that found the ring's queue full.
    waiting: VecDeque<(Token, Operation)>,
    counters: Counters,
}

#[derive(Debug)]
struct Conn<C> {
    protocol: C,
    outbox: Outbox,
    socket: SocketId,
    dirty: bool,
    /// A receive is armed.
    receiving: bool,
    /// No more is taken in: it is closed once its operations have ended.
    closing: bool,
}

/// Kinds of operations, the low bits of a token; the rest is the connection's place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Accept = 0,
    Receive = 1,
    Send = 2,
    /// Its completion says nothing: cancel and close.
    Ignored = 3,
}

fn token(kind: Kind, key: usize) -> Token {
    Token((key as u64) << 2 | kind as u64)
}

fn parts(token: Token) -> (Kind, usize) {
    let kind = match token.0 & 3 {
        0 => Kind::Accept,
        1 => Kind::Receive,
        2 => Kind::Send,
        _ => Kind::Ignored,
    };
    // A slab key of ours, so it fits.
    (kind, (token.0 >> 2) as usize)
}

impl<C: Connection> Shard<C> {
    /// Sets a shard up on the calling thread, which must be the one that runs it, with so many bytes of canned payload.
    ///
    /// # Errors
    /// The ring or its memory could not be had.
    pub fn new(
        listener: TcpListener,
        shared: Arc<C::Shared>,
        watch: Arc<Watch>,
        canned: u64,
    ) -> anyhow::Result<Self> {
        let config = UringConfig { sockets_max: CONNECTIONS_MAX as u32 + 8, ..UringConfig::default() };
        let mut ring = UringRing::new(&config, &[])?;
        let listener = ring.add_listener(listener)?;
        let mut shard = Self {
            ring,
            listener,
            shared,
            watch,
            memory: Memory::new(canned)?,
            conns: Slab::new(),
            dirty: Vec::with_capacity(BATCH),
            batch: Vec::with_capacity(BATCH),
            waiting: VecDeque::new(),
            counters: Counters::default(),
        };
        shard.push(token(Kind::Accept, 0), Operation::Accept { listener });
        Ok(shard)
    }

    /// For ending the shard: set [`Watch::stop`], then wake it.
    pub fn waker(&self) -> Waker {
        self.ring.waker()
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn run(mut self) -> anyhow::Result<()> {
        let mut wait = Wait::Forever;
        while !self.watch.stop.load(Ordering::Relaxed) {
            self.ring.submit(wait).map_err(|error| anyhow::anyhow!("the ring is broken: {error}"))?;
            self.counters.wakeups += 1;
            self.flush();
            let more = self.reap();
            self.send_all();
            wait = if more || !self.waiting.is_empty() { Wait::No } else { Wait::Forever };
            self.watch.counters.publish(&self.counters);
        }
        Ok(())
    }

    fn reap(&mut self) -> bool {
        let mut batch = std::mem::take(&mut self.batch);
        let count = self.ring.reap(&mut batch);
        for Completion { token, event } in batch.drain(..) {
            self.complete(token, event);
        }
        self.batch = batch;
        count == BATCH
    }

    fn complete(&mut self, token: Token, event: Event) {
        let (kind, key) = parts(token);
        match event {
            Event::Received { received, more } if kind == Kind::Receive => self.received(key, received, more),
            Event::Sent { result, list } if kind == Kind::Send => {
                let Some(conn) = self.conns.get_mut(key) else { return };
                if conn.outbox.sent(result, list).is_err() {
                    conn.closing = true;
                }
                self.mark(key);
            }
            Event::Accepted { result, more } => {
                if let Ok(accepted) = result {
                    self.open(accepted);
                }
                if !more {
                    self.push(token, Operation::Accept { listener: self.listener });
                }
            }
            _ => {}
        }
    }

    fn open(&mut self, Accepted { socket, local, .. }: Accepted) {
        if self.conns.len() >= CONNECTIONS_MAX {
            self.push(token(Kind::Ignored, 0), Operation::Close { socket });
            return;
        }
        self.counters.connections += 1;
        let key = self.conns.insert(Conn {
            protocol: C::new(&self.shared, local),
            outbox: Outbox::default(),
            socket,
            dirty: false,
            receiving: true,
            closing: false,
        });
        self.push(token(Kind::Receive, key), Operation::Receive { socket });
    }

    fn received(&mut self, key: usize, received: Received, more: bool) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.receiving = more;
        match received {
            Received::Chunk(chunk) => {
                self.counters.receives += 1;
                if !conn.closing {
                    let bytes = chunk.bytes();
                    let Conn { protocol, outbox, .. } = conn;
                    let took = protocol.receive(bytes, outbox, &self.memory, &mut self.counters.commands);
                    if let Err(error) = took {
                        self.counters.dropped += 1;
                        conn.closing = true;
                        (self.watch.complain)(&error);
                    }
                }
                self.ring.recycle(chunk);
            }
            // Pushed again below, when this turn has given buffers back.
            Received::Starved => {}
            Received::End | Received::Cancelled | Received::Failed(_) => conn.closing = true,
        }
        self.mark(key);
    }

    /// The connection is looked at when the turn ends.
    fn mark(&mut self, key: usize) {
        if let Some(conn) = self.conns.get_mut(key)
            && !conn.dirty
        {
            conn.dirty = true;
            self.dirty.push(key);
        }
    }

    fn send_all(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for key in dirty.drain(..) {
            self.settle(key);
        }
        self.dirty = dirty;
    }

    /// Sends what a connection has to say; or closes it, when none of its operations is under way any more.
    fn settle(&mut self, key: usize) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.dirty = false;
        let socket = conn.socket;
        conn.closing |= conn.protocol.is_over() && conn.outbox.is_empty();
        if !conn.closing {
            let list = conn.outbox.next_list();
            let rearm = !std::mem::replace(&mut conn.receiving, true);
            if let Some(list) = list {
                self.counters.sends += 1;
                self.push(token(Kind::Send, key), Operation::Send { socket, list });
            }
            if rearm {
                self.push(token(Kind::Receive, key), Operation::Receive { socket });
            }
            return;
        }
        conn.outbox.clear();
        if conn.receiving {
            let target = token(Kind::Receive, key);
            self.push(token(Kind::Ignored, 0), Operation::Cancel { target });
        } else if !conn.outbox.in_flight() {
            self.conns.remove(key);
            self.push(token(Kind::Ignored, 0), Operation::Close { socket });
        }
    }

    fn push(&mut self, token: Token, operation: Operation) {
        if !self.waiting.is_empty() {
            self.waiting.push_back((token, operation));
        } else if let Err(operation) = self.ring.push(token, operation) {
            self.waiting.push_back((token, operation));
        }
    }

    /// Pushes what found the queue full.
    fn flush(&mut self) {
        while let Some((token, operation)) = self.waiting.pop_front() {
            if let Err(operation) = self.ring.push(token, operation) {
                self.waiting.push_front((token, operation));
                return;
            }
        }
    }
}
