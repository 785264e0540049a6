//! What the operator does to a running target: LUNs resized, ejected, taken out of use; limits on sessions; pings.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod common;
#[path = "common/raw.rs"]
mod raw;

use common::Target;
use raw::{Heard, Raw, opcode, transfer_10};
use std::fs::File;
use std::time::{Duration, Instant};

const TEST_UNIT_READY: [u8; 16] = [0; 16];
const GOOD: (u8, u8, u8) = (0, 0, 0);

fn host(target: &Target, name: &str, isid: u8) -> Raw {
    let mut host = Raw::login(target.address(), &format!("iqn.2026-11.example:h{isid}"), name, isid).unwrap();
    assert_eq!(sense(&mut host, TEST_UNIT_READY, &[]), (6, 0x29, 0), "a new nexus");
    host
}

/// Sense key and code that a command ends with; zeros for GOOD.
fn sense(host: &mut Raw, cdb: [u8; 16], data_out: &[u8]) -> (u8, u8, u8) {
    match host.run(cdb, data_out, 0).0 {
        0 => GOOD,
        _ => (host.data[4] & 0xf, host.data[14], host.data[15]),
    }
}

fn blocks(host: &mut Raw) -> u32 {
    let mut cdb = [0; 16];
    cdb[0] = 0x25;
    let (status, data) = host.run(cdb, &[], 8);
    assert_eq!(status, 0);
    u32::from_be_bytes(data[..4].try_into().unwrap()) + 1
}

/// Asks; what it printed, or the error.
fn ask(target: &Target, arguments: &[&str]) -> Result<String, String> {
    let output = target.ask(arguments);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn a_lun_grows_while_it_is_in_use_and_shrinks_only_by_force() {
    let target = Target::start(&["data=disk.img", "os=golden.img,clone=ephemeral"]);
    let (mut one, mut two) = (host(&target, "data", 1), host(&target, "data", 2));
    assert_eq!(blocks(&mut one), 64 << 11);
    let said = ask(&target, &["lun", "resize", "data", "--size", "96M", "--json"]).unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&said["done"], &said["before_bytes"], &said["bytes"]),
        (&"resized".into(), &(64 << 20).into(), &(96 << 20).into())
    );
    assert_eq!(std::fs::metadata(target.folder().join("disk.img")).unwrap().len(), 96 << 20);
    for host in [&mut one, &mut two] {
        assert_eq!(sense(host, TEST_UNIT_READY, &[]), (6, 0x2a, 9));
        assert_eq!(blocks(host), 96 << 11);
    }
    assert_eq!(sense(&mut one, transfer_10(0x2a, (96 << 11) - 8, 8), &[7; 4096]), GOOD);
    let (status, data) = two.run(transfer_10(0x28, (96 << 11) - 8, 8), &[], 4096);
    assert_eq!((status, data), (0, vec![7; 4096]));

    // Its image became longer by other means.
    File::options().write(true).open(target.folder().join("disk.img")).unwrap().set_len(128 << 20).unwrap();
    assert!(
        ask(&target, &["lun", "resize", "data"]).unwrap().contains("resized from 100663296 to 134217728")
    );
    assert_eq!(sense(&mut two, TEST_UNIT_READY, &[]), (6, 0x2a, 9));
    assert_eq!(blocks(&mut two), 128 << 11);
    assert_eq!(sense(&mut two, transfer_10(0x2a, (128 << 11) - 1, 1), &[1; 512]), GOOD);
    assert!(ask(&target, &["lun", "resize", "data"]).unwrap().contains("already"));

    let refused = ask(&target, &["lun", "resize", "data", "--size", "32M"]).unwrap_err();
    assert!(refused.contains("Shrink their partitions") && refused.contains("--force"), "{refused}");
    assert_eq!(blocks(&mut two), 128 << 11);
    ask(&target, &["lun", "resize", "data", "--size", "32M", "--force"]).unwrap();
    assert_eq!(sense(&mut two, TEST_UNIT_READY, &[]), (6, 0x2a, 9));
    assert_eq!(sense(&mut two, transfer_10(0x28, 32 << 11, 1), &[]), (5, 0x21, 0));
    assert_eq!(
        std::fs::metadata(target.folder().join("disk.img")).unwrap().len(),
        128 << 20,
        "nothing is cut off"
    );

    for (arguments, what) in [
        (&["lun", "resize", "data", "--size", "1000"][..], "multiple of 512"),
        (&["lun", "resize", "none"], "no target `none`"),
        (&["lun", "resize", "data", "--lun", "3"], "with LUN 3"),
        (&["lun", "resize", "os", "--size", "1G"], "clone of its own"),
        (&["lun", "eject", "data"], "not removable"),
    ] {
        let refused = ask(&target, arguments).unwrap_err();
        assert!(refused.contains(what), "{arguments:?}: {refused}");
    }
    target.stop();
}

