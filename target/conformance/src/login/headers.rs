//! The fields of a Login Request's header, and what is refused for them (RFC 7143 11.12, 11.13.5).

use crate::conn::{Keys, LoginText, with_byte};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::site::Site;
use crate::{ensure, ensure_eq, test};
use stampede_wire::pdu::{
    InitiatorSns, LoginRequest, LoginResponse, LoginStatus, LoginStep, NopOut, Pdu as _, Stage,
};
use stampede_wire::{Bhs, Opcode, Sn};

pub(super) const TESTS: &[Test] = &[
    test!(
        version_beyond_0_is_refused,
        "RFC 7143 11.12.4, 11.13.5",
        "an initiator that does not speak version 0 is refused with 0205",
        "session/src/login/mod.rs#check_header"
    )
    .must(&[24])
    .broken_by(Mutation::new("a login of version 1 is refused with another status", other_status)),
    test!(
        transit_with_continue_is_refused,
        "RFC 7143 11.12.2",
        "T and C exclude each other: a text that goes on cannot end its stage",
        "session/src/login/mod.rs#check_header"
    )
    .must(&[24]),
    test!(
        stages_only_go_forward,
        "RFC 7143 6.3, 11.12.3",
        "CSG 2 and 3 are no stages to be in, NSG 2 is none to go to, and none leads back to itself",
        "session/src/login/mod.rs#check_header"
    )
    .must(&[24])
    .broken_by(Mutation::new("a stage that leads back is let pass", says_success)),
    test!(
        what_identifies_a_login_must_not_change,
        "RFC 7143 6.3, 11.12.5, 11.12.6, 11.12.7",
        "ISID, TSIH and CID are the same in every request of a login, or it is refused with 020b; the stage is the one it \
         is in",
        "session/src/login/mod.rs#check_header"
    )
    .must(&[24]),
    test!(
        first_pdu_must_be_a_login,
        "RFC 7143 6.3",
        "before a login nothing else is taken: the connection is closed",
        "session/src/connection.rs#NotALogin"
    )
    .must(&[24])
    .broken_by(Mutation::stays_open("a connection that begins with a NOP-Out stays open")),
    test!(
        login_in_full_feature_phase_ends_the_connection,
        "RFC 7143 11.12",
        "a Login Request after the login is a protocol error, rejected, and the connection is dropped",
        "session/src/full_feature/mod.rs#LoginInFullFeature"
    ),
    test!(
        long_login_is_given_up,
        "RFC 7143 6.3.4",
        "a login that does not come to its end is ended by the target after a time",
        "session/src/connection.rs#login_timeout_ns"
    )
    .on(Site { login_timeout_s: 1, ..Site::PLAIN }),
];

fn other_status(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::LoginResponse) {
        pdu.set_byte(37, 0);
    }
    middle.pass(pdu);
}

fn says_success(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::LoginResponse) {
        pdu.set_byte(36, 0);
        pdu.set_byte(37, 0);
    }
    middle.pass(pdu);
}

const FULL: LoginStep = LoginStep::Transit(Stage::FullFeature);

/// Sends one Login Request with a changed byte, which is refused with this status.
fn refused(lab: &mut Lab, change: (usize, u8), status: LoginStatus) -> Outcome {
    let text = LoginText::plain();
    let mut conn = lab.connect()?;
    let (at, value) = change;
    let bhs: Bhs = with_byte(text.request(Stage::Operational, FULL, 0), at, value);
    conn.send(bhs, &text.keys.to_bytes());
    let response = conn.expect::<LoginResponse>()?;
    let found = u16::from_be_bytes([response.byte(36), response.byte(37)]);
    ensure!(
        found == status as u16,
        "byte {at} = {value:02x}: login status {found:04x} instead of {:04x}",
        status as u16
    );
    conn.expect_closed()
}

