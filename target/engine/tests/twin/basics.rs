//! One thing at a time, in a calm world.

use crate::house::{House, Plan, TARGET};
use stampede_sim::initiator::{Command, Done, Initiator, InitiatorConfig, Report, Transfer, cdb};
use stampede_sim::{DiskConfig, DiskId, SimConfig, SimRing, SimWorld};
use std::net::SocketAddr;

pub(crate) fn portal() -> SocketAddr {
    "192.0.2.1:3260".parse().unwrap()
}

pub(crate) fn initiator(
    world: &SimWorld,
    number: u8,
    change: impl FnOnce(&mut InitiatorConfig),
) -> Initiator {
    let address = SocketAddr::from(([192, 0, 2, number], 40_000));
    let name = format!("iqn.2026-11.example:host{number}");
    let mut config = InitiatorConfig::new(&name, TARGET, address, portal());
    change(&mut config);
    Initiator::new(world.clone(), config, u64::from(number))
}

/// Steps the world until the initiator reports something, and returns that.
pub(crate) fn wait(house: &mut House<SimRing>, initiator: &mut Initiator) -> Report {
    for _ in 0..200_000 {
        let mut reports = initiator.poll();
        assert_eq!(initiator.take_violations(), [], "the target broke the protocol");
        if !reports.is_empty() {
            assert_eq!(reports.len(), 1, "{reports:?}");
            return reports.remove(0);
        }
        assert!(house.step(), "nothing will ever happen");
    }
    panic!("the initiator waits for ever");
}

pub(crate) fn login(house: &mut House<SimRing>, initiator: &mut Initiator) {
    assert!(initiator.connect());
    let report = wait(house, initiator);
    assert!(matches!(report, Report::LoggedIn { .. }), "{report:?}");
    // The first command of a new nexus is told of the power-on.
    let done = run(house, initiator, Command::new(0, cdb::test_unit_ready(), Transfer::None));
    assert_eq!(done.sense_code().map(|code| code.0), Some(6), "{done:?}");
}

pub(crate) fn run(house: &mut House<SimRing>, initiator: &mut Initiator, command: Command) -> Done {
    let tag = initiator.command(command).expect("room for a command");
    match wait(house, initiator) {
        Report::Done(done) => {
            assert_eq!(done.tag, tag);
            done
        }
        report => panic!("{report:?}"),
    }
}

pub(crate) fn write(house: &mut House<SimRing>, initiator: &mut Initiator, lba: u64, bytes: &[u8]) {
    let blocks = (bytes.len() / 512) as u32;
    let command = Command::new(0, cdb::write_16(lba, blocks, false), Transfer::Out(bytes.to_vec()));
    let done = insist(house, initiator, &command);
    assert!(done.is_good(), "{done:?}");
}

/// Runs a command again for as long as the target is busy, as every initiator does.
fn insist(house: &mut House<SimRing>, initiator: &mut Initiator, command: &Command) -> Done {
    const BUSY: u8 = 0x08;
    const TASK_SET_FULL: u8 = 0x28;
    for _ in 0..50 {
        let done = run(house, initiator, command.clone());
        if !matches!(done.status, BUSY | TASK_SET_FULL) {
            return done;
        }
    }
    panic!("the target stays busy");
}

pub(crate) fn read(house: &mut House<SimRing>, initiator: &mut Initiator, lba: u64, blocks: u32) -> Vec<u8> {
    let command = Command::new(0, cdb::read_16(lba, blocks), Transfer::In(blocks * 512));
    let done = insist(house, initiator, &command);
    assert!(done.is_good(), "{done:?}");
    done.data
}

pub(crate) fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i / 512) as u8 ^ (i % 251) as u8 ^ seed).collect()
}

pub(crate) fn world_with_disk(alignment: u32) -> (SimWorld, DiskId) {
    let world = SimWorld::new(SimConfig::calm(1));
    let disk = world.disk("disk", 4 << 20, DiskConfig { alignment, ..DiskConfig::default() });
    world.fill_disk(disk, 0, &pattern(4 << 20, 0));
    (world, disk)
}

pub(crate) fn house(world: &SimWorld, plan: &Plan) -> House<SimRing> {
    House::build(world, portal(), plan, &mut |ring| ring)
}

