//! Every constructor against the bytes RFC 7143 section 11 draws, and the rules between fields.

use super::*;
use crate::{Isid, Lun, RESERVED_TAG, Tsih, encode::header_digest};
use std::{format, string::String, vec::Vec};

const LUN: Lun = Lun([0, 3, 0, 0, 0, 0, 0, 0]);
const ISID: Isid = Isid([0x80, 1, 2, 3, 4, 5]);
const TO_TARGET: InitiatorSns = InitiatorSns { cmd_sn: Sn(0x0c0c_0c0c), exp_stat_sn: Sn(0x0e0e_0e0e) };
const TO_INITIATOR: TargetSns =
    TargetSns { stat_sn: Sn(0x0505_0505), exp_cmd_sn: Sn(0x0606_0606), max_cmd_sn: Sn(0x0707_0707) };
const TAG: u32 = 0x1111_1111;
const TTT: u32 = 0x2222_2222;

/// Asserts a PDU's twelve words; `.` stands for eight zeros.
#[track_caller]
fn assert_words(pdu: impl AsRef<[u8]>, expected: &str) {
    let words = pdu.as_ref().chunks(4).map(|word| match word {
        [0, 0, 0, 0] => String::from("."),
        word => word.iter().map(|byte| format!("{byte:02x}")).collect(),
    });
    let seen: Vec<_> = words.collect();
    assert_eq!(seen, expected.split_whitespace().collect::<Vec<_>>());
}

/// RFC 3720 B.4 shows one whole PDU with its digest.
#[test]
fn the_read_command_of_rfc_3720() {
    let mut cdb = [0; 16];
    (cdb[0], cdb[8]) = (0x28, 2);
    let sns = InitiatorSns { cmd_sn: Sn(0x14), exp_stat_sn: Sn(0x18) };
    let pdu = ScsiCommand::new(0x1400_0000, Lun::ZERO, TaskAttribute::Untagged, &cdb, sns).reading(0x400);
    assert_words(pdu, "01c00000 . . . 14000000 00000400 00000014 00000018 28000000 . 02000000 .");
    assert_eq!(header_digest(pdu.bhs()), [0x56, 0x3a, 0x96, 0xd9]);
}

#[test]
fn scsi_command_and_response() {
    let cdb = [0xaa; 16];
    let command = ScsiCommand::new(TAG, LUN, TaskAttribute::Simple, &cdb, TO_TARGET);
    let rest = "00030000 . 11111111 00001000 0c0c0c0c 0e0e0e0e aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa";
    let write = command.writing(4096, true).with_data_segment_len(0x01_0203);
    assert_words(write, &format!("01210000 00010203 {rest}"));
    assert_words(command.writing(4096, false).into_immediate(), &format!("41a10000 . {rest}"));
    assert_words(command.writing(4096, false).reading(4096), &format!("01c10000 . {rest}"));

    let mut response = ScsiResponse::new(TAG, status::CHECK_CONDITION, Residual::Underflow(9), TO_INITIATOR);
    response.set_exp_data_sn(4);
    response.set_status_qualifier(0x1234);
    let words = "21820002 . 12340000 . 11111111 . 05050505 06060606 07070707 00000004 . 00000009";
    assert_words(response, words);
    assert_eq!(response.residual(), Residual::Underflow(9));
    let failed = ScsiResponse::target_failure(TAG, TO_INITIATOR);
    assert_words(failed, "21800100 . . . 11111111 . 05050505 06060606 07070707 . . .");
}

#[test]
fn data_both_ways_and_r2t() {
    let out = DataOut::solicited(TAG, LUN, TTT, Sn(0x0e0e_0e0e)).at(3, 0x2000, true);
    assert_words(out, "05800000 . 00030000 . 11111111 22222222 . 0e0e0e0e . 00000003 00002000 .");
    let out = DataOut::unsolicited(TAG, LUN, Sn(1)).at(0, 0, false);
    assert!(out.is_unsolicited() && !out.is_final());

    let data = DataIn::new(TAG, 2, 0x4000, false, TO_INITIATOR).with_data_segment_len(512);
    let head = "25000000 00000200 . . 11111111 ffffffff . 06060606 07070707 00000002 00004000 .";
    assert_words(data, head);
    assert_eq!(data.status(), None);
    let last = data.with_status(status::GOOD, Residual::Overflow(1), TO_INITIATOR.stat_sn);
    let words =
        "25850000 00000200 . . 11111111 ffffffff 05050505 06060606 07070707 00000002 00004000 00000001";
    assert_words(last, words);
    assert_eq!((last.status(), last.residual()), (Some(status::GOOD), Residual::Overflow(1)));

    let r2t = ReadyToTransfer::new(TAG, LUN, TTT, 1, 0x2000, 0x1000, TO_INITIATOR);
    let words =
        "31800000 . 00030000 . 11111111 22222222 05050505 06060606 07070707 00000001 00002000 00001000";
    assert_words(r2t, words);
}

