//! Everything at once: initiators, a little target on the twin, faults, crashes, and the model that judges.

mod target;

use stampede_sim::initiator::{Initiator, InitiatorConfig};
use stampede_sim::model::ModelDisk;
use stampede_sim::workload::{Workload, WorkloadConfig, WorkloadCounts};
use stampede_sim::{
    DiskConfig, DiskId, FaultCounts, FaultKind, FaultPlan, Mutant, MutantConfig, Mutation, SimConfig,
    SimRing, SimWorld, Value,
};
use std::net::SocketAddr;
use target::Target;

const SECTORS: u64 = 2048;
/// Longer than any answer takes, in nanoseconds.
const PATIENCE: u64 = 20_000_000_000;

type Sut = Target<Mutant<SimRing>>;

struct Run {
    world: SimWorld,
    disk: DiskId,
    target: Option<Sut>,
    workload: Workload,
    rng: fastrand::Rng,
    mutation: MutantConfig,
}

impl Run {
    fn new(config: SimConfig, mutation: MutantConfig) -> Self {
        let world = SimWorld::new(config);
        let mut rng = world.fork_rng(1);
        let atom = if rng.bool() { 512 } else { 4096 };
        let disk =
            world.disk("lun", SECTORS * 512, DiskConfig { atom: 512.max(atom), ..DiskConfig::default() });
        let initiators = (0..2)
            .map(|index| {
                let address = SocketAddr::from(([10, 0, 0, 10 + index], 1000));
                let name = format!("iqn.2026-11.io.stampede:client-{index}");
                let mut config =
                    InitiatorConfig::new(&name, "iqn.2026-11.io.stampede:lun", address, portal());
                config.security_stage = rng.bool();
                config.queue_depth = 4;
                Initiator::new(world.clone(), config, rng.u64(..))
            })
            .collect();
        let shape =
            WorkloadConfig { sectors_max: 24, span: 256, unmaps: 0, zeroes: 10, ..WorkloadConfig::default() };
        let workload = Workload::new(world.clone(), shape, ModelDisk::new(SECTORS, Value::Zero), initiators);
        let mut run = Self { world, disk, target: None, workload, rng, mutation };
        run.start();
        run
    }

    fn start(&mut self) {
        let mut ring = self.world.ring(0);
        let file = ring.open(self.disk);
        let listener = ring.listen(portal());
        self.target = Some(Target::new(Mutant::new(ring, self.mutation), file, listener));
        self.turn();
    }

    fn turn(&mut self) {
        if let Some(target) = &mut self.target {
            target.turn();
        }
    }

    fn world_turn(&mut self) {
        if self.world.is_ready(0) && self.rng.u8(..4) != 0 {
            self.turn();
        } else {
            self.world.advance();
        }
    }

    /// Until this many commands were sent.
    fn commands(&mut self, count: u64, crashes: bool) -> Result<(), String> {
        let goal = self.workload.counts().sent + count;
        for step in 0u64.. {
            if self.workload.counts().sent >= goal {
                break;
            }
            let durable = self.workload.counts().durable;
            if self.rng.u8(..4) == 0 {
                self.workload.step(&mut self.rng).map_err(|failure| failure.to_string())?;
            } else {
                self.world_turn();
            }
            // A crash right after something was said to be durable is worth the most.
            let durable = self.workload.counts().durable > durable;
            if crashes && self.rng.u32(..if durable { 12 } else { 4000 }) == 0 {
                self.die(durable)?;
            }
            self.check_progress(step)?;
        }
        self.settle()
    }

    fn check_progress(&self, step: u64) -> Result<(), String> {
        if step > 2_000_000 {
            return Err("no progress".to_owned());
        }
        match self.workload.stalled(PATIENCE) {
            Some(initiator) => Err(format!("initiator {initiator} waits for ever")),
            None => Ok(()),
        }
    }

    fn die(&mut self, power: bool) -> Result<(), String> {
        if power || self.rng.bool() {
            self.world.crash();
            self.workload.crash();
        } else {
            self.world.kill();
            self.workload.kill();
        }
        self.target = None;
        self.check_disk()?;
        self.start();
        Ok(())
    }

