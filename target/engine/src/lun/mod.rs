//! The back of a shard: the logical units it owns and the jobs that run on them.
//!
//! ```text
//!  Request ─► Backend::execute ─► Lun: task set ─► Device::start ─┬─ Done ─────────────────► Answer
//!                                                                 └─ Media ─┬─► direct ────► Answer
//!                                                                           └─► Job: steps ─► Answer
//! ```
//!
//! A command that ends as it arrives is answered by [`Backend::execute`] itself; what ends later, or behind something
//! else that the front has to hear first, goes through [`Backend::results`].
//!
//! A job is one command's work on the medium, as a chain of steps ([`job::Step`]); each step either is done at once
//! (an overlay is memory) or waits for transfers. All of a unit's commands run here, on its one owner, so ordering
//! and atomicity need no lock but the unit's own range locks.

mod change;
mod clearing;
mod clone;
mod copy;
mod crypt;
mod direct;
mod disk;
mod job;
mod journal;
mod lba_status;
mod read_plan;
mod recorder;
mod retire;
mod sanitize;
mod save;
mod scrub;
mod space;
mod spill;
mod step;
mod task_set;
mod travel;

pub(crate) use spill::{Spiller, kept_free};
pub(crate) use travel::TravellingLun;

use crate::cache::Cache;
use crate::messages::{ChangeRefusal, GoldenId, KeptClone, LunId, LunMap, LunReport, ShardId};
use crate::payload::Payload;
use crate::pusher::Pusher;
use crate::request::{Answer, Data, Kill, Manager, Outcome, Request};
use crate::setup::{DiskSetup, GoldenSetup};
use crate::stats::Counters;
use crate::token::{Key, Table};
use clearing::{Killing, Waiting};
use copy::Copy;
use job::Job;
use journal::Journal;
use recorder::Recorder;
pub(crate) use sanitize::SANITIZE;
use sanitize::{Sanitizers, Sanitizing};
use save::Saving;
use stampede_image::overlay::{Overlay, OverlayLimits};
use stampede_image::range_lock::RangeLocks;
use stampede_ring::{Buffer, Event, IoMemory, Pool, Ring};
use stampede_scsi::copy::TokenKey;
use stampede_scsi::{
    AccessState, Device, DeviceConfig, MediaError, NexusId, Reply, Step as DeviceStep, TransportId, cdb,
};
use stampede_session::{ManagementResponse, TaskAttribute};
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
    /// A slot of the arena for rewriting what is in a kept overlay when no other is free; see [`clone::Slots`].
    pub(crate) spare: &'a mut Option<Buffer>,
    /// A buffer of zeros, shared.
    pub(crate) zeros: &'a Buffer,
    /// The golden cache, if there is one.
    pub(crate) cache: Option<&'a mut Cache>,
    /// Slots that are missing may be there soon: overlays are being spilled.
    pub(crate) spills: bool,
    /// The shard's counters.
    pub(crate) counters: &'a mut Counters,
    /// Now, in monotonic nanoseconds.
    pub(crate) now_ns: u64,
    /// The shard.
    pub(crate) shard: ShardId,
}

impl<R> Io<'_, R> {
    /// Where writes to clones get slots.
    #[inline]
    fn slots(&mut self) -> clone::Slots<'_> {
        clone::Slots { arena: self.arena, spare: self.spare }
    }
}

/// Where a unit's bytes are.
#[expect(
    clippy::large_enum_variant,
    reason = "clones are the many, and a box would be one more wait for memory"
)]
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
    /// Kills that shards have not answered.
    killing: Vec<Killing>,
    /// The command whose change of state is on its way to the store, and those that wait for it.
    saving: Option<Saving>,
    behind_save: VecDeque<Request>,
    /// Its sanitize operation.
    sanitizing: Option<Box<Sanitizing>>,
    /// What each nexus sees of the target: where its copies may go.
    seen: BTreeMap<NexusId, Arc<LunMap>>,
    /// Another shard owned it before.
    travelled: bool,
    report: LunReport,
}

