//! NOP, Text, Logout, discovery sessions and the clock.

use std::sync::Arc;

use stampede_session::{Announcement, Close, DigestPolicy, Disposition, Phase, Settings, ViolationKind};
use stampede_wire::{
    Isid, Lun, RESERVED_TAG, Sn, Tsih,
    pdu::{
        self, AsyncEvent, AsyncMessage, LoginStep, LogoutRequest, LogoutResponse, LogoutResponseCode, NopIn,
        NopOut, Reject, RejectReason, ScsiCommand, Stage, TaskAttribute, TextRequest, TextResponse, TextStep,
    },
};

use crate::support::{Event, Harness, INITIATOR, SECOND, Sent, TARGET, Targets, text};

fn discovery() -> Harness {
    let mut harness = Harness::new();
    let keys = format!("InitiatorName={INITIATOR} SessionType=Discovery");
    harness.login(Stage::Operational, LoginStep::Transit(Stage::FullFeature), &keys).unwrap();
    harness.take();
    harness
}

fn ask(harness: &mut Harness, keys: &[u8]) -> TextResponse {
    let sns = harness.take_sns();
    harness.feed(&TextRequest::new(0x21, TextStep::Final, sns), keys).unwrap();
    *harness.sent::<TextResponse>().last().expect("an answer")
}

#[test]
fn send_targets_all_in_a_discovery_session() {
    let mut harness = discovery();
    let answer = ask(&mut harness, b"SendTargets=All\0");
    assert!(answer.is_final() && answer.target_transfer_tag() == RESERVED_TAG);
    assert_eq!(
        harness.sent_text(),
        "TargetName=iqn.2026-01.example.boot:disk1 TargetAddress=192.0.2.1:3260,1 \
         TargetAddress=[2001:db8::1]:3260,1 TargetName=iqn.2026-01.example.boot:disk2 \
         TargetAddress=192.0.2.1:3260,1 TargetAddress=[2001:db8::1]:3260,1"
    );
}

#[test]
fn send_targets_by_name() {
    let mut harness = discovery();
    ask(&mut harness, b"SendTargets=IQN.2026-01.example.boot:disk2\0");
    assert_eq!(harness.sent_text().matches("TargetName=").count(), 1);
    harness.take();
    ask(&mut harness, b"SendTargets=iqn.2026-01.example.boot:none\0");
    assert_eq!(harness.sent_text(), "");
    harness.take();
    ask(&mut harness, b"SendTargets=\0");
    assert_eq!(harness.sent_text(), "SendTargets=Reject");
}

#[test]
fn send_targets_in_a_normal_session_tells_its_own() {
    let mut harness = Harness::session("");
    for own in [&b"SendTargets=\0"[..], format!("SendTargets={TARGET}\0").as_bytes()] {
        harness.take();
        ask(&mut harness, own);
        assert_eq!(harness.sent_text().matches("TargetName=").count(), 1);
        assert!(harness.sent_text().contains(TARGET));
    }
    harness.take();
    ask(&mut harness, b"SendTargets=All\0");
    assert_eq!(harness.sent_text(), "SendTargets=Reject");
    harness.take();
    ask(&mut harness, b"SendTargets=iqn.2026-01.example.boot:disk2\0");
    assert_eq!(harness.sent_text(), "");
}

#[test]
fn a_long_answer_goes_on_at_the_initiators_pace() {
    let mut harness = discovery();
    ask(&mut harness, b"MaxRecvDataSegmentLength=512\0");
    harness.take();
    let keys: String = (0..40).map(|n| format!("X-com.example.key{n}=1\0")).collect();
    let mut answer = ask(&mut harness, keys.as_bytes());
    let mut parts = 1;
    while !answer.is_final() {
        assert!(answer.continues() && answer.target_transfer_tag() != RESERVED_TAG);
        let sns = harness.take_sns();
        harness.feed(&TextRequest::following(&answer, TextStep::Final, sns), &[]).unwrap();
        answer = *harness.sent::<TextResponse>().last().unwrap();
        parts += 1;
    }
    assert!(parts >= 3 && harness.sent::<Reject>().is_empty());
    assert_eq!(harness.sent_text().matches("NotUnderstood").count(), 40);
    assert!(harness.sent::<TextResponse>().iter().all(|part| pdu::Pdu::data_segment_len(part) <= 512));
}

