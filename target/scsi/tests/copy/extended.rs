//! EXTENDED COPY and the RECEIVE COPY commands about it.

use crate::common::*;
use crate::desk::*;
use proptest::prelude::*;
use stampede_scsi::Status;
use stampede_scsi::copy::CopyStep;

fn copy(desk: &mut Desk, list: &[u8]) -> stampede_scsi::Reply {
    desk.send(0, A, &extended_copy(list), list)
}

#[test]
fn blocks_go_from_one_end_of_a_unit_to_the_other() {
    let mut desk = Desk::new(&[8192]);
    let before = desk.bytes(0, 0, 3000);
    let list = list(9, 0, &[target(0)], &[segment(0, 0, 3000, 0, 8192 - 3000)]);
    assert_eq!(copy(&mut desk, &list).status, Status::Good);
    assert_eq!(desk.bytes(0, 8192 - 3000, 3000), before);
    // SPC-4 6.23: GOOD, one segment, so many bytes; told once.
    let ask = cdb(0x84, 0x00, (2, 9 << 24), 100);
    let told = desk.send(0, A, &ask, &[]).data;
    assert_eq!(told, [0, 0, 0, 8, 1, 0, 1, 0, 0, 0x17, 0x70, 0]);
    assert_eq!(cdb_field(&desk.send(0, A, &ask, &[])), (2, None));
}

#[test]
fn another_unit_is_found_by_its_designator_and_by_nothing_else() {
    let mut desk = Desk::new(&[4096, 4096, 1024]);
    let before = desk.bytes(0, 5, 100);
    let list_of = |n: u8| list(1, 0, &[target(0), target(n)], &[segment(0, 1, 100, 5, 900)]);
    assert_eq!(copy(&mut desk, &list_of(2)).status, Status::Good);
    assert_eq!(desk.bytes(2, 900, 100), before);
    assert_eq!(codes(&copy(&mut desk, &list_of(9))), (0x0A, 0x0D, 0x02));
    // Other block lengths and device types than the unit's are not that unit.
    let mut wrong = target(2);
    wrong[30] = 16;
    let list = list(1, 0, &[target(0), wrong], &[segment(0, 1, 100, 5, 900)]);
    assert_eq!(codes(&copy(&mut desk, &list)), (0x0A, 0x0D, 0x03));
}

#[test]
fn a_unit_attention_stays_for_the_initiator() {
    let mut desk = Desk::new(&[4096, 4096]);
    desk.units[1].0.luns_changed(A);
    let list = list(1, 0, &[target(1)], &[segment(0xFFFF, 0, 8, 0, 8)]);
    assert_eq!(copy(&mut desk, &list).status, Status::Good);
    assert_eq!(codes(&send(&mut desk.units[1].0, A, &[0])), (0x06, 0x3F, 0x0E));
}

#[test]
fn reservations_and_write_protection_of_the_other_unit_hold() {
    let mut desk = Desk::new(&[4096, 4096]);
    assert_eq!(send(&mut desk.units[1].0, B, &[0x16]).status, Status::Good);
    let list_of = |from, to| list(1, 0, &[target(1)], &[segment(from, to, 8, 0, 8)]);
    let before = desk.bytes(1, 0, 64);
    assert_eq!(codes(&copy(&mut desk, &list_of(0xFFFF, 0))), (0x0A, 0x0D, 0x02));
    assert_eq!(codes(&copy(&mut desk, &list_of(0, 0xFFFF))), (0x0A, 0x0D, 0x02));
    assert_eq!(desk.bytes(1, 0, 64), before);
    // The copy manager's own unit: its command itself conflicts (SPC-4 table 65).
    assert_eq!(send(&mut desk.units[0].0, B, &[0x16]).status, Status::Good);
    assert_eq!(copy(&mut desk, &list_of(0xFFFF, 0)).status, Status::ReservationConflict);
}

#[test]
fn what_is_wrong_with_a_list_is_said() {
    let mut desk = Desk::new(&[4096]);
    let good = list(1, 0, &[target(0)], &[segment(0, 0, 8, 0, 64)]);
    let with = |at: usize, value: u8| {
        let mut list = good.clone();
        list[at] = value;
        list
    };
    // Cut short; unsupported descriptors; NUL; an index that is not there; LIST ID USAGE 01b, 11b with an id.
    let cut = &good[..good.len() - 1];
    assert_eq!(codes(&copy(&mut desk, cut)), (0x05, 0x1A, 0x00));
    assert_eq!(codes(&copy(&mut desk, &with(16, 0xE0))), (0x05, 0x26, 0x07));
    assert_eq!(codes(&copy(&mut desk, &with(48, 0x03))), (0x05, 0x26, 0x09));
    assert_eq!(copy(&mut desk, &with(17, 0xC0)).status, Status::Good, "LU ID TYPE is obsolete");
    assert_eq!(codes(&copy(&mut desk, &with(17, 0x20))), (0x0A, 0x08, 0x04));
    assert_eq!(codes(&copy(&mut desk, &with(55, 1))), (0x0A, 0x08, 0x04));
    assert_eq!(parameter_field(&copy(&mut desk, &with(1, 0x08))), (1, Some(4)));
    assert_eq!(parameter_field(&copy(&mut desk, &with(1, 0x18))), (0, None));
    assert_eq!(codes(&copy(&mut desk, &with(15, 1))), (0x05, 0x26, 0x0B));
    assert_eq!(copy(&mut desk, &[]).status, Status::Good);
    // Beyond the end: COPY ABORTED, with the segment's number.
    let beyond = list(1, 0, &[target(0)], &[segment(0, 0, 8, 0, 64), segment(0, 0, 8, 0, 4089)]);
    let reply = copy(&mut desk, &beyond);
    assert_eq!(codes(&reply), (0x0A, 0x00, 0x00));
    assert_eq!(sense(&reply).command_specific, Some(1));
}

