//! What the operator does to a unit while initiators use it.

use crate::basics::{initiator, login, run, world_with_disk};
use crate::fences::{good, write_blocks};
use crate::house::{House, Plan, StoreMood};
use crate::regressions::build;
use stampede_engine::messages::{ChangeRefusal, FromControl, LunId, ShardId, UnitChange};
use stampede_scsi::AccessState;
use stampede_sim::SimRing;
use stampede_sim::initiator::{Command, Initiator, Transfer, cdb};

fn test_unit_ready() -> Command {
    Command::new(0, [0; 16], Transfer::None)
}

/// The sense key and code that a command ends with; zeros for GOOD.
fn sense(house: &mut House<SimRing>, host: &mut Initiator, command: Command) -> (u8, u8, u8) {
    let done = run(house, host, command);
    match done.sense.get(2..14) {
        Some(sense) => (sense[0] & 0xf, sense[10], sense[11]),
        None => (0, 0, 0),
    }
}

fn change(house: &mut House<SimRing>, what: UnitChange) -> Result<(), ChangeRefusal> {
    let request = house.changed.len() as u64;
    house.tell(ShardId(1), FromControl::Change { request, lun: LunId(1), what });
    for _ in 0..500 {
        house.step();
    }
    let (number, result) = house.changed.last().copied().expect("no answer");
    assert_eq!(number, request);
    result
}

fn capacity(house: &mut House<SimRing>, host: &mut Initiator) -> u32 {
    let mut cdb = [0; 16];
    cdb[0] = 0x25;
    let done = run(house, host, Command::new(0, cdb, Transfer::In(8)));
    u32::from_be_bytes(done.data[..4].try_into().unwrap()) + 1
}

#[test]
fn every_nexus_hears_of_a_new_capacity_and_may_use_it() {
    let (world, disk) = world_with_disk(512);
    let mut house = build(&world, &Plan { shards: 2, owner: 1, ..Plan::new(disk) });
    let mut one = initiator(&world, 1, |config| config.shard = Some(0));
    let mut two = initiator(&world, 2, |config| config.shard = Some(1));
    login(&mut house, &mut one);
    login(&mut house, &mut two);
    let blocks = capacity(&mut house, &mut one);
    assert_eq!(change(&mut house, UnitChange::Resize { blocks: u64::from(blocks) / 2 }), Ok(()));
    for host in [&mut one, &mut two] {
        assert_eq!(sense(&mut house, host, test_unit_ready()), (6, 0x2a, 0x09));
        assert_eq!(capacity(&mut house, host), blocks / 2);
    }
    let past = Command::new(0, cdb::read_16(u64::from(blocks / 2), 1), Transfer::In(512));
    assert_eq!(sense(&mut house, &mut one, past.clone()), (5, 0x21, 0x00));
    assert_eq!(change(&mut house, UnitChange::Resize { blocks: u64::from(blocks) }), Ok(()));
    assert_eq!(sense(&mut house, &mut one, past.clone()), (6, 0x2a, 0x09));
    assert_eq!(sense(&mut house, &mut one, past), (0, 0, 0));
    // No change is no news.
    assert_eq!(sense(&mut house, &mut two, test_unit_ready()), (6, 0x2a, 0x09));
    assert_eq!(change(&mut house, UnitChange::Resize { blocks: u64::from(blocks) }), Ok(()));
    assert_eq!(sense(&mut house, &mut two, test_unit_ready()), (0, 0, 0));
}

#[test]
fn an_access_state_lasts_and_one_that_cannot_be_kept_is_not_in_effect() {
    let (world, disk) = world_with_disk(512);
    let mut house = build(&world, &Plan { shards: 2, owner: 1, ..Plan::new(disk) });
    let mut host = initiator(&world, 1, |config| config.shard = Some(0));
    login(&mut house, &mut host);
    house.store = StoreMood::Fails;
    let standby = UnitChange::Access(AccessState::Standby);
    assert_eq!(change(&mut house, standby), Err(ChangeRefusal::NotSaved));
    good(&mut house, &mut host, write_blocks(0));
    house.store = StoreMood::Works;
    assert_eq!(change(&mut house, standby), Ok(()));
    assert_eq!(sense(&mut house, &mut host, test_unit_ready()), (6, 0x2a, 0x06));
    assert_eq!(sense(&mut house, &mut host, test_unit_ready()), (2, 0x04, 0x0b));
    assert_eq!(change(&mut house, UnitChange::Access(AccessState::ActiveOptimized)), Ok(()));
    assert_eq!(sense(&mut house, &mut host, test_unit_ready()), (6, 0x2a, 0x06));
    good(&mut house, &mut host, write_blocks(0));
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let (world, disk) = world_with_disk(512);
    let mut house = build(&world, &Plan { shards: 2, owner: 1, ..Plan::new(disk) });
    assert_eq!(change(&mut house, UnitChange::Eject { force: true }), Err(ChangeRefusal::NotRemovable));
    assert_eq!(change(&mut house, UnitChange::Load), Err(ChangeRefusal::NotRemovable));
    house.tell(ShardId(0), FromControl::Change { request: 7, lun: LunId(1), what: UnitChange::Load });
    for _ in 0..100 {
        house.step();
    }
    assert_eq!(house.changed.last(), Some(&(7, Err(ChangeRefusal::Unknown))));
}
