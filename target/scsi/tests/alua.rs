//! Asymmetric logical unit access (SPC-4 5.16).
#![allow(clippy::panic, reason = "helpers of tests fail like a test")]

mod common;

use common::*;
use stampede_scsi::{Alua, Device, DeviceConfig, Reply, SavedState, Status, Step};

const GOOD: Status = Status::Good;

fn explicit() -> Device {
    unit_of(DeviceConfig { alua: Alua::Explicit, ..config() })
}

fn set(device: &mut Device, state: u8) -> Reply {
    let list = [0, 0, 0, 0, state, 0, 0, 1];
    send_param(device, A, &[0xA4, 0x0A, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0], &list)
}

fn report(device: &mut Device) -> Vec<u8> {
    send(device, A, &[0xA3, 0x0A, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]).data
}

#[test]
fn one_group_is_active_and_the_inquiry_agrees() {
    for (alua, tpgs) in [(Alua::Off, 0x00), (Alua::Implicit, 0x10), (Alua::Explicit, 0x30)] {
        let mut device = unit_of(DeviceConfig { alua, ..config() });
        assert_eq!(send(&mut device, A, &[0x12, 0, 0, 0, 96, 0]).data[5] & 0x30, tpgs);
        let reply = send(&mut device, A, &[0xA3, 0x0A, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        if alua == Alua::Off {
            assert_eq!(cdb_field(&reply), (1, Some(4)));
        } else {
            assert_eq!(reply.data, [0, 0, 0, 12, 0x00, 0x0F, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]);
        }
        let set = set(&mut device, 2);
        assert_eq!(set.status == GOOD, alua == Alua::Explicit, "{set:?}");
    }
    let mut device = unit();
    let extended = send(&mut device, A, &[0xA3, 0x2A, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]).data;
    assert_eq!(extended[..9], [0, 0, 0, 16, 0x10, 0, 0, 0, 0x00]);
    assert_eq!(cdb_field(&send(&mut device, A, &[0xA3, 0x4A, 0, 0, 0, 0, 0, 0, 1, 0])), (1, Some(7)));
}

#[test]
fn each_state_does_its_commands() {
    let mut device = explicit();
    for (state, refused) in [(1, None), (2, Some((2, 4, 0x0B))), (3, Some((2, 4, 0x0C))), (0, None)] {
        assert_eq!(set(&mut device, state).status, GOOD);
        assert_eq!(codes(&send(&mut device, B, &[0])), (0x06, 0x2A, 0x06), "the other is told of the change");
        assert_eq!(report(&mut device)[4], state);
        let ready = send(&mut device, A, &[0]);
        let read = device.start(A, &padded(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1]), 0, &[]);
        match refused {
            None => assert!(ready.status == GOOD && matches!(read, Step::Media(_))),
            Some(expected) => {
                assert_eq!(codes(&ready), expected);
                assert_eq!(codes(&done(read)), expected);
            }
        }
        let mode_sense = send(&mut device, A, &[0x1A, 8, 0x0A, 0, 255, 0]).status;
        assert_eq!(mode_sense == GOOD, state != 3);
        for always in
            [&[0x12, 0, 0, 0, 96, 0][..], &[0x03, 0, 0, 0, 18, 0], &[0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0]]
        {
            assert_eq!(send(&mut device, A, always).status, GOOD);
        }
    }
    // The same state again is no change.
    assert_eq!(set(&mut device, 0).status, GOOD);
    assert_eq!(send(&mut device, B, &[0]).status, GOOD);
}

#[test]
fn wrong_lists_change_nothing() {
    let mut device = explicit();
    let cdb = |length: u8| [0xA4, 0x0A, 0, 0, 0, 0, 0, 0, 0, length, 0, 0];
    assert_eq!(send_param(&mut device, A, &cdb(0), &[]).status, GOOD);
    assert_eq!(parameter_field(&set(&mut device, 4)), (4, Some(3)));
    assert_eq!(parameter_field(&set(&mut device, 15)), (4, Some(3)));
    let two = [0, 0, 0, 0, 2, 0, 0, 1, 2, 0, 0, 9];
    assert_eq!(parameter_field(&send_param(&mut device, A, &cdb(12), &two)), (10, None));
    for length in [3, 7, 13] {
        assert_eq!(codes(&send_param(&mut device, A, &cdb(length), &two)), (0x05, 0x1A, 0x00));
    }
    assert_eq!(report(&mut device)[4], 0);
    assert_eq!(send(&mut device, B, &[0]).status, GOOD);
}

#[test]
fn the_state_outlives_the_target() {
    let config = DeviceConfig { alua: Alua::Explicit, durable: true, ..config() };
    let mut device = unit_of(config.clone());
    let list = [0, 0, 0, 0, 2, 0, 0, 1];
    let step = device.start(A, &padded(&[0xA4, 0x0A, 0, 0, 0, 0, 0, 0, 0, 8]), 8, &list);
    let Step::Save(bytes) = step else { panic!("{step:?}") };
    assert_eq!(done(device.saved(true)).status, GOOD);
    let saved = SavedState::decode(&bytes).unwrap_or_default();
    let mut device = Device::restored(config, saved.clone());
    device.attach(A, port(1));
    assert_eq!(codes(&send(&mut device, A, &[0])), (0x06, 0x29, 0x00));
    assert_eq!(codes(&send(&mut device, A, &[0])), (0x02, 0x04, 0x0B));
    // Nobody can change it back where it may not be changed: such a unit is active.
    let mut implicit =
        Device::restored(DeviceConfig { alua: Alua::Implicit, ..device.config().clone() }, saved);
    implicit.attach(A, port(1));
    assert_eq!(codes(&send(&mut implicit, A, &[0])), (0x06, 0x29, 0x00));
    assert_eq!(send(&mut implicit, A, &[0]).status, GOOD);
}
