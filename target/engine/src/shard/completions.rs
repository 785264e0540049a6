//! What the ring reports: new connections, received chunks, sent lists, transfers.

use super::{BATCH, Shard, io};
use crate::connection::{Conn, Fed, Life};
use crate::errno;
use crate::token::{Key, Kind, parts, token};
use stampede_ring::{Accepted, Completion, Errno, Event, Operation, Received, Ring, SendList};
use stampede_session::SessionId;

/// How long accepting pauses after it failed (out of descriptors, say).
const ACCEPT_PAUSE_NS: u64 = 100_000_000;

impl<R: Ring> Shard<R> {
    /// Handles a batch of completions; true when there may be more.
    pub(super) fn reap(&mut self) -> bool {
        let mut batch = std::mem::take(&mut self.batch);
        let count = self.pusher.ring_mut().reap(&mut batch);
        self.counters.completions += count as u64;
        for completion in batch.drain(..) {
            self.complete(completion);
        }
        self.batch = batch;
        count == BATCH
    }

    fn complete(&mut self, completion: Completion) {
        let Completion { token, event } = completion;
        if matches!(event, Event::Woken) {
            return;
        }
        let Some(parts) = parts(token) else {
            debug_assert!(false, "a completion for a token that was never made");
            return;
        };
        match (parts.kind, event) {
            (Kind::Accept, Event::Accepted { result, more }) => {
                self.accepted(parts.key.index as u16, result, more)
            }
            (Kind::Receive, Event::Received { received, more }) => self.received(parts.key, received, more),
            (Kind::Send, Event::Sent { result, list }) => self.sent(parts.key, result, list),
            (Kind::Close, Event::Finished { .. }) => self.closed(parts.key),
            (Kind::Release, Event::Released { result }) => self.released(parts.key, result),
            (Kind::Job, event) => self.backend.complete(parts.key, parts.part, event, &mut io!(self)),
            (Kind::Sanitize, event) => {
                self.backend.complete_sanitize(parts.key, parts.part, event, &mut io!(self));
            }
            (Kind::Spill, event) => self.backend.spilled(parts.key, parts.part, event, &mut io!(self)),
            (Kind::CacheRead, event) => self.cache_read(parts.key, event),
            (Kind::Drain, Event::Finished { result }) => self.flushed(result),
            (Kind::Ignored, _) => {}
            (kind, event) => debug_assert!(false, "{kind:?} completed with {event:?}"),
        }
    }

    fn accepted(&mut self, index: u16, result: Result<Accepted, Errno>, more: bool) {
        match result {
            Ok(accepted) => {
                self.counters.accepted += 1;
                self.open(accepted);
                if !more {
                    self.arm_accept(index);
                }
            }
            Err(error) => {
                if !self.stopping && self.draining.is_none() {
                    tracing::warn!(shard = self.config.shard.0, %error, "accepting failed; trying again soon");
                }
                if !more {
                    self.rearm_accept.push((index, self.now_ns + ACCEPT_PAUSE_NS));
                }
            }
        }
    }

    fn open(&mut self, accepted: Accepted) {
        let Accepted { socket, peer, local } = accepted;
        if self.conns.len() >= self.config.sockets_max() as usize {
            self.pusher.push(token(Kind::Ignored, NO_KEY, 0), Operation::Close { socket });
            return;
        }
        let session = SessionId(u64::from(self.config.shard.0) << 48 | self.next_session);
        self.next_session += 1;
        let conn = Conn::new(session, socket, (local, peer), self.config.settings.clone(), self.now_ns);
        let key = match self.conns.insert(conn) {
            Ok(key) => key,
            Err(_) => {
                self.pusher.push(token(Kind::Ignored, NO_KEY, 0), Operation::Close { socket });
                return;
            }
        };
        self.by_session.insert(session, key);
        if self.draining.is_some() || !self.take_applicant(key) {
            tracing::warn!(%peer, "connection refused: the shard is stopping, or has as many logins as it may");
            self.drop_quietly(key);
            return;
        }
        tracing::debug!(%peer, %local, session = session.0, "connection accepted");
        self.arm_receive(key);
        self.set_timer(key);
    }

