//! Write data: immediate, unsolicited, by R2T; and all that can be wrong with it (RFC 7143 4.2.5.2, 11.7, 11.8).

use std::sync::Arc;

use stampede_session::{Disposition, Settings, TaskKey, Transfer, ViolationKind};
use stampede_wire::{
    Sn,
    pdu::{Reject, RejectReason, Residual, status},
};

use crate::support::{Event, Harness, Sent, Targets};

const UNSOLICITED: &str =
    "InitialR2T=No ImmediateData=Yes FirstBurstLength=4096 MaxBurstLength=8192 MaxOutstandingR2T=4";

/// The ASC and ASCQ of the one SCSI Response sent, which must be CHECK CONDITION, ABORTED COMMAND.
fn aborted(harness: &Harness) -> (u8, u8) {
    let Some(Event::Send(header, Sent::Bytes(segment))) = harness.out.0.last() else {
        panic!("sense data in {:?}", harness.out.0)
    };
    let response: &stampede_wire::pdu::ScsiResponse = header.try_view().expect("a response");
    assert_eq!(response.status(), status::CHECK_CONDITION);
    assert_eq!((segment[1], segment[2] & 0x7f, segment[4]), (18, 0x70, 0x0b));
    (segment[14], segment[15])
}

fn accepted(harness: &Harness) -> TaskKey {
    harness
        .out
        .0
        .iter()
        .find_map(|event| match event {
            Event::Accept(task) => Some(*task),
            _ => None,
        })
        .expect("a task")
}

#[test]
fn all_data_in_the_command() {
    let mut harness = Harness::session("");
    let place = harness.write(1, 4096, 4096, false).unwrap();
    let task = harness.last_command();
    assert_eq!(place, Disposition::Task { task, offset: 0, len: 4096 });
    assert!(harness.r2ts().is_empty());
    assert_eq!(harness.stored_len(task), 4096);
    harness.respond(task, status::GOOD, &[], Transfer::Out { wanted: 4096 });
    assert_eq!(
        (harness.responses()[0].status(), harness.responses()[0].residual()),
        (status::GOOD, Residual::None)
    );
}

#[test]
fn the_rest_is_asked_for_in_bursts() {
    let mut harness = Harness::session("MaxBurstLength=8192 MaxOutstandingR2T=2");
    harness.write(1, 30_000, 1000, false).unwrap();
    let asked: Vec<_> = harness.r2ts();
    let seen: Vec<_> = asked
        .iter()
        .map(|r2t| (r2t.r2t_sn(), r2t.buffer_offset(), r2t.desired_data_transfer_length()))
        .collect();
    assert_eq!(seen, [(0, 1000, 8192), (1, 9192, 8192)], "two at once, no longer than MaxBurstLength");
    assert_ne!(asked[0].target_transfer_tag(), asked[1].target_transfer_tag());
    let mut at = 1000;
    for _ in 0..4 {
        let r2t = harness.r2ts()[0];
        let (tag, len) = (r2t.target_transfer_tag(), r2t.desired_data_transfer_length());
        assert_eq!(r2t.buffer_offset(), at);
        let half = len / 2;
        harness.out.0.retain(|event| !matches!(event, Event::Send(bhs, _) if *bhs == r2t.into()));
        harness.data_out(1, Some(tag), 0, at, half as usize, false).unwrap();
        assert!(harness.commands().is_empty());
        harness.data_out(1, Some(tag), 1, at + half, (len - half) as usize, true).unwrap();
        at += len;
    }
    assert_eq!(at, 30_000);
    let task = harness.last_command();
    assert_eq!(harness.stored_len(task), 30_000);
    harness.take();
    harness.respond(task, status::GOOD, &[], Transfer::Out { wanted: 30_000 });
    assert_eq!(harness.responses()[0].exp_data_sn(), 4, "R2Ts count");
}

#[test]
fn unsolicited_data_comes_before_any_r2t() {
    let mut harness = Harness::session(UNSOLICITED);
    harness.write(1, 10_000, 1024, true).unwrap();
    assert!(harness.r2ts().is_empty(), "the initiator is not done yet");
    harness.data_out(1, None, 0, 1024, 1024, false).unwrap();
    harness.data_out(1, None, 1, 2048, 2048, true).unwrap();
    let r2t = harness.r2ts()[0];
    assert_eq!((r2t.buffer_offset(), r2t.desired_data_transfer_length()), (4096, 5904));
    harness.data_out(1, Some(r2t.target_transfer_tag()), 0, 4096, 5904, true).unwrap();
    assert_eq!(harness.stored_len(harness.last_command()), 10_000);
}

