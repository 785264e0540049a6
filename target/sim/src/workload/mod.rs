//! Random lives of several initiators on one LUN, judged by a model.
//!
//! ```text
//!   step(rng) --> one initiator: a command | a poll | a reset, abort, logout, drop | a reconnect
//!                     |                        |
//!                     v                        v reports
//!                 ModelDisk.begin_*        ModelDisk.finish_* / abandon_* / refuse_* --> Failure
//! ```
//!
//! The test owns the target: it gives its shards their turns and advances the world between steps. What became of
//! a lost connection's writes stays open until the same initiator has logged in again: by then none of them may
//! take effect any more.

mod judge;

use crate::initiator::{Command, Initiator, SessionState, Tag, Transfer, Violation, cdb};
use crate::model::{CheckError, FlushId, ModelDisk, ReadId, WriteId};
use crate::stamp::{Stamp, Value};
use crate::world::SimWorld;
use std::collections::{BTreeMap, BTreeSet};

/// How often each thing is done, per thousand steps, and how large.
#[derive(Clone, Debug)]
pub struct WorkloadConfig {
    /// The logical unit.
    pub lun: u16,
    /// 512-byte sectors of one command at most.
    pub sectors_max: u64,
    /// Sectors (from LBA 0) that commands touch: fewer make more collisions.
    pub span: u64,
    /// Steps that send a read.
    pub reads: u32,
    /// Steps that send a write.
    pub writes: u32,
    /// Writes with FUA, of a thousand.
    pub fua: u32,
    /// Sectors of a WRITE ATOMIC at most: every other write of whole 4 KiB blocks up to there is one. 0: none.
    pub atomic_max: u64,
    /// Steps that send a SYNCHRONIZE CACHE.
    pub flushes: u32,
    /// Steps that send a WRITE SAME of zeros.
    pub zeroes: u32,
    /// Steps that send an UNMAP.
    pub unmaps: u32,
    /// Steps that send ABORT TASK for some command.
    pub aborts: u32,
    /// Steps that send a LOGICAL UNIT RESET.
    pub resets: u32,
    /// Steps that send ABORT TASK SET, CLEAR TASK SET or TARGET WARM RESET.
    pub task_sets: u32,
    /// Commands that are ORDERED or HEAD OF QUEUE, of a thousand.
    pub ordered: u32,
    /// Steps that lose a connection: by FIN, RST, or silence.
    pub drops: u32,
    /// Steps that log out.
    pub logouts: u32,
    /// Steps that send a NOP-Out.
    pub nops: u32,
}