#[test]
fn a_request_may_be_cut_too() {
    let mut harness = discovery();
    let sns = harness.take_sns();
    harness.feed(&TextRequest::new(0x21, TextStep::Continue, sns), b"SendTar").unwrap();
    let answer = harness.sent::<TextResponse>()[0];
    assert!(!answer.is_final() && !answer.continues() && answer.target_transfer_tag() != RESERVED_TAG);
    assert_eq!(harness.sent_text(), "");
    let sns = harness.take_sns();
    harness.feed(&TextRequest::following(&answer, TextStep::More, sns), b"gets=All\0").unwrap();
    let answer = harness.sent::<TextResponse>()[1];
    assert!(!answer.is_final(), "the initiator has more to say");
    let sns = harness.take_sns();
    harness.feed(&TextRequest::following(&answer, TextStep::Final, sns), &[]).unwrap();
    let answer = harness.sent::<TextResponse>()[2];
    assert!(answer.is_final() && answer.target_transfer_tag() == RESERVED_TAG);
    assert_eq!(harness.sent_text().matches("TargetName=").count(), 2);
}

#[test]
fn text_that_makes_no_sense_is_rejected() {
    let bad = |pdu: fn(&mut Harness) -> TextRequest, keys: &[u8]| {
        let mut harness = discovery();
        let pdu = pdu(&mut harness);
        harness.feed(&pdu, keys).unwrap();
        assert_eq!(harness.sent::<Reject>()[0].reason(), Ok(RejectReason::ProtocolError));
        // The session goes on.
        harness.take();
        ask(&mut harness, b"SendTargets=All\0");
    };
    let new = |harness: &mut Harness| TextRequest::new(0x21, TextStep::Final, harness.take_sns());
    bad(new, b"SendTargets");
    bad(new, b"A=1\0A=2\0");
    bad(
        |harness| {
            let other = TextResponse::partial(0x21, 0x777, false, pdu::TargetSns::default());
            TextRequest::following(&other, TextStep::Final, harness.take_sns())
        },
        b"",
    );
    bad(|harness| TextRequest::new(RESERVED_TAG, TextStep::Final, harness.take_sns()), b"A=1\0");
}

#[test]
fn login_keys_are_rejected_after_login() {
    let mut harness = Harness::session("");
    ask(&mut harness, b"MaxBurstLength=512\0X-com.example=1\0MaxRecvDataSegmentLength=511\0");
    assert_eq!(
        harness.sent_text(),
        "MaxBurstLength=Reject X-com.example=NotUnderstood MaxRecvDataSegmentLength=Reject"
    );
    assert_eq!(harness.connection.info().unwrap().parameters.initiator_recv_data_segment, 8192);
    harness.take();
    ask(&mut harness, b"MaxRecvDataSegmentLength=1024\0");
    assert_eq!(
        (
            harness.sent_text().as_str(),
            harness.connection.info().unwrap().parameters.initiator_recv_data_segment
        ),
        ("", 1024)
    );
}

#[test]
fn a_discovery_session_does_nothing_else() {
    let mut harness = discovery();
    let sns = harness.take_sns();
    let write = ScsiCommand::new(1, Lun::ZERO, TaskAttribute::Simple, &[0; 16], sns).writing(512, false);
    assert_eq!(harness.feed(&write, &[0; 512]), Ok(Disposition::Discard));
    assert_eq!(harness.sent::<Reject>()[0].reason(), Ok(RejectReason::CommandNotSupported));
    let sns = harness.take_sns();
    let reset =
        pdu::TaskManagementRequest::new(pdu::TaskManagementFunction::TargetWarmReset, 2, Lun::ZERO, sns);
    harness.feed(&reset, &[]).unwrap();
    assert_eq!(harness.sent::<Reject>()[1].reason(), Ok(RejectReason::CommandNotSupported));
    assert!(harness.managed().is_empty() && harness.commands().is_empty());
    let sns = harness.take_sns();
    harness.feed(&LogoutRequest::close_session(3, sns), &[]).unwrap();
    assert_eq!(harness.closed(), Some(Close::LoggedOut));
}