#[test]
fn an_unsolicited_burst_may_end_early() {
    let mut harness = Harness::session(UNSOLICITED);
    harness.write(1, 10_000, 0, true).unwrap();
    harness.data_out(1, None, 0, 0, 100, true).unwrap();
    assert_eq!(harness.r2ts()[0].buffer_offset(), 100);
}

#[test]
fn what_the_target_does_not_want_is_dropped_and_not_asked_for() {
    let mut harness = Harness::session(UNSOLICITED);
    harness.grant = 512;
    assert!(matches!(
        harness.write(1, 10_000, 1024, false),
        Ok(Disposition::Task { offset: 0, len: 512, .. })
    ));
    assert!(harness.r2ts().is_empty());
    let task = harness.last_command();
    assert_eq!((harness.connection.task(task).unwrap().wanted_len(), harness.stored_len(task)), (512, 512));

    harness.take();
    harness.grant = 0;
    assert_eq!(harness.write(2, 10_000, 1024, true), Ok(Disposition::Discard));
    assert!(harness.commands().is_empty(), "the burst is still under way");
    assert_eq!(harness.data_out(2, None, 0, 1024, 1024, true), Ok(Disposition::Discard));
    assert_eq!(harness.commands().len(), 1);

    harness.take();
    harness.grant = 6000;
    harness.write(3, 10_000, 0, false).unwrap();
    assert_eq!(harness.r2ts()[0].desired_data_transfer_length(), 6000);
}

#[test]
fn unsolicited_data_that_was_not_agreed_to_aborts_the_command() {
    let mut harness = Harness::session("ImmediateData=No");
    assert_eq!(harness.write(1, 512, 512, false), Ok(Disposition::Discard));
    assert_eq!(aborted(&harness), (0x0c, 0x0c));
    assert_eq!(harness.released().len(), 1);

    let mut harness = Harness::session("InitialR2T=Yes");
    harness.write(1, 4096, 512, true).unwrap();
    assert_eq!(aborted(&harness), (0x0c, 0x0c));
    // Its Data-Out, already on the way, is dropped.
    assert_eq!(harness.data_out(1, None, 0, 512, 512, true), Ok(Disposition::Discard));

    let mut harness = Harness::session(UNSOLICITED);
    harness.write(1, 10_000, 4097, false).unwrap();
    assert_eq!(aborted(&harness), (0x0c, 0x0c), "beyond FirstBurstLength");

    let mut harness = Harness::session(UNSOLICITED);
    harness.write(1, 100, 101, false).unwrap();
    assert_eq!(aborted(&harness), (0x0c, 0x0c), "beyond the expected length");

    let mut harness = Harness::session(UNSOLICITED);
    harness.write(1, 10_000, 4000, true).unwrap();
    harness.data_out(1, None, 0, 4000, 97, false).unwrap();
    assert!(harness.responses().is_empty(), "the burst is taken to its end first");
    harness.data_out(1, None, 1, 4097, 10, true).unwrap();
    assert_eq!(aborted(&harness), (0x0c, 0x0c));
    assert_eq!(harness.connection.tasks_len(), 0);
}

/// A write of 8,192 bytes with one R2T outstanding, and its tag.
fn solicited() -> (Harness, u32) {
    let mut harness = Harness::session(UNSOLICITED);
    harness.write(1, 8192, 0, false).unwrap();
    let tag = harness.r2ts()[0].target_transfer_tag();
    harness.take();
    (harness, tag)
}

#[test]
fn too_little_and_too_much_abort_the_command() {
    let (mut harness, tag) = solicited();
    harness.data_out(1, Some(tag), 0, 0, 4096, true).unwrap();
    assert_eq!(aborted(&harness), (0x0c, 0x0d), "F before everything came");

    let (mut harness, tag) = solicited();
    harness.data_out(1, Some(tag), 0, 0, 8193, true).unwrap();
    assert_eq!(aborted(&harness), (0x0c, 0x0d));

    let (mut harness, tag) = solicited();
    harness.data_out(1, Some(tag), 0, 0, 8192, false).unwrap();
    assert_eq!(aborted(&harness), (0x0c, 0x0d), "everything came without F");
    assert_eq!(harness.data_out(1, Some(tag), 1, 8192, 0, true), Ok(Disposition::None), "dropped in silence");
}

