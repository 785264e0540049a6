//! Commands: order, window, reads, status and residuals (RFC 7143 4.2.2, 11.3, 11.4, 11.7).

use std::sync::Arc;

use stampede_session::{Disposition, Phase, Settings, TaskAttribute, Transfer, ViolationKind};
use stampede_wire::{
    Bhs, Lun, RESERVED_TAG, Sn,
    pdu::{self, DataFlags, InitiatorSns, NopIn, Reject, RejectReason, Residual, ScsiCommand, status},
};

use crate::support::{Event, Harness, Sent, Targets};

/// A session whose command window is `window`.
fn small(window: u16) -> Harness {
    let settings = Settings { window, ..Settings::new(Arc::new(Targets::default())) };
    Harness::session_with(settings, "")
}

fn read(itt: u32, sn: Sn) -> ScsiCommand {
    let sns = InitiatorSns { cmd_sn: sn, exp_stat_sn: Sn(0) };
    ScsiCommand::new(itt, Lun::ZERO, TaskAttribute::Simple, &[0; 16], sns).reading(512)
}

#[test]
fn a_task_shows_its_command() {
    let mut harness = Harness::session("");
    let lun = Lun::encode(3).unwrap();
    let sns = harness.take_sns();
    let pdu = ScsiCommand::new(0xabc, lun, TaskAttribute::Ordered, &[7; 16], sns).reading(4096);
    harness.feed(&pdu, &[]).unwrap();
    let key = harness.last_command();
    assert_eq!(harness.out.0, [Event::Accept(key), Event::Command(key)]);
    let task = harness.connection.task(key).unwrap();
    assert_eq!(
        (task.itt(), task.lun().decode(), task.cdb(), task.expected_len()),
        (0xabc, Some(3), &[7; 16], 4096)
    );
    assert!(task.is_read() && !task.is_write() && !task.killed() && !task.cdb_long() && !task.is_immediate());
    assert_eq!(task.attribute(), TaskAttribute::Ordered);
    assert_eq!(harness.connection.tasks().collect::<Vec<_>>(), [key]);
    assert!(usize::from(key.index) < harness.connection.tasks_max());
}

#[test]
fn outside_the_window_and_duplicates_are_dropped_without_a_word() {
    let mut harness = small(4);
    harness.feed(&read(1, Sn(0)), &[]).unwrap();
    harness.take();
    for sn in [0, u32::MAX, 4, 5, 0x8000_0000] {
        assert_eq!(harness.feed(&read(2, Sn(sn)), &[]), Ok(Disposition::None));
    }
    // Its payload is taken off the wire.
    let sns = InitiatorSns { cmd_sn: Sn(9), exp_stat_sn: Sn(0) };
    let write = ScsiCommand::new(3, Lun::ZERO, TaskAttribute::Simple, &[0; 16], sns).writing(512, false);
    assert_eq!(harness.feed(&write, &[1; 512]), Ok(Disposition::Discard));
    assert!(harness.take().is_empty());
    assert_eq!(harness.connection.tasks_len(), 1);
}

#[test]
fn a_gap_ends_the_session() {
    let mut harness = small(4);
    let gap = harness.feed(&read(1, Sn(1)), &[]).unwrap_err();
    assert_eq!((gap.kind, gap.opcode), (ViolationKind::CommandMissing, Some(1)));
}

#[test]
fn every_promised_command_finds_a_slot_and_immediate_ones_too() {
    let mut harness = small(3);
    for itt in 0..3 {
        harness.read(itt, 512);
    }
    harness.take();
    // The window is closed, yet immediate commands are taken, as many as there are slots.
    let sns = harness.sns();
    let immediate = |itt| read(itt, sns.cmd_sn).into_immediate();
    for itt in 10..18 {
        harness.feed(&immediate(itt), &[]).unwrap();
    }
    assert_eq!(harness.commands().len(), 8);
    harness.feed(&immediate(18), &[]).unwrap();
    let reject: Vec<Reject> = harness.sent();
    assert_eq!(reject[0].reason(), Ok(RejectReason::TooManyImmediateCommands));
    assert_eq!(
        harness.out.0.last(),
        Some(&Event::Send(reject[0].into(), Sent::Bytes(Bhs::from(immediate(18)).0.to_vec())))
    );
}

