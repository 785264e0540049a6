//! The order of tasks while their data is still out, and the reset that ends sessions, wherever the unit lives.

use crate::basics::{initiator, login, pattern, world_with_disk};
use crate::house::Plan;
use crate::regressions::{build, ready, until};
use stampede_engine::messages::{FromControl, SessionEnd, ShardId};
use stampede_sim::initiator::{Command, Report, Transfer, cdb};
use stampede_sim::{DiskConfig, SimConfig, SimWorld};

/// TARGET COLD RESET.
const COLD_RESET: u8 = 7;

fn ordered(command: Command) -> Command {
    Command { attribute: 2, ..command }
}

/// Each read is ORDERED and sees the write before it, whose data comes by R2Ts after the read did.
#[test]
fn ordered_reads_see_the_writes_before_them() {
    for seed in 0..40 {
        let world = SimWorld::new(SimConfig::calm(seed));
        let disk = world.disk("disk", 4 << 20, DiskConfig::default());
        let (owner, queue) = ((seed % 2) as u16, [1, 64][seed as usize / 2 % 2]);
        let mut house =
            build(&world, &Plan { shards: 2, owner, queue, clone: seed % 8 < 4, ..Plan::new(disk) });
        let mut host = initiator(&world, 9, |config| {
            config.shard = Some(0);
            config.initial_r2t = true;
            config.immediate_data = false;
        });
        login(&mut house, &mut host);
        let mut reads = Vec::new();
        for round in 0..8u8 {
            // Some writes are SIMPLE: the read behind them waits all the same.
            let blocks = 8 << (round % 4);
            let data = pattern(blocks as usize * 512, round);
            let write = Command::new(0, cdb::write_16(0, blocks, false), Transfer::Out(data.clone()));
            let write = if round % 3 == 0 { write } else { ordered(write) };
            host.command(write).unwrap();
            let read = Command::new(0, cdb::read_16(0, blocks), Transfer::In(blocks * 512));
            reads.push((host.command(ordered(read)).unwrap(), data));
        }
        let last = reads.last().unwrap().0;
        let ended = until(&mut house, &mut host, last);
        assert_eq!(ended.len(), 16, "seed {seed}");
        for (tag, data) in reads {
            let read = ended.iter().find(|done| done.tag == tag).unwrap();
            assert!(read.is_good() && read.data == data, "seed {seed}: {tag:?} has other data");
        }
    }
}

/// Every session ends, also one that is on its way to another shard, and they come back.
#[test]
fn a_cold_reset_ends_all_sessions() {
    for moves in [false, true] {
        let (world, disk) = world_with_disk(512);
        let mut house = build(&world, &Plan { shards: 2, ..Plan::new(disk) });
        let mut hosts = [1, 2, 3].map(|number| {
            initiator(&world, number, |config| {
                config.shard = Some(u16::from(number % 2));
            })
        });
        hosts.iter_mut().for_each(|host| login(&mut house, host));
        for host in &mut hosts {
            let write = Command::new(0, cdb::write_16(0, 64, false), Transfer::Out(pattern(32768, 1)));
            host.command(write).unwrap();
        }
        if moves {
            let (session, shard) = house.session_of(&hosts[1].config_mut().name).unwrap();
            house.tell(shard, FromControl::Move { session, to: ShardId(1 - shard.0) });
        }
        let tag = hosts[0].task_management(COLD_RESET, 0, None).unwrap();
        let mut answered = false;
        for _ in 0..20_000 {
            answered |= hosts[0].poll().contains(&Report::TaskManagement { tag, response: 0 });
            hosts[1].poll();
            hosts[2].poll();
            if !house.step() {
                break;
            }
        }
        assert!(answered, "moves {moves}: the reset is not answered");
        assert_eq!((house.sessions_len(), house.ended.len()), (0, 3), "moves {moves}: {:?}", house.ended);
        assert!(house.ended.iter().all(|(_, end)| *end == SessionEnd::Dropped), "{:?}", house.ended);
        let mut again = initiator(&world, 1, |_| {});
        login(&mut house, &mut again);
        let last = again.command(ready()).unwrap();
        assert!(until(&mut house, &mut again, last)[0].is_good(), "login clears what it hears");
    }
}

/// The data of a write that a reset kills is waited for, and not longer than 2 s when it never comes.
#[test]
fn a_reset_waits_for_data_that_is_out() {
    let (world, disk) = world_with_disk(512);
    let mut house = build(&world, &Plan { shards: 2, owner: 1, ..Plan::new(disk) });
    let mut host = initiator(&world, 9, |config| {
        config.shard = Some(0);
        config.initial_r2t = true;
        config.immediate_data = false;
    });
    login(&mut house, &mut host);
    let write = Command::new(0, cdb::write_16(0, 8, false), Transfer::Out(pattern(4096, 1)));
    host.command(write).unwrap();
    for _ in 0..100 {
        // It does not answer the R2T.
        house.step();
    }
    let before = world.now();
    let tag = host.task_management(5, 0, None).unwrap();
    let mut reports = Vec::new();
    while !reports.contains(&Report::TaskManagement { tag, response: 0 }) {
        assert!(house.step(), "nothing will ever happen");
        reports.extend(host.poll());
    }
    // It has answered the R2T meanwhile, so nobody waited for the end of the 2 s.
    assert!(world.now() - before < 1_000_000_000, "{} ns", world.now() - before);
    assert!(!reports.iter().any(|report| matches!(report, Report::Done(_))), "{reports:?}");
    assert_eq!(host.take_violations(), []);
}