#[test]
fn task_management() {
    let function = TaskManagementFunction::AbortTask;
    let abort = TaskManagementRequest::new(function, TAG, LUN, TO_TARGET)
        .with_reference(0x99, Sn(7))
        .into_immediate();
    assert_words(abort, "42810000 . 00030000 . 11111111 00000099 0c0c0c0c 0e0e0e0e 00000007 . . .");
    let reset = TaskManagementRequest::new(TaskManagementFunction::LogicalUnitReset, TAG, LUN, TO_TARGET);
    assert_eq!(
        (reset.referenced_task_tag(), reset.function()),
        (RESERVED_TAG, Ok(TaskManagementFunction::LogicalUnitReset))
    );
    let code = TaskManagementResponseCode::TaskDoesNotExist;
    let answer = TaskManagementResponse::new(TAG, code, TO_INITIATOR);
    assert_words(answer, "22800100 . . . 11111111 . 05050505 06060606 07070707 . . .");
    let known: Vec<u8> = (0..=127).filter(|code| TaskManagementFunction::try_from(*code).is_ok()).collect();
    assert_eq!(known, (1..=12).collect::<Vec<_>>());
}

#[test]
fn login() {
    let step = LoginStep::Transit(Stage::FullFeature);
    let request = LoginRequest::new(ISID, Tsih::NEW, 0x0a0b, TAG, Stage::Operational, step, TO_TARGET);
    assert_words(request, "43870000 . 80010203 04050000 11111111 0a0b0000 0c0c0c0c 0e0e0e0e . . . .");
    assert_eq!(
        (request.current_stage(), request.next_stage()),
        (Ok(Stage::Operational), Ok(Stage::FullFeature))
    );
    let response = LoginResponse::new(ISID, Tsih(0x77), TAG, Stage::Operational, step, TO_INITIATOR);
    assert_words(response, "23870000 . 80010203 04050077 11111111 . 05050505 06060606 07070707 . . .");
    assert_eq!(response.status(), Ok(LoginStatus::Success));
    let refused = LoginResponse::refused(&request, LoginStatus::OutOfResources);
    assert_words(refused, "23040000 . 80010203 04050000 11111111 . . . . 03020000 . .");
    assert_eq!(refused.status(), Ok(LoginStatus::OutOfResources));
}

/// RFC 7143 11.12.2: T and C never come together, whatever the step.
#[test]
fn login_steps_exclude_each_other() {
    for step in [LoginStep::Stay, LoginStep::Continue, LoginStep::Transit(Stage::Operational)] {
        let pdu = LoginRequest::new(ISID, Tsih::NEW, 0, TAG, Stage::Security, step, TO_TARGET);
        assert!(pdu.bhs().immediate() && !(pdu.transit() && pdu.continues()));
        assert_eq!(pdu.continues(), step == LoginStep::Continue);
    }
}

#[test]
fn login_statuses() {
    let known = (0..=u16::MAX).filter(|code| LoginStatus::try_from(*code).is_ok()).count();
    assert_eq!(known, 1 + 2 + 12 + 3);
    assert_eq!(
        (LoginStatus::SessionDoesNotExist.class(), LoginStatus::SessionDoesNotExist.detail()),
        (2, 0x0a)
    );
    assert_eq!(format!("{}", LoginStatus::NotFound), "0203 NotFound");
}

#[test]
fn text() {
    let request = TextRequest::new(TAG, TextStep::Final, TO_TARGET).with_data_segment_len(16);
    assert_words(request, "04800000 00000010 . . 11111111 ffffffff 0c0c0c0c 0e0e0e0e . . . .");
    let partial = TextResponse::partial(TAG, TTT, true, TO_INITIATOR);
    assert_words(partial, "24400000 . . . 11111111 22222222 05050505 06060606 07070707 . . .");
    let next = TextRequest::following(&partial, TextStep::More, TO_TARGET);
    assert_words(next, "04000000 . . . 11111111 22222222 0c0c0c0c 0e0e0e0e . . . .");
    let last = TextResponse::last(TAG, TO_INITIATOR);
    assert_words(last, "24800000 . . . 11111111 ffffffff 05050505 06060606 07070707 . . .");
}

