//! A removable medium: START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL, what is refused without one (SBC-3 5.10 and 5.25).

mod common;

use common::*;
use stampede_scsi::{Device, Media, RemovalPrevented, Status, Step};

const EJECT: [u8; 6] = [0x1B, 0, 0, 0, 0x02, 0];
const LOAD: [u8; 6] = [0x1B, 0, 0, 0, 0x03, 0];
const READY: [u8; 6] = [0; 6];
const NO_MEDIUM: (u8, u8, u8) = (0x02, 0x3A, 0x00);
const PREVENTED: (u8, u8, u8) = (0x05, 0x53, 0x02);

fn removable() -> Device {
    let mut config = config();
    config.removable = true;
    unit_of(config)
}

fn eject(device: &mut Device) {
    let flush = Media::Flush { range: None, immediate: false };
    assert_eq!(device.start(A, &padded(&EJECT), 0, &[]), Step::Media(flush), "earlier writes become durable");
}

fn prevent(device: &mut Device, nexus: stampede_scsi::NexusId, prevent: u8) {
    assert_eq!(send(device, nexus, &[0x1E, 0, 0, 0, prevent, 0]).status, Status::Good);
}

#[test]
fn without_a_medium_what_needs_it_is_refused() {
    let mut device = removable();
    eject(&mut device);
    assert!(!device.is_loaded());
    for cdb in [
        vec![0x00],
        vec![0x08, 0, 0, 0, 1],
        vec![0x25],
        vec![0x28, 0, 0, 0, 0, 0, 0, 0, 1],
        vec![0x2A, 0, 0, 0, 0, 0, 0, 0, 1],
        vec![0x34],
        vec![0x35],
        vec![0x42],
        vec![0x93],
        vec![0x9E, 0x10],
        vec![0x9E, 0x12],
        vec![0x1B, 0, 0, 0, 0x01],
    ] {
        assert_eq!(codes(&send(&mut device, A, &cdb)), NO_MEDIUM, "{cdb:02x?}");
    }
    for cdb in [vec![0x12, 0, 0, 0, 36], vec![0x1A, 0, 0x3F, 0, 255], vec![0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 16]]
    {
        assert_eq!(send(&mut device, A, &cdb).status, Status::Good, "{cdb:02x?}");
    }
    let sense = send(&mut device, A, &[0x03, 0, 0, 0, 18]).data;
    assert_eq!((sense[2], sense[12], sense[13]), NO_MEDIUM);
}

#[test]
fn others_hear_that_the_medium_may_have_changed() {
    let mut device = removable();
    eject(&mut device);
    eject(&mut device);
    assert_eq!(send(&mut device, A, &LOAD).status, Status::Good);
    assert_eq!(send(&mut device, A, &READY).status, Status::Good);
    assert_eq!(codes(&send(&mut device, B, &READY)), (0x06, 0x28, 0x00));
    assert_eq!(send(&mut device, B, &READY).status, Status::Good);
    assert_eq!(send(&mut device, A, &LOAD).status, Status::Good, "it is there already");
    assert_eq!(send(&mut device, B, &READY).status, Status::Good);
}

#[test]
fn any_nexus_prevents_the_removal_until_it_allows_it_or_is_over() {
    let mut device = removable();
    prevent(&mut device, B, 1);
    for nexus in [A, B] {
        assert_eq!(codes(&send(&mut device, nexus, &EJECT)), PREVENTED);
    }
    assert_eq!(device.eject(false), Err(RemovalPrevented));
    prevent(&mut device, A, 0);
    assert_eq!(codes(&send(&mut device, A, &EJECT)), PREVENTED, "another's");
    prevent(&mut device, B, 0);
    eject(&mut device);
    prevent(&mut device, A, 1);
    assert_eq!(codes(&send(&mut device, A, &LOAD)), PREVENTED);
    device.detach(A);
    device.attach(A, port(1));
    assert_eq!(codes(&send(&mut device, A, &READY)), (0x06, 0x29, 0x00));
    assert_eq!(send(&mut device, A, &LOAD).status, Status::Good);
    for over in [Device::reset, |device: &mut Device| device.nexus_lost(A)] {
        prevent(&mut device, A, 1);
        over(&mut device);
        while send(&mut device, A, &READY).status != Status::Good {}
        eject(&mut device);
        assert_eq!(send(&mut device, A, &LOAD).status, Status::Good);
    }
}

#[test]
fn the_operator_ejects_and_loads() {
    let mut device = removable();
    device.eject(false).unwrap();
    assert_eq!(codes(&send(&mut device, B, &READY)), NO_MEDIUM);
    device.load();
    for nexus in [A, B] {
        assert_eq!(codes(&send(&mut device, nexus, &READY)), (0x06, 0x28, 0x00));
    }
    prevent(&mut device, A, 1);
    device.eject(true).unwrap();
    assert!(!device.is_loaded());
}

#[test]
fn power_conditions_leave_the_medium_in() {
    let mut device = removable();
    for condition in 1..16 {
        let step = device.start(A, &padded(&[0x1B, 1, 0, 0, condition << 4 | 2]), 0, &[]);
        assert!(matches!(step, Step::Media(Media::Flush { .. })) || done(step).status == Status::Good);
        assert_eq!(send(&mut device, A, &READY).status, Status::Good);
    }
}

#[test]
fn rmb_is_told() {
    assert_eq!(send(&mut removable(), A, &[0x12, 0, 0, 0, 36]).data[1], 0x80);
    assert_eq!(send(&mut unit(), A, &[0x12, 0, 0, 0, 36]).data[1], 0);
    let mut fixed = unit();
    prevent(&mut fixed, A, 1);
    assert_eq!(cdb_field(&send(&mut fixed, A, &EJECT)), (4, Some(1)));
}
