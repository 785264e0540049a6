//! SANITIZE: the whole medium, whatever happens meanwhile, and nothing else meanwhile.

use crate::basics::{initiator, login, pattern, portal, read, run, world_with_disk, write};
use crate::house::{House, Plan, StoreMood};
use crate::regressions::{build, done, ready, until};
use stampede_engine::messages::{FromControl, ShardId};
use stampede_image::intent;
use stampede_sim::initiator::{Command, Done, Initiator, Report, Tag, Transfer, cdb};
use stampede_sim::{DiskConfig, DiskId, FaultKind, FaultPlan, SimConfig, SimRing, SimWorld};

const LEN: usize = 4 << 20;
const IN_PROGRESS: Option<(u8, u8, u8)> = Some((2, 4, 0x1b));
const FAILED: Option<(u8, u8, u8)> = Some((3, 0x31, 3));
const RESET: Option<(u8, u8, u8)> = Some((6, 0x29, 3));
const WARM_RESET: Option<(u8, u8, u8)> = Some((6, 0x29, 2));
const IMMED: u8 = 0x80;
const AUSE: u8 = 0x20;
/// 4 MiB in a second.
const SLOW: u64 = 4 << 20;

fn sanitize(flags_and_action: u8, list: &[u8]) -> Command {
    let mut cdb = [0; 16];
    let [high, low] = (list.len() as u16).to_be_bytes();
    cdb[..9].copy_from_slice(&[0x48, flags_and_action, 0, 0, 0, 0, 0, high, low]);
    let transfer = if list.is_empty() { Transfer::None } else { Transfer::Out(list.to_vec()) };
    Command::new(0, cdb, transfer)
}

pub(crate) fn overwrite(flags: u8, first: u8, pattern: &[u8]) -> Command {
    let [high, low] = (pattern.len() as u16).to_be_bytes();
    sanitize(flags | 1, &[&[first, 0, high, low], pattern].concat())
}

pub(crate) fn block_erase(flags: u8) -> Command {
    sanitize(flags | 2, &[])
}

/// What a medium overwritten with this pattern reads as.
fn overwritten(len: usize, pattern: &[u8]) -> Vec<u8> {
    let block: Vec<u8> = pattern.iter().copied().cycle().take(512).collect();
    block.repeat(len / 512)
}

fn steps(house: &mut House<SimRing>, steps: u32) {
    for _ in 0..steps {
        house.step();
    }
}

/// The answer to a task management function, and whether the task ended before it.
fn managed(house: &mut House<SimRing>, host: &mut Initiator) -> (Report, bool) {
    let mut aborted = false;
    for _ in 0..200_000 {
        for report in host.poll() {
            match report {
                Report::Aborted { .. } => aborted = true,
                report => return (report, aborted),
            }
        }
        house.step();
    }
    panic!("no answer");
}

/// Lets so much time pass.
fn pass(house: &mut House<SimRing>, milliseconds: u64) {
    let until = house.world.now() + milliseconds * 1_000_000;
    while house.world.now() < until && house.step() {}
}

/// The progress in sense data that says 02h/04h/1Bh.
fn progress(done: &Done) -> u16 {
    assert_eq!(done.sense_code(), IN_PROGRESS, "{done:?}");
    assert_eq!(done.sense[15], 0x80, "SKSV");
    u16::from_be_bytes([done.sense[16], done.sense[17]])
}

/// Runs TEST UNIT READY until the medium is to be had again; the progress that was told.
fn await_end(house: &mut House<SimRing>, host: &mut Initiator) -> Vec<u16> {
    let mut told = Vec::new();
    for _ in 0..100_000 {
        let done = run(house, host, ready());
        match done.sense_code() {
            None => return told,
            Some((6, ..)) => {}
            _ => told.push(progress(&done)),
        }
    }
    panic!("it never ends");
}

fn whole(house: &mut House<SimRing>, host: &mut Initiator) -> Vec<u8> {
    (0..4).flat_map(|quarter| read(house, host, quarter * 2048, 2048)).collect()
}