impl Default for WorkloadConfig {
    fn default() -> Self {
        Self {
            lun: 0,
            sectors_max: 128,
            span: u64::MAX,
            reads: 200,
            writes: 250,
            fua: 100,
            atomic_max: 0,
            flushes: 30,
            zeroes: 20,
            unmaps: 20,
            aborts: 5,
            resets: 3,
            task_sets: 0,
            ordered: 0,
            drops: 4,
            logouts: 2,
            nops: 5,
        }
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A read returned what it must not.
    #[error("initiator {initiator} read {sectors} sectors at {lba}: {error}")]
    Wrong {
        /// Who read.
        initiator: usize,
        /// From which sector.
        lba: u64,
        /// How many.
        sectors: u64,
        /// What is wrong.
        error: CheckError,
    },
    /// The target broke the protocol.
    #[error("initiator {initiator}: {violation}")]
    Protocol {
        /// Who saw it.
        initiator: usize,
        /// What it saw.
        violation: Violation,
    },
    /// A status that nothing explains.
    #[error("initiator {initiator}: status {status:#x}, sense {sense:?} for {what}")]
    Status {
        /// Who got it.
        initiator: usize,
        /// The status.
        status: u8,
        /// Key, code, qualifier.
        sense: Option<(u8, u8, u8)>,
        /// The command.
        what: String,
    },
}

/// Declares the counts once: the struct, their names and their sum come from this list.
macro_rules! counts {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// How often things ended, in which way.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct WorkloadCounts { $($(#[doc = $doc])* pub $name: u64,)* }

        impl WorkloadCounts {
            /// Adds another run's counts.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// Each count's name and value.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counts! {
    /// Commands sent.
    sent,
    /// Of these, reads.
    reads,
    /// Writes, with FUA or not.
    writes,
    /// SYNCHRONIZE CACHEs.
    flushes,
    /// WRITE SAMEs and UNMAPs.
    zeroes,
    /// Commands with status GOOD.
    good,
    /// Of these, flushes and writes with FUA: a crash right after one is worth the most.
    durable,
    /// Commands refused untouched: unit attention, BUSY, TASK SET FULL.
    refused,
    /// Commands that failed otherwise.
    failed,
    /// Commands ended by task management.
    aborted,
    /// Resets and functions over a task set that were sent.
    task_management,
    /// ABORT TASKs sent.
    aborts,
    /// Commands whose connection was lost.
    lost,
    /// Connections dropped by the initiator: by FIN, RST or silence.
    disconnects,
    /// Logouts sent.
    logouts,
    /// Logins that succeeded.
    logins,
    /// Logins that were refused.
    refused_logins,
}

/// What a command was for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Read { read: ReadId, lba: u64, sectors: u64 },
    Write { write: WriteId, fua: bool, zeroes: bool },
    Flush { flush: FlushId },
}

/// One initiator with what it waits for.
struct Actor {
    initiator: Initiator,
    waiting: BTreeMap<Tag, Purpose>,
    /// The order of commands, for what a unit attention says of earlier ones.
    order: Vec<Tag>,
    /// Writes whose connection was lost, until the next login.
    limbo: Vec<WriteId>,
    /// Commands that a unit attention may have dropped: an ABORT TASK will tell.
    suspects: Vec<Tag>,
    /// The same, but not likely: asked after once nothing else comes.
    doubts: Vec<Tag>,
    /// ABORT TASKs under way for suspects: function to command.
    inquiries: BTreeMap<Tag, Tag>,
    /// TEST UNIT READYs that are to fetch a unit attention, and when the last one was sent.
    knocks: BTreeSet<Tag>,
    knocked: u64,
    /// When it last got an answer or had nothing to wait for, in the world's nanoseconds.
    content: u64,
}

/// Several initiators on one LUN.
pub struct Workload {
    world: SimWorld,
    config: WorkloadConfig,
    model: ModelDisk,
    actors: Vec<Actor>,
    generation: u64,
    counts: WorkloadCounts,
}

impl Workload {
    /// Initiators that begin without a connection.
    pub fn new(
        world: SimWorld,
        config: WorkloadConfig,
        model: ModelDisk,
        initiators: Vec<Initiator>,
    ) -> Self {
        let actors = initiators
            .into_iter()
            .map(|initiator| Actor {
                initiator,
                waiting: BTreeMap::new(),
                order: Vec::new(),
                limbo: Vec::new(),
                suspects: Vec::new(),
                doubts: Vec::new(),
                inquiries: BTreeMap::new(),
                knocks: BTreeSet::new(),
                knocked: 0,
                content: world.now(),
            })
            .collect();
        Self { world, config, model, actors, generation: 0, counts: WorkloadCounts::default() }
    }

    /// How things ended so far.
    pub fn counts(&self) -> WorkloadCounts {
        self.counts
    }

    /// The model, to judge what is on a disk directly.
    pub fn model_mut(&mut self) -> &mut ModelDisk {
        &mut self.model
    }

    /// An initiator, for what steps do not do.
    pub fn initiator_mut(&mut self, index: usize) -> &mut Initiator {
        &mut self.actors[index].initiator
    }

    /// An initiator.
    pub fn initiator(&self, index: usize) -> &Initiator {
        &self.actors[index].initiator
    }

    /// Commands that have no answer yet.
    pub fn outstanding(&self) -> usize {
        self.actors.iter().map(|actor| actor.waiting.len()).sum()
    }

    /// What an initiator waits for, in words.
    pub fn explain(&self, index: usize) -> String {
        let Actor { waiting, suspects, inquiries, knocks, content, .. } = &self.actors[index];
        format!(
            "waits for {waiting:?}, suspects {suspects:?}, asks {inquiries:?}, knocks {knocks:?}, \
             content at {content} ns"
        )
    }

    /// The initiator that has waited longer than `limit_ns` for any answer, if one has: the target hangs.
    pub fn stalled(&self, limit_ns: u64) -> Option<usize> {
        let now = self.world.now();
        self.actors
            .iter()
            .position(|actor| actor.is_waiting() && now.saturating_sub(actor.content) > limit_ns)
    }

    /// Lets one initiator, drawn at random, do something.
    ///
    /// # Errors
    /// What it saw is wrong.
    pub fn step(&mut self, rng: &mut fastrand::Rng) -> Result<(), Failure> {
        let index = rng.usize(..self.actors.len());
        self.poll(index)?;
        match self.actors[index].initiator.state() {
            SessionState::Idle => {
                // A lost connection is not always noticed and mended at once.
                if rng.u8(..4) == 0 {
                    self.connect(index);
                }
            }
            SessionState::FullFeature => self.act(index, rng),
            SessionState::Login | SessionState::LoggingOut => {
                if rng.u32(..32_000) < self.config.drops {
                    self.drop_connection(index, rng);
                }
            }
        }
        self.poll(index)
    }

