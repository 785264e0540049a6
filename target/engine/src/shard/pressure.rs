//! Memory pressure: nobody may hold for nothing what others wait for.

use super::{Shard, io};
use crate::connection::Conn;
use crate::request::Message;
use crate::token::Key;
use stampede_ring::Ring;

/// How long commands must have waited for memory before anybody is dropped for it.
const PRESSURE_NS: u64 = 1_000_000_000;

/// How long a connection may hold memory and neither send the data it owes nor take the data it asked for: an
/// initiator that is alive does either within a round trip. Shorter than the patience of those that wait, whose NOPs
/// go unanswered meanwhile.
const IDLE_NS: u64 = 5_000_000_000;

/// When commands began to wait for memory, and who is dropped for it.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    since_ns: Option<u64>,
}

impl<R: Ring> Shard<R> {
    /// Goes on with what waited for memory, where some may be free now.
    pub(super) fn retry_memory(&mut self) {
        // In turns, for each of the two can use up all that becomes free.
        if self.counters.turns.is_multiple_of(2) {
            self.retry_stalled();
            self.retry_starved();
        } else {
            self.retry_starved();
            self.retry_stalled();
        }
        self.relieve();
        if !self.narrowed.is_empty() {
            self.widen_windows();
        }
        for key in std::mem::take(&mut self.starved) {
            self.arm_receive(key);
        }
    }

    /// A command of the session found no memory for its data, and is answered TASK SET FULL: MaxCmdSN moves no further
    /// until there is some again, so that only commands promised before meet the same.
    #[cold]
    pub(super) fn narrow_window(&mut self, key: Key) {
        if self.narrowed.contains(&key) {
            return;
        }
        self.narrowed.push(key);
        if let Some(conn) = self.conns.get_mut(key) {
            conn.act(key, &mut self.front, |session, _, sink| session.set_window(0, sink));
        }
    }

    /// Opens windows again of connections that hold at most half of what they may. Others' memory does not matter: without
    /// memory of its own a connection waits for some instead of being refused.
    #[cold]
    fn widen_windows(&mut self) {
        let (window, most) = (self.config.settings.window, self.config.connection_bytes_max);
        for key in std::mem::take(&mut self.narrowed) {
            let Some(conn) = self.conns.get_mut(key) else { continue };
            // One that is about to move gets its window from where it goes, one that forwards too fast from its queue.
            if conn.moving.is_some() || self.windows.contains(&key) {
                continue;
            }
            if conn.side.held_bytes <= most / 2 {
                conn.act(key, &mut self.front, |session, _, sink| session.set_window(window, sink));
                self.mark(key);
            } else {
                self.narrowed.push(key);
            }
        }
    }

    fn retry_starved(&mut self) {
        if self.backend.is_starved() {
            self.backend.retry(&mut io!(self));
        }
    }

    fn retry_stalled(&mut self) {
        for _ in 0..self.stalled.len() {
            let Some(key) = self.stalled.pop_front() else { break };
            if !self.resume(key) {
                self.stalled.push_front(key);
                break;
            }
        }
    }

    /// If commands have waited for memory, drops connections that hold some and do nothing with it. Data that was read
    /// here may be on its way from any shard's connections.
    fn relieve(&mut self) {
        let headers = &self.config.headers;
        let short = headers.in_use() > headers.slots() / 4 * 3;
        if self.stalled.is_empty() && !self.backend.is_starved() && !short {
            self.pressure.since_ns = None;
            return;
        }
        let now_ns = self.now_ns;
        let since_ns = *self.pressure.since_ns.get_or_insert(now_ns);
        if now_ns.saturating_sub(since_ns) < PRESSURE_NS {
            return;
        }
        self.pressure.since_ns = Some(now_ns);
        for shard in self.mesh.shards() {
            self.post(shard, Message::Relieve);
        }
    }

    /// Drops connections that hold memory and do nothing with it.
    pub(super) fn drop_idle(&mut self) {
        let now_ns = self.now_ns;
        let idle = |since_ns: Option<u64>| since_ns.is_some_and(|ns| now_ns.saturating_sub(ns) >= IDLE_NS);
        let keys = |idles: &dyn Fn(&Conn) -> bool| -> Vec<Key> {
            self.conns.iter().filter(|(_, conn)| idles(conn)).map(|(key, _)| key).collect()
        };
        let senders = keys(&|conn| idle(conn.side.owing_since_ns()));
        let takers = keys(&|conn| idle(conn.sending_since_ns));
        for key in senders {
            self.drop_conn(key, &"it owes write data and sends none while others wait for memory");
        }
        for key in takers {
            self.drop_conn(key, &"it takes none of the data it asked for while others wait for memory");
        }
    }
}
