//! Sessions that move between shards, each case made to happen on purpose. The lives of `storm` do it at random.

use crate::basics::{initiator, login, pattern, read, run, wait, world_with_disk, write};
use crate::house::{House, Plan};
use stampede_engine::messages::{FromControl, LunId, MoveRefusal, ShardId};
use stampede_session::SessionId;
use stampede_sim::initiator::{Command, Done, Initiator, Report, SessionState, Tag, Transfer, cdb};
use stampede_sim::{DiskConfig, SimConfig, SimRing, SimWorld};

/// How far a move may have come when something else happens: every state in between is met.
const MOMENTS: u32 = 40;

/// A world whose timing differs with the seed, and two shards; the unit is owned by shard 0.
fn two_shards(seed: u64, change: impl FnOnce(&mut Plan)) -> (SimWorld, House<SimRing>) {
    let world = SimWorld::new(SimConfig::calm(seed));
    let disk = world.disk("disk", 4 << 20, DiskConfig::default());
    world.fill_disk(disk, 0, &pattern(4 << 20, 0));
    let mut plan = Plan { shards: 2, ..Plan::new(disk) };
    change(&mut plan);
    let house = crate::basics::house(&world, &plan);
    (world, house)
}

fn at(shard: u16) -> impl FnOnce(&mut stampede_sim::initiator::InitiatorConfig) {
    move |config| config.shard = Some(shard)
}

fn name(number: u8) -> String {
    format!("iqn.2026-11.example:host{number}")
}

fn session(house: &House<SimRing>, number: u8) -> (SessionId, ShardId) {
    house.session_of(&name(number)).expect("it has logged in")
}

/// Asks for a move to the other of two shards.
fn ask_move(house: &mut House<SimRing>, number: u8) -> (SessionId, ShardId) {
    let (session, from) = session(house, number);
    let to = ShardId(1 - from.0);
    house.tell(from, FromControl::Move { session, to });
    (session, to)
}

/// So many steps, but no waiting for time limits.
fn steps(house: &mut House<SimRing>, count: u32) {
    for _ in 0..count {
        let ready = |shard| house.world.is_ready(shard as u16);
        if house.world.next_event().is_some() || (0..house.shards.len()).any(ready) {
            house.step();
        }
    }
}

/// Steps, with an initiator that sends and receives, until something is so.
fn until(
    house: &mut House<SimRing>,
    host: &mut Initiator,
    what: &str,
    mut so: impl FnMut(&House<SimRing>, &mut Initiator) -> bool,
) {
    for _ in 0..200_000 {
        if so(house, host) {
            return;
        }
        let stepped = house.step();
        assert!(stepped || so(house, host), "{what}: nothing will ever happen");
    }
    panic!("{what}: never");
}

/// Steps until so many moves have ended, well or not.
fn until_moved(house: &mut House<SimRing>, ends: usize) {
    for _ in 0..200_000 {
        if house.moved.len() + house.stayed.len() >= ends {
            return;
        }
        assert!(house.step(), "the move never ends");
    }
    panic!("the move takes for ever");
}

/// Moves a session, while its initiator does nothing.
fn move_now(house: &mut House<SimRing>, number: u8) {
    let ends = house.moved.len() + house.stayed.len();
    let (session, to) = ask_move(house, number);
    until_moved(house, ends + 1);
    let last = house.moved.last().expect("a move");
    assert_eq!((last.0, last.2), (session, to), "{:?}", house.stayed);
}

fn ended(initiator: &mut Initiator) -> Vec<Done> {
    let reports = initiator.poll();
    assert_eq!(initiator.take_violations(), [], "the target broke the protocol");
    reports
        .into_iter()
        .filter_map(|report| if let Report::Done(done) = report { Some(done) } else { None })
        .collect()
}

fn ready() -> Command {
    Command::new(0, cdb::test_unit_ready(), Transfer::None)
}

fn write_of(lba: u64, bytes: Vec<u8>) -> Command {
    Command::new(0, cdb::write_16(lba, (bytes.len() / 512) as u32, false), Transfer::Out(bytes))
}

