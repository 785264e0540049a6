//! Peers that break the rules, hold what they can, or are many. The target answers as the protocol says or closes; it
//! never ends, never keeps anything of theirs, and serves everybody else meanwhile.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod common;
#[path = "common/raw.rs"]
mod raw;

use common::Target;
use raw::{FINAL, Heard, READ, Raw, WRITE, login_request, names, opcode, pdu, transfer_10};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Ends the work beside an attack, also when the attack fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Somebody who works beside an attack and checks every byte; counts rounds.
fn beside<T>(address: &str, target: &str, attack: impl FnOnce() -> T) -> (T, u32) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let honest = scope.spawn(|| {
            let mut honest = Raw::login(address, "iqn.2026-11.example:honest", target, 1).unwrap();
            let mut rounds = 0;
            while !over.load(Ordering::Relaxed) {
                honest.verify(60_000 + rounds % 64 * 512, 512, rounds as u8);
                rounds += 1;
            }
            // Whatever happened: it still works now.
            honest.verify(60_000, 512, 99);
            rounds
        });
        let end = Over(&over);
        let result = attack();
        drop(end);
        (result, honest.join().unwrap())
    })
}

fn open_files(target: &Target) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", target.pid())).unwrap().count()
}

/// Waits until the target holds no more descriptors than `before`, and no session.
fn settles(target: &Target, before: usize) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let (files, status) = (open_files(target), target.status_value());
        let sessions = status["sessions"].as_array().unwrap().len();
        if files <= before && sessions == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "{files} files, {before} before; {sessions} sessions");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ends_well(target: Target) {
    let log = target.log();
    assert!(!log.contains("panic") && !log.contains("ERROR"), "{log}");
    target.stop();
}

#[test]
fn a_login_that_is_none_is_closed_or_refused() {
    let target = Target::start(&["data=disk.img"]);
    let before = open_files(&target);
    let login = |more: &[u8]| login_request(7, &[&names("iqn.x", "data")[..], more].concat());
    let long = login(&[b"X=".as_slice(), &[b'y'; 9000], b"\0"].concat());
    let mut lengths = login(b"");
    lengths[4..8].fill(0xff);
    let mut continued = login(b"");
    continued[1] = 0x44;
    let many = [&continued[..], &login_request(7, &[b"X-a=", &[b'v'; 4000][..], b"\0"].concat()).repeat(40)]
        .concat();
    beside(target.address(), "data", || {
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: a.host.with.a.long.name.example\r\n\r\n"[..],
            &[0; 4096],
            &[0xff; 4096],
            &long,
            &lengths,
            &many,
            &login_request(7, b""),
            &login_request(7, b"=\0=\0"),
            &login_request(7, b"InitiatorName\0"),
            &login_request(7, b"InitiatorName=iqn.x"),
            &login_request(7, b"InitiatorName=iqn.x\0\xff\xfe=\xff\0"),
            &login_request(7, &names("iqn.x", "nothing")),
            &login_request(7, &names(&"a".repeat(300), "data")),
            &login_request(7, &names("two words", "data")),
            &login(b"HeaderDigest=None\0HeaderDigest=None\0"),
            &login(&[b'K'; 100]),
            &[login(b""), pdu([0x43; 48], b"")].concat(),
            &[[0x01].as_slice(), &[0; 47]].concat(),
        ] {
            let mut peer = Raw::connect(target.address());
            peer.send(bytes);
            assert!(peer.is_closed_within(Duration::from_secs(5)), "{:x?}", &bytes[..bytes.len().min(80)]);
        }
    });
    settles(&target, before);
    ends_well(target);
}

#[test]
fn silence_ends_with_the_login_timeout() {
    let target = Target::start_with(&["data=disk.img"], &["--login-timeout", "1s"]);
    let before = open_files(&target);
    let begun = Instant::now();
    let mut crowd: Vec<Raw> = (0..400).map(|_| Raw::connect(target.address())).collect();
    for (half, peer) in crowd.iter_mut().enumerate() {
        // From nothing to all but one byte of a header.
        peer.send(&login_request(1, b"")[..half % 48]);
    }
    let (_, rounds) = beside(target.address(), "data", || {
        for peer in &mut crowd {
            assert!(peer.is_closed_within(Duration::from_secs(5)));
        }
    });
    assert!(begun.elapsed() >= Duration::from_secs(1) && rounds > 0, "{:?}, {rounds}", begun.elapsed());
    settles(&target, before);
    ends_well(target);
}

/// What a command and what follows it lead to.
#[derive(Clone, Copy, Debug)]
enum Ends {
    /// With this SCSI status.
    Status(u8),
    /// With a Reject.
    Reject,
    /// With the connection.
    Closed,
}