#[test]
fn overwrite_writes_the_pattern_in_every_block_and_tells_how_far_it_is() {
    for (alignment, owner) in [(512, 0), (4096, 1)] {
        let (world, disk) = world_with_disk(alignment);
        let plan = Plan { shards: 2, owner, alignment, ..Plan::new(disk) };
        let mut house = build(&world, &plan);
        let mut one = initiator(&world, 1, |config| config.shard = Some(0));
        let mut two = initiator(&world, 2, |config| config.shard = Some(1));
        login(&mut house, &mut one);
        login(&mut house, &mut two);
        let last = one.command(overwrite(0, 0x84, &[1, 2, 3])).unwrap();
        let told = await_end(&mut house, &mut two);
        assert!(told.windows(2).all(|pair| pair[0] <= pair[1]), "{told:?}");
        assert!(told.len() > 10 && told.last().is_some_and(|last| *last > 0x8000), "{told:?}");
        assert!(until(&mut house, &mut one, last)[0].is_good());
        assert!(world.peek_durable(disk, 0, LEN) == overwritten(LEN, &[1, 2, 3]));
        assert!(whole(&mut house, &mut one) == overwritten(LEN, &[1, 2, 3]));
        write(&mut house, &mut one, 5, &pattern(512, 9));
        assert!(read(&mut house, &mut two, 5, 1) == pattern(512, 9));
        assert_eq!((house.stored.clone(), world.misuses()), (vec![], vec![]));
    }
}

/// What atomic writes left in their journal goes too, and only then is the end told.
#[test]
fn the_journal_of_atomic_writes_is_overwritten_too() {
    let (world, disk) = world_with_disk(512);
    let config = DiskConfig { alignment: 4096, ..DiskConfig::default() };
    let journal = world.disk("journal", intent::JOURNAL, config);
    let secret = pattern(intent::JOURNAL as usize, 9);
    world.fill_disk(journal, 0, &secret);
    let mut house = build(&world, &Plan { journal: Some(journal), ..Plan::new(disk) });
    let mut host = initiator(&world, 1, |_| {});
    login(&mut house, &mut host);
    assert!(run(&mut house, &mut host, overwrite(0, 1, &[0xcd])).is_good());
    let left = world.peek_durable(journal, 0, intent::JOURNAL as usize);
    assert!(left.iter().all(|byte| *byte == 0), "zeros, and durably");
    assert!(world.peek_durable(disk, 0, LEN) == overwritten(LEN, &[0xcd]));
    // Where that fails the unit is not sanitized.
    world.break_writes(journal, 0..4096);
    let failed = run(&mut house, &mut host, overwrite(0, 1, &[0xab]));
    assert_eq!(failed.sense_code(), FAILED);
}

#[test]
fn block_erase_leaves_zeros() {
    let (world, disk) = world_with_disk(512);
    let mut house = build(&world, &Plan { shards: 2, owner: 1, ..Plan::new(disk) });
    let mut host = initiator(&world, 1, |config| config.shard = Some(0));
    login(&mut house, &mut host);
    assert!(run(&mut house, &mut host, block_erase(0)).is_good());
    assert!(world.peek_durable(disk, 0, LEN).iter().all(|byte| *byte == 0));
    assert!(whole(&mut house, &mut host).iter().all(|byte| *byte == 0));
}

#[test]
fn a_sanitized_clone_shows_neither_what_was_written_nor_its_golden() {
    for wanted in [vec![0], vec![7, 8, 9]] {
        let (world, disk) = world_with_disk(512);
        let plan = Plan { clone: true, shards: 2, owner: 1, ..Plan::new(disk) };
        let mut house = build(&world, &plan);
        let mut host = initiator(&world, 1, |config| config.shard = Some(0));
        login(&mut house, &mut host);
        write(&mut house, &mut host, 3, &pattern(300 * 512, 9));
        write(&mut house, &mut host, 4000, &pattern(513 * 512, 8));
        let unmap = cdb::unmap(0, 100, 50);
        assert!(run(&mut house, &mut host, unmap).is_good());
        let command = if wanted == [0] { block_erase(0) } else { overwrite(0, 2, &wanted) };
        assert!(run(&mut house, &mut host, command).is_good());
        assert!(whole(&mut house, &mut host) == overwritten(LEN, &wanted));
        // The pattern is one slot, and zeros are none.
        assert_eq!(house.arena.in_use(), u32::from(wanted != [0]));
        write(&mut house, &mut host, 7, &pattern(3 * 512, 1));
        let mut model = overwritten(LEN, &wanted);
        model[7 * 512..10 * 512].copy_from_slice(&pattern(3 * 512, 1));
        assert!(whole(&mut house, &mut host) == model);
        assert!(world.peek_disk(disk, 0, LEN) == pattern(LEN, 0), "the golden stays as it is");
        // Once more, now over the pattern.
        assert!(run(&mut house, &mut host, block_erase(IMMED)).is_good());
        await_end(&mut house, &mut host);
        assert!(whole(&mut house, &mut host).iter().all(|byte| *byte == 0));
    }
}

