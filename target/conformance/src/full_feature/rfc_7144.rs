//! What iSCSIProtocolLevel 2 brings (RFC 7144): functions that ask, the status qualifier, the priority of commands.

use crate::conn::{Cmd, Conn, LoginText, cdb, lun, with_byte};
use crate::failure::{Outcome, fail};
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::site::DATA;
use crate::{ensure, ensure_eq, test};
use stampede_wire::Opcode;
use stampede_wire::pdu::{
    ScsiResponse, TaskManagementFunction as Function, TaskManagementRequest, TaskManagementResponse,
};

pub(super) const TESTS: &[Test] = &[
    test!(
        functions_of_rfc_7144_need_its_level,
        "RFC 7143 13.24, RFC 7144 6.1",
        "where iSCSIProtocolLevel 2 was not agreed on, QUERY TASK, QUERY TASK SET, I_T NEXUS RESET and QUERY ASYNC EVENT \
         are answered Task management function not supported, and the unit does not name them",
        "session/src/full_feature/management.rs#has_rfc_7144"
    )
    .broken_by(Mutation::new("they are answered Function complete", complete)),
    test!(
        query_task_tells_whether_it_is_there,
        "RFC 7144 6.1, 6.2, SAM-5 7.8",
        "QUERY TASK is answered Function succeeded while the task is in the task set, and Function complete when it is not",
        "session/src/full_feature/management.rs#query_task"
    )
    .broken_by(Mutation::new("each task is said to be there", succeeded)),
    test!(
        query_task_set_tells_whether_there_are_any,
        "RFC 7144 6.1, 6.2, SAM-5 7.9",
        "QUERY TASK SET is answered Function succeeded while the nexus has a task on the unit, else Function complete; \
         LUN does not exist where there is none",
        "session/src/management.rs#QueryTaskSet"
    )
    .broken_by(Mutation::new("there is always one", succeeded)),
    test!(
        query_async_event_tells_of_unit_attentions,
        "RFC 7144 6.1, 6.2, SAM-5 7.10",
        "QUERY ASYNC EVENT is answered Function succeeded with the sense key and code of the unit attention that is \
         pending, which stays pending; without one Function complete",
        "scsi/src/device.rs#pending_event"
    )
    .broken_by(Mutation::new("it does not say which", no_information)),
    test!(
        nexus_reset_ends_the_tasks_of_one_nexus,
        "RFC 7144 6.1, SAM-5 6.3.4",
        "I_T NEXUS RESET ends the tasks of its session and has it hear 29h/07h; the session lives, and no other notices",
        "session/src/management.rs#NexusReset"
    )
    .broken_by(Mutation::new("it is not answered", super::management::no_response)),
    test!(
        supported_functions_follow_the_level,
        "SPC-4 6.36, RFC 7144 6.1",
        "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS names the four where iSCSIProtocolLevel 2 was agreed on",
        "scsi/src/report/opcodes.rs#QUERIES"
    ),
    test!(
        task_set_full_has_a_status_qualifier,
        "RFC 7144 5.2, SAM-5 5.3.2",
        "with TASK SET FULL the status qualifier says when to try again; below level 2 it is 0",
        "session/src/full_feature/respond.rs#RETRY_IN_100_MS"
    )
    .broken_by(Mutation::new("it says nothing", no_qualifier)),
    test!(
        priority_is_taken_at_every_level,
        "RFC 7144 5.1",
        "a command with a priority runs; below level 2 the field is reserved, and ignored",
        "engine/src/lun/job.rs#urgency"
    ),
];

fn set_response(middle: &mut Middle, mut pdu: Raw, code: u8) {
    if pdu.opcode() == Some(Opcode::TaskManagementResponse) {
        pdu.set_byte(2, code);
    }
    middle.pass(pdu);
}

fn complete(middle: &mut Middle, pdu: Raw) {
    set_response(middle, pdu, 0);
}

fn succeeded(middle: &mut Middle, pdu: Raw) {
    set_response(middle, pdu, 7);
}

fn no_information(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::TaskManagementResponse) {
        pdu.set_word(8, 0);
    }
    middle.pass(pdu);
}