#[test]
fn a_ping_is_echoed() {
    let mut harness = Harness::session("MaxRecvDataSegmentLength=512");
    let sns = harness.take_sns();
    harness.feed(&NopOut::ping(0x31, sns), &[7; 600]).unwrap();
    let Some(Event::Send(header, Sent::Bytes(echo))) = harness.out.0.last() else { panic!("an echo") };
    let answer: &NopIn = header.try_view().unwrap();
    assert_eq!((answer.initiator_task_tag(), answer.target_transfer_tag()), (0x31, RESERVED_TAG));
    assert_eq!((answer.exp_cmd_sn(), echo.as_slice()), (Sn(1), &[7; 512][..]), "as much as it can take");
    harness.take();
    harness.feed(&NopOut::ping(0x32, harness.sns()).into_immediate(), &[]).unwrap();
    assert_eq!(harness.sent::<NopIn>()[0].exp_cmd_sn(), Sn(1), "immediate: no number used");
    harness.take();
    harness.feed(&NopOut::notify(harness.sns()), &[]).unwrap();
    assert!(harness.take().is_empty(), "no tag, no answer");
}

#[test]
fn a_damaged_ping_is_rejected_and_only_a_numbered_one_is_fatal() {
    let mut harness = Harness::session("");
    harness.digest_ok = false;
    harness.feed(&NopOut::ping(1, harness.sns()).into_immediate(), &[1; 16]).unwrap();
    assert_eq!(harness.sent::<Reject>()[0].reason(), Ok(RejectReason::DataDigestError));
    let sns = harness.take_sns();
    assert_eq!(harness.feed(&NopOut::ping(2, sns), &[1; 16]).unwrap_err().kind, ViolationKind::DigestError);
}

fn pinging(keys: &str) -> Harness {
    let settings = Settings {
        ping_interval_ns: 10 * SECOND,
        ping_timeout_ns: 5 * SECOND,
        ..Settings::new(Arc::new(Targets::default()))
    };
    Harness::session_with(settings, keys)
}

/// Ticks whenever the connection wants it, up to this time, as a shard that runs does.
fn run_until(harness: &mut Harness, until_ns: u64) -> Result<(), ViolationKind> {
    while let Some(deadline_ns) = harness.connection.deadline_ns().filter(|at| *at <= until_ns) {
        harness.connection.tick(deadline_ns, &mut harness.out).map_err(|violation| violation.kind)?;
    }
    Ok(())
}

/// A session whose initiator has answered a ping at 1 s.
fn answering() -> Harness {
    let mut harness = pinging("");
    harness.connection.ping(0, &mut harness.out);
    let ping = harness.sent::<NopIn>()[0];
    harness.now_ns = SECOND;
    harness.feed(&NopOut::reply(ping.target_transfer_tag(), Lun::ZERO, harness.sns()), &[]).unwrap();
    harness
}

#[test]
fn time_in_which_the_target_did_not_run_counts_against_nobody() {
    let mut harness = answering();
    run_until(&mut harness, 11 * SECOND).unwrap();
    // The answer comes at once, and lies in the socket while the target stands still for a minute. What is late is looked
    // for again before it is judged.
    harness.connection.tick(71 * SECOND, &mut harness.out).unwrap();
    let ping = *harness.sent::<NopIn>().last().unwrap();
    harness.now_ns = 71 * SECOND + 1;
    harness.feed(&NopOut::reply(ping.target_transfer_tag(), Lun::ZERO, harness.sns()), &[]).unwrap();
    run_until(&mut harness, 81 * SECOND).unwrap();
    assert_eq!(harness.connection.answers_pings(), Some(true));
    // Nobody answers: it takes no longer than it should from where the target runs again.
    harness.connection.tick(200 * SECOND, &mut harness.out).unwrap();
    assert_eq!(run_until(&mut harness, 206 * SECOND), Err(ViolationKind::PingTimeout));
}

