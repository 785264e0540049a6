//! A golden's boot is recorded, and read ahead of the next ones: what that is good for on a slow disk, that it costs nothing on
//! a fast one, and what it leaves alone.

use crate::basics::{initiator, login, pattern};
use crate::house::{GOLDEN, House, Plan};
use stampede_engine::messages::{FromControl, LunId, ShardId, WarmState};
use stampede_image::cache::BLOCK;
use stampede_image::golden::GoldenIdentity;
use stampede_image::recording::{FirstUse, Recording, Route};
use stampede_ring::{Pool, PoolConfig};
use stampede_sim::initiator::{Command, Initiator, Report, Tag, Transfer, cdb};
use stampede_sim::{DiskConfig, DiskId, SimConfig, SimRing, SimWorld};
use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes of the golden.
const LEN: u64 = 48 << 20;
/// A disk that seeks for every read.
const SEEKS: Range<u64> = 5_000_000..5_000_001;
/// A disk that hardly waits.
const FAST: Range<u64> = 20_000..100_000;
/// The first own clone of a house.
const FIRST_CLONE: LunId = LunId(1002);

/// What a boot reads, first sector and sectors: files of up to 256 KiB anywhere in a part of the golden, each in pieces.
fn boot(seed: u64, part: Range<u64>) -> Vec<(u64, u32)> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut reads = Vec::new();
    for _ in 0..120 {
        let mut at = rng.u64(part.start / 4096..part.end / 4096 - 64) * 8;
        let end = at + rng.u64(1..=64) * 8;
        while at < end {
            let sectors = (*rng.choice(&[8, 32, 64, 128]).unwrap()).min(end - at);
            reads.push((at, sectors as u32));
            at += sectors;
        }
    }
    reads
}

/// One of them.
struct Machine {
    host: Initiator,
    /// The next read of its boot.
    next: usize,
    /// Which read each command is.
    under_way: BTreeMap<Tag, usize>,
}

/// Machines that boot at once.
struct Storm {
    world: SimWorld,
    house: House<SimRing>,
    disk: DiskId,
    golden: Vec<u8>,
    reads: Vec<(u64, u32)>,
    machines: Vec<Machine>,
    /// Reads that failed.
    failed: u64,
}

impl Storm {
    fn new(latency: Range<u64>, shards: u16, cache_mib: u32) -> Self {
        let world = SimWorld::new(SimConfig::calm(1));
        let config = DiskConfig { latency, ..DiskConfig::default() };
        let disk = world.disk("disk", LEN, config);
        let golden: Vec<u8> = (0..LEN / 512).flat_map(|sector| pattern(512, (sector % 253) as u8)).collect();
        world.fill_disk(disk, 0, &golden);
        let pool = PoolConfig { slot_len: BLOCK as u32, slots: cache_mib * 32 };
        let plan = Plan {
            shards,
            clone: true,
            cached: true,
            cache: Some(Pool::with_lanes(pool, shards).unwrap()),
            queue: 1024,
            memory: 64 << 20,
            ..Plan::new(disk)
        };
        let mut house = crate::basics::house(&world, &plan);
        house.own_clones = Some(|shard| shard);
        let reads = boot(7, 0..LEN);
        Self { world, house, disk, golden, reads, machines: Vec::new(), failed: 0 }
    }

    fn log_in(&mut self, clients: u8) {
        self.log_in_deep(clients, 2);
    }

    /// So many machines that keep so many commands under way.
    fn log_in_deep(&mut self, clients: u8, depth: usize) {
        for number in 1..=clients {
            let shard = u16::from(number) % self.house.shards.len() as u16;
            let mut host = initiator(&self.world, number, |config| {
                config.shard = Some(shard);
                config.queue_depth = depth;
            });
            login(&mut self.house, &mut host);
            self.machines.push(Machine { host, next: 0, under_way: BTreeMap::new() });
        }
    }

