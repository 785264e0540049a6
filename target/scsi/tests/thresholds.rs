//! What a thin unit says of its space, and when it says so by itself (SBC-4 4.7.3.7, 6.4.5, 6.5.9).

mod common;

use common::*;
use stampede_scsi::{Device, DeviceConfig, NexusId, Reply, SavedState, SenseFormat, Space, Status, Step};

const MIB: u64 = 1 << 20;

/// A unit with so many MiB used and available.
fn has(device: &mut Device, used: u64, available: u64) {
    device.space_is(Space { used_bytes: used * MIB, available_bytes: available * MIB });
}

/// The page with SITUA and both thresholds.
fn page(situa: bool, low: Option<u32>, used: Option<u32>) -> Vec<u8> {
    let mut page = vec![0; 32];
    page[..5].copy_from_slice(&[0x5C, 2, 0, 28, u8::from(situa)]);
    for (at, kind, threshold) in [(16, [0, 1], low), (24, [1, 2], used)] {
        page[at..at + 2].copy_from_slice(&kind);
        if let Some(count) = threshold {
            page[at] |= 0x80;
            page[at + 4..at + 8].copy_from_slice(&count.to_be_bytes());
        }
    }
    page
}

fn select(device: &mut Device, page: &[u8], save: bool) -> Step {
    let mut list = vec![0; 4];
    list.extend_from_slice(page);
    let cdb = padded(&[0x15, 0x10 | u8::from(save), 0, 0, list.len() as u8, 0]);
    device.start(A, &cdb, list.len() as u32, &list)
}

/// Sets the page; the other initiator has heard of that.
fn set(device: &mut Device, page: &[u8]) {
    assert_eq!(done(select(device, page, false)).status, Status::Good);
    assert_eq!(codes(&send(device, B, &[0])), (0x06, 0x2A, 0x01));
}

/// INFORMATION of the 38h/07h that an initiator hears, if it hears one.
fn hears(device: &mut Device, nexus: NexusId) -> Option<u64> {
    let reply = send(device, nexus, &[0]);
    (reply.status != Status::Good).then(|| {
        assert_eq!(codes(&reply), (0x06, 0x38, 0x07));
        sense(&reply).information.expect("where the descriptor is")
    })
}

fn log(device: &mut Device) -> Reply {
    send(device, A, &[0x4D, 0, 0x40 | 0x0C, 0, 0, 0, 0, 0, 64, 0])
}

