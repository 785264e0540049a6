//! ORWRITE and the generations of bitmaps (SBC-4 4.27, 5.10, 5.11).
#![allow(clippy::panic, reason = "a helper of tests fails like a test")]

mod common;

use common::*;
use stampede_scsi::{Device, Media, Reply, Status, Step, cdb};

const MISMATCH: (u8, u8, u8) = (0x05, 0x2C, 0x0C);

/// ORWRITE(32): BMOP, policy, the generation expected and the new one, blocks from block 8 on.
fn long(bmop: u8, policy: u8, expected: u32, new: u32, blocks: u32) -> ([u8; 16], [u8; 8]) {
    let (mut head, mut rest) = ([0; 16], [0; 16]);
    (head[0], head[2], head[3], head[7], head[9]) = (0x7F, bmop, policy, 24, 0x0E);
    rest[3] = 8;
    rest[4..8].copy_from_slice(&expected.to_be_bytes());
    rest[8..12].copy_from_slice(&new.to_be_bytes());
    rest[12..].copy_from_slice(&blocks.to_be_bytes());
    (cdb::condensed(&head, &rest), cdb::generations(&rest).to_be_bytes())
}

fn begin(device: &mut Device, (cdb, generations): ([u8; 16], [u8; 8]), blocks: u32) -> Step {
    device.start(A, &cdb, blocks * 512, &generations)
}

/// What a set operation with this generation comes to: done, dropped, or refused.
fn set(device: &mut Device, expected: u32) -> &'static str {
    match begin(device, long(0, 0, expected, 99, 2), 2) {
        Step::Media(Media::OrWrite { range, fua: false }) if (range.lba, range.count) == (8, 2) => "done",
        Step::Done(reply) if reply.status == Status::Good => "dropped",
        Step::Done(reply) if codes(&reply) == MISMATCH => "refused",
        step => panic!("{step:?}"),
    }
}

/// A change of generation, whose work on the medium ends so.
fn change(device: &mut Device, policy: u8, expected: u32, new: u32, good: bool) {
    let media = media(begin(device, long(1, policy, expected, new, 2), 2));
    assert!(matches!(media, Media::AndWrite { .. }) && media.writes(), "{media:?}");
    device.generation_begins(&media);
    device.generation_ended(&media, good);
}

fn refused(device: &mut Device, command: ([u8; 16], [u8; 8]), blocks: u32) -> Reply {
    done(begin(device, command, blocks))
}

#[test]
fn at_first_generation_0_alone_is_taken() {
    let mut device = unit();
    assert_eq!((set(&mut device, 0), set(&mut device, 1)), ("done", "refused"));
    let mut sixteen = padded(&[0x8B]);
    (sixteen[9], sixteen[13]) = (8, 1);
    assert!(matches!(start(&mut device, &sixteen), Step::Media(Media::OrWrite { .. })));
    change(&mut device, 7, 0, 5, true);
    assert_eq!((set(&mut device, 5), set(&mut device, 0)), ("done", "refused"));
    assert_eq!(codes(&done(start(&mut device, &sixteen))), MISMATCH, "ORWRITE(16) expects generation 0");
}

/// SBC-4 table 29.
#[test]
fn the_policy_says_what_becomes_of_other_generations() {
    for (policy, previous, other) in [
        (0, "done", "refused"),
        (2, "dropped", "refused"),
        (3, "done", "done"),
        (5, "dropped", "dropped"),
        (7, "refused", "refused"),
    ] {
        let mut device = unit();
        change(&mut device, 7, 0, 4, true);
        change(&mut device, policy, 4, 6, true);
        assert_eq!(set(&mut device, 6), "done", "{policy}");
        assert_eq!(set(&mut device, 4), previous, "{policy}");
        assert_eq!(set(&mut device, 0), other, "{policy}");
    }
    let mut device = unit();
    for policy in [1, 4, 6, 8, 15] {
        assert_eq!(cdb_field(&refused(&mut device, long(1, policy, 0, 1, 2), 2)), (3, Some(3)), "{policy}");
    }
    assert_eq!(set(&mut device, 0), "done");
}

#[test]
fn a_generation_changes_when_its_blocks_are_written_and_not_before() {
    let mut device = unit();
    let media = media(begin(&mut device, long(1, 3, 0, 4, 2), 2));
    device.generation_begins(&media);
    for command in [long(0, 0, 0, 0, 1), long(1, 3, 0, 9, 1)] {
        assert_eq!(refused(&mut device, command, 1).status, Status::Busy, "it is one sequence");
    }
    device.generation_ended(&media, false);
    assert_eq!((set(&mut device, 0), set(&mut device, 4)), ("done", "refused"), "it failed");
    change(&mut device, 7, 0, 4, true);
    assert_eq!((set(&mut device, 0), set(&mut device, 4)), ("refused", "done"));
    assert_eq!(codes(&refused(&mut device, long(1, 3, 0, 9, 2), 2)), MISMATCH);
}

#[test]
fn a_change_without_blocks_is_done_at_once() {
    let mut device = unit();
    assert_eq!(refused(&mut device, long(1, 7, 0, 4, 0), 0).status, Status::Good);
    assert_eq!((set(&mut device, 0), set(&mut device, 4)), ("refused", "done"));
}

#[test]
fn a_hard_reset_ends_generations_and_a_reset_of_the_unit_does_not() {
    let mut device = unit();
    change(&mut device, 5, 0, 4, true);
    device.reset_by(B);
    assert_eq!(codes(&send(&mut device, A, &[0])), (0x06, 0x29, 0x03));
    assert_eq!((set(&mut device, 4), set(&mut device, 0)), ("done", "dropped"));
    device.reset();
    assert_eq!(codes(&send(&mut device, A, &[0])), (0x06, 0x29, 0x02));
    assert_eq!((set(&mut device, 4), set(&mut device, 0)), ("refused", "done"));
}

#[test]
fn what_is_wrong_in_it_is_pointed_at_in_32_bytes() {
    let mut device = unit();
    assert_eq!(cdb_field(&refused(&mut device, long(2, 0, 0, 0, 1), 1)), (2, Some(2)));
    let (mut short, generations) = long(0, 0, 0, 0, 1);
    short[14] = 0x20;
    assert_eq!(cdb_field(&refused(&mut device, (short, generations), 1)), (10, Some(7)));
    assert_eq!(cdb_field(&refused(&mut device, long(0, 0, 0, 0, 9000), 9000)), (28, None));
    let reply = refused(&mut device, long(1, 7, 0, 4, 2), 1);
    assert_eq!(codes(&reply), (0x05, 0x0E, 0x03), "half the data of a change");
    assert_eq!(set(&mut device, 0), "done", "nothing has changed");
}
