//! Units whose blocks are encrypted in their file, and the end of a key.

use crate::basics::{initiator, login, pattern, portal, read, run, write};
use crate::house::{House, Plan, StoreMood, cipher};
use crate::regressions::{build, done, ready, until};
use stampede_image::intent;
use stampede_sim::initiator::{Command, Initiator, Transfer, cdb};
use stampede_sim::{DiskConfig, DiskId, SimConfig, SimRing, SimWorld};

const LEN: usize = 4 << 20;
const KEY: u8 = 1;
const FAILED: Option<(u8, u8, u8)> = Some((3, 0x31, 3));
const AUSE: u8 = 0x20;

struct Bed {
    world: SimWorld,
    disk: DiskId,
    plan: Plan,
    house: House<SimRing>,
    host: Initiator,
}

impl Bed {
    fn new(alignment: u32) -> Self {
        let world = SimWorld::new(SimConfig::calm(7));
        let config = DiskConfig { atom: alignment, alignment, ..DiskConfig::default() };
        let disk = world.disk("disk", LEN as u64, config);
        let journal =
            world.disk("journal", intent::JOURNAL, DiskConfig { alignment: 4096, ..DiskConfig::default() });
        let plan = Plan { alignment, key: Some(KEY), journal: Some(journal), ..Plan::new(disk) };
        let mut house = build(&world, &plan);
        let mut host = initiator(&world, 1, |_| {});
        login(&mut house, &mut host);
        Self { world, disk, plan, house, host }
    }

    /// What the file says, and what that means under a key.
    fn file(&self, key: u8) -> (Vec<u8>, Vec<u8>) {
        let raw = self.world.peek_disk(self.disk, 0, LEN);
        let mut plain = raw.clone();
        cipher(key).open(0, &mut plain);
        (raw, plain)
    }

    fn read(&mut self, lba: u64, blocks: u32) -> Vec<u8> {
        read(&mut self.house, &mut self.host, lba, blocks)
    }

    fn write(&mut self, lba: u64, bytes: &[u8]) {
        write(&mut self.house, &mut self.host, lba, bytes);
    }

    fn good(&mut self, cdb: [u8; 16], transfer: Transfer) {
        let done = run(&mut self.house, &mut self.host, Command::new(0, cdb, transfer));
        assert!(done.is_good(), "{cdb:02x?}: {done:?}");
    }

    /// The power goes, or the target is killed, and another one begins with what is stored.
    fn restart(&mut self, power_lost: bool) {
        match power_lost {
            true => self.world.crash(),
            false => self.world.kill(),
        }
        let (saved, key) = (self.house.stored.clone(), self.house.key);
        let plan = Plan { saved, key, ..self.plan.clone() };
        self.house = House::build(&self.world, portal(), &plan, &mut |ring| ring);
        self.host = initiator(&self.world, 2, |_| {});
        login(&mut self.house, &mut self.host);
    }

    /// Waits until the unit is ready.
    fn await_ready(&mut self) {
        for _ in 0..10_000 {
            if run(&mut self.house, &mut self.host, ready()).is_good() {
                return;
            }
        }
        panic!("it never ends");
    }
}

fn erase(flags: u8) -> Command {
    let mut cdb = [0; 16];
    cdb[..2].copy_from_slice(&[0x48, flags | 3]);
    Command::new(0, cdb, Transfer::None)
}

