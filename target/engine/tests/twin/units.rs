//! Units that come to a target and go from it while initiators use it.

use crate::basics::{initiator, login, pattern, run, world_with_disk};
use crate::fences::write_blocks;
use crate::house::{House, Plan};
use crate::regressions::{build, done, ready};
use stampede_engine::messages::{
    ChangeRefusal, FromControl, LunAddress, LunId, LunMap, NewDisk, ShardId, UnitChange,
};
use stampede_image::align::Alignment;
use stampede_ring::LooseFile;
use stampede_scsi::{DeviceConfig, Identity, SavedState};
use stampede_sim::initiator::{Command, Initiator, Transfer, cdb};
use stampede_sim::{DiskConfig, DiskId, SimConfig, SimRing, SimWorld};
use std::sync::Arc;

const NEW: LunId = LunId(2);

fn at(lun: u16, command: Command) -> Command {
    Command { lun, ..command }
}

fn code(house: &mut House<SimRing>, host: &mut Initiator, command: Command) -> (u8, u8, u8) {
    run(house, host, command).sense_code().unwrap_or_default()
}

fn answered(house: &mut House<SimRing>) -> Result<(), ChangeRefusal> {
    let before = house.changed.len();
    for _ in 0..100_000 {
        if house.changed.len() > before {
            return house.changed[before].1;
        }
        house.step();
    }
    panic!("no answer");
}

/// The disk becomes LUN 1 of everybody, owned by this shard.
fn add(house: &mut House<SimRing>, world: &SimWorld, disk: DiskId, owner: ShardId, hosts: &[&str]) {
    let alignment = Alignment { memory: 512, offset: 512 };
    let device = DeviceConfig::new(Identity::default(), world.disk_len(disk) / 512);
    let new = NewDisk {
        lun: NEW,
        file: (LooseFile::new(disk), alignment),
        in_memory: false,
        journal: None,
        device,
        saved: SavedState::default(),
    };
    house.tell(owner, FromControl::AddDisk { request: 1, disk: Box::new(new) });
    assert_eq!(answered(house), Ok(()));
    house
        .luns
        .0
        .push((1, LunAddress { lun: NEW, owner, block_size: 512, is_clone: false, in_memory: false }));
    show(house, hosts);
}

/// Sessions see what there is.
fn show(house: &mut House<SimRing>, hosts: &[&str]) {
    let luns: Arc<LunMap> = Arc::new(house.luns.clone());
    for name in hosts {
        let (session, shard) = house.session_of(name).unwrap();
        house.tell(shard, FromControl::SetLuns { session, luns: Arc::clone(&luns) });
    }
    for _ in 0..200 {
        house.step();
    }
}

fn slow_disk(world: &SimWorld) -> DiskId {
    let slow = DiskConfig { latency: 5_000_000..50_000_000, ..DiskConfig::default() };
    world.disk("new", 4 << 20, slow)
}

/// RFC 7143 11.3.1.
const ORDERED: u8 = 2;

const HOSTS: [&str; 2] = ["iqn.2026-11.example:host1", "iqn.2026-11.example:host2"];