#[test]
fn a_login_is_handed_over_before_it_is_let_in() {
    for seed in 0..20 {
        let (world, mut house) = two_shards(seed, |plan| (plan.owner, plan.clone) = (1, true));
        house.hand_overs = 1000;
        let mut host = initiator(&world, 9, at(0));
        login(&mut house, &mut host);
        assert!(house.stayed.is_empty(), "{:?}", house.stayed);
        assert_eq!(house.moved.len(), 1);
        assert_eq!(session(&house, 9).1, ShardId(1));
        write(&mut house, &mut host, 3, &pattern(4096, 1));
        assert!(read(&mut house, &mut host, 3, 8) == pattern(4096, 1));
        assert_eq!(house.count(|counters| counters.forwarded), 0, "it lives where its unit is");
        assert_eq!(world.misuses(), Vec::<String>::new());
    }
}

#[test]
fn a_clone_moves_with_the_session_that_alone_uses_it() {
    for seed in 0..20 {
        let (world, mut house) = two_shards(seed, |plan| plan.clone = true);
        let mut host = initiator(&world, 9, at(0));
        login(&mut house, &mut host);
        write(&mut house, &mut host, 3, &pattern(8192, 1));
        let reserve = Command::new(0, reserve_6(), Transfer::None);
        assert!(run(&mut house, &mut host, reserve).is_good());
        move_now(&mut house, 9);
        assert_eq!(house.moved[0].3, [LunId(1)]);
        assert!(read(&mut house, &mut host, 3, 16) == pattern(8192, 1), "what it wrote came along");
        write(&mut house, &mut host, 7, &pattern(512, 2));
        assert_eq!(house.count(|counters| counters.forwarded), 0);
        // Its reservation came along too: another session is kept out.
        let mut other = initiator(&world, 8, at(0));
        login(&mut house, &mut other);
        assert_eq!(run(&mut house, &mut other, ready()).status, 0x18);
        // Now that two use it, it stays where it is.
        move_now(&mut house, 9);
        assert_eq!(house.moved[1].3, []);
        assert!(read(&mut house, &mut host, 7, 1) == pattern(512, 2));
        assert!(house.count(|counters| counters.forwarded) > 0);
        assert_eq!(world.misuses(), Vec::<String>::new());
    }
}

/// RESERVE(6) (SPC-2 7.21).
fn reserve_6() -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = 0x16;
    cdb
}

#[test]
fn a_disk_stays_with_its_owner_and_its_commands_are_forwarded() {
    let (world, mut house) = two_shards(1, |_| {});
    let mut host = initiator(&world, 9, at(0));
    login(&mut house, &mut host);
    write(&mut house, &mut host, 3, &pattern(4096, 1));
    assert_eq!(house.count(|counters| counters.forwarded), 0);
    move_now(&mut house, 9);
    assert!(read(&mut house, &mut host, 3, 8) == pattern(4096, 1));
    write(&mut house, &mut host, 5, &pattern(512, 2));
    assert_eq!(house.count(|counters| counters.forwarded), 2);
    move_now(&mut house, 9);
    assert!(read(&mut house, &mut host, 5, 1) == pattern(512, 2));
    assert_eq!(house.count(|counters| counters.forwarded), 2, "moved back, it is local again");
    assert_eq!(world.misuses(), Vec::<String>::new());
}

