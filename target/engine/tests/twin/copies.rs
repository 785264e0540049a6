//! Third-party copies: between units of one shard and of two, and ended by everything that can end a task.

use crate::basics::{house, initiator, login, pattern, read, run, wait, world_with_disk, write};
use crate::house::{House, Plan};
use stampede_engine::messages::{LunAddress, LunId, ShardId};
use stampede_engine::setup::DiskSetup;
use stampede_image::align::Alignment;
use stampede_scsi::{DeviceConfig, Identity, SavedState};
use stampede_sim::initiator::{Command, Done, Initiator, Report, Tag, Transfer, cdb};
use stampede_sim::{DiskConfig, SimRing, SimWorld};

const BLOCKS: u32 = 8192;

fn naa(unit: u8) -> [u8; 16] {
    let mut naa = [0; 16];
    (naa[0], naa[15]) = (0x60, unit);
    naa
}

/// LUN 0 of the plan, and LUN 1: a disk that another shard may own.
fn two_units(plan: impl FnOnce(&mut Plan), other_owner: u16) -> (SimWorld, House<SimRing>) {
    let (world, disk) = world_with_disk(512);
    let other =
        world.disk("other", u64::from(BLOCKS) * 512, DiskConfig { alignment: 4096, ..DiskConfig::default() });
    world.fill_disk(other, 0, &pattern(4 << 20, 99));
    let mut whole = Plan::new(disk);
    plan(&mut whole);
    let mut house = house(&world, &whole);
    let shard = &mut house.shards[usize::from(other_owner)];
    let identity = Identity { naa: naa(2), ..Identity::default() };
    let disk = DiskSetup {
        cipher: None,
        lun: LunId(50),
        file: shard.ring_mut().open(other),
        alignment: Alignment { memory: 4096, offset: 4096 },
        in_memory: false,
        device: DeviceConfig::new(identity, BLOCKS.into()),
        saved: SavedState::default(),
        journal: None,
    };
    shard.add_disk(disk);
    let owner = ShardId(other_owner);
    let (is_clone, in_memory) = (false, false);
    house.luns.0.push((1, LunAddress { lun: LunId(50), owner, block_size: 512, is_clone, in_memory }));
    (world, house)
}

fn identification(unit: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    (bytes[0], bytes[4], bytes[5], bytes[7]) = (0xE4, 1, 3, 16);
    bytes[8..24].copy_from_slice(&naa(unit));
    bytes[30] = 2;
    bytes
}

/// From unit, to unit, blocks, first block there and here.
type Segment = (u8, u8, u16, u64, u64);

/// EXTENDED COPY(LID1) among LUN 0 (descriptor 0) and LUN 1 (descriptor 1).
fn copying(lun: u16, id: u8, segments: &[Segment]) -> Command {
    let mut list = vec![id, 0, 0, 64, 0, 0, 0, 0];
    list.extend_from_slice(&(28 * segments.len() as u32).to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    list.extend_from_slice(&identification(0));
    list.extend_from_slice(&identification(2));
    for (from, to, count, from_lba, to_lba) in segments {
        list.extend_from_slice(&[2, 0, 0, 24, 0, *from, 0, *to, 0, 0]);
        list.extend_from_slice(&count.to_be_bytes());
        list.extend_from_slice(&from_lba.to_be_bytes());
        list.extend_from_slice(&to_lba.to_be_bytes());
    }
    out(lun, 0x00, 0, list)
}

fn out(lun: u16, action: u8, id: u8, list: Vec<u8>) -> Command {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[9]) = (0x83, action, id);
    cdb[10..14].copy_from_slice(&(list.len() as u32).to_be_bytes());
    Command::new(lun, cdb, Transfer::Out(list))
}

fn receive(lun: u16, action: u8, id: u8) -> Command {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[12]) = (0x84, action, 0x10);
    cdb[if action < 5 { 2 } else { 5 }] = id;
    Command::new(lun, cdb, Transfer::In(4096))
}

