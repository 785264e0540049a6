//! The back of a shard: the logical units it owns and the jobs that run on them.
//!
//! ```text
//!  Request ─► Backend::execute ─► Lun: task set ─► Device::start ─┬─ Done ───────────────► Answer
//!                                                                 └─ Media ─► Job: steps ─► Answer
//! ```
//!
//! A job is one command's work on the medium, as a chain of steps ([`job::Step`]); each step either is done at once
//! (an overlay is memory) or waits for transfers. All of a unit's commands run here, on its one owner, so ordering
//! and atomicity need no lock but the unit's own range locks.

mod clone;
mod disk;
mod job;
mod read_plan;
mod step;
mod task_set;
mod travel;

pub(crate) use travel::TravellingLun;

use crate::messages::{GoldenId, LunId, LunReport, ShardId};
use crate::payload::Payload;
use crate::pusher::Pusher;
use crate::request::{Answer, Clearing, Data, Kill, Manager, Outcome, Request};
use crate::setup::{DiskSetup, GoldenSetup};
use crate::stats::Counters;
use crate::token::{Key, Table};
use job::Job;
use stampede_image::overlay::{Overlay, OverlayLimits};
use stampede_image::range_lock::RangeLocks;
use stampede_ring::{Buffer, Event, IoMemory, Pool, Ring};
use stampede_scsi::{Device, DeviceConfig, MediaError, NexusId, Reply, Step as DeviceStep, TransportId, cdb};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use task_set::TaskSet;

/// What a job needs of its shard to make progress.
pub(crate) struct Io<'a, R> {
    /// Where operations go.
    pub(crate) pusher: &'a mut Pusher<R>,
    /// Buffers for transfers.
    pub(crate) memory: &'a IoMemory,
    /// Slots for overlays.
    pub(crate) arena: &'a Arc<Pool>,
    /// A buffer of zeros, shared.
    pub(crate) zeros: &'a Buffer,
    /// The shard's counters.
    pub(crate) counters: &'a mut Counters,
    /// Now, in monotonic nanoseconds.
    pub(crate) now_ns: u64,
}

/// Where a unit's bytes are.
pub(crate) enum Medium {
    /// In a file or block device of its own.
    Disk(disk::Disk),
    /// In an overlay on a golden.
    Clone(clone::CloneMedium),
}

/// One logical unit.
pub(crate) struct Lun {
    device: Device,
    medium: Medium,
    locks: RangeLocks,
    tasks: TaskSet,
    clearings: Vec<Waiting>,
    /// Shards that were told to kill tasks and have not said that they did. What they send until then was sent
    /// before: executing it would spend the unit attention that its initiator is to get on a dead task.
    killing: Vec<(ShardId, NexusId)>,
    /// Another shard owned it before.
    travelled: bool,
    report: LunReport,
}

/// Somebody waits until the jobs that were running when it asked are over.
struct Waiting {
    jobs: Vec<Key>,
    then: Then,
}

/// What follows.
enum Then {
    /// A task-management request is answered.
    Manager(Manager),
    /// A command is answered (PREEMPT AND ABORT).
    Answer(Answer),
}

/// What the back hands to the front, in order.
pub(crate) enum Result {
    /// A command has ended.
    Answer(Answer),
    /// A task set was cleared.
    Cleared(Manager),
    /// All sessions but one shall kill their tasks of a unit that have not come here yet.
    Kill(Kill),
}

/// The logical units of one shard.
pub(crate) struct Backend {
    luns: Table<Lun>,
    /// Where each unit is in that table.
    places: BTreeMap<LunId, Key>,
    /// The place that was looked for last: mostly it is looked for again.
    found: Option<(LunId, Key)>,
    goldens: BTreeMap<GoldenId, GoldenSetup>,
    jobs: Table<Job>,
    /// Jobs that wait for buffers, oldest first.
    starved: VecDeque<Key>,
    /// Jobs that were granted their range.
    ready: VecDeque<Key>,
    /// Commands whose turn in their task set has come.
    startable: VecDeque<Request>,
    /// For the front.
    pub(crate) results: VecDeque<Result>,
    tombstone_runs_max: u32,
    shard: ShardId,
    /// All shards.
    shards: Vec<ShardId>,
}