    fn warm(&mut self, route: &Route, paced: bool) {
        for shard in 0..self.house.shards.len() as u16 {
            self.house
                .tell(ShardId(shard), FromControl::Warm { golden: GOLDEN, route: route.clone(), paced });
        }
    }

    /// Each machine takes what it got and asks for what comes next; whether all have all.
    fn feed(&mut self) -> bool {
        let mut ended = true;
        for Machine { host, next, under_way } in &mut self.machines {
            for report in host.poll() {
                let Report::Done(done) = report else { panic!("{report:?}") };
                let (lba, sectors) = self.reads[under_way.remove(&done.tag).unwrap()];
                let at = lba as usize * 512;
                match done.is_good() {
                    true => assert!(
                        done.data == self.golden[at..at + sectors as usize * 512],
                        "wrong bytes at sector {lba}"
                    ),
                    false => {
                        assert_eq!(done.sense_code().map(|code| code.0), Some(3), "{done:?}");
                        self.failed += 1;
                    }
                }
            }
            while *next < self.reads.len() && host.has_room() {
                let (lba, sectors) = self.reads[*next];
                let command = Command::new(0, cdb::read_16(lba, sectors), Transfer::In(sectors * 512));
                under_way.insert(host.command(command).expect("room"), *next);
                *next += 1;
            }
            ended &= *next == self.reads.len() && under_way.is_empty();
        }
        ended
    }

    /// Boots all; the nanoseconds until the last has all.
    fn boot(&mut self) -> u64 {
        let begin = self.world.now();
        while !self.feed() {
            assert!(self.house.step(), "nothing will ever happen");
        }
        self.world.now() - begin
    }

    /// Lets so many nanoseconds pass.
    fn pass(&mut self, ns: u64) {
        let until = self.world.now() + ns;
        while self.world.now() < until && self.house.step() {}
    }

    /// How reading ahead goes on each shard, and what was read ahead, is unused and was wasted, of all.
    fn figures(&mut self) -> (Vec<WarmState>, [u64; 3]) {
        self.house.reports.clear();
        for shard in 0..self.house.shards.len() as u16 {
            self.house.tell(ShardId(shard), FromControl::Report { request: 1 });
        }
        let mut steps = 0;
        while self.house.reports.len() < self.house.shards.len() {
            self.house.step();
            steps += 1;
            assert!(steps < 10_000, "no reports");
        }
        let goldens: Vec<_> = self.house.reports.iter().flat_map(|report| &report.goldens).collect();
        let states = goldens.iter().filter_map(|of| of.warming).map(|warming| warming.state).collect();
        let sum = goldens.iter().fold([0; 3], |sum, of| {
            [sum[0] + of.ahead.read, sum[1] + of.ahead.unused, sum[2] + of.ahead.wasted]
        });
        (states, sum)
    }

    fn check(&self) {
        assert_eq!(self.world.misuses(), Vec::<String>::new());
    }
}

/// What the first boot of the golden gives.
fn record() -> Recording {
    let mut storm = Storm::new(FAST, 2, 64);
    storm.log_in(1);
    let shard = ShardId(1);
    storm.house.tell(shard, FromControl::Record { lun: FIRST_CLONE });
    storm.pass(1_000_000);
    storm.boot();
    storm.house.tell(shard, FromControl::StopRecording { lun: FIRST_CLONE });
    storm.pass(1_000_000);
    let told = std::mem::take(&mut storm.house.recorded);
    assert!(told.iter().all(|(lun, _)| *lun == FIRST_CLONE));
    let uses: Vec<(u32, u64)> = told.into_iter().flat_map(|(_, uses)| uses).collect();
    assert!(uses.is_sorted_by_key(|(_, at_ns)| *at_ns));
    let uses = uses.into_iter().map(|(block, _)| FirstUse { block, gap_us: 1 }).collect();
    let golden = GoldenIdentity { device: 0, inode: 0, len_bytes: LEN, mtime_ns: 0, generation: 0 };
    let recording = Recording { golden, complete: true, uses };
    Recording::decode(&recording.encode()).expect("no block twice, none that is not there")
}

