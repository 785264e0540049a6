//! The stages of a login and the bits that lead through them (RFC 7143 6.3, 11.12, 11.13).

use crate::conn::{Keys, LoginText};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::{ensure, ensure_eq, test};
use stampede_wire::Opcode;
use stampede_wire::pdu::{LoginStatus, LoginStep, Stage};

pub(super) const TESTS: &[Test] = &[
    test!(
        operational_stage_alone_is_enough,
        "RFC 7143 6.3",
        "where no authentication is wanted, a login may begin in the operational stage and lead from there to the \
         full-feature phase",
        "session/src/login/mod.rs#check_header"
    )
    .must(&[24]),
    test!(
        security_then_operational_then_full_feature,
        "RFC 7143 6.3.2, 6.3.3",
        "each stage is left by a response with T that repeats the NSG which was asked for",
        "session/src/login/mod.rs#answer"
    )
    .must(&[24])
    .broken_by(Mutation::new("NSG is not echoed: the response leads elsewhere", wrong_next_stage)),
];

fn wrong_next_stage(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::LoginResponse) && pdu.byte(1) & 0x83 == 0x81 {
        pdu.set_byte(1, pdu.byte(1) | 3);
    }
    middle.pass(pdu);
}

fn operational_stage_alone_is_enough(lab: &mut Lab) -> Outcome {
    let mut conn = lab.session(&LoginText::plain())?;
    conn.clear_attentions(0)
}

fn security_then_operational_then_full_feature(lab: &mut Lab) -> Outcome {
    let text = LoginText::plain().with("AuthMethod", "None");
    let mut conn = lab.connect()?;
    let request = text.request(Stage::Security, LoginStep::Transit(Stage::Operational), 0);
    let step = conn.login_step(request, &text.keys)?;
    ensure_eq!(step.status(), LoginStatus::Success as u16, "the first status");
    ensure!(step.header().transit(), "the target does not leave the security stage");
    ensure_eq!(step.header().next_stage(), Ok(Stage::Operational), "NSG");
    ensure_eq!(step.keys.find("AuthMethod"), Some("None"), "AuthMethod");
    ensure_eq!(step.header().tsih().0, 0, "TSIH before the last response");
    let request =
        text.request(Stage::Operational, LoginStep::Transit(Stage::FullFeature), conn.exp_stat_sn());
    let step = conn.login_step(request, &Keys::default())?;
    ensure_eq!(step.status(), LoginStatus::Success as u16, "the last status");
    conn.enter(&text, &step)?;
    conn.clear_attentions(0)
}