fn no_qualifier(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::ScsiResponse) {
        pdu.set_byte(9, 0);
    }
    middle.pass(pdu);
}

/// A login of this number with level 2.
fn level_2(number: u8) -> LoginText {
    LoginText::normal(DATA, number).with("iSCSIProtocolLevel", "2").with("TaskReporting", "FastAbort")
}

const QUERIES: [Function; 4] =
    [Function::QueryTask, Function::QueryTaskSet, Function::ItNexusReset, Function::QueryAsyncEvent];

impl Conn {
    /// Asks whether a task is there: the code of the answer.
    fn query_task(&mut self, task: u32, number: u16) -> Outcome<u8> {
        let tag = self.new_tag();
        let request = TaskManagementRequest::new(Function::QueryTask, tag, lun(number), self.sns());
        self.send(request.with_reference(task, stampede_wire::Sn(self.cmd_sn)).into_immediate(), &[]);
        self.managed(tag)
    }

    /// Runs a function on a unit: the code of the answer.
    fn function(&mut self, function: Function, number: u16) -> Outcome<u8> {
        let tag = self.manage(function, number);
        self.managed(tag)
    }

    /// The functions that LUN 0 says it has.
    fn supported_functions(&mut self) -> Outcome<Vec<u8>> {
        let report = cdb::of(&[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 4]);
        Ok(self.run(&Cmd::reading(report, 4))?.good()?.data)
    }
}

fn functions_of_rfc_7144_need_its_level(lab: &mut Lab) -> Outcome {
    let one = LoginText::normal(DATA, 2).with("iSCSIProtocolLevel", "1");
    for text in [LoginText::plain(), one] {
        let mut conn = lab.ready(&text)?;
        for function in QUERIES {
            ensure_eq!(conn.function(function, 0)?, 5, "the response to {function:?}");
        }
        conn.run(&Cmd::test_unit_ready())?.good()?;
    }
    Ok(())
}

fn query_task_tells_whether_it_is_there(lab: &mut Lab) -> Outcome {
    let mut conn = lab.ready(&level_2(1))?;
    let (header, r2t) = conn.hanging_write()?;
    let task = header.initiator_task_tag();
    ensure_eq!(conn.query_task(task, 0)?, 7, "the response about a task that gathers data");
    ensure_eq!(conn.query_task(task, 3)?, 0, "the response about it on another unit");
    ensure_eq!(conn.query_task(0x5555, 0)?, 0, "the response about a task that never was");
    conn.answer_r2t(&r2t, &[1; 1024])?;
    conn.finish(&header, &[])?.good()?;
    ensure_eq!(conn.query_task(task, 0)?, 0, "the response about a task that has ended");
    Ok(())
}

fn query_task_set_tells_whether_there_are_any(lab: &mut Lab) -> Outcome {
    let (mut conn, mut other) = (lab.ready(&level_2(1))?, lab.ready(&level_2(2))?);
    ensure_eq!(conn.function(Function::QueryTaskSet, 0)?, 0, "the response without tasks");
    conn.hanging_write()?;
    ensure_eq!(conn.function(Function::QueryTaskSet, 0)?, 7, "the response with a task");
    ensure_eq!(other.function(Function::QueryTaskSet, 0)?, 0, "the response to another nexus");
    ensure_eq!(conn.function(Function::QueryTaskSet, 9)?, 2, "the response at LUN 9");
    ensure_eq!(conn.function(Function::AbortTaskSet, 0)?, 0, "the response to ABORT TASK SET");
    ensure_eq!(conn.function(Function::QueryTaskSet, 0)?, 0, "the response after it");
    Ok(())
}

/// QUERY ASYNC EVENT on LUN 0: the code and the additional response information.
fn pending_event(conn: &mut Conn) -> Outcome<(u8, [u8; 3])> {
    let tag = conn.manage(Function::QueryAsyncEvent, 0);
    let response = conn.expect_view::<TaskManagementResponse>()?;
    ensure_eq!(response.initiator_task_tag(), tag, "the tag of the response");
    Ok((response.response().map_or(255, u8::from), response.additional_response_information()))
}