#[test]
fn the_window_closes_and_opens_with_the_tasks() {
    let mut harness = small(2);
    let first = harness.read(1, 512);
    harness.read(2, 512);
    harness.respond(first, status::GOOD, &[], Transfer::In { available: 512 });
    let done = harness.data_ins()[0];
    assert_eq!((done.exp_cmd_sn(), done.max_cmd_sn()), (Sn(2), Sn(2)), "one slot is free again");
}

#[test]
fn back_pressure_closes_the_window_and_its_end_is_announced() {
    let mut harness = small(2);
    harness.connection.set_window(0, &mut harness.out);
    for itt in 0..2 {
        let task = harness.read(itt, 512);
        harness.respond(task, status::GOOD, &[], Transfer::In { available: 512 });
    }
    let last = *harness.data_ins().last().unwrap();
    assert_eq!((last.exp_cmd_sn(), last.max_cmd_sn()), (Sn(2), Sn(1)), "closed");
    harness.take();
    harness.connection.set_window(1, &mut harness.out);
    let news: Vec<NopIn> = harness.sent();
    assert_eq!(news.len(), 1);
    assert_eq!((news[0].exp_cmd_sn(), news[0].max_cmd_sn()), (Sn(2), Sn(2)));
    assert_eq!((news[0].initiator_task_tag(), news[0].target_transfer_tag()), (RESERVED_TAG, RESERVED_TAG));
    // Told once, and StatSN was not used up.
    harness.connection.set_window(2, &mut harness.out);
    let task = harness.read(7, 512);
    harness.respond(task, status::GOOD, &[], Transfer::In { available: 512 });
    assert_eq!(harness.sent::<NopIn>().len(), 1);
    assert_eq!(harness.data_ins()[0].stat_sn(), news[0].stat_sn());
}

#[test]
fn a_window_that_killed_tasks_held_closed_is_announced_by_the_tick() {
    let mut harness = small(1);
    let task = harness.read(1, 512);
    harness.connection.ping(0, &mut harness.out); // tells the initiator that the window is closed
    harness.connection.kill(None, &mut harness.out);
    assert!(harness.connection.task(task).unwrap().killed());
    harness.take();
    harness.connection.forget(task);
    assert_eq!(harness.connection.deadline_ns(), Some(0));
    harness.connection.tick(1, &mut harness.out).unwrap();
    let news: Vec<NopIn> = harness.sent();
    assert_eq!(news[0].max_cmd_sn(), Sn(1));
    assert_ne!(harness.connection.deadline_ns(), Some(0));
}