/// What is written is read back, in pieces that are aligned to nothing, for every kind of medium and owner.
fn writes_and_reads(plan: &Plan, world: &SimWorld, change: fn(&mut InitiatorConfig)) {
    let mut house = house(world, plan);
    let mut host = initiator(world, 9, change);
    login(&mut house, &mut host);
    let mut model = pattern(4 << 20, 0);
    for (lba, blocks, seed) in
        [(0u64, 1usize, 1), (7, 9, 2), (100, 600, 3), (1000, 8, 4), (8191, 1, 5), (3, 2000, 6)]
    {
        let bytes = pattern(blocks * 512, seed);
        write(&mut house, &mut host, lba, &bytes);
        let at = lba as usize * 512;
        model[at..at + bytes.len()].copy_from_slice(&bytes);
        for (lba, blocks) in [(lba, blocks as u32), (lba.saturating_sub(7), 7), (0, 2048)] {
            let at = lba as usize * 512;
            let found = read(&mut house, &mut host, lba, blocks);
            assert!(
                found == model[at..at + blocks as usize * 512],
                "lba {lba} blocks {blocks} after write {seed}"
            );
        }
    }
    assert_eq!(world.misuses(), Vec::<String>::new());
}

#[test]
fn a_plain_disk_reads_back_what_was_written() {
    let (world, disk) = world_with_disk(512);
    writes_and_reads(&Plan::new(disk), &world, |_| {});
}

#[test]
fn a_disk_of_4096_byte_blocks_takes_512_byte_writes() {
    let (world, disk) = world_with_disk(4096);
    writes_and_reads(&Plan { alignment: 4096, ..Plan::new(disk) }, &world, |_| {});
}

#[test]
fn a_clone_reads_back_what_was_written_and_its_golden_stays_as_it_was() {
    let (world, disk) = world_with_disk(512);
    writes_and_reads(&Plan { clone: true, ..Plan::new(disk) }, &world, |_| {});
    assert!(world.peek_disk(disk, 0, 4 << 20) == pattern(4 << 20, 0));
}

#[test]
fn commands_reach_a_unit_that_another_shard_owns() {
    let (world, disk) = world_with_disk(512);
    let plan = Plan { shards: 2, owner: 1, clone: true, ..Plan::new(disk) };
    writes_and_reads(&plan, &world, |config| config.shard = Some(0));
}

#[test]
fn digests_and_small_segments_and_solicited_data_change_nothing() {
    let (world, disk) = world_with_disk(512);
    writes_and_reads(&Plan::new(disk), &world, |config| {
        config.header_digest = true;
        config.data_digest = true;
        config.max_recv_data_segment_length = 512;
        config.initial_r2t = true;
        config.immediate_data = false;
        config.max_burst_length = 8192;
        config.first_burst_length = 4096;
    });
}

#[test]
fn a_full_arena_fails_the_writer_alone_and_reads_go_on() {
    let (world, disk) = world_with_disk(512);
    let plan = Plan { clone: true, arena_slots: 4, ..Plan::new(disk) };
    let mut house = house(&world, &plan);
    let mut host = initiator(&world, 9, |_| {});
    login(&mut house, &mut host);
    write(&mut house, &mut host, 0, &pattern(8192, 1));
    let command = Command::new(0, cdb::write_16(64, 64, false), Transfer::Out(pattern(32768, 2)));
    let done = run(&mut house, &mut host, command);
    assert_eq!(done.sense_code(), Some((7, 0x27, 7)), "{done:?}");
    assert!(read(&mut house, &mut host, 0, 16) == pattern(8192, 1));
    assert!(read(&mut house, &mut host, 1000, 8) == pattern(4 << 20, 0)[512_000..512_000 + 4096]);
}

#[test]
fn unmap_and_write_same_read_as_they_should() {
    for clone in [false, true] {
        let (world, disk) = world_with_disk(512);
        let mut house = house(&world, &Plan { clone, ..Plan::new(disk) });
        let mut host = initiator(&world, 9, |_| {});
        login(&mut house, &mut host);
        write(&mut house, &mut host, 10, &pattern(4096, 1));
        let done = run(&mut house, &mut host, cdb::unmap(0, 12, 30));
        assert!(done.is_good(), "{done:?}");
        assert!(read(&mut house, &mut host, 12, 30) == vec![0; 30 * 512]);
        assert!(read(&mut house, &mut host, 10, 2) == pattern(4096, 1)[..1024]);
        let block = pattern(512, 7);
        let same = Command::new(0, cdb::write_same_16(100, 1000, false), Transfer::Out(block.clone()));
        let done = run(&mut house, &mut host, same);
        assert!(done.is_good(), "{done:?}");
        assert!(read(&mut house, &mut host, 100, 1000) == block.repeat(1000));
    }
}