/// A CDB of 16 bytes with an address and a count of blocks.
fn cdb_of(opcode: u8, flags: u8, lba: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[..2].copy_from_slice(&[opcode, flags]);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

#[test]
fn whatever_writes_blocks_writes_them_encrypted() {
    for alignment in [512, 4096] {
        let mut bed = Bed::new(alignment);
        let mut model = vec![0; LEN];
        let mut put = |lba: usize, bytes: &[u8]| model[lba * 512..][..bytes.len()].copy_from_slice(bytes);
        // A write, of whole device blocks and not, and over several buffers.
        for (lba, blocks) in [(0, 8), (17, 3), (64, 1500)] {
            let bytes = pattern(blocks * 512, lba as u8 + 1);
            bed.write(lba, &bytes);
            put(lba as usize, &bytes);
        }
        // COMPARE AND WRITE.
        let (old, new) = (bed.read(17, 2), pattern(1024, 77));
        let mut compare = cdb_of(0x89, 0, 17, 0);
        compare[13] = 2;
        bed.good(compare, Transfer::Out([old, new.clone()].concat()));
        put(17, &new);
        // ORWRITE.
        let old = bed.read(70, 2);
        bed.good(cdb_of(0x8B, 0, 70, 2), Transfer::Out(vec![0x0F; 1024]));
        put(70, &old.iter().map(|byte| byte | 0x0F).collect::<Vec<_>>());
        // WRITE AND VERIFY with a comparison, VERIFY.
        let bytes = pattern(4096, 5);
        bed.good(cdb_of(0x8E, 0x02, 3001, 8), Transfer::Out(bytes.clone()));
        bed.good(cdb_of(0x8F, 0x02, 3001, 8), Transfer::Out(bytes.clone()));
        put(3001, &bytes);
        // WRITE SAME: a pattern, zeros, zeros that give blocks back.
        bed.good(cdb_of(0x93, 0, 4000, 300), Transfer::Out(pattern(512, 3)));
        put(4000, &pattern(512, 3).repeat(300));
        bed.good(cdb_of(0x93, 0, 4100, 10), Transfer::Out(vec![0; 512]));
        put(4100, &[0; 5120]);
        bed.good(cdb_of(0x93, 0x08, 4200, 10), Transfer::Out(vec![0; 512]));
        put(4200, &[0; 5120]);
        // WRITE ATOMIC.
        let bytes = pattern(8192, 8);
        bed.good(cdb::write_atomic_16(5000, 16, false), Transfer::Out(bytes.clone()));
        put(5000, &bytes);
        let journal = bed.plan.journal.expect("given above");
        let journalled = bed.world.peek_disk(journal, 0, intent::JOURNAL as usize);
        assert!(journalled.iter().any(|byte| *byte != 0), "no trace of an atomic write");
        // UNMAP.
        let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
        list.extend_from_slice(&100u64.to_be_bytes());
        list.extend_from_slice(&16u32.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
        let mut unmap = [0; 16];
        (unmap[0], unmap[8]) = (0x42, 24);
        bed.good(unmap, Transfer::Out(list));
        put(100, &[0; 16 * 512]);
        let (raw, plain) = bed.file(KEY);
        assert!(plain == model, "the file under its key");
        for (at, (raw, plain)) in raw.chunks(512).zip(plain.chunks(512)).enumerate() {
            let hole = raw.iter().all(|byte| *byte == 0);
            assert!(raw != plain || hole, "block {at} is in the file as it is");
        }
        // What initiators wrote is nowhere in the journal either.
        for block in plain.chunks(512).filter(|block| block.iter().any(|byte| *byte != 0)) {
            assert!(!journalled.chunks(512).any(|other| other == block), "plain in the journal");
        }
        let all: Vec<u8> = (0..4).flat_map(|quarter| bed.read(quarter * 2048, 2048)).collect();
        assert!(all == model, "what is read");
        assert_eq!(bed.world.misuses(), Vec::<String>::new());
        bed.restart(false);
        assert!(bed.read(64, 1500) == model[64 * 512..][..1500 * 512]);
    }
}

/// A long command's data is en- and decrypted in slices: what is short gets by, and an abort ends it between two of them.
#[test]
fn a_long_command_holds_up_no_other() {
    let mut bed = Bed::new(512);
    let bytes = pattern(1 << 20, 3);
    bed.write(0, &bytes);
    for long in [Command::new(0, cdb_of(0x88, 0, 0, 2048), Transfer::In(1 << 20)), {
        Command::new(0, cdb_of(0x8A, 0, 0, 2048), Transfer::Out(bytes.clone()))
    }] {
        let long = bed.host.command(long).unwrap();
        let short = bed.host.command(Command::new(0, cdb_of(0x88, 0, 4000, 8), Transfer::In(4096))).unwrap();
        let mut ended = Vec::new();
        while ended.len() < 2 {
            bed.house.step();
            ended.extend(done(&mut bed.host).into_iter().map(|done| done.tag));
        }
        assert_eq!(ended, [short, long]);
    }
    assert!(bed.read(0, 2048) == bytes);
}

#[test]
fn an_empty_file_is_an_empty_disk() {
    let mut bed = Bed::new(512);
    assert!(bed.read(0, 2048).iter().all(|byte| *byte == 0));
    let zeros = vec![0; 4096];
    bed.write(8, &zeros);
    let (raw, _) = bed.file(KEY);
    assert!(raw[8 * 512..16 * 512].chunks(512).all(|block| block.iter().any(|byte| *byte != 0)));
    assert!(bed.read(0, 2048).iter().all(|byte| *byte == 0), "nobody sees a difference");
}

#[test]
fn an_overwritten_unit_reads_as_its_pattern() {
    let mut bed = Bed::new(4096);
    let list = [&[0x82, 0, 0, 3][..], &[1, 2, 3]].concat();
    let mut overwrite = [0; 16];
    (overwrite[0], overwrite[1], overwrite[8]) = (0x48, 1, 7);
    bed.good(overwrite, Transfer::Out(list));
    let block: Vec<u8> = [1, 2, 3].into_iter().cycle().take(512).collect();
    assert!(bed.read(1000, 2048) == block.repeat(2048));
    let (raw, plain) = bed.file(KEY);
    assert!(plain == block.repeat(LEN / 512));
    assert!(!raw.chunks(512).any(|raw| raw == block));
}

#[test]
fn with_the_key_everything_is_gone() {
    let mut bed = Bed::new(512);
    bed.write(0, &pattern(1 << 20, 3));
    let (ciphertext, _) = bed.file(KEY);
    assert!(run(&mut bed.house, &mut bed.host, erase(0)).is_good());
    assert_eq!((bed.house.key, bed.house.stored.clone()), (Some(KEY + 1), vec![]));
    assert!(bed.read(0, 2048).iter().all(|byte| *byte == 0), "a thin unit gives its blocks back");
    bed.write(5, &pattern(512, 9));
    assert!(bed.file(KEY + 1).1[5 * 512..6 * 512] == pattern(512, 9));
    bed.restart(false);
    assert!(bed.read(5, 1) == pattern(512, 9));
    // Even if the blocks were kept somewhere.
    bed.world.fill_disk(bed.disk, 0, &ciphertext);
    assert!(bed.read(0, 2048) != pattern(1 << 20, 3));
}

/// kill -9 or a power loss at every moment of the operation: it is begun again, and in the end the key that was in force
/// before it is not.
#[test]
fn the_key_dies_whenever_the_target_does() {
    let (mut before, mut after, mut untouched) = (0, 0, 0);
    for power_lost in [false, true] {
        for point in 0.. {
            let mut bed = Bed::new(512);
            bed.write(0, &pattern(64 << 10, 3));
            bed.good(cdb_of(0x91, 0, 0, 0), Transfer::None);
            bed.host.command(erase(0)).unwrap();
            let mut ended = false;
            for _ in 0..point {
                bed.house.step();
                ended |= done(&mut bed.host).iter().any(|done| done.is_good());
            }
            let key = bed.house.key;
            bed.restart(power_lost);
            bed.await_ready();
            let secret = bed.read(0, 128) == pattern(64 << 10, 3);
            match (key, bed.house.key) {
                // It had not begun.
                (Some(KEY), Some(KEY)) => untouched += 1,
                (Some(KEY), _) => before += 1,
                _ => after += 1,
            }
            assert_eq!(secret, bed.house.key == Some(KEY), "point {point}");
            if ended {
                assert!(!secret);
                break;
            }
        }
    }
    assert!(untouched > 0 && before > 0 && after > 0, "{untouched} {before} {after}");
}

#[test]
fn a_key_that_cannot_be_destroyed_is_a_failure() {
    let mut bed = Bed::new(512);
    bed.write(0, &pattern(4096, 3));
    bed.house.store = StoreMood::Waits;
    let tag = bed.host.command(erase(AUSE)).unwrap();
    for _ in 0..1_000 {
        bed.house.step();
    }
    // It is stored that the operation is under way; the key then is not to be destroyed.
    bed.house.store_saves();
    for _ in 0..1_000 {
        bed.house.step();
    }
    assert_eq!(bed.house.rekeys.len(), 1);
    bed.house.store = StoreMood::Fails;
    bed.house.store_saves();
    bed.house.store = StoreMood::Works;
    assert_eq!(until(&mut bed.house, &mut bed.host, tag)[0].sense_code(), FAILED);
    assert_eq!(run(&mut bed.house, &mut bed.host, ready()).sense_code(), FAILED);
    let mut exit = [0; 16];
    (exit[0], exit[1]) = (0x48, 0x1F);
    bed.good(exit, Transfer::None);
    assert!(bed.read(0, 8) == pattern(4096, 3), "nothing has happened to it");
    assert!(run(&mut bed.house, &mut bed.host, erase(0)).is_good());
    assert!(bed.read(0, 8) != pattern(4096, 3));
}

#[test]
fn only_encrypted_units_have_it() {
    let (world, disk) = crate::basics::world_with_disk(512);
    let mut house = build(&world, &Plan::new(disk));
    let mut host = initiator(&world, 1, |_| {});
    login(&mut house, &mut host);
    assert_eq!(run(&mut house, &mut host, erase(0)).sense_code(), Some((5, 0x24, 0)));
}