fn version_beyond_0_is_refused(lab: &mut Lab) -> Outcome {
    // Version-min.
    refused(lab, (3, 1), LoginStatus::UnsupportedVersion)?;
    // A higher Version-max alone is no obstacle.
    let text = LoginText::plain();
    let mut conn = lab.connect()?;
    let request =
        LoginRequest::from_bhs(&with_byte(text.request(Stage::Operational, FULL, 0), 2, 3)).to_owned();
    let step = conn.login_step(request, &text.keys)?;
    ensure_eq!(step.status(), 0, "the status of a login that also speaks version 3");
    Ok(())
}

fn transit_with_continue_is_refused(lab: &mut Lab) -> Outcome {
    refused(lab, (1, 0xc7), LoginStatus::InitiatorError)
}

fn stages_only_go_forward(lab: &mut Lab) -> Outcome {
    // T, CSG, NSG: in a stage that is none, to one that is none, to the same, back.
    for flags in [0x8b, 0x8f, 0x86, 0x85, 0x84, 0x80, 0x82, 0x08, 0x0c] {
        refused(lab, (1, flags), LoginStatus::InitiatorError)?;
    }
    Ok(())
}

fn what_identifies_a_login_must_not_change(lab: &mut Lab) -> Outcome {
    let text = LoginText::plain();
    let others = [
        LoginText { isid: [0, 2, 0x3d, 0, 0, 99], ..text.clone() },
        LoginText { tsih: 7, ..text.clone() },
        LoginText { cid: 1, ..text.clone() },
    ];
    for other in others {
        let mut conn = lab.connect()?;
        let first = text.request(Stage::Operational, LoginStep::Stay, 0);
        ensure_eq!(conn.login_step(first, &text.keys)?.status(), 0, "the first status");
        let second = other.request(Stage::Operational, FULL, conn.exp_stat_sn());
        conn.send(second, &[]);
        let response = conn.expect::<LoginResponse>()?;
        let found = u16::from_be_bytes([response.byte(36), response.byte(37)]);
        ensure_eq!(
            found,
            LoginStatus::InvalidDuringLogin as u16,
            "the status of a login that changed in between"
        );
        conn.expect_closed()?;
    }
    // Back to the stage before.
    let mut conn = lab.connect()?;
    let first = text.request(Stage::Security, LoginStep::Transit(Stage::Operational), 0);
    ensure_eq!(conn.login_step(first, &text.keys)?.status(), 0, "the first status");
    let second = text.request(Stage::Security, FULL, conn.exp_stat_sn());
    let step = conn.login_step(second, &Keys::default())?;
    ensure!(step.response.byte(36) == 2, "a login that went back: class {}", step.response.byte(36));
    conn.expect_closed()
}

fn first_pdu_must_be_a_login(lab: &mut Lab) -> Outcome {
    let sns = InitiatorSns { cmd_sn: Sn(1), exp_stat_sn: Sn(0) };
    let mut conn = lab.connect()?;
    conn.send(NopOut::ping(1, sns).into_immediate(), b"hello");
    conn.expect_closed()?;
    let mut conn = lab.connect()?;
    conn.send(with_byte(NopOut::ping(1, sns), 0, 0x3f), &[]);
    conn.expect_closed()
}

fn login_in_full_feature_phase_ends_the_connection(lab: &mut Lab) -> Outcome {
    let text = LoginText::plain();
    let mut conn = lab.ready(&text)?;
    let request = text.request(Stage::Operational, FULL, conn.exp_stat_sn());
    conn.send(request, &text.keys.to_bytes());
    let bad = conn.until_closed()?;
    let rejected = bad.iter().any(|pdu| pdu.opcode() == Some(Opcode::Reject) && pdu.byte(2) == 4);
    ensure!(rejected && bad.len() == 1, "{bad:?} came instead of a Reject for a protocol error");
    Ok(())
}

fn long_login_is_given_up(lab: &mut Lab) -> Outcome {
    // One that says nothing, and one that never comes to the point.
    let mut silent = lab.connect()?;
    let text = LoginText::plain();
    let mut slow = lab.connect()?;
    let request = text.request(Stage::Operational, LoginStep::Stay, 0);
    ensure_eq!(slow.login_step(request, &text.keys)?.status(), 0, "the first status");
    silent.until_closed()?;
    slow.until_closed().map(drop)
}
