//! The control thread: the [`Registrar`](crate::registrar::Registrar) with queues, a clock and a store around it.
//!
//! ```text
//!   shards ──ToControl──► ┌─ batch ─► registrar ─► Outbox ─► store (one commit) ─► queues ──FromControl──► shards
//!   socket ──Command────► │                                                   └──► log, alerts
//!   time ───────────────► └─ tick
//! ```
//!
//! Whatever arrived meanwhile is handled in one batch and made durable in one commit, so a storm of first boots costs
//! one disk flush for many logins. It sleeps until something arrives or a deadline comes.

mod add;
mod drain;
mod goldens;
mod links;
mod moves;
mod notices;
mod reports;
mod saves;
mod space;
mod units;

pub use links::{ShardLink, Wake};

use crate::config::Config;
use crate::goldens::Caching;
use crate::images::golden_change;
use crate::keys::UnitKey;
use crate::registrar::{Outbox, Registrar};
use crate::socket::{Request, Response};
use crate::status::{Facts, ResetStatus, ToldStatus};
use crate::store::{Change, Store};
use crossbeam::channel::{Receiver, Sender};
use crossbeam::select;
use drain::Drain;
use goldens::Goldens;
use moves::Askers;
use notices::Notices;
use reports::Reports;
use saves::Saves;
use space::Spaces;
use stampede_engine::messages::{FromControl, GoldenId, LunId, LunMap, ShardId, ToControl, UnitChange};
use stampede_image::epoch::{RecordKey, ResetOutcome};
use stampede_image::scratch::Scratch;
use stampede_ring::Pool;
use stampede_ring::file::OpenedFile;
use stampede_session::{Admission, Announcement, LoginStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use units::Units;

/// Messages handled in one batch, and so in one commit.
const BATCH: usize = 256;
/// How often the arena's level is looked at, in nanoseconds, below half and above.
const ARENA_CHECK_NS: (u64, u64) = (2_000_000_000, 100_000_000);
/// How long shards may take to hear of the clones that they own at the start; what is left then follows.
const FIRST_NS: u64 = 10_000_000_000;
/// How long a full queue of a shard is left alone.
const RETRY_NS: u64 = 1_000_000;

/// What other threads ask of the control thread.
#[derive(Debug)]
pub enum Command {
    /// A request of the control socket, and where its answer goes.
    Ask(Request, Sender<Response>),
    /// Stop accepting, end all sessions by this time (monotonic nanoseconds), flush, and end.
    Drain {
        /// When sessions are closed by force.
        deadline_ns: u64,
    },
    /// A shard's thread has ended by itself.
    ShardFailed {
        /// Which.
        shard: ShardId,
        /// Why.
        why: String,
    },
}

/// How the control thread ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything is closed and flushed.
    Drained,
    /// A drain took too long: some sessions or flushes are unfinished.
    DrainTimeout,
    /// Something broke.
    Failed(String),
}

/// What the control thread is made of.
pub struct Setup {
    /// The decisions.
    pub registrar: Registrar,
    /// What shards are to know before anything else: clones that outlived the last process.
    pub first: Vec<(ShardId, FromControl)>,
    /// What outlives the process.
    pub store: Store,
    /// The units whose lasting state is kept: IQN and LUN number.
    pub units: BTreeMap<LunId, (String, u16)>,
    /// From all shards.
    pub from_shards: Receiver<ToControl>,
    /// To each shard, by number.
    pub shards: Vec<ShardLink>,
    /// From the control socket and the signal handler.
    pub commands: Receiver<Command>,
    /// The goldens, to notice changes.
    pub goldens: Vec<(GoldenId, OpenedFile)>,
    /// The golden cache.
    pub caching: Caching,
    /// The images of plain units, to look at their lengths.
    pub files: BTreeMap<LunId, OpenedFile>,
    /// The keys of encrypted units.
    pub keys: BTreeMap<LunId, UnitKey>,
    /// The overlays' memory, to notice that it is nearly full.
    pub arena: Arc<Pool>,
    /// Where they spill to.
    pub scratch: Option<Arc<Scratch>>,
    /// What status shows besides.
    pub facts: Facts,
    /// The effective configuration; it follows what the operator adds and removes.
    pub config: Config,
    /// Monotonic nanoseconds.
    pub clock: fn() -> u64,
}

