//! SANITIZE: what it takes, what it keeps away from the medium, and what the store has of it (SBC-4 4.11 and 5.30).
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail like a test")]

mod common;

use common::*;
use stampede_scsi::{Device, DeviceConfig, Reply, Sanitize, SavedState, Status, Step};

const GOOD: Status = Status::Good;
const IN_PROGRESS: (u8, u8, u8) = (0x02, 0x04, 0x1B);
const FAILED: (u8, u8, u8) = (0x03, 0x31, 0x03);
const IN_CDB: (u8, u8, u8) = (0x05, 0x24, 0x00);
const IN_LIST: (u8, u8, u8) = (0x05, 0x26, 0x00);
const IMMED: u8 = 0x80;
const AUSE: u8 = 0x20;
const OVERWRITE: u8 = 0x01;
const BLOCK_ERASE: u8 = 0x02;
const CRYPTOGRAPHIC_ERASE: u8 = 0x03;
const EXIT_FAILURE_MODE: u8 = 0x1F;

fn durable() -> DeviceConfig {
    DeviceConfig { durable: true, ..config() }
}

/// SANITIZE without parameters.
fn cdb(action: u8) -> [u8; 10] {
    [0x48, action, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// OVERWRITE of these flags in the list's first byte, with this pattern.
fn overwrite(flags: u8, first: u8, pattern: &[u8]) -> ([u8; 10], Vec<u8>) {
    let [high, low] = (pattern.len() as u16).to_be_bytes();
    let list = [&[first, 0, high, low], pattern].concat();
    let [list_high, list_low] = (list.len() as u16).to_be_bytes();
    ([0x48, flags | OVERWRITE, 0, 0, 0, 0, 0, list_high, list_low, 0], list)
}

fn start(device: &mut Device, cdb: &[u8], list: &[u8]) -> Step {
    device.start(A, &padded(cdb), list.len() as u32, list)
}

fn refused(device: &mut Device, cdb: &[u8], list: &[u8]) -> (u8, u8, u8) {
    let Step::Done(reply) = start(device, cdb, list) else { panic!("{cdb:02x?} was taken") };
    assert_eq!(device.sanitizing(), None);
    codes(&reply)
}

/// A unit that is being sanitized.
fn sanitizing(flags: u8) -> Device {
    let mut device = unit();
    let step = start(&mut device, &cdb(flags | BLOCK_ERASE), &[]);
    assert_eq!(step, Step::Sanitize { immediate: flags & IMMED != 0 });
    device
}

/// One that was not to the end.
fn failed(flags: u8) -> Device {
    let mut device = sanitizing(flags);
    assert_eq!(codes(&done(device.sanitize_ended(false))), FAILED);
    device
}

fn medium_is_there(device: &mut Device) -> bool {
    send(device, A, &[0x00]).status == GOOD
}

#[test]
fn overwrite_takes_a_pattern_a_count_and_invert() {
    for (first, pattern) in [(1, vec![0xAA; 512]), (31, vec![7]), (0x82, vec![1, 2, 3])] {
        let mut device = unit();
        let (cdb, list) = overwrite(0, first, &pattern);
        assert_eq!(start(&mut device, &cdb, &list), Step::Sanitize { immediate: false });
        let wanted =
            Sanitize::Overwrite { passes: first & 0x1F, inverts: first & 0x80 != 0, pattern: pattern.into() };
        assert_eq!(device.sanitizing(), Some(&wanted));
    }
    let mut device = unit();
    let (mut cdb, list) = overwrite(0, 1, &[0; 512]);
    for (first, pattern_len, code) in
        [(0, 512, IN_LIST), (0x21, 512, IN_LIST), (0x61, 512, IN_LIST), (1, 0, IN_LIST), (1, 513, IN_LIST)]
    {
        let mut list = list.clone();
        list[0] = first;
        list[2..4].copy_from_slice(&u16::to_be_bytes(pattern_len));
        assert_eq!(refused(&mut device, &cdb, &list), code, "{first:02x} {pattern_len}");
    }
    let short = [1, 0, 1, 0, 9];
    let (short_cdb, _) = overwrite(0, 1, &[9]);
    assert_eq!(refused(&mut device, &short_cdb, &short), (0x05, 0x1A, 0x00), "a pattern that is not there");
    for length in [0u16, 1, 3, 4, 517] {
        cdb[7..9].copy_from_slice(&length.to_be_bytes());
        assert_eq!(refused(&mut device, &cdb, &vec![1; usize::from(length)]), IN_CDB, "{length}");
    }
}

#[test]
fn reserved_fields_and_what_is_not_offered_are_refused() {
    let mut device = unit();
    for action in [BLOCK_ERASE, EXIT_FAILURE_MODE] {
        for (byte, value) in [(1, 0x40 | action), (2, 1), (3, 0x80), (4, 1), (5, 1), (6, 1), (8, 8)] {
            let mut cdb = cdb(action);
            cdb[byte] = value;
            let list = vec![0; usize::from(cdb[8])];
            assert_eq!(refused(&mut device, &cdb, &list), IN_CDB, "{cdb:02x?}");
        }
    }
    for action in [0, CRYPTOGRAPHIC_ERASE, 4, 0x1E] {
        assert_eq!(refused(&mut device, &cdb(action), &[]), IN_CDB, "{action:02x}");
    }
    // BLOCK ERASE is for units whose blocks can be given back.
    let mut thick = unit_of(DeviceConfig { thin: false, ..config() });
    assert_eq!(refused(&mut thick, &cdb(BLOCK_ERASE), &[]), IN_CDB);
    let page = |device: &mut Device| send(device, A, &[0x12, 1, 0xB1, 0, 64]).data;
    assert_eq!((page(&mut device)[7], page(&mut thick)[7]), (0x40, 0x00), "WABEREQ and WACEREQ");
    let supported = |device: &mut Device, action: u8| {
        send(device, A, &[0xA3, 0x0C, 0x82, 0x48, 0, action, 0, 0, 0, 64, 0, 0]).data
    };
    assert_eq!(supported(&mut device, CRYPTOGRAPHIC_ERASE)[1], 1);
    assert_eq!(supported(&mut thick, BLOCK_ERASE)[1], 1);
    let usage = supported(&mut thick, OVERWRITE);
    assert_eq!(
        (usage[1], &usage[4..14]),
        (0x83, &[0x48, 0xE1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 4][..])
    );
    // 32 MiB.
    assert_eq!(&usage[14..26], &[0, 10, 0, 0, 0, 0, 0, 2, 0, 0, 0, 62]);
    assert_eq!(supported(&mut device, BLOCK_ERASE)[1], 0x83);
    assert_eq!(supported(&mut device, EXIT_FAILURE_MODE)[1], 0x83);
}

#[test]
fn cryptographic_erase_is_for_units_with_a_key() {
    let mut device = unit_of(DeviceConfig { encrypted: true, thin: false, ..durable() });
    let usage =
        send(&mut device, A, &[0xA3, 0x0C, 0x02, 0x48, 0, CRYPTOGRAPHIC_ERASE, 0, 0, 0, 64, 0, 0]).data;
    assert_eq!((usage[1], &usage[4..6]), (0x03, &[0x48, 0xE3][..]));
    assert_eq!(send(&mut device, A, &[0x12, 1, 0xB1, 0, 64]).data[7], 0x10, "WABEREQ and WACEREQ");
    for (byte, value) in [(1, 0x40 | CRYPTOGRAPHIC_ERASE), (2, 1), (6, 1), (8, 8)] {
        let mut cdb = cdb(CRYPTOGRAPHIC_ERASE);
        cdb[byte] = value;
        assert_eq!(refused(&mut device, &cdb, &vec![0; usize::from(cdb[8])]), IN_CDB, "{cdb:02x?}");
    }
    let Step::Save(begun) = start(&mut device, &cdb(IMMED | AUSE | CRYPTOGRAPHIC_ERASE), &[]) else {
        panic!("not stored")
    };
    assert_eq!(device.saved(true), Step::Sanitize { immediate: true });
    assert_eq!(device.sanitizing(), Some(&Sanitize::CryptographicErase));
    let next = Device::restored(device.config().clone(), SavedState::decode(&begun).unwrap());
    assert_eq!(next.sanitizing(), Some(&Sanitize::CryptographicErase));
    let mut read_only = unit_of(DeviceConfig { encrypted: true, read_only: true, ..config() });
    assert_eq!(refused(&mut read_only, &cdb(CRYPTOGRAPHIC_ERASE), &[]), (0x07, 0x27, 0x00));
}

#[test]
fn write_protection_and_reservations_keep_it_away() {
    let mut read_only = unit_of(DeviceConfig { read_only: true, ..config() });
    assert_eq!(refused(&mut read_only, &cdb(BLOCK_ERASE), &[]), (0x07, 0x27, 0x00));
    assert_eq!(send(&mut read_only, A, &cdb(EXIT_FAILURE_MODE)).status, GOOD);
    let mut device = unit();
    assert_eq!(send(&mut device, B, &[0x16]).status, GOOD);
    let (cdb_of_overwrite, list) = overwrite(0, 1, &[0]);
    for (cdb, list) in [(cdb(BLOCK_ERASE), &[][..]), (cdb_of_overwrite, &list), (cdb(EXIT_FAILURE_MODE), &[])]
    {
        let Step::Done(reply) = start(&mut device, &cdb, list) else { panic!("{cdb:02x?} was taken") };
        assert_eq!(reply.status, Status::ReservationConflict);
    }
}

#[test]
fn meanwhile_only_questions_about_the_unit_are_answered() {
    let mut device = sanitizing(0);
    device.sanitize_progress(0x4321);
    for cdb in [
        vec![0x00],
        vec![0x08, 0, 0, 0, 1],
        vec![0x1A, 0, 0x3F, 0, 255],
        vec![0x1B, 0, 0, 0, 1],
        vec![0x25],
        vec![0x28, 0, 0, 0, 0, 0, 0, 0, 1],
        vec![0x2A, 0, 0, 0, 0, 0, 0, 0, 1],
        vec![0x35],
        vec![0x48, BLOCK_ERASE],
        vec![0x48, EXIT_FAILURE_MODE],
        vec![0x4D, 0, 0x6F, 0, 0, 0, 0, 0, 64],
        vec![0x5E, 0, 0, 0, 0, 0, 0, 0, 64],
        vec![0x83, 0x10],
        vec![0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32],
    ] {
        let reply = send(&mut device, B, &cdb);
        assert_eq!(codes(&reply), IN_PROGRESS, "{cdb:02x?}");
        assert_eq!(reply.sense.unwrap().encode_fixed()[15..18], [0x80, 0x43, 0x21], "{cdb:02x?}");
    }
    for cdb in [
        vec![0x12, 0, 0, 0, 36],
        vec![0x4D, 0, 0x40, 0, 0, 0, 0, 0, 64],
        vec![0x4D, 0, 0x4D, 0, 0, 0, 0, 0, 64],
        vec![0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 16],
        vec![0xA3, 0x0A, 0, 0, 0, 0, 0, 0, 0, 64],
        vec![0xA3, 0x0C, 0, 0, 0, 0, 0, 0, 0, 64],
        vec![0xA3, 0x0D, 0, 0, 0, 0, 0, 0, 0, 4],
    ] {
        assert_eq!(send(&mut device, B, &cdb).status, GOOD, "{cdb:02x?}");
    }
    let sense = send(&mut device, B, &[0x03, 0, 0, 0, 18]).data;
    assert_eq!(((sense[2], sense[12], sense[13]), &sense[15..18]), (IN_PROGRESS, &[0x80, 0x43, 0x21][..]));
    let sense = send(&mut device, B, &[0x03, 1, 0, 0, 40]).data;
    assert_eq!(
        ((sense[1], sense[2], sense[3]), &sense[8..]),
        (IN_PROGRESS, &[2, 6, 0, 0, 0x80, 0x43, 0x21, 0][..])
    );
    assert_eq!(done(device.sanitize_ended(true)), Reply::good());
    assert!(medium_is_there(&mut device) && device.sanitizing().is_none());
}

#[test]
fn no_reset_ends_it() {
    let mut device = sanitizing(IMMED);
    device.reset_by(A);
    device.reset();
    device.nexus_lost(A);
    device.detach(A);
    device.attach(A, port(1));
    assert_eq!(codes(&send(&mut device, A, &[0])), (0x06, 0x29, 0x00));
    assert_eq!(codes(&send(&mut device, A, &[0])), IN_PROGRESS);
    assert!(device.eject(true).is_err() && device.is_loaded(), "it stays in");
    assert!(device.sanitizing().is_some());
}

#[test]
fn restricted_failure_mode_is_left_by_success_alone() {
    let mut device = failed(0);
    assert_eq!(codes(&send(&mut device, B, &[0])), FAILED);
    assert_eq!(send(&mut device, B, &[0x12, 0, 0, 0, 36]).status, GOOD);
    let sense = send(&mut device, B, &[0x03, 0, 0, 0, 18]).data;
    assert_eq!((sense[2], sense[12], sense[13]), FAILED);
    assert_eq!(refused(&mut device, &cdb(EXIT_FAILURE_MODE), &[]), IN_CDB);
    assert_eq!(refused(&mut device, &cdb(AUSE | BLOCK_ERASE), &[]), IN_CDB);
    device.reset_by(A);
    assert_eq!(codes(&send(&mut device, A, &[0])), (0x06, 0x29, 0x03));
    assert_eq!(start(&mut device, &cdb(BLOCK_ERASE), &[]), Step::Sanitize { immediate: false });
    assert_eq!(codes(&done(device.sanitize_ended(false))), FAILED);
    assert_eq!(start(&mut device, &cdb(BLOCK_ERASE), &[]), Step::Sanitize { immediate: false });
    assert_eq!(done(device.sanitize_ended(true)), Reply::good());
    assert!(medium_is_there(&mut device));
}

#[test]
fn unrestricted_failure_mode_is_left_on_demand() {
    let mut device = failed(AUSE);
    assert_eq!(codes(&send(&mut device, A, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1])), FAILED);
    assert_eq!(send(&mut device, A, &cdb(EXIT_FAILURE_MODE)).status, GOOD);
    assert!(medium_is_there(&mut device));
    assert_eq!(send(&mut device, A, &cdb(EXIT_FAILURE_MODE)).status, GOOD, "no work");
}

#[test]
fn tokens_of_what_was_there_are_worth_nothing() {
    let mut device = unit();
    let token = [0x83, 0x10, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 32];
    assert_eq!(device.start(A, &padded(&token), 32, &[0; 32]), Step::Copy);
    // The rest of the way is in `copy.rs`; here it matters that no copy command gets through.
    let mut device = sanitizing(0);
    assert_eq!(codes(&done(device.start(A, &padded(&token), 32, &[0; 32]))), IN_PROGRESS);
    let write_using_token = [0x83, 0x11];
    assert_eq!(codes(&send(&mut device, A, &write_using_token)), IN_PROGRESS);
}

#[test]
fn begin_and_end_are_stored_before_they_are_told() {
    let mut device = unit_of(durable());
    let (cdb_of_overwrite, list) = overwrite(AUSE, 0x83, &[5; 300]);
    let Step::Save(begun) = start(&mut device, &cdb_of_overwrite, &list) else { panic!("not stored") };
    assert!(medium_is_there(&mut device) && device.sanitizing().is_none(), "nothing has changed yet");
    assert_eq!(start(&mut device, &cdb(BLOCK_ERASE), &[]), Step::Wait, "one change at a time");
    assert_eq!(device.saved(true), Step::Sanitize { immediate: false });
    // The target ends, and another begins.
    let mut next = Device::restored(durable(), SavedState::decode(&begun).unwrap());
    next.attach(A, port(1));
    assert_eq!(codes(&send(&mut next, A, &[0])), (0x06, 0x29, 0x00));
    assert_eq!(codes(&send(&mut next, A, &[0])), IN_PROGRESS);
    let how = Sanitize::Overwrite { passes: 3, inverts: true, pattern: vec![5; 300].into() };
    assert_eq!(next.sanitizing(), Some(&how));
    // It fails there.
    let Step::Save(ended) = next.sanitize_ended(false) else { panic!("not stored") };
    assert_eq!(codes(&send(&mut next, A, &[0])), IN_PROGRESS, "nobody knows yet");
    assert_eq!(codes(&done(next.saved(true))), FAILED);
    let mut last = Device::restored(durable(), SavedState::decode(&ended).unwrap());
    last.attach(A, port(1));
    assert_eq!(codes(&send(&mut last, A, &[0])), (0x06, 0x29, 0x00));
    assert_eq!(codes(&send(&mut last, A, &[0])), FAILED);
    let Step::Save(left) = start(&mut last, &cdb(EXIT_FAILURE_MODE), &[]) else { panic!("not stored") };
    assert_eq!(left, [], "nothing is left to remember");
    assert_eq!(done(last.saved(true)), Reply::good());
    assert!(medium_is_there(&mut last));
}

#[test]
fn what_cannot_be_stored_does_not_begin_and_does_not_end() {
    let mut device = unit_of(durable());
    assert!(matches!(start(&mut device, &cdb(BLOCK_ERASE), &[]), Step::Save(_)));
    assert_eq!(codes(&done(device.saved(false))), (0x04, 0x44, 0x00));
    assert!(medium_is_there(&mut device) && device.sanitizing().is_none());
    assert!(matches!(start(&mut device, &cdb(AUSE | BLOCK_ERASE), &[]), Step::Save(_)));
    assert_eq!(device.saved(true), Step::Sanitize { immediate: false });
    // The store would have it done again: what is written until then would be lost.
    assert!(matches!(device.sanitize_ended(true), Step::Save(_)));
    assert_eq!(codes(&done(device.saved(false))), FAILED);
    assert_eq!(codes(&send(&mut device, A, &[0])), FAILED);
    assert!(matches!(start(&mut device, &cdb(EXIT_FAILURE_MODE), &[]), Step::Save(_)));
    assert_eq!(codes(&done(device.saved(false))), (0x04, 0x44, 0x00));
    assert_eq!(codes(&send(&mut device, A, &[0])), FAILED);
    assert!(matches!(start(&mut device, &cdb(EXIT_FAILURE_MODE), &[]), Step::Save(_)));
    assert_eq!(done(device.saved(true)), Reply::good());
    assert!(medium_is_there(&mut device));
}
