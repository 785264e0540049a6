//! Sessions on their way from one shard to another: logins that are handed over before they are admitted, live
//! sessions that the operator moves, and rebalancing.
//!
//! ```text
//!   login:   placed elsewhere ──Move──► shard ──Moved──► admitted there
//!                                             └─MoveFailed─► admitted where it is: its commands are forwarded
//!   session: asked for ──Move──► shard ──Moved / MoveFailed──► outcome, for whoever asked
//! ```
//!
//! A session that ends on its way is forgotten with its [`ToControl::SessionEnded`].
//!
//! [`ToControl::SessionEnded`]: stampede_engine::messages::ToControl::SessionEnded

use super::placement::Loads;
use super::{Notice, Outbox, Registrar, SessionEntry};
use stampede_engine::messages::{FromControl, LunId, MoveRefusal, ShardId};
use stampede_session::SessionId;
use std::collections::{BTreeMap, VecDeque};

/// Sessions that rebalancing moves at once: the others go on undisturbed meanwhile.
pub const REBALANCE_AT_ONCE: usize = 8;

/// How often sessions changed their shard, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MoveCounts {
    /// Logins handed to another shard than the one that accepted them.
    pub handed_over: u64,
    /// Logins that should have been, and were admitted where they were or ended on the way.
    pub hand_overs_failed: u64,
    /// Live sessions moved.
    pub moved: u64,
    /// Live sessions that should have been, and stayed where they were or ended on the way.
    pub moves_failed: u64,
}

/// What came of moving a live session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveOutcome {
    /// Which session.
    pub session: SessionId,
    /// Where it was.
    pub from: ShardId,
    /// Where it was to go.
    pub to: ShardId,
    /// Whether it is there, or why not.
    pub result: Result<(), String>,
}

/// What a request to move a session came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveStart {
    /// It is on its way; a [`MoveOutcome`] follows.
    Begun {
        /// Where it was.
        from: ShardId,
    },
    /// It lives there already.
    There,
}

/// Why a session cannot be moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// Nobody knows it.
    #[error("there is no session {name}: `stampede session list` shows those that live")]
    Unknown {
        /// The number or initiator name asked for.
        name: String,
    },
    /// An initiator with several.
    #[error("{initiator} has {} sessions: name one by its number: {}", .sessions.len(), numbers(.sessions))]
    Ambiguous {
        /// The initiator.
        initiator: String,
        /// Its sessions.
        sessions: Vec<SessionId>,
    },
    /// No such shard.
    #[error("there is no shard {}: this stampede has {shards}, numbered from 0", .shard.0)]
    NoShard {
        /// The one asked for.
        shard: ShardId,
        /// How many there are.
        shards: usize,
    },
    /// It has not been admitted yet.
    #[error("session {0} is still logging in: try again when it has")]
    LoggingIn(SessionId),
    /// It is being closed.
    #[error("session {0} is ending")]
    Ending(SessionId),
    /// It is on its way already.
    #[error("session {session} is on its way to shard {} already", .to.0)]
    Underway {
        /// Which.
        session: SessionId,
        /// Where to.
        to: ShardId,
    },
    /// A rebalance is under way.
    #[error("sessions are being rebalanced already: `stampede status` shows how far it is")]
    Rebalancing,
    /// The target is shutting down.
    #[error("stampede is shutting down")]
    Draining,
}

fn numbers(sessions: &[SessionId]) -> String {
    sessions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What a rebalance is going to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebalance {
    /// What each shard carries now: clones at their owner, and sessions without one.
    pub before: Vec<u32>,
    /// What it carries when every move succeeds.
    pub after: Vec<u32>,
    /// By how much shards may differ.
    pub bound: u32,
    /// The moves, in the order in which they begin: session, from, to.
    pub moves: Vec<(SessionId, ShardId, ShardId)>,
}

/// Why a session moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Login,
    Asked,
    Rebalance,
}

#[derive(Clone, Copy, Debug)]
struct Move {
    from: ShardId,
    to: ShardId,
    reason: Reason,
}

/// All moves.
#[derive(Debug, Default)]
pub(super) struct Moves {
    under_way: BTreeMap<SessionId, Move>,
    /// What a rebalance has yet to begin.
    queued: VecDeque<(SessionId, ShardId)>,
    counts: MoveCounts,
}

impl Moves {
    fn rebalancing(&self) -> usize {
        self.under_way.values().filter(|going| going.reason == Reason::Rebalance).count()
    }

    /// Where a session is on its way to.
    pub(super) fn destination(&self, session: SessionId) -> Option<ShardId> {
        self.under_way.get(&session).map(|going| going.to)
    }
}