/// Answers the R2T of a write with a Data-Out of `len` bytes some of whose header bytes are others.
fn wrong_data_out(peer: &mut Raw, write: [u8; 16], changes: &[(usize, u8)], len: usize) {
    let header = peer.command(write, FINAL | WRITE, 32_768);
    peer.send(&pdu(header, &[]));
    assert_eq!(peer.hear(), Heard::Pdu(opcode::R2T));
    let mut header = peer.data_out(0);
    for (at, value) in changes {
        header[*at] = *value;
    }
    peer.send(&pdu(header, &vec![0; len]));
}

#[test]
fn a_wrong_pdu_has_the_protocols_answer() {
    let target = Target::start(&["data=disk.img"]);
    let before = open_files(&target);
    let write = transfer_10(0x2a, 0, 64);
    type Attack = fn(&mut Raw, [u8; 16]);
    let attacks: [(&str, Ends, Attack); 9] = [
        ("immediate data beyond the command's length", Ends::Status(2), |peer, write| {
            let header = peer.command(write, FINAL | WRITE, 32_768);
            peer.send(&pdu(header, &[0; 40_000]));
        }),
        ("unsolicited data where InitialR2T is Yes", Ends::Status(2), |peer, write| {
            let header = peer.command(write, WRITE, 32_768);
            peer.send(&pdu(header, &[]));
        }),
        ("a write of 4 GiB", Ends::Status(2), |peer, _| {
            let mut cdb = [0x8a; 16];
            cdb[2..].fill(0);
            cdb[10..14].fill(0xff);
            let header = peer.command(cdb, FINAL | WRITE, u32::MAX);
            peer.send(&pdu(header, &[]));
        }),
        ("a logical unit that is not there", Ends::Status(2), |peer, write| {
            let mut header = peer.command(write, FINAL | WRITE, 32_768);
            header[9] = 77;
            peer.send(&pdu(header, &[0; 512]));
        }),
        ("the reserved task tag", Ends::Reject, |peer, write| {
            let mut header = peer.command(write, FINAL | WRITE, 32_768);
            header[16..20].fill(0xff);
            peer.send(&pdu(header, &[]));
        }),
        ("SNACK without error recovery", Ends::Reject, |peer, _| {
            let mut header = [0; 48];
            header[..2].copy_from_slice(&[0x10, FINAL]);
            peer.send(&header);
        }),
        ("a skipped CmdSN", Ends::Closed, |peer, write| {
            peer.cmd_sn += 3;
            let header = peer.command(write, FINAL | WRITE, 32_768);
            peer.send(&pdu(header, &[]));
        }),
        ("a data segment of 16 MiB", Ends::Closed, |peer, write| {
            let mut header = peer.command(write, FINAL | WRITE, 32_768);
            header[5..8].fill(0xff);
            peer.send(&header);
        }),
        ("an additional header of 1,020 bytes", Ends::Closed, |peer, write| {
            let mut header = peer.command(write, FINAL | WRITE, 32_768);
            header[4] = 0xff;
            peer.send(&header);
        }),
    ];
    let meet = |what: &str, ends: Ends, attack: &dyn Fn(&mut Raw)| {
        let mut peer = Raw::login(target.address(), "iqn.2026-11.example:rude", "data", 2).unwrap();
        peer.verify(0, 8, 0);
        attack(&mut peer);
        let heard = peer.hear();
        let met = match ends {
            Ends::Status(status) => heard == Heard::Pdu(opcode::RESPONSE) && peer.header[3] == status,
            Ends::Reject => heard == Heard::Pdu(opcode::REJECT),
            Ends::Closed => heard == Heard::Closed || peer.is_closed_within(Duration::from_secs(5)),
        };
        assert!(met, "{what}: {heard:?} {:x?} instead of {ends:?}", peer.header);
        if !matches!(ends, Ends::Closed) {
            // A mistake, but no reason to stop talking.
            peer.verify(0, 8, 1);
        }
    };
    for (what, ends, attack) in attacks {
        meet(what, ends, &|peer| attack(peer, write));
    }
    for (what, ends, changes, len) in [
        ("Data-Out with a wrong tag", Ends::Closed, &[(23, 0x77)][..], 512),
        ("Data-Out at a wrong offset", Ends::Status(2), &[(42, 0x10)], 512),
        (
            "Data-Out at the end of all offsets",
            Ends::Status(2),
            &[(40, 0xff), (41, 0xff), (42, 0xff), (43, 0xff)],
            512,
        ),
        ("Data-Out of too many bytes", Ends::Status(2), &[], 65_536),
        ("Data-Out that ends early", Ends::Status(2), &[], 512),
        ("Data-Out with a wrong number", Ends::Status(2), &[(39, 9)], 32_768),
    ] {
        meet(what, ends, &|peer| wrong_data_out(peer, write, changes, len));
    }
    settles(&target, before);
    ends_well(target);
}

