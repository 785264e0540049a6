//! RESERVE/RELEASE and persistent reservations (SPC-2 7.21, SPC-4 5.13).
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail like a test")]

mod common;

use common::*;
use stampede_scsi::{Device, NexusId, Reply, Status, Step};

const CONFLICT: Status = Status::ReservationConflict;
const GOOD: Status = Status::Good;
const TYPES: [u8; 6] = [1, 3, 5, 6, 7, 8];

fn prout(device: &mut Device, nexus: NexusId, action: u8, kind: u8, key: u64, service_key: u64) -> Reply {
    let list = list(key, service_key, 0);
    send_param(device, nexus, &prout_cdb(action, kind, list.len()), &list)
}

fn prout_cdb(action: u8, kind: u8, length: usize) -> [u8; 10] {
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [0x5F, action, kind, 0, 0, a, b, c, d, 0]
}

fn list(key: u64, service_key: u64, flags: u8) -> Vec<u8> {
    let mut list = key.to_be_bytes().to_vec();
    list.extend_from_slice(&service_key.to_be_bytes());
    list.extend_from_slice(&[0, 0, 0, 0, flags, 0, 0, 0]);
    list
}

fn prin(device: &mut Device, action: u8) -> Vec<u8> {
    let reply = send(device, A, &[0x5E, action, 0, 0, 0, 0, 0, 0x10, 0, 0]);
    assert_eq!(reply.status, GOOD);
    reply.data
}

fn keys(device: &mut Device) -> Vec<u64> {
    let data = prin(device, 0);
    data[8..].chunks(8).map(|key| u64::from_be_bytes(key.try_into().unwrap())).collect()
}

fn generation(device: &mut Device) -> u32 {
    u32::from_be_bytes(prin(device, 0)[..4].try_into().unwrap())
}

/// Key and type of the reservation.
fn reservation(device: &mut Device) -> Option<(u64, u8)> {
    let data = prin(device, 1);
    (data.len() > 8).then(|| (u64::from_be_bytes(data[8..16].try_into().unwrap()), data[21]))
}

fn may_read(device: &mut Device, nexus: NexusId) -> bool {
    match device.start(nexus, &padded(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]), 0, &[]) {
        Step::Media(_) => true,
        Step::Done(reply) => {
            assert_eq!(reply.status, CONFLICT);
            false
        }
        other => panic!("{other:?}"),
    }
}

fn may_write(device: &mut Device, nexus: NexusId) -> bool {
    match device.start(nexus, &padded(&[0x2A, 0, 0, 0, 0, 0, 0, 0, 1, 0]), 512, &[]) {
        Step::Media(_) => true,
        Step::Done(reply) => {
            assert_eq!(reply.status, CONFLICT);
            false
        }
        other => panic!("{other:?}"),
    }
}

/// Both registered, A with 0xA, B with 0xB.
fn registered() -> Device {
    let mut device = unit();
    assert_eq!(prout(&mut device, A, 0x06, 0, 0, 0xA).status, GOOD);
    assert_eq!(prout(&mut device, B, 0x00, 0, 0, 0xB).status, GOOD);
    device
}

#[test]
fn reserve_keeps_others_out_until_release_reset_or_loss() {
    for (reserve, release) in [(0x16, 0x17), (0x56, 0x57)] {
        let mut device = unit();
        for end in 0..4 {
            assert_eq!(send(&mut device, A, &[reserve]).status, GOOD);
            assert_eq!(send(&mut device, A, &[reserve]).status, GOOD);
            assert_eq!(send(&mut device, B, &[reserve]).status, CONFLICT);
            assert_eq!(send(&mut device, B, &[release]).status, GOOD);
            assert_eq!(send(&mut device, B, &[0x00]).status, CONFLICT);
            assert_eq!(send(&mut device, B, &[0x1A, 0, 0x3F, 0, 255, 0]).status, CONFLICT);
            assert_eq!(send(&mut device, B, &[0x12, 0, 0, 0, 96, 0]).status, GOOD);
            assert!(may_write(&mut device, A) && !may_read(&mut device, B));
            match end {
                0 => assert_eq!(send(&mut device, A, &[release]).status, GOOD),
                1 => device.reset_by(B),
                2 => device.nexus_lost(A),
                _ => device.detach(A),
            }
            for nexus in [A, B] {
                let _ = send(&mut device, nexus, &[0x00]);
            }
            assert!(may_read(&mut device, B), "{end}");
        }
    }
    assert_eq!(cdb_field(&send(&mut unit(), A, &[0x16, 0x01])), (1, Some(0)));
}

