//! Who may log in, and which clone a login gets.
//!
//! ```text
//!   ToControl, time, requests ──► Registrar ──► Outbox: changes to make durable, then messages to send,
//!                                                       notices to log
//! ```
//!
//! The [`Registrar`] owns the table of all sessions and the epochs of all ephemeral targets. It reads no clock and
//! sends nothing: its caller makes [`Outbox::changes`] durable *before* it sends [`Outbox::messages`], for an
//! admission without its epoch's record could give a running system a blank disk after a restart.
//!
//! A login that is held is *probing* (its rival on the clone is being asked for a sign of life) or *waiting* (for
//! sessions that it replaces to end, all their I/O included, and then perhaps for its hand-over to the shard that has
//! its clone or the least to do); under overload it is *queued* before that, or waits for room for its clone. It is held
//! for [`HOLD_NS`] at most, then answered 0301, or 0302 when there is no room.

mod admission;
mod announce;
mod clones;
mod kept;
mod login;
mod moves;
mod placement;
mod queue;
mod sessions;
#[cfg(test)]
mod tests;
mod units;
mod view;

pub use admission::{AdmissionCounts, AdmissionLimits};
pub use kept::{Keeper, Survivor};
pub use moves::{MoveCounts, MoveError, MoveOutcome, MoveStart, REBALANCE_AT_ONCE, Rebalance};
pub use placement::{SPREAD_MIN, SPREAD_SHARE, spread_bound};
pub use sessions::SessionEntry;
pub use view::CloneView;

use crate::identity::LunIdentity;
use crate::store::Change;
use admission::Admissions;
use clones::Clones;
use login::Held;
use moves::Moves;
use placement::Loads;
use sessions::Sessions;
use stampede_engine::messages::{FromControl, GoldenId, LunAddress, LunId, SessionEnd, ShardId, ToControl};
use stampede_image::epoch::{
    CloneId, Effect, End, EpochRecord, LoginStage as EpochStage, Registry, ResetOutcome,
    SessionId as EpochSession, TargetId, TargetPolicy,
};
use stampede_scsi::DeviceConfig;
use stampede_session::{LoginStage, SessionId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// How long a login response is held at most, in nanoseconds: ESXi gives up after 5 s of silence.
pub const HOLD_NS: u64 = 4_000_000_000;
/// How long after a probe's deadline its answer may still arrive, in nanoseconds.
const PROBE_SLACK_NS: u64 = 300_000_000;

/// An iSCSI target of this run.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name on the wire.
    pub iqn: String,
    /// Its logical units, ascending by number.
    pub luns: Vec<TargetLun>,
    /// How its ephemeral clones are treated.
    pub policy: TargetPolicy,
}

/// A logical unit of a target.
#[derive(Clone, Debug)]
pub struct TargetLun {
    /// The LUN number.
    pub number: u16,
    /// What the operator calls it.
    pub name: String,
    /// What is behind it.
    pub backing: Backing,
}

/// What is behind a logical unit.
#[derive(Clone, Debug)]
pub enum Backing {
    /// One image, the same for everybody.
    Plain(LunAddress),
    /// A clone for each initiator.
    Clone {
        /// The image beneath.
        golden: GoldenId,
        /// Geometry; the identity is filled in per initiator.
        device: Box<DeviceConfig>,
        /// What the clones' identities are derived from.
        identity: LunIdentity,
    },
}

impl Target {
    /// Whether initiators get clones.
    #[must_use]
    pub fn is_ephemeral(&self) -> bool {
        self.luns.iter().any(|lun| matches!(lun.backing, Backing::Clone { .. }))
    }
}

/// What the caller has to do, in this order.
#[derive(Debug, Default)]
pub struct Outbox {
    /// To make durable first, all together.
    pub changes: Vec<Change>,
    /// To send then.
    pub messages: Vec<(ShardId, FromControl)>,
    /// To log.
    pub notices: Vec<Notice>,
    /// For whoever asked for the moves.
    pub moves: Vec<MoveOutcome>,
}

/// Something that the operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether it is an alert: something to act upon.
    pub alert: bool,
    /// What happened, in a word or two for filters.
    pub event: &'static str,
    /// The target concerned, if any.
    pub target: String,
    /// The initiator concerned, if any.
    pub initiator: String,
    /// The peer that caused it.
    pub peer: Option<SocketAddr>,
    /// The details.
    pub text: String,
}

/// All sessions, all clones and all epochs.
#[derive(Debug)]
pub struct Registrar {
    targets: Vec<Target>,
    by_iqn: BTreeMap<String, usize>,
    sessions: Sessions,
    held: BTreeMap<SessionId, Held>,
    admissions: Admissions,
    clones: Clones,
    registry: Registry,
    loads: Loads,
    moves: Moves,
    /// Goldens that were changed behind our back: no new clones of them.
    changed: BTreeSet<GoldenId>,
    draining: bool,
}