impl Backend {
    /// Without logical units: the back of `shard`, one of `shards`.
    pub(crate) fn new(tombstone_runs_max: u32, shard: ShardId, shards: Vec<ShardId>) -> Self {
        Self {
            shard,
            shards,
            luns: Table::default(),
            places: BTreeMap::new(),
            found: None,
            goldens: BTreeMap::new(),
            jobs: Table::default(),
            starved: VecDeque::new(),
            ready: VecDeque::new(),
            startable: VecDeque::new(),
            results: VecDeque::new(),
            tombstone_runs_max,
        }
    }

    /// Adds a golden image for clones to come.
    pub(crate) fn add_golden(&mut self, golden: GoldenSetup) {
        self.goldens.insert(golden.golden, golden);
    }

    /// Adds a plain logical unit.
    pub(crate) fn add_disk(&mut self, setup: DiskSetup) {
        let medium = Medium::Disk(disk::Disk { file: setup.file, alignment: setup.alignment });
        self.add(setup.lun, Lun::new(setup.lun, setup.device, medium));
    }

    fn add(&mut self, name: LunId, lun: Lun) {
        // The table has places for 2^24 units; their number is limited far below that.
        if let Ok(place) = self.luns.insert(lun) {
            self.places.insert(name, place);
        }
    }

    fn remove(&mut self, name: LunId) -> Option<Lun> {
        self.found = None;
        self.luns.remove(self.places.remove(&name)?)
    }

    /// Where a unit is.
    fn place(&mut self, name: LunId) -> Option<Key> {
        if let Some((found, place)) = self.found
            && found == name
        {
            return Some(place);
        }
        let place = *self.places.get(&name)?;
        self.found = Some((name, place));
        Some(place)
    }

    fn lun_mut(&mut self, name: LunId) -> Option<&mut Lun> {
        let place = self.place(name)?;
        self.luns.get_mut(place)
    }

    /// Adds a clone with an empty overlay; false when its golden is unknown here.
    pub(crate) fn add_clone(&mut self, lun: LunId, golden: GoldenId, device: DeviceConfig) -> bool {
        let Some(setup) = self.goldens.get(&golden) else { return false };
        let limits = OverlayLimits {
            tombstone_runs_max: self.tombstone_runs_max,
            size_bytes: device.blocks.saturating_mul(u64::from(device.block_size)),
        };
        let medium = Medium::Clone(clone::CloneMedium {
            golden,
            file: setup.file,
            alignment: setup.alignment,
            overlay: Overlay::new(limits),
        });
        self.add(lun, Lun::new(lun, device, medium));
        true
    }

    /// Removes a clone and frees its memory. Jobs still running on it end as aborted. Whether another shard owned it
    /// before this one.
    pub(crate) fn drop_clone(&mut self, lun: LunId) -> bool {
        self.remove(lun).is_some_and(|lun| lun.travelled)
    }

    /// A nexus begins to use a unit.
    pub(crate) fn attach(&mut self, lun: LunId, nexus: NexusId, transport: TransportId) {
        if let Some(lun) = self.lun_mut(lun) {
            lun.device.attach(nexus, transport);
        }
    }

    /// A nexus is over.
    pub(crate) fn detach(&mut self, lun: LunId, nexus: NexusId) {
        if let Some(lun) = self.lun_mut(lun) {
            lun.device.detach(nexus);
        }
    }

    /// A command arrives.
    pub(crate) fn execute<R: Ring>(&mut self, request: Request, io: &mut Io<'_, R>) {
        let place = self.place(request.lun);
        let Some((place, lun)) = place.and_then(|place| Some((place, self.luns.get_mut(place)?))) else {
            let outcome = stampede_scsi::no_such_lun(&request.cdb).into();
            self.results.push_back(Result::Answer(Answer {
                origin: request.origin,
                lun: request.lun,
                outcome,
            }));
            return;
        };
        if lun.is_killed(&request) {
            self.drop_held(vec![request]);
        } else if lun.tasks.enter(&request) {
            self.start(place, request, io);
            self.settle(io);
        } else {
            lun.tasks.hold(request);
        }
    }

