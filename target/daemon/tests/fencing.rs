//! A target that dies and comes back: reservations of a cluster, and a sanitize operation under way.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod common;
#[path = "common/raw.rs"]
mod raw;

use common::Target;
use raw::{FINAL, Raw, WRITE, pdu, transfer_10};
use std::time::Duration;

const GOOD: u8 = 0x00;
const CONFLICT: u8 = 0x18;

const REGISTER_AND_IGNORE: u8 = 6;
const RESERVE: u8 = 1;
const PREEMPT_AND_ABORT: u8 = 5;
/// Write Exclusive, Registrants Only.
const WERO: u8 = 5;

/// PERSISTENT RESERVE OUT and its parameter list (SPC-4 6.16).
fn prout(action: u8, kind: u8, key: u64, service_key: u64, aptpl: bool) -> ([u8; 16], Vec<u8>) {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[2], cdb[8]) = (0x5f, action, kind, 24);
    let mut list = [key.to_be_bytes(), service_key.to_be_bytes(), [0; 8]].concat();
    list[20] = u8::from(aptpl);
    (cdb, list)
}

/// A node of the cluster: logged in, and over the power-on unit attention.
fn node(target: &Target, number: u8) -> Raw {
    let name = format!("iqn.2026-11.example:node{number}");
    let mut raw = Raw::login(target.address(), &name, "data", number).unwrap();
    assert_eq!(raw.run([0; 16], &[], 0).0, 2, "a new nexus hears of the power on");
    raw
}

fn reserve(node: &mut Raw, action: u8, keys: [u64; 2], aptpl: bool) -> u8 {
    let (cdb, list) = prout(action, WERO, keys[0], keys[1], aptpl);
    node.run(cdb, &list, 0).0
}

fn write(node: &mut Raw, lba: u32) -> u8 {
    node.run(transfer_10(0x2a, lba, 1), &[7; 512], 0).0
}

/// The registered keys.
fn keys(node: &mut Raw) -> Vec<u64> {
    let mut cdb = [0; 16];
    (cdb[0], cdb[7]) = (0x5e, 1);
    let (status, data) = node.run(cdb, &[], 256);
    assert_eq!(status, GOOD);
    let length = u32::from_be_bytes(data[4..8].try_into().unwrap()) as usize;
    data[8..8 + length].chunks(8).map(|key| u64::from_be_bytes(key.try_into().unwrap())).collect()
}

/// Key and type of the reservation.
fn holder(node: &mut Raw) -> Option<(u64, u8)> {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[8]) = (0x5e, 1, 24);
    let (status, data) = node.run(cdb, &[], 24);
    assert_eq!(status, GOOD);
    (data[7] == 16).then(|| (u64::from_be_bytes(data[8..16].try_into().unwrap()), data[21]))
}

#[test]
fn a_cluster_fights_over_a_disk_and_the_target_restarts_in_between() {
    let mut target = Target::start(&["data=disk.img"]);
    let (mut one, mut two) = (node(&target, 1), node(&target, 2));
    assert_eq!(reserve(&mut one, REGISTER_AND_IGNORE, [0, 1], true), GOOD);
    assert_eq!(reserve(&mut two, REGISTER_AND_IGNORE, [0, 2], true), GOOD);
    assert_eq!(reserve(&mut one, RESERVE, [1, 0], false), GOOD);
    assert_eq!((write(&mut one, 0), write(&mut two, 1)), (GOOD, GOOD));
    target.kill_and_restart(&[]);
    let (mut one, mut two) = (node(&target, 1), node(&target, 2));
    let mut stranger = node(&target, 3);
    assert_eq!((keys(&mut two), holder(&mut two)), (vec![1, 2], Some((1, WERO))));
    assert_eq!((write(&mut one, 0), write(&mut two, 1), write(&mut stranger, 2)), (GOOD, GOOD, CONFLICT));
    // The second node fences the first, and the target dies again.
    assert_eq!(reserve(&mut two, PREEMPT_AND_ABORT, [2, 1], false), GOOD);
    target.kill_and_restart(&[]);
    let (mut one, mut two) = (node(&target, 1), node(&target, 2));
    assert_eq!((keys(&mut two), holder(&mut two)), (vec![2], Some((2, WERO))));
    assert_eq!((write(&mut one, 0), write(&mut two, 1)), (CONFLICT, GOOD));
    target.stop();
}