fn query_async_event_tells_of_unit_attentions(lab: &mut Lab) -> Outcome {
    let (mut one, mut two) = (lab.ready(&level_2(1))?, lab.ready(&level_2(2))?);
    ensure_eq!(pending_event(&mut two)?, (0, [0; 3]), "the answer where nothing is pending");
    ensure_eq!(one.function(Function::LogicalUnitReset, 0)?, 0, "the response to LOGICAL UNIT RESET");
    for _ in 0..2 {
        // One is pending, a unit attention: 29h/03h.
        ensure_eq!(pending_event(&mut two)?, (7, [0x16, 0x29, 0x03]), "the answer after the reset");
    }
    two.run(&Cmd::test_unit_ready())?.check_condition((6, 0x29, 3))?;
    ensure_eq!(pending_event(&mut two)?, (0, [0; 3]), "the answer after it was told");
    ensure_eq!(two.function(Function::QueryAsyncEvent, 9)?, 2, "the response at LUN 9");
    Ok(())
}

fn nexus_reset_ends_the_tasks_of_one_nexus(lab: &mut Lab) -> Outcome {
    let (mut one, mut two) = (lab.ready(&level_2(1))?, lab.ready(&level_2(2))?);
    one.hanging_write()?;
    let (header, r2t) = two.hanging_write()?;
    ensure_eq!(one.function(Function::ItNexusReset, 0)?, 0, "the response to I_T NEXUS RESET");
    one.expect_quiet()?;
    one.run(&Cmd::test_unit_ready())?.check_condition((6, 0x29, 7))?;
    one.run(&Cmd::test_unit_ready())?.good()?;
    two.answer_r2t(&r2t, &[1; 1024])?;
    two.finish(&header, &[])?.good()?;
    two.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn supported_functions_follow_the_level(lab: &mut Lab) -> Outcome {
    let mut conn = lab.ready(&level_2(1))?;
    ensure_eq!(conn.supported_functions()?, [0xdc, 0x07, 0, 0], "the functions at level 2");
    let mut old = lab.ready(&LoginText::normal(DATA, 2))?;
    ensure_eq!(old.supported_functions()?, [0xd8, 0, 0, 0], "the functions at level 1");
    Ok(())
}

/// The status qualifier of the first TASK SET FULL: writes of 1 MiB are begun until there is no memory for one more.
fn qualifier_when_full(conn: &mut Conn) -> Outcome<u16> {
    let data = vec![0; 1 << 20];
    for _ in 0..120 {
        conn.start(&Cmd::write(0, &data));
        let pdu = conn.hear()?;
        if let Some(response) = pdu.view::<ScsiResponse>() {
            ensure_eq!(response.status(), stampede_wire::pdu::status::TASK_SET_FULL, "the status");
            return Ok(response.status_qualifier());
        }
        ensure_eq!(pdu.opcode(), Some(Opcode::ReadyToTransfer), "what comes for a write");
    }
    fail("there is memory for 120 writes of 1 MiB")
}

fn task_set_full_has_a_status_qualifier(lab: &mut Lab) -> Outcome {
    let mut conn = lab.ready(&level_2(1))?;
    let qualifier = qualifier_when_full(&mut conn)?;
    ensure!(
        (1..0x3fef).contains(&qualifier),
        "the status qualifier {qualifier:04x}, in increments of 100 ms"
    );
    conn.vanish();
    let mut old = lab.ready(&LoginText::plain())?;
    ensure_eq!(qualifier_when_full(&mut old)?, 0, "the field at level 1");
    Ok(())
}

fn priority_is_taken_at_every_level(lab: &mut Lab) -> Outcome {
    for text in [level_2(1), LoginText::normal(DATA, 2)] {
        let mut conn = lab.ready(&text)?;
        for priority in [1, 8, 15] {
            let header = conn.header(&Cmd::read(0, 1));
            conn.send(with_byte(header, 2, priority << 4), &[]);
            conn.finish(&header, &[])?.good()?;
        }
    }
    Ok(())
}
