//! Write data that stays in receive buffers until its command has run, or until it cannot.

use crate::basics::{initiator, login, pattern, portal, read, wait, world_with_disk, write};
use crate::house::{House, Plan};
use crate::regressions::{build, done, ready, until};
use stampede_sim::initiator::{Command, Initiator, Report, Transfer, cdb};
use stampede_sim::{DiskConfig, FaultKind, FaultPlan, SimConfig, SimRing, SimWorld};

/// Blocks of each write: 4 KiB.
const BLOCKS: u32 = 8;

fn write_at(lba: u64, seed: u8) -> Command {
    Command::new(0, cdb::write_16(lba, BLOCKS, false), Transfer::Out(pattern(4096, seed)))
}

/// All of these commands that ended did so well; a busy target may have refused some.
fn good(done: &stampede_sim::initiator::Done) -> bool {
    const TASK_SET_FULL: u8 = 0x28;
    assert!(done.is_good() || done.status == TASK_SET_FULL, "{done:?}");
    done.is_good()
}

/// Writes whose data stayed where it came, and of these those that were copied after all.
fn counted(house: &House<SimRing>) -> (u64, u64) {
    let counters = house.shards.iter().map(|shard| shard.counters());
    counters.fold((0, 0), |sum, shard| (sum.0 + shard.writes_borrowed, sum.1 + shard.writes_kept))
}

/// A step of the world, after which no shard's tasks refer to receive buffers.
fn step(house: &mut House<SimRing>) -> bool {
    let more = house.step();
    for shard in &mut house.shards {
        assert_eq!(shard.ring_mut().buffers_shared(), 0, "a receive buffer is in use beyond the turn");
    }
    more
}

/// Everything is over, and all memory is back: receive buffers with the world, I/O buffers in their pools.
fn all_is_back(house: &mut House<SimRing>) {
    while house.step() {}
    for shard in &mut house.shards {
        assert_eq!(shard.ring_mut().buffers_in_use(), 0, "receive buffers are lost");
    }
    for memory in &house.memory {
        let in_use: Vec<u32> = memory.buffers.pools().iter().map(|pool| pool.in_use()).collect();
        assert_eq!(in_use, [0, 0, 0, 1], "all but the zeros");
    }
    assert_eq!(house.world.misuses(), Vec::<String>::new());
}

/// Many writes to different places, whatever the receive buffers' shape, whether the ring does them at once or not, with
/// digests and without, aborted or not: what ended well is there, and no buffer is lost.
#[test]
fn what_was_borrowed_is_written_or_kept_and_comes_back() {
    let mut sum = (0, 0);
    for seed in 0..120u64 {
        let mut sim = SimConfig::calm(seed);
        sim.ring.receive_buffers = [2, 4, 64][seed as usize % 3];
        sim.ring.receive_buffer_len = [8192, 16 * 1024, 64 * 1024][seed as usize / 3 % 3];
        let at_once = [0, 500_000, 1_000_000][seed as usize / 9 % 3];
        let split = FaultPlan::none().with(FaultKind::SplitReceive, 200_000);
        let world = SimWorld::new(sim.with_faults(split.with(FaultKind::AtOnce, at_once)));
        let disk = world.disk("disk", 4 << 20, DiskConfig::default());
        let (shards, owner) = (1 + (seed % 2) as u16, 0);
        let plan = Plan { shards, owner, clone: seed % 5 == 0, ..Plan::new(disk) };
        let mut house = build(&world, &plan);
        let mut host = initiator(&world, 9, |config| {
            config.shard = Some(0);
            config.data_digest = seed % 4 < 2;
            config.header_digest = seed % 8 < 4;
            config.queue_depth = 16;
        });
        login(&mut house, &mut host);
        let mut written = Vec::new();
        for round in 0..6u8 {
            let mut tags = Vec::new();
            for index in 0..12u8 {
                let lba = u64::from(index) * 16 + u64::from(round);
                let mut command = write_at(lba, round ^ index);
                // Some wait for others of their unit.
                command.attribute = if (seed + u64::from(index)) % 7 == 0 { 2 } else { 0 };
                tags.push((host.command(command).unwrap(), lba, round ^ index));
            }
            if round == 3 && seed % 6 == 0 {
                host.task_management(1, 0, Some(tags[11].0)).unwrap();
            }
            let mut ended = Vec::new();
            while !host.outstanding().is_empty() {
                let reports = host.poll();
                assert_eq!(host.take_violations(), [], "seed {seed}");
                for report in reports {
                    match report {
                        Report::Done(done) if good(&done) => ended.push(done.tag),
                        Report::TaskManagement { .. } => host.forget(tags[11].0),
                        _ => {}
                    }
                }
                assert!(step(&mut house), "seed {seed}: nothing will ever happen");
            }
            written = tags.into_iter().filter(|(tag, ..)| ended.contains(tag)).collect();
        }
        assert!(written.len() > 6, "seed {seed}: {written:?}");
        for (_, lba, value) in written {
            assert!(
                read(&mut house, &mut host, lba, BLOCKS) == pattern(4096, value),
                "seed {seed} lba {lba}"
            );
        }
        let (borrowed, kept) = counted(&house);
        assert!(borrowed > 0 && (at_once < 1_000_000 || kept < borrowed), "seed {seed}: {borrowed} {kept}");
        sum = (sum.0 + borrowed, sum.1 + kept);
        all_is_back(&mut house);
    }
    assert!(sum.0 > sum.1 + 1000 && sum.1 > 1000, "{sum:?}");
}

