//! Task management (RFC 7143 11.5, 11.6, 4.2.3.3).

use crate::conn::{Cmd, Conn, LoginText, lun, with_byte};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::site::DATA;
use crate::{ensure_eq, test};
use stampede_wire::pdu::{
    AsyncEvent, AsyncMessage, NopOut, ReadyToTransfer, ScsiCommand, TaskManagementFunction as Function,
    TaskManagementRequest, TaskManagementResponse,
};
use stampede_wire::{Bhs, Opcode, Sn};

pub(super) const TESTS: &[Test] = &[
    test!(
        abort_task_ends_a_task_without_a_status,
        "RFC 7143 11.5.1, 11.6.1",
        "ABORT TASK of a live task is answered Function complete, and the task has no status after it",
        "session/src/full_feature/management.rs#abort_task"
    )
    .must(&[18, 19])
    .broken_by(Mutation::new("an aborted task is answered after all", late_status)),
    test!(
        abort_of_a_command_that_never_came_counts_it_as_received,
        "RFC 7143 11.5.5, 11.6.1",
        "ABORT TASK of an unknown task whose RefCmdSN lies in the window is answered Function complete, and that CmdSN \
         counts as received",
        "session/src/full_feature/management.rs#abort_unknown"
    )
    .must(&[18])
    .broken_by(Mutation::new("it is answered that the task does not exist", no_such_task)),
    test!(
        abort_of_an_old_task_finds_none,
        "RFC 7143 11.6.1",
        "ABORT TASK of an unknown task whose RefCmdSN lies outside of the window is answered Task does not exist",
        "session/src/full_feature/management.rs#abort_unknown"
    )
    .must(&[18])
    .broken_by(Mutation::new("it is answered Function complete", complete)),
    test!(
        nothing_follows_the_response_of_a_set_function,
        "RFC 7143 4.2.3.3, 11.6",
        "after the response of ABORT TASK SET, CLEAR TASK SET or LOGICAL UNIT RESET no affected task is answered",
        "session/src/full_feature/mod.rs#kill"
    )
    .must(&[19])
    .broken_by(Mutation::new("an affected task is answered after the response", late_status)),
    test!(
        set_functions_wait_for_solicited_data,
        "RFC 7143 4.2.3.3",
        "without FastAbort, ABORT TASK SET is answered only when the data of R2Ts that are out has come",
        "session/src/full_feature/drain.rs#begin_drain"
    )
    .must(&[19])
    .broken_by(Mutation::new("it is answered before the data", early_response)),
    test!(
        set_functions_do_not_wait_for_ever,
        "RFC 7143 4.2.3.3",
        "initiators that stop sending data when they abort (Linux does) get their answer all the same, and data that \
         comes later is passed over",
        "session/src/full_feature/drain.rs#tick_drain"
    )
    .must(&[19])
    .broken_by(Mutation::new("it is never answered", no_response)),
    test!(
        fast_abort_waits_for_no_data,
        "RFC 7143 4.2.3.4, 13.23",
        "with TaskReporting=FastAbort a function is answered though data of R2Ts is out; of a list the first value is \
         chosen",
        "session/src/full_feature/drain.rs#begin_drain"
    )
    .must(&[19])
    .broken_by(Mutation::new("it is never answered", no_response)),
    test!(
        fast_abort_is_told_to_the_other_sessions,
        "RFC 7143 4.2.3.4, 11.9.1",
        "another session with FastAbort that loses a task to a reset gets AsyncEvent 5 with the LUN; one without \
         FastAbort does not, nor one without tasks",
        "session/src/full_feature/drain.rs#kill_for_other"
    )
    .must(&[19])
    .broken_by(Mutation::new("it is told nothing", no_async_message)),
    test!(
        reset_is_told_to_the_other_nexuses,
        "RFC 7143 11.5.1, SAM-5 5.14",
        "after a LOGICAL UNIT RESET every other I_T nexus gets a unit attention 29h with its next command",
        "scsi/src/unit_attention.rs#UnitAttention"
    )
    .must(&[19])
    .broken_by(Mutation::new("the others are told nothing", no_attention)),
    test!(
        earlier_statuses_come_before_the_response,
        "RFC 7143 4.2.3.3, 11.6",
        "the response of a function that covers several tasks comes after the statuses of those that had ended before",
        "session/src/output.rs#send"
    )
    .must(&[20])
    .broken_by(Mutation::new("a status comes after the response", reordered)),
    test!(
        functions_on_a_unit_that_is_absent_are_told_so,
        "RFC 7143 11.6.1",
        "a function for a LUN that does not exist is answered LUN does not exist",
        "engine/src/shard/commands.rs#LunDoesNotExist"
    ),
    test!(
        unknown_and_unsupported_functions_are_answered,
        "RFC 7143 11.6.1",
        "TASK REASSIGN is answered Task allegiance reassignment not supported, an unknown function Task management \
         function not supported",
        "session/src/full_feature/management.rs#task_management"
    ),
];