#[test]
fn a_read_is_cut_and_its_status_rides_on_the_last_piece() {
    let mut harness = Harness::session("MaxRecvDataSegmentLength=8192 MaxBurstLength=16384");
    let task = harness.read(5, 40_000);
    harness.take();
    harness.respond(task, status::GOOD, &[], Transfer::In { available: 40_000 });
    let sent = harness.data_ins();
    assert_eq!(harness.out.0.len(), sent.len(), "no separate response");
    let lens: Vec<_> =
        sent.iter().map(|pdu| (pdu.buffer_offset(), pdu::Pdu::data_segment_len(pdu))).collect();
    assert_eq!(lens, [(0, 8192), (8192, 8192), (16_384, 8192), (24_576, 8192), (32_768, 7232)]);
    let finals: Vec<_> = sent.iter().map(|pdu| pdu.flags().contains(DataFlags::FINAL)).collect();
    assert_eq!(finals, [false, true, false, true, true]);
    assert!(sent[..4].iter().all(|pdu| pdu.status().is_none()));
    assert_eq!((sent[4].status(), sent[4].residual()), (Some(status::GOOD), Residual::None));
    assert_eq!(sent.iter().map(pdu::DataIn::data_sn).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(harness.connection.tasks_len(), 0);
    assert!(harness.connection.task(task).is_none());
}

#[test]
fn stat_sn_counts_statuses_only() {
    let mut harness = Harness::session("MaxRecvDataSegmentLength=512");
    let mut expected = None;
    for itt in 0..3 {
        let task = harness.read(itt, 2048);
        harness.take();
        harness.respond(task, status::GOOD, &[], Transfer::In { available: 2048 });
        let status_sn = harness.data_ins().last().unwrap().stat_sn();
        assert_eq!(status_sn, expected.unwrap_or(status_sn));
        expected = Some(status_sn.next());
    }
}

/// (R, W, expected, transfer) and what the residual must be (RFC 7143 11.4.5).
#[test]
fn the_residual_table() {
    let cases = [
        (true, false, 512, Transfer::In { available: 512 }, Residual::None),
        (true, false, 255, Transfer::In { available: 36 }, Residual::Underflow(219)),
        (true, false, 36, Transfer::In { available: 96 }, Residual::Overflow(60)),
        (true, false, 36, Transfer::In { available: 0 }, Residual::Underflow(36)),
        (true, false, 512, Transfer::None, Residual::Underflow(512)),
        (true, false, 0, Transfer::None, Residual::None),
        (false, false, 0, Transfer::None, Residual::None),
        (false, false, 0, Transfer::In { available: 8 }, Residual::Overflow(8)),
        (false, false, 512, Transfer::In { available: 512 }, Residual::Overflow(512)),
        (false, true, 512, Transfer::Out { wanted: 512 }, Residual::None),
        (false, true, 1024, Transfer::Out { wanted: 512 }, Residual::Underflow(512)),
        (false, true, 512, Transfer::Out { wanted: 1024 }, Residual::Overflow(512)),
        (false, true, 512, Transfer::None, Residual::Underflow(512)),
        (false, false, 0, Transfer::Out { wanted: 512 }, Residual::Overflow(512)),
        (true, false, 512, Transfer::In { available: u64::MAX }, Residual::Overflow(u32::MAX)),
    ];
    for (at, (r, w, expected, transfer, residual)) in cases.into_iter().enumerate() {
        let mut harness = Harness::session("");
        harness.grant = 0;
        let sns = harness.take_sns();
        let mut pdu = ScsiCommand::new(1, Lun::ZERO, TaskAttribute::Simple, &[0; 16], sns);
        if r {
            pdu = pdu.reading(expected);
        }
        if w {
            pdu = pdu.writing(expected, false);
        }
        harness.feed(&pdu, &[]).unwrap();
        let task = harness.last_command();
        harness.take();
        harness.respond(task, status::GOOD, &[], transfer);
        let (reads, responses) = (harness.data_ins(), harness.responses());
        let seen = match (reads.last(), responses.last()) {
            (Some(read), None) => read.residual(),
            (None, Some(response)) => response.residual(),
            other => panic!("case {at}: one status, not {other:?}"),
        };
        assert_eq!(seen, residual, "case {at}");
        let moved: u32 = reads.iter().map(pdu::Pdu::data_segment_len).sum();
        let may_move = if r { expected } else { 0 };
        assert!(moved <= may_move, "case {at}: never more than expected");
    }
}

#[test]
fn sense_data_comes_in_a_response_of_its_own() {
    let mut harness = Harness::session("");
    let task = harness.read(1, 4096);
    harness.take();
    let sense = [0x70, 0, 3, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0];
    harness.respond(task, status::CHECK_CONDITION, &sense, Transfer::In { available: 1024 });
    let (reads, responses) = (harness.data_ins(), harness.responses());
    assert_eq!((reads.len(), reads[0].status()), (1, None), "what was read, without a status");
    assert!(reads[0].flags().contains(DataFlags::FINAL));
    assert_eq!(
        (responses[0].status(), responses[0].residual()),
        (status::CHECK_CONDITION, Residual::Underflow(3072))
    );
    assert_eq!(responses[0].exp_data_sn(), 1);
    let mut segment = vec![0, 18];
    segment.extend(sense);
    assert_eq!(harness.out.0.last(), Some(&Event::Send(responses[0].into(), Sent::Bytes(segment))));
}

#[test]
fn other_statuses_do_not_ride_on_data() {
    let mut harness = Harness::session("");
    let task = harness.read(1, 512);
    harness.take();
    harness.respond(task, status::BUSY, &[], Transfer::None);
    assert_eq!(harness.responses()[0].status(), status::BUSY);
    assert!(harness.data_ins().is_empty());
}

#[test]
fn sense_data_is_cut_to_what_scsi_allows() {
    let mut harness = Harness::session("");
    let task = harness.read(1, 0);
    harness.respond(task, status::CHECK_CONDITION, &[0x72; 300], Transfer::None);
    let Some(Event::Send(_, Sent::Bytes(segment))) = harness.out.0.last() else { panic!("sense data") };
    assert_eq!((segment.len(), &segment[..2]), (254, &[0, 252][..]));
}

#[test]
fn a_tag_in_use_is_rejected_and_uses_up_its_number() {
    let mut harness = Harness::session("");
    let first = harness.read(9, 512);
    let sns = harness.take_sns();
    harness.feed(&read(9, sns.cmd_sn), &[]).unwrap();
    assert_eq!(harness.sent::<Reject>()[0].reason(), Ok(RejectReason::TaskInProgress));
    let sns = harness.take_sns();
    harness.feed(&read(RESERVED_TAG, sns.cmd_sn), &[]).unwrap();
    assert_eq!(harness.sent::<Reject>()[1].reason(), Ok(RejectReason::InvalidPduField));
    assert!(harness.connection.task(first).is_some());
    harness.read(10, 512);
}

#[test]
fn a_stale_key_is_ignored() {
    let mut harness = Harness::session("");
    let old = harness.read(1, 512);
    harness.respond(old, status::GOOD, &[], Transfer::None);
    let new = harness.read(2, 512);
    assert_eq!(old.index, new.index, "the slot is used again");
    harness.take();
    harness.respond(old, status::GOOD, &[], Transfer::None);
    harness.connection.forget(old);
    assert!(harness.take().is_empty() && harness.connection.task(new).is_some());
}

#[test]
fn bidirectional_commands_are_refused_by_status() {
    let mut harness = Harness::session("");
    let sns = harness.take_sns();
    let mut bytes = Bhs::from(read(4, sns.cmd_sn));
    bytes.0[1] |= 0x20;
    harness.feed_bytes(&bytes.0).unwrap();
    assert_eq!(harness.responses()[0].status(), status::CHECK_CONDITION);
    assert!(harness.commands().is_empty() && harness.released().len() == 1);
}

#[test]
fn an_unknown_opcode_and_a_bad_header_segment_are_rejected() {
    let mut harness = Harness::session("");
    let sns = harness.take_sns();
    let mut vendor = Bhs::from(read(4, sns.cmd_sn));
    vendor.0[0] = 0x1c;
    harness.feed_bytes(&vendor.0).unwrap();
    assert_eq!(harness.sent::<Reject>()[0].reason(), Ok(RejectReason::CommandNotSupported));
    let sns = harness.take_sns();
    let mut bytes = Bhs::from(read(4, sns.cmd_sn)).0.to_vec();
    bytes[4] = 1;
    bytes.extend([0, 1, 0x77, 0]);
    harness.feed_bytes(&bytes).unwrap();
    assert_eq!(harness.sent::<Reject>()[1].reason(), Ok(RejectReason::InvalidPduField));
    harness.read(5, 0);
}

#[test]
fn a_pdu_without_payload_acts_when_it_begins_and_not_again_at_its_end() {
    let mut harness = Harness::with(Settings::new(Arc::new(Targets::default())));
    let login = harness.login_request(pdu::Stage::Operational, pdu::LoginStep::Stay);
    harness.feed(&login, b"InitiatorName=iqn.2026-01.example:a\0SessionType=Discovery\0").unwrap();
    harness.take();
    let step = pdu::LoginStep::Transit(pdu::Stage::FullFeature);
    let empty = harness.login_request(pdu::Stage::Operational, step);
    let began = harness.begin(&empty);
    assert_eq!((began, harness.login_responses().len()), (Disposition::None, 1));
    assert_eq!(harness.connection.phase(), Phase::FullFeature);
    harness.end(&[]);
    assert_eq!(harness.login_responses().len(), 1);

    let mut harness = Harness::session("");
    let (command, ping) = (read(4, harness.take_sns().cmd_sn), harness.take_sns());
    assert_eq!(harness.begin(&command), Disposition::None);
    assert_eq!(harness.commands().len(), 1);
    harness.end(&[]);
    assert_eq!(harness.begin(&pdu::NopOut::ping(5, ping)), Disposition::None);
    harness.end(&[]);
    assert_eq!((harness.commands().len(), harness.sent::<NopIn>().len()), (1, 1));
}

#[test]
fn a_long_cdb_is_told() {
    let mut harness = Harness::session("");
    let sns = harness.take_sns();
    let mut bytes = Bhs::from(read(4, sns.cmd_sn)).0.to_vec();
    bytes[4] = 5;
    bytes.extend([0, 17, 1, 0]);
    bytes.extend([0xee; 16]);
    harness.feed_bytes(&bytes).unwrap();
    let task = harness.last_command();
    assert!(harness.connection.task(task).unwrap().cdb_long());
}

#[test]
fn a_segment_beyond_our_limit_ends_the_session() {
    let settings = Settings { max_recv_data_segment: 1024, ..Settings::new(Arc::new(Targets::default())) };
    let mut harness = Harness::session_with(settings, "");
    let error = harness.write(1, 4096, 1025, false).unwrap_err();
    assert_eq!(error.kind, ViolationKind::SegmentTooLong);
    assert_eq!(harness.sent::<Reject>()[0].reason(), Ok(RejectReason::ProtocolError));
}

#[test]
fn a_second_login_ends_the_session() {
    let mut harness = Harness::session("");
    let again = harness.login_request(pdu::Stage::Operational, pdu::LoginStep::Stay);
    assert_eq!(harness.feed(&again, &[]).unwrap_err().kind, ViolationKind::LoginInFullFeature);
}

#[test]
fn a_dropped_connection_leaves_only_what_the_engine_has() {
    let mut harness = Harness::session("");
    let running = harness.read(1, 512);
    harness.write(2, 8192, 0, false).unwrap();
    assert_eq!(harness.connection.tasks_len(), 2);
    harness.take();
    harness.connection.disconnect(&mut harness.out);
    assert_eq!((harness.released().len(), harness.connection.phase()), (1, Phase::Closed));
    harness.take();
    harness.respond(running, status::GOOD, &[], Transfer::In { available: 512 });
    assert!(harness.take().is_empty());
    assert_eq!(harness.connection.tasks_len(), 0);
}

#[test]
fn a_status_qualifier_says_when_to_try_again_where_rfc_7144_was_agreed_on() {
    for (keys, wanted) in [("", 0), ("iSCSIProtocolLevel=1", 0), ("iSCSIProtocolLevel=31", 1)] {
        let mut harness = Harness::session(keys);
        let statuses = [status::BUSY, status::TASK_SET_FULL, status::RESERVATION_CONFLICT];
        for (itt, status) in (1..).zip(statuses) {
            let task = harness.read(itt, 512);
            harness.respond(task, status, &[], Transfer::None);
        }
        let told: Vec<u16> = harness.responses().iter().map(|response| response.status_qualifier()).collect();
        assert_eq!(told, [wanted, wanted, 0], "{keys}");
    }
}