/// What was under way when it began is done first, and lands before the pattern.
#[test]
fn commands_under_way_end_first() {
    for seed in 0..20 {
        let world = SimWorld::new(SimConfig::calm(seed));
        let disk = world.disk("disk", LEN as u64, DiskConfig::default());
        let mut house = build(&world, &Plan { shards: 2, owner: 1, ..Plan::new(disk) });
        let mut one = initiator(&world, 1, |config| config.shard = Some(0));
        let mut two = initiator(&world, 2, |config| config.shard = Some(1));
        login(&mut house, &mut one);
        login(&mut house, &mut two);
        let write =
            |lba: u64| Command::new(0, cdb::write_16(lba, 200, false), Transfer::Out(pattern(200 * 512, 7)));
        let tags: Vec<Tag> = (0..8).map(|at| two.command(write(at * 1000)).unwrap()).collect();
        steps(&mut house, 3 * seed as u32);
        let last = one.command(overwrite(0, 1, &[0xee])).unwrap();
        let ended = until(&mut house, &mut one, last);
        assert!(ended[0].is_good(), "{ended:?}");
        let mut others = done(&mut two);
        for tag in tags {
            if two.outstanding().contains(&tag) {
                others.extend(until(&mut house, &mut two, tag));
            }
        }
        // A write is done before, or refused, or came when all was over.
        let found = world.peek_disk(disk, 0, LEN);
        for done in others {
            assert!(done.is_good() || done.sense_code() == IN_PROGRESS, "{done:?}");
        }
        for (block, bytes) in found.chunks(512).enumerate() {
            let old = bytes.iter().any(|byte| *byte != 0xee);
            let whole_write =
                block % 1000 < 200 && bytes == &pattern(200 * 512, 7)[block % 1000 * 512..][..512];
            assert!(!old || whole_write, "block {block} with seed {seed}");
        }
    }
}

#[test]
fn no_task_management_function_and_no_end_of_a_session_ends_it() {
    // ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET, TARGET WARM RESET.
    for function in [1, 2, 4, 5, 6] {
        for immediate in [0, IMMED] {
            let (world, disk) = world_with_disk(512);
            let plan = Plan { shards: 2, owner: 1, sanitize_bytes_s: SLOW, ..Plan::new(disk) };
            let mut house = build(&world, &plan);
            let mut one = initiator(&world, 1, |config| config.shard = Some(0));
            let mut two = initiator(&world, 2, |config| config.shard = Some(1));
            login(&mut house, &mut one);
            login(&mut house, &mut two);
            let task = one.command(overwrite(immediate, 1, &[0xcd])).unwrap();
            if immediate != 0 {
                assert!(until(&mut house, &mut one, task)[0].is_good());
            } else {
                pass(&mut house, 20);
            }
            progress(&run(&mut house, &mut two, ready()));
            let referenced = (function == 1 && immediate == 0).then_some(task);
            if function != 1 || immediate == 0 {
                let before = world.now();
                let tag = one.task_management(function, 0, referenced).unwrap();
                assert_eq!(
                    managed(&mut house, &mut one),
                    (Report::TaskManagement { tag, response: 0 }, immediate == 0)
                );
                assert!(world.now() - before < 100_000_000, "answered when all was over");
            }
            let told = run(&mut house, &mut two, ready());
            if matches!(function, 5 | 6) {
                assert_eq!(told.sense_code(), if function == 5 { RESET } else { WARM_RESET });
                progress(&run(&mut house, &mut two, ready()));
            } else {
                progress(&told);
            }
            // Whoever asked for it is gone.
            one.close();
            pass(&mut house, 20);
            progress(&run(&mut house, &mut two, ready()));
            let mut three = initiator(&world, 3, |config| config.shard = Some(0));
            login(&mut house, &mut three);
            let end = world.now();
            await_end(&mut house, &mut three);
            assert!(world.now() > end + 500_000_000);
            assert!(world.peek_durable(disk, 0, LEN) == overwritten(LEN, &[0xcd]));
            assert_eq!(world.misuses(), Vec::<String>::new());
        }
    }
}

