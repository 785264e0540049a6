//! Atomic writes to a file: all or nothing, whatever happens, for reads and for whoever comes after a power loss.

use crate::basics::{initiator, login, pattern, read, run, wait, write};
use crate::house::{House, Plan};
use crate::regressions::{build, done, until};
use stampede_image::intent;
use stampede_sim::initiator::{Command, Initiator, Report, Transfer, cdb};
use stampede_sim::{DiskConfig, DiskId, FaultKind, FaultPlan, SimConfig, SimRing, SimWorld};

const LBA: u64 = 64;
const BLOCKS: u32 = 256;
const BYTES: usize = BLOCKS as usize * 512;

fn write_atomic(lba: u64, bytes: &[u8]) -> Command {
    let blocks = (bytes.len() / 512) as u16;
    Command::new(0, cdb::write_atomic_16(lba, blocks, false), Transfer::Out(bytes.to_vec()))
}

struct Bed {
    world: SimWorld,
    disk: DiskId,
    journal: DiskId,
    house: House<SimRing>,
    host: Initiator,
}

impl Bed {
    fn new(config: SimConfig, disk: DiskConfig) -> Self {
        let world = SimWorld::new(config);
        let journal = DiskConfig { alignment: 4096, ..DiskConfig::default() };
        let disk = world.disk("disk", 4 << 20, disk);
        let journal = world.disk("journal", intent::JOURNAL, journal);
        world.fill_disk(disk, 0, &pattern(1 << 20, 0));
        let mut house = build(&world, &Plan { journal: Some(journal), ..Plan::new(disk) });
        let mut host = initiator(&world, 1, |_| {});
        login(&mut house, &mut host);
        Self { world, disk, journal, house, host }
    }

    fn calm(seed: u64) -> Self {
        Self::new(SimConfig::calm(seed), DiskConfig::default())
    }

    /// The power goes; what the next start does before anybody is let in; how many writes were done over.
    fn crash_and_replay(&self) -> usize {
        self.world.crash();
        let journal = self.world.peek_disk(self.journal, 0, intent::JOURNAL as usize);
        let mut replayed = 0;
        for (intent, data) in intent::complete(&journal) {
            self.world.fill_disk(self.disk, intent.offset, data);
            replayed += 1;
        }
        replayed
    }

    /// So many steps; whether a command ended well meanwhile.
    fn steps(&mut self, many: usize) -> bool {
        assert!(many < 2_000, "it never ends");
        let mut ended = false;
        for _ in 0..many {
            self.house.step();
            ended |= done(&mut self.host).iter().any(|done| done.is_good());
        }
        ended
    }

    fn content(&self) -> Vec<u8> {
        self.world.peek_disk(self.disk, LBA * 512, BYTES)
    }
}

#[test]
fn power_may_go_at_any_point_of_an_atomic_write() {
    let (old, new) = (pattern(1 << 20, 0)[LBA as usize * 512..][..BYTES].to_vec(), pattern(BYTES, 9));
    let (mut kept, mut replayed, mut written) = (0, 0, 0);
    for seed in 0..24 {
        for point in 0.. {
            let mut bed = Bed::calm(seed);
            bed.host.command(write_atomic(LBA, &new)).unwrap();
            let answered = bed.steps(point);
            replayed += bed.crash_and_replay();
            let content = bed.content();
            assert!(content == old || content == new, "seed {seed}: torn at point {point}");
            assert!(content == new || !answered, "seed {seed}: lost at point {point}");
            if content == new {
                written += 1;
            } else {
                kept += 1;
            }
            if answered {
                break;
            }
        }
    }
    assert!(kept > 100 && replayed > 100 && written > 100, "{kept} {replayed} {written}");
}

#[test]
fn what_is_written_after_an_atomic_write_is_never_undone() {
    let (new, newer) = (pattern(BYTES, 9), pattern(BYTES, 77));
    for seed in 0..12 {
        for point in 0.. {
            let mut bed = Bed::calm(seed);
            let first = bed.host.command(write_atomic(LBA, &new)).unwrap();
            let plain = Command::new(0, cdb::write_16(LBA, BLOCKS, true), Transfer::Out(newer.clone()));
            let ended = until(&mut bed.house, &mut bed.host, first);
            assert!(ended[0].is_good(), "{ended:?}");
            bed.host.command(plain).unwrap();
            let answered = bed.steps(point);
            assert_eq!(bed.crash_and_replay(), 0, "seed {seed}: an intent is left at point {point}");
            if answered {
                assert!(bed.content() == newer, "seed {seed}: undone");
                break;
            }
        }
    }
}

#[test]
fn an_abort_at_any_point_leaves_all_or_nothing_and_no_intent() {
    let (old, new) = (pattern(1 << 20, 0)[LBA as usize * 512..][..BYTES].to_vec(), pattern(BYTES, 9));
    let (mut kept, mut written) = (0, 0);
    for point in 0.. {
        let mut bed = Bed::calm(3);
        let tag = bed.host.command(write_atomic(LBA, &new)).unwrap();
        let over = bed.steps(point);
        let abort = bed.host.task_management(1, 0, Some(tag)).unwrap();
        loop {
            let reports = bed.host.poll();
            if reports
                .iter()
                .any(|report| matches!(report, Report::TaskManagement { tag, .. } if *tag == abort))
            {
                break;
            }
            assert!(bed.house.step(), "the abort is never answered");
        }
        assert_eq!(bed.crash_and_replay(), 0, "an intent is left after an abort at point {point}");
        let content = bed.content();
        assert!(content == old || content == new, "torn by an abort at point {point}");
        if content == new {
            written += 1;
        } else {
            kept += 1;
        }
        if over {
            break;
        }
    }
    assert!(kept > 3 && written > 3, "{kept} {written}");
}

