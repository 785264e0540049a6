//! Who logs in to what: names, session types, and sessions that are there already (RFC 7143 6.3.1, 6.3.4, 6.3.5).

use crate::conn::{Cmd, Conn, Keys, LoginText};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::site::{CLONE, DATA, PORTAL_GROUP};
use crate::{ensure, ensure_eq, test};
use stampede_wire::Opcode;
use stampede_wire::pdu::{LoginRequest, LoginStatus, LoginStep, NopIn, NopOut, Stage};

pub(super) const TESTS: &[Test] = &[
    test!(
        normal_session_needs_a_target_name,
        "RFC 7143 6.3.1, 11.13.5",
        "without TargetName a normal session is refused with 0207; so is any without InitiatorName",
        "session/src/login/names.rs#check"
    )
    .must(&[24])
    .broken_by(Mutation::new("a missing name is told as another error", vague_status)),
    test!(
        discovery_session_needs_no_target_name,
        "RFC 7143 4.3, 6.3.1",
        "a discovery session names no target, and gets no portal group tag",
        "session/src/login/names.rs#check"
    )
    .must(&[24]),
    test!(
        first_reply_names_the_portal_group,
        "RFC 7143 13.9",
        "in a normal session the first Login Response that answers TargetName declares TargetPortalGroupTag, once",
        "session/src/login/mod.rs#negotiate"
    )
    .must(&[24])
    .broken_by(Mutation::new("TargetPortalGroupTag is left out", no_portal_group)),
    test!(
        unknown_target_is_not_found,
        "RFC 7143 11.13.5",
        "a login to a target that does not exist is refused with 0203",
        "session/src/login/names.rs#check"
    ),
    test!(
        names_are_compared_without_case,
        "RFC 7143 4.2.7.1, RFC 3722",
        "iSCSI names are compared in their normal form: lower case",
        "session/src/login/names.rs#name"
    ),
    test!(
        unknown_session_type_is_refused,
        "RFC 7143 13.21, 11.13.5",
        "SessionType is Discovery or Normal, and anything else is refused with 0209; Normal is the default",
        "session/src/login/names.rs#take"
    ),
    test!(
        declared_twice_is_refused,
        "RFC 7143 6.2",
        "a name that is declared twice in a login is an error of the initiator",
        "session/src/login/names.rs#once"
    )
    .must(&[25]),
    test!(
        same_port_reinstates_its_session,
        "RFC 7143 6.3.5",
        "a login with TSIH 0 of an initiator port that has a session ends that session, and is let in",
        "control/src/registrar/login.rs#replace"
    )
    .must(&[23])
    .broken_by(Mutation::stays_open("the old session stays when its port logs in again")),
    test!(
        other_isid_is_another_session,
        "RFC 7143 4.4.3.1, 6.3.5",
        "the same initiator with another ISID is another port: both sessions live",
        "control/src/registrar/sessions.rs#of_port"
    )
    .must(&[23]),
    test!(
        rival_of_a_live_clone_is_refused,
        "RFC 7143 11.13.5",
        "a second machine of the same name is refused with 0202 while the first, which has the clone, answers",
        "control/src/registrar/login.rs#AuthorizationFailure"
    )
    .broken_by(Mutation::new("it is told another status", other_class)),
    test!(
        held_login_gives_way_to_a_newer_one,
        "RFC 7143 6.3.5, 11.13.5",
        "a login that waits for its answer is refused with 0301 when the same port logs in again",
        "control/src/registrar/login.rs#supersede"
    )
    .broken_by(Mutation::new("it is told another status", other_class)),
    test!(
        unknown_tsih_is_refused,
        "RFC 7143 6.3.4, 11.13.5",
        "a TSIH that no session has is refused with 020a",
        "control/src/registrar/login.rs#wanted_tsih"
    )
    .must(&[23])
    .broken_by(Mutation::new("an unknown TSIH is told as another error", vague_status)),
    test!(
        same_tsih_and_cid_reinstate_the_connection,
        "RFC 7143 6.3.4",
        "a login with the TSIH and CID of a live connection ends that connection and takes its place in the session",
        "control/src/registrar/login.rs#wanted_tsih"
    )
    .must(&[23]),
    test!(
        second_connection_is_one_too_many,
        "RFC 7143 13.2, 11.13.5",
        "with MaxConnections 1 a login with a live TSIH and another CID is refused with 0206, and the session lives",
        "control/src/registrar/login.rs#wanted_tsih"
    )
    .must(&[5, 23])
    .broken_by(Mutation::new("a second connection is refused with another status", vague_status)),
];