/// The command is given up while its begin is on its way to the store: nobody waits for the end then.
#[test]
fn a_command_given_up_before_it_began_is_answered_at_once() {
    for function in [1, 5] {
        let (world, disk) = world_with_disk(512);
        let plan = Plan { shards: 2, owner: 1, sanitize_bytes_s: SLOW, ..Plan::new(disk) };
        let mut house = build(&world, &plan);
        let mut host = initiator(&world, 1, |config| config.shard = Some(0));
        login(&mut house, &mut host);
        house.store = StoreMood::Waits;
        let task = host.command(overwrite(0, 1, &[0xcd])).unwrap();
        pass(&mut house, 5);
        assert_eq!(house.saves.len(), 1);
        let tag = host.task_management(function, 0, (function == 1).then_some(task)).unwrap();
        pass(&mut house, 5);
        let before = world.now();
        house.store = StoreMood::Works;
        assert_eq!(managed(&mut house, &mut host), (Report::TaskManagement { tag, response: 0 }, true));
        assert!(world.now() - before < 100_000_000, "function {function} was answered when all was over");
        await_end(&mut house, &mut host);
        assert!(world.peek_durable(disk, 0, LEN) == overwritten(LEN, &[0xcd]));
    }
}

#[test]
fn ordered_commands_hear_what_is_going_on_and_do_not_wait_for_its_end() {
    let (world, disk) = world_with_disk(512);
    let plan = Plan { sanitize_bytes_s: SLOW, ..Plan::new(disk) };
    let mut house = build(&world, &plan);
    let mut host = initiator(&world, 1, |_| {});
    login(&mut house, &mut host);
    let ordered = |command: Command| Command { attribute: 2, ..command };
    host.command(ordered(overwrite(0, 1, &[1]))).unwrap();
    let probe = host.command(ordered(ready())).unwrap();
    let ended = until(&mut house, &mut host, probe);
    assert_eq!(ended.len(), 1);
    progress(&ended[0]);
}

#[test]
fn what_fails_stays_out_of_reach_until_it_succeeds_or_is_let_go() {
    let (world, disk) = world_with_disk(512);
    let mut house = build(&world, &Plan { shards: 2, owner: 1, ..Plan::new(disk) });
    let mut host = initiator(&world, 1, |config| config.shard = Some(0));
    login(&mut house, &mut host);
    for unrestricted in [0, AUSE] {
        world.break_writes(disk, 1 << 20..(1 << 20) + 512);
        let failed = run(&mut house, &mut host, overwrite(unrestricted, 1, &[9]));
        assert_eq!(failed.sense_code(), FAILED);
        assert!(!house.stored.is_empty(), "the store knows");
        assert_eq!(run(&mut house, &mut host, ready()).sense_code(), FAILED);
        let read = Command::new(0, cdb::read_16(0, 1), Transfer::In(512));
        assert_eq!(run(&mut house, &mut host, read).sense_code(), FAILED);
        let exit = run(&mut house, &mut host, sanitize(0x1f, &[]));
        assert_eq!(exit.is_good(), unrestricted != 0, "{exit:?}");
        world.mend_disk(disk);
        if unrestricted == 0 {
            assert!(run(&mut house, &mut host, overwrite(0, 1, &[9])).is_good());
        }
        assert!(run(&mut house, &mut host, ready()).is_good());
        assert_eq!(house.stored, []);
    }
    // An end that cannot be stored is none: the next life would begin again.
    house.store = StoreMood::Waits;
    let last = host.command(block_erase(AUSE)).unwrap();
    pass(&mut house, 5);
    house.store_saves();
    pass(&mut house, 100);
    house.store = StoreMood::Fails;
    let ended = until(&mut house, &mut host, last);
    assert_eq!(ended[0].sense_code(), FAILED);
    house.store = StoreMood::Works;
    assert!(run(&mut house, &mut host, sanitize(0x1f, &[])).is_good());
    assert!(run(&mut house, &mut host, ready()).is_good());
}