/// Readers and an atomic writer at once, the first reads before the first atomic write.
#[test]
fn reads_see_all_of_an_atomic_write_or_nothing() {
    for seed in 0..40 {
        let faults = FaultPlan::none().with(FaultKind::AtOnce, 300_000);
        let slow = DiskConfig { latency: 1_000..2_000_000, ..DiskConfig::default() };
        let mut bed = Bed::new(SimConfig::calm(seed).with_faults(faults), slow);
        let mut other = initiator(&bed.world, 2, |_| {});
        login(&mut bed.house, &mut other);
        let versions: Vec<Vec<u8>> = (0..6).map(|version| vec![version; BYTES]).collect();
        write(&mut bed.house, &mut bed.host, LBA, &versions[0]);
        let mut seen = 0;
        for version in &versions[1..] {
            for _ in 0..4 {
                other
                    .command(Command::new(0, cdb::read_16(LBA, BLOCKS), Transfer::In(BLOCKS * 512)))
                    .unwrap();
            }
            for _ in 0..seed % 7 * 3 {
                bed.house.step();
            }
            let tag = bed.host.command(write_atomic(LBA, version)).unwrap();
            let ended = until(&mut bed.house, &mut bed.host, tag);
            assert!(ended.len() == 1 && ended[0].is_good(), "{ended:?}");
            while !other.outstanding().is_empty() {
                for done in done(&mut other) {
                    assert!(done.is_good(), "{done:?}");
                    assert!(
                        versions.contains(&done.data),
                        "seed {seed}: a read saw a part of an atomic write"
                    );
                    seen += 1;
                }
                assert!(other.outstanding().is_empty() || bed.house.step(), "seed {seed}: reads hang");
            }
        }
        assert_eq!(seen, 20);
        assert!(read(&mut bed.house, &mut bed.host, LBA, BLOCKS) == versions[5]);
    }
}

#[test]
fn many_atomic_writes_share_the_slots() {
    for seed in 0..10 {
        let mut bed = Bed::calm(seed);
        let tags: Vec<_> = (0..12u8)
            .map(|n| bed.host.command(write_atomic(u64::from(n) * 8, &vec![n; 4096])).unwrap())
            .collect();
        let mut ended = 0;
        for tag in &tags {
            let done = until(&mut bed.house, &mut bed.host, *tag);
            assert!(done.iter().all(|done| done.is_good()), "{done:?}");
            ended += done.len();
        }
        assert_eq!((ended, bed.crash_and_replay()), (12, 0));
        for n in 0..12u8 {
            assert_eq!(bed.world.peek_disk(bed.disk, u64::from(n) * 4096, 4096), vec![n; 4096]);
        }
    }
}

#[test]
fn without_space_nothing_is_begun() {
    let full = DiskConfig { capacity: Some((1 << 20) + 16 * 1024), ..DiskConfig::default() };
    let mut bed = Bed::new(SimConfig::calm(1), full);
    let beyond = (1 << 20) / 512;
    let done = run(&mut bed.house, &mut bed.host, write_atomic(beyond, &pattern(BYTES, 5)));
    assert_eq!(done.sense_code(), Some((7, 0x27, 7)));
    assert_eq!(read(&mut bed.house, &mut bed.host, beyond, BLOCKS), vec![0; BYTES]);
    let done = run(&mut bed.house, &mut bed.host, write_atomic(LBA, &pattern(BYTES, 5)));
    assert!(done.is_good(), "{done:?}");
}

/// The image fails: the intent is withdrawn, so that it does not come back over what is written later.
#[test]
fn a_write_error_withdraws_the_intent() {
    let mut bed = Bed::calm(5);
    bed.world.break_writes(bed.disk, LBA * 512..LBA * 512 + 4096);
    let done = run(&mut bed.house, &mut bed.host, write_atomic(LBA, &pattern(BYTES, 5)));
    assert_eq!(done.sense_code(), Some((3, 0x0c, 0)));
    write(&mut bed.house, &mut bed.host, 0, &pattern(4096, 6));
    assert_eq!(bed.crash_and_replay(), 0);
}

/// The journal fails, and what may lie in it cannot be withdrawn: later writes could be undone, so there are none.
#[test]
fn a_journal_that_cannot_be_written_ends_all_writing() {
    let mut bed = Bed::calm(6);
    bed.world.break_writes(bed.journal, 0..intent::JOURNAL);
    let done = run(&mut bed.house, &mut bed.host, write_atomic(LBA, &pattern(BYTES, 5)));
    assert_eq!(done.sense_code(), Some((4, 0x44, 0)));
    let plain = Command::new(0, cdb::write_16(0, 8, false), Transfer::Out(pattern(4096, 1)));
    assert_eq!(run(&mut bed.house, &mut bed.host, plain).sense_code(), Some((7, 0x27, 0)));
    assert_eq!(read(&mut bed.house, &mut bed.host, 0, 8), pattern(1 << 20, 0)[..4096]);
    let done =
        run(&mut bed.house, &mut bed.host, Command::new(0, cdb::synchronize_cache_16(0, 0), Transfer::None));
    assert!(done.is_good(), "{done:?}");
    let report = wait_for_reset(&mut bed);
    assert!(matches!(report, Report::TaskManagement { response: 0, .. }), "{report:?}");
}

fn wait_for_reset(bed: &mut Bed) -> Report {
    bed.host.task_management(5, 0, None).unwrap();
    wait(&mut bed.house, &mut bed.host)
}