#[test]
fn a_unit_reset_ends_the_tasks_of_all_and_tells_the_others() {
    let (world, disk) = world_with_disk(512);
    let mut house = house(&world, &Plan { shards: 2, ..Plan::new(disk) });
    let mut one = initiator(&world, 1, |config| config.shard = Some(0));
    let mut two = initiator(&world, 2, |config| config.shard = Some(1));
    login(&mut house, &mut one);
    login(&mut house, &mut two);
    for lba in 0..8 {
        let command = Command::new(0, cdb::write_16(lba * 8, 8, false), Transfer::Out(pattern(4096, 1)));
        two.command(command).unwrap();
    }
    let tag = one.task_management(5, 0, None).unwrap();
    assert_eq!(wait(&mut house, &mut one), Report::TaskManagement { tag, response: 0 });
    // The reset overtook some of them; what is left says so.
    let mut attention = false;
    for _ in 0..20_000 {
        attention |= two.poll().iter().any(|report| match report {
            Report::Done(done) => done.sense_code().is_some_and(|code| code.0 == 6 && code.1 == 0x29),
            _ => false,
        });
        if !house.step() {
            break;
        }
    }
    if !attention {
        let done = run(&mut house, &mut two, Command::new(0, cdb::test_unit_ready(), Transfer::None));
        assert_eq!(done.sense_code().map(|code| (code.0, code.1)), Some((6, 0x29)));
    }
}

#[test]
fn a_new_login_of_the_same_port_replaces_the_old_session() {
    let (world, disk) = world_with_disk(512);
    let mut house = house(&world, &Plan::new(disk));
    let mut host = initiator(&world, 9, |_| {});
    login(&mut house, &mut host);
    for lba in 0..8 {
        let command = Command::new(0, cdb::write_16(lba * 8, 8, false), Transfer::Out(pattern(4096, 1)));
        host.command(command).unwrap();
    }
    host.vanish();
    host.poll();
    login(&mut house, &mut host);
    assert_eq!(house.ended.len(), 1);
    assert!(read(&mut house, &mut host, 0, 8).len() == 4096);
}

#[test]
fn a_drain_flushes_and_reports() {
    use stampede_engine::messages::{FromControl, ShardId};
    let (world, disk) = world_with_disk(512);
    let mut house = house(&world, &Plan::new(disk));
    let mut host = initiator(&world, 9, |_| {});
    login(&mut house, &mut host);
    write(&mut house, &mut host, 0, &pattern(4096, 9));
    house.tell(ShardId(0), FromControl::Drain { deadline_ns: world.now() + 3_000_000_000 });
    for _ in 0..20_000 {
        if house.drained == 1 || !house.step() {
            break;
        }
        host.poll();
    }
    assert_eq!(house.drained, 1);
    assert!(world.peek_durable(disk, 0, 4096) == pattern(4096, 9));
}

/// Data of the first writes lies behind the commands of the last ones in the stream, so a target that stops
/// reading for want of memory waits for ever.
#[test]
fn more_writes_than_there_is_memory_for_all_end() {
    const TASK_SET_FULL: u8 = 0x28;
    let (world, disk) = world_with_disk(512);
    let mut house = house(&world, &Plan::new(disk));
    let mut host = initiator(&world, 9, |config| {
        config.initial_r2t = true;
        config.immediate_data = false;
        config.queue_depth = 32;
    });
    login(&mut house, &mut host);
    let blocks = 1024;
    for _ in 0..20 {
        let data = Transfer::Out(pattern(blocks as usize * 512, 1));
        host.command(Command::new(0, cdb::write_16(0, blocks, false), data)).expect("room");
    }
    let (mut good, mut full) = (0, 0);
    for _ in 0..200_000 {
        for report in host.poll() {
            match report {
                Report::Done(done) if done.is_good() => good += 1,
                Report::Done(done) if done.status == TASK_SET_FULL => full += 1,
                report => panic!("{report:?}"),
            }
        }
        if good + full == 20 {
            break;
        }
        assert!(house.step(), "{good} good, {full} task set full, and nothing will ever happen");
    }
    assert_eq!(good + full, 20);
    assert!(good >= 4 && full > 0, "{good} good, {full} task set full");
    assert_eq!(world.misuses(), Vec::<String>::new());
}

