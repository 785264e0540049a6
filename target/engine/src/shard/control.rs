//! What the control thread asks for.

use super::{Shard, io};
use crate::cache::Cache;
use crate::messages::{FromControl, MoveRefusal, SessionEnd, ToControl};
use crate::request::Message;
use crate::token::{Key, Kind, token};
use stampede_ring::{Errno, Operation, Ring};
use stampede_session::{Admission, Announcement, SessionId};

/// Why sessions are closed in the end.
const STOPPING: &str = "the target is stopping";

/// A shard on its way out.
#[derive(Debug)]
pub(super) struct Draining {
    /// When sessions are closed by force.
    deadline_ns: u64,
    forced: bool,
    /// No session is here any more and none will come: the other shards were told.
    quiet: bool,
    /// Flushes under way; `None` before they are pushed.
    flushes: Option<u32>,
    reported: bool,
}

impl<R: Ring> Shard<R> {
    pub(super) fn take_control(&mut self) {
        while let Some(message) = self.control.receive() {
            self.controlled(message);
        }
    }

    pub(super) fn controlled(&mut self, message: FromControl) {
        let Some(message) = self.pass_on(message) else { return };
        match message {
            FromControl::Admit { session, admission, luns } => {
                let Some(key) = self.by_session.get(&session).copied() else { return };
                let Some(conn) = self.conns.get_mut(key) else { return };
                if matches!(admission, Admission::Allow { .. }) {
                    conn.side.set_luns(luns);
                }
                let moves = conn.moving.is_some();
                conn.act(key, &mut self.front, |session, now, sink| {
                    session.admitted(admission, now, sink);
                    // A session that is to move begins with a closed window.
                    if moves {
                        session.set_window(0, sink);
                    }
                });
                self.mark(key);
            }
            FromControl::CloseSession { session } => match self.by_session.get(&session).copied() {
                Some(key) => {
                    if let Some(conn) = self.conns.get_mut(key) {
                        conn.closed_by_control = true;
                    }
                    self.drop_conn(key, &"its place is taken by a newer login, or the operator ended it");
                }
                None => self.gone(session),
            },
            FromControl::Announce { session, what } => {
                let Some(key) = self.by_session.get(&session).copied() else { return };
                self.say(key, what);
            }
            FromControl::Move { session, to } => self.begin_move(session, to),
            FromControl::Probe { session, deadline_ns } => self.probe(session, deadline_ns),
            FromControl::CreateClone { lun, golden, device, kept } => {
                if kept.is_some() && self.spare.is_none() {
                    self.spare = self.config.arena.take();
                }
                if self.backend.add_clone(lun, golden, *device, kept.map(|kept| *kept)) {
                    self.backend.look_at_space_of(lun, &self.config.arena);
                } else {
                    tracing::error!(
                        lun = lun.0,
                        golden = golden.0,
                        "a clone of a golden that this shard lacks"
                    );
                }
            }
            FromControl::Record { lun } => self.backend.record(lun, true),
            FromControl::StopRecording { lun } => {
                self.send_recorded();
                self.backend.record(lun, false);
            }
            FromControl::Warm { golden, route, paced } => {
                if let Some(cache) = self.cache.as_mut().filter(|_| self.draining.is_none()) {
                    cache.warm(golden, route, paced);
                }
            }
            FromControl::StopWarming { golden } => {
                self.cache.iter_mut().for_each(|cache| cache.stop_warming(Some(golden)));
            }
            FromControl::DropClone { lun } => {
                self.send_recorded();
                if self.backend.drop_clone(lun) {
                    self.tell_all(|| Message::CloneOver(lun));
                }
                self.control.send(ToControl::CloneDropped { lun });
            }
            FromControl::Saved { lun, number, durable } => {
                self.backend.saved(lun, number, durable, &mut io!(self));
            }
            FromControl::Rekeyed { lun, cipher, destroyed } => self.backend.rekeyed(lun, cipher, destroyed),
            FromControl::AddDisk { request, disk } => self.take_disk(request, *disk),
            FromControl::SetLuns { session, luns } => self.set_luns(session, luns),
            FromControl::Change { request, lun, what } => self.backend.change(request, lun, what),
            FromControl::Space { units } => self.backend.look_at_space(&units, &self.config.arena),
            FromControl::Report { request } => {
                let report = self.report(request);
                self.control.send(ToControl::Report(Box::new(report)));
            }
            FromControl::Drain { deadline_ns } => self.drain(deadline_ns),
            FromControl::Stop => self.stopping = true,
        }
    }

    /// A session that the control thread knows is not here any more: its news crossed the question.
    fn gone(&mut self, session: SessionId) {
        let shard = self.config.shard;
        self.control.send(ToControl::SessionEnded { shard, session, end: SessionEnd::Dropped });
    }

    fn probe(&mut self, session: SessionId, deadline_ns: u64) {
        let Some(key) = self.by_session.get(&session).copied() else {
            self.control.send(ToControl::Probed { session, alive: false, last_heard_ns: 0 });
            return;
        };
        let now_ns = self.now_ns;
        if let Some(conn) = self.conns.get_mut(key) {
            conn.probe = Some((now_ns, deadline_ns));
            conn.act(key, &mut self.front, |session, now, sink| session.ping(now, sink));
            self.probes.push(key);
            self.mark(key);
        }
    }

