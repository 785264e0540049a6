//! Moving a session to another shard: when it may go, and how it arrives.
//!
//! ```text
//!  old shard                                                  new shard
//!  Move ─► close the window ─► Quieting ─► Stopping ─► Releasing ─► Arrive ══► adopt ─► Moved
//!          tasks and sends run to zero │   cancel,     socket out              reopen the window, take up what
//!          (commands promised earlier  │   keep bytes  of the ring             was kept, receive
//!          still come and run)         │   unparsed
//!                                      └─ not in time: MoveFailed, the window reopens
//! ```
//!
//! A login that waits for its admission has no window and no tasks, so it goes at once. What the control thread says
//! of the session goes where the session is: a shard remembers where its sessions went until they end. A shard that is
//! stopping sends no session away, and tells the others so before it reports that it is drained.

use super::Shard;
use super::completions::NO_KEY;
use super::planted::Planted;
use crate::connection::{Conn, Life, Moving, Stage, Traveller};
use crate::lun::TravellingLun;
use crate::messages::{FromControl, LunId, MoveRefusal, ShardId, ToControl};
use crate::request::Message;
use crate::token::{Key, Kind, token};
use stampede_ring::{Errno, LooseSocket, Operation, Ring};
use stampede_session::{Phase, SessionId};
use std::collections::{BTreeMap, BTreeSet};

/// How long a session's tasks and sends may take to end once its window is closed, in nanoseconds. Shorter than any
/// initiator's patience with a command.
const QUIET_NS_MAX: u64 = 2_000_000_000;

/// What a shard remembers of sessions and clones that move.
#[derive(Debug, Default)]
pub(super) struct Travel {
    /// Connections that are about to go.
    leaving: Vec<Key>,
    /// Where sessions went that lived here, until they end.
    sessions: BTreeMap<SessionId, ShardId>,
    /// Where clones went that were owned here, until they are dropped.
    clones: BTreeMap<LunId, ShardId>,
    /// Other shards that send no session away any more, since they are stopping.
    settled: BTreeSet<ShardId>,
    /// Those of them that have no session left.
    quiet: BTreeSet<ShardId>,
}

impl Travel {
    /// The shard that now owns a clone which was owned here.
    pub(super) fn owner_of(&self, lun: LunId) -> Option<ShardId> {
        self.clones.get(&lun).copied()
    }

    /// Another shard sends no session away any more.
    pub(super) fn settle(&mut self, shard: ShardId) {
        self.settled.insert(shard);
    }

    /// How many other shards send no session away any more.
    pub(super) fn settled_len(&self) -> usize {
        self.settled.len()
    }

    /// Another shard has no session left and gets none any more.
    pub(super) fn quieten(&mut self, shard: ShardId) {
        self.quiet.insert(shard);
    }

    /// How many other shards have no session left.
    pub(super) fn quiet_len(&self) -> usize {
        self.quiet.len()
    }

    /// A session is over, wherever it was last.
    pub(super) fn session_over(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    /// A clone is dropped, wherever it was last.
    pub(super) fn clone_over(&mut self, lun: LunId) {
        self.clones.remove(&lun);
    }
}

/// Whether a session may go now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readiness {
    /// Nothing of it is under way.
    Ready,
    /// Something is.
    Wait,
    /// It is about to end.
    Never,
}

impl<R: Ring> Shard<R> {
    /// The control thread asks for a session to go elsewhere.
    pub(super) fn begin_move(&mut self, session: SessionId, to: ShardId) {
        let Some(key) = self.by_session.get(&session).copied() else {
            return self.refuse_move(session, MoveRefusal::Unknown);
        };
        if to == self.config.shard || !self.mesh.shards().any(|shard| shard == to) {
            return self.refuse_move(session, MoveRefusal::NoSuchShard);
        }
        let stopping = self.draining.is_some();
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.moving.is_some() {
            return self.refuse_move(session, MoveRefusal::Underway);
        }
        let phase = conn.session.phase();
        if stopping || conn.life != Life::Open || !matches!(phase, Phase::Deciding | Phase::FullFeature) {
            return self.refuse_move(session, MoveRefusal::Ending);
        }
        let deadline_ns = self.now_ns.saturating_add(QUIET_NS_MAX);
        conn.moving = Some(Box::new(Moving::new(to, deadline_ns)));
        conn.act(key, &mut self.front, |session, _, sink| session.set_window(0, sink));
        self.travel.leaving.push(key);
        self.mark(key);
    }