/// A thousand moves under an initiator that always has as many commands under way as it may, each of them a write that
/// a read right behind it must see: none is lost, repeated or reordered.
#[test]
fn a_thousand_moves_lose_repeat_and_reorder_nothing() {
    for (clone, digest) in [(true, false), (false, true)] {
        let (world, mut house) = two_shards(5, |plan| (plan.clone, plan.window) = (clone, 8));
        let mut host = initiator(&world, 9, |config| {
            config.shard = Some(0);
            config.queue_depth = 64;
            (config.header_digest, config.data_digest) = (digest, digest);
        });
        login(&mut house, &mut host);
        let mut expected: Vec<(Tag, Option<Vec<u8>>)> = Vec::new();
        let (mut sent, mut asked) = (0u64, 0);
        while house.moved.len() < 1000 {
            assert_eq!(house.stayed, []);
            if house.moved.len() == asked && sent >= asked as u64 * 5 {
                ask_move(&mut house, 9);
                asked += 1;
            }
            // ORDERED, so that their order shows: a write, and the read that sees it.
            while host.has_room() {
                let bytes = pattern(1024, (sent / 2 % 251) as u8);
                let is_read = sent % 2 == 1;
                let mut command = match is_read {
                    true => Command::new(0, cdb::read_16(10, 2), Transfer::In(1024)),
                    false => write_of(10, bytes.clone()),
                };
                command.attribute = 2;
                let tag = host.command(command).expect("room");
                expected.push((tag, is_read.then_some(bytes)));
                sent += 1;
            }
            house.step();
            for done in ended(&mut host) {
                let (tag, bytes) = expected.remove(0);
                assert_eq!(done.tag, tag, "answers come in order");
                assert!(done.is_good(), "{done:?}");
                assert!(bytes.is_none_or(|bytes| bytes == done.data), "a read sees the write before it");
            }
        }
        assert!(sent > 2000, "{sent} commands");
        assert_eq!(host.state(), SessionState::FullFeature);
        assert!(house.count(|counters| counters.leftover_bytes) > 0, "some came while it moved");
        assert_eq!(house.count(|counters| counters.forwarded) > 0, !clone);
        assert_eq!(world.misuses(), Vec::<String>::new());
    }
}

#[test]
fn half_a_pdu_moves_too() {
    // An immediate NOP-Out that wants no answer, with 8 bytes of data.
    let mut nop = vec![0x40, 0x80, 0, 0, 0, 0, 0, 8];
    nop.extend([0; 8]);
    nop.extend([0xff; 8]);
    nop.extend([0; 24]);
    nop.extend(b"12345678");
    for cut in 1..nop.len() {
        let (world, mut house) = two_shards(cut as u64, |plan| plan.clone = true);
        let mut host = initiator(&world, 9, at(0));
        login(&mut house, &mut host);
        host.send_raw(&nop[..cut]);
        steps(&mut house, 200);
        move_now(&mut house, 9);
        host.send_raw(&nop[cut..]);
        write(&mut house, &mut host, 3, &pattern(4096, 1));
        assert!(read(&mut house, &mut host, 3, 8) == pattern(4096, 1), "cut at {cut}");
    }
}

/// A command's data is owed: the move waits, then is given up, and the session goes on as if nothing had been.
#[test]
fn a_move_that_waits_too_long_is_given_up() {
    let (world, mut house) = two_shards(1, |plan| plan.clone = true);
    let mut host = initiator(&world, 9, |config| {
        config.shard = Some(0);
        (config.initial_r2t, config.immediate_data) = (true, false);
    });
    login(&mut house, &mut host);
    let tag = host.command(write_of(3, pattern(4096, 1))).unwrap();
    steps(&mut house, 100);
    let asked = world.now();
    let (session, _) = ask_move(&mut house, 9);
    // It does not answer the R2T.
    until_moved(&mut house, 1);
    assert_eq!(house.stayed, [(session, MoveRefusal::Busy)]);
    let waited = world.now() - asked;
    assert!((2_000_000_000..3_000_000_000).contains(&waited), "{waited} ns");
    assert!(matches!(wait(&mut house, &mut host), Report::Done(done) if done.tag == tag && done.is_good()));
    assert!(host.has_room(), "its window is open again");
    assert!(read(&mut house, &mut host, 3, 8) == pattern(4096, 1));
    move_now(&mut house, 9);
}

/// What it asked for is not taken: its socket cannot go.
#[test]
fn an_initiator_that_takes_no_answer_stays() {
    let (world, mut house) = two_shards(1, |plan| plan.clone = true);
    let mut host = initiator(&world, 9, at(0));
    login(&mut house, &mut host);
    for _ in 0..8 {
        host.command(Command::new(0, cdb::read_16(0, 1024), Transfer::In(1024 * 512))).expect("room");
    }
    steps(&mut house, 100);
    let (session, _) = ask_move(&mut house, 9);
    until_moved(&mut house, 1);
    assert_eq!(house.stayed, [(session, MoveRefusal::Busy)]);
    let mut done = 0;
    until(&mut house, &mut host, "its answers", |_, host| {
        done += ended(host).len();
        done == 8
    });
}