fn at_once(rate: u32, number: u8) -> (House<SimRing>, Initiator) {
    let (world, disk) = world_with_disk(512);
    world.set_faults(FaultPlan::none().with(FaultKind::AtOnce, rate));
    let mut house = build(&world, &Plan { memory: 1 << 20, ..Plan::new(disk) });
    let mut host = initiator(&world, number, |config| config.queue_depth = 16);
    login(&mut house, &mut host);
    (house, host)
}

/// A write that is done at once takes no I/O buffer: it works when there is none. One that cannot be is refused then.
#[test]
fn a_borrowed_write_needs_no_buffer_and_one_that_waits_is_refused_without() {
    for (rate, status) in [(1_000_000, 0), (0, 0x28)] {
        let mut borrowed = 0;
        for number in 1..13 {
            let (mut house, mut host) = at_once(rate, number);
            let pools = house.memory[0].buffers.clone();
            let taken: Vec<_> = std::iter::from_fn(|| pools.take(4096)).collect();
            let tag = host.command(write_at(16, 3)).unwrap();
            for _ in 0..300 {
                step(&mut house);
            }
            // Some commands bring only a part of their data with them, and wait for memory.
            let status = if counted(&house).0 == 0 { 0 } else { status };
            borrowed += counted(&house).0;
            drop(taken);
            let ended = until(&mut house, &mut host, tag);
            assert_eq!(ended.iter().map(|done| done.status).collect::<Vec<_>>(), [status]);
            let old = pattern(4 << 20, 0);
            let expected = if status == 0 { &pattern(4096, 3) } else { &old[8192..12288] };
            assert!(read(&mut house, &mut host, 16, BLOCKS) == expected);
            write(&mut house, &mut host, 16, &pattern(4096, 4));
            all_is_back(&mut house);
        }
        assert!(borrowed > 6, "{borrowed}");
    }
}

/// The connection ends while what it sent is being taken in, or waits at its unit behind an ORDERED task.
#[test]
fn a_connection_that_ends_leaves_no_buffer_behind() {
    for steps in 0..60 {
        let (mut house, mut host) = at_once(if steps % 2 == 0 { 1_000_000 } else { 0 }, 9);
        for index in 0..12u8 {
            let mut command = write_at(u64::from(index) * 8, index);
            command.attribute = if index % 4 == 1 { 2 } else { 0 };
            host.command(command).unwrap();
        }
        for _ in 0..steps {
            step(&mut house);
        }
        host.reset();
        while house.ended.is_empty() {
            assert!(step(&mut house), "the session never ends");
        }
        all_is_back(&mut house);
        let mut again = initiator(&house.world.clone(), 8, |_| {});
        login(&mut house, &mut again);
        write(&mut house, &mut again, 40, &pattern(4096, 9));
        assert!(read(&mut house, &mut again, 40, BLOCKS) == pattern(4096, 9));
    }
}

/// What a reset meets, it kills; what comes after it works.
#[test]
fn a_reset_of_the_unit_in_the_same_turn_ends_what_is_borrowed() {
    for seed in 0..20 {
        let (world, disk) = world_with_disk(512);
        world.set_faults(FaultPlan::none().with(FaultKind::AtOnce, 500_000));
        let mut house = House::build(&world, portal(), &Plan::new(disk), &mut |ring| ring);
        let mut host = initiator(&world, 9, |config| config.queue_depth = 16);
        login(&mut house, &mut host);
        for index in 0..seed % 12 {
            host.command(write_at(index * 8, index as u8)).unwrap();
        }
        let tag = host.task_management(5, 0, None).unwrap();
        let mut reports = Vec::new();
        while !reports.contains(&Report::TaskManagement { tag, response: 0 }) {
            reports.extend(host.poll());
            assert!(step(&mut house), "seed {seed}: nothing will ever happen");
        }
        for tag in host.outstanding() {
            host.forget(tag);
        }
        let last = host.command(ready()).unwrap();
        until(&mut house, &mut host, last);
        assert!(done(&mut host).is_empty());
        write(&mut house, &mut host, 64, &pattern(4096, 9));
        assert!(read(&mut house, &mut host, 64, BLOCKS) == pattern(4096, 9));
        host.logout().unwrap();
        assert_eq!(wait(&mut house, &mut host), Report::LoggedOut { response: 0 });
        all_is_back(&mut house);
    }
}