    /// Answers the probes that are answered, or over.
    pub(super) fn run_probes(&mut self) {
        for key in std::mem::take(&mut self.probes) {
            let Some(conn) = self.conns.get_mut(key) else { continue };
            let Some((since_ns, deadline_ns)) = conn.probe else { continue };
            let last_heard_ns = conn.session.last_heard_ns();
            let alive = last_heard_ns > since_ns;
            if alive || self.now_ns >= deadline_ns {
                conn.probe = None;
                let session = conn.session.session();
                self.control.send(ToControl::Probed { session, alive, last_heard_ns });
            } else {
                self.probes.push(key);
            }
        }
    }

    pub(super) fn probe_deadline(&self) -> Option<u64> {
        self.probes.iter().filter_map(|key| self.conns.get(*key)?.probe).map(|(_, deadline)| deadline).min()
    }

    fn drain(&mut self, deadline_ns: u64) {
        self.backend.halt_sanitizers();
        self.cache.iter_mut().for_each(|cache| cache.stop_warming(None));
        for index in 0..self.listeners.len() {
            let key = Key { index: index as u32, generation: 0 };
            let target = token(Kind::Accept, key, 0);
            self.pusher.push(token(Kind::Ignored, key, 0), Operation::Cancel { target });
        }
        self.draining =
            Some(Draining { deadline_ns, forced: false, quiet: false, flushes: None, reported: false });
        for key in self.conns.keys().collect::<Vec<_>>() {
            let Some(conn) = self.conns.get_mut(key) else { continue };
            match &conn.moving {
                // It stays too, and is asked once its socket is back.
                Some(_) if conn.is_releasing() => {}
                Some(_) => self.stay(key, MoveRefusal::Ending),
                None => self.ask_logout(key),
            }
        }
        let me = self.config.shard;
        self.tell_all(|| Message::Settled(me));
    }

    /// Asks an initiator to log out before the shard stops; without time left its session ends.
    pub(super) fn ask_logout(&mut self, key: Key) {
        let Some(Draining { deadline_ns, forced, .. }) = self.draining else { return };
        if forced {
            return self.drop_conn(key, &STOPPING);
        }
        let seconds = deadline_ns.saturating_sub(self.now_ns) / 1_000_000_000;
        // With 0 the session would end before its initiator was asked; the deadline ends it anyway.
        let seconds = u16::try_from(seconds).unwrap_or(u16::MAX).max(1);
        self.say(key, Announcement::Logout { seconds });
    }

    fn say(&mut self, key: Key, what: Announcement) {
        if let Some(conn) = self.conns.get_mut(key) {
            conn.act(key, &mut self.front, |session, now, sink| session.announce(what, now, sink));
            self.mark(key);
        }
    }

    /// Goes on with leaving.
    pub(super) fn run_draining(&mut self) {
        self.rearm_accept.retain(|_| self.draining.is_none());
        let Some(draining) = &mut self.draining else { return };
        if !draining.forced && self.now_ns >= draining.deadline_ns {
            draining.forced = true;
            for key in self.conns.keys().collect::<Vec<_>>() {
                self.drop_conn(key, &STOPPING);
            }
        }
        let Some(draining) = &mut self.draining else { return };
        // Sessions may still be on their way here, until every shard has said that it sends none.
        let all_settled = self.travel.settled_len() + 1 >= self.mesh.shards().count();
        if self.conns.len() > 0 || !all_settled || draining.reported {
            return;
        }
        if !std::mem::replace(&mut draining.quiet, true) {
            let me = self.config.shard;
            self.tell_all(|| Message::Quiet(me));
        }
        // Sessions of other shards may still write to units of this one: what is flushed is the last of all.
        let all_quiet = self.travel.quiet_len() + 1 >= self.mesh.shards().count();
        if all_quiet {
            // Not before: who still writes to a full arena would be refused (07h/27h/07h) instead of waiting.
            self.backend.halt_spiller();
        }
        let busy = self.backend.sanitizers_are_busy() || self.backend.spiller_is_busy();
        let busy = busy || self.cache.as_ref().is_some_and(Cache::is_reading);
        if !all_quiet || self.backend.jobs_len() > 0 || busy {
            return;
        }
        let Some(draining) = &mut self.draining else { return };
        match draining.flushes {
            None => {
                let files: Vec<_> = self.backend.files().collect();
                draining.flushes = Some(files.len() as u32);
                for file in files {
                    let key = Key { index: 0, generation: 0 };
                    self.pusher.push(token(Kind::Drain, key, 0), Operation::Flush { file });
                }
                self.run_draining();
            }
            Some(0) => {
                draining.reported = true;
                self.control.send(ToControl::Drained { shard: self.config.shard });
            }
            Some(_) => {}
        }
    }

    pub(super) fn flushed(&mut self, result: Result<(), Errno>) {
        if let Err(error) = result {
            tracing::error!(%error, "the last flush failed: data written since the flush before may be lost");
        }
        if let Some(flushes) = self.draining.as_mut().and_then(|draining| draining.flushes.as_mut()) {
            *flushes = flushes.saturating_sub(1);
        }
    }

    pub(super) fn draining_deadline(&self) -> Option<u64> {
        self.draining.as_ref().filter(|draining| !draining.forced).map(|draining| draining.deadline_ns)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopping
    }
}