#[test]
fn registering() {
    let mut device = unit();
    assert_eq!(prout(&mut device, A, 0x00, 0, 9, 0xA).status, CONFLICT);
    assert_eq!(prout(&mut device, A, 0x00, 0, 0, 0xA).status, GOOD);
    assert_eq!(prout(&mut device, A, 0x00, 0, 0, 0xAA).status, CONFLICT);
    assert_eq!(prout(&mut device, A, 0x00, 0, 0xA, 0xAA).status, GOOD);
    assert_eq!(prout(&mut device, A, 0x06, 0, 0x77, 0xAB).status, GOOD);
    assert_eq!(keys(&mut device), [0xAB]);
    assert_eq!(generation(&mut device), 3);
    assert_eq!(prout(&mut device, A, 0x00, 0, 0xAB, 0).status, GOOD);
    assert!(keys(&mut device).is_empty());
}

#[test]
fn a_registration_outlives_its_session() {
    let mut device = registered();
    assert_eq!(prout(&mut device, A, 1, 5, 0xA, 0).status, GOOD);
    device.detach(A);
    device.reset();
    let again = NexusId(77);
    device.attach(again, port(1));
    let _ = send(&mut device, again, &[0]);
    let _ = send(&mut device, B, &[0]);
    assert_eq!(prout(&mut device, again, 2, 5, 0xA, 0).status, GOOD);
    assert_eq!(codes(&send(&mut device, B, &[0x00])), (0x06, 0x2A, 0x04));
}