/// What the back hands to the front, in order.
pub(crate) enum Result {
    /// A command has ended.
    Answer(Answer),
    /// A task set was cleared, and what is to be said of it.
    Cleared(Manager, ManagementResponse),
    /// All sessions but one shall kill their tasks of a unit that have not come here yet.
    Kill(Kill),
    /// Other shards are to spill too.
    Spill,
    /// A command of a copy, for the shard that owns its unit.
    CopyCommand(ShardId, Request),
    /// A unit's lasting state is to be made durable; [`Backend::saved`] follows.
    Save {
        /// Whose.
        lun: LunId,
        /// Comes back with the answer.
        number: u64,
        /// What the store is to keep.
        state: Vec<u8>,
    },
    /// The key of a unit is to be destroyed and another one made; [`Backend::rekeyed`] follows.
    Rekey(LunId),
    /// What came of the operator's change of a unit.
    Changed {
        /// Comes back from the request.
        request: u64,
        /// Which unit.
        lun: LunId,
        /// Whether it is done.
        result: std::result::Result<(), ChangeRefusal>,
    },
    /// A unit that was taken away is gone.
    Closed(LunId),
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
    /// Units that were taken away, whose last commands run.
    retiring: Vec<(LunId, Key)>,
    /// Jobs that wait for buffers: the most urgent first, and of those the oldest.
    starved: VecDeque<Key>,
    /// Jobs that have had their share of a turn: the oldest first.
    resting: VecDeque<Key>,
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
    next_kill: u32,
    next_save: u64,
    /// Third-party copies in progress.
    copies: Table<Copy>,
    /// Those of them that can go on, oldest first.
    due_copies: VecDeque<Key>,
    /// What tokens are made from.
    token_key: TokenKey,
    sanitizers: Sanitizers,
    spiller: Option<Box<Spiller>>,
    /// Clones here that are recorded.
    recorded: Vec<LunId>,
}