#[test]
fn logout_and_reject() {
    let session = LogoutRequest::close_session(TAG, TO_TARGET);
    assert_words(session, "06800000 . . . 11111111 . 0c0c0c0c 0e0e0e0e . . . .");
    let connection = LogoutRequest::close_connection(0x0a0b, true, TAG, TO_TARGET).into_immediate();
    assert_words(connection, "46820000 . . . 11111111 0a0b0000 0c0c0c0c 0e0e0e0e . . . .");
    let answer = LogoutResponse::new(TAG, LogoutResponseCode::CidNotFound, 2, 20, TO_INITIATOR);
    assert_words(answer, "26800100 . . . 11111111 . 05050505 06060606 07070707 . 00020014 .");
    let reject = Reject::new(RejectReason::DataDigestError, TO_INITIATOR);
    assert_words(reject, "3f800200 00000030 . . ffffffff . 05050505 06060606 07070707 . . .");
}

#[test]
fn nops() {
    let ping = NopOut::ping(TAG, TO_TARGET);
    assert_words(ping, "00800000 . . . 11111111 ffffffff 0c0c0c0c 0e0e0e0e . . . .");
    let reply = NopOut::reply(TTT, LUN, TO_TARGET);
    assert_words(reply, "40800000 . 00030000 . ffffffff 22222222 0c0c0c0c 0e0e0e0e . . . .");
    assert!(ping.wants_reply() && !reply.wants_reply() && !NopOut::notify(TO_TARGET).wants_reply());
    let reply = NopIn::reply(TAG, TO_INITIATOR);
    assert_words(reply, "20800000 . . . 11111111 ffffffff 05050505 06060606 07070707 . . .");
    let ping = NopIn::ping(TTT, LUN, TO_INITIATOR);
    assert_words(ping, "20800000 . 00030000 . ffffffff 22222222 05050505 06060606 07070707 . . .");
    assert!(ping.wants_reply() && !reply.wants_reply() && !NopIn::notify(TO_INITIATOR).wants_reply());
}

#[test]
fn async_messages_and_snack() {
    let drop = AsyncMessage::drop_connection(0x0a0b, 2, 20, TO_INITIATOR);
    assert_words(drop, "32800000 . . . ffffffff . 05050505 06060606 07070707 02000a0b 00020014 .");
    let logout = AsyncMessage::logout_request(10, TO_INITIATOR);
    assert_words(logout, "32800000 . . . ffffffff . 05050505 06060606 07070707 01000000 0000000a .");
    let ended = AsyncMessage::tasks_terminated(LUN, TO_INITIATOR);
    assert_eq!((ended.lun(), ended.event()), (LUN, Ok(AsyncEvent::TasksTerminated)));
    let snack = SnackRequest::new(SnackKind::Status, RESERVED_TAG, RESERVED_TAG, 5, 2, Sn(0x0e0e_0e0e));
    assert_words(snack, "10810000 . . . ffffffff ffffffff . 0e0e0e0e . . 00000005 00000002");
}

#[test]
fn residuals() {
    assert_eq!(Residual::of(512, 512), Residual::None);
    assert_eq!(Residual::of(512, 36), Residual::Underflow(476));
    assert_eq!(Residual::of(512, 1024), Residual::Overflow(512));
    assert_eq!(Residual::of(0, u64::MAX), Residual::Overflow(u32::MAX));
    assert_eq!(Residual::of(u32::MAX, 0), Residual::Underflow(u32::MAX));
}

#[test]
fn views_go_by_the_opcode() {
    let bhs = Bhs::from(NopOut::notify(TO_TARGET));
    assert!(bhs.try_view::<NopOut>().is_some() && bhs.try_view::<NopIn>().is_none());
    assert!(matches!(bhs.request(), Some(Request::NopOut(_))) && bhs.response().is_none());
    assert!(matches!(Bhs::from(NopIn::notify(TO_INITIATOR)).response(), Some(Response::NopIn(_))));
    assert_eq!(Bhs([0xff; 48]).opcode(), Ok(Opcode::Reject));
    assert_eq!(Bhs([0x1c; 48]).opcode(), Err(0x1c));
}

#[test]
fn the_dump_names_what_matters() {
    let command = ScsiCommand::new(TAG, LUN, TaskAttribute::Simple, &[0x28; 16], TO_TARGET).reading(512);
    let expected = "ScsiCommand F flags=c1 itt=11111111 lun=3 ahs=0 data=0 | 00000200 0c0c0c0c 0e0e0e0e \
                    28282828 28282828 28282828 28282828";
    assert_eq!(format!("{command:?}"), expected);
    assert!(format!("{:?}", Bhs([0x5c; 48])).starts_with("opcode 0x1c I flags=5c"));
}

#[test]
#[should_panic(expected = "shorter than 2^24")]
fn a_data_length_has_24_bits() {
    let _ = NopIn::notify(TO_INITIATOR).with_data_segment_len(1 << 24);
}