impl Registrar {
    /// A registrar for these targets and so many shards that knows the epochs of earlier runs. `first_lun` is the
    /// first number that no plain logical unit has.
    #[must_use]
    pub fn new(targets: Vec<Target>, records: Vec<EpochRecord>, first_lun: LunId, shards: u16) -> Self {
        let mut registry = Registry::restore(records.into_iter());
        for (index, target) in targets.iter().enumerate().filter(|(_, target)| target.is_ephemeral()) {
            registry.add_target(target_id(index), &target.iqn, target.policy);
        }
        let by_iqn = targets.iter().enumerate().map(|(index, target)| (target.iqn.clone(), index)).collect();
        Self {
            targets,
            by_iqn,
            sessions: Sessions::default(),
            held: BTreeMap::new(),
            admissions: Admissions::default(),
            clones: Clones::new(first_lun),
            registry,
            loads: Loads::new(shards),
            moves: Moves::default(),
            changed: BTreeSet::new(),
            draining: false,
        }
    }

    /// Takes in one message of a shard. Reports and drain answers are not the registrar's, and ignored.
    pub fn receive(&mut self, message: ToControl, now: u64, out: &mut Outbox) {
        match message {
            ToControl::Login { shard, request } => self.login(shard, request, now, out),
            ToControl::SessionEnded { session, end, .. } => self.session_ended(session, end, now, out),
            ToControl::Probed { session, alive, last_heard_ns } => {
                self.probed(session, alive, last_heard_ns, now, out);
            }
            ToControl::CloneDropped { lun } => self.clones.dropped(lun),
            ToControl::TargetReset { session } => self.target_reset(session, out),
            ToControl::Moved { session, to, luns, .. } => self.moved(session, to, &luns, out),
            ToControl::MoveFailed { session, why, .. } => self.move_failed(session, why, out),
            ToControl::Report(_)
            | ToControl::Recorded { .. }
            | ToControl::Drained { .. }
            | ToControl::Save { .. }
            | ToControl::Rekey { .. }
            | ToControl::Changed { .. }
            | ToControl::Closed { .. } => {}
        }
        self.run_queue(now, out);
    }

    /// Does what the time has come for.
    pub fn tick(&mut self, now: u64, out: &mut Outbox) {
        let mut effects = Vec::new();
        self.registry.tick(now, &mut effects);
        self.apply(effects, out);
        self.run_queue(now, out);
        self.tick_held(now, out);
    }

