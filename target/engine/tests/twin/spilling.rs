//! Clones that spill to scratch space, one thing at a time.

use crate::basics::{house, initiator, login, pattern, read, run, world_with_disk, write};
use crate::house::{House, Plan};
use crate::sanitize::{block_erase, overwrite};
use stampede_engine::messages::{FromControl, ShardId};
use stampede_sim::initiator::{Command, Initiator, Transfer, cdb};
use stampede_sim::{DiskConfig, DiskId, FaultKind, FaultPlan, SimRing, SimWorld};

/// Slots of the arena: half of it is kept free.
const ARENA: u32 = 64;
/// Bytes of one write here.
const WRITE: usize = 8 * 4096;

fn spilling(blocks: u64) -> (SimWorld, DiskId, Plan) {
    let (world, disk) = world_with_disk(512);
    let config = DiskConfig { alignment: 4096, atom: 4096, ..DiskConfig::default() };
    let scratch = world.disk("scratch", blocks * 4096, config);
    let plan = Plan { clone: true, arena_slots: ARENA, scratch: Some(scratch), ..Plan::new(disk) };
    (world, scratch, plan)
}

/// Writes so many times, each with its own pattern, one behind the other.
fn fill(house: &mut House<SimRing>, host: &mut Initiator, writes: u64) {
    for index in 0..writes {
        write(house, host, index * 64, &pattern(WRITE, index as u8 + 1));
    }
}

fn check(house: &mut House<SimRing>, host: &mut Initiator, writes: u64) {
    for index in 0..writes {
        assert!(read(house, host, index * 64, 64) == pattern(WRITE, index as u8 + 1), "write {index}");
    }
}

fn try_write(house: &mut House<SimRing>, host: &mut Initiator, index: u64) -> Option<(u8, u8, u8)> {
    let data = Transfer::Out(pattern(WRITE, index as u8 + 1));
    run(house, host, Command::new(0, cdb::write_16(index * 64, 64, false), data)).sense_code()
}

#[test]
fn more_than_the_arena_holds_is_read_as_it_was_written() {
    let (world, _, plan) = spilling(512);
    let mut house = house(&world, &plan);
    let mut host = initiator(&world, 1, |_| {});
    login(&mut house, &mut host);
    fill(&mut house, &mut host, 40);
    check(&mut house, &mut host, 40);
    let scratch = house.scratch.clone().unwrap();
    assert!(scratch.used() + ARENA >= 40 * 8 && house.arena.in_use() <= ARENA);
    // A part of a spilled slot is written: its other sectors stay.
    write(&mut house, &mut host, 3, &pattern(1024, 99));
    let mut first = pattern(WRITE, 1);
    first[3 * 512..5 * 512].copy_from_slice(&pattern(1024, 99));
    assert!(read(&mut house, &mut host, 0, 64) == first);
    // What is written as a whole, or unmapped, gives its blocks back.
    let before = scratch.used();
    let unmap = run(&mut house, &mut host, cdb::unmap(0, 0, 40 * 64));
    assert!(unmap.is_good(), "{unmap:?}");
    while house.step() && scratch.used() > 0 {}
    assert!(before > 0 && scratch.used() == 0);
    assert!(read(&mut house, &mut host, 0, 64) == vec![0; WRITE]);
}

#[test]
fn without_room_anywhere_the_writer_fails_and_goes_on_when_there_is_some() {
    let (world, _, plan) = spilling(32);
    let mut house = house(&world, &plan);
    let mut host = initiator(&world, 1, |_| {});
    let mut other = initiator(&world, 2, |_| {});
    login(&mut house, &mut host);
    login(&mut house, &mut other);
    let full = (0..40).find(|index| try_write(&mut house, &mut host, *index).is_some()).unwrap();
    assert_eq!(try_write(&mut house, &mut host, full), Some((7, 0x27, 7)));
    assert!((ARENA as u64 + 32) / 8 <= full + 1, "all there is was used: {full} writes");
    check(&mut house, &mut other, full);
    assert!(run(&mut house, &mut other, cdb::unmap(0, 0, 4 * 64)).is_good());
    assert_eq!(try_write(&mut house, &mut host, full), None);
    assert!(read(&mut house, &mut other, full * 64, 64) == pattern(WRITE, full as u8 + 1));
}