/// kill -9 at any moment of a change: the next life has the last change that was answered, or the one under way, and
/// nothing else.
#[test]
fn kill_9_at_any_moment_leaves_the_last_answered_change_or_the_one_under_way() {
    let mut target = Target::start(&["data=disk.img"]);
    let (mut answered, mut under_way_won) = (0, 0);
    let mut key = 0;
    for round in 0..12u64 {
        let mut one = node(&target, 1);
        let kept = keys(&mut one);
        if round > 0 {
            assert_eq!(kept.len(), 1, "{kept:?}");
            assert!(kept[0] == answered || kept[0] == key, "{kept:?}: {answered} was answered, {key} sent");
            under_way_won += u64::from(kept[0] != answered);
        }
        for _ in 0..3 {
            key += 1;
            assert_eq!(reserve(&mut one, REGISTER_AND_IGNORE, [0, key], true), GOOD);
            answered = key;
        }
        key += 1;
        let (cdb, list) = prout(REGISTER_AND_IGNORE, 0, 0, key, true);
        let header = one.command(cdb, FINAL | WRITE, 24);
        one.send(&pdu(header, &list));
        // From nothing done to everything done: a change takes about a millisecond.
        std::thread::sleep(Duration::from_micros(round * 250));
        target.kill_and_restart(&[]);
    }
    eprintln!("the change under way was kept {under_way_won} times of 11");
    target.stop();
}

#[test]
fn saved_mode_pages_outlive_the_target() {
    let mut target = Target::start(&["data=disk.img"]);
    let mut one = node(&target, 1);
    let mut select = [0; 16];
    select[..5].copy_from_slice(&[0x15, 0x11, 0, 0, 16]);
    // The Control page with SWP.
    let mut list = [0, 0, 0, 0, 0x0a, 10, 0, 0x10, 0x08, 0, 0, 0, 0xff, 0xff, 0, 0];
    assert_eq!(one.run(select, &list, 0).0, GOOD);
    target.kill_and_restart(&[]);
    let mut one = node(&target, 1);
    let (status, data) = one.run([0x1a, 8, 0x0a, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[], 255);
    assert_eq!((status, data[2], data[8]), (GOOD, 0x90, 0x08), "write protected");
    assert_eq!(write(&mut one, 0), 2);
    list[8] = 0;
    assert_eq!(one.run(select, &list, 0).0, GOOD);
    assert_eq!(write(&mut one, 0), GOOD);
    target.stop();
}

/// SANITIZE of 64 MiB takes four seconds; the target is killed in the middle of it, twice.
#[test]
fn a_sanitize_operation_goes_on_when_the_target_is_back() {
    const IN_PROGRESS: [u8; 3] = [2, 4, 0x1b];
    let slow = ["data=disk.img,sanitize-rate=16M"];
    let mut target = Target::start(&slow);
    let mut one = node(&target, 1);
    assert_eq!(write(&mut one, 5), GOOD);
    // OVERWRITE, IMMED, one pass of this pattern.
    let mut cdb = [0; 16];
    cdb[..9].copy_from_slice(&[0x48, 0x81, 0, 0, 0, 0, 0, 0, 7]);
    assert_eq!(one.run(cdb, &[1, 0, 0, 3, 0xa, 0xb, 0xc], 0).0, GOOD);
    for _ in 0..2 {
        target.kill_and_restart(&[]);
        let mut one = node(&target, 1);
        assert_eq!(one.run([0; 16], &[], 0).0, 2);
        let sense = &one.data[2..];
        assert_eq!([sense[2] & 15, sense[12], sense[13]], IN_PROGRESS);
        assert_eq!(write(&mut one, 5), 2, "nobody writes before it is done");
    }
    let mut one = node(&target, 1);
    let begun = std::time::Instant::now();
    while one.run([0; 16], &[], 0).0 != GOOD {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never ends");
        std::thread::sleep(Duration::from_millis(20));
    }
    let wanted: Vec<u8> = [0xa, 0xb, 0xc].into_iter().cycle().take(512).collect();
    for lba in [0, 5, 0x1_0000, 0x1_ffff] {
        assert_eq!(one.run(transfer_10(0x28, lba, 1), &[], 512), (GOOD, wanted.clone()));
    }
    // What is done is not done again.
    assert_eq!(write(&mut one, 5), GOOD);
    target.kill_and_restart(&[]);
    let mut one = node(&target, 1);
    assert_eq!(one.run(transfer_10(0x28, 5, 1), &[], 512), (GOOD, vec![7; 512]));
    target.stop();
}