/// Blocks of some reads in the order of their first use.
fn blocks(reads: &[(u64, u32)]) -> Vec<u32> {
    let mut blocks = Vec::new();
    for (lba, sectors) in reads {
        for block in lba * 512 / BLOCK..((lba + u64::from(*sectors)) * 512).div_ceil(BLOCK) {
            if !blocks.contains(&(block as u32)) {
                blocks.push(block as u32);
            }
        }
    }
    blocks
}

#[test]
fn the_first_boot_is_recorded_in_the_order_of_first_use() {
    let recorded: Vec<u32> = record().uses.iter().map(|each| each.block).collect();
    // Two commands are under way at once, and a miss is looked up again: their blocks may change places, no more.
    let wanted = blocks(&boot(7, 0..LEN));
    assert_eq!(recorded.len(), wanted.len());
    for (place, block) in recorded.iter().enumerate() {
        let there = wanted.iter().position(|other| other == block).expect("it was read");
        assert!(there.abs_diff(place) <= 8, "block {block} at {place}, not {there}");
    }
}

#[test]
fn a_clone_that_moves_is_recorded_on() {
    let mut storm = Storm::new(FAST, 2, 64);
    storm.log_in(1);
    storm.house.tell(ShardId(1), FromControl::Record { lun: FIRST_CLONE });
    let half = storm.reads.len() / 2;
    let rest = storm.reads.split_off(half);
    storm.boot();
    let (session, shard) = storm.house.session_of("iqn.2026-11.example:host1").unwrap();
    storm.house.tell(shard, FromControl::Move { session, to: ShardId(0) });
    storm.pass(100_000_000);
    assert_eq!(storm.house.moved.len(), 1, "{:?}", storm.house.stayed);
    storm.reads.extend(rest);
    storm.boot();
    // It goes to where the clone was made, which passes it on.
    storm.house.tell(ShardId(1), FromControl::StopRecording { lun: FIRST_CLONE });
    storm.pass(1_000_000);
    let recorded: usize = storm.house.recorded.iter().map(|(_, uses)| uses.len()).sum();
    assert_eq!(recorded, blocks(&storm.reads).len());
}

/// Nanoseconds that a cold storm of so many machines takes, without and with reading ahead what was recorded.
fn storms(latency: Range<u64>, shards: u16, clients: u8) -> (u64, u64) {
    let route = record().route();
    let mut cold = Storm::new(latency.clone(), shards, 64);
    cold.log_in(clients);
    let without = cold.boot();
    let mut ahead = Storm::new(latency, shards, 64);
    ahead.log_in(clients);
    ahead.warm(&route, true);
    let with = ahead.boot();
    let reads = |storm: &Storm| storm.house.count(|counters| counters.cache_reads);
    let (states, [read, unused, wasted]) = ahead.figures();
    println!(
        "{shards} shards, {clients} machines: {} ms without, {} ms with; {} and {} blocks read, {read} of them ahead",
        without / 1_000_000,
        with / 1_000_000,
        reads(&cold),
        reads(&ahead)
    );
    assert_eq!(reads(&ahead), reads(&cold), "no block is read twice, and none in vain");
    assert!(states.iter().all(|state| *state == WarmState::Done), "{states:?}");
    assert_eq!((unused, wasted, cold.failed + ahead.failed), (0, 0, 0));
    cold.check();
    ahead.check();
    (without, with)
}

#[test]
fn on_a_slow_disk_a_storm_takes_a_third_at_most() {
    for (shards, clients) in [(1, 1), (2, 16)] {
        let (without, with) = storms(SEEKS, shards, clients);
        assert!(with * 3 <= without, "{shards} shards, {clients} machines: {with} of {without} ns");
    }
}