fn on(lun: u16, command: Command) -> Command {
    Command { lun, ..command }
}

fn read_other(house: &mut House<SimRing>, host: &mut Initiator, lba: u64, blocks: u32) -> Vec<u8> {
    let command = on(1, Command::new(1, cdb::read_16(lba, blocks), Transfer::In(blocks * 512)));
    let done = run(house, host, command);
    assert!(done.is_good(), "{done:?}");
    done.data
}

fn ready(house: &mut House<SimRing>, host: &mut Initiator) {
    login(house, host);
    let done = run(house, host, on(1, Command::new(1, cdb::test_unit_ready(), Transfer::None)));
    assert_eq!(done.sense_code().map(|code| code.0), Some(6), "{done:?}");
}

/// Everything that there is of where units and sessions can be.
fn everywhere(test: impl Fn(&mut House<SimRing>, &mut Initiator, &str)) {
    for (shards, owner, other, home, clone) in [
        (1, 0, 0, 0, false),
        (1, 0, 0, 0, true),
        (2, 0, 1, 0, false),
        (2, 1, 0, 0, true),
        (2, 1, 1, 0, false),
        (3, 1, 2, 0, true),
    ] {
        let place = format!("shards {shards}, owners {owner} and {other}, clone {clone}");
        let plan = |plan: &mut Plan| (plan.shards, plan.owner, plan.clone) = (shards, owner, clone);
        let (world, mut house) = two_units(plan, other);
        let mut host = initiator(&world, 9, |config| config.shard = Some(home));
        ready(&mut house, &mut host);
        test(&mut house, &mut host, &place);
        assert!(host.take_violations().is_empty());
    }
}

#[test]
fn what_is_copied_is_there() {
    everywhere(|house, host, place| {
        let mut model = [pattern(4 << 20, 0), pattern(4 << 20, 99)];
        let segments: [Segment; 5] = [
            (0, 1, 5000, 3, 9),
            (1, 0, 100, 7, 8000),
            (0, 0, 4000, 10, 20),
            (1, 1, 3, 1, 0),
            (0, 1, 1, 0, 8191),
        ];
        for lun in 0..2 {
            let done = run(house, host, copying(lun, 1, &segments));
            assert!(done.is_good(), "{place}: {done:?}");
            for (from, to, count, from_lba, to_lba) in segments {
                let (start, len) = (from_lba as usize * 512, usize::from(count) * 512);
                let data = model[usize::from(from)][start..start + len].to_vec();
                let start = to_lba as usize * 512;
                model[usize::from(to)][start..start + len].copy_from_slice(&data);
            }
            let told = run(house, host, receive(lun, 0x00, 1)).data;
            assert_eq!(told[4..7], [1, 0, 5], "{place}");
        }
        for at in (0..BLOCKS).step_by(2048) {
            let range = at as usize * 512..(at as usize + 2048) * 512;
            assert!(read(house, host, at.into(), 2048) == model[0][range.clone()], "{place}: LUN 0 at {at}");
            assert!(read_other(house, host, at.into(), 2048) == model[1][range], "{place}: LUN 1 at {at}");
        }
    });
}

