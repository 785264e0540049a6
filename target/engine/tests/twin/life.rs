//! One life of a house from its seed: initiators, faults, task management, kills, power losses, drains, fresh clones,
//! and the model that judges.

use crate::house::{House, cipher};
use crate::variation::{GOLDEN_BYTES, SECTORS, Variation, initial, portal};
use stampede_engine::Planted;
use stampede_engine::messages::{FromControl, ShardId};
use stampede_image::recording::Route;
use stampede_sim::initiator::Initiator;
use stampede_sim::model::ModelDisk;
use stampede_sim::workload::{Workload, WorkloadConfig, WorkloadCounts};
use stampede_sim::{FaultCounts, FaultKind, FaultPlan, Mutant, MutantConfig, SimConfig, SimRing, SimWorld};
use stampede_sim::{SECTOR, Stamp};

/// Longer than any answer takes, in nanoseconds.
const PATIENCE_NS: u64 = 40_000_000_000;

/// Turns and steps that a life may take; a healthy one needs a hundredth.
const STEPS_MAX: u64 = 3_000_000;

/// A bug that a life is to be lived with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The ring breaks a promise of the seam.
    Seam(MutantConfigKey),
    /// A login is admitted before the session that it replaces has ended.
    HastyReinstatement,
    /// Each shard executes the commands of its own sessions, so that a disk has two owners.
    TwoOwners,
    /// A shard moves sessions wrongly.
    Moving(Planted),
}

/// A mutation and how often it strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MutantConfigKey {
    pub(crate) mutation: stampede_sim::Mutation,
    pub(crate) one_in: u32,
}

/// What a life is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LifeConfig {
    pub(crate) seed: u64,
    pub(crate) shards: u16,
    /// Commands to send.
    pub(crate) commands: u64,
    pub(crate) bug: Option<Bug>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) faults: FaultCounts,
    pub(crate) counts: WorkloadCounts,
    pub(crate) events: Events,
    pub(crate) trace: u64,
}

