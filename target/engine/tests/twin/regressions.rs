//! Bugs that lives on the twin have found, each made to happen on purpose.

use crate::basics::{initiator, login, pattern, portal, wait, world_with_disk};
use crate::house::{House, Plan};
use stampede_engine::messages::{FromControl, ShardId};
use stampede_sim::initiator::{Command, Done, Initiator, Report, Tag, Transfer, cdb};
use stampede_sim::{DiskConfig, SimConfig, SimRing, SimWorld};

pub(crate) fn build(world: &SimWorld, plan: &Plan) -> House<SimRing> {
    House::build(world, portal(), plan, &mut |ring| ring)
}

pub(crate) fn ready() -> Command {
    Command::new(0, cdb::test_unit_ready(), Transfer::None)
}

/// What of an initiator's commands has ended.
pub(crate) fn done(initiator: &mut Initiator) -> Vec<Done> {
    let reports = initiator.poll();
    assert_eq!(initiator.take_violations(), [], "the target broke the protocol");
    let done = |report| if let Report::Done(done) = report { Some(done) } else { None };
    reports.into_iter().filter_map(done).collect()
}

/// Steps the world until this command has ended; what ended meanwhile.
pub(crate) fn until(house: &mut House<SimRing>, initiator: &mut Initiator, last: Tag) -> Vec<Done> {
    let mut ended = Vec::new();
    for _ in 0..200_000 {
        ended.extend(done(initiator));
        if !initiator.outstanding().contains(&last) {
            return ended;
        }
        assert!(house.step(), "nothing will ever happen; {:?} is left", initiator.outstanding());
    }
    panic!("the initiator waits for ever");
}

/// Its initiator waited for an answer that could never come, and was never told.
#[test]
fn clearing_a_task_set_tells_a_session_whose_write_still_gathers_its_data() {
    for shard in [0, 1] {
        let (world, disk) = world_with_disk(512);
        let mut house = build(&world, &Plan { shards: 2, ..Plan::new(disk) });
        let mut clearer = initiator(&world, 1, |config| config.shard = Some(0));
        let mut writer = initiator(&world, 2, |config| {
            config.shard = Some(shard);
            config.initial_r2t = true;
            config.immediate_data = false;
        });
        login(&mut house, &mut clearer);
        login(&mut house, &mut writer);
        let write = Command::new(0, cdb::write_16(0, 8, false), Transfer::Out(pattern(4096, 1)));
        let lost = writer.command(write).unwrap();
        for _ in 0..100 {
            // It does not answer the R2T.
            house.step();
        }
        let tag = clearer.task_management(4, 0, None).unwrap();
        assert_eq!(wait(&mut house, &mut clearer), Report::TaskManagement { tag, response: 0 });
        let last = writer.command(ready()).unwrap();
        let ended = until(&mut house, &mut writer, last);
        assert_eq!(ended.len(), 1, "shard {shard}: {lost:?} is dead: {ended:?}");
        assert_eq!(ended[0].sense_code(), Some((6, 0x2f, 0)), "shard {shard}: {ended:?}");
    }
}

/// A command that was on its way to the unit's owner took the reset's unit attention, and was then not answered.
#[test]
fn a_command_that_a_reset_kills_on_its_way_does_not_spend_the_unit_attention() {
    for seed in 0..60 {
        let world = SimWorld::new(SimConfig::calm(seed));
        let disk = world.disk("disk", 4 << 20, DiskConfig::default());
        let owner = (seed % 2) as u16;
        let mut house = build(&world, &Plan { shards: 2, owner, ..Plan::new(disk) });
        let mut resetter = initiator(&world, 1, |config| config.shard = Some(1));
        let mut other = initiator(&world, 2, |config| config.shard = Some(0));
        login(&mut house, &mut resetter);
        login(&mut house, &mut other);
        for _ in 0..4 {
            other.command(ready()).unwrap();
        }
        let tag = resetter.task_management(5, 0, None).unwrap();
        let mut ended = Vec::new();
        while !resetter.poll().contains(&Report::TaskManagement { tag, response: 0 }) {
            ended.extend(done(&mut other));
            assert!(house.step(), "seed {seed}: nothing will ever happen");
        }
        let last = other.command(ready()).unwrap();
        ended.extend(until(&mut house, &mut other, last));
        let told = ended.iter().any(|done| done.sense_code() == Some((6, 0x29, 3)));
        assert!(told, "seed {seed}: nobody told of the reset: {ended:?}");
    }
}