#[test]
fn data_out_of_order_aborts_the_command_after_its_end() {
    let (mut harness, tag) = solicited();
    assert_eq!(
        harness.data_out(1, Some(tag), 1, 0, 4096, false),
        Ok(Disposition::Discard),
        "DataSN starts at 0"
    );
    assert!(harness.responses().is_empty());
    harness.data_out(1, Some(tag), 2, 4096, 4096, true).unwrap();
    assert_eq!(aborted(&harness), (0x47, 0x05));

    let (mut harness, tag) = solicited();
    harness.data_out(1, Some(tag), 0, 4096, 4096, true).unwrap();
    assert_eq!(aborted(&harness), (0x47, 0x05), "offset");
}

#[test]
fn a_data_digest_error_rejects_the_pdu_and_aborts_the_command_after_its_data() {
    let mut harness = Harness::session("MaxBurstLength=4096 MaxOutstandingR2T=2");
    harness.write(1, 16_384, 0, false).unwrap();
    let tags: Vec<_> = harness.r2ts().iter().map(|r2t| r2t.target_transfer_tag()).collect();
    harness.take();
    harness.digest_ok = false;
    harness.data_out(1, Some(tags[0]), 0, 0, 2048, false).unwrap();
    harness.digest_ok = true;
    assert_eq!(harness.sent::<Reject>()[0].reason(), Ok(RejectReason::DataDigestError));
    harness.data_out(1, Some(tags[0]), 1, 2048, 2048, true).unwrap();
    assert!(harness.responses().is_empty(), "the second R2T is outstanding (RFC 7143 7.8)");
    harness.data_out(1, Some(tags[1]), 0, 4096, 4096, true).unwrap();
    assert_eq!(aborted(&harness), (0x47, 0x05));
    assert!(harness.r2ts().is_empty() && harness.commands().is_empty());
}

#[test]
fn a_digest_error_in_immediate_data_ends_the_session() {
    let mut harness = Harness::session("");
    harness.digest_ok = false;
    let error = harness.write(1, 512, 512, false).unwrap_err();
    assert_eq!(error.kind, ViolationKind::DigestError);
    assert_eq!(harness.sent::<Reject>()[0].reason(), Ok(RejectReason::DataDigestError));
    assert_eq!((harness.released().len(), harness.connection.tasks_len()), (1, 0));
}

#[test]
fn data_for_no_transfer_ends_the_session() {
    type Case = fn(u32) -> (u32, Option<u32>);
    let cases: [Case; 4] = [|tag| (1, Some(tag ^ 1)), |tag| (2, Some(tag)), |_| (1, None), |_| (3, None)];
    for case in cases {
        let (mut harness, tag) = solicited();
        let (itt, tag) = case(tag);
        assert_eq!(
            harness.data_out(itt, tag, 0, 0, 512, true).unwrap_err().kind,
            ViolationKind::UnknownTransfer
        );
        assert_eq!(harness.sent::<Reject>()[0].reason(), Ok(RejectReason::InvalidPduField));
    }
}

#[test]
fn an_r2t_of_the_second_place_must_wait_its_turn() {
    let mut harness = Harness::session("MaxBurstLength=4096 MaxOutstandingR2T=2");
    harness.write(1, 8192, 0, false).unwrap();
    let second = harness.r2ts()[1].target_transfer_tag();
    let error = harness.data_out(1, Some(second), 0, 4096, 4096, true).unwrap_err();
    assert_eq!(error.kind, ViolationKind::UnknownTransfer, "DataSequenceInOrder=Yes");
}

#[test]
fn an_r2t_uses_up_no_stat_sn() {
    let mut harness = Harness::session("");
    harness.write(1, 8192, 0, false).unwrap();
    let (r2t, key) = (harness.r2ts()[0], accepted(&harness));
    assert_eq!(r2t.exp_cmd_sn(), Sn(1));
    harness.data_out(1, Some(r2t.target_transfer_tag()), 0, 0, 8192, true).unwrap();
    harness.respond(key, status::GOOD, &[], Transfer::Out { wanted: 8192 });
    assert_eq!(harness.responses()[0].stat_sn(), r2t.stat_sn());
}

#[test]
fn many_writes_collect_at_once() {
    let settings = Settings { window: 64, ..Settings::new(Arc::new(Targets::default())) };
    let mut harness = Harness::session_with(settings, "MaxBurstLength=4096");
    for itt in 0..64 {
        harness.write(itt, 4096, 0, false).unwrap();
    }
    let r2ts = harness.r2ts();
    for r2t in r2ts.iter().rev() {
        harness
            .data_out(r2t.initiator_task_tag(), Some(r2t.target_transfer_tag()), 0, 0, 4096, true)
            .unwrap();
    }
    let commands = harness.commands();
    assert_eq!(commands.len(), 64);
    assert!(commands.iter().all(|task| harness.stored_len(*task) == 4096));
}
