//! StatSN and CmdSN of a login (RFC 7143 4.2.2, 11.12.8, 11.13.4).

use crate::conn::{Cmd, Keys, LoginText};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::{ensure, ensure_eq, test};
use stampede_wire::Opcode;
use stampede_wire::pdu::{LoginStep, Stage};

pub(super) const TESTS: &[Test] = &[
    test!(
        first_login_response_seeds_stat_sn,
        "RFC 7143 11.13.4, 4.2.2.2",
        "the first Login Response sets StatSN, and each after it, and the first of the full-feature phase, has the \
         next",
        "session/src/full_feature/numbers.rs#status"
    )
    .must(&[7])
    .broken_by(Mutation::new("StatSN starts again after the login", starts_again)),
    test!(
        login_cmd_sn_is_that_of_the_first_command,
        "RFC 7143 11.12.8",
        "the CmdSN of the leading login is that of the first command that follows it: a login uses up none",
        "session/src/login/mod.rs#check_header"
    )
    .must(&[7]),
    test!(
        last_response_alone_has_a_tsih,
        "RFC 7143 11.13.3",
        "TSIH is 0 until the last Login Response of a new session, which has one that is not 0",
        "session/src/login/mod.rs#finish"
    )
    .must(&[23]),
];

fn starts_again(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() != Some(Opcode::LoginResponse) {
        pdu.set_word(24, pdu.stat_sn().wrapping_sub(3));
    }
    middle.pass(pdu);
}

fn first_login_response_seeds_stat_sn(lab: &mut Lab) -> Outcome {
    let text = LoginText::plain();
    let mut conn = lab.connect()?;
    let request = text.request(Stage::Security, LoginStep::Stay, 0);
    let first = conn.login_step(request, &text.keys)?;
    let seed = first.response.stat_sn();
    let request = text.request(Stage::Security, LoginStep::Transit(Stage::Operational), conn.exp_stat_sn());
    let second = conn.login_step(request, &Keys::default())?;
    ensure_eq!(second.response.stat_sn(), seed.wrapping_add(1), "StatSN of the second Login Response");
    let full = LoginStep::Transit(Stage::FullFeature);
    let request = text.request(Stage::Operational, full, conn.exp_stat_sn());
    let third = conn.login_step(request, &Keys::default())?;
    ensure_eq!(third.response.stat_sn(), seed.wrapping_add(2), "StatSN of the last Login Response");
    conn.enter(&text, &third)?;
    let done = conn.run(&Cmd::test_unit_ready())?;
    ensure_eq!(done.last.stat_sn(), seed.wrapping_add(3), "StatSN of the first SCSI Response");
    Ok(())
}

fn login_cmd_sn_is_that_of_the_first_command(lab: &mut Lab) -> Outcome {
    for first in [1, 0, 77, 0x8000_0000] {
        let mut conn = lab.connect()?;
        let text = LoginText { cmd_sn: first, ..LoginText::plain() };
        let step = conn.log_in(&text)?;
        ensure_eq!(step.header().exp_cmd_sn().0, first, "ExpCmdSN after a login with this CmdSN");
        conn.clear_attentions(0)?;
        conn.vanish();
    }
    Ok(())
}

fn last_response_alone_has_a_tsih(lab: &mut Lab) -> Outcome {
    let text = LoginText::plain();
    let mut conn = lab.connect()?;
    let request = text.request(Stage::Operational, LoginStep::Stay, 0);
    let step = conn.login_step(request, &text.keys)?;
    ensure_eq!(step.header().tsih().0, 0, "TSIH before the last response");
    let full = LoginStep::Transit(Stage::FullFeature);
    let request = text.request(Stage::Operational, full, conn.exp_stat_sn());
    let step = conn.login_step(request, &Keys::default())?;
    ensure!(step.header().tsih().0 != 0, "the last Login Response has no TSIH");
    Ok(())
}