fn vague_status(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::LoginResponse) && pdu.byte(36) == 2 {
        pdu.set_byte(37, 0);
    }
    middle.pass(pdu);
}

fn no_portal_group(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::LoginResponse) {
        let pairs = pdu.data.split_inclusive(|byte| *byte == 0);
        let kept: Vec<&[u8]> = pairs.filter(|pair| !pair.starts_with(b"TargetPortalGroupTag")).collect();
        pdu.set_data(kept.concat());
    }
    middle.pass(pdu);
}

fn normal_session_needs_a_target_name(lab: &mut Lab) -> Outcome {
    let missing = LoginStatus::MissingParameter;
    lab.connect()?.expect_refused(&LoginText::plain().without("TargetName"), missing)?;
    lab.connect()?.expect_refused(&LoginText::plain().without("InitiatorName"), missing)?;
    lab.connect()?.expect_refused(&LoginText::discovery().without("InitiatorName"), missing)
}

fn discovery_session_needs_no_target_name(lab: &mut Lab) -> Outcome {
    let mut conn = lab.connect()?;
    let step = conn.log_in(&LoginText::discovery())?;
    ensure_eq!(step.keys.count("TargetPortalGroupTag"), 0, "portal group tags in a discovery session");
    conn.expect_quiet().map(drop)
}

fn first_reply_names_the_portal_group(lab: &mut Lab) -> Outcome {
    let text = LoginText::plain();
    for stage in [Stage::Security, Stage::Operational] {
        let mut conn = lab.connect()?;
        let step = conn.login_step(text.request(stage, LoginStep::Stay, 0), &text.keys)?;
        let tag = PORTAL_GROUP.to_string();
        ensure_eq!(step.keys.find("TargetPortalGroupTag"), Some(tag.as_str()), "the tag in the first reply");
        let full = LoginStep::Transit(Stage::FullFeature);
        let step = conn.login_step(text.request(stage, full, conn.exp_stat_sn()), &Keys::default())?;
        ensure_eq!(step.status(), 0, "the status");
        ensure_eq!(step.keys.count("TargetPortalGroupTag"), 0, "the tag in the second reply");
    }
    Ok(())
}

fn unknown_target_is_not_found(lab: &mut Lab) -> Outcome {
    let text = LoginText::normal("iqn.2026-11.io.stampede:nowhere", 1);
    lab.connect()?.expect_refused(&text, LoginStatus::NotFound)
}

fn names_are_compared_without_case(lab: &mut Lab) -> Outcome {
    let text = LoginText::plain().with("TargetName", &DATA.to_ascii_uppercase());
    lab.ready(&text).map(drop)
}

fn unknown_session_type_is_refused(lab: &mut Lab) -> Outcome {
    let text = LoginText::plain().with("SessionType", "Strange");
    lab.connect()?.expect_refused(&text, LoginStatus::SessionTypeNotSupported)?;
    lab.ready(&LoginText::plain().without("SessionType")).map(drop)
}

fn declared_twice_is_refused(lab: &mut Lab) -> Outcome {
    for key in ["InitiatorName", "TargetName", "SessionType"] {
        let mut text = LoginText::plain();
        let value = text.keys.find(key).unwrap_or_default().to_owned();
        text.keys.0.push((key.to_owned(), value));
        lab.connect()?.expect_refused(&text, LoginStatus::InitiatorError)?;
    }
    Ok(())
}

fn same_port_reinstates_its_session(lab: &mut Lab) -> Outcome {
    let mut old = lab.plain()?;
    let mut new = lab.session(&LoginText::plain())?;
    old.until_closed()?;
    new.clear_attentions(0)?;
    new.run(&Cmd::read(0, 1))?.good().map(drop)
}

