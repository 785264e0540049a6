//! The end of a connection: finish sending, cancel what is under way, wait for its tasks' I/O, close, report.

use super::Shard;
use super::completions::NO_KEY;
use crate::connection::{Conn, Life};
use crate::messages::{MoveRefusal, SessionEnd, ToControl};
use crate::request::Message;
use crate::token::{Key, Kind, token};
use stampede_ring::{Operation, Ring};
use std::fmt::Display;

impl<R: Ring> Shard<R> {
    /// Sends what is queued, takes nothing more in, then closes.
    pub(super) fn finish(&mut self, key: Key, why: &dyn Display) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.life != Life::Open {
            return;
        }
        tracing::debug!(peer = %conn.peer, session = conn.session.session().0, %why, "closing connection");
        conn.life = Life::Finishing;
        self.leave_applicants(key);
        self.mark(key);
        self.cancel_receive(key);
    }

    /// Drops a connection: nothing more is sent.
    pub(super) fn drop_conn(&mut self, key: Key, why: &dyn Display) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if matches!(conn.life, Life::Dying | Life::Closing) {
            return;
        }
        tracing::info!(peer = %conn.peer, session = conn.session.session().0, %why, "connection dropped");
        self.drop_quietly(key);
    }

    /// The same without a word.
    pub(super) fn drop_quietly(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if matches!(conn.life, Life::Dying | Life::Closing) {
            return;
        }
        conn.life = Life::Dying;
        self.leave_applicants(key);
        let Some(conn) = self.conns.get_mut(key) else { return };
        if !conn.is_releasing() {
            self.stay(key, MoveRefusal::Ending);
        }
        let Some(conn) = self.conns.get_mut(key) else { return };
        let running = conn.running(None);
        self.stop_copies(key, &running);
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.act(key, &mut self.front, |session, _, sink| session.disconnect(sink));
        conn.outbox().clear();
        if conn.outbox().in_flight() {
            let target = token(Kind::Send, key, 0);
            self.pusher.push(token(Kind::Ignored, NO_KEY, 0), Operation::Cancel { target });
        }
        self.cancel_receive(key);
        self.mark(key);
    }

    /// Moves a connection that is ending one stage further, if it can go.
    pub(super) fn advance_closing(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.life == Life::Finishing && !conn.is_sending() {
            self.drop_quietly(key);
        }
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.life == Life::Dying && conn.is_quiet() {
            conn.life = Life::Closing;
            let socket = conn.socket;
            self.pusher.push(token(Kind::Close, key, 0), Operation::Close { socket });
        }
    }

    /// The socket is closed: nothing of the connection is left but the news.
    pub(super) fn closed(&mut self, key: Key) {
        let Some(conn) = self.conns.remove(key) else { return };
        self.by_session.remove(&conn.session.session());
        if let Some(timer) = conn.timer_ns {
            self.timers.remove(&(timer, key));
        }
        if conn.probe.is_some() {
            self.probes.retain(|probed| *probed != key);
        }
        self.farewell(&conn);
    }

    /// Tells whom a connection concerns that it is over.
    pub(super) fn farewell(&mut self, conn: &Conn) {
        self.counters.closed += 1;
        let session = conn.session.session();
        if conn.travelled {
            self.tell_all(|| Message::SessionOver(session));
        }
        if conn.attached {
            let nexus = conn.nexus();
            for (_, address) in &conn.luns().0 {
                self.post(address.owner, Message::Detach { lun: address.lun, nexus });
            }
        }
        if conn.probe.is_some() {
            self.control.send(ToControl::Probed { session, alive: false, last_heard_ns: 0 });
        }
        if conn.asked {
            let end = if conn.logged_out {
                SessionEnd::Logout
            } else if conn.closed_by_control {
                SessionEnd::Closed
            } else {
                SessionEnd::Dropped
            };
            self.control.send(ToControl::SessionEnded { shard: self.config.shard, session, end });
        }
    }
}