#[test]
fn a_token_of_one_unit_is_used_on_the_other() {
    everywhere(|house, host, place| {
        let mut ranges = vec![0, 32];
        for (lba, count) in [(5u64, 3000u32), (4000, 500)] {
            ranges.extend_from_slice(&lba.to_be_bytes());
            ranges.extend_from_slice(&count.to_be_bytes());
            ranges.extend_from_slice(&[0; 4]);
        }
        let populate = [&[0, 46][..], &[0; 12], &ranges].concat();
        assert!(run(house, host, out(0, 0x10, 4, populate)).is_good(), "{place}");
        let told = run(house, host, receive(0, 0x07, 4)).data;
        let to = [&[0, 16][..], &[0; 6], &[0, 64], &[0, 0, 0x0D, 0xAC, 0, 0, 0, 0]].concat();
        let using = [&[0x02, 0x26][..], &[0; 14], &told[38..], &[0; 6], &to].concat();
        let done = run(house, host, out(1, 0x11, 5, using.clone()));
        assert!(done.is_good(), "{place}: {done:?}");
        let model = pattern(4 << 20, 0);
        let expected = [&model[5 * 512..3005 * 512], &model[4000 * 512..4500 * 512]].concat();
        let found = [read_other(house, host, 64, 2000), read_other(house, host, 2064, 1500)].concat();
        assert!(found == expected, "{place}");
        // The blocks change: the token is of no use any more.
        write(house, host, 4499, &pattern(512, 3));
        let done = run(house, host, out(1, 0x11, 5, using));
        assert_eq!(done.sense_code(), Some((5, 0x23, 6)), "{place}");
    });
}

#[test]
fn ordered_commands_wait_for_a_copy_and_do_not_stop_it() {
    everywhere(|house, host, place| {
        let copy = host.command(copying(0, 1, &[(0, 1, 8000, 0, 0), (1, 0, 8000, 0, 100)])).unwrap();
        let ordered = |lun| Command {
            attribute: 2,
            ..on(lun, Command::new(lun, cdb::test_unit_ready(), Transfer::None))
        };
        let behind = [0, 1, 0].map(|lun| host.command(ordered(lun)).unwrap());
        let mut ended: Vec<Tag> = Vec::new();
        while ended.len() < 4 {
            match wait_all(house, host) {
                Report::Done(done) => {
                    assert!(done.is_good(), "{place}: {done:?}");
                    ended.push(done.tag);
                }
                report => panic!("{place}: {report:?}"),
            }
        }
        let place_of = |tag| ended.iter().position(|ended| *ended == tag);
        assert!(place_of(copy) < place_of(behind[0]) && place_of(behind[0]) < place_of(behind[2]), "{place}");
    });
}

/// The next report, of several that may come at once.
fn wait_all(house: &mut House<SimRing>, host: &mut Initiator) -> Report {
    thread_local! {
        static KEPT: std::cell::RefCell<Vec<Report>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    KEPT.with_borrow_mut(|kept| {
        for _ in 0..200_000 {
            kept.extend(host.poll());
            if !kept.is_empty() {
                return kept.remove(0);
            }
            assert!(house.step(), "nothing will ever happen");
        }
        panic!("the initiator waits for ever");
    })
}

/// A copy that takes its time: its end is far from its beginning.
fn long_copy() -> Command {
    copying(0, 1, &[(0, 1, 8192, 0, 0); 60])
}

fn steps(house: &mut House<SimRing>, count: u32) {
    for _ in 0..count {
        house.step();
    }
}

/// Nothing is written any more: what was told to be over is over.
fn is_still(house: &mut House<SimRing>, host: &mut Initiator, place: &str) {
    let stamp = pattern(64 * 512, 200);
    let command = on(1, Command::new(1, cdb::write_16(0, 64, false), Transfer::Out(stamp.clone())));
    assert!(run(house, host, command).is_good(), "{place}");
    steps(house, 400);
    assert!(read_other(house, host, 0, 64) == stamp, "{place}: a write of a copy that is over");
}

#[test]
fn task_management_ends_a_copy_before_it_is_done() {
    // ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET (RFC 7143 11.5.1).
    for function in [1, 2, 4, 5] {
        everywhere(|house, host, place| {
            for moment in [0, 5, 23, 60] {
                let copy = host.command(long_copy()).unwrap();
                steps(house, moment);
                let tag = host.task_management(function, 0, (function == 1).then_some(copy)).unwrap();
                let reports = [wait_all(house, host), wait_all(house, host)];
                let what = format!("{place}, function {function}, moment {moment}: {reports:?}");
                assert_eq!(reports[0], Report::Aborted { tag: copy }, "{what}");
                assert_eq!(reports[1], Report::TaskManagement { tag, response: 0 }, "{what}");
                is_still(house, host, &what);
                if function == 5 {
                    let test = Command::new(0, cdb::test_unit_ready(), Transfer::None);
                    assert_eq!(run(house, host, test).sense_code().map(|code| code.0), Some(6), "{what}");
                }
            }
        });
    }
}

#[test]
fn copy_operation_abort_ends_a_copy_and_is_answered_after_it() {
    everywhere(|house, host, place| {
        let copy = host.command(long_copy()).unwrap();
        steps(house, 40);
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[5]) = (0x83, 0x1C, 1);
        let abort = host.command(Command::new(0, cdb, Transfer::None)).unwrap();
        let ends: Vec<Done> = (0..2)
            .map(|_| match wait_all(house, host) {
                Report::Done(done) => done,
                report => panic!("{place}: {report:?}"),
            })
            .collect();
        assert_eq!((ends[0].tag, ends[0].status), (copy, 0x40), "{place}");
        assert_eq!((ends[1].tag, ends[1].status), (abort, 0), "{place}");
        assert_eq!(run(house, host, receive(0, 0x05, 1)).data[5], 0x60, "{place}");
        is_still(house, host, place);
    });
}