#[test]
fn a_shard_without_room_sends_the_session_back() {
    for seed in 0..20 {
        let (world, mut house) = two_shards(seed, |plan| (plan.clone, plan.connections) = (true, 1));
        let mut host = initiator(&world, 9, at(0));
        let mut other = initiator(&world, 8, at(1));
        login(&mut house, &mut host);
        login(&mut house, &mut other);
        other.logout();
        until(&mut house, &mut other, "logout", |house, other| {
            other.poll();
            other.state() == SessionState::Idle && house.sessions_len() == 1
        });
        let mut other = initiator(&world, 7, at(1));
        login(&mut house, &mut other);
        write(&mut house, &mut host, 3, &pattern(4096, 1));
        let (session, to) = ask_move(&mut house, 9);
        // What follows it to the other shard comes back too.
        steps(&mut house, (seed % 10) as u32 * 2);
        house.tell(to, FromControl::Report { request: 1 });
        until_moved(&mut house, 1);
        assert_eq!(house.stayed, [(session, MoveRefusal::NoRoom)]);
        assert!(read(&mut house, &mut host, 3, 8) == pattern(4096, 1));
        assert_eq!(world.misuses(), Vec::<String>::new());
    }
}

#[test]
fn what_cannot_move_is_refused_with_the_reason() {
    let (world, mut house) = two_shards(1, |_| {});
    let mut host = initiator(&world, 9, at(0));
    login(&mut house, &mut host);
    let (session, _) = session(&house, 9);
    let stranger = SessionId(12345);
    for (session, to) in [(stranger, 1), (session, 0), (session, 2), (session, 1), (session, 1)] {
        house.tell(ShardId(0), FromControl::Move { session, to: ShardId(to) });
    }
    until_moved(&mut house, 5);
    let expected = [
        (stranger, MoveRefusal::Unknown),
        (session, MoveRefusal::NoSuchShard),
        (session, MoveRefusal::NoSuchShard),
        (session, MoveRefusal::Underway),
    ];
    assert_eq!(house.stayed, expected);
    assert_eq!(house.moved.len(), 1);
}

/// The initiator is gone at every moment of a move: its session ends, and leaves nothing behind.
#[test]
fn an_initiator_that_dies_while_it_moves_ends_its_session() {
    for moment in 0..MOMENTS {
        for how in 0..3 {
            let (world, mut house) = two_shards(u64::from(moment), |plan| plan.clone = true);
            let mut host = initiator(&world, 9, at(0));
            login(&mut house, &mut host);
            write(&mut house, &mut host, 3, &pattern(4096, 1));
            let (session, _) = ask_move(&mut house, 9);
            steps(&mut house, moment);
            match how {
                0 => host.close(),
                1 => host.reset(),
                _ => {
                    let _ = host.logout();
                }
            }
            let what = format!("moment {moment}, {how}");
            until(&mut house, &mut host, &what, |house, host| {
                host.poll();
                house.sessions_len() == 0 && host.state() == SessionState::Idle
            });
            assert!(house.ended.iter().all(|(ended, _)| *ended == session));
            assert_eq!(
                house.moved.len() + house.stayed.len(),
                1,
                "moment {moment}, {how}: {:?}",
                house.stayed
            );
            // Its clone is where it is said to be.
            login(&mut house, &mut host);
            assert!(read(&mut house, &mut host, 3, 8) == pattern(4096, 1), "moment {moment}, {how}");
            assert_eq!(world.misuses(), Vec::<String>::new());
        }
    }
}

/// What the control thread says to the shard where it believes the session to be.
#[test]
fn messages_to_the_shard_that_a_session_left_follow_it() {
    for moment in 0..MOMENTS {
        let (world, mut house) = two_shards(u64::from(moment), |plan| plan.clone = true);
        let mut host = initiator(&world, 9, at(0));
        login(&mut house, &mut host);
        let (session, _) = ask_move(&mut house, 9);
        steps(&mut house, moment);
        let deadline_ns = world.now() + 1_000_000_000;
        house.tell(ShardId(0), FromControl::Probe { session, deadline_ns });
        until(&mut house, &mut host, &format!("moment {moment}: probe"), |house, host| {
            host.poll();
            house.probed == 1
        });
        assert_eq!(house.alive, 1, "moment {moment}");
        until_moved(&mut house, 1);
        house.tell(ShardId(0), FromControl::CloseSession { session });
        until(&mut house, &mut host, &format!("moment {moment}: its end"), |house, host| {
            host.poll();
            house.sessions_len() == 0
        });
    }
}