/// The control thread's state.
pub struct ControlThread {
    setup: Setup,
    /// Changes that are not durable yet, since the store failed; by key, so that they stay few.
    unsaved: BTreeMap<RecordKey, Change>,
    notices: Notices,
    reports: Reports,
    askers: Askers,
    saves: Saves,
    units: Units,
    goldens: Goldens,
    spaces: Spaces,
    drain: Option<Drain>,
    /// Goldens whose path leads to another file now, which was said already.
    replaced: BTreeSet<GoldenId>,
    arena_checked_ns: u64,
    ended: Option<Ended>,
}

impl ControlThread {
    /// A control thread that has done nothing yet.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let mut thread = Self {
            setup,
            unsaved: BTreeMap::new(),
            notices: Notices::default(),
            reports: Reports::default(),
            askers: Askers::default(),
            saves: Saves::default(),
            units: Units::default(),
            goldens: Goldens::default(),
            spaces: Spaces::default(),
            drain: None,
            replaced: BTreeSet::new(),
            arena_checked_ns: 0,
            ended: None,
        };
        thread.find_recordings();
        thread
    }

    /// Runs until drained, or until something broke. Shards have been told to stop then.
    pub fn run(mut self) -> Ended {
        self.send_first();
        self.warm_at_start();
        loop {
            self.batch();
            if let Some(ended) = self.ended.take() {
                for link in &mut self.setup.shards {
                    link.send(FromControl::Stop);
                }
                return ended;
            }
        }
    }

    /// Tells the shards of the clones that they own already. Nothing is decided until all of it is in their queues: a shard
    /// may be sent commands for a clone of another's.
    fn send_first(&mut self) {
        for (shard, message) in std::mem::take(&mut self.setup.first) {
            if let Some(link) = self.setup.shards.get_mut(usize::from(shard.0)) {
                link.send(message);
            }
        }
        let until = (self.setup.clock)().saturating_add(FIRST_NS);
        while self.setup.shards.iter().any(ShardLink::is_full) && (self.setup.clock)() < until {
            std::thread::sleep(Duration::from_nanos(RETRY_NS));
            self.setup.shards.iter_mut().for_each(ShardLink::flush);
        }
    }

    /// Waits for something to do, and does everything there is to do.
    fn batch(&mut self) {
        let mut out = Outbox::default();
        let mut messages = Vec::new();
        let mut commands = Vec::new();
        let wait = Duration::from_nanos(self.next_deadline().saturating_sub((self.setup.clock)()));
        select! {
            recv(self.setup.from_shards) -> message => match message {
                Ok(message) => messages.push(message),
                Err(_) => self.ended = Some(Ended::Failed("all shards have ended".to_owned())),
            },
            recv(self.setup.commands) -> command => commands.extend(command.ok()),
            default(wait) => {}
        }
        messages.extend(self.setup.from_shards.try_iter().take(BATCH));
        commands.extend(self.setup.commands.try_iter().take(BATCH));
        let now = (self.setup.clock)();
        for message in messages {
            self.receive(message, now, &mut out);
        }
        for command in commands {
            self.obey(command, now, &mut out);
        }
        self.setup.registrar.tick(now, &mut out);
        self.check_arena(now, &mut out);
        self.look_at_goldens(now, &mut out);
        self.look_at_space(now);
        self.deliver(out, now);
        self.finish_reports(now);
        self.give_up_moves(now);
        self.check_drain(now);
    }

    fn next_deadline(&self) -> u64 {
        let retry = self.setup.shards.iter().any(ShardLink::is_full);
        let retry = retry.then(|| (self.setup.clock)().saturating_add(RETRY_NS));
        [
            self.setup.registrar.next_deadline(),
            self.reports.deadline(),
            self.askers.deadline(),
            self.drain.as_ref().map(Drain::deadline),
            self.golden_deadline(),
            self.space_deadline(),
            Some(self.arena_checked_ns.saturating_add(self.arena_interval())),
            retry,
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(u64::MAX)
    }

    fn receive(&mut self, message: ToControl, now: u64, out: &mut Outbox) {
        match message {
            ToControl::Report(report) => self.reports.take(*report),
            ToControl::Save { shard, lun, number, state } => self.saves.push(shard, lun, number, state),
            ToControl::Rekey { shard, lun } => self.rekey(shard, lun),
            ToControl::Changed { request, lun, result } => self.unit_changed(request, lun, result, out),
            ToControl::Closed { lun } => self.unit_closed(lun),
            ToControl::Recorded { lun, uses } => self.take_recorded(lun, &uses),
            ToControl::Drained { shard } => {
                if let Some(drain) = &mut self.drain {
                    drain.shard_done(shard);
                }
            }
            message => {
                match &message {
                    ToControl::Login { request, .. } => {
                        let goldens: Vec<_> = self.setup.registrar.goldens_of(&request.target).collect();
                        self.check_goldens(&goldens, out);
                    }
                    ToControl::CloneDropped { lun } => self.recorded_is_gone(*lun),
                    _ => {}
                }
                self.setup.registrar.receive(message, now, out);
            }
        }
    }

    fn obey(&mut self, command: Command, now: u64, out: &mut Outbox) {
        match command {
            Command::Ask(request, answer) => self.ask(request, answer, now, out),
            Command::Drain { deadline_ns } => self.start_drain(deadline_ns),
            Command::ShardFailed { shard, why } => {
                self.ended = Some(Ended::Failed(format!("shard {} ended: {why}", shard.0)));
            }
        }
    }

    fn ask(&mut self, request: Request, answer: Sender<Response>, now: u64, out: &mut Outbox) {
        let response = match request {
            Request::Status
            | Request::CloneList
            | Request::SessionList
            | Request::LunList
            | Request::GoldenList => {
                return self.start_report(request, answer, now);
            }
            Request::SessionMove { session, shard } => {
                return self.move_session(&session, shard, answer, now, out);
            }
            Request::LunResize { target, lun, bytes, force } => {
                return self.resize_unit((&target, lun), bytes, force, answer, now);
            }
            Request::LunEject { target, lun, force } => {
                return self.alter_unit((&target, lun), UnitChange::Eject { force }, answer, now);
            }
            Request::LunAdd { target, lun } => return self.add_unit(&target, &lun, answer, now),
            Request::LunRemove { target, lun, force } => {
                return self.alter_unit((&target, lun), UnitChange::Remove { force }, answer, now);
            }
            Request::LunLoad { target, lun } => {
                return self.alter_unit((&target, lun), UnitChange::Load, answer, now);
            }
            Request::LunAccess { target, lun, state } => {
                return self.alter_unit((&target, lun), UnitChange::Access(state.into()), answer, now);
            }
            Request::SessionLogout { session, seconds } => {
                self.announce(&session, Announcement::Logout { seconds }, out)
            }
            Request::SessionDrop { session } => self.announce(&session, Announcement::DropSession, out),
            Request::SessionRenegotiate { session, seconds } => {
                self.announce(&session, Announcement::Renegotiate { seconds }, out)
            }
            Request::SessionRebalance => self.rebalance(out),
            Request::CloneReset { initiator, target } => {
                self.reset_clone(&initiator.to_ascii_lowercase(), target.as_deref(), now, out)
            }
            Request::GoldenWarm { golden, all } => self.warm_golden(&golden, all),
            Request::GoldenRecord { golden } => self.record_golden(&golden),
            Request::GoldenForget { golden } => self.forget_golden(&golden),
            Request::Config => Response::Config(self.setup.config.to_toml()),
            Request::Ping => {
                Response::Pong { version: self.setup.facts.version.clone(), pid: std::process::id() }
            }
        };
        // Whoever asked may have given up.
        let _ = answer.try_send(response);
    }

    /// Tells the initiator of a session, which a number or an initiator name tells.
    fn announce(&mut self, name: &str, what: Announcement, out: &mut Outbox) -> Response {
        let registrar = &mut self.setup.registrar;
        let told = registrar.find_session(name).and_then(|session| {
            Ok(ToldStatus { session: session.0, initiator: registrar.announce(session, what, out)? })
        });
        told.map_or_else(|error| Response::Error(error.to_string()), Response::Told)
    }

    fn reset_clone(&mut self, initiator: &str, target: Option<&str>, now: u64, out: &mut Outbox) -> Response {
        let outcomes = self.setup.registrar.reset_clone(initiator, target, now, out);
        if outcomes.is_empty() {
            let place = target
                .map_or("no target knows".to_owned(), |target| format!("target {target} does not know"));
            return Response::Error(format!(
                "{place} the initiator {initiator}: `stampede clone list` shows those that are known"
            ));
        }
        let outcomes = outcomes.into_iter().map(|(target, outcome)| ResetStatus {
            target,
            reset: outcome == ResetOutcome::Reset,
            in_use_by: match outcome {
                ResetOutcome::InUse(address) => Some(address),
                ResetOutcome::Reset | ResetOutcome::NotFound => None,
            },
        });
        Response::Reset(outcomes.collect())
    }

    /// Looks whether goldens are still what they were.
    fn check_goldens(&mut self, wanted: &[GoldenId], out: &mut Outbox) {
        let mut changed = Vec::new();
        for (id, golden) in self.setup.goldens.iter().filter(|(id, _)| wanted.contains(id)) {
            if self.setup.registrar.is_changed(*id) {
                continue;
            }
            if let Some(change) = golden_change(golden) {
                self.setup.registrar.golden_changed(*id, &change.to_string(), out);
                changed.push(*id);
            } else if golden.replaced() && self.replaced.insert(*id) {
                tracing::warn!(
                    path = %golden.path().display(),
                    "the golden's path leads to another file now; clones stay on the file that was opened. Restart \
                     stampede to publish the new one"
                );
            }
        }
        for golden in changed {
            self.golden_is_changed(golden);
        }
    }

    fn arena_interval(&self) -> u64 {
        let half_full = self.setup.arena.in_use() > self.setup.arena.slots() / 2;
        if half_full { ARENA_CHECK_NS.1 } else { ARENA_CHECK_NS.0 }
    }

    /// Makes room when less than a sixteenth of the arena is free, and of the scratch space too.
    fn check_arena(&mut self, now: u64, out: &mut Outbox) {
        if now.saturating_sub(self.arena_checked_ns) < self.arena_interval() {
            return;
        }
        self.arena_checked_ns = now;
        let (used, slots) = (self.setup.arena.in_use(), self.setup.arena.slots());
        let short = slots.saturating_sub(used) < slots / 16
            && self.setup.scratch.as_ref().is_none_or(|scratch| {
                let blocks = scratch.blocks();
                blocks.saturating_sub(scratch.used()) < blocks / 16
            });
        if short {
            self.setup.registrar.relieve_arena(now, out);
        }
        self.setup.registrar.set_memory_short(short);
    }

    /// Makes the changes durable, then sends, then logs.
    fn deliver(&mut self, mut out: Outbox, now: u64) {
        self.meet_clones(&mut out, now);
        let durable = self.save(out.changes);
        self.save_units();
        for (shard, mut message) in out.messages {
            if !durable {
                hold_back(&mut message);
            }
            if let Some(link) = self.setup.shards.get_mut(usize::from(shard.0)) {
                link.send(message);
            }
        }
        for link in &mut self.setup.shards {
            link.flush();
        }
        for notice in out.notices {
            self.notices.log(notice, now);
        }
        self.answer_moves(out.moves, now);
    }

    fn save(&mut self, changes: Vec<Change>) -> bool {
        for change in changes {
            let key = match &change {
                Change::PutEpoch(record) => record.key(),
                Change::DeleteEpoch(key) => key.clone(),
            };
            self.unsaved.insert(key, change);
        }
        if self.unsaved.is_empty() {
            return true;
        }
        let changes: Vec<_> = self.unsaved.values().cloned().collect();
        match self.setup.store.apply(&changes) {
            Ok(()) => {
                self.unsaved.clear();
                true
            }
            Err(error) => {
                tracing::error!(%error, unsaved = self.unsaved.len(), "boot epochs cannot be kept; logins are refused");
                false
            }
        }
    }
}

/// Without its record no epoch may begin: an admission becomes "try again".
fn hold_back(message: &mut FromControl) {
    if let FromControl::Admit { admission: admission @ Admission::Allow { .. }, luns, .. } = message {
        *admission = Admission::Refuse { status: LoginStatus::ServiceUnavailable };
        *luns = Arc::new(LunMap::default());
    }
}
