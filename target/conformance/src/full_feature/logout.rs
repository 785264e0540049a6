//! Logout, being asked to log out, and being sent elsewhere (RFC 7143 11.9, 11.14, 11.15, 11.13.5).

use crate::conn::{Cmd, LoginText, with_byte};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::site::{CLONE, DATA, ELSEWHERE, GONE, Site};
use crate::{ensure, ensure_eq, test};
use stampede_wire::pdu::{
    AsyncMessage, LoginStatus, LogoutRequest, LogoutResponse, ReadyToTransfer, RejectReason,
};
use stampede_wire::{Bhs, Opcode};

pub(super) const TESTS: &[Test] = &[
    test!(
        logout_is_answered_and_ends_the_connection,
        "RFC 7143 11.14, 11.15",
        "reason 0, and reason 1 with the session's own CID, are answered 0 with Time2Wait and Time2Retain as agreed, \
         and the connection is closed",
        "session/src/full_feature/logout.rs#log_out"
    )
    .must(&[29])
    .broken_by(Mutation::stays_open("the connection stays open after the Logout Response")),
    test!(
        logout_ends_outstanding_tasks_first,
        "RFC 7143 11.14",
        "tasks that are out at a logout end without a status, and nothing follows the Logout Response",
        "session/src/full_feature/logout.rs#log_out"
    )
    .must(&[29])
    .broken_by(Mutation::new("a task is answered after the Logout Response", status_after_logout)),
    test!(
        logout_of_an_unknown_connection_is_told_so,
        "RFC 7143 11.15.1",
        "reason 1 with another CID is answered 1, reason 2 is answered 2 at ErrorRecoveryLevel 0, and the session \
         lives",
        "session/src/full_feature/logout.rs#logout_request"
    )
    .must(&[29]),
    test!(
        reserved_logout_reasons_are_rejected,
        "RFC 7143 11.14.1, 11.17.1",
        "a reason that is not defined makes the PDU invalid",
        "session/src/full_feature/logout.rs#logout_request"
    ),
    test!(
        shutdown_asks_for_a_logout,
        "RFC 7143 11.9.1",
        "a target that is going to stop sends AsyncEvent 1 with the time it gives in Parameter3, and takes the logout",
        "session/src/full_feature/announce.rs#announce"
    )
    .must(&[29])
    .broken_by(Mutation::new("the target stops without a word", no_async)),
    test!(
        initiators_that_do_not_log_out_are_dropped,
        "RFC 7143 11.9.1",
        "an initiator that was asked to log out and does not is dropped when its time is over",
        "session/src/full_feature/nop.rs#LogoutTimeout"
    )
    .on(Site { drain_timeout_s: 1, ..Site::PLAIN })
    .must(&[29]),
    test!(
        redirection_is_told_in_the_login_and_closes,
        "RFC 7143 11.13.5, 13.8",
        "a target that has moved answers 0101, or 0102 for ever, with TargetAddress, without a portal group tag, and \
         closes",
        "session/src/login/mod.rs#redirect"
    )
    .must(&[30])
    .on(Site { redirects: true, ..Site::PLAIN })
    .broken_by(Mutation::new("a redirection has no TargetAddress", no_address)),
    test!(
        overload_makes_initiators_try_again,
        "RFC 7143 11.13.5",
        "a login for which there is no room is refused with class 3, which makes initiators try again, and not with \
         class 2, which makes them give up",
        "control/src/registrar/admission.rs#refusal_of_waiting"
    )
    .must(&[30])
    .on(Site { clones: 1, ..Site::PLAIN })
    .broken_by(Mutation::new("overload is told by class 2", gives_up)),
];

fn status_after_logout(middle: &mut Middle, pdu: Raw) {
    let mut late = pdu.clone();
    let is_response = pdu.opcode() == Some(Opcode::LogoutResponse);
    middle.pass(pdu);
    if is_response {
        late.set_byte(0, 0x21);
        late.set_word(24, late.stat_sn().wrapping_add(1));
        middle.invent(late);
    }
}

fn no_async(middle: &mut Middle, pdu: Raw) {
    if pdu.opcode() == Some(Opcode::AsyncMessage) { middle.withhold(&pdu) } else { middle.pass(pdu) }
}

fn no_address(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::LoginResponse) && pdu.byte(36) == 1 {
        pdu.set_data(Vec::new());
    }
    middle.pass(pdu);
}

