//! Clones outlive the target: killed, stopped and started again, with the file of a tmpfs and with a service manager.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod common;
#[path = "common/raw.rs"]
mod raw;

use common::{Target, stampede};
use raw::{FINAL, Raw, pdu, transfer_10};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const NAME: &str = "os";
const TARGETS: &[&str] = &["os=golden.img,clone=ephemeral"];
/// The blocks that a machine of these tests uses.
const BLOCKS: u32 = 4096;

/// A folder of memory of the test's own.
fn arena() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

/// Small numbers that look random, the same for each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as u32 % below
    }
}

/// What a block may hold: a stamp, 0 for zeros, or what the golden has there; and what an unanswered write may have made
/// of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Golden,
    Stamp(u32),
}

struct Machine {
    name: String,
    sure: Vec<Block>,
    maybe: Vec<Option<Block>>,
    stamp: u32,
    golden: Vec<u8>,
}

impl Machine {
    fn new(number: u32, golden: &Path) -> Self {
        let golden = std::fs::read(golden).unwrap()[..BLOCKS as usize * 512].to_vec();
        let count = BLOCKS as usize;
        let name = format!("iqn.2026-11.test:machine{number}");
        Self { name, sure: vec![Block::Golden; count], maybe: vec![None; count], stamp: number << 20, golden }
    }

    /// Logs in, as often as it takes while the target starts. A refusal is a clone that was lost.
    fn login(&self, address: &str) -> Raw {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match Raw::login(address, &self.name, NAME, 1) {
                Ok(raw) => return raw,
                Err(0x0301 | 0x0302) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(50))
                }
                Err(status) => panic!("{}: refused with {status:04x}", self.name),
            }
        }
    }

    /// Something is written, zeroed or unmapped; with `waits` until it is answered.
    fn change(&mut self, raw: &mut Raw, dice: &mut Dice, waits: bool) {
        let count = [1, 3, 8, 8, 16, 64][dice.roll(6) as usize];
        let lba = dice.roll(BLOCKS - count);
        self.stamp += 1;
        let (cdb, data, becomes) = match dice.roll(5) {
            0 => {
                // WRITE SAME (10) of zeros, with UNMAP or without.
                let mut cdb = transfer_10(0x41, lba, count as u16);
                cdb[1] = [0, 8][dice.roll(2) as usize];
                (cdb, vec![0; 512], Block::Stamp(0))
            }
            _ => {
                let data = stamped(self.stamp).repeat(count as usize);
                (transfer_10(0x2a, lba, count as u16), data, Block::Stamp(self.stamp))
            }
        };
        let range = lba as usize..(lba + count) as usize;
        if waits {
            raw.until_good(cdb, &data, 0);
            self.sure[range.clone()].fill(becomes);
            self.maybe[range].fill(None);
        } else {
            let header = raw.command(cdb, FINAL | raw::WRITE, data.len() as u32);
            raw.send(&pdu(header, &data));
            self.maybe[range].fill(Some(becomes));
        }
    }

    /// Reads everything back. What nobody was sure of is known then.
    fn check(&mut self, raw: &mut Raw) {
        for lba in (0..BLOCKS).step_by(128) {
            let found = raw.until_good(transfer_10(0x28, lba, 128), &[], 128 * 512);
            for (at, bytes) in (lba as usize..).zip(found.chunks_exact(512)) {
                if bytes == self.bytes(at, self.sure[at]) {
                    continue;
                }
                let maybe = self.maybe[at].filter(|block| bytes == self.bytes(at, *block));
                assert!(
                    maybe.is_some(),
                    "{}: block {at} is not {:?}: {:x?}",
                    self.name,
                    self.sure[at],
                    &bytes[..8]
                );
                self.sure[at] = maybe.unwrap();
            }
        }
        self.maybe.fill(None);
    }

    fn bytes(&self, at: usize, block: Block) -> Vec<u8> {
        match block {
            Block::Golden => self.golden[at * 512..][..512].to_vec(),
            Block::Stamp(0) => vec![0; 512],
            Block::Stamp(stamp) => stamped(stamp),
        }
    }
}

/// A block in which each part tells that it is torn.
fn stamped(stamp: u32) -> Vec<u8> {
    stamp.to_be_bytes().repeat(128)
}

/// How often the target is killed; far more with STAMPEDE_TESTS_LONG set.
fn rounds() -> u32 {
    if std::env::var_os("STAMPEDE_TESTS_LONG").is_some() { 1000 } else { 50 }
}

#[test]
fn killed_at_random_moments_nothing_that_was_answered_is_lost() {
    let arena = arena();
    let folder = tempfile::tempdir().unwrap();
    let scratch = folder.path().join("scratch");
    let flags = [
        "--arena-dir",
        arena.path().to_str().unwrap(),
        "--arena",
        "4M",
        "--scratch",
        scratch.to_str().unwrap(),
        "--scratch-size",
        "64M",
        "--cores",
        "0,1",
    ];
    let mut target = Target::start_in(folder, TARGETS, &flags, None);
    let golden = target.folder().join("golden.img");
    let mut machines: Vec<Machine> = (1..=4).map(|number| Machine::new(number, &golden)).collect();
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let (mut spilled, address) = (0, target.address().to_owned());
    for round in 0..rounds() {
        let mut sessions: Vec<Raw> = machines.iter().map(|machine| machine.login(&address)).collect();
        for (machine, raw) in machines.iter_mut().zip(&mut sessions) {
            machine.check(raw);
        }
        for _ in 0..dice.roll(120) {
            let which = dice.roll(4) as usize;
            machines[which].change(&mut sessions[which], &mut dice, true);
        }
        spilled += target.status_value()["scratch"]["spilled_bytes"].as_u64().unwrap();
        // And each has writes under way when it happens.
        for (machine, raw) in machines.iter_mut().zip(&mut sessions) {
            raw.until_good([0; 16], &[], 0);
            machine.change(raw, &mut dice, false);
        }
        std::thread::sleep(Duration::from_micros(dice.roll(2000).into()));
        if round % 8 == 7 {
            drop(sessions);
            target.stop_and_restart(&flags);
        } else {
            target.kill_and_restart(&flags);
        }
    }
    assert!(spilled > 0, "it never spilled");
    assert!(!target.log().contains("must not find a blank disk"));
    target.stop();
}