    /// When [`tick`](Self::tick) next has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let held = self.held.values().map(Held::deadline).min();
        [self.registry.next_deadline(), held, self.admissions.deadline()].into_iter().flatten().min()
    }

    /// From now on no end of a session counts as the machine's own Logout: we asked for it.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Says that a golden was changed behind our back. Clones of it that exist live on; new ones are refused.
    pub fn golden_changed(&mut self, golden: GoldenId, what: &str, out: &mut Outbox) {
        if !self.changed.insert(golden) {
            return;
        }
        let luns = self.targets.iter().flat_map(|target| target.luns.iter().map(move |lun| (target, lun)));
        for (target, lun) in luns {
            if !matches!(&lun.backing, Backing::Clone { golden: g, .. } if *g == golden) {
                continue;
            }
            out.notices.push(Notice {
                alert: true,
                event: "golden changed",
                target: target.iqn.clone(),
                initiator: String::new(),
                peer: None,
                text: format!(
                    "the golden image of `{}` was changed while in use: {what}. New clones are refused, and the data \
                     of existing ones may be damaged. Publish new versions as new files, and restart stampede",
                    lun.name
                ),
            });
        }
    }

    /// Whether a golden was changed behind our back.
    #[must_use]
    pub fn is_changed(&self, golden: GoldenId) -> bool {
        self.changed.contains(&golden)
    }

    /// The goldens beneath a target; empty when it has none or does not exist.
    pub fn goldens_of<'a>(&'a self, iqn: &str) -> impl Iterator<Item = GoldenId> + use<'a> {
        let target = self.by_iqn.get(iqn).and_then(|index| self.targets.get(*index));
        target.into_iter().flat_map(|target| &target.luns).filter_map(|lun| match lun.backing {
            Backing::Clone { golden, .. } => Some(golden),
            Backing::Plain(_) => None,
        })
    }

    /// Drops the held clone that is least likely to be missed, since the arena is nearly full. Does nothing while
    /// an earlier drop is still under way. Returns whether anything was dropped.
    pub fn relieve_arena(&mut self, now: u64, out: &mut Outbox) -> bool {
        if self.clones.any_doomed() {
            return false;
        }
        let mut effects = Vec::new();
        let dropped = self.registry.drop_oldest_unclean(now, &mut effects).is_some();
        self.apply(effects, out);
        dropped
    }

    /// Ends an initiator's epochs by hand, on one target (its IQN, or the operator's name for one of its LUNs) or
    /// on all. Returns what came of it for each target that knows the initiator.
    pub fn reset_clone(
        &mut self,
        initiator: &str,
        target: Option<&str>,
        now: u64,
        out: &mut Outbox,
    ) -> Vec<(String, ResetOutcome)> {
        let mut outcomes = Vec::new();
        for index in 0..self.targets.len() {
            let entry = &self.targets[index];
            let named = |name: &str| entry.iqn == name || entry.luns.iter().any(|lun| lun.name == name);
            if !entry.is_ephemeral() || !target.is_none_or(named) {
                continue;
            }
            let iqn = entry.iqn.clone();
            let mut effects = Vec::new();
            let outcome = self.registry.reset(target_id(index), initiator, now, &mut effects);
            self.apply(effects, out);
            if outcome != ResetOutcome::NotFound {
                outcomes.push((iqn, outcome));
            }
        }
        outcomes
    }

    fn session_ended(&mut self, session: SessionId, end: SessionEnd, now: u64, out: &mut Outbox) {
        self.held.remove(&session);
        let Some(entry) = self.sessions.remove(session) else { return };
        self.admissions.forget(session, entry.target);
        entry.home.into_iter().for_each(|shard| self.loads.remove(shard));
        let how = match end {
            SessionEnd::Logout if !self.draining && !entry.closing => End::Logout,
            _ => End::Dropped,
        };
        out.notices.push(Notice {
            alert: false,
            event: "session ended",
            target: self.targets[entry.target].iqn.clone(),
            initiator: entry.initiator.clone(),
            peer: Some(entry.peer),
            text: match end {
                SessionEnd::Logout => "the initiator logged out",
                SessionEnd::Dropped => "the connection is gone",
                SessionEnd::Closed => "the target closed it",
            }
            .to_owned(),
        });
        self.end_in_registry(session, how, now, out);
        if let Some(clone) = entry.clone {
            self.clones.detach(clone, session, &mut self.loads, out);
        }
        self.end_move(session, "the session has ended", out);
        self.wake_held(session, now, out);
    }

    fn end_in_registry(&mut self, session: SessionId, how: End, now: u64, out: &mut Outbox) {
        let mut effects = Vec::new();
        self.registry.session_ended(EpochSession(session.0), how, now, &mut effects);
        self.apply(effects, out);
    }

    /// Ends a session; its [`ToControl::SessionEnded`] follows when its I/O is over.
    fn close(&mut self, session: SessionId, out: &mut Outbox) {
        if let Some(entry) = self.sessions.find_mut(session)
            && !entry.closing
        {
            entry.closing = true;
            out.messages.push((entry.shard, FromControl::CloseSession { session }));
        }
    }

    /// Does what the registry wants. Returns the sessions that were closed.
    fn apply(&mut self, effects: Vec<Effect>, out: &mut Outbox) -> Vec<SessionId> {
        let mut closed = Vec::new();
        let mut begun = None;
        for effect in effects {
            match effect {
                Effect::Persist(record) => {
                    begun = Some(record.clone());
                    out.changes.push(Change::PutEpoch(record));
                }
                Effect::Forget(key) => out.changes.push(Change::DeleteEpoch(key)),
                Effect::CreateClone { clone, target, owner_shard } => {
                    // The record of its epoch comes right before.
                    if let (Some(target), Some(record)) = (self.targets.get(target.0 as usize), &begun) {
                        let owner = ShardId(owner_shard);
                        self.clones.create(clone, target, record, owner, &mut self.loads, out);
                    }
                }
                Effect::DropClone { clone, .. } => self.clones.doom(clone, &mut self.loads, out),
                Effect::CloseSession { session, .. } => {
                    closed.push(SessionId(session.0));
                    self.close(SessionId(session.0), out);
                }
                Effect::Alert { target, initiator, message, .. } => out.notices.push(Notice {
                    alert: true,
                    event: "clone alert",
                    target: self.targets.get(target.0 as usize).map(|t| t.iqn.clone()).unwrap_or_default(),
                    initiator,
                    peer: None,
                    text: message,
                }),
            }
        }
        closed
    }
}

/// How the registry knows a target: by its place. Configurations have far fewer than 2^32.
fn target_id(index: usize) -> TargetId {
    TargetId(u32::try_from(index).unwrap_or(u32::MAX))
}

/// How the registry knows a session: by the same number.
fn epoch_stage(stage: LoginStage) -> EpochStage {
    match stage {
        LoginStage::Firmware => EpochStage::Firmware,
        LoginStage::Os => EpochStage::Os,
    }
}

fn epoch_session(session: SessionId) -> EpochSession {
    EpochSession(session.0)
}

/// What a session is attached to.
type AttachedClone = Option<CloneId>;