    /// Starts what became startable, and goes on with what was granted its range, until nothing is left. A loop,
    /// not a recursion: a long row of ORDERED tasks must not grow the stack.
    fn settle<R: Ring>(&mut self, io: &mut Io<'_, R>) {
        loop {
            if let Some(request) = self.startable.pop_front() {
                if let Some(place) = self.place(request.lun) {
                    self.start(place, request, io);
                }
            } else if let Some(key) = self.ready.pop_front() {
                if let Some(job) = self.jobs.get_mut(key) {
                    job.lock_granted();
                    self.go_on(key, io);
                }
            } else {
                return;
            }
        }
    }

    /// A command's turn in its task set has come.
    fn start<R: Ring>(&mut self, place: Key, request: Request, io: &mut Io<'_, R>) {
        let Some(lun) = self.luns.get_mut(place) else { return };
        let param = if cdb::takes_parameter_list(&request.cdb) { request.data.to_vec() } else { Vec::new() };
        let (origin, name) = (request.origin, request.lun);
        match lun.device.start(request.nexus, &request.cdb, request.expected_out, &param) {
            DeviceStep::Done(reply) => {
                self.finish(place, Answer { origin, lun: name, outcome: reply.into() })
            }
            DeviceStep::Media(media) => {
                let block_size = lun.device.config().block_size;
                if job::data_needed(&media, block_size) > request.data.len() {
                    // Never reached while the front grants what the device server takes; never a short write if it is.
                    let outcome = lun.device.media_failed(&MediaError::Busy, &media).into();
                    self.finish(place, Answer { origin, lun: name, outcome });
                    return;
                }
                match self.jobs.insert(Job::new(request, place, media, block_size)) {
                    Ok(key) => self.go_on(key, io),
                    Err(_) => {
                        let outcome = Reply::status(stampede_scsi::Status::Busy).into();
                        self.finish(place, Answer { origin, lun: name, outcome });
                    }
                }
            }
            DeviceStep::Abort(abort) => {
                let victims = |job: &Job| job.lun() == name && abort.nexuses.contains(&job.nexus());
                let jobs = Self::abort_jobs(&mut self.jobs, victims);
                let held = lun.tasks.abort(|held| abort.nexuses.contains(&held.nexus));
                self.drop_held(held);
                let answer = Answer { origin, lun: name, outcome: abort.reply.into() };
                self.wait_for(name, Waiting { jobs, then: Then::Answer(answer) });
            }
        }
    }

    fn abort_jobs(jobs: &mut Table<Job>, victim: impl Fn(&Job) -> bool) -> Vec<Key> {
        let keys: Vec<Key> = jobs.iter().filter(|(_, job)| victim(job)).map(|(key, _)| key).collect();
        for key in &keys {
            if let Some(job) = jobs.get_mut(*key) {
                job.abort();
            }
        }
        keys
    }

    fn drop_held(&mut self, held: Vec<Request>) {
        for request in held {
            self.results.push_back(Result::Answer(Answer {
                origin: request.origin,
                lun: request.lun,
                outcome: Outcome::Aborted,
            }));
        }
    }

    fn wait_for(&mut self, lun: LunId, waiting: Waiting) {
        if waiting.jobs.is_empty() {
            self.waited(waiting.then);
        } else if let Some(lun) = self.lun_mut(lun) {
            lun.clearings.push(waiting);
        }
    }

    fn waited(&mut self, then: Then) {
        match then {
            Then::Manager(manager) => self.results.push_back(Result::Cleared(manager)),
            Then::Answer(answer) => {
                if let Some(place) = self.place(answer.lun) {
                    self.finish(place, answer);
                } else {
                    self.results.push_back(Result::Answer(answer));
                }
            }
        }
    }