#[test]
fn a_client_that_never_takes_its_answers_does_not_hold_all_memory() {
    let (world, disk) = world_with_disk(512);
    let mut house = house(&world, &Plan::new(disk));
    let mut greedy = initiator(&world, 8, |_| {});
    let mut host = initiator(&world, 9, |_| {});
    login(&mut house, &mut greedy);
    login(&mut house, &mut host);
    for _ in 0..24 {
        let data = Transfer::In(2048 * 512);
        greedy.command(Command::new(0, cdb::read_16(0, 2048), data)).expect("room");
    }
    for _ in 0..50 {
        assert!(read(&mut house, &mut host, 1000, 256).len() == 256 * 512);
    }
    let mut done = 0;
    for _ in 0..400_000 {
        done += greedy.poll().len();
        if done == 24 {
            break;
        }
        assert!(house.step(), "{done} done, and nothing will ever happen");
    }
    assert_eq!(done, 24, "what it asked for is there once it takes it");
}

/// Runs a command again while the unit is busy.
fn persist(house: &mut House<SimRing>, initiator: &mut Initiator, command: &Command) -> Done {
    const BUSY: u8 = 0x08;
    for _ in 0..20 {
        let done = run(house, initiator, command.clone());
        if done.is_good() {
            return done;
        }
        assert!(done.status == BUSY, "{done:?}");
    }
    panic!("busy for ever");
}

/// Each may hold as much as one connection may; together they hold all there is.
fn others_go_on_beside(greedy: fn() -> Command, shards: u16, why: &str) {
    let (world, disk) = world_with_disk(512);
    let mut house = house(&world, &Plan { shards, ..Plan::new(disk) });
    let mut crowd: Vec<Initiator> = (20..26)
        .map(|number| {
            initiator(&world, number, |config| {
                config.initial_r2t = true;
                config.immediate_data = false;
                config.shard = Some(shards - 1);
            })
        })
        .collect();
    for host in &mut crowd {
        login(&mut house, host);
    }
    let mut host = initiator(&world, 9, |_| {});
    login(&mut house, &mut host);
    for one in &mut crowd {
        for _ in 0..16 {
            one.command(greedy()).expect("room");
        }
    }
    for lba in 0..20 {
        let bytes = pattern(512 * 1024, lba as u8);
        let out = Command::new(0, cdb::write_16(lba * 8, 1024, false), Transfer::Out(bytes.clone()));
        persist(&mut house, &mut host, &out);
        let back = Command::new(0, cdb::read_16(lba * 8, 1024), Transfer::In(1024 * 512));
        assert!(persist(&mut house, &mut host, &back).data == bytes, "{why}");
    }
    assert_eq!(world.misuses(), Vec::<String>::new());
}

#[test]
fn clients_that_never_take_their_answers_do_not_stop_the_others() {
    for shards in [1, 2] {
        let read = || Command::new(0, cdb::read_16(0, 1024), Transfer::In(1024 * 512));
        others_go_on_beside(read, shards, "takers");
    }
}

#[test]
fn clients_that_never_send_their_data_do_not_stop_the_others() {
    let write = || Command::new(0, cdb::write_16(4096, 1024, false), Transfer::Out(vec![7; 1024 * 512]));
    others_go_on_beside(write, 1, "senders");
}

#[test]
fn a_client_that_pings_and_never_listens_uses_up_nobody_elses_headers() {
    let (world, disk) = world_with_disk(512);
    let mut house = house(&world, &Plan::new(disk));
    let mut rude = initiator(&world, 8, |_| {});
    let mut host = initiator(&world, 9, |_| {});
    login(&mut house, &mut rude);
    login(&mut house, &mut host);
    let ping = vec![7; 8000];
    for lba in 0..100 {
        for _ in 0..20 {
            rude.nop(&ping);
        }
        let bytes = pattern(4096, lba as u8);
        write(&mut house, &mut host, lba * 8, &bytes);
        assert!(read(&mut house, &mut host, lba * 8, 8) == bytes);
    }
    assert_eq!(house.shards[0].counters().closed, 1, "the rude one is gone");
    assert_eq!(world.misuses(), Vec::<String>::new());
}
