//! Resets of the whole target (RFC 7143 11.5.1).

use crate::conn::{Cmd, Conn, LoginText};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::site::{CLONE, DATA, ODD};
use crate::{ensure_eq, test};
use stampede_wire::Opcode;
use stampede_wire::pdu::{AsyncEvent, AsyncMessage, TaskManagementFunction as Function};

pub(super) const TESTS: &[Test] = &[
    test!(
        warm_reset_ends_all_tasks,
        "RFC 7143 11.5.1, 11.6.1, SAM-5 6.3.2",
        "TARGET WARM RESET ends all tasks and is answered; every nexus hears 29h/02h, and all sessions live",
        "engine/src/request.rs#TargetReset"
    )
    .broken_by(Mutation::new("the others hear of a reset of one unit", other_qualifier)),
    test!(
        cold_reset_ends_all_sessions,
        "RFC 7143 11.5.1",
        "TARGET COLD RESET is answered and ends all connections of the target, each after AsyncEvent 3; other targets' \
         sessions live",
        "control/src/registrar/announce.rs#target_reset"
    )
    .broken_by(Mutation::stays_open("the connections stay open")),
    test!(
        cold_reset_is_a_power_on,
        "RFC 7143 11.5.1, SAM-5 6.3.1",
        "after a TARGET COLD RESET initiators log in anew and hear 29h; what they had written is there",
        "scsi/src/device.rs#power_on_reset"
    ),
    test!(
        cold_reset_of_a_clone_spares_other_machines,
        "RFC 7143 11.5.1",
        "clones are each initiator's own: a TARGET COLD RESET by one ends no session of another",
        "control/src/registrar/announce.rs#target_reset"
    )
    .broken_by(Mutation::new("the others lose their sessions too", loses_its_session)),
];

fn other_qualifier(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::ScsiResponse) && pdu.byte(3) == 2 {
        let mut data = pdu.data.clone();
        if let Some(ascq) = data.get_mut(2 + 13) {
            *ascq = 3;
        }
        pdu.set_data(data);
    }
    middle.pass(pdu);
}

/// Ends a connection at its second ping.
fn loses_its_session(middle: &mut Middle, pdu: Raw) {
    let is_echo = pdu.opcode() == Some(Opcode::NopIn);
    middle.memory += u32::from(is_echo);
    if is_echo && middle.memory == 2 { middle.cut() } else { middle.pass(pdu) }
}

fn warm_reset_ends_all_tasks(lab: &mut Lab) -> Outcome {
    let mut one = lab.ready(&LoginText::plain().with("TaskReporting", "FastAbort"))?;
    let mut two = lab.ready(&LoginText::normal(DATA, 2))?;
    one.hanging_write()?;
    let tag = one.manage(Function::TargetWarmReset, 0);
    ensure_eq!(one.managed(tag)?, 0, "the response to TARGET WARM RESET");
    one.expect_quiet()?;
    for conn in [&mut one, &mut two] {
        conn.run(&Cmd::test_unit_ready())?.check_condition((6, 0x29, 2))?;
        conn.run(&Cmd::test_unit_ready())?.good()?;
    }
    Ok(())
}

/// The target says that it ends the session, and does.
fn loses(conn: &mut Conn) -> Outcome {
    let told = conn.expect_view::<AsyncMessage>()?;
    ensure_eq!(told.event(), Ok(AsyncEvent::DropSession), "the event");
    ensure_eq!(conn.until_closed()?.len(), 0, "PDUs after it");
    Ok(())
}

fn cold_reset_ends_all_sessions(lab: &mut Lab) -> Outcome {
    let mut one = lab.plain()?;
    let mut two = lab.ready(&LoginText::normal(DATA, 2))?;
    let mut three = lab.session(&LoginText::normal(ODD, 3))?;
    three.clear_attentions(1)?;
    let tag = one.manage(Function::TargetColdReset, 0);
    ensure_eq!(one.managed(tag)?, 0, "the response to TARGET COLD RESET");
    loses(&mut one)?;
    loses(&mut two)?;
    three.run(&Cmd::test_unit_ready().at(1))?.good().map(drop)
}

fn cold_reset_is_a_power_on(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let data = [0xc0; 512];
    conn.run(&Cmd::write(90, &data))?.good()?;
    let tag = conn.manage(Function::TargetColdReset, 0);
    ensure_eq!(conn.managed(tag)?, 0, "the response to TARGET COLD RESET");
    loses(&mut conn)?;
    let mut again = lab.session(&LoginText::plain())?;
    let done = again.run(&Cmd::test_unit_ready())?;
    ensure_eq!((done.status, done.sense_code().0, done.sense_code().1), (2, 6, 0x29), "what it hears first");
    again.clear_attentions(0)?;
    ensure_eq!(again.run(&Cmd::read(90, 1))?.good()?.data, data, "what was written before");
    Ok(())
}

fn cold_reset_of_a_clone_spares_other_machines(lab: &mut Lab) -> Outcome {
    let mut one = lab.ready(&LoginText::normal(CLONE, 1))?;
    let mut two = lab.ready(&LoginText::normal(CLONE, 2))?;
    two.expect_quiet()?;
    let tag = one.manage(Function::TargetColdReset, 0);
    ensure_eq!(one.managed(tag)?, 0, "the response to TARGET COLD RESET");
    loses(&mut one)?;
    two.expect_quiet()?;
    two.run(&Cmd::test_unit_ready())?.good().map(drop)
}