/// Invents a status for the first write after a task management response.
fn late_status(middle: &mut Middle, pdu: Raw) {
    let is_response = pdu.opcode() == Some(Opcode::TaskManagementResponse);
    let mut late = pdu.clone();
    middle.pass(pdu);
    if is_response && middle.memory == 0 {
        middle.memory = 1;
        let tag = middle.last_sent(Opcode::ScsiCommand).map_or(0, |bhs| bhs.initiator_task_tag());
        late.set_byte(0, 0x21);
        late.set_byte(2, 0);
        late.set_word(16, tag);
        late.set_word(24, late.stat_sn().wrapping_add(1));
        middle.invent(late);
    }
}

/// Answers the last function when the echo of a ping comes.
fn early_response(middle: &mut Middle, pdu: Raw) {
    let asked = middle.last_sent(Opcode::TaskManagementRequest).map(|bhs| bhs.initiator_task_tag());
    if let (Some(tag), Some(Opcode::NopIn), 0) = (asked, pdu.opcode(), middle.memory) {
        middle.memory = 1;
        let mut response = pdu.clone();
        response.set_data(Vec::new());
        response.set_byte(0, 0x22);
        response.set_word(16, tag);
        response.set_word(20, 0);
        middle.invent(response);
    }
    middle.pass(pdu);
}

pub(super) fn no_response(middle: &mut Middle, pdu: Raw) {
    let is_response = pdu.opcode() == Some(Opcode::TaskManagementResponse);
    if is_response { middle.withhold(&pdu) } else { middle.pass(pdu) }
}

fn no_async_message(middle: &mut Middle, pdu: Raw) {
    let is_message = pdu.opcode() == Some(Opcode::AsyncMessage);
    if is_message { middle.withhold(&pdu) } else { middle.pass(pdu) }
}

fn no_such_task(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::TaskManagementResponse) {
        pdu.set_byte(2, 1);
    }
    middle.pass(pdu);
}

fn complete(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::TaskManagementResponse) {
        pdu.set_byte(2, 0);
    }
    middle.pass(pdu);
}

fn no_attention(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::ScsiResponse) && pdu.byte(3) == 2 {
        pdu.set_byte(3, 0);
        pdu.set_data(Vec::new());
    }
    middle.pass(pdu);
}

/// Keeps the last status back until the response has gone out.
fn reordered(middle: &mut Middle, mut pdu: Raw) {
    let plain = |middle: &Middle| {
        middle.sent.iter().filter(|bhs| bhs.opcode() == Ok(Opcode::ScsiCommand)).count() >= 6
    };
    match pdu.opcode() {
        Some(Opcode::ScsiResponse) if middle.kept.is_empty() && plain(middle) => middle.kept.push(pdu),
        Some(Opcode::TaskManagementResponse) => {
            let Some(mut status) = middle.kept.pop() else { return middle.pass(pdu) };
            let (first, second) = (status.stat_sn(), pdu.stat_sn());
            pdu.set_word(24, second.wrapping_sub(1));
            status.set_word(24, second);
            let _ = first;
            status.set_word(28, pdu.word(28));
            status.set_word(32, pdu.word(32));
            middle.pass(pdu);
            middle.pass(status);
        }
        _ => {
            if !middle.kept.is_empty() {
                pdu.set_word(24, pdu.stat_sn().wrapping_sub(1));
            }
            middle.pass(pdu);
        }
    }
}

impl Conn {
    /// Sends an immediate task management request; returns its tag.
    pub(super) fn manage(&mut self, function: Function, number: u16) -> u32 {
        let tag = self.new_tag();
        let request = TaskManagementRequest::new(function, tag, lun(number), self.sns());
        self.send(request.into_immediate(), &[]);
        tag
    }