#[test]
fn a_medium_is_ejected_and_loaded_unless_an_initiator_prevents_it() {
    let target = Target::start(&["cd=disk.img,removable"]);
    let mut host = host(&target, "cd", 1);
    let mut prevent = [0; 16];
    (prevent[0], prevent[4]) = (0x1e, 1);
    assert_eq!(sense(&mut host, prevent, &[]), GOOD);
    let refused = ask(&target, &["lun", "eject", "cd"]).unwrap_err();
    assert!(refused.contains("prevents") && refused.contains("--force"), "{refused}");
    assert_eq!(sense(&mut host, TEST_UNIT_READY, &[]), GOOD);
    assert!(ask(&target, &["lun", "eject", "cd", "--force"]).unwrap().contains("ejected"));
    assert_eq!(sense(&mut host, TEST_UNIT_READY, &[]), (2, 0x3a, 0));
    assert!(ask(&target, &["lun", "list"]).unwrap().contains("no medium"));
    assert_eq!(target.status_value()["targets"][0]["luns"][0]["medium"], "out");
    ask(&target, &["lun", "load", "iqn.2026-11.io.stampede:cd", "--lun", "0"]).unwrap();
    assert_eq!(sense(&mut host, TEST_UNIT_READY, &[]), (6, 0x28, 0));
    assert_eq!(sense(&mut host, transfer_10(0x28, 0, 1), &[]), GOOD);
    prevent[4] = 0;
    assert_eq!(sense(&mut host, prevent, &[]), GOOD);
    ask(&target, &["lun", "eject", "cd"]).unwrap();
    assert_eq!(sense(&mut host, TEST_UNIT_READY, &[]), (2, 0x3a, 0));
    target.stop();
}

#[test]
fn an_access_state_is_told_and_lasts_where_initiators_may_change_it() {
    let mut target = Target::start(&["data=disk.img,alua=explicit", "plain=plain.img,alua=off"]);
    let mut one = host(&target, "data", 1);
    assert!(ask(&target, &["lun", "access", "data", "standby"]).unwrap().contains("access standby"));
    assert_eq!(sense(&mut one, TEST_UNIT_READY, &[]), (6, 0x2a, 6));
    assert_eq!(sense(&mut one, TEST_UNIT_READY, &[]), (2, 4, 0xb));
    assert_eq!(target.status_value()["targets"][0]["luns"][0]["access"], "standby");
    target.kill_and_restart(&[]);
    let mut one = host(&target, "data", 1);
    assert_eq!(sense(&mut one, TEST_UNIT_READY, &[]), (2, 4, 0xb), "it lasts");
    ask(&target, &["lun", "access", "data", "active"]).unwrap();
    assert_eq!(sense(&mut one, TEST_UNIT_READY, &[]), (6, 0x2a, 6));
    assert_eq!(sense(&mut one, TEST_UNIT_READY, &[]), GOOD);
    assert!(ask(&target, &["lun", "access", "plain", "standby"]).unwrap_err().contains("alua="));
    assert!(ask(&target, &["lun", "access", "data", "asleep"]).unwrap_err().contains("non-optimized"));
    target.stop();
}