#[test]
fn access_by_type() {
    // Type; what a registered and an unregistered other may do: read, write.
    for (kind, registered_may, others_may) in [
        (1, (true, false), (true, false)),
        (3, (false, false), (false, false)),
        (5, (true, true), (true, false)),
        (6, (true, true), (false, false)),
        (7, (true, true), (true, false)),
        (8, (true, true), (false, false)),
    ] {
        let mut device = registered();
        assert_eq!(prout(&mut device, A, 1, kind, 0xA, 0).status, GOOD);
        let key = if kind >= 7 { 0 } else { 0xA };
        assert_eq!(reservation(&mut device), Some((key, kind)));
        assert!(may_read(&mut device, A) && may_write(&mut device, A));
        assert_eq!((may_read(&mut device, B), may_write(&mut device, B)), registered_may, "type {kind}");
        assert_eq!(prout(&mut device, B, 0, 0, 0xB, 0).status, GOOD);
        assert_eq!((may_read(&mut device, B), may_write(&mut device, B)), others_may, "type {kind}");
        // Always allowed: TEST UNIT READY, READ CAPACITY, PERSISTENT RESERVE IN.
        for cdb in [
            [0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            [0x5E, 0, 0, 0, 0, 0, 0, 0, 8, 0],
        ] {
            assert_eq!(send(&mut device, B, &cdb).status, GOOD);
        }
        assert_eq!(send(&mut device, B, &[0x1B, 0, 0, 0, 0, 0]).status, CONFLICT);
        assert_eq!(send(&mut device, B, &[0x1B, 0, 0, 0, 1, 0]).status, GOOD);
    }
}

#[test]
fn unregistering_the_holder_ends_its_reservation() {
    for kind in TYPES {
        let mut device = registered();
        assert_eq!(prout(&mut device, A, 1, kind, 0xA, 0).status, GOOD);
        assert_eq!(prout(&mut device, A, 0, 0, 0xA, 0).status, GOOD);
        let stays = kind >= 7;
        assert_eq!(reservation(&mut device).is_some(), stays);
        if kind == 5 || kind == 6 {
            assert_eq!(codes(&send(&mut device, B, &[0x00])), (0x06, 0x2A, 0x04));
        }
        assert_eq!(send(&mut device, B, &[0x00]).status, GOOD);
        assert_eq!(prout(&mut device, B, 0, 0, 0xB, 0).status, GOOD);
        assert_eq!(reservation(&mut device), None);
    }
}

#[test]
fn reserving_and_releasing_by_the_rules() {
    let mut device = registered();
    assert_eq!(prout(&mut device, A, 1, 3, 0xB, 0).status, CONFLICT);
    assert_eq!(cdb_field(&prout(&mut device, A, 1, 2, 0xA, 0)), (2, Some(3)));
    assert_eq!(cdb_field(&prout(&mut device, A, 1, 0x13, 0xA, 0)), (2, Some(7)));
    assert_eq!(prout(&mut device, A, 1, 3, 0xA, 0).status, GOOD);
    assert_eq!(prout(&mut device, A, 1, 3, 0xA, 0).status, GOOD);
    assert_eq!(prout(&mut device, A, 1, 1, 0xA, 0).status, CONFLICT);
    assert_eq!(prout(&mut device, B, 1, 3, 0xB, 0).status, CONFLICT);
    assert_eq!(prout(&mut device, B, 2, 3, 0xB, 0).status, GOOD);
    assert_eq!(reservation(&mut device), Some((0xA, 3)));
    assert_eq!(codes(&prout(&mut device, A, 2, 1, 0xA, 0)), (0x05, 0x26, 0x04));
    assert_eq!(prout(&mut device, A, 2, 3, 0xA, 0).status, GOOD);
    assert_eq!(reservation(&mut device), None);
}

#[test]
fn clear_ends_everything() {
    let mut device = registered();
    assert_eq!(prout(&mut device, A, 1, 8, 0xA, 0).status, GOOD);
    assert_eq!(prout(&mut device, B, 3, 0, 0xB, 0).status, GOOD);
    assert_eq!(codes(&send(&mut device, A, &[0x00])), (0x06, 0x2A, 0x03));
    assert!(keys(&mut device).is_empty());
    assert_eq!(reservation(&mut device), None);
}

#[test]
fn preempting_a_registration_and_a_reservation() {
    let mut device = registered();
    let before = generation(&mut device);
    assert_eq!(prout(&mut device, B, 4, 3, 0xB, 0xA).status, GOOD);
    assert_eq!(codes(&send(&mut device, A, &[0x00])), (0x06, 0x2A, 0x05));
    assert_eq!((keys(&mut device), generation(&mut device)), (vec![0xB], before + 1));
    assert_eq!(reservation(&mut device), None);
    assert_eq!(prout(&mut device, B, 4, 3, 0xB, 0x99).status, CONFLICT);

    let mut device = registered();
    assert_eq!(prout(&mut device, A, 1, 1, 0xA, 0).status, GOOD);
    assert_eq!(prout(&mut device, B, 4, 3, 0xB, 0xA).status, GOOD);
    assert_eq!(codes(&send(&mut device, A, &[0x00])), (0x06, 0x2A, 0x05));
    assert_eq!(reservation(&mut device), Some((0xB, 3)));
    assert_eq!(parameter_field(&prout(&mut device, B, 4, 3, 0xB, 0)), (8, None));

    let mut device = registered();
    assert_eq!(prout(&mut device, A, 1, 7, 0xA, 0).status, GOOD);
    assert_eq!(prout(&mut device, B, 4, 5, 0xB, 0).status, GOOD);
    assert_eq!(codes(&send(&mut device, A, &[0x00])), (0x06, 0x2A, 0x05));
    assert_eq!((keys(&mut device), reservation(&mut device)), (vec![0xB], Some((0xB, 5))));
}

#[test]
fn preempt_and_abort_names_the_nexuses() {
    let mut device = registered();
    let list = list(0xB, 0xA, 0);
    let step = device.start(B, &padded(&prout_cdb(5, 1, 24)), 24, &list);
    let Step::Fence(fence) = step else { panic!("no fence: {step:?}") };
    assert_eq!((&fence.aborted[..], fence.reply.status), (&[A][..], GOOD));
    assert!(fence.awaited.is_empty(), "nobody holds a reservation: {fence:?}");
}

#[test]
fn capabilities_and_full_status() {
    let mut device = registered();
    assert_eq!(prin(&mut device, 2), [0, 8, 0x1C, 0x90, 0xEA, 0x01, 0, 0]);
    assert_eq!(prout(&mut device, A, 1, 5, 0xA, 0).status, GOOD);
    let data = prin(&mut device, 3);
    let first = &data[8..];
    assert_eq!(first[..8], 0xAu64.to_be_bytes());
    assert_eq!((first[12], first[13], first[19]), (1, 5, 1));
    assert_eq!(first[24], 0x45);
    assert!(first[28..].starts_with(b"iqn.2026-11.test:host1,i,0x800000000001\0"));
    for action in 4..32 {
        assert_eq!(cdb_field(&send(&mut device, A, &[0x5E, action])), (1, Some(4)));
    }
}

#[test]
fn compatible_reserve_with_registrations() {
    let mut device = unit();
    assert_eq!(prout(&mut device, A, 0x06, 0, 0, 0xA).status, GOOD);
    assert_eq!(send(&mut device, A, &[0x16]).status, GOOD);
    assert_eq!(send(&mut device, B, &[0x16]).status, CONFLICT);
    assert!(may_write(&mut device, B));
}

fn transport_id(n: u8) -> Vec<u8> {
    let mut name = format!("iqn.2026-11.test:host{n},i,0x8000000000{n:02x}\0").into_bytes();
    name.resize(name.len().next_multiple_of(4), 0);
    let mut id = vec![0x45, 0, 0, name.len() as u8];
    id.extend_from_slice(&name);
    id
}

#[test]
fn register_with_named_ports() {
    let mut device = unit();
    let ids = [transport_id(2), transport_id(3)].concat();
    let mut param = list(0, 0xC, 0x08);
    param.extend_from_slice(&(ids.len() as u32).to_be_bytes());
    param.extend_from_slice(&ids);
    let cdb = prout_cdb(0, 0, param.len());
    assert_eq!(
        parameter_field(&send_param(&mut device, A, &prout_cdb(6, 0, param.len()), &param)),
        (20, Some(3))
    );
    assert_eq!(send_param(&mut device, A, &cdb, &param).status, GOOD);
    assert_eq!(keys(&mut device), [0xC, 0xC, 0xC]);
    assert_eq!(send_param(&mut device, A, &cdb, &param).status, CONFLICT);
    assert_eq!(prout(&mut device, B, 1, 1, 0xC, 0).status, GOOD);
}

#[test]
fn register_and_move_hands_the_reservation_over() {
    let mut device = unit();
    assert_eq!(prout(&mut device, A, 0x06, 0, 0, 0xA).status, GOOD);
    let id = transport_id(2);
    let mut param = list(0xA, 0xBB, 0);
    param[17] = 0x02;
    param[19] = 1;
    param[20..24].copy_from_slice(&(id.len() as u32).to_be_bytes());
    param.extend_from_slice(&id);
    let cdb = prout_cdb(7, 0, param.len());
    assert_eq!(send_param(&mut device, A, &cdb, &param).status, CONFLICT);
    assert_eq!(prout(&mut device, A, 1, 3, 0xA, 0).status, GOOD);
    assert_eq!(send_param(&mut device, A, &cdb, &param).status, GOOD);
    assert_eq!((keys(&mut device), reservation(&mut device)), (vec![0xBB], Some((0xBB, 3))));
    assert!(may_write(&mut device, B) && !may_read(&mut device, A));
}

#[test]
fn lists_are_checked_and_registrations_bounded() {
    let mut device = unit();
    let short = list(0, 1, 0);
    assert_eq!(codes(&send_param(&mut device, A, &prout_cdb(0, 0, 23), &short[..23])), (0x05, 0x1A, 0x00));
    assert_eq!(codes(&send_param(&mut device, A, &prout_cdb(0, 0, usize::MAX), &short)), (0x05, 0x1A, 0x00));
    let aptpl = list(0, 1, 1);
    assert_eq!(parameter_field(&send_param(&mut device, A, &prout_cdb(0, 0, 24), &aptpl)), (20, Some(0)));
    for n in 0..=stampede_scsi::REGISTRATIONS_MAX as u64 {
        let nexus = NexusId(1000 + n);
        let mut id = port(9);
        id.initiator_name.push_str(&n.to_string());
        device.attach(nexus, id);
        let _ = send(&mut device, nexus, &[0x00]);
        let reply = prout(&mut device, nexus, 0, 0, 0, n + 1);
        if n < stampede_scsi::REGISTRATIONS_MAX as u64 {
            assert_eq!(reply.status, GOOD);
        } else {
            assert_eq!(codes(&reply), (0x05, 0x55, 0x04));
        }
    }
}