#[test]
fn a_silent_initiator_is_pinged_and_dropped_only_if_it_ever_answered() {
    let mut harness = pinging("");
    assert_eq!(harness.connection.deadline_ns(), Some(10 * SECOND));
    harness.connection.tick(10 * SECOND, &mut harness.out).unwrap();
    let ping = harness.sent::<NopIn>()[0];
    assert!(ping.wants_reply() && ping.initiator_task_tag() == RESERVED_TAG);
    assert_eq!(harness.connection.answers_pings(), None);
    run_until(&mut harness, 15 * SECOND - 1).unwrap();
    assert_eq!(harness.connection.answers_pings(), None);
    run_until(&mut harness, 15 * SECOND).unwrap();
    assert_eq!(harness.connection.answers_pings(), Some(false), "a boot ROM: left alone");
    assert_eq!(harness.connection.deadline_ns(), None);

    let mut harness = pinging("");
    harness.connection.tick(10 * SECOND, &mut harness.out).unwrap();
    let ping = harness.sent::<NopIn>()[0];
    harness.now_ns = 11 * SECOND;
    harness.feed(&NopOut::reply(ping.target_transfer_tag(), Lun::ZERO, harness.sns()), &[]).unwrap();
    assert_eq!(
        (harness.connection.answers_pings(), harness.connection.last_heard_ns()),
        (Some(true), 11 * SECOND)
    );
    assert_eq!(harness.connection.deadline_ns(), Some(21 * SECOND));
    harness.connection.tick(21 * SECOND, &mut harness.out).unwrap();
    assert_eq!(run_until(&mut harness, 26 * SECOND - 1), Ok(()));
    assert_eq!(run_until(&mut harness, 26 * SECOND), Err(ViolationKind::PingTimeout));
}

#[test]
fn a_busy_initiator_that_misses_a_ping_is_not_dropped() {
    let mut harness = pinging("");
    harness.connection.ping(0, &mut harness.out);
    let ping = harness.sent::<NopIn>()[0];
    harness.feed(&NopOut::reply(ping.target_transfer_tag(), Lun::ZERO, harness.sns()), &[]).unwrap();
    harness.connection.ping(20 * SECOND, &mut harness.out);
    harness.now_ns = 22 * SECOND;
    harness.read(1, 512);
    assert_eq!(run_until(&mut harness, 25 * SECOND), Ok(()));
    assert_eq!(harness.connection.answers_pings(), Some(true));
}

#[test]
fn firmware_is_never_pinged_by_the_clock() {
    let settings = Settings { ping_interval_ns: SECOND, ..Settings::new(Arc::new(Targets::default())) };
    let mut harness = Harness::with(settings);
    let isid = Isid([0x40, 0, 0x27, 0x23, 1, 2]);
    let step = LoginStep::Transit(Stage::FullFeature);
    let request = pdu::LoginRequest::new(isid, Tsih::NEW, 0, 1, Stage::Operational, step, harness.sns());
    harness.feed(&request, &text(&format!("InitiatorName={INITIATOR} TargetName={TARGET}"))).unwrap();
    harness.admit(1);
    assert_eq!(harness.connection.deadline_ns(), None);
}

#[test]
fn a_ping_uses_up_no_stat_sn() {
    let mut harness = Harness::session("");
    harness.connection.ping(0, &mut harness.out);
    harness.connection.ping(0, &mut harness.out);
    assert_eq!(harness.sent::<NopIn>().len(), 1, "one at a time");
    let sns = harness.take_sns();
    harness.feed(&NopOut::ping(9, sns), &[]).unwrap();
    let sent = harness.sent::<NopIn>();
    assert_eq!(sent[0].stat_sn(), sent[1].stat_sn());
}

#[test]
fn logouts() {
    let mut harness = Harness::session("");
    let code = |harness: &mut Harness, pdu: LogoutRequest| {
        harness.take();
        harness.feed(&pdu, &[]).unwrap();
        harness.sent::<LogoutResponse>()[0].response().unwrap()
    };
    let sns = harness.take_sns();
    assert_eq!(
        code(&mut harness, LogoutRequest::close_connection(9, false, 1, sns)),
        LogoutResponseCode::CidNotFound
    );
    let sns = harness.take_sns();
    let recovery = LogoutRequest::close_connection(0, true, 1, sns);
    assert_eq!(code(&mut harness, recovery), LogoutResponseCode::RecoveryNotSupported);
    assert_eq!(harness.connection.phase(), Phase::FullFeature);
    let sns = harness.take_sns();
    assert_eq!(
        code(&mut harness, LogoutRequest::close_connection(0, false, 1, sns)),
        LogoutResponseCode::Success
    );
    assert_eq!((harness.closed(), harness.connection.phase()), (Some(Close::LoggedOut), Phase::Closed));
    harness.take();
    let sns = harness.take_sns();
    harness.feed(&NopOut::ping(9, sns), &[1; 4]).unwrap();
    assert!(harness.take().is_empty(), "nothing after the end");
}