#[test]
fn scratch_space_that_cannot_be_written_keeps_clones_in_memory_until_it_can() {
    let (world, scratch, plan) = spilling(512);
    let mut house = house(&world, &plan);
    let mut host = initiator(&world, 1, |_| {});
    login(&mut house, &mut host);
    let faults = world.set_faults(FaultPlan::none().with(FaultKind::WriteError, 1_000_000));
    let full = (0..40).find(|index| try_write(&mut house, &mut host, *index).is_some()).unwrap();
    assert_eq!(try_write(&mut house, &mut host, full), Some((7, 0x27, 7)));
    assert_eq!(full * 8, u64::from(ARENA), "all memory was used");
    check(&mut house, &mut host, full);
    assert!(house.count(|counters| counters.spill_failures) >= 3);
    assert_eq!(house.count(|counters| counters.slots_spilled), 0);
    world.set_faults(faults);
    world.mend_disk(scratch);
    // It tries again by itself, and then there is room.
    while house.count(|counters| counters.slots_spilled) == 0 {
        assert!(house.step());
    }
    for index in full..40 {
        assert_eq!(try_write(&mut house, &mut host, index), None, "write {index}");
    }
    check(&mut house, &mut host, 40);
}

#[test]
fn a_block_that_cannot_be_read_is_an_error_of_who_reads_it() {
    let (world, scratch, plan) = spilling(512);
    let mut house = house(&world, &plan);
    let mut host = initiator(&world, 1, |_| {});
    login(&mut house, &mut host);
    fill(&mut house, &mut host, 40);
    let bad: Vec<u64> = (0..512)
        .filter(|block| world.peek_disk(scratch, block * 4096, 4096) == pattern(WRITE, 3)[4096..8192])
        .collect();
    let [block] = bad[..] else { panic!("{bad:?}") };
    world.break_reads(scratch, block * 4096..block * 4096 + 512);
    let done = run(&mut house, &mut host, Command::new(0, cdb::read_16(2 * 64 + 9, 1), Transfer::In(512)));
    assert_eq!(done.sense_code(), Some((3, 0x11, 0)), "{done:?}");
    let sense = done.sense.clone();
    // All of the slot is read, and the command asked for this block of it only.
    let lba = 2 * 64 + 9_u64;
    assert!(
        sense.windows(8).any(|bytes| bytes == lba.to_be_bytes())
            || sense.windows(4).any(|bytes| bytes == (lba as u32).to_be_bytes()),
        "{sense:?}"
    );
    // To write a part of it needs it too; to write all of it does not, and heals it.
    let part = Command::new(0, cdb::write_16(2 * 64 + 9, 1, false), Transfer::Out(pattern(512, 50)));
    assert_eq!(run(&mut house, &mut host, part).sense_code().map(|code| code.0), Some(3));
    check(&mut house, &mut host, 2);
    write(&mut house, &mut host, 2 * 64, &pattern(WRITE, 3));
    check(&mut house, &mut host, 40);
}

#[test]
fn a_clone_that_is_dropped_gives_all_blocks_back_even_in_the_middle_of_a_spill() {
    for moment in 0..60 {
        let (world, _, plan) = spilling(512);
        let mut house = house(&world, &plan);
        let mut host = initiator(&world, 1, |_| {});
        login(&mut house, &mut host);
        fill(&mut house, &mut host, 12);
        let data = Transfer::Out(pattern(WRITE, 13));
        host.command(Command::new(0, cdb::write_16(12 * 64, 64, false), data)).unwrap();
        for _ in 0..moment {
            house.step();
        }
        house.reset_clone(ShardId(0));
        while house.is_resetting() {
            assert!(house.step());
        }
        for _ in 0..2_000 {
            house.step();
        }
        let scratch = house.scratch.clone().unwrap();
        assert_eq!((scratch.used(), house.arena.in_use()), (0, 0), "moment {moment}");
    }
}

