//! PERSISTENT RESERVE OUT takes access away: what of the others is under way ends before it is answered.

use crate::basics::{initiator, login, pattern, run, wait, world_with_disk};
use crate::house::{House, Plan};
use crate::regressions::{build, done, ready, until};
use stampede_sim::initiator::{Command, Done, Initiator, Report, Transfer, cdb};
use stampede_sim::{DiskConfig, SimConfig, SimRing, SimWorld};

pub(crate) const CONFLICT: u8 = 0x18;

/// PERSISTENT RESERVE OUT service actions (SPC-4 table 218).
pub(crate) const REGISTER_AND_IGNORE: u8 = 6;
pub(crate) const RESERVE: u8 = 1;
const PREEMPT: u8 = 4;
const PREEMPT_AND_ABORT: u8 = 5;
/// Types (SPC-4 table 207).
pub(crate) const EXCLUSIVE_ACCESS: u8 = 3;
const WRITE_EXCLUSIVE_REGISTRANTS_ONLY: u8 = 5;

pub(crate) fn prout(action: u8, kind: u8, key: u64, service_key: u64, aptpl: bool) -> Command {
    let mut cdb = [0; 16];
    cdb[..3].copy_from_slice(&[0x5f, action, kind]);
    cdb[8] = 24;
    let mut list = [key.to_be_bytes(), service_key.to_be_bytes(), [0; 8]].concat();
    list[20] = u8::from(aptpl);
    Command::new(0, cdb, Transfer::Out(list))
}

/// The keys that are registered (PERSISTENT RESERVE IN, READ KEYS).
pub(crate) fn keys(house: &mut House<SimRing>, initiator: &mut Initiator) -> Vec<u64> {
    let mut cdb = [0; 16];
    (cdb[0], cdb[7]) = (0x5e, 1);
    let done = run(house, initiator, Command::new(0, cdb, Transfer::In(256)));
    assert!(done.is_good(), "{done:?}");
    let length = u32::from_be_bytes(done.data[4..8].try_into().unwrap()) as usize;
    done.data[8..8 + length].chunks(8).map(|key| u64::from_be_bytes(key.try_into().unwrap())).collect()
}

pub(crate) fn good(house: &mut House<SimRing>, initiator: &mut Initiator, command: Command) {
    let done = run(house, initiator, command);
    assert!(done.is_good(), "{done:?}");
}

pub(crate) fn write_blocks(lba: u64) -> Command {
    Command::new(0, cdb::write_16(lba, 8, false), Transfer::Out(pattern(4096, 1)))
}

fn registered(house: &mut House<SimRing>, initiators: [&mut Initiator; 2]) {
    for (initiator, key) in initiators.into_iter().zip(1..) {
        login(house, initiator);
        good(house, initiator, prout(REGISTER_AND_IGNORE, 0, 0, key, false));
    }
}

fn codes(ended: &[Done]) -> Vec<Option<(u8, u8, u8)>> {
    ended.iter().map(Done::sense_code).collect()
}

/// A victim's write whose data has not come is in no task set: it must die all the same.
#[test]
fn preempt_and_abort_kills_a_write_that_still_gathers_its_data() {
    for (shard, owner) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let (world, disk) = world_with_disk(512);
        let mut house = build(&world, &Plan { shards: 2, owner, ..Plan::new(disk) });
        let mut fencer = initiator(&world, 1, |config| config.shard = Some(0));
        let mut victim = initiator(&world, 2, |config| {
            config.shard = Some(shard);
            config.initial_r2t = true;
            config.immediate_data = false;
        });
        registered(&mut house, [&mut fencer, &mut victim]);
        let lost = victim.command(write_blocks(0)).unwrap();
        for _ in 0..100 {
            // It does not answer the R2T.
            house.step();
        }
        let fence = prout(PREEMPT_AND_ABORT, EXCLUSIVE_ACCESS, 1, 2, false);
        good(&mut house, &mut fencer, fence);
        let before = world.peek_disk(disk, 0, 4096);
        let mut told = Vec::new();
        for _ in 0..2 {
            let last = victim.command(ready()).unwrap();
            told.extend(codes(&until(&mut house, &mut victim, last)));
        }
        // Its write never ended: COMMANDS CLEARED BY ANOTHER INITIATOR, then REGISTRATIONS PREEMPTED.
        assert_eq!(told, [Some((6, 0x2f, 0)), Some((6, 0x2a, 5))], "shard {shard}, owner {owner}: {lost:?}");
        assert!(world.peek_disk(disk, 0, 4096) == before, "the dead write landed");
        assert_eq!(keys(&mut house, &mut fencer), [1]);
    }
}