fn gives_up(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::LoginResponse) && pdu.byte(36) == 3 {
        pdu.set_byte(36, 2);
    }
    middle.pass(pdu);
}

fn logout_is_answered_and_ends_the_connection(lab: &mut Lab) -> Outcome {
    let text = LoginText::plain().with_all(&[("DefaultTime2Wait", "7"), ("DefaultTime2Retain", "0")]);
    for reason in [0u8, 1] {
        let mut conn = lab.ready(&text)?;
        let tag = conn.new_tag();
        let request = match reason {
            0 => LogoutRequest::close_session(tag, conn.next_sns()),
            _ => LogoutRequest::close_connection(0, false, tag, conn.next_sns()),
        };
        conn.send(request, &[]);
        let response = conn.expect_view::<LogoutResponse>()?;
        ensure_eq!(response.initiator_task_tag(), tag, "the tag");
        ensure_eq!(response.response().map(|code| code as u8), Ok(0), "the response");
        ensure_eq!(response.time2wait(), 7, "Time2Wait");
        ensure_eq!(response.time2retain(), 0, "Time2Retain");
        conn.expect_closed()?;
    }
    Ok(())
}

fn logout_ends_outstanding_tasks_first(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    for _ in 0..3 {
        conn.start(&Cmd::write(0, &[1; 1024]));
        conn.expect::<ReadyToTransfer>()?;
    }
    conn.log_out()?;
    // The port may come again at once.
    lab.plain()?.run(&Cmd::read(0, 1))?.good().map(drop)
}

fn logout_of_an_unknown_connection_is_told_so(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    for (cid, recovery, code) in [(9, false, 1u8), (0, true, 2)] {
        let tag = conn.new_tag();
        let request = LogoutRequest::close_connection(cid, recovery, tag, conn.next_sns());
        conn.send(request, &[]);
        let response = conn.expect::<LogoutResponse>()?;
        ensure_eq!((response.word(16), response.byte(2)), (tag, code), "tag and code of the response");
    }
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn reserved_logout_reasons_are_rejected(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    for reason in [3u8, 0x7f] {
        let tag = conn.new_tag();
        let request = LogoutRequest::close_session(tag, conn.next_sns());
        let bad: Bhs = with_byte(request, 1, 0x80 | reason);
        conn.send(bad, &[]);
        conn.expect_reject(RejectReason::InvalidPduField, &bad)?;
    }
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn shutdown_asks_for_a_logout(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    lab.drain()?;
    let message = conn.expect::<AsyncMessage>()?;
    ensure_eq!(message.byte(36), 1, "AsyncEvent");
    ensure_eq!(message.word(16), u32::MAX, "the tag of an Asynchronous Message");
    let seconds = message.word(40) & 0xffff;
    ensure!((8..=10).contains(&seconds), "Parameter3 is {seconds} where 10 seconds are left");
    // Commands still run until then.
    conn.run(&Cmd::read(0, 1))?.good()?;
    conn.log_out()
}

fn initiators_that_do_not_log_out_are_dropped(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    lab.drain()?;
    conn.expect::<AsyncMessage>()?;
    conn.until_closed().map(drop)
}

fn redirection_is_told_in_the_login_and_closes(lab: &mut Lab) -> Outcome {
    let statuses = [LoginStatus::TargetMovedTemporarily, LoginStatus::TargetMovedPermanently];
    for (target, status) in [DATA, GONE].into_iter().zip(statuses) {
        let mut conn = lab.connect()?;
        let step = conn.try_log_in(&LoginText::normal(target, 1))?;
        ensure_eq!(step.status(), status as u16, "the status");
        ensure_eq!(step.keys.find("TargetAddress"), Some(ELSEWHERE), "TargetAddress");
        conn.expect_closed()?;
    }
    Ok(())
}

fn overload_makes_initiators_try_again(lab: &mut Lab) -> Outcome {
    let mut first = lab.session(&LoginText::normal(CLONE, 1))?;
    let mut conn = lab.connect()?;
    let step = conn.try_log_in(&LoginText::normal(CLONE, 2))?;
    ensure_eq!(step.response.byte(36), 3, "the class of a login for which there is no room");
    ensure_eq!(step.status(), LoginStatus::OutOfResources as u16, "the status");
    conn.expect_closed()?;
    first.clear_attentions(0)
}