fn other_isid_is_another_session(lab: &mut Lab) -> Outcome {
    let mut one = lab.plain()?;
    let other = LoginText { isid: [0, 2, 0x3d, 0, 1, 1], ..LoginText::plain() };
    let mut two = lab.ready(&other)?;
    ensure!(one.tsih != two.tsih, "two sessions with TSIH {}", one.tsih);
    one.run(&Cmd::test_unit_ready())?.good()?;
    two.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn unknown_tsih_is_refused(lab: &mut Lab) -> Outcome {
    let text = LoginText { tsih: 0x7777, ..LoginText::plain() };
    lab.connect()?.expect_refused(&text, LoginStatus::SessionDoesNotExist)?;
    // One that another port has is as unknown.
    let other = lab.plain()?;
    let text = LoginText { tsih: other.tsih, ..LoginText::normal(DATA, 2) };
    lab.connect()?.expect_refused(&text, LoginStatus::SessionDoesNotExist)
}

fn same_tsih_and_cid_reinstate_the_connection(lab: &mut Lab) -> Outcome {
    let mut old = lab.plain()?;
    let text = LoginText { tsih: old.tsih, ..LoginText::plain() };
    let mut new = lab.session(&text)?;
    old.until_closed()?;
    ensure_eq!(new.tsih, old.tsih, "TSIH of the connection that took the other's place");
    new.clear_attentions(0)
}

fn second_connection_is_one_too_many(lab: &mut Lab) -> Outcome {
    let mut first = lab.plain()?;
    let text = LoginText { tsih: first.tsih, cid: 1, ..LoginText::plain() };
    lab.connect()?.expect_refused(&text, LoginStatus::TooManyConnections)?;
    first.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn other_class(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::LoginResponse) && pdu.byte(36) > 1 {
        pdu.set_byte(36, 2);
        pdu.set_byte(37, 0);
    }
    middle.pass(pdu);
}

/// The initiator of `text` as another machine of its name would log in: from another port.
fn rival_of(text: &LoginText) -> LoginText {
    LoginText { isid: [0, 2, 0x3d, 9, 9, 9], ..text.clone() }
}

/// Sends the one request of a login, whose answer may take its time.
fn begin_login(lab: &mut Lab, text: &LoginText) -> Outcome<(Conn, LoginRequest)> {
    let mut conn = lab.connect()?;
    let request = text.request(Stage::Operational, LoginStep::Transit(Stage::FullFeature), 0);
    conn.send(request, &text.keys.to_bytes());
    Ok((conn, request))
}

fn rival_of_a_live_clone_is_refused(lab: &mut Lab) -> Outcome {
    let text = LoginText::normal(CLONE, 1);
    let mut owner = lab.ready(&text)?;
    let (mut rival, request) = begin_login(lab, &rival_of(&text))?;
    let ping = owner.expect_view::<NopIn>()?;
    let pong = NopOut::reply(ping.target_transfer_tag(), ping.lun(), owner.sns());
    owner.send(pong.into_immediate(), &[]);
    ensure_eq!(
        rival.login_response(&request)?.status(),
        LoginStatus::AuthorizationFailure as u16,
        "the status of the second machine"
    );
    rival.expect_closed()?;
    owner.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn held_login_gives_way_to_a_newer_one(lab: &mut Lab) -> Outcome {
    let text = LoginText::normal(CLONE, 1);
    let mut owner = lab.ready(&text)?;
    // While the owner is asked for a sign of life, the rival's answer is held.
    let rival = rival_of(&text);
    let (mut first, request) = begin_login(lab, &rival)?;
    let ping = owner.expect_view::<NopIn>()?;
    let (mut second, again) = begin_login(lab, &rival)?;
    ensure_eq!(
        first.login_response(&request)?.status(),
        LoginStatus::ServiceUnavailable as u16,
        "the status of the login that was held"
    );
    first.expect_closed()?;
    let pong = NopOut::reply(ping.target_transfer_tag(), ping.lun(), owner.sns());
    owner.send(pong.into_immediate(), &[]);
    ensure!(second.login_response(&again)?.status() != 0, "a second machine gets the live clone");
    Ok(())
}