impl Registrar {
    /// The live session of this number, or of this initiator when it has one only.
    ///
    /// # Errors
    /// [`MoveError::Unknown`] and [`MoveError::Ambiguous`].
    pub fn find_session(&self, name: &str) -> Result<SessionId, MoveError> {
        if let Ok(number) = name.parse() {
            let session = SessionId(number);
            let known = self.sessions.find(session).map(|_| session);
            return known.ok_or_else(|| MoveError::Unknown { name: name.to_owned() });
        }
        let initiator = name.to_ascii_lowercase();
        let own = self.sessions.iter().filter(|(_, entry)| entry.initiator == initiator && !entry.closing);
        let sessions: Vec<_> = own.map(|(id, _)| id).collect();
        match sessions[..] {
            [] => Err(MoveError::Unknown { name: format!("of the initiator {initiator}") }),
            [session] => Ok(session),
            _ => Err(MoveError::Ambiguous { initiator, sessions }),
        }
    }

    /// Begins to move a live session to another shard. Its [`MoveOutcome`] follows.
    ///
    /// # Errors
    /// See [`MoveError`].
    pub fn move_session(
        &mut self,
        session: SessionId,
        to: ShardId,
        out: &mut Outbox,
    ) -> Result<MoveStart, MoveError> {
        self.begin(session, to, Reason::Asked, out)
    }

    fn begin(
        &mut self,
        session: SessionId,
        to: ShardId,
        reason: Reason,
        out: &mut Outbox,
    ) -> Result<MoveStart, MoveError> {
        if self.draining {
            return Err(MoveError::Draining);
        }
        let shards = self.loads.by_shard().len();
        if usize::from(to.0) >= shards {
            return Err(MoveError::NoShard { shard: to, shards });
        }
        let entry = self.sessions.find(session);
        let entry = entry.ok_or_else(|| MoveError::Unknown { name: session.to_string() })?;
        if let Some(to) = self.moves.destination(session) {
            return Err(MoveError::Underway { session, to });
        }
        if self.held.contains_key(&session) || entry.tsih.is_none() {
            return Err(MoveError::LoggingIn(session));
        }
        if entry.closing {
            return Err(MoveError::Ending(session));
        }
        let from = entry.shard;
        if from == to {
            return Ok(MoveStart::There);
        }
        self.send_off(session, Move { from, to, reason }, out);
        Ok(MoveStart::Begun { from })
    }

    fn send_off(&mut self, session: SessionId, going: Move, out: &mut Outbox) {
        self.moves.under_way.insert(session, going);
        out.messages.push((going.from, FromControl::Move { session, to: going.to }));
    }

    /// Hands a login over to the shard that it belongs to; false when it is there.
    pub(super) fn hand_over(&mut self, session: SessionId, out: &mut Outbox) -> bool {
        let Some(entry) = self.sessions.find(session) else { return false };
        let from = entry.shard;
        let home = entry.clone.and_then(|clone| self.clones.owner(clone)).or(entry.home);
        match home.filter(|home| *home != from) {
            Some(to) => {
                self.send_off(session, Move { from, to, reason: Reason::Login }, out);
                true
            }
            None => false,
        }
    }

    /// A session lives on another shard now, and so do these clones.
    pub(super) fn moved(&mut self, session: SessionId, to: ShardId, luns: &[LunId], out: &mut Outbox) {
        self.clones.set_owner(luns, to, &mut self.loads);
        if let Some(entry) = self.sessions.find_mut(session) {
            entry.shard = to;
            settle(entry, &mut self.loads);
        }
        let Some(going) = self.moves.under_way.remove(&session) else { return };
        if going.reason == Reason::Login {
            self.moves.counts.handed_over += 1;
            self.admit_handed_over(session, out);
        } else {
            self.moves.counts.moved += 1;
            if let Some(entry) = self.sessions.find_mut(session) {
                entry.moves = entry.moves.saturating_add(1);
            }
            let text = format!("from shard {} to shard {}", going.from.0, to.0);
            self.note_move(session, "session moved", text, out);
            out.moves.push(MoveOutcome { session, from: going.from, to: going.to, result: Ok(()) });
        }
        self.begin_queued(out);
    }

    /// A session stays where it is.
    pub(super) fn move_failed(&mut self, session: SessionId, why: MoveRefusal, out: &mut Outbox) {
        self.end_move(session, &why.to_string(), out);
    }

    /// A move is over without success: its session stays where it is, or has ended.
    pub(super) fn end_move(&mut self, session: SessionId, why: &str, out: &mut Outbox) {
        let Some(going) = self.moves.under_way.remove(&session) else { return };
        if let Some(entry) = self.sessions.find_mut(session) {
            settle(entry, &mut self.loads);
        }
        let text = format!("it stays on shard {}, not on shard {}: {why}", going.from.0, going.to.0);
        if going.reason == Reason::Login {
            self.moves.counts.hand_overs_failed += 1;
            self.note_move(session, "login not handed over", text, out);
            self.admit_handed_over(session, out);
        } else {
            self.note_move(session, "session not moved", text, out);
            self.fail_move(session, going.from, going.to, why.to_owned(), out);
        }
        self.begin_queued(out);
    }