/// A target that is told to stop does not wait for it, and the next one begins it anew.
#[test]
fn a_drain_does_not_wait_for_it() {
    let (world, disk) = world_with_disk(512);
    let plan = Plan { sanitize_bytes_s: SLOW, ..Plan::new(disk) };
    let mut house = build(&world, &plan);
    let mut host = initiator(&world, 1, |_| {});
    login(&mut house, &mut host);
    host.command(overwrite(0, 1, &[5])).unwrap();
    pass(&mut house, 20);
    let deadline_ns = world.now() + 100_000_000;
    house.tell(ShardId(0), FromControl::Drain { deadline_ns });
    for _ in 0..20_000 {
        if house.drained > 0 {
            break;
        }
        assert!(world.now() < 500_000_000, "it waits for the end");
        house.step();
    }
    assert_eq!(house.drained, 1);
    let saved = house.stored.clone();
    assert!(!saved.is_empty());
    world.kill();
    drop(house);
    let mut house = build(&world, &Plan { saved, sanitize_bytes_s: 0, ..plan });
    let mut host = initiator(&world, 2, |_| {});
    login(&mut house, &mut host);
    await_end(&mut house, &mut host);
    assert!(world.peek_durable(disk, 0, LEN) == overwritten(LEN, &[5]));
}

/// Killed and powered off at any moment, with a disk that is slow and writes in pieces: once the command was stored, the
/// medium ends up as it was ordered, and until then no initiator reads anything.
#[test]
fn whatever_ends_the_target_the_next_one_ends_the_work() {
    let mut cut_off = 0;
    for seed in 0..150 {
        let config = SimConfig::calm(seed).with_faults(
            FaultPlan::none().with(FaultKind::ShortWrite, 100_000).with(FaultKind::SlowDisk, 10_000),
        );
        let world = SimWorld::new(config);
        let mut rng = world.fork_rng(99);
        let alignment = if rng.bool() { 512 } else { 4096 };
        let disk: DiskId = world.disk("disk", 1 << 20, DiskConfig { alignment, ..DiskConfig::default() });
        world.fill_disk(disk, 0, &pattern(1 << 20, 0));
        let wanted: Vec<u8> = (0..rng.usize(1..600).min(512)).map(|_| rng.u8(1..)).collect();
        let passes = rng.u8(1..4);
        let plan = Plan { shards: 2, owner: 1, alignment, sanitize_bytes_s: 64 << 20, ..Plan::new(disk) };
        let mut house = House::build(&world, portal(), &plan, &mut |ring| ring);
        let mut host = initiator(&world, 1, |config| config.shard = Some(0));
        login(&mut house, &mut host);
        let erases = rng.u8(..4) == 0;
        let command = if erases { block_erase(0) } else { overwrite(0, passes | 0x80, &wanted) };
        host.command(command).unwrap();
        pass(&mut house, rng.u64(..20));
        let mut next_host = 2;
        for _ in 0..rng.u32(1..4) {
            let saved = house.stored.clone();
            cut_off += u32::from(!saved.is_empty());
            if rng.bool() {
                world.kill()
            } else {
                world.crash()
            }
            drop(house);
            house = House::build(&world, portal(), &Plan { saved, ..plan.clone() }, &mut |ring| ring);
            if rng.bool() {
                let mut host = initiator(&world, next_host, |_| {});
                next_host += 1;
                login(&mut house, &mut host);
                let done = run(&mut house, &mut host, ready());
                assert!(done.is_good() || done.sense_code() == IN_PROGRESS, "{done:?}");
            }
            pass(&mut house, rng.u64(..20));
        }
        let mut host = initiator(&world, next_host, |_| {});
        login(&mut house, &mut host);
        await_end(&mut house, &mut host);
        let found = world.peek_durable(disk, 0, 1 << 20);
        let all = if erases { vec![0; 1 << 20] } else { overwritten(1 << 20, &wanted) };
        assert!(found == all || found == pattern(1 << 20, 0), "seed {seed}: part of it was done");
        assert_eq!(world.misuses(), Vec::<String>::new());
    }
    assert!(cut_off > 50, "only {cut_off} were cut off");
}