    fn check_disk(&mut self) -> Result<(), String> {
        let bytes = self.world.peek_disk(self.disk, 0, SECTORS as usize * 512);
        self.workload.model_mut().check_all(&bytes).map_err(|error| error.to_string())
    }

    /// Lets everything end, then reads the whole LUN, through the target and past it.
    fn settle(&mut self) -> Result<(), String> {
        self.world.set_faults(FaultPlan::none());
        self.world.mend_disk(self.disk);
        self.wait_settled()?;
        for lba in (0..256).step_by(64) {
            while !self.workload.read(0, lba, 64) {
                self.one_settling_step()?;
            }
        }
        self.wait_settled()?;
        self.check_disk()
    }

    fn wait_settled(&mut self) -> Result<(), String> {
        for step in 0u64.. {
            if self.workload.is_settled() {
                break;
            }
            self.one_settling_step()?;
            self.check_progress(step)?;
        }
        Ok(())
    }

    fn one_settling_step(&mut self) -> Result<(), String> {
        if !self.world.advance() {
            self.world.advance_by(1_000_000);
        }
        self.turn();
        self.workload.settle().map_err(|failure| failure.to_string())
    }
}

fn portal() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 3260))
}

fn storm(
    seed: u64,
    commands: u64,
    mutation: MutantConfig,
) -> Result<(FaultCounts, WorkloadCounts, u64), String> {
    let mut run = Run::new(SimConfig::storm(seed), mutation);
    run.commands(commands, true)?;
    let misuses = run.world.misuses();
    if let Some(misuse) = misuses.first() {
        return Err(misuse.clone());
    }
    Ok((run.world.faults(), run.workload.counts(), run.world.trace().value()))
}

#[test]
fn a_calm_world_has_no_faults_and_no_divergence() {
    for seed in 0..20 {
        let mut run = Run::new(SimConfig::calm(seed), MutantConfig::honest());
        run.commands(200, false).unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        assert_eq!(run.world.misuses(), Vec::<String>::new());
        let faults = run.world.faults();
        for kind in
            [FaultKind::ReadError, FaultKind::Starved, FaultKind::ShortSend, FaultKind::ConnectionReset]
        {
            assert_eq!(faults.count(kind), 0, "{kind:?}");
        }
    }
}

#[test]
fn storms_do_not_diverge_and_hit_every_fault() {
    let mut faults = FaultCounts::default();
    let (mut good, mut sent) = (0, 0);
    for seed in 0..200 {
        let (hit, counts, _) = storm(seed, 300, MutantConfig::honest())
            .unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        faults.add(&hit);
        good += counts.good;
        sent += counts.sent;
    }
    println!("{good} of {sent} commands\n{faults}");
    assert!(good > sent / 2, "{good} of {sent}: most commands should succeed");
    let missing: Vec<_> =
        faults.missing().into_iter().filter(|kind| !FaultKind::OF_MOVES.contains(kind)).collect();
    assert_eq!(missing, [], "\n{faults}");
}

#[test]
fn a_seed_replays_its_run() {
    for seed in 0..5 {
        let (one, two) = (storm(seed, 200, MutantConfig::honest()), storm(seed, 200, MutantConfig::honest()));
        assert_eq!(one, two);
        assert!(one.is_ok());
    }
    let trace = |seed| storm(seed, 50, MutantConfig::honest()).map(|(_, _, trace)| trace);
    assert_ne!(trace(1), trace(2));
}

/// Every planted bug is found within a few seeds, though the target itself is right.
#[test]
fn planted_bugs_are_found() {
    for mutation in Mutation::ALL.iter().copied().filter(|mutation| *mutation != Mutation::WakeLost) {
        let found = (0..60).find_map(|seed| {
            let config = MutantConfig { mutation: Some(mutation), one_in: 3, seed };
            storm(seed, 300, config).err().map(|failure| (seed, failure))
        });
        match found {
            Some((seed, failure)) => println!("{mutation:?}: seed {seed}: {failure}"),
            None => panic!("{mutation:?} was not found"),
        }
    }
}