macro_rules! events {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// How often things happened to the house as a whole, or inside of its shards.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) struct Events { $($(#[doc = $doc])* pub(crate) $name: u64,)* }

        impl Events {
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

events! {
    /// kill -9.
    kills,
    /// Power losses.
    crashes,
    /// Orderly stops.
    drains,
    /// Clones replaced by fresh ones.
    fresh_clones,
    /// Sessions ended by the control thread.
    closed_by_control,
    /// Moves that were asked for.
    moves,
    /// Sessions that moved to another shard.
    sessions_moved,
    /// Clones that moved with them.
    clones_moved,
    /// Sessions that were to move and stayed.
    moves_refused,
    /// Bytes that came while a session was on its way, and were taken up at its end.
    leftover_bytes,
    /// Probes answered.
    probes,
    /// Reports received.
    reports,
    /// Commands that went to another shard.
    forwarded,
    /// Connections that had to wait for memory.
    stalls,
    /// Connections dropped for breaking the protocol, which no initiator here does.
    violations,
    /// Task-management functions executed.
    task_management,
    /// Commands ended with CHECK CONDITION.
    check_conditions,
    /// Writes whose data stayed in the receive buffer.
    writes_borrowed,
    /// Of these, those whose data was copied after all.
    writes_kept,
    /// Slots of clones that went to scratch space.
    slots_spilled,
    /// Slots copied there for nothing.
    slots_spilled_in_vain,
    /// Slots read from there.
    slots_read_back,
    /// Writes to it that failed.
    spill_failures,
}

type Sut = House<Mutant<SimRing>>;

/// See the module.
pub(crate) struct Life {
    config: LifeConfig,
    world: SimWorld,
    variation: Variation,
    house: Sut,
    workload: Workload,
    rng: fastrand::Rng,
    events: Events,
    steps: u64,
    /// Steps since anything happened.
    idle: u32,
}

/// Lives a life to its end.
///
/// # Errors
/// What went wrong.
pub(crate) fn live(config: LifeConfig) -> Result<Outcome, String> {
    let mut sim = SimConfig::storm(config.seed);
    // In some worlds more arrives between a cancel and what it cancels.
    if config.seed % 8 > 3 || matches!(config.bug, Some(Bug::Moving(_))) {
        sim.ring.latency = 100..60_000;
    }
    let mut life = Life::new(config, sim);
    if let Err(failure) = life.run() {
        if std::env::var_os("STORM_EXPLAIN").is_some() {
            life.explain(&failure);
        }
        return Err(failure);
    }
    Ok(life.outcome())
}

impl Life {
    pub(crate) fn new(config: LifeConfig, sim: SimConfig) -> Self {
        let world = SimWorld::new(sim);
        let mut rng = world.fork_rng(1);
        let mut variation = Variation::draw(&world, config.shards, &mut rng);
        if config.bug == Some(Bug::HastyReinstatement) {
            // Old writes must be slow and new logins fast, and both meet on few sectors.
            world.set_faults(FaultPlan::none().with(FaultKind::SlowDisk, 300_000));
            variation.workload =
                WorkloadConfig { drops: 60, span: 64, sectors_max: 16, ..variation.workload };
        }
        let initiators = variation
            .initiators
            .iter()
            .map(|initiator| Initiator::new(world.clone(), initiator.clone(), rng.u64(..)))
            .collect();
        let model = ModelDisk::new(SECTORS, initial(variation.plan.clone));
        let workload = Workload::new(world.clone(), variation.workload.clone(), model, initiators);
        let house = build(&world, &variation, config);
        Self { config, world, variation, house, workload, rng, events: Events::default(), steps: 0, idle: 0 }
    }

    /// Prints what the life was made from and where it stands.
    fn explain(&mut self, failure: &str) {
        println!("seed {}: {failure} at {} ns, step {}", self.config.seed, self.world.now(), self.steps);
        println!("{:#?}\n{:#?}", self.variation, self.workload.counts());
        for shard in 0..self.config.shards {
            let wait = self.world.wait_of(shard);
            println!("shard {shard} waits {wait:?}, {} in flight", self.world.in_flight(shard));
        }
        self.ask_reports();
        for _ in 0..10_000 {
            let _ = self.world_turn();
        }
        for (report, memory) in self.house.reports.iter().zip(&self.house.memory) {
            println!("{report:#?}\n{:?} {:?}", memory.buffers, memory.headers);
        }
        println!("{:?} resetting {}", self.house.arena, self.house.is_resetting());
        self.house.explain();
    }

    fn outcome(&mut self) -> Outcome {
        self.note_house();
        Outcome {
            faults: self.world.faults(),
            counts: self.workload.counts(),
            events: self.events,
            trace: self.world.trace().value(),
        }
    }

    /// The whole life.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        while self.workload.counts().sent < self.config.commands {
            let durable = self.workload.counts().durable;
            if self.rng.u8(..4) == 0 {
                self.workload.step(&mut self.rng).map_err(|failure| failure.to_string())?;
            } else {
                self.world_turn()?;
            }
            // A crash right after something was said to be durable is worth the most.
            let durable = self.workload.counts().durable > durable;
            if self.rng.u32(..if durable { 40 } else { 12_000 }) == 0 {
                self.die(durable)?;
            }
            if self.rng.u32(..4_000) == 0 {
                self.operator()?;
            }
            if self.config.shards > 1 && self.rng.u32(..self.variation.move_every) == 0 {
                self.move_session();
            }
            self.check_progress()?;
        }
        self.settle()?;
        self.end()
    }

    /// A shard's turn, the control thread's, or the world's.
    fn world_turn(&mut self) -> Result<(), String> {
        if self.rng.u8(..4) == 0 {
            self.control();
        }
        let ready: Vec<usize> =
            (0..self.house.shards.len()).filter(|shard| self.world.is_ready(*shard as u16)).collect();
        match self.rng.choice(ready) {
            Some(shard) if self.rng.u8(..4) != 0 => {
                self.idle = 0;
                self.house.turn(shard);
            }
            _ => self.pass_time(),
        }
        match self.world.misuses().into_iter().next() {
            Some(misuse) => Err(misuse),
            None => Ok(()),
        }
    }

    /// The next thing happens. Where nothing is on its way but a time limit, the initiators get some time first.
    fn pass_time(&mut self) {
        if self.world.next_event().is_some() {
            self.idle = 0;
            self.world.advance();
            return;
        }
        self.idle += 1;
        if self.idle < 100 {
            self.world.advance_by(10_000);
        } else if !self.world.advance() {
            self.world.advance_by(1_000_000);
        }
    }

    /// The control thread's turn; a fresh clone is a fresh start for the model.
    fn control(&mut self) {
        let resets = self.house.resets;
        self.house.control();
        if self.house.resets > resets {
            self.workload.kill();
            self.forget_clone();
        }
    }

    fn forget_clone(&mut self) {
        *self.workload.model_mut() = ModelDisk::new(SECTORS, initial(true));
    }

    /// What an operator or the control thread does now and then.
    fn operator(&mut self) -> Result<(), String> {
        match self.rng.u8(..16) {
            0..4 => {
                if let Some((session, shard)) = self.house.any_session() {
                    self.house.tell(shard, FromControl::CloseSession { session });
                    self.events.closed_by_control += 1;
                }
            }
            4..8 => {
                if let Some((session, shard)) = self.house.any_session() {
                    let deadline_ns = self.world.now() + 5_000_000;
                    self.house.tell(shard, FromControl::Probe { session, deadline_ns });
                }
            }
            8..10 => self.ask_reports(),
            10..14 if self.variation.plan.clone => {
                let owner = ShardId(self.rng.u16(..self.config.shards));
                self.house.reset_clone(owner);
            }
            14 => self.drain()?,
            15 if self.variation.plan.cached => self.read_ahead(),
            _ => {}
        }
        Ok(())
    }

    /// The clone is recorded or not any more, and its golden is read ahead or not any more.
    fn read_ahead(&mut self) {
        let (shard, golden) = (ShardId(self.rng.u16(..self.config.shards)), crate::house::GOLDEN);
        let (lun, owner) = (self.house.luns.0[0].1.lun, self.house.luns.0[0].1.owner);
        match self.rng.u8(..5) {
            0 => self.house.tell(owner, FromControl::Record { lun }),
            1 => self.house.tell(owner, FromControl::StopRecording { lun }),
            2 => self.house.tell(shard, FromControl::StopWarming { golden }),
            _ => {
                let route = Route::whole(self.world.disk_len(self.variation.plan.disk));
                let paced = self.rng.bool();
                self.house.tell(shard, FromControl::Warm { golden, route, paced });
            }
        }
    }

    /// A session drawn at random is to live on another shard.
    fn move_session(&mut self) {
        if let Some((session, shard)) = self.house.any_session() {
            let to = self.house.another_shard(shard);
            self.house.tell(shard, FromControl::Move { session, to });
            self.events.moves += 1;
        }
    }

    fn ask_reports(&self) {
        for shard in 0..self.config.shards {
            self.house.tell(ShardId(shard), FromControl::Report { request: 1 });
        }
    }

    fn check_progress(&mut self) -> Result<(), String> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err("no progress".to_owned());
        }
        match self.workload.stalled(PATIENCE_NS) {
            Some(initiator) => {
                let outstanding = self.workload.initiator(initiator).outstanding();
                let state = self.workload.initiator(initiator).state();
                let what = self.workload.explain(initiator);
                Err(format!("initiator {initiator} waits for ever ({state:?}, {outstanding:?}): {what}"))
            }
            None => Ok(()),
        }
    }

    /// The target is killed, or its host loses power; then it starts again.
    fn die(&mut self, power: bool) -> Result<(), String> {
        if power || self.rng.bool() {
            self.events.crashes += 1;
            self.world.crash();
            self.workload.crash();
        } else {
            self.events.kills += 1;
            self.world.kill();
            self.workload.kill();
        }
        self.restart()
    }

    fn restart(&mut self) -> Result<(), String> {
        self.note_house();
        if self.variation.plan.clone {
            self.forget_clone();
        }
        self.check_disk()?;
        self.house = build(&self.world, &self.variation, self.config);
        Ok(())
    }

    /// An orderly stop: sessions end, files are flushed, and a power loss after it takes nothing.
    fn drain(&mut self) -> Result<(), String> {
        let faults = self.world.set_faults(FaultPlan::none());
        let deadline_ns = self.world.now() + self.rng.u64(0..20_000_000);
        self.drain_until_done(deadline_ns)?;
        self.events.drains += 1;
        self.workload.kill();
        let flush = self.workload.model_mut().begin_flush();
        self.workload.model_mut().finish_flush(flush);
        self.world.crash();
        self.workload.crash();
        self.world.set_faults(faults);
        self.restart()
    }

    fn drain_until_done(&mut self, deadline_ns: u64) -> Result<(), String> {
        let shards = usize::from(self.config.shards);
        for shard in 0..self.config.shards {
            self.house.tell(ShardId(shard), FromControl::Drain { deadline_ns });
        }
        // Commands that wait for memory give up after seconds, one after the other where they are ordered.
        let until = deadline_ns + 60_000_000_000;
        for _ in 0..STEPS_MAX {
            if self.house.drained == shards {
                return Ok(());
            }
            if self.world.now() > until {
                break;
            }
            self.world_turn()?;
            self.workload.poll_all().map_err(|failure| failure.to_string())?;
        }
        Err(format!("{} of {shards} shards drained", self.house.drained))
    }

    fn check_disk(&mut self) -> Result<(), String> {
        let mut bytes = self.world.peek_disk(self.variation.plan.disk, 0, SECTORS as usize * 512);
        if self.variation.plan.clone {
            let same = bytes == *GOLDEN_BYTES;
            return if same { Ok(()) } else { Err("the golden image was changed".to_owned()) };
        }
        if let Some(key) = self.variation.plan.key {
            if bytes.chunks(SECTOR).any(|sector| Stamp::parse(sector).is_some()) {
                return Err("what initiators wrote can be read in the file".to_owned());
            }
            cipher(key).open(0, &mut bytes);
        }
        self.workload.model_mut().check_all(&bytes).map_err(|error| error.to_string())
    }

    /// Lets everything come to its answer, then reads the whole unit, through the target and past it.
    fn settle(&mut self) -> Result<(), String> {
        self.world.set_faults(FaultPlan::none());
        self.world.mend_disk(self.variation.plan.disk);
        if let Some(scratch) = self.variation.plan.scratch {
            self.world.mend_disk(scratch);
        }
        self.house.refusals = 0;
        self.wait_settled()?;
        let sectors = self.variation.workload.sectors_max;
        let span = self.variation.workload.span.min(512);
        for lba in (0..span).step_by(sectors as usize) {
            while !self.workload.read(0, lba, sectors.min(SECTORS - lba)) {
                self.settling_step()?;
            }
        }
        self.wait_settled()?;
        self.check_disk()
    }

    fn wait_settled(&mut self) -> Result<(), String> {
        while !self.workload.is_settled() || self.house.is_resetting() {
            self.settling_step()?;
        }
        Ok(())
    }

    fn settling_step(&mut self) -> Result<(), String> {
        self.check_progress()?;
        self.world_turn()?;
        self.workload.settle().map_err(|failure| failure.to_string())
    }

    /// All initiators leave: the house must be as it was, and drain.
    fn end(&mut self) -> Result<(), String> {
        for index in 0..self.variation.initiators.len() {
            let initiator = self.workload.initiator_mut(index);
            if self.rng.bool() {
                initiator.logout();
            } else {
                initiator.close();
            }
        }
        // Beyond every time limit of a login.
        let until = self.world.now() + 20_000_000_000;
        while self.world.now() < until && self.steps < STEPS_MAX {
            self.steps += 1;
            self.world_turn()?;
            self.workload.poll_all().map_err(|failure| failure.to_string())?;
        }
        self.check_empty()?;
        self.drain_until_done(self.world.now() + 1_000_000_000)
    }

    /// No session, no buffer in use but each shard's zeros, no slot but the overlay's.
    fn check_empty(&mut self) -> Result<(), String> {
        if self.house.sessions_len() > 0 {
            return Err(format!("{} sessions have not ended", self.house.sessions_len()));
        }
        self.note_house();
        self.ask_reports();
        for _ in 0..10_000 {
            if self.house.reports.len() == self.house.shards.len() {
                break;
            }
            self.world_turn()?;
        }
        let reports = std::mem::take(&mut self.house.reports);
        if reports.len() != self.house.shards.len() {
            return Err("a shard does not report".to_owned());
        }
        let (mut overlay_slots, mut spilled) = (0, 0);
        for (report, memory) in reports.iter().zip(&self.house.memory) {
            if let Some(session) = report.sessions.first() {
                return Err(format!("a connection is left: {session:?}"));
            }
            let in_use: u32 = memory.buffers.pools().iter().map(|pool| pool.in_use()).sum();
            if in_use != 1 {
                return Err(format!("{} I/O buffers are left in use", in_use.saturating_sub(1)));
            }
            if memory.headers.in_use() != 0 {
                return Err(format!("{} header buffers are left in use", memory.headers.in_use()));
            }
            overlay_slots += report.luns.iter().map(|lun| lun.overlay_bytes / 4096).sum::<u64>();
            spilled += report.luns.iter().map(|lun| lun.spilled_bytes / 4096).sum::<u64>();
        }
        let in_use = u64::from(self.house.arena.in_use());
        if in_use != overlay_slots {
            return Err(format!("{in_use} slots of the arena are in use, the overlay has {overlay_slots}"));
        }
        let used = self.house.scratch.as_ref().map_or(0, |scratch| u64::from(scratch.used()));
        if used != spilled {
            return Err(format!("{used} blocks of scratch space are in use, the overlay has {spilled}"));
        }
        for shard in &mut self.house.shards {
            let chunks = shard.ring_mut().inner().buffers_in_use();
            if chunks != 0 {
                return Err(format!("{chunks} receive buffers were not given back"));
            }
        }
        Ok(())
    }

    /// Adds what the house counted, before it goes or at the end.
    fn note_house(&mut self) {
        for shard in &self.house.shards {
            let counters = shard.counters();
            self.events.forwarded += counters.forwarded;
            self.events.stalls += counters.stalls;
            self.events.violations += counters.violations;
            self.events.task_management += counters.task_management;
            self.events.check_conditions += counters.check_conditions;
            self.events.slots_spilled += counters.slots_spilled;
            self.events.slots_spilled_in_vain += counters.slots_spilled_in_vain;
            self.events.slots_read_back += counters.slots_read_back;
            self.events.spill_failures += counters.spill_failures;
            self.events.sessions_moved += counters.moved_here;
            self.events.clones_moved += counters.clones_moved;
            self.events.moves_refused += counters.moves_refused;
            self.events.writes_borrowed += counters.writes_borrowed;
            self.events.writes_kept += counters.writes_kept;
            self.events.leftover_bytes += counters.leftover_bytes;
        }
        self.events.fresh_clones += std::mem::take(&mut self.house.resets);
        self.events.probes += std::mem::take(&mut self.house.probed);
        self.events.reports += std::mem::take(&mut self.house.reports).len() as u64;
    }
}

fn build(world: &SimWorld, variation: &Variation, config: LifeConfig) -> Sut {
    let mut plan = variation.plan.clone();
    plan.two_owners = config.bug == Some(Bug::TwoOwners);
    if let Some(Bug::Moving(bug)) = config.bug {
        plan.planted = Some(bug);
    }
    let mutant = match config.bug {
        Some(Bug::Seam(MutantConfigKey { mutation, one_in })) => {
            MutantConfig { mutation: Some(mutation), one_in, seed: config.seed }
        }
        _ => MutantConfig::honest(),
    };
    let mut house = House::build(world, portal(), &plan, &mut |ring| Mutant::new(ring, mutant));
    house.refusals = variation.refusals;
    house.hand_overs = variation.hand_overs;
    house.hasty = config.bug == Some(Bug::HastyReinstatement);
    house
}