/// Whoever closes a session while it moves hears of its end, and the clone can be dropped at its last owner.
#[test]
fn a_session_that_is_closed_while_it_moves_ends_and_its_clone_can_be_dropped() {
    for moment in 0..MOMENTS {
        let (world, mut house) = two_shards(u64::from(moment), |plan| plan.clone = true);
        let mut host = initiator(&world, 9, at(0));
        login(&mut house, &mut host);
        write(&mut house, &mut host, 3, &pattern(4096, 1));
        ask_move(&mut house, 9);
        steps(&mut house, moment);
        house.reset_clone(ShardId(1));
        until(&mut house, &mut host, &format!("moment {moment}: reset"), |house, host| {
            host.poll();
            !house.is_resetting() && host.state() == SessionState::Idle
        });
        assert_eq!(house.arena.in_use(), 0, "moment {moment}");
        login(&mut house, &mut host);
        assert!(read(&mut house, &mut host, 3, 8) == pattern(4 << 20, 0)[3 * 512..][..4096]);
    }
}

/// Another session resets the unit at every moment of a move: who moves is told, and nobody waits for ever.
#[test]
fn a_reset_while_a_session_moves_reaches_it() {
    for moment in 0..MOMENTS {
        for owner in [0, 1] {
            let (world, mut house) = two_shards(u64::from(moment), |plan| plan.owner = owner);
            let mut host = initiator(&world, 9, at(0));
            let mut other = initiator(&world, 8, at(1));
            login(&mut house, &mut host);
            login(&mut house, &mut other);
            ask_move(&mut house, 9);
            steps(&mut house, moment);
            let tag = other.task_management(5, 0, None).unwrap();
            assert_eq!(wait(&mut house, &mut other), Report::TaskManagement { tag, response: 0 });
            let told = run(&mut house, &mut host, ready());
            assert_eq!(told.sense_code(), Some((6, 0x29, 3)), "moment {moment}, owner {owner}: {told:?}");
            assert!(run(&mut house, &mut host, ready()).is_good());
            until_moved(&mut house, 1);
        }
    }
}

/// Commands that are on their way while the unit is reset die like any others, or run after it.
#[test]
fn commands_that_meet_a_reset_while_their_session_moves_end_one_way_or_the_other() {
    for moment in 0..MOMENTS {
        let (world, mut house) = two_shards(u64::from(moment), |plan| plan.owner = (moment % 2) as u16);
        let mut host = initiator(&world, 9, at(0));
        let mut other = initiator(&world, 8, at(1));
        login(&mut house, &mut host);
        login(&mut house, &mut other);
        ask_move(&mut house, 9);
        let sent: Vec<Tag> = (0..6).map(|_| host.command(ready()).expect("room")).collect();
        steps(&mut house, moment);
        let tag = other.task_management(5, 0, None).unwrap();
        let mut answers = Vec::new();
        until(&mut house, &mut host, &format!("moment {moment}: reset"), |_, host| {
            answers.extend(ended(host));
            other.poll().contains(&Report::TaskManagement { tag, response: 0 })
        });
        // What the reset killed gets no answer; a later command is told of it, once.
        for _ in 0..2 {
            let last = host.command(ready()).unwrap();
            until(&mut house, &mut host, &format!("moment {moment}: {last:?}"), |_, host| {
                answers.extend(ended(host));
                !host.outstanding().contains(&last)
            });
        }
        let told = answers.iter().filter(|done| done.sense_code() == Some((6, 0x29, 3))).count();
        assert_eq!(told, 1, "moment {moment}: {answers:?}");
        assert!(answers.len() <= sent.len() + 2);
    }
}