    fn fail_move(&mut self, session: SessionId, from: ShardId, to: ShardId, why: String, out: &mut Outbox) {
        self.moves.counts.moves_failed += 1;
        out.moves.push(MoveOutcome { session, from, to, result: Err(why) });
    }

    fn note_move(&self, session: SessionId, event: &'static str, text: String, out: &mut Outbox) {
        let Some(entry) = self.sessions.find(session) else { return };
        out.notices.push(Notice {
            alert: false,
            event,
            target: self.targets[entry.target].iqn.clone(),
            initiator: entry.initiator.clone(),
            peer: Some(entry.peer),
            text,
        });
    }

    /// Moves the fewest live sessions that bring all shards within the bound, a few at a time. Clones that no session
    /// uses cannot be moved, and those that are shared are not.
    ///
    /// # Errors
    /// [`MoveError::Rebalancing`] and [`MoveError::Draining`].
    pub fn rebalance(&mut self, out: &mut Outbox) -> Result<Rebalance, MoveError> {
        if self.draining {
            return Err(MoveError::Draining);
        }
        if self.is_rebalancing() {
            return Err(MoveError::Rebalancing);
        }
        let plan = self.plan_rebalance();
        self.moves.queued.extend(plan.moves.iter().map(|(session, _, to)| (*session, *to)));
        self.begin_queued(out);
        Ok(plan)
    }

    /// Taking from the most and giving to the least loaded shard, one at a time, lowers the highest and raises the
    /// lowest load as far as that number of moves can, so it reaches the bound with the fewest.
    fn plan_rebalance(&self) -> Rebalance {
        let mut loads = self.loads.clone();
        let bound = loads.bound();
        let mut movable: BTreeMap<ShardId, Vec<SessionId>> = BTreeMap::new();
        for (session, entry) in self.sessions.iter().filter(|(id, entry)| self.is_movable(*id, entry)) {
            movable.entry(entry.shard).or_default().push(session);
        }
        let mut moves = Vec::new();
        while loads.spread() > bound {
            let to = loads.least();
            let next = loads.ahead_of(to).into_iter().find_map(|from| {
                // The youngest: it has had the least time to find its caches.
                let session = movable.get_mut(&from)?.pop()?;
                Some((session, from))
            });
            let Some((session, from)) = next else { break };
            loads.remove(from);
            loads.add(to);
            moves.push((session, from, to));
        }
        Rebalance { before: self.loads.by_shard().to_vec(), after: loads.by_shard().to_vec(), bound, moves }
    }

    /// Whether moving this session takes load from its shard.
    fn is_movable(&self, session: SessionId, entry: &SessionEntry) -> bool {
        let ready = entry.tsih.is_some() && !entry.closing && !self.held.contains_key(&session);
        let carries = match entry.clone {
            Some(clone) => {
                self.clones.is_alone_on(clone, session) && self.clones.owner(clone) == Some(entry.shard)
            }
            None => entry.home == Some(entry.shard),
        };
        ready && carries && self.moves.destination(session).is_none()
    }

    fn begin_queued(&mut self, out: &mut Outbox) {
        while self.moves.rebalancing() < REBALANCE_AT_ONCE {
            let Some((session, to)) = self.moves.queued.pop_front() else { return };
            let from = self.sessions.find(session).map_or(to, |entry| entry.shard);
            if let Err(error) = self.begin(session, to, Reason::Rebalance, out) {
                self.fail_move(session, from, to, error.to_string(), out);
            }
        }
    }

    /// Whether a rebalance is under way.
    #[must_use]
    pub fn is_rebalancing(&self) -> bool {
        !self.moves.queued.is_empty() || self.moves.rebalancing() > 0
    }

    /// Moves and hand-overs since start.
    #[must_use]
    pub fn move_counts(&self) -> MoveCounts {
        self.moves.counts
    }

    /// Sessions on their way or waiting for a rebalance to begin with them.
    #[must_use]
    pub fn moves_pending(&self) -> usize {
        self.moves.under_way.len() + self.moves.queued.len()
    }

    /// Where a session is on its way to.
    #[must_use]
    pub fn destination(&self, session: SessionId) -> Option<ShardId> {
        self.moves.destination(session)
    }

    /// What each shard carries, and by how much they may differ.
    #[must_use]
    pub fn loads(&self) -> (&[u32], u32) {
        (self.loads.by_shard(), self.loads.bound())
    }
}

/// A session without a clone counts where it lives.
fn settle(entry: &mut SessionEntry, loads: &mut Loads) {
    if let Some(home) = &mut entry.home {
        loads.remove(*home);
        *home = entry.shard;
        loads.add(*home);
    }
}