/// Time passes, and this shard stands still; what the initiator hears meanwhile.
fn without(house: &mut House<SimRing>, shard: usize, initiator: &mut Initiator) -> Vec<Report> {
    let mut heard = Vec::new();
    for _ in 0..300 {
        house.control();
        (0..house.shards.len()).filter(|other| *other != shard).for_each(|other| house.turn(other));
        house.world.advance_by(20_000);
        heard.extend(initiator.poll());
    }
    heard
}

/// A reset went on at the unit's owner after the Logout Response of the session that asked for it, or after that session's
/// end, and what others sent then was killed: they waited for ever.
#[test]
fn a_session_ends_after_the_resets_that_it_asked_for() {
    for logs_out in [true, false] {
        let (world, disk) = world_with_disk(512);
        let mut house = build(&world, &Plan { shards: 2, owner: 1, ..Plan::new(disk) });
        let mut resetter = initiator(&world, 1, |config| config.shard = Some(0));
        let mut other = initiator(&world, 2, |config| config.shard = Some(1));
        login(&mut house, &mut resetter);
        login(&mut house, &mut other);
        resetter.task_management(5, 0, None).unwrap();
        if logs_out {
            resetter.logout().unwrap();
        } else {
            // The request arrives first.
            assert_eq!(without(&mut house, 1, &mut resetter), []);
            resetter.reset();
        }
        let heard = without(&mut house, 1, &mut resetter);
        assert!(!heard.contains(&Report::LoggedOut { response: 0 }), "{heard:?}");
        assert_eq!(house.ended, [], "the owner has not even heard of the reset");
        while house.ended.is_empty() {
            assert!(house.step(), "nothing will ever happen");
        }
        let last = other.command(ready()).unwrap();
        assert_eq!(until(&mut house, &mut other, last)[0].sense_code(), Some((6, 0x29, 3)));
    }
}

/// A reset was answered before every shard had killed, and killed what was sent after the answer.
#[test]
fn a_reset_is_answered_when_every_shard_has_killed() {
    let (world, disk) = world_with_disk(512);
    let mut house = build(&world, &Plan { shards: 2, owner: 1, ..Plan::new(disk) });
    let mut resetter = initiator(&world, 1, |config| config.shard = Some(1));
    let mut other = initiator(&world, 2, |config| config.shard = Some(0));
    login(&mut house, &mut resetter);
    login(&mut house, &mut other);
    let tag = resetter.task_management(5, 0, None).unwrap();
    assert_eq!(without(&mut house, 0, &mut resetter), []);
    assert_eq!(wait(&mut house, &mut resetter), Report::TaskManagement { tag, response: 0 });
    let last = other.command(ready()).unwrap();
    assert_eq!(until(&mut house, &mut other, last)[0].sense_code(), Some((6, 0x29, 3)));
}

/// What a full queue had no room for stayed with its sender until something else happened there.
#[test]
fn answers_that_a_full_queue_had_no_room_for_are_sent_once_it_has() {
    for seed in 0..30 {
        let world = SimWorld::new(SimConfig::calm(seed));
        let disk = world.disk("disk", 4 << 20, DiskConfig::default());
        let plan = Plan { shards: 2, owner: 1, clone: true, queue: 1, ..Plan::new(disk) };
        let mut house = build(&world, &plan);
        let mut host = initiator(&world, 9, |config| config.shard = Some(0));
        login(&mut house, &mut host);
        let mut ended = 0;
        let sent: Vec<Tag> = (0..20).map(|_| host.command(ready()).expect("room for a command")).collect();
        for tag in &sent {
            ended += until(&mut house, &mut host, *tag).len();
        }
        assert_eq!(ended, sent.len(), "seed {seed}");
    }
}