    /// Sends an immediate ABORT TASK.
    pub(super) fn abort(&mut self, task: u32, cmd_sn: Sn) -> u32 {
        let tag = self.new_tag();
        let request = TaskManagementRequest::new(Function::AbortTask, tag, lun(0), self.sns());
        self.send(request.with_reference(task, cmd_sn).into_immediate(), &[]);
        tag
    }

    /// The next PDU is the response to a function: its code.
    pub(super) fn managed(&mut self, tag: u32) -> Outcome<u8> {
        let pdu = self.expect::<TaskManagementResponse>()?;
        ensure_eq!(pdu.word(16), tag, "the tag of the response");
        Ok(pdu.byte(2))
    }

    /// Starts a write whose data stays out.
    pub(super) fn hanging_write(&mut self) -> Outcome<(ScsiCommand, ReadyToTransfer)> {
        let header = self.start(&Cmd::write(0, &[1; 1024]));
        Ok((header, self.expect_view::<ReadyToTransfer>()?))
    }
}

fn abort_task_ends_a_task_without_a_status(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let (header, r2t) = conn.hanging_write()?;
    let tag = conn.abort(header.initiator_task_tag(), header.cmd_sn());
    ensure_eq!(conn.managed(tag)?, 0, "the response to ABORT TASK");
    // Its data may still come, and is passed over.
    conn.answer_r2t(&r2t, &[1; 1024])?;
    conn.expect_quiet()?;
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn abort_of_a_command_that_never_came_counts_it_as_received(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let lost = conn.header(&Cmd::test_unit_ready());
    let tag = conn.abort(lost.initiator_task_tag(), lost.cmd_sn());
    ensure_eq!(conn.managed(tag)?, 0, "the response to ABORT TASK");
    let told = conn.expect_quiet()?.sns();
    ensure_eq!(told.exp_cmd_sn, Sn(conn.cmd_sn), "ExpCmdSN");
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn abort_of_an_old_task_finds_none(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let old = conn.start(&Cmd::test_unit_ready());
    conn.finish(&old, &[])?.good()?;
    let tag = conn.abort(old.initiator_task_tag(), old.cmd_sn());
    ensure_eq!(conn.managed(tag)?, 1, "the response to ABORT TASK of a task that has ended");
    let tag = conn.abort(0x5555, Sn(conn.cmd_sn).add(0x1000_0000));
    ensure_eq!(conn.managed(tag)?, 1, "the response to ABORT TASK far beyond the window");
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn nothing_follows_the_response_of_a_set_function(lab: &mut Lab) -> Outcome {
    for function in [Function::AbortTaskSet, Function::ClearTaskSet, Function::LogicalUnitReset] {
        let mut conn = lab.ready(&LoginText::plain().with("TaskReporting", "FastAbort"))?;
        let mut r2ts = Vec::new();
        for _ in 0..3 {
            r2ts.push(conn.hanging_write()?.1);
        }
        let tag = conn.manage(function, 0);
        ensure_eq!(conn.managed(tag)?, 0, "the response to {function:?}");
        for r2t in &r2ts {
            conn.answer_r2t(r2t, &[1; 1024])?;
        }
        conn.expect_quiet()?;
        conn.clear_attentions(0)?;
        conn.vanish();
    }
    Ok(())
}

fn set_functions_wait_for_solicited_data(lab: &mut Lab) -> Outcome {
    let mut conn = lab.ready(&LoginText::plain().with("TaskReporting", "RFC3720"))?;
    let (_, r2t) = conn.hanging_write()?;
    let tag = conn.manage(Function::AbortTaskSet, 0);
    conn.expect_quiet()?;
    conn.answer_r2t(&r2t, &[1; 1024])?;
    ensure_eq!(conn.managed(tag)?, 0, "the response to ABORT TASK SET");
    conn.expect_quiet()?;
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn set_functions_do_not_wait_for_ever(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let (_, r2t) = conn.hanging_write()?;
    let tag = conn.manage(Function::AbortTaskSet, 0);
    conn.expect_quiet()?;
    ensure_eq!(conn.managed(tag)?, 0, "the response to ABORT TASK SET");
    conn.answer_r2t(&r2t, &[1; 1024])?;
    conn.expect_quiet()?;
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn fast_abort_waits_for_no_data(lab: &mut Lab) -> Outcome {
    let mut conn = lab.ready(&LoginText::plain().with("TaskReporting", "FastAbort,RFC3720"))?;
    conn.hanging_write()?;
    let tag = conn.manage(Function::LogicalUnitReset, 0);
    ensure_eq!(conn.managed(tag)?, 0, "the response to LOGICAL UNIT RESET");
    conn.expect_quiet()?;
    // The first of a list is chosen, and then it waits.
    let mut patient =
        lab.ready(&LoginText::normal(DATA, 2).with("TaskReporting", "ResponseFence,FastAbort"))?;
    let (_, r2t) = patient.hanging_write()?;
    let tag = patient.manage(Function::AbortTaskSet, 0);
    patient.expect_quiet()?;
    patient.answer_r2t(&r2t, &[1; 1024])?;
    ensure_eq!(patient.managed(tag)?, 0, "the response to ABORT TASK SET");
    Ok(())
}

fn fast_abort_is_told_to_the_other_sessions(lab: &mut Lab) -> Outcome {
    let fast = |isid| LoginText::normal(DATA, isid).with("TaskReporting", "FastAbort");
    let mut one = lab.plain()?;
    let (mut loser, mut idle, mut old) =
        (lab.ready(&fast(2))?, lab.ready(&fast(3))?, lab.ready(&LoginText::normal(DATA, 4))?);
    loser.hanging_write()?;
    old.hanging_write()?;
    let tag = one.manage(Function::LogicalUnitReset, 0);
    ensure_eq!(one.managed(tag)?, 0, "the response to LOGICAL UNIT RESET");
    let told = loser.expect_view::<AsyncMessage>()?;
    ensure_eq!((told.event(), told.lun()), (Ok(AsyncEvent::TasksTerminated), lun(0)), "the message");
    // It is acknowledged by a NOP-Out without a tag, which gets no answer.
    let mut acknowledgement = Bhs::from(NopOut::notify(loser.sns()));
    acknowledgement.0[8..16].copy_from_slice(&lun(0).0);
    loser.send(acknowledgement, &[]);
    for conn in [&mut loser, &mut idle, &mut old] {
        conn.expect_quiet()?;
        conn.clear_attentions(0)?;
    }
    Ok(())
}

fn reset_is_told_to_the_other_nexuses(lab: &mut Lab) -> Outcome {
    let mut one = lab.plain()?;
    let mut two = lab.ready(&LoginText::normal(DATA, 2))?;
    let tag = one.manage(Function::LogicalUnitReset, 0);
    ensure_eq!(one.managed(tag)?, 0, "the response to LOGICAL UNIT RESET");
    let done = two.run(&Cmd::test_unit_ready())?;
    ensure_eq!(done.status, 2, "the status of the other's next command");
    ensure_eq!((done.sense_code().0, done.sense_code().1), (6, 0x29), "its sense");
    two.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn earlier_statuses_come_before_the_response(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let mut waiting: Vec<u32> =
        (0..6).map(|_| conn.start(&Cmd::test_unit_ready()).initiator_task_tag()).collect();
    let tag = conn.new_tag();
    let sns = conn.next_sns();
    conn.send(TaskManagementRequest::new(Function::AbortTaskSet, tag, lun(0), sns), &[]);
    loop {
        let pdu = conn.hear()?;
        match pdu.opcode() {
            Some(Opcode::ScsiResponse) => waiting.retain(|waiting| *waiting != pdu.word(16)),
            Some(Opcode::TaskManagementResponse) => {
                ensure_eq!((pdu.word(16), pdu.byte(2)), (tag, 0), "the response's tag and code");
                break;
            }
            _ => return crate::failure::fail(format!("{pdu:?} came")),
        }
    }
    conn.expect_quiet()?;
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn functions_on_a_unit_that_is_absent_are_told_so(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    for function in [Function::AbortTaskSet, Function::ClearTaskSet, Function::LogicalUnitReset] {
        let tag = conn.manage(function, 9);
        ensure_eq!(conn.managed(tag)?, 2, "the response to {function:?} at LUN 9");
    }
    Ok(())
}

fn unknown_and_unsupported_functions_are_answered(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let tag = conn.manage(Function::TaskReassign, 0);
    ensure_eq!(conn.managed(tag)?, 4, "the response to TASK REASSIGN");
    for code in [0u8, 15, 63, 127] {
        let tag = conn.new_tag();
        let request = TaskManagementRequest::new(Function::AbortTask, tag, lun(0), conn.sns());
        conn.send(with_byte(request.into_immediate(), 1, 0x80 | code), &[]);
        ensure_eq!(conn.managed(tag)?, 5, "the response to function {code}");
    }
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}
