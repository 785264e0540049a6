//! A unit's lasting state is in the store before its initiator is told, and the unit goes on meanwhile.

use crate::basics::{initiator, login, run, wait, world_with_disk};
use crate::fences::{
    CONFLICT, EXCLUSIVE_ACCESS, REGISTER_AND_IGNORE, RESERVE, good, keys, prout, write_blocks,
};
use crate::house::{House, Plan, StoreMood};
use crate::regressions::{build, done, ready, until};
use stampede_sim::initiator::{Command, Initiator, Report, Transfer};
use stampede_sim::{SimRing, SimWorld};

/// REGISTER AND IGNORE EXISTING KEY with APTPL.
fn register(key: u64) -> Command {
    prout(REGISTER_AND_IGNORE, 0, 0, key, true)
}

/// MODE SELECT(6) of the Control page with SWP, saved.
fn protect() -> Command {
    let mut cdb = [0; 16];
    cdb[..5].copy_from_slice(&[0x15, 0x11, 0, 0, 16]);
    let page = [0, 0, 0, 0, 0x0a, 10, 0, 0x10, 0x08, 0, 0, 0, 0xff, 0xff, 0, 0];
    Command::new(0, cdb, Transfer::Out(page.to_vec()))
}

fn steps(house: &mut House<SimRing>) {
    for _ in 0..500 {
        house.step();
    }
}

/// Two initiators that have logged in, the first on the shard that does not own the unit.
fn two(world: &SimWorld, house: &mut House<SimRing>) -> (Initiator, Initiator) {
    let mut one = initiator(world, 1, |config| config.shard = Some(0));
    let mut two = initiator(world, 2, |config| config.shard = Some(1));
    login(house, &mut one);
    login(house, &mut two);
    (one, two)
}

#[test]
fn nothing_is_answered_or_seen_before_it_is_stored() {
    let (world, disk) = world_with_disk(512);
    let mut house = build(&world, &Plan { shards: 2, owner: 1, ..Plan::new(disk) });
    let (mut one, mut two) = two(&world, &mut house);
    house.store = StoreMood::Waits;
    one.command(register(0xa)).unwrap();
    steps(&mut house);
    assert_eq!(one.poll(), [], "answered before it was stored");
    assert_eq!(house.saves.len(), 1);
    // The unit goes on, and does not know the key yet.
    good(&mut house, &mut two, write_blocks(0));
    assert_eq!(keys(&mut house, &mut two), []);
    // Another change waits for the first, and comes after it.
    let second = two.command(register(0xb)).unwrap();
    steps(&mut house);
    assert_eq!((two.poll(), house.saves.len()), (vec![], 1));
    house.store_saves();
    let Report::Done(first) = wait(&mut house, &mut one) else { panic!("no answer") };
    assert!(first.is_good(), "{first:?}");
    steps(&mut house);
    assert_eq!((two.poll(), house.saves.len()), (vec![], 1), "the second has to be stored too");
    house.store_saves();
    let ended = until(&mut house, &mut two, second);
    assert!(ended.len() == 1 && ended[0].is_good(), "{ended:?}");
    house.store = StoreMood::Works;
    assert_eq!(keys(&mut house, &mut one), [0xa, 0xb]);
}

#[test]
fn what_cannot_be_stored_fails_and_changes_nothing() {
    let (world, disk) = world_with_disk(512);
    let mut house = build(&world, &Plan { shards: 2, owner: 1, ..Plan::new(disk) });
    let (mut one, mut two) = two(&world, &mut house);
    good(&mut house, &mut one, register(0xa));
    let stored = house.stored.clone();
    house.store = StoreMood::Fails;
    assert_eq!(run(&mut house, &mut two, register(0xb)).sense_code(), Some((5, 0x55, 4)));
    let reserve = prout(RESERVE, EXCLUSIVE_ACCESS, 0xa, 0, false);
    assert_eq!(run(&mut house, &mut one, reserve.clone()).sense_code(), Some((4, 0x44, 0)));
    assert_eq!(run(&mut house, &mut one, protect()).sense_code(), Some((4, 0x44, 0)));
    assert_eq!(keys(&mut house, &mut one), [0xa]);
    good(&mut house, &mut two, write_blocks(0));
    assert_eq!(house.stored, stored);
    house.store = StoreMood::Works;
    good(&mut house, &mut one, reserve);
    assert_eq!(run(&mut house, &mut two, write_blocks(0)).status, CONFLICT);
}