/// A service manager of the test's own: keeps the descriptors that it is given, and starts the target with them.
#[test]
fn a_service_manager_keeps_the_clones() {
    let own = tempfile::tempdir().unwrap();
    let path = own.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // A descriptor that is sent to a socket is looked at where the target has it, while it lives.
    let mut target =
        Target::start_in(tempfile::tempdir().unwrap(), TARGETS, &["--arena", "16M"], Some(&path));
    let said = heard(&manager);
    assert!(said.contains("FDSTORE=1") && said.contains("FDNAME=stampede-arena"), "{said}");
    let kept = keep(target.pid());
    assert!(heard(&manager).contains("READY=1"));
    let golden = target.folder().join("golden.img");
    let mut machine = Machine::new(1, &golden);
    let mut dice = Dice(7);
    for _ in 0..3 {
        let mut raw = machine.login(target.address());
        machine.check(&mut raw);
        (0..100).for_each(|_| machine.change(&mut raw, &mut dice, true));
        drop(raw);
        // As systemd starts it: descriptor 3 is the one, and this process is told so.
        let mut command = Command::new("sh");
        command.args(["-c", "exec 3<>\"$KEPT\"; export LISTEN_PID=$$; exec \"$0\" \"$@\""]);
        command.arg(stampede().get_program());
        command.env("KEPT", format!("/proc/{}/fd/{}", std::process::id(), kept.as_raw_fd()));
        command.envs([("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "stampede-arena")]);
        command.env("NOTIFY_SOCKET", &path).env_remove("RUST_LOG");
        target.kill_and_restart_by(&["--arena", "16M"], command);
        assert!(heard(&manager).contains("READY=1"), "nothing new is handed over");
    }
    let mut raw = machine.login(target.address());
    machine.check(&mut raw);
    drop(raw);
    assert!(target.log().contains("clones of the run before go on"), "{}", target.log());
    target.stop();
}

fn heard(manager: &UnixDatagram) -> String {
    loop {
        let mut text = [0; 512];
        let count = manager.recv(&mut text).unwrap();
        let text = String::from_utf8_lossy(&text[..count]).into_owned();
        if !text.starts_with("STATUS=") && !text.starts_with("WATCHDOG=") {
            return text;
        }
    }
}

/// The target's memory, opened by this process.
fn keep(pid: u32) -> std::fs::File {
    let folder = format!("/proc/{pid}/fd");
    let named = |entry: &std::fs::DirEntry| {
        std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().contains("memfd:stampede-arena"))
    };
    let entry = std::fs::read_dir(folder).unwrap().flatten().find(named).expect("a memfd");
    std::fs::File::options().read(true).write(true).open(entry.path()).unwrap()
}

#[test]
fn what_cannot_be_trusted_is_dropped_and_its_owner_refused() {
    let arena = arena();
    let flags = ["--arena-dir", arena.path().to_str().unwrap(), "--arena", "16M"];
    let mut target = Target::start_with(TARGETS, &flags);
    let golden = target.folder().join("golden.img");
    let mut dice = Dice(9);
    let mut used = |target: &Target, number| {
        let mut machine = Machine::new(number, &golden);
        let mut raw = machine.login(target.address());
        machine.change(&mut raw, &mut dice, true);
        machine
    };
    let refused = |target: &Target, machine: &Machine| {
        let refusal = Raw::login(target.address(), &machine.name, NAME, 1).err();
        assert_eq!(refusal, Some(0x0202), "{}", target.log());
    };
    // Another layout.
    let machine = used(&target, 1);
    target.end();
    let file = std::fs::File::options().write(true).open(arena.path().join("stampede-arena")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &99_u64.to_ne_bytes(), 8).unwrap();
    drop(file);
    target.start_again(&flags);
    assert!(target.log().contains("its layout is version 99"), "{}", target.log());
    refused(&target, &machine);
    // Another golden.
    let machine = used(&target, 2);
    target.end();
    std::fs::OpenOptions::new().append(true).open(&golden).unwrap().set_len(65 << 20).unwrap();
    target.start_again(&flags);
    assert!(target.log().contains("freed=1"), "{}", target.log());
    refused(&target, &machine);
    // No records.
    let machine = used(&target, 3);
    target.end();
    std::fs::remove_dir_all(target.folder().join("state")).unwrap();
    target.start_again(&flags);
    let mut fresh = Machine::new(3, &golden);
    let mut raw = fresh.login(target.address());
    fresh.check(&mut raw);
    drop((machine, raw));
    target.stop();
}