    fn refuse_move(&mut self, session: SessionId, why: MoveRefusal) {
        self.counters.moves_refused += 1;
        let shard = self.config.shard;
        self.control.send(ToControl::MoveFailed { session, shard, why });
    }

    /// Takes every connection that is about to go one stage further, if it can. At the end of a turn, when all that
    /// the turn brought is handled.
    pub(super) fn run_moves(&mut self) {
        for key in std::mem::take(&mut self.travel.leaving) {
            self.advance_move(key);
            if self.conns.get(key).is_some_and(|conn| conn.moving.is_some()) {
                self.travel.leaving.push(key);
            }
        }
    }

    /// When the first of those that wait for their tasks has waited long enough.
    pub(super) fn move_deadline(&self) -> Option<u64> {
        let moving = |key: &Key| self.conns.get(*key)?.moving.as_deref();
        let waits = |moving: &&Moving| moving.stage == Stage::Quieting;
        self.travel.leaving.iter().filter_map(moving).filter(waits).map(|moving| moving.deadline_ns).min()
    }

    fn advance_move(&mut self, key: Key) {
        let Some(Moving { stage, deadline_ns, .. }) =
            self.conns.get(key).and_then(|conn| conn.moving.as_deref())
        else {
            return;
        };
        let (stage, late) = (*stage, *deadline_ns <= self.now_ns);
        match (stage, self.readiness(key)) {
            // Whoever waits for the socket decides.
            (Stage::Releasing, _) => {}
            (_, Readiness::Never) => self.stay(key, MoveRefusal::Ending),
            (Stage::Quieting, Readiness::Wait) if late => self.stay(key, MoveRefusal::Busy),
            (Stage::Quieting, Readiness::Wait) => {}
            (Stage::Quieting | Stage::Stopping, _) => self.stop_and_release(key),
        }
    }

    /// Whether nothing of the session is under way, nor of the clones that go with it.
    fn readiness(&self, key: Key) -> Readiness {
        let Some(conn) = self.conns.get(key) else { return Readiness::Never };
        if conn.life != Life::Open || !matches!(conn.session.phase(), Phase::Deciding | Phase::FullFeature) {
            return Readiness::Never;
        }
        let handled = self.front.happenings.is_empty() && self.backend.results.is_empty();
        let quiet = conn.is_idle() || self.plants(Planted::MovesWithTask);
        let nexus = conn.nexus();
        let clones_quiet = conn
            .luns()
            .0
            .iter()
            .all(|(_, address)| self.backend.may_leave(address.lun, nexus) != Some(false));
        if handled && quiet && clones_quiet { Readiness::Ready } else { Readiness::Wait }
    }

    /// No more is received and nothing more sent: once the receive's last completion is here, the socket goes.
    fn stop_and_release(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let (receiving, socket) = (conn.receiving, conn.socket);
        let Some(moving) = &mut conn.moving else { return };
        if receiving {
            moving.stage = Stage::Stopping;
            return self.cancel_receive(key);
        }
        moving.stage = Stage::Releasing;
        self.pusher.push(token(Kind::Release, key, 0), Operation::Release { socket });
    }

    /// A message of the control thread about a session that is not here, or about to go: passed on, or kept until the
    /// session is where it goes. `None` when that is done.
    pub(super) fn pass_on(&mut self, message: FromControl) -> Option<FromControl> {
        let session = match &message {
            FromControl::Admit { session, .. }
            | FromControl::CloseSession { session }
            | FromControl::Announce { session, .. }
            | FromControl::SetLuns { session, .. }
            | FromControl::Move { session, .. }
            | FromControl::Probe { session, .. } => *session,
            FromControl::DropClone { lun }
            | FromControl::Record { lun }
            | FromControl::StopRecording { lun } => {
                let Some(owner) = self.travel.owner_of(*lun) else { return Some(message) };
                self.post(owner, Message::Forwarded(Box::new(message)));
                return None;
            }
            _ => return Some(message),
        };
        let Some(key) = self.by_session.get(&session).copied() else {
            let Some(shard) = self.travel.sessions.get(&session).copied() else { return Some(message) };
            self.post(shard, Message::Forwarded(Box::new(message)));
            return None;
        };
        // Only its end can be handled while its socket is on its way.
        let waits = matches!(
            message,
            FromControl::Admit { .. }
                | FromControl::Probe { .. }
                | FromControl::Announce { .. }
                | FromControl::SetLuns { .. }
        );
        match self.conns.get_mut(key).filter(|conn| waits && conn.is_leaving()) {
            Some(Conn { moving: Some(moving), .. }) => {
                moving.keep(message);
                None
            }
            _ => Some(message),
        }
    }