    /// Ends all tasks of a unit without status, and answers the manager when their I/O is over.
    pub(crate) fn clear<R: Ring>(
        &mut self,
        manager: Manager,
        lun: LunId,
        nexus: NexusId,
        clearing: Clearing,
        io: &mut Io<'_, R>,
    ) {
        let jobs = Self::abort_jobs(&mut self.jobs, |job| job.lun() == lun);
        let Some(unit) = self.places.get(&lun).and_then(|place| self.luns.get_mut(*place)) else {
            self.results.push_back(Result::Cleared(manager));
            return;
        };
        let held = unit.tasks.abort(|_| true);
        match clearing {
            Clearing::Reset => unit.device.reset_by(nexus),
            Clearing::ClearTaskSet => {
                let mut victims: Vec<NexusId> = held.iter().map(|request| request.nexus).collect();
                victims.extend(jobs.iter().filter_map(|key| self.jobs.get(*key)).map(Job::nexus));
                victims.sort_unstable();
                victims.dedup();
                unit.device.tasks_cleared_by(nexus, &victims);
            }
        }
        // Sessions mark their tasks killed before they learn that those are over.
        unit.killing.extend(self.shards.iter().map(|shard| (*shard, nexus)));
        self.results.push_back(Result::Kill(Kill { lun, owner: self.shard, nexus, clearing }));
        self.drop_held(held);
        self.wait_for(lun, Waiting { jobs, then: Then::Manager(manager) });
        self.settle(io);
    }

    /// A shard has killed what it was told to.
    pub(crate) fn killed(&mut self, kill: Kill, shard: ShardId, victims: &[NexusId]) {
        let Some(lun) = self.lun_mut(kill.lun) else { return };
        if let Some(at) = lun.killing.iter().position(|entry| *entry == (shard, kill.nexus)) {
            lun.killing.remove(at);
        }
        if kill.clearing == Clearing::ClearTaskSet {
            lun.device.tasks_cleared_by(kill.nexus, victims);
        }
    }

    /// A command has ended: the next of its task set may start.
    fn finish(&mut self, place: Key, answer: Answer) {
        if let Some(lun) = self.luns.get_mut(place) {
            lun.tasks.leave(&mut self.startable);
        }
        self.results.push_back(Result::Answer(answer));
    }

    /// A transfer of a job has completed.
    pub(crate) fn complete<R: Ring>(&mut self, key: Key, part: u16, event: Event, io: &mut Io<'_, R>) {
        let Some(job) = self.jobs.get_mut(key) else {
            debug_assert!(false, "a transfer outlived its job");
            return;
        };
        if job.completed(key, part, event, io) {
            self.go_on(key, io);
            self.settle(io);
        }
    }

    /// Runs a job until it waits for something or ends.
    fn go_on<R: Ring>(&mut self, key: Key, io: &mut Io<'_, R>) {
        let Some(job) = self.jobs.get_mut(key) else { return };
        let Some(lun) = self.luns.get_mut(job.unit()) else {
            // Its clone was dropped under it: sessions end before their clone does, so nobody waits for an answer.
            self.jobs.discard(key);
            return;
        };
        match job.run(key, lun, io) {
            step::Run::Waits => {}
            step::Run::Starved => self.starved.push_back(key),
            step::Run::Ended(outcome) => self.end(key, outcome),
        }
    }

    fn end(&mut self, key: Key, outcome: Outcome) {
        let Some(job) = self.jobs.get(key) else { return };
        let place = job.unit();
        let Some(lun) = self.luns.get_mut(place) else { return };
        if job.locked() {
            let ready = &mut self.ready;
            lun.locks.release(lock_owner(key), |owner| ready.push_back(lock_key(owner)));
        }
        lun.count(job, &outcome);
        let answer = Answer { origin: job.origin(), lun: job.lun(), outcome };
        self.jobs.discard(key);
        if lun.clearings.is_empty() {
            return self.finish(place, answer);
        }
        let mut over = Vec::new();
        lun.clearings.retain_mut(|waiting| {
            waiting.jobs.retain(|job| *job != key);
            let done = waiting.jobs.is_empty();
            if done {
                over.push(std::mem::replace(&mut waiting.then, Then::Manager(Manager::NOBODY)));
            }
            !done
        });
        self.finish(place, answer);
        for then in over {
            self.waited(then);
        }
    }