/// All shards are drained at every moment of a move: the session is asked to log out where it is, and none is lost.
#[test]
fn a_drain_while_a_session_moves_loses_nobody() {
    for moment in 0..MOMENTS {
        for patient in [true, false] {
            let (world, mut house) = two_shards(u64::from(moment), |_| {});
            let mut host = initiator(&world, 9, at(0));
            login(&mut house, &mut host);
            write(&mut house, &mut host, 3, &pattern(4096, 1));
            ask_move(&mut house, 9);
            steps(&mut house, moment);
            let deadline_ns = world.now() + if patient { 3_000_000_000 } else { 0 };
            // One shard hears of it before the other.
            house.tell(ShardId((moment % 2) as u16), FromControl::Drain { deadline_ns });
            steps(&mut house, moment / 4);
            house.tell(ShardId((1 - moment % 2) as u16), FromControl::Drain { deadline_ns });
            let mut asked = false;
            until(&mut house, &mut host, &format!("moment {moment}: drain"), |house, host| {
                if host.poll().contains(&Report::Async { event: 1 }) {
                    asked = true;
                    host.logout();
                }
                house.drained == 2
            });
            assert!(asked || !patient, "moment {moment}: nobody asked it to log out");
            assert_eq!(house.sessions_len(), 0, "moment {moment}");
            assert_eq!(house.ended.len(), 1);
            assert_eq!(house.moved.len() + house.stayed.len(), 1);
            assert!(
                world.peek_durable(world.find_disk("disk").expect("made above"), 3 * 512, 4096)
                    == pattern(4096, 1)
            );
            assert_eq!(world.misuses(), Vec::<String>::new());
        }
    }
}

/// A second session comes to a clone just as that moves away: it finds the clone wherever it went.
#[test]
fn a_session_that_comes_to_a_clone_while_that_moves_finds_it() {
    for moment in 0..MOMENTS {
        let (world, mut house) = two_shards(u64::from(moment), |plan| plan.clone = true);
        let mut host = initiator(&world, 9, at(0));
        let mut other = initiator(&world, 8, at((moment % 2) as u16));
        login(&mut house, &mut host);
        write(&mut house, &mut host, 3, &pattern(4096, 1));
        assert!(other.connect());
        steps(&mut house, moment);
        ask_move(&mut house, 9);
        assert!(matches!(wait(&mut house, &mut other), Report::LoggedIn { .. }));
        let greeted = run(&mut house, &mut other, ready());
        assert_eq!(greeted.sense_code(), Some((6, 0x29, 0)), "moment {moment}: {greeted:?}");
        assert!(read(&mut house, &mut other, 3, 8) == pattern(4096, 1), "moment {moment}");
        write(&mut house, &mut other, 5, &pattern(512, 2));
        until_moved(&mut house, 1);
        assert!(read(&mut house, &mut host, 5, 1) == pattern(512, 2), "moment {moment}");
        assert_eq!(world.misuses(), Vec::<String>::new());
    }
}

/// Back and forth, faster than the news of it: every message finds the session.
#[test]
fn a_session_that_moves_on_at_once_is_found_by_what_follows_it() {
    let (world, disk) = world_with_disk(512);
    let plan = Plan { shards: 3, clone: true, ..Plan::new(disk) };
    let mut house = crate::basics::house(&world, &plan);
    let mut host = initiator(&world, 9, at(0));
    login(&mut house, &mut host);
    let (session, _) = session(&house, 9);
    for round in 0..60_u16 {
        // Always told to the first shard, which passes it on.
        let to = ShardId((round + 1) % 3);
        house.tell(ShardId(0), FromControl::Move { session, to });
        if round % 3 == 2 {
            let ends = usize::from(round) + 1;
            until_moved(&mut house, ends);
        }
    }
    let deadline_ns = world.now() + 1_000_000_000;
    house.tell(ShardId(0), FromControl::Probe { session, deadline_ns });
    until(&mut house, &mut host, "probe", |house, host| {
        host.poll();
        house.probed == 1
    });
    write(&mut house, &mut host, 3, &pattern(4096, 1));
    assert!(read(&mut house, &mut host, 3, 8) == pattern(4096, 1));
    assert!(house.moved.len() > 15, "{} moves", house.moved.len());
}