#[test]
fn the_log_page_counts_in_threshold_sets() {
    let mut device = unit();
    let b2 = send(&mut device, A, &[0x12, 1, 0xB2, 0, 64, 0]).data;
    assert_eq!(b2[4], 11, "sets of 2^11 blocks of 512 bytes");
    assert_eq!(
        log(&mut device).data[4..],
        [0, 1, 3, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 8, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    device.space_is(Space { used_bytes: MIB + 1, available_bytes: 5 * MIB - 1 });
    assert_eq!(
        log(&mut device).data[4..],
        [0, 1, 3, 8, 0, 0, 0, 4, 2, 0, 0, 0, 0, 2, 3, 8, 0, 0, 0, 2, 1, 0, 0, 0]
    );
    has(&mut device, 0, 1 << 40);
    assert_eq!(log(&mut device).data[8..12], [0xFF; 4], "more than can be counted");
    let mut large = unit_of(DeviceConfig { blocks: 1 << 50, ..config() });
    let b2 = send(&mut large, A, &[0x12, 1, 0xB2, 0, 64, 0]).data;
    assert!((1u64 << 50) >> b2[4] < 1 << 32, "the standard's bound: {}", b2[4]);
}

#[test]
fn a_unit_that_does_not_count_has_none_of_it() {
    for config in
        [DeviceConfig { thin: false, ..config() }, DeviceConfig { space_is_known: false, ..config() }]
    {
        let mut device = unit_of(config);
        has(&mut device, 1, 1);
        assert_eq!(cdb_field(&log(&mut device)), (2, Some(5)));
        assert_eq!(cdb_field(&send(&mut device, A, &[0x1A, 8, 0x1C, 2, 64, 0])), (3, Some(7)));
        assert_eq!(send(&mut device, A, &[0x1A, 8, 0x01, 0, 64, 0]).data[4 + 7], 0, "LBPERE");
        assert_eq!(send(&mut device, A, &[0x12, 1, 0xB2, 0, 64, 0]).data[4], 0, "THRESHOLD EXPONENT");
        let reply = done(select(&mut device, &page(false, Some(1), None), false));
        assert_eq!(parameter_field(&reply), (4, Some(6)), "there are no subpages");
    }
}

#[test]
fn thresholds_are_off_until_they_are_set() {
    let mut device = unit();
    assert_eq!(send(&mut device, A, &[0x1A, 8, 0x1C, 2, 64, 0]).data[4..], page(false, None, None));
    has(&mut device, 1 << 20, 0);
    assert_eq!(hears(&mut device, A), None);
    let changeable = send(&mut device, A, &[0x1A, 8, 0x5C, 2, 64, 0]).data;
    let mut mask = vec![0; 32];
    mask[..5].copy_from_slice(&[0x5C, 2, 0, 28, 1]);
    for at in [16, 24] {
        mask[at] = 0x80;
        mask[at + 4..at + 8].fill(0xFF);
    }
    assert_eq!(changeable[4..], mask);
    let mut other = page(false, Some(1), None);
    other[17] = 2;
    assert_eq!(parameter_field(&done(select(&mut device, &other, false))), (4 + 17, Some(1)));
}

#[test]
fn low_space_is_told_once_to_all_and_again_after_it_was_over() {
    let mut device = unit();
    has(&mut device, 0, 20);
    set(&mut device, &page(false, Some(10), None));
    for available in [15, 11, 10] {
        has(&mut device, 0, available);
        assert_eq!(hears(&mut device, A), None, "{available}");
    }
    device.space_is(Space { used_bytes: 0, available_bytes: 19 * MIB / 2 });
    assert_eq!(hears(&mut device, A), None, "the range's end is not below it");
    has(&mut device, 0, 9);
    assert_eq!((hears(&mut device, A), hears(&mut device, B)), (Some(16), Some(16)));
    for available in [8, 9, 10, 8] {
        has(&mut device, 0, available);
        assert_eq!(hears(&mut device, A), None, "it was told: {available}");
    }
    has(&mut device, 0, 11);
    has(&mut device, 0, 9);
    assert_eq!((hears(&mut device, A), hears(&mut device, B)), (Some(16), Some(16)));
}

#[test]
fn much_use_is_told_the_other_way_round() {
    let mut device = unit();
    has(&mut device, 4, 20);
    set(&mut device, &page(false, None, Some(5)));
    for used in [5, 4, 5] {
        has(&mut device, used, 20);
        assert_eq!(hears(&mut device, B), None, "{used}");
    }
    has(&mut device, 6, 20);
    assert_eq!((hears(&mut device, A), hears(&mut device, B)), (Some(24), Some(24)));
    has(&mut device, 5, 20);
    has(&mut device, 6, 20);
    assert_eq!(hears(&mut device, A), None);
    has(&mut device, 4, 20);
    has(&mut device, 6, 20);
    assert_eq!(hears(&mut device, A), Some(24));
}

#[test]
fn a_threshold_that_is_behind_already_is_told_at_once() {
    let mut device = unit();
    has(&mut device, 9, 9);
    assert_eq!(done(select(&mut device, &page(false, Some(10), Some(5)), false)).status, Status::Good);
    assert_eq!(
        (hears(&mut device, A), hears(&mut device, A)),
        (Some(16), Some(24)),
        "both, one after the other"
    );
    assert_eq!(hears(&mut device, A), None);
}

#[test]
fn with_situa_one_initiator_hears_it() {
    let mut device = unit();
    has(&mut device, 0, 20);
    set(&mut device, &page(true, Some(10), None));
    has(&mut device, 0, 9);
    assert_eq!(hears(&mut device, B), Some(16), "whose command comes first");
    assert_eq!(hears(&mut device, A), None);
    device.attach(NexusId(3), port(3));
    assert_eq!(codes(&send(&mut device, NexusId(3), &[0])), (0x06, 0x29, 0x00));
    assert_eq!(hears(&mut device, NexusId(3)), None, "one has heard it");
}

#[test]
fn who_comes_later_hears_it_too() {
    let mut device = unit();
    device.detach(A);
    device.detach(B);
    let later = |device: &mut Device, nexus: NexusId, n: u8| {
        device.attach(nexus, port(n));
        assert_eq!(codes(&send(device, nexus, &[0])), (0x06, 0x29, 0x00));
        hears(device, nexus)
    };
    assert_eq!(later(&mut device, A, 1), None);
    assert_eq!(done(select(&mut device, &page(false, Some(10), None), false)).status, Status::Good);
    device.detach(A);
    has(&mut device, 0, 9);
    assert_eq!(later(&mut device, A, 1), Some(16));
    assert_eq!(later(&mut device, B, 2), Some(16));
    has(&mut device, 0, 20);
    assert_eq!(later(&mut device, NexusId(3), 3), None, "it is over");
}

#[test]
fn nothing_is_told_while_lbpere_is_zero() {
    let mut device = unit();
    has(&mut device, 0, 20);
    set(&mut device, &page(false, Some(10), None));
    let mut recovery = send(&mut device, A, &[0x1A, 8, 0x01, 0, 64, 0]).data[4..].to_vec();
    assert_eq!(recovery[7], 0x80);
    recovery[7] = 0;
    set(&mut device, &recovery);
    has(&mut device, 0, 9);
    assert_eq!(hears(&mut device, A), None);
    recovery[7] = 0x80;
    assert_eq!(done(select(&mut device, &recovery, false)).status, Status::Good);
    assert_eq!(hears(&mut device, A), Some(16));
}

#[test]
fn a_reset_has_it_told_again_by_the_saved_values() {
    let mut device = unit_of(DeviceConfig { durable: true, ..config() });
    has(&mut device, 0, 9);
    let Step::Save(state) = select(&mut device, &page(false, Some(10), None), true) else {
        panic!("not saved")
    };
    assert_eq!(done(device.saved(true)).status, Status::Good);
    assert_eq!(hears(&mut device, A), Some(16));
    device.reset();
    assert_eq!(codes(&send(&mut device, A, &[0])), (0x06, 0x29, 0x02));
    assert_eq!(hears(&mut device, A), Some(16));
    // A start of the target, too.
    let saved = SavedState::decode(&state).expect("what was saved");
    let mut again = Device::restored(DeviceConfig { durable: true, ..config() }, saved);
    again.attach(A, port(1));
    assert_eq!(codes(&send(&mut again, A, &[0])), (0x06, 0x29, 0x00));
    assert_eq!(send(&mut again, A, &[0x1A, 8, 0xDC, 2, 64, 0]).data[5..], page(false, Some(10), None)[1..]);
    assert_eq!(hears(&mut again, A), None, "it is not known yet");
    has(&mut again, 0, 9);
    assert_eq!(hears(&mut again, A), Some(16));
}

#[test]
fn the_information_is_there_in_both_formats() {
    let mut device = unit();
    has(&mut device, 9, 20);
    assert_eq!(done(select(&mut device, &page(false, None, Some(5)), false)).status, Status::Good);
    let reply = send(&mut device, A, &[0]);
    let sense = sense(&reply);
    assert_eq!(sense.encode()[..7], [0xF0, 0, 6, 0, 0, 0, 24]);
    let bytes = sense.with_format(SenseFormat::Descriptor).encode();
    assert_eq!(bytes[8..], [0, 0x0A, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 24]);
}