    /// A socket was taken out of the ring, if it could be.
    pub(super) fn released(&mut self, key: Key, result: Result<LooseSocket, Errno>) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let open = conn.life == Life::Open;
        match result {
            Ok(socket) if open && self.draining.is_none() => self.depart(key, socket),
            Ok(socket) if open => match self.pusher.ring_mut().adopt(socket) {
                Ok(socket) => {
                    conn.socket = socket;
                    self.stay(key, MoveRefusal::Ending);
                }
                Err((error, socket)) => self.lose(key, socket, &error),
            },
            Ok(socket) => {
                drop(socket);
                self.stay(key, MoveRefusal::Ending);
                self.closed(key);
            }
            Err(error) => {
                tracing::error!(session = conn.session.session().0, %error, "a session's socket cannot be moved");
                self.stay(key, MoveRefusal::Busy);
                self.advance_closing(key);
            }
        }
    }

    /// The session's socket is in no ring and finds none: the session ends.
    fn lose(&mut self, key: Key, socket: LooseSocket, why: &Errno) {
        drop(socket);
        self.drop_conn(key, why);
        self.stay(key, MoveRefusal::NoRoom);
        self.closed(key);
    }

    /// Sends a session to its new shard, with the clones that it alone uses.
    fn depart(&mut self, key: Key, socket: LooseSocket) {
        let Some(mut conn) = self.conns.remove(key) else { return };
        let Some(moving) = conn.moving.take() else { return };
        let (session, to) = (conn.session.session(), moving.to);
        self.forget_places(key, &mut conn);
        let clones = self.give_clones(&mut conn, to);
        conn.travelled = true;
        self.travel.sessions.insert(session, to);
        self.counters.moved_away += 1;
        tracing::debug!(
            session = session.0,
            to = to.0,
            clones = clones.len(),
            "session moves to another shard"
        );
        let from = self.config.shard;
        let traveller = Traveller { conn, socket, from, clones, refused: None };
        self.post(to, Message::Arrive(Box::new(traveller)));
        for message in moving.mail {
            self.post(to, Message::Forwarded(Box::new(message)));
        }
    }

    /// Takes the clones out that go with a session: those that it alone uses.
    fn give_clones(&mut self, conn: &mut Conn, to: ShardId) -> Vec<TravellingLun> {
        let nexus = conn.nexus();
        let names: Vec<LunId> = conn.luns().0.iter().map(|(_, address)| address.lun).collect();
        let going: Vec<LunId> =
            names.into_iter().filter(|lun| self.backend.may_leave(*lun, nexus) == Some(true)).collect();
        conn.side.set_owner(&going, to);
        if self.plants(Planted::CloneLeftBehind) {
            return Vec::new();
        }
        self.travel.clones.extend(going.iter().map(|lun| (*lun, to)));
        going.into_iter().filter_map(|lun| self.backend.give(lun)).collect()
    }

    /// Takes a connection out of every list of this shard that names it.
    fn forget_places(&mut self, key: Key, conn: &mut Conn) {
        self.by_session.remove(&conn.session.session());
        if let Some(timer) = conn.timer_ns.take() {
            self.timers.remove(&(timer, key));
        }
        self.probes.retain(|probed| *probed != key);
        self.stalled.retain(|stalled| *stalled != key);
        self.starved.retain(|starved| *starved != key);
        self.windows.retain(|window| *window != key);
        self.narrowed.retain(|narrowed| *narrowed != key);
        conn.dirty = false;
        conn.cancelling = false;
    }

    /// A session comes, or comes back because the other shard could not take it.
    pub(super) fn arrive(&mut self, traveller: Box<Traveller>) {
        let back = traveller.refused.is_some();
        // A shard that is stopping has said that it sends nobody away.
        let may_refuse = !back && self.draining.is_none();
        let sessions = self.conns.len().saturating_sub(self.applicants.len());
        let full = sessions >= self.config.connections_max as usize;
        let strange = traveller.clones.iter().any(|clone| !self.backend.knows_golden(clone));
        if may_refuse && (full || strange) {
            return self.send_back(traveller);
        }
        let Traveller { mut conn, socket, from, clones, refused } = *traveller;
        match self.pusher.ring_mut().adopt(socket) {
            Ok(socket) => {
                conn.socket = socket;
                self.take_in(conn, from, clones, refused);
            }
            Err((_, socket)) if may_refuse => {
                self.send_back(Box::new(Traveller { conn, socket, from, clones, refused }));
            }
            Err((error, socket)) => {
                drop(socket);
                let luns = self.take_clones(clones);
                self.bury(conn, from, luns, refused, &error);
            }
        }
    }

    fn send_back(&mut self, mut traveller: Box<Traveller>) {
        let (session, from) = (traveller.conn.session.session(), traveller.from);
        // What was passed on to here follows it.
        self.travel.sessions.insert(session, from);
        for clone in &traveller.clones {
            self.travel.clones.insert(clone.name(), from);
        }
        traveller.refused = Some(MoveRefusal::NoRoom);
        self.post(from, Message::Arrive(traveller));
    }

    fn take_clones(&mut self, clones: Vec<TravellingLun>) -> Vec<LunId> {
        clones
            .into_iter()
            .filter_map(|clone| {
                let name = clone.name();
                self.travel.clones.remove(&name);
                if !self.backend.take_in(clone) {
                    tracing::error!(lun = name.0, "a clone came whose golden this shard lacks; it is lost");
                    return None;
                }
                self.counters.clones_moved += 1;
                Some(name)
            })
            .collect()
    }

    /// The session is this shard's from now on.
    fn take_in(
        &mut self,
        mut conn: Conn,
        from: ShardId,
        clones: Vec<TravellingLun>,
        refused: Option<MoveRefusal>,
    ) {
        let session = conn.session.session();
        let luns = self.take_clones(clones);
        self.travel.sessions.remove(&session);
        let me = self.config.shard;
        conn.side.set_owner(&luns, me);
        let probed = conn.probe.is_some();
        let socket = conn.socket;
        let key = match self.conns.insert(conn) {
            Ok(key) => key,
            Err(conn) => {
                self.pusher.push(token(Kind::Ignored, NO_KEY, 0), Operation::Close { socket });
                const ENFILE: Errno = Errno(23);
                return self.bury(conn, from, luns, refused, &ENFILE);
            }
        };
        self.by_session.insert(session, key);
        if probed {
            self.probes.push(key);
        }
        self.trim.look(self.now_ns);
        self.announce(session, from, luns, refused);
        self.go_on(key);
    }

    /// A session that came and has no socket here ends.
    fn bury(
        &mut self,
        conn: Conn,
        from: ShardId,
        luns: Vec<LunId>,
        refused: Option<MoveRefusal>,
        why: &Errno,
    ) {
        let session = conn.session.session();
        tracing::error!(session = session.0, %why, "a session that moved found no place; it ends");
        self.travel.sessions.remove(&session);
        self.announce(session, from, luns, refused);
        self.farewell(&conn);
    }

    fn announce(
        &mut self,
        session: SessionId,
        from: ShardId,
        luns: Vec<LunId>,
        refused: Option<MoveRefusal>,
    ) {
        match refused {
            Some(why) => self.refuse_move(session, why),
            None => {
                self.counters.moved_here += 1;
                self.control.send(ToControl::Moved { session, from, to: self.config.shard, luns });
            }
        }
    }

    /// A session that was about to go stays.
    pub(super) fn stay(&mut self, key: Key, why: MoveRefusal) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(moving) = conn.moving.take() else { return };
        let session = conn.session.session();
        self.travel.leaving.retain(|leaving| *leaving != key);
        self.refuse_move(session, why);
        self.go_on(key);
        for message in moving.mail {
            self.controlled(message);
        }
    }

    /// A session that does not move any more goes on: its window opens, and what was kept is taken up.
    fn go_on(&mut self, key: Key) {
        let window = self.config.settings.window;
        let closed = self.windows.contains(&key)
            || self.narrowed.contains(&key)
            || self.plants(Planted::WindowStaysClosed);
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.life != Life::Open {
            return;
        }
        if !closed {
            conn.act(key, &mut self.front, |session, _, sink| session.set_window(window, sink));
        }
        self.tamper(key);
        if self.draining.is_some() {
            self.ask_logout(key);
        }
        let Some(conn) = self.conns.get_mut(key) else { return };
        self.counters.leftover_bytes += conn.receiver.kept_mut().len() as u64;
        let fed = conn.resume(key, &mut self.front);
        self.fed(key, fed);
        self.arm_receive(key);
        self.mark(key);
    }

    /// Sends a message to every other shard.
    pub(super) fn tell_all(&mut self, message: impl Fn() -> Message) {
        for shard in self.mesh.shards() {
            if shard != self.config.shard {
                self.post(shard, message());
            }
        }
    }
}