#[test]
fn who_holds_memory_for_nothing_does_not_hold_up_the_others() {
    let target = Target::start_with(&["data=disk.img"], &["--buffers", "16M"]);
    let before = open_files(&target);
    let begun = Instant::now();
    let (crowd, rounds) = beside(target.address(), "data", || {
        let crowd: Vec<Raw> = (10..18)
            .map(|isid| {
                let (operation, flag) = if isid % 2 == 0 { (0x28, READ) } else { (0x2a, WRITE) };
                let mut peer =
                    Raw::login(target.address(), "iqn.2026-11.example:greedy", "data", isid).unwrap();
                peer.run([0; 16], &[], 0);
                for _ in 0..32 {
                    let header = peer.command(transfer_10(operation, 0, 2048), FINAL | flag, 1 << 20);
                    peer.send(&pdu(header, &[]));
                }
                peer
            })
            .collect();
        std::thread::sleep(Duration::from_millis(500));
        crowd
    });
    // The honest one has done its last round: the target's patience with the others ended before its own.
    assert!(begun.elapsed() < Duration::from_secs(18), "{:?}, {rounds} rounds", begun.elapsed());
    crowd.into_iter().for_each(Raw::vanish);
    settles(&target, before);
    ends_well(target);
}

#[test]
fn logins_of_one_port_replace_each_other_as_fast_as_they_come() {
    let target = Target::start(&["data=disk.img", "os=golden.img,clone=ephemeral"]);
    let before = open_files(&target);
    for name in ["data", "os"] {
        beside(target.address(), "data", || {
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        for round in 0..30u8 {
                            let mut peer = Raw::connect(target.address());
                            peer.send(&login_request(9, &names("iqn.2026-11.example:again", name)));
                            if round % 3 > 0 {
                                let read = peer.command(transfer_10(0x28, 0, 64), FINAL | READ, 32_768);
                                peer.hear();
                                peer.send(&pdu(read, &[]));
                            }
                        }
                    });
                }
            });
        });
        let mut last = Raw::login(target.address(), "iqn.2026-11.example:again", name, 9).unwrap();
        last.verify(0, 8, 5);
        drop(last);
    }
    settles(&target, before);
    ends_well(target);
}

/// xorshift: the same numbers every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// A few valid requests, then some bytes of them changed.
fn mutated(peer: &mut Raw, numbers: &mut Numbers) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..=numbers.below(12) {
        let blocks = [1, 8, 64, 512][numbers.below(4)];
        let lba = numbers.below(50_000) as u32;
        let next = match numbers.below(5) {
            0 | 1 => {
                let header =
                    peer.command(transfer_10(0x28, lba, blocks), FINAL | READ, u32::from(blocks) * 512);
                pdu(header, &[])
            }
            2 | 3 => {
                let header =
                    peer.command(transfer_10(0x2a, lba, blocks), FINAL | WRITE, u32::from(blocks) * 512);
                pdu(header, &vec![1; numbers.below(usize::from(blocks) * 512)])
            }
            _ => {
                let mut header = peer.command([0; 16], FINAL | (1 + numbers.below(8) as u8), u32::MAX);
                header[0] = [0x42, 0x40, 0x44, 0x05][numbers.below(4)];
                pdu(header, &[])
            }
        };
        stream.extend(next);
    }
    for _ in 0..numbers.below(4) {
        let at = numbers.below(stream.len());
        stream[at] = [0, 1, 0x7f, 0x80, 0xff, numbers.below(256) as u8][numbers.below(6)];
    }
    stream
}

#[test]
fn changed_bytes_in_valid_requests_hurt_nobody_else() {
    let target = Target::start(&["data=disk.img", "os=golden.img,clone=ephemeral", "good=good.img"]);
    let before = open_files(&target);
    let (sessions, rounds) = beside(target.address(), "good", || {
        let attack = |thread: u8| {
            let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ u64::from(thread) << 32);
            let (begun, mut sessions) = (Instant::now(), 0);
            while begun.elapsed() < Duration::from_secs(4) {
                let name = ["data", "os"][numbers.below(2)];
                let initiator = format!("iqn.2026-11.example:fuzz{thread}");
                let Ok(mut peer) = Raw::login(target.address(), &initiator, name, thread) else { continue };
                let stream = mutated(&mut peer, &mut numbers);
                peer.send(&stream);
                peer.is_closed_within(Duration::from_millis(20));
                sessions += 1;
            }
            sessions
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || attack(thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>()
        })
    });
    assert!(sessions > 20 && rounds > 0, "{sessions} sessions, {rounds} rounds beside them");
    settles(&target, before);
    ends_well(target);
}