#[test]
fn beyond_the_limit_of_sessions_a_login_waits_and_then_hears_0302() {
    let target = Target::start_with(&["data=disk.img"], &["--max-sessions", "1"]);
    let first = host(&target, "data", 1);
    let begun = Instant::now();
    let second = Raw::login(target.address(), "iqn.2026-11.example:second", "data", 2);
    assert_eq!(second.err(), Some(0x0302));
    assert!((3900..5000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    let admission = &target.status_value()["admission"];
    assert_eq!((&admission["refused_full"], &admission["limits"]["sessions"]), (&1.into(), &1.into()));
    let address = target.address().to_owned();
    let third = std::thread::spawn(move || {
        let begun = Instant::now();
        Raw::login(&address, "iqn.2026-11.example:third", "data", 3).map(|_| begun.elapsed())
    });
    std::thread::sleep(Duration::from_millis(500));
    first.vanish();
    let waited = third.join().unwrap().unwrap();
    assert!((400..3000).contains(&waited.as_millis()), "{waited:?}");
    assert!(target.ask(&["status"]).status.success());
    target.stop();
}

#[test]
fn silent_logins_give_way_when_there_is_no_room() {
    let target = Target::start_with(&["data=disk.img"], &["--max-logins", "4"]);
    let mut crowd: Vec<Raw> = (0..12).map(|_| Raw::connect(target.address())).collect();
    let mut honest = host(&target, "data", 1);
    assert_eq!(sense(&mut honest, transfer_10(0x28, 0, 1), &[]), GOOD);
    for silent in &mut crowd[..8] {
        assert!(silent.is_closed_within(Duration::from_secs(2)), "the first ones gave way");
    }
    assert!(target.status_value()["admission"]["displaced"].as_u64().unwrap() >= 8);
    target.stop();
}

#[test]
fn a_silent_initiator_is_pinged() {
    let target = Target::start_with(&["data=disk.img"], &["--nop-interval", "1s"]);
    let mut host = host(&target, "data", 1);
    let begun = Instant::now();
    assert!(matches!(host.hear(), Heard::Pdu(opcode::NOP_IN)));
    assert!((900..2500).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert_ne!(host.field(20), u32::MAX, "it wants an answer");
    target.stop();
}

/// The LUNs that REPORT LUNS names.
fn reported(host: &mut Raw) -> Vec<u8> {
    let mut cdb = [0; 16];
    (cdb[0], cdb[9]) = (0xa0, 128);
    let (status, data) = host.run(cdb, &[], 128);
    assert_eq!(status, 0);
    let len = u32::from_be_bytes(data[..4].try_into().unwrap()) as usize;
    data[8..8 + len].chunks(8).map(|lun| lun[1]).collect()
}

/// The designators of a LUN (VPD 83h).
fn identity(host: &mut Raw) -> Vec<u8> {
    let (status, data) = host.run([0x12, 1, 0x83, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[], 255);
    assert_eq!(status, 0);
    data
}

#[test]
fn a_lun_comes_to_a_running_target_and_goes_again() {
    let mut target =
        Target::start_with(&["data=disk.img", "os=golden.img,clone=ephemeral"], &["--cores", "0,1"]);
    let (mut one, mut two, mut os) =
        (host(&target, "data", 1), host(&target, "data", 2), host(&target, "os", 3));
    let image = target.folder().join("logs.img");
    File::create(&image).unwrap().set_len(32 << 20).unwrap();
    let logs = format!("logs={},lun=5", image.display());
    let said = ask(&target, &["lun", "add", "data", &logs]).unwrap();
    assert!(said.contains("LUN 5 of iqn.2026-11.io.stampede:data: added, 33554432 bytes"), "{said}");
    assert!(said.contains("configuration"), "{said}");
    assert_eq!(reported(&mut two), [0, 5], "which is how this one hears of it");
    assert_eq!(sense(&mut two, TEST_UNIT_READY, &[]), GOOD);
    assert_eq!(sense(&mut one, TEST_UNIT_READY, &[]), (6, 0x3f, 0x0e));
    assert_eq!(reported(&mut one), [0, 5]);
    assert_eq!(sense(&mut os, TEST_UNIT_READY, &[]), GOOD, "another target");
    (one.lun, two.lun) = (5, 5);
    assert_eq!(sense(&mut one, TEST_UNIT_READY, &[]), (6, 0x29, 0), "the unit is new to it");
    one.verify(8, 8, 3);
    let known = identity(&mut one);
    assert!(ask(&target, &["lun", "list"]).unwrap().contains("logs"));

    // Its mistakes are those of --target.
    let golden = format!("g={},lun=6,clone=ephemeral", target.folder().join("golden.img").display());
    for (arguments, what) in [
        (&["lun", "add", "data", &logs][..], "has a LUN 5 already: add lun=1"),
        (&["lun", "add", "none", &logs], "no target `none`"),
        (&["lun", "add", "data", &logs.replace("lun=5", "lun=6")], "two targets of one name"),
        (
            &["lun", "add", "data", &logs.replace("logs=", "more=").replace("lun=5", "lun=6")],
            "close LUN 5 of",
        ),
        (&["lun", "add", "data", "x=/nonexistent/x,lun=6"], "no such file"),
        (&["lun", "add", "data", "x=/nonexistent/x,lun=6,auth=chap"], "leave it out"),
        (&["lun", "add", "data", "x=/nonexistent/x,lun=6,encryption=aes-xts"], "takes a restart"),
        (&["lun", "add", "data", &golden], "boots that have begun"),
        (&["lun", "remove", "os"], "clone of its own"),
    ] {
        let refused = ask(&target, arguments).unwrap_err();
        assert!(refused.contains(what), "{arguments:?}: {refused}");
    }

    // Reserved, it stays unless by force.
    let mut reserve = [0; 16];
    reserve[0] = 0x16;
    assert_eq!(sense(&mut one, reserve, &[]), GOOD);
    let refused = ask(&target, &["lun", "remove", "logs"]).unwrap_err();
    assert!(refused.contains("reserved") && refused.contains("--force"), "{refused}");
    one.verify(8, 8, 4);
    assert!(ask(&target, &["lun", "remove", "logs", "--force"]).unwrap().contains("LUN 5 of"));
    assert_eq!(sense(&mut one, TEST_UNIT_READY, &[]), (5, 0x25, 0));
    assert_eq!(sense(&mut two, transfer_10(0x28, 0, 1), &[]), (5, 0x25, 0));
    (one.lun, two.lun) = (0, 0);
    assert_eq!(sense(&mut two, TEST_UNIT_READY, &[]), (6, 0x3f, 0x0e));
    assert_eq!(reported(&mut one), [0]);
    assert_eq!(sense(&mut one, TEST_UNIT_READY, &[]), GOOD);

    // The image is free, and comes back as who it was.
    let lent = format!("logs={},lun=5,ro", image.display());
    ask(&target, &["lun", "add", "iqn.2026-11.io.stampede:data", &lent]).unwrap();
    assert_eq!(sense(&mut one, TEST_UNIT_READY, &[]), (6, 0x3f, 0x0e));
    one.lun = 5;
    assert_eq!(sense(&mut one, TEST_UNIT_READY, &[]), (6, 0x29, 0));
    assert_eq!(identity(&mut one), known);
    assert_eq!(sense(&mut one, transfer_10(0x2a, 0, 1), &[0; 512]), (7, 0x27, 0));
    target.kill_and_restart(&[]);
    let mut one = host(&target, "data", 1);
    assert_eq!(reported(&mut one), [0], "the configuration says what there is");
    target.stop();
}