/// The answer to a reset says that no write of anybody lands any more.
#[test]
fn a_reset_is_answered_when_the_writes_of_others_are_over_too() {
    for seed in 0..20 {
        let world = SimWorld::new(SimConfig::calm(seed));
        let slow = DiskConfig { latency: 5_000_000..50_000_000, ..DiskConfig::default() };
        let disk = world.disk("disk", 4 << 20, slow);
        let owner = (seed % 2) as u16;
        let mut house = build(&world, &Plan { shards: 2, owner, ..Plan::new(disk) });
        let mut resetter = initiator(&world, 1, |config| config.shard = Some(1));
        let mut writer = initiator(&world, 2, |config| config.shard = Some(0));
        login(&mut house, &mut resetter);
        login(&mut house, &mut writer);
        for lba in 0..8 {
            let write = Command::new(0, cdb::write_16(lba * 8, 8, false), Transfer::Out(pattern(4096, 1)));
            writer.command(write).unwrap();
        }
        let idle = world.in_flight(owner);
        while world.in_flight(owner) < idle + 4 {
            assert!(house.step(), "seed {seed}: the writes do not begin");
        }
        let function = if seed % 4 < 2 { 5 } else { 4 };
        let tag = resetter.task_management(function, 0, None).unwrap();
        assert_eq!(wait(&mut house, &mut resetter), Report::TaskManagement { tag, response: 0 });
        let then = world.peek_disk(disk, 0, 8 * 4096);
        for _ in 0..1_000 {
            house.step();
        }
        assert!(world.peek_disk(disk, 0, 8 * 4096) == then, "seed {seed}: a write landed after the answer");
    }
}

/// The beginning of a block that was not asked to be written whole was written: beyond the command's lock.
#[test]
fn a_write_that_expects_no_whole_number_of_blocks_leaves_the_rest_alone() {
    let (world, disk) = world_with_disk(512);
    let mut house = build(&world, &Plan::new(disk));
    let mut initiator = initiator(&world, 1, |_| {});
    login(&mut house, &mut initiator);
    let mut run = |command: Command| {
        let tag = initiator.command(command).unwrap();
        until(&mut house, &mut initiator, tag).pop().unwrap()
    };
    let old = pattern(1024, 1);
    assert_eq!(run(Command::new(0, cdb::write_16(0, 2, false), Transfer::Out(old.clone()))).status, 0);
    let new = pattern(700, 2);
    assert_eq!(run(Command::new(0, cdb::write_16(0, 2, false), Transfer::Out(new.clone()))).status, 0);
    let read = run(Command::new(0, cdb::read_16(0, 2), Transfer::In(1024)));
    assert_eq!(read.data[..512], new[..512], "the first block is written");
    assert_eq!(read.data[512..], old[512..], "the second is as it was");
}

/// The shard that owned a unit flushed it when its own sessions were over: what others wrote after that was lost with
/// the power.
#[test]
fn a_drain_flushes_what_sessions_of_other_shards_wrote_last() {
    let (world, disk) = world_with_disk(512);
    let mut house = build(&world, &Plan { shards: 2, ..Plan::new(disk) });
    let mut initiator = initiator(&world, 1, |config| config.shard = Some(1));
    login(&mut house, &mut initiator);
    for shard in [0, 1] {
        house.tell(ShardId(shard), FromControl::Drain { deadline_ns: world.now() + 60_000_000_000 });
    }
    for _ in 0..20 {
        // It does not listen, so it does not hear that it is to log out.
        house.step();
    }
    let last = pattern(4096, 7);
    let tag =
        initiator.command(Command::new(0, cdb::write_16(0, 8, false), Transfer::Out(last.clone()))).unwrap();
    let ended = until(&mut house, &mut initiator, tag);
    assert!(ended.iter().any(|done| done.tag == tag && done.is_good()), "{ended:?}");
    for _ in 0..20_000 {
        if house.drained == 2 || !house.step() {
            break;
        }
        initiator.poll();
    }
    assert_eq!(house.drained, 2);
    assert!(world.peek_durable(disk, 0, 4096) == last);
}