    /// Goes on with jobs that waited for buffers, oldest first, until one has to wait again.
    pub(crate) fn retry<R: Ring>(&mut self, io: &mut Io<'_, R>) {
        for _ in 0..self.starved.len() {
            let Some(key) = self.starved.pop_front() else { return };
            let before = self.starved.len();
            self.go_on(key, io);
            self.settle(io);
            if self.starved.len() > before {
                // Still no memory: keep its place at the front.
                if let Some(key) = self.starved.pop_back() {
                    self.starved.push_front(key);
                }
                return;
            }
        }
    }

    /// Whether jobs wait for buffers.
    pub(crate) fn is_starved(&self) -> bool {
        !self.starved.is_empty()
    }

    /// Jobs in progress.
    pub(crate) fn jobs_len(&self) -> usize {
        self.jobs.len()
    }

    /// The files of all plain units, to flush at the end.
    pub(crate) fn files(&self) -> impl Iterator<Item = stampede_ring::FileId> {
        self.luns.iter().filter_map(|(_, lun)| match &lun.medium {
            Medium::Disk(disk) if !lun.device.config().read_only => Some(disk.file),
            _ => None,
        })
    }

    /// What each unit has done.
    pub(crate) fn reports(&self) -> Vec<LunReport> {
        self.places.values().filter_map(|place| self.luns.get(*place)).map(Lun::report).collect()
    }
}

/// Range locks name their owners by 64 bits.
fn lock_owner(key: Key) -> u64 {
    u64::from(key.generation) << 32 | u64::from(key.index)
}

fn lock_key(owner: u64) -> Key {
    Key { index: owner as u32, generation: (owner >> 32) as u32 }
}

impl Lun {
    /// Commands of a unit that may wait for range locks: more than all sessions' windows of a big host together.
    const LOCKS_MAX: usize = 1 << 20;

    fn new(lun: LunId, config: DeviceConfig, medium: Medium) -> Self {
        Self {
            device: Device::new(config),
            medium,
            locks: RangeLocks::new(Self::LOCKS_MAX),
            tasks: TaskSet::default(),
            clearings: Vec::new(),
            killing: Vec::new(),
            travelled: false,
            report: LunReport {
                lun,
                reads: 0,
                writes: 0,
                read_bytes: 0,
                written_bytes: 0,
                overlay_bytes: 0,
                failed: 0,
            },
        }
    }

    /// Whether the command's session was told to kill it, or is about to be.
    fn is_killed(&self, request: &Request) -> bool {
        self.killing.iter().any(|(shard, by)| *shard == request.origin.shard && *by != request.nexus)
    }

    fn count(&mut self, job: &Job, outcome: &Outcome) {
        let Outcome::Ended { status, data, .. } = outcome else { return };
        if *status != stampede_scsi::Status::Good {
            self.report.failed += 1;
        } else if job.media().writes() {
            self.report.writes += 1;
            self.report.written_bytes += job.written_bytes();
        } else if matches!(job.media(), stampede_scsi::Media::Read { .. }) {
            self.report.reads += 1;
            self.report.read_bytes += data.len();
        }
    }

    fn report(&self) -> LunReport {
        let overlay_bytes = match &self.medium {
            Medium::Clone(clone) => clone.overlay.slots_used() as u64 * stampede_image::overlay::SLOT,
            Medium::Disk(_) => 0,
        };
        LunReport { overlay_bytes, ..self.report.clone() }
    }
}

/// Data-in of a finished read.
fn read_outcome(payload: Payload) -> Outcome {
    Outcome::Ended { status: stampede_scsi::Status::Good, sense: None, data: Data::Pieces(payload) }
}