    /// Arms a connection's multishot receive, unless it is armed or may not be.
    pub(super) fn arm_receive(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let wanted = conn.life == Life::Open && !conn.receiver.is_stalled() && !conn.is_leaving();
        if !wanted || conn.receiving {
            return;
        }
        conn.receiving = true;
        conn.cancelling = false;
        self.pusher.push(token(Kind::Receive, key, 0), Operation::Receive { socket: conn.socket });
    }

    fn received(&mut self, key: Key, received: Received, more: bool) {
        let Some(conn) = self.conns.get_mut(key) else {
            if let Received::Chunk(chunk) = received {
                self.pusher.ring_mut().recycle(chunk);
            }
            return;
        };
        conn.receiving = more;
        match received {
            Received::Chunk(chunk) => {
                self.counters.chunks_received += 1;
                self.counters.received_bytes += u64::from(chunk.len());
                if conn.is_leaving() && conn.life == Life::Open {
                    let kept = conn.keep(chunk.bytes());
                    self.pusher.ring_mut().recycle(chunk);
                    if let Fed::Broken(broken) = kept {
                        self.fed(key, Fed::Broken(broken));
                    }
                } else if conn.life == Life::Open {
                    let fed = conn.feed(key, &chunk, &mut self.front);
                    self.pusher.ring_mut().recycle(chunk);
                    self.fed(key, fed);
                } else {
                    self.pusher.ring_mut().recycle(chunk);
                }
                if !more {
                    self.arm_receive(key);
                }
            }
            Received::Starved if conn.life == Life::Open => self.starved.push(key),
            Received::Starved => {}
            Received::Cancelled => self.arm_receive(key),
            Received::End => self.drop_conn(key, &"the initiator closed the connection"),
            Received::Failed(error) => self.drop_conn(key, &error),
        }
        self.advance_closing(key);
    }

    /// What follows from feeding a connection.
    pub(super) fn fed(&mut self, key: Key, fed: Fed) {
        self.mark(key);
        match fed {
            Fed::All => {}
            Fed::Stalled => {
                self.counters.stalls += 1;
                if !self.stalled.contains(&key) {
                    self.stalled.push_back(key);
                }
                self.cancel_receive(key);
            }
            Fed::Broken(broken) => {
                self.counters.violations += 1;
                if let Some(conn) = self.conns.get(key) {
                    let session = conn.session.session().0;
                    tracing::warn!(peer = %conn.peer, session, why = %broken, "connection dropped for breaking the protocol");
                }
                // What was queued before (a Reject) is still sent.
                self.finish(key, &broken);
            }
        }
    }

    /// Stops receiving: the back-pressure of a connection that waits for memory.
    pub(super) fn cancel_receive(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.receiving && !conn.cancelling {
            conn.cancelling = true;
            let target = token(Kind::Receive, key, 0);
            self.pusher.push(token(Kind::Ignored, NO_KEY, 0), Operation::Cancel { target });
        }
    }

    /// Tries a stalled connection again; false when it still waits.
    pub(super) fn resume(&mut self, key: Key) -> bool {
        let Some(conn) = self.conns.get_mut(key) else { return true };
        if conn.life != Life::Open || conn.is_leaving() {
            return true;
        }
        let fed = conn.resume(key, &mut self.front);
        if matches!(fed, Fed::Stalled) {
            // It may have got further before it stalled again, and have something to send.
            self.mark(key);
            return false;
        }
        self.fed(key, fed);
        self.arm_receive(key);
        true
    }

    fn sent(&mut self, key: Key, result: Result<u32, Errno>, list: SendList) {
        self.counters.sends += 1;
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.sending_since_ns = None;
        match conn.outbox().sent(result, list) {
            Ok(sent) => self.counters.sent_bytes += u64::from(sent),
            Err(error) if matches!(conn.life, Life::Open | Life::Finishing) => self.not_sent(key, error),
            Err(_) => {}
        }
        self.mark(key);
        self.advance_closing(key);
    }

    /// A connection cannot be sent to.
    #[cold]
    fn not_sent(&mut self, key: Key, error: Errno) {
        if error == Errno(errno::EFAULT) {
            self.counters.cut_off += 1;
            tracing::error!(
                "a file was shortened while blocks of it were being sent: the connection is dropped, and to read them again \
                 fails. Make the file as long as it was"
            );
        }
        self.drop_conn(key, &error);
    }
}

/// For tokens whose completion says nothing.
pub(super) const NO_KEY: Key = Key { index: 0, generation: 0 };