#[test]
fn an_initiator_that_is_asked_to_leave_has_its_time() {
    let mut harness = Harness::session("");
    harness.connection.announce(Announcement::Logout { seconds: 5 }, SECOND, &mut harness.out);
    let message = harness.sent::<AsyncMessage>()[0];
    assert_eq!((message.event(), message.parameter3()), (Ok(AsyncEvent::LogoutRequest), 5));
    harness.read(1, 512);
    assert_eq!(harness.connection.deadline_ns(), Some(6 * SECOND));
    assert!(harness.connection.tick(6 * SECOND - 1, &mut harness.out).is_ok());
    let error = harness.connection.tick(6 * SECOND, &mut harness.out).unwrap_err();
    assert_eq!(error.kind, ViolationKind::LogoutTimeout);
}

#[test]
fn a_snack_is_a_protocol_error_at_this_recovery_level() {
    let mut harness = Harness::session("");
    let mut snack = stampede_wire::Bhs([0; 48]);
    snack.0[0] = 0x10;
    harness.feed_bytes(&snack.0).unwrap();
    assert_eq!(harness.sent::<Reject>()[0].reason(), Ok(RejectReason::ProtocolError));
}

#[test]
fn a_require_policy_is_met_by_either_order() {
    let settings =
        Settings { header_digest: DigestPolicy::Require, ..Settings::new(Arc::new(Targets::default())) };
    let harness = Harness::session_with(settings, "HeaderDigest=None,CRC32C");
    assert!(harness.connection.info().unwrap().parameters.header_digest);
}

#[test]
fn an_initiator_whose_session_is_dropped_is_told() {
    for (what, event, cid) in [
        (Announcement::DropConnection, AsyncEvent::DropConnection, 0),
        (Announcement::DropSession, AsyncEvent::DropSession, 0),
    ] {
        let mut harness = Harness::session("DefaultTime2Wait=7");
        let task = harness.read(9, 512);
        harness.connection.announce(what, SECOND, &mut harness.out);
        let message = harness.sent::<AsyncMessage>()[0];
        assert_eq!((message.event(), message.parameter1()), (Ok(event), cid));
        assert_eq!(
            (message.parameter2(), message.parameter3()),
            (7, 0),
            "Time2Wait, and nothing is retained"
        );
        assert_eq!((harness.closed(), harness.connection.phase()), (Some(Close::Dropped), Phase::Closed));
        // The task that runs is only forgotten when its I/O is over.
        harness.connection.disconnect(&mut harness.out);
        assert!(harness.connection.task(task).is_some_and(stampede_session::Task::killed));
        harness.take();
        harness.connection.announce(what, SECOND, &mut harness.out);
        assert!(harness.take().is_empty(), "said once");
    }
}

#[test]
fn an_initiator_that_is_asked_to_renegotiate_has_its_time() {
    let mut harness = Harness::session("");
    harness.connection.announce(Announcement::Renegotiate { seconds: 5 }, SECOND, &mut harness.out);
    let message = harness.sent::<AsyncMessage>()[0];
    assert_eq!((message.event(), message.parameter3()), (Ok(AsyncEvent::NegotiationRequest), 5));
    assert_eq!(harness.connection.deadline_ns(), Some(6 * SECOND));
    assert!(harness.connection.tick(6 * SECOND - 1, &mut harness.out).is_ok());
    let late = harness.connection.tick(6 * SECOND, &mut harness.out).unwrap_err();
    assert_eq!(late.kind, ViolationKind::RenegotiationTimeout);

    let mut harness = Harness::session("");
    harness.connection.announce(Announcement::Renegotiate { seconds: 5 }, SECOND, &mut harness.out);
    ask(&mut harness, b"MaxRecvDataSegmentLength=4096\0");
    assert_eq!(harness.connection.deadline_ns(), None);
    assert!(harness.connection.tick(100 * SECOND, &mut harness.out).is_ok());
}