/// A reset ends the command of a copy that is under way there, and the copy with it. One that meets none ends nothing.
#[test]
fn a_reset_of_the_other_unit_fails_a_copy_whose_command_it_ends() {
    let failed = std::cell::Cell::new(0);
    everywhere(|house, host, place| {
        for moment in 40..48 {
            let copy = host.command(long_copy()).unwrap();
            steps(house, moment);
            let tag = host.task_management(5, 1, None).unwrap();
            let mut reports = vec![wait_all(house, host), wait_all(house, host)];
            let at = reports.iter().position(|report| matches!(report, Report::Done(_)));
            let Report::Done(done) = reports.remove(at.expect("an end of the copy")) else { unreachable!() };
            assert_eq!(reports, [Report::TaskManagement { tag, response: 0 }], "{place}");
            let is_failed = done.sense_code() == Some((0x0A, 0x0D, 1));
            assert!(done.tag == copy && (done.is_good() || is_failed), "{place}: {done:?}");
            failed.set(failed.get() + u32::from(is_failed));
        }
    });
    assert!(failed.get() > 6, "only {} copies met the reset", failed.get());
}

#[test]
fn a_session_that_ends_takes_its_copies_with_it() {
    everywhere(|house, host, place| {
        let held = |house: &House<SimRing>| -> u32 {
            let pools = house.memory.iter().flat_map(|memory| memory.buffers.pools());
            pools.map(|pool| pool.in_use()).sum()
        };
        for moment in [1, 10, 40, 70] {
            let before = held(house);
            host.command(long_copy()).unwrap();
            steps(house, moment);
            host.reset();
            host.poll();
            for _ in 0..3000 {
                if house.ended.pop().is_some() {
                    break;
                }
                house.step();
            }
            ready(house, host);
            is_still(house, host, place);
            steps(house, 100);
            assert_eq!(held(house), before, "{place}: buffers did not come back");
        }
    });
}

#[test]
fn others_are_served_while_a_copy_runs() {
    let (world, mut house) = two_units(|plan| plan.shards = 1, 0);
    let mut host = initiator(&world, 9, |_| {});
    let mut other = initiator(&world, 8, |_| {});
    ready(&mut house, &mut host);
    ready(&mut house, &mut other);
    let copy = host.command(long_copy()).unwrap();
    steps(&mut house, 30);
    for _ in 0..50 {
        assert!(
            run(&mut house, &mut other, Command::new(0, cdb::read_16(9, 8), Transfer::In(4096))).is_good()
        );
    }
    assert!(host.poll().is_empty() && host.outstanding() == [copy], "the copy was over before the reads");
    assert!(matches!(wait(&mut house, &mut host), Report::Done(done) if done.is_good()));
}