#[test]
fn a_new_unit_is_announced_used_and_gone_again() {
    for owner in [0, 1] {
        let (world, disk) = world_with_disk(512);
        let new = slow_disk(&world);
        let mut house = build(&world, &Plan { shards: 2, ..Plan::new(disk) });
        let mut one = initiator(&world, 1, |config| config.shard = Some(0));
        let mut two = initiator(&world, 2, |config| config.shard = Some(1));
        login(&mut house, &mut one);
        login(&mut house, &mut two);
        assert_eq!(code(&mut house, &mut one, at(1, ready())), (5, 0x25, 0));
        add(&mut house, &world, new, ShardId(owner), &HOSTS);
        for host in [&mut one, &mut two] {
            assert_eq!(code(&mut house, host, ready()), (6, 0x3f, 0x0e));
            assert_eq!(code(&mut house, host, at(1, ready())), (6, 0x29, 0));
            let write = Command::new(1, cdb::write_16(8, 8, false), Transfer::Out(pattern(4096, 9)));
            assert!(run(&mut house, host, write).is_good());
        }
        let read = Command::new(1, cdb::read_16(8, 8), Transfer::In(4096));
        assert!(run(&mut house, &mut two, read).data == pattern(4096, 9));
        assert!(world.peek_disk(new, 4096, 4096) == pattern(4096, 9));

        let remove = UnitChange::Remove { force: false };
        house.tell(ShardId(owner), FromControl::Change { request: 2, lun: NEW, what: remove });
        assert_eq!(answered(&mut house), Ok(()));
        // Not every session knows yet.
        assert_eq!(code(&mut house, &mut one, at(1, ready())), (5, 0x25, 0));
        house.luns.0.pop();
        show(&mut house, &HOSTS);
        assert_eq!(house.closed, [NEW]);
        assert_eq!(code(&mut house, &mut two, at(1, ready())), (5, 0x25, 0));
        assert_eq!(code(&mut house, &mut two, ready()), (6, 0x3f, 0x0e));
        let report = Command::new(0, cdb::report_luns(64), Transfer::In(64));
        assert_eq!(run(&mut house, &mut one, report).data[..4], [0, 0, 0, 8]);
        assert_eq!(code(&mut house, &mut one, ready()), (0, 0, 0), "REPORT LUNS has said it");
        assert_eq!(world.misuses(), Vec::<String>::new());
    }
}

/// No command is lost, and the file is closed behind the last of them.
#[test]
fn commands_under_way_end_before_the_unit_does() {
    let mut under_way = 0;
    for seed in 0..40 {
        let world = SimWorld::new(SimConfig::calm(seed));
        let disk = world.disk("disk", 4 << 20, DiskConfig::default());
        let new = slow_disk(&world);
        let owner = ShardId((seed / 2 % 2) as u16);
        let mut house = build(&world, &Plan { shards: 2, ..Plan::new(disk) });
        let mut host = initiator(&world, 1, |config| config.shard = Some(0));
        login(&mut house, &mut host);
        add(&mut house, &world, new, owner, &HOSTS[..1]);
        for lba in 0..16 {
            let mut command = at(1, write_blocks(lba * 8));
            if lba % 5 == 4 {
                command.attribute = ORDERED;
            }
            host.command(command).unwrap();
        }
        let idle = world.in_flight(owner.0);
        for _ in 0..seed * 5 {
            house.step();
        }
        under_way += usize::from(world.in_flight(owner.0) > idle);
        let remove = UnitChange::Remove { force: false };
        house.tell(owner, FromControl::Change { request: 2, lun: NEW, what: remove });
        assert_eq!(answered(&mut house), Ok(()));
        let mut ended = Vec::new();
        for _ in 0..200_000 {
            ended.extend(done(&mut host));
            if host.outstanding().is_empty() && !house.closed.is_empty() {
                break;
            }
            house.step();
        }
        assert_eq!(house.closed, [NEW], "seed {seed}");
        assert_eq!(host.outstanding(), [], "seed {seed}");
        assert_eq!(world.misuses(), Vec::<String>::new(), "seed {seed}");
    }
    assert!(under_way > 10, "writes were at the disk when their unit went: {under_way}");
}

#[test]
fn a_unit_that_is_counted_on_stays_unless_by_force() {
    let (world, disk) = world_with_disk(512);
    let mut house = build(&world, &Plan { shards: 2, owner: 1, ..Plan::new(disk) });
    let mut host = initiator(&world, 1, |config| config.shard = Some(0));
    login(&mut house, &mut host);
    let reserve = Command::new(0, [0x16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Transfer::None);
    assert!(run(&mut house, &mut host, reserve).is_good());
    for (force, result) in [(false, Err(ChangeRefusal::Reserved)), (true, Ok(()))] {
        assert_eq!(code(&mut house, &mut host, ready()), (0, 0, 0));
        let what = UnitChange::Remove { force };
        house.tell(ShardId(1), FromControl::Change { request: 3, lun: LunId(1), what });
        assert_eq!(answered(&mut house), result);
    }
    assert_eq!(code(&mut house, &mut host, ready()), (5, 0x25, 0));
    for _ in 0..100 {
        house.step();
    }
    assert_eq!(house.closed, [LunId(1)]);
}