/// The target dies at each step of a change; the next one has the change whole or not at all, and has it if it was
/// answered.
#[test]
fn a_target_that_dies_between_two_steps_has_all_or_nothing() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Dies {
        BeforeTheWrite,
        BeforeTheAnswer,
        AfterTheAnswer,
    }
    for dies in [Dies::BeforeTheWrite, Dies::BeforeTheAnswer, Dies::AfterTheAnswer] {
        let (world, disk) = world_with_disk(512);
        let plan = Plan { shards: 2, owner: 1, ..Plan::new(disk) };
        let mut house = build(&world, &plan);
        let (mut one, mut two) = two(&world, &mut house);
        good(&mut house, &mut one, register(0xa));
        good(&mut house, &mut two, register(0xb));
        house.store = StoreMood::Waits;
        one.command(prout(RESERVE, EXCLUSIVE_ACCESS, 0xa, 0, false)).unwrap();
        steps(&mut house);
        if dies != Dies::BeforeTheWrite {
            house.store_saves();
        }
        if dies == Dies::AfterTheAnswer {
            steps(&mut house);
        }
        let answered = done(&mut one).iter().any(|done| done.is_good());
        assert_eq!(answered, dies == Dies::AfterTheAnswer, "{dies:?}");
        let saved = house.stored.clone();
        drop(house);

        // The next life: another process on the same disk.
        let (world, disk) = world_with_disk(512);
        let mut house = build(&world, &Plan { saved, ..Plan { disk, ..plan } });
        let mut one = initiator(&world, 1, |config| config.shard = Some(1));
        let mut two = initiator(&world, 2, |config| config.shard = Some(0));
        login(&mut house, &mut one);
        login(&mut house, &mut two);
        assert_eq!(keys(&mut house, &mut two), [0xa, 0xb], "{dies:?}");
        let kept_out = run(&mut house, &mut two, write_blocks(0)).status == CONFLICT;
        assert_eq!(kept_out, dies != Dies::BeforeTheWrite, "{dies:?}");
        good(&mut house, &mut one, write_blocks(0));
    }
}

#[test]
fn a_reset_waits_for_what_is_being_stored_and_saved_pages_outlive_it() {
    let (world, disk) = world_with_disk(512);
    let mut house = build(&world, &Plan { shards: 2, owner: 1, ..Plan::new(disk) });
    let (mut one, mut two) = two(&world, &mut house);
    house.store = StoreMood::Waits;
    one.command(protect()).unwrap();
    steps(&mut house);
    one.command(register(0xa)).unwrap();
    let tag = two.task_management(5, 0, None).unwrap();
    steps(&mut house);
    assert_eq!(two.poll(), [], "the reset was answered while a change was on its way to the store");
    house.store = StoreMood::Works;
    assert_eq!(wait(&mut house, &mut two), Report::TaskManagement { tag, response: 0 });
    // Both commands are dead, and their session hears why; the first took effect all the same.
    let last = one.command(ready()).unwrap();
    let ended = until(&mut house, &mut one, last);
    assert_eq!(ended.iter().map(|done| done.sense_code()).collect::<Vec<_>>(), [Some((6, 0x29, 3))]);
    assert_eq!(keys(&mut house, &mut one), []);
    assert_eq!(run(&mut house, &mut one, write_blocks(0)).sense_code(), Some((7, 0x27, 2)));
}