impl Backend {
    /// Without logical units: the back of `shard`, one of `shards`.
    pub(crate) fn new(
        tombstone_runs_max: u32,
        shard: ShardId,
        shards: Vec<ShardId>,
        token_key: TokenKey,
    ) -> Self {
        Self {
            copies: Table::default(),
            due_copies: VecDeque::new(),
            token_key,
            sanitizers: Sanitizers::default(),
            spiller: None,
            recorded: Vec::new(),
            shard,
            shards,
            next_kill: 0,
            next_save: 0,
            luns: Table::default(),
            places: BTreeMap::new(),
            found: None,
            retiring: Vec::new(),
            goldens: BTreeMap::new(),
            jobs: Table::default(),
            starved: VecDeque::new(),
            resting: VecDeque::new(),
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
        let medium = Medium::Disk(disk::Disk {
            file: setup.file,
            alignment: setup.alignment,
            // What is encrypted takes a job.
            in_memory: setup.in_memory && setup.cipher.is_none(),
            journal: setup.journal.map(|journal| Box::new(Journal::new(journal))),
            isolates: false,
            broken: false,
            cipher: setup.cipher,
        });
        let device = Device::restored(setup.device, setup.saved);
        self.add(setup.lun, Lun::new(setup.lun, device, medium));
        if let Some(place) = self.place(setup.lun) {
            self.resume_sanitize(place);
        }
    }

    fn add(&mut self, name: LunId, lun: Lun) {
        if matches!(&lun.medium, Medium::Clone(clone) if clone.recorder.is_some()) {
            self.recorded.push(name);
        }
        // The table has places for 2^24 units; their number is limited far below that.
        if let Ok(place) = self.luns.insert(lun) {
            self.places.insert(name, place);
        }
    }

    fn remove(&mut self, name: LunId) -> Option<Lun> {
        self.found = None;
        self.recorded.retain(|recorded| *recorded != name);
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

    /// Adds a clone; false when its golden is unknown here.
    pub(crate) fn add_clone(
        &mut self,
        lun: LunId,
        golden: GoldenId,
        device: DeviceConfig,
        kept: Option<KeptClone>,
    ) -> bool {
        let Some(setup) = self.goldens.get(&golden) else { return false };
        let limits = OverlayLimits {
            tombstone_runs_max: self.tombstone_runs_max,
            size_bytes: device.blocks.saturating_mul(u64::from(device.block_size)),
        };
        let (overlay, base) = match kept {
            Some(kept) => clone::found(limits, kept),
            None => (Overlay::new(limits), clone::Base::Golden),
        };
        let medium = Medium::Clone(clone::CloneMedium {
            golden,
            file: setup.file,
            alignment: setup.alignment,
            in_memory: setup.in_memory,
            base,
            published: setup.published.clone(),
            overlay,
            scratch: self.scratch(),
            unwiped: Vec::new(),
            commands_before: 0,
            idle_passes: 0,
            recorder: None,
        });
        self.add(lun, Lun::new(lun, Device::new(device), medium));
        true
    }

    /// Begins or ends the recording of what a clone uses of its golden.
    pub(crate) fn record(&mut self, name: LunId, on: bool) {
        let Some(Lun { medium: Medium::Clone(clone), .. }) = self.lun_mut(name) else { return };
        let on = on && clone.published.is_some();
        clone.recorder = on.then(Box::default);
        self.recorded.retain(|recorded| *recorded != name);
        if on {
            self.recorded.push(name);
        }
    }

    /// Whether a clone that is recorded has used something since [`Backend::take_recorded`].
    pub(crate) fn has_recorded(&self) -> bool {
        self.recorded.iter().filter_map(|name| self.recorder(*name)).any(Recorder::has_fresh)
    }

    /// What recorded clones have used since the last time: blocks of their goldens, and when.
    pub(crate) fn take_recorded(&mut self) -> Vec<(LunId, Vec<(u32, u64)>)> {
        let uses = self.recorded.iter().filter_map(|name| Some((*name, self.recorder(*name)?.take())));
        uses.filter(|(_, uses)| !uses.is_empty()).collect()
    }

    fn recorder(&self, name: LunId) -> Option<&Recorder> {
        match &self.luns.get(*self.places.get(&name)?)?.medium {
            Medium::Clone(clone) => clone.recorder.as_deref(),
            Medium::Disk(_) => None,
        }
    }

    /// Removes a clone and frees its memory. Jobs still running on it end as aborted. Whether another shard owned it
    /// before this one.
    pub(crate) fn drop_clone(&mut self, lun: LunId) -> bool {
        if let Some(Lun { medium: Medium::Clone(clone), .. }) = self.lun_mut(lun) {
            clone.end();
        }
        self.remove(lun).is_some_and(|lun| lun.travelled)
    }

    /// A nexus begins to use a unit.
    pub(crate) fn attach(&mut self, lun: LunId, nexus: NexusId, transport: TransportId, queries: bool) {
        if let Some(lun) = self.lun_mut(lun) {
            lun.device.attach(nexus, transport);
            if queries {
                lun.device.carry_queries(nexus);
            }
        }
    }

    /// A nexus is over.
    pub(crate) fn detach(&mut self, lun: LunId, nexus: NexusId) {
        if let Some(lun) = self.lun_mut(lun) {
            lun.seen.remove(&nexus);
            lun.device.detach(nexus);
        }
    }

    /// A command arrives. Its answer, if it has ended already and the front has nothing to hear before.
    #[must_use]
    pub(crate) fn execute<R: Ring>(&mut self, mut request: Request, io: &mut Io<'_, R>) -> Option<Answer> {
        let (origin, name) = (request.origin, request.lun);
        let place = self.place(name);
        let Some((place, lun)) = place.and_then(|place| Some((place, self.luns.get_mut(place)?))) else {
            let outcome = stampede_scsi::no_such_lun(&request.cdb).into();
            self.results.push_back(Result::Answer(Answer { origin, lun: name, outcome }));
            return None;
        };
        if lun.is_killed(&request) {
            self.drop_held(vec![request]);
            return None;
        }
        if !lun.tasks.enter(&request) {
            if request.cdb[0] != SANITIZE {
                match request.keep(io.memory, io.counters) {
                    true => lun.tasks.hold(request),
                    false => self.results.push_back(Result::Answer(request.refused())),
                }
                return None;
            }
            // Whatever it says, it is HEAD OF QUEUE (SBC-4 5.30.1).
            request.attribute = TaskAttribute::HeadOfQueue;
            lun.tasks.enter(&request);
        }
        match lun.begin(&mut request, io) {
            Ok(outcome) => {
                lun.tasks.leave(&mut self.startable);
                let answer = Answer { origin, lun: name, outcome };
                if self.results.is_empty() && self.startable.is_empty() {
                    return Some(answer);
                }
                self.results.push_back(Result::Answer(answer));
            }
            Err(step) => self.go(place, request, step, io),
        }
        self.settle(io);
        None
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
    fn start<R: Ring>(&mut self, place: Key, mut request: Request, io: &mut Io<'_, R>) {
        let Some(lun) = self.luns.get_mut(place) else { return };
        match lun.begin(&mut request, io) {
            Ok(outcome) => {
                self.finish(place, Answer { origin: request.origin, lun: request.lun, outcome });
            }
            Err(step) => self.go(place, request, step, io),
        }
    }

    /// A command goes on as its device server says.
    fn go<R: Ring>(&mut self, place: Key, mut request: Request, step: DeviceStep, io: &mut Io<'_, R>) {
        let Some(lun) = self.luns.get_mut(place) else { return };
        if !request.keep(io.memory, io.counters) {
            return self.finish(place, request.refused());
        }
        let (origin, name) = (request.origin, request.lun);
        match step {
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
                let job = Job::new(request, place, media, block_size);
                match self.jobs.insert(job) {
                    Ok(key) => {
                        if let Some(job) = self.jobs.get(key) {
                            lun.device.generation_begins(job.media());
                        }
                        self.go_on(key, io);
                    }
                    Err(_) => {
                        let outcome = Reply::status(stampede_scsi::Status::Busy).into();
                        self.finish(place, Answer { origin, lun: name, outcome });
                    }
                }
            }
            DeviceStep::Copy => self.third_party(place, &request, io.now_ns),
            DeviceStep::Sanitize { immediate } => self.begin_sanitize(place, &request, immediate, false),
            DeviceStep::Save(state) => self.save(request, state),
            DeviceStep::Wait => lun.behind_save.push_back(request),
            DeviceStep::Fence(fence) => self.fence(place, &request, fence),
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

    /// A block that a job waited for can be looked up, or is not to be had.
    pub(crate) fn fetched<R: Ring>(&mut self, key: Key, found: bool, io: &mut Io<'_, R>) {
        let Some(job) = self.jobs.get_mut(key) else {
            debug_assert!(false, "a block outlived the job that wanted it");
            return;
        };
        if job.fetched(found) {
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
            step::Run::Starved => self.starve(key),
            step::Run::Rests => self.resting.push_back(key),
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
        if job.announced.concerns() {
            let ready = &mut self.ready;
            lun.leave_journal(key, job, |owner| ready.push_back(lock_key(owner)));
        }
        lun.count(job, &outcome);
        let good = matches!(outcome, Outcome::Ended { status: stampede_scsi::Status::Good, .. });
        lun.device.generation_ended(job.media(), good);
        let answer = Answer { origin: job.origin(), lun: job.lun(), outcome };
        self.jobs.discard(key);
        if lun.clearings.is_empty() {
            return self.finish(place, answer);
        }
        self.finish(place, answer);
        self.job_over(place, key);
    }

    /// Goes on with jobs that waited for buffers, in their order, until one has to wait again.
    pub(crate) fn retry<R: Ring>(&mut self, io: &mut Io<'_, R>) {
        for _ in 0..self.starved.len() {
            let Some(key) = self.starved.pop_front() else { return };
            self.go_on(key, io);
            self.settle(io);
            if let Some(at) = self.starved.iter().position(|starved| *starved == key) {
                // Still no memory: it keeps its place at the front.
                self.starved.remove(at);
                self.starved.push_front(key);
                return;
            }
        }
    }

    /// A job waits for buffers: behind those that are as urgent, and before those that are less so.
    #[cold]
    fn starve(&mut self, key: Key) {
        let urgency = |key: &Key| self.jobs.get(*key).map_or(0, Job::urgency);
        let place = job::place_by_urgency(self.starved.iter().map(urgency), urgency(&key));
        self.starved.insert(place, key);
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

    fn new(lun: LunId, device: Device, medium: Medium) -> Self {
        Self {
            device,
            medium,
            locks: RangeLocks::new(Self::LOCKS_MAX),
            tasks: TaskSet::default(),
            clearings: Vec::new(),
            killing: Vec::new(),
            saving: None,
            behind_save: VecDeque::new(),
            sanitizing: None,
            seen: BTreeMap::new(),
            travelled: false,
            report: LunReport {
                lun,
                blocks: 0,
                loaded: true,
                access: AccessState::default(),
                reads: 0,
                writes: 0,
                read_bytes: 0,
                written_bytes: 0,
                overlay_bytes: 0,
                spilled_bytes: 0,
                failed: 0,
            },
        }
    }

    /// The journal of atomic writes.
    fn journal(&self) -> Option<&Journal> {
        match &self.medium {
            Medium::Disk(disk) => disk.journal.as_deref(),
            Medium::Clone(_) => None,
        }
    }

    /// Begins a command: how it ended, if it did, or else the device server's step, with data-out as it was.
    #[expect(clippy::result_large_err, reason = "no error: a step that is gone on with at once")]
    fn begin<R: Ring>(
        &mut self,
        request: &mut Request,
        io: &mut Io<'_, R>,
    ) -> std::result::Result<Outcome, DeviceStep> {
        let takes_list = !request.data.0.is_empty() && cdb::takes_parameter_list(&request.cdb);
        let param = match request.cdb[0] {
            cdb::LONG => request.generations.to_be_bytes().to_vec(),
            _ if takes_list => request.data.to_vec(),
            _ => Vec::new(),
        };
        let step = self.device.start(request.nexus, &request.cdb, request.expected_out, &param);
        if let DeviceStep::Media(media) = &step
            && let Some(outcome) = self.direct(media, request, io)
        {
            return Ok(outcome);
        }
        match step {
            DeviceStep::Done(reply) => Ok(reply.into()),
            step => Err(step),
        }
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
        let (used, spilled) = match &self.medium {
            Medium::Clone(clone) => (clone.overlay.slots_used(), clone.overlay.slots_spilled()),
            Medium::Disk(_) => (0, 0),
        };
        LunReport {
            overlay_bytes: used as u64 * stampede_image::overlay::SLOT,
            spilled_bytes: spilled as u64 * stampede_image::overlay::SLOT,
            blocks: self.device.config().blocks,
            loaded: self.device.is_loaded(),
            access: self.device.access_state(),
            ..self.report.clone()
        }
    }
}

/// Data-in of a finished read.
fn read_outcome(payload: Payload) -> Outcome {
    Outcome::Ended { status: stampede_scsi::Status::Good, sense: None, data: Data::Pieces(payload) }
}