#[test]
fn too_many_descriptors_and_too_long_lists_are_told_apart() {
    let mut desk = Desk::new(&[4096]);
    let segments = |n| vec![segment(0, 0, 8, 0, 64); n];
    let codes_of = |desk: &mut Desk, targets: usize, n: usize| {
        codes(&copy(desk, &list(1, 0, &vec![target(0); targets], &segments(n))))
    };
    assert_eq!(codes_of(&mut desk, 17, 1), (0x05, 0x26, 0x06));
    assert_eq!(codes_of(&mut desk, 1, 65), (0x05, 0x26, 0x08));
    assert_eq!(codes_of(&mut desk, 17, 65), (0x05, 0x1A, 0x00));
    let most = list(1, 0, &[target(0); 16], &segments(64));
    assert_eq!(copy(&mut desk, &most).status, Status::Good);
}

#[test]
fn a_list_of_lid4_names_its_copy_by_four_bytes() {
    let mut desk = Desk::new(&[4096]);
    let segments = segment(0, 0, 100, 0, 200);
    let mut list = vec![0; 48];
    (list[0], list[3], list[16]) = (0x01, 0x20, 0xFF);
    list[20..24].copy_from_slice(&0xA1B2_C3D4u32.to_be_bytes());
    (list[43], list[45]) = (32, segments.len() as u8);
    list.extend_from_slice(&target(0));
    list.extend_from_slice(&segments);
    let before = desk.bytes(0, 0, 100);
    let reply = desk.send(0, A, &cdb(0x83, 0x01, (2, 0), list.len()), &list);
    assert_eq!(reply.status, Status::Good);
    assert_eq!(desk.bytes(0, 200, 100), before);
    let told = desk.send(0, A, &cdb(0x84, 0x05, (2, 0xA1B2_C3D4), 100), &[]).data;
    assert_eq!((told.len(), told[3], told[4], told[5]), (32, 28, 0x01, 0x01));
    assert_eq!(told[15..26], [0, 0, 0, 0, 0, 0, 0, 0xC8, 0, 0, 1]);
    // Another nexus has no such copy.
    assert_eq!(cdb_field(&desk.send(0, B, &cdb(0x84, 0x05, (2, 0xA1B2_C3D4), 100), &[])), (2, None));
}

#[test]
fn failure_details_are_the_sense_data() {
    let mut desk = Desk::new(&[4096]);
    let bad = list(3, 0, &[target(0)], &[segment(0, 7, 8, 0, 64)]);
    let sense = sense(&copy(&mut desk, &bad)).encode();
    let told = desk.send(0, A, &cdb(0x84, 0x04, (2, 3 << 24), 200), &[]).data;
    assert_eq!((told[3], told[56], told[59]), (74, 0x02, 18));
    assert_eq!(told[60..], sense[..]);
}

#[test]
fn a_copy_in_progress_keeps_its_name_and_can_be_aborted() {
    let mut desk = Desk::new(&[4096]);
    let list = list(5, 0, &[target(0)], &[segment(0, 0, 8, 0, 64)]);
    let cdb_of = extended_copy(&list);
    let CopyStep::Copy(copier) = desk.third_party(0, A, &cdb_of, &list) else { panic!("no copy") };
    assert_eq!(codes(&desk.send(0, A, &cdb_of, &list)), (0x05, 0x00, 0x16));
    let told = desk.send(0, A, &cdb(0x84, 0x00, (2, 5 << 24), 100), &[]).data;
    assert_eq!(told[4], 0x00);
    let CopyStep::Abort(id, reply) = desk.third_party(0, A, &cdb(0x83, 0x1C, (2, 5), 0), &[]) else {
        panic!("no abort")
    };
    assert!(copier.is(id) && reply.status == Status::Good);
    desk.units[0].0.copy_ended(&copier, None, &[]);
    let told = desk.send(0, A, &cdb(0x84, 0x05, (2, 5), 100), &[]).data;
    assert_eq!((told[5], told[12]), (0x60, 0x40));
    assert_eq!(cdb_field(&desk.send(0, A, &cdb(0x83, 0x1C, (2, 6), 0), &[])), (2, None));
}