fn slow_world(seed: u64) -> (SimWorld, stampede_sim::DiskId) {
    let world = SimWorld::new(SimConfig::calm(seed));
    let slow = DiskConfig { latency: 5_000_000..50_000_000, ..DiskConfig::default() };
    let disk = world.disk("disk", 4 << 20, slow);
    (world, disk)
}

/// The old holder's writes are over when whoever took its access away hears of it: none lands over what the new
/// holder then does.
#[test]
fn taking_access_away_is_answered_when_the_writes_of_others_are_over() {
    for seed in 0..24 {
        let (world, disk) = slow_world(seed);
        let owner = (seed % 2) as u16;
        let mut house = build(&world, &Plan { shards: 2, owner, ..Plan::new(disk) });
        let mut fencer = initiator(&world, 1, |config| config.shard = Some(1));
        let mut writer = initiator(&world, 2, |config| config.shard = Some(0));
        registered(&mut house, [&mut fencer, &mut writer]);
        let idle = world.in_flight(owner);
        for lba in 0..8 {
            writer.command(write_blocks(lba * 8)).unwrap();
        }
        while world.in_flight(owner) < idle + 4 {
            assert!(house.step(), "seed {seed}: the writes do not begin");
        }
        let (fence, aborts) = match seed % 3 {
            0 => (prout(RESERVE, EXCLUSIVE_ACCESS, 1, 0, false), false),
            1 => (prout(PREEMPT_AND_ABORT, WRITE_EXCLUSIVE_REGISTRANTS_ONLY, 1, 2, false), true),
            _ => {
                // The writer holds the reservation when it is preempted.
                let reserve = prout(RESERVE, WRITE_EXCLUSIVE_REGISTRANTS_ONLY, 2, 0, false);
                writer.command(reserve).unwrap();
                for _ in 0..50 {
                    house.step();
                }
                (prout(PREEMPT, EXCLUSIVE_ACCESS, 1, 2, false), false)
            }
        };
        let tag = fencer.command(fence).unwrap();
        let Report::Done(answer) = wait(&mut house, &mut fencer) else { panic!("no answer") };
        assert!(answer.tag == tag && answer.is_good(), "seed {seed}: {answer:?}");
        let then = world.peek_disk(disk, 0, 8 * 4096);
        let mut ended = Vec::new();
        for _ in 0..1_000 {
            house.step();
            ended.extend(done(&mut writer));
        }
        assert!(world.peek_disk(disk, 0, 8 * 4096) == then, "seed {seed}: a write landed after the answer");
        let written = ended.iter().filter(|done| done.is_good()).count();
        if aborts {
            assert!(written < 8, "seed {seed}: nothing was aborted: {ended:?}");
        } else {
            let answered = ended.iter().all(|done| done.is_good() || done.status == CONFLICT);
            assert!(answered && written >= 4, "seed {seed}: {ended:?}");
        }
    }
}

/// PREEMPT AND ABORT of a reservation that nobody was using is answered at once, and the victim can register anew.
#[test]
fn the_fenced_node_is_kept_out_until_it_registers_again() {
    let (world, disk) = world_with_disk(512);
    let mut house = build(&world, &Plan::new(disk));
    let (mut one, mut two) = (initiator(&world, 1, |_| {}), initiator(&world, 2, |_| {}));
    registered(&mut house, [&mut one, &mut two]);
    good(&mut house, &mut two, prout(RESERVE, WRITE_EXCLUSIVE_REGISTRANTS_ONLY, 2, 0, false));
    good(&mut house, &mut one, write_blocks(0));
    let fence = prout(PREEMPT_AND_ABORT, WRITE_EXCLUSIVE_REGISTRANTS_ONLY, 1, 2, false);
    good(&mut house, &mut one, fence);
    assert_eq!(run(&mut house, &mut two, write_blocks(0)).sense_code(), Some((6, 0x2a, 5)));
    assert_eq!(run(&mut house, &mut two, write_blocks(0)).status, CONFLICT);
    good(&mut house, &mut two, prout(REGISTER_AND_IGNORE, 0, 0, 2, false));
    good(&mut house, &mut two, write_blocks(0));
}