    /// Lets every initiator send and receive, and reconnect, but begin nothing new.
    ///
    /// # Errors
    /// What one saw is wrong.
    pub fn settle(&mut self) -> Result<(), Failure> {
        for index in 0..self.actors.len() {
            if self.actors[index].initiator.state() == SessionState::Idle {
                self.connect(index);
            }
            self.poll(index)?;
        }
        Ok(())
    }

    /// Lets every initiator send and receive, but begin nothing new, not even a connection.
    ///
    /// # Errors
    /// What one saw is wrong.
    pub fn poll_all(&mut self) -> Result<(), Failure> {
        (0..self.actors.len()).try_for_each(|index| self.poll(index))
    }

    /// Whether every initiator is logged in and waits for nothing.
    pub fn is_settled(&self) -> bool {
        self.actors.iter().all(|actor| {
            actor.initiator.state() == SessionState::FullFeature && actor.initiator.outstanding().is_empty()
        })
    }

    /// The initiator reads `sectors` sectors at `lba`; `false` when it has no room for a command now.
    pub fn read(&mut self, index: usize, lba: u64, sectors: u64) -> bool {
        let read = self.model.begin_read(lba, sectors);
        let transfer = Transfer::In((sectors * 512) as u32);
        let command = Command::new(self.config.lun, cdb::read_16(lba, sectors as u32), transfer);
        let sent = self.send(index, command, Purpose::Read { read, lba, sectors });
        if !sent {
            self.model.abandon_read(read);
        }
        sent
    }

    /// The initiator sends SYNCHRONIZE CACHE; `false` when it has no room for a command now.
    pub fn flush(&mut self, index: usize) -> bool {
        let flush = self.model.begin_flush();
        let command = Command::new(self.config.lun, cdb::synchronize_cache_16(0, 0), Transfer::None);
        let sent = self.send(index, command, Purpose::Flush { flush });
        if !sent {
            self.model.abandon_flush(flush);
        }
        sent
    }

    /// The test killed the target: what was in flight is over, nothing that was answered may be lost.
    pub fn kill(&mut self) {
        self.model.kill();
        self.forget();
    }

    /// The test let the target's host lose its power.
    pub fn crash(&mut self) {
        self.model.crash();
        self.forget();
    }

    fn forget(&mut self) {
        for actor in &mut self.actors {
            self.counts.lost += actor.waiting.len() as u64;
            actor.waiting.clear();
            actor.order.clear();
            actor.limbo.clear();
            actor.suspects.clear();
            actor.doubts.clear();
            actor.inquiries.clear();
            actor.knocks.clear();
            actor.initiator.reset();
            actor.content = self.world.now();
        }
    }

    fn connect(&mut self, index: usize) {
        let actor = &mut self.actors[index];
        actor.content = self.world.now();
        actor.initiator.connect();
    }

    fn act(&mut self, index: usize, rng: &mut fastrand::Rng) {
        // With a full queue most steps only wait, or there would be more drops than commands.
        if !self.actors[index].initiator.has_room() && rng.u8(..32) != 0 {
            return;
        }
        let config = &self.config;
        let weights = [
            config.reads,
            config.writes,
            config.flushes,
            config.zeroes,
            config.unmaps,
            config.aborts,
            config.resets,
            config.drops,
            config.logouts,
            config.nops,
            config.task_sets,
        ];
        let mut draw = rng.u32(..1000.max(weights.iter().sum()));
        let action = weights.iter().position(|weight| {
            let hit = draw < *weight;
            draw = draw.saturating_sub(*weight);
            hit
        });
        match action {
            Some(0) => {
                let (lba, sectors) = self.draw_range(rng);
                self.read(index, lba, sectors);
            }
            Some(1) => self.write(index, rng),
            Some(2) => {
                self.flush(index);
            }
            Some(3) => self.zero(index, rng, false),
            Some(4) => self.zero(index, rng, true),
            Some(5) => self.abort(index, rng),
            Some(6) => {
                let lun = self.config.lun;
                let sent = self.actors[index].initiator.task_management(5, lun, None);
                self.counts.task_management += u64::from(sent.is_some());
            }
            Some(7) => self.drop_connection(index, rng),
            Some(8) => {
                let sent = self.actors[index].initiator.logout();
                self.counts.logouts += u64::from(sent.is_some());
            }
            Some(9) => {
                self.actors[index].initiator.nop(b"are you there?");
            }
            Some(10) => {
                let function = [2, 4, 6][rng.usize(..3)];
                let lun = self.config.lun;
                let sent = self.actors[index].initiator.task_management(function, lun, None);
                self.counts.task_management += u64::from(sent.is_some());
            }
            _ => {}
        }
    }