#[test]
fn copies_at_once_are_bounded_and_what_is_remembered_of_them_too() {
    let mut desk = Desk::new(&[4096]);
    let of = |id: u8, usage: u8| list(id, usage, &[target(0)], &[segment(0, 0, 8, 0, 64)]);
    let begin = |desk: &mut Desk, list: &[u8]| desk.third_party(0, A, &extended_copy(list), list);
    for id in 0..200 {
        assert_eq!(copy(&mut desk, &of(id, 0)).status, Status::Good);
    }
    let remembered = |desk: &mut Desk, id: u8| {
        desk.send(0, A, &cdb(0x84, 0x00, (2, u32::from(id) << 24), 99), &[]).status == Status::Good
    };
    assert!(!remembered(&mut desk, 100) && remembered(&mut desk, 199));
    let running: Vec<CopyStep> = (0..16).map(|_| begin(&mut desk, &of(0, 3))).collect();
    assert!(running.iter().all(|step| matches!(step, CopyStep::Copy(_))));
    let CopyStep::Done(reply) = begin(&mut desk, &of(0, 3)) else { panic!("one too many") };
    assert_eq!(reply.status, Status::Busy);
}

#[test]
fn a_busy_unit_is_asked_again_but_not_for_ever() {
    let mut desk = Desk::new(&[4096]);
    let list = list(1, 0, &[], &[segment(0xFFFF, 0xFFFF, 8, 0, 64)]);
    let before = desk.bytes(0, 0, 8);
    desk.busy = 5;
    assert_eq!(copy(&mut desk, &list).status, Status::Good);
    assert_eq!(desk.bytes(0, 64, 8), before);
    desk.busy = u32::MAX;
    desk.asked.clear();
    assert_eq!(codes(&copy(&mut desk, &list)), (0x0A, 0x0D, 0x01));
    assert_eq!(desk.asked.len(), 9);
}

#[test]
fn verify_asks_whether_a_unit_is_ready() {
    let mut desk = Desk::new(&[4096, 64]);
    let verify = |target: u8| vec![0x07, 0, 0, 8, 0, target, 0, 0, 1, 0, 0, 0];
    assert_eq!(copy(&mut desk, &list(1, 0, &[target(1)], &[verify(0)])).status, Status::Good);
    assert_eq!(desk.asked.last(), Some(&(1, [0; 16])));
    assert_eq!(codes(&copy(&mut desk, &list(1, 0, &[target(1)], &[verify(1)]))), (0x0A, 0x08, 0x04));
}

proptest! {
    // Media of megabytes: fewer cases than usual.
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Segments copy as if each were read whole before it is written, in order, also where they overlap; no command
    /// moves more than a mebibyte.
    #[test]
    fn segments_copy_what_they_say(
        segments in proptest::collection::vec((0u16..2, 0u16..2, 0u16..5000, 0u64..4000, 0u64..4000), 1..6),
    ) {
        let mut desk = Desk::new(&[9000, 9000]);
        let mut model: Vec<Vec<u8>> = desk.units.iter().map(|(_, medium)| medium.clone()).collect();
        let mut descriptors = Vec::new();
        for (from, to, count, from_lba, to_lba) in segments {
            descriptors.push(segment(from, to, count, from_lba, to_lba));
            let (start, len) = (from_lba as usize * BLOCK, usize::from(count) * BLOCK);
            let data = model[usize::from(from)][start..start + len].to_vec();
            let start = to_lba as usize * BLOCK;
            model[usize::from(to)][start..start + len].copy_from_slice(&data);
        }
        let list = list(1, 0, &[target(0), target(1)], &descriptors);
        prop_assert_eq!(copy(&mut desk, &list).status, Status::Good);
        for (unit, model) in desk.units.iter().zip(&model) {
            prop_assert!(unit.1 == *model);
        }
        for (_, cdb) in &desk.asked {
            let moves = matches!(cdb[0], 0x88 | 0x8A);
            prop_assert!(!moves || u32::from_be_bytes([cdb[10], cdb[11], cdb[12], cdb[13]]) <= 2048);
        }
    }

    /// Any list is answered, and whatever it asks for ends.
    #[test]
    fn any_list_is_answered(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
        action in prop::sample::select(vec![0x00u8, 0x01, 0x10, 0x11, 0x1C]),
        shape in any::<bool>(),
    ) {
        let mut desk = Desk::new(&[64, 64]);
        if shape && bytes.len() > 80 {
            (bytes[1], bytes[15]) = (0, 0);
            bytes[2..4].copy_from_slice(&32u16.to_be_bytes());
            bytes[8..15].copy_from_slice(&[0, 0, 0, 28, 0, 0, 0]);
            bytes[16..48].copy_from_slice(&target(1));
            (bytes[48], bytes[50], bytes[51]) = (2, 0, 24);
        }
        let reply = desk.send(0, A, &cdb(0x83, action, (2, 0), bytes.len()), &bytes);
        prop_assert!(matches!(reply.status, Status::Good | Status::CheckCondition));
    }
}