#[test]
fn on_a_fast_disk_a_storm_takes_no_longer() {
    for (shards, clients) in [(1, 1), (2, 16)] {
        let (without, with) = storms(FAST, shards, clients);
        assert!(with * 100 <= without * 105, "{shards} shards, {clients} machines: {with} of {without} ns");
    }
}

#[test]
fn machines_that_boot_otherwise_end_it() {
    let mut storm = Storm::new(SEEKS, 1, 64);
    let route = Route::whole(LEN / 2);
    storm.reads = boot(8, LEN / 2..LEN);
    storm.log_in_deep(1, 16);
    storm.warm(&route, true);
    storm.boot();
    let (states, [read, ..]) = storm.figures();
    assert_eq!(states, [WarmState::Diverged]);
    assert!(read < route.order().len() as u64 / 2, "{read} blocks were read in vain");
    storm.check();
}

#[test]
fn memory_that_is_used_is_left_alone() {
    // A cache of 8 MiB, of which a sixteenth is kept free.
    let mut storm = Storm::new(FAST, 1, 8);
    storm.warm(&Route::whole(LEN), false);
    storm.pass(1_000_000_000);
    assert_eq!(storm.figures(), (vec![WarmState::Full], [240, 240, 0]));
    storm.log_in(3);
    storm.boot();
    storm.warm(&Route::whole(LEN), false);
    let before = storm.figures().1[0];
    storm.pass(1_000_000_000);
    assert!(storm.figures().1[0] <= before + 16, "what was free");
    storm.check();
}

#[test]
fn blocks_that_cannot_be_read_concern_only_who_wants_them() {
    let route = record().route();
    for broken in [1u64, 40] {
        let mut storm = Storm::new(SEEKS, 2, 64);
        let start = u64::from(route.order()[100]) * BLOCK;
        storm.world.break_reads(storm.disk, start..start + broken * BLOCK);
        storm.log_in(4);
        storm.warm(&route, true);
        storm.boot();
        assert!(storm.failed >= 4, "each machine reads it");
        assert!(storm.failed < storm.reads.len() as u64, "and everything else");
        let (states, _) = storm.figures();
        assert!(states.iter().all(|state| !state.is_active()), "{states:?}");
        storm.check();
    }
}

#[test]
fn a_shard_that_stops_waits_for_what_it_reads_ahead_and_begins_no_more() {
    let mut storm = Storm::new(SEEKS, 2, 64);
    storm.warm(&Route::whole(LEN), false);
    storm.pass(12_000_000);
    for shard in 0..2 {
        storm
            .house
            .tell(ShardId(shard), FromControl::Drain { deadline_ns: storm.world.now() + 1_000_000_000 });
    }
    let mut steps = 0;
    while storm.house.drained < 2 {
        storm.house.step();
        steps += 1;
        assert!(steps < 10_000, "a shard does not stop");
    }
    let read = storm.house.count(|counters| counters.cache_reads);
    assert!(read < LEN / BLOCK / 4, "{read}");
    storm.warm(&Route::whole(LEN), false);
    storm.pass(100_000_000);
    assert_eq!(storm.house.count(|counters| counters.cache_reads), read);
    let (states, figures) = storm.figures();
    assert_eq!((states, figures[0]), (vec![WarmState::Stopped; 2], read), "all that was begun has ended");
    storm.check();
}

#[test]
fn it_ends_when_it_is_told_to() {
    let mut storm = Storm::new(SEEKS, 2, 64);
    storm.warm(&Route::whole(LEN), false);
    storm.pass(12_000_000);
    for shard in 0..2 {
        storm.house.tell(ShardId(shard), FromControl::StopWarming { golden: GOLDEN });
    }
    storm.pass(100_000_000);
    let (states, figures) = storm.figures();
    assert_eq!(states, [WarmState::Stopped; 2]);
    assert!(figures[0] < LEN / BLOCK / 4, "{figures:?}");
    storm.log_in(2);
    storm.boot();
    assert_eq!(storm.failed, 0);
    storm.check();
}