    fn draw_range(&self, rng: &mut fastrand::Rng) -> (u64, u64) {
        let span = self.config.span.min(self.model.sectors());
        let most = self.config.sectors_max.min(span);
        // Often whole, aligned 4 KiB blocks; often not.
        if rng.bool() && most >= 8 {
            let sectors = rng.u64(1..=most / 8) * 8;
            let lba = rng.u64(0..=span - sectors) / 8 * 8;
            return (lba, sectors);
        }
        let sectors = if rng.bool() { rng.u64(1..=most.min(16)) } else { rng.u64(1..=most) };
        (rng.u64(0..=span - sectors), sectors)
    }

    fn write(&mut self, index: usize, rng: &mut fastrand::Rng) {
        let (lba, sectors) = self.draw_range(rng);
        let fua = rng.u32(..1000) < self.config.fua;
        self.generation += 1;
        let (writer, generation) = (index as u64 + 1, self.generation);
        let write = self.model.begin_write(lba, sectors, Value::Written { writer, generation });
        let data = Stamp::write(lba, sectors, writer, generation);
        let whole = lba.is_multiple_of(8) && sectors.is_multiple_of(8);
        let cdb = match whole && sectors <= self.config.atomic_max && generation % 2 == 0 {
            true => cdb::write_atomic_16(lba, sectors as u16, fua),
            false => cdb::write_16(lba, sectors as u32, fua),
        };
        let command = Command::new(self.config.lun, cdb, Transfer::Out(data));
        if !self.send(index, command, Purpose::Write { write, fua, zeroes: false }) {
            self.model.refuse_write(write);
        }
    }

    fn zero(&mut self, index: usize, rng: &mut fastrand::Rng, unmap: bool) {
        let (lba, sectors) = self.draw_range(rng);
        let lun = self.config.lun;
        let (write, command) = if unmap {
            (self.model.begin_unmap(lba, sectors), cdb::unmap(lun, lba, sectors as u32))
        } else {
            let same = cdb::write_same_16(lba, sectors as u32, rng.bool());
            let command = Command::new(lun, same, Transfer::Out(vec![0; 512]));
            (self.model.begin_write(lba, sectors, Value::Zero), command)
        };
        if !self.send(index, command, Purpose::Write { write, fua: false, zeroes: true }) {
            self.model.refuse_write(write);
        }
    }

    fn abort(&mut self, index: usize, rng: &mut fastrand::Rng) {
        let lun = self.config.lun;
        let actor = &mut self.actors[index];
        if let Some(tag) = rng.choice(actor.waiting.keys().copied().collect::<Vec<_>>()) {
            let sent = actor.initiator.task_management(1, lun, Some(tag));
            self.counts.aborts += u64::from(sent.is_some());
        }
    }

    fn drop_connection(&mut self, index: usize, rng: &mut fastrand::Rng) {
        self.counts.disconnects += 1;
        let initiator = &mut self.actors[index].initiator;
        match rng.u8(..3) {
            0 => initiator.close(),
            1 => initiator.reset(),
            _ => {
                initiator.vanish();
            }
        }
    }

    fn send(&mut self, index: usize, mut command: Command, purpose: Purpose) -> bool {
        let now = self.world.now();
        let mut draw = fastrand::Rng::with_seed(self.counts.sent);
        if draw.u32(..1000) < self.config.ordered {
            command.attribute = draw.u8(2..4);
        }
        let actor = &mut self.actors[index];
        if !actor.is_waiting() {
            actor.content = now;
        }
        let Some(tag) = actor.initiator.command(command) else { return false };
        actor.waiting.insert(tag, purpose);
        actor.order.push(tag);
        self.counts.sent += 1;
        match purpose {
            Purpose::Read { .. } => self.counts.reads += 1,
            Purpose::Flush { .. } => self.counts.flushes += 1,
            Purpose::Write { zeroes: true, .. } => self.counts.zeroes += 1,
            Purpose::Write { .. } => self.counts.writes += 1,
        }
        true
    }
}

impl Actor {
    fn is_waiting(&self) -> bool {
        match self.initiator.state() {
            SessionState::Idle => false,
            SessionState::Login | SessionState::LoggingOut => true,
            SessionState::FullFeature => !self.initiator.outstanding().is_empty(),
        }
    }
}