#[test]
fn a_clone_moves_with_what_is_spilled_of_it() {
    let (world, _, plan) = spilling(512);
    let mut house = house(&world, &Plan { shards: 2, ..plan });
    let mut host = initiator(&world, 1, |config| config.shard = Some(0));
    login(&mut house, &mut host);
    fill(&mut house, &mut host, 30);
    let (session, from) = house.any_session().unwrap();
    let to = house.another_shard(from);
    house.tell(from, FromControl::Move { session, to });
    while house.moved.is_empty() {
        assert!(house.step());
        assert_eq!(house.stayed, []);
    }
    assert!(!house.moved[0].3.is_empty(), "the clone went along");
    check(&mut house, &mut host, 30);
    fill(&mut house, &mut host, 40);
    check(&mut house, &mut host, 40);
}

#[test]
fn a_sanitized_clone_leaves_nothing_in_scratch_space() {
    for pattern_too in [false, true] {
        let (world, scratch, plan) = spilling(512);
        let mut house = house(&world, &plan);
        let mut host = initiator(&world, 1, |_| {});
        login(&mut house, &mut host);
        fill(&mut house, &mut host, 40);
        let owned = house.scratch.clone().unwrap().used();
        assert!(owned > 200);
        let command = if pattern_too { overwrite(0, 1, &[0xab]) } else { block_erase(0) };
        let done = run(&mut house, &mut host, command);
        assert!(done.is_good(), "{done:?}");
        assert_eq!(house.scratch.clone().unwrap().used(), 0);
        // What never was used holds zeros.
        let byte = if pattern_too { 0xab } else { 0 };
        let left = world.peek_disk(scratch, 0, 512 * 4096);
        let wiped = left.chunks(4096).filter(|block| block.iter().all(|found| *found == byte)).count();
        assert!(wiped as u32 >= owned, "{wiped} of {owned} blocks");
        assert!(left.iter().all(|found| *found == byte || *found == 0));
        assert!(read(&mut house, &mut host, 0, 64).iter().all(|found| *found == byte));
    }
}

#[test]
fn a_sanitize_operation_that_fails_on_scratch_space_is_done_over() {
    let (world, scratch, plan) = spilling(512);
    let mut house = house(&world, &plan);
    let mut host = initiator(&world, 1, |_| {});
    login(&mut house, &mut host);
    fill(&mut house, &mut host, 40);
    let faults = world.set_faults(FaultPlan::none().with(FaultKind::WriteError, 1_000_000));
    let done = run(&mut house, &mut host, block_erase(0));
    assert_eq!(done.sense_code().map(|code| code.0), Some(3), "{done:?}");
    assert!(house.scratch.clone().unwrap().used() > 0, "they are still to be overwritten");
    world.set_faults(faults);
    let done = run(&mut house, &mut host, block_erase(0));
    assert!(done.is_good(), "{done:?}");
    assert_eq!(house.scratch.clone().unwrap().used(), 0);
    assert!(world.peek_disk(scratch, 0, 512 * 4096).iter().all(|byte| *byte == 0));
}

#[test]
fn writes_wait_for_a_slow_disk_and_are_not_refused() {
    let (world, _, plan) = spilling(512);
    let mut house = house(&world, &plan);
    let mut host = initiator(&world, 1, |_| {});
    login(&mut house, &mut host);
    world.set_faults(FaultPlan::none().with(FaultKind::SlowDisk, 1_000_000));
    for index in 0..40 {
        assert_eq!(try_write(&mut house, &mut host, index), None, "write {index}");
    }
    world.set_faults(FaultPlan::none());
    check(&mut house, &mut host, 40);
}
