//! Task management (RFC 7143 11.5, 11.6): who kills what, and who is told when.

use stampede_session::{Disposition, ManagementRequest, ManagementResponse, Phase, TaskKey, Transfer};
use stampede_wire::{
    Lun, Sn,
    pdu::{
        self, ReadyToTransfer, Reject, RejectReason, ScsiCommand, TaskAttribute,
        TaskManagementFunction as Function, TaskManagementRequest, TaskManagementResponse,
        TaskManagementResponseCode as Code, status,
    },
};

use crate::support::{Event, Harness, SECOND};

/// An immediate function.
fn function(harness: &Harness, function: Function, lun: Lun) -> TaskManagementRequest {
    TaskManagementRequest::new(function, 0x99, lun, harness.sns()).into_immediate()
}

fn abort(harness: &mut Harness, itt: u32, command: u32) {
    let pdu = function(harness, Function::AbortTask, Lun::ZERO).with_reference(itt, Sn(command));
    harness.feed(&pdu, &[]).unwrap();
}

fn codes(harness: &Harness) -> Vec<Code> {
    let answers: Vec<TaskManagementResponse> = harness.sent();
    assert!(answers.iter().all(|answer| answer.initiator_task_tag() == 0x99));
    answers.iter().map(|answer| answer.response().unwrap()).collect()
}

/// A read on `lun`, run at once.
fn read_on(harness: &mut Harness, itt: u32, lun: Lun) -> TaskKey {
    let sns = harness.take_sns();
    let pdu = ScsiCommand::new(itt, lun, TaskAttribute::Simple, &[0x28; 16], sns).reading(512);
    harness.feed(&pdu, &[]).unwrap();
    harness.last_command()
}

#[test]
fn a_task_that_collects_data_is_aborted_at_once() {
    let mut harness = Harness::session("");
    harness.write(1, 8192, 0, false).unwrap();
    let tag = harness.r2ts()[0].target_transfer_tag();
    harness.take();
    abort(&mut harness, 1, 0);
    assert_eq!(codes(&harness), [Code::FunctionComplete]);
    assert_eq!(
        (harness.released().len(), harness.managed().len(), harness.connection.tasks_len()),
        (1, 0, 0)
    );
    // Data that was on its way is dropped, with and without the R2T's tag; open-iscsi sends none at all.
    assert_eq!(harness.data_out(1, Some(tag), 0, 0, 512, false), Ok(Disposition::Discard));
    assert_eq!(harness.data_out(1, None, 0, 0, 512, true), Ok(Disposition::Discard));
    // A new command may use the tag.
    harness.write(1, 512, 512, false).unwrap();
    assert_eq!(harness.commands().len(), 1);
}

#[test]
fn a_task_that_runs_is_aborted_by_the_engine() {
    let mut harness = Harness::session("");
    let task = harness.read(1, 512);
    harness.take();
    abort(&mut harness, 1, 0);
    let Some(ManagementRequest::AbortTask { id, task: named }) = harness.managed().first().copied() else {
        panic!("the engine is asked")
    };
    assert_eq!(named, task);
    assert!(harness.connection.task(task).unwrap().killed());
    assert!(codes(&harness).is_empty(), "not before its I/O is over");
    // It ended by itself in the meantime: its status is not sent.
    harness.respond(task, status::GOOD, &[], Transfer::In { available: 512 });
    assert!(harness.data_ins().is_empty() && harness.responses().is_empty());
    assert_eq!(harness.connection.tasks_len(), 0);
    harness.connection.managed(id, ManagementResponse::Complete, 0, &mut harness.out);
    assert_eq!(codes(&harness), [Code::FunctionComplete]);
    // Answered once.
    harness.connection.managed(id, ManagementResponse::Complete, 0, &mut harness.out);
    assert_eq!(codes(&harness).len(), 1);
}

#[test]
fn a_task_that_is_not_there() {
    let mut harness = Harness::session("");
    let task = harness.read(1, 512);
    harness.respond(task, status::GOOD, &[], Transfer::In { available: 512 });
    harness.take();
    abort(&mut harness, 1, 0);
    assert_eq!(codes(&harness), [Code::TaskDoesNotExist], "it was answered before");
}

#[test]
fn a_command_that_never_came_counts_as_received() {
    let mut harness = Harness::session("");
    // CmdSN 0 and 1 were used by the initiator but never sent.
    harness.cmd_sn = Sn(2);
    harness.take();
    abort(&mut harness, 70, 1);
    abort(&mut harness, 71, 0);
    abort(&mut harness, 72, 2);
    assert_eq!(codes(&harness), [Code::FunctionComplete, Code::FunctionComplete, Code::TaskDoesNotExist]);
    harness.read(3, 512);
    assert_eq!(harness.commands().len(), 1);
}

#[test]
fn abort_task_set_covers_this_unit_in_every_addressing() {
    let mut harness = Harness::session("TaskReporting=FastAbort");
    let (one, flat_one, two) =
        (Lun([0, 1, 0, 0, 0, 0, 0, 0]), Lun([0x40, 1, 0, 0, 0, 0, 0, 0]), Lun([0, 2, 0, 0, 0, 0, 0, 0]));
    let killed = [read_on(&mut harness, 1, one), read_on(&mut harness, 2, flat_one)];
    let other = read_on(&mut harness, 3, two);
    let sns = harness.take_sns();
    let write = ScsiCommand::new(4, one, TaskAttribute::Simple, &[0; 16], sns).writing(8192, false);
    harness.feed(&write, &[]).unwrap();
    harness.take();
    let pdu = function(&harness, Function::AbortTaskSet, one);
    harness.feed(&pdu, &[]).unwrap();
    // What collected is released before the engine is asked.
    assert!(matches!(
        harness.out.0[..],
        [Event::Release(_), Event::Manage(ManagementRequest::AbortTaskSet { .. })]
    ));
    let id = harness.managed()[0].id();
    for task in killed {
        assert!(harness.connection.task(task).unwrap().killed());
        harness.connection.forget(task);
    }
    // The other unit's status leaves first, as it came first; the function's answer follows.
    harness.respond(other, status::GOOD, &[], Transfer::In { available: 512 });
    harness.connection.managed(id, ManagementResponse::Complete, 0, &mut harness.out);
    let (data, answer) = (harness.data_ins(), harness.sent::<TaskManagementResponse>());
    assert_eq!(data.len(), 1);
    assert!(data[0].stat_sn().lt(answer[0].stat_sn()));
    assert_eq!(harness.connection.tasks_len(), 0);
}

/// A write of 512 bytes on LUN 0 whose data is out.
fn hanging_write(harness: &mut Harness, itt: u32) -> ReadyToTransfer {
    harness.write(itt, 512, 0, false).unwrap();
    *harness.r2ts().last().unwrap()
}

/// Its data.
fn late_data(harness: &mut Harness, r2t: &ReadyToTransfer) -> Disposition {
    let (itt, tag) = (r2t.initiator_task_tag(), r2t.target_transfer_tag());
    harness.data_out(itt, Some(tag), 0, 0, 512, true).unwrap()
}

/// A function over LUN 0 that the engine has answered.
fn answered_function(harness: &mut Harness, wanted: Function) {
    let pdu = function(harness, wanted, Lun::ZERO);
    harness.feed(&pdu, &[]).unwrap();
    let id = harness.managed().last().unwrap().id();
    harness.connection.managed(id, ManagementResponse::Complete, 0, &mut harness.out);
}

#[test]
fn a_function_over_a_set_waits_for_the_data_of_its_own_initiator() {
    for keys in ["", "TaskReporting=ResponseFence,FastAbort", "TaskReporting=RFC3720"] {
        let mut harness = Harness::session(keys);
        let r2ts = [hanging_write(&mut harness, 1), hanging_write(&mut harness, 2)];
        answered_function(&mut harness, Function::AbortTaskSet);
        assert_eq!((harness.released().len(), codes(&harness)), (2, vec![]), "memory goes at once");
        assert_eq!(late_data(&mut harness, &r2ts[1]), Disposition::Discard);
        assert_eq!(codes(&harness), []);
        // A second function has the same to wait for.
        answered_function(&mut harness, Function::LogicalUnitReset);
        assert_eq!(codes(&harness), []);
        late_data(&mut harness, &r2ts[0]);
        assert_eq!(codes(&harness), [Code::FunctionComplete; 2]);
        assert_eq!((harness.responses().len(), harness.connection.tasks_len()), (0, 0));
        assert_eq!(harness.connection.deadline_ns(), None);
    }
}

#[test]
fn a_function_does_not_wait_for_ever() {
    let mut harness = Harness::session("");
    let r2t = hanging_write(&mut harness, 1);
    answered_function(&mut harness, Function::ClearTaskSet);
    assert_eq!(harness.connection.deadline_ns(), Some(0), "the clock is asked for");
    harness.connection.tick(5 * SECOND, &mut harness.out).unwrap();
    let deadline_ns = harness.connection.deadline_ns().unwrap();
    assert_eq!((deadline_ns, codes(&harness)), (7 * SECOND, vec![]));
    harness.connection.tick(deadline_ns, &mut harness.out).unwrap();
    assert_eq!((codes(&harness), harness.connection.tasks_len()), (vec![Code::FunctionComplete], 0));
    assert_eq!(late_data(&mut harness, &r2t), Disposition::Discard, "it comes too late, and is no error");
}

#[test]
fn the_engine_may_answer_after_the_data() {
    let mut harness = Harness::session("");
    let r2t = hanging_write(&mut harness, 1);
    let pdu = function(&harness, Function::LogicalUnitReset, Lun::ZERO);
    harness.feed(&pdu, &[]).unwrap();
    abort(&mut harness, 1, 0);
    assert_eq!(codes(&harness), [Code::FunctionComplete], "what is dead can be aborted");
    late_data(&mut harness, &r2t);
    assert_eq!(codes(&harness).len(), 1);
    let id = harness.managed()[0].id();
    harness.connection.managed(id, ManagementResponse::Complete, 0, &mut harness.out);
    assert_eq!(codes(&harness).len(), 2);
}

#[test]
fn the_end_of_a_session_waits_for_no_data() {
    let mut harness = Harness::session("");
    hanging_write(&mut harness, 1);
    answered_function(&mut harness, Function::LogicalUnitReset);
    harness.connection.disconnect(&mut harness.out);
    assert_eq!((harness.connection.tasks_len(), harness.released().len(), codes(&harness)), (0, 1, vec![]));
}

#[test]
fn fast_abort_waits_for_nothing_and_tells_the_others() {
    let mut harness = Harness::session("TaskReporting=FastAbort");
    hanging_write(&mut harness, 1);
    answered_function(&mut harness, Function::AbortTaskSet);
    assert_eq!(codes(&harness), [Code::FunctionComplete]);
    // Now another session's function: who loses a task hears of it, once.
    let unit = Lun::encode(0).unwrap();
    harness.take();
    harness.connection.kill(Some(unit), &mut harness.out);
    assert!(harness.sent::<pdu::AsyncMessage>().is_empty(), "it has none");
    harness.read(2, 512);
    harness.connection.kill(Some(unit), &mut harness.out);
    harness.connection.kill(Some(unit), &mut harness.out);
    let told: Vec<pdu::AsyncMessage> = harness.sent();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].event(), told[0].lun()), (Ok(pdu::AsyncEvent::TasksTerminated), unit));
}

#[test]
fn functions_reach_the_engine() {
    let lun = Lun::encode(5).unwrap();
    let asked = |wanted: Function| {
        let mut harness = Harness::session("");
        let pdu = function(&harness, wanted, lun);
        harness.feed(&pdu, &[]).unwrap();
        (harness.managed().first().copied(), codes(&harness))
    };
    assert!(
        matches!(asked(Function::LogicalUnitReset).0, Some(ManagementRequest::LunReset { lun: l, .. }) if l == lun)
    );
    assert!(
        matches!(asked(Function::ClearTaskSet).0, Some(ManagementRequest::ClearTaskSet { lun: l, .. }) if l == lun)
    );
    assert!(
        matches!(asked(Function::ClearAca).0, Some(ManagementRequest::ClearAca { lun: l, .. }) if l == lun)
    );
    assert!(matches!(asked(Function::TargetWarmReset).0, Some(ManagementRequest::TargetWarmReset { .. })));
    assert!(matches!(asked(Function::TargetColdReset).0, Some(ManagementRequest::TargetColdReset { .. })));
    assert_eq!(asked(Function::TaskReassign), (None, vec![Code::ReassignNotSupported]));
    assert_eq!(asked(Function::QueryTask), (None, vec![Code::FunctionNotSupported]));
}

#[test]
fn functions_of_rfc_7144_where_it_was_agreed_on() {
    let lun = Lun::encode(5).unwrap();
    let mut harness = Harness::session("iSCSIProtocolLevel=2");
    assert_eq!(harness.connection.info().unwrap().parameters.protocol_level, 2);
    let task = read_on(&mut harness, 7, lun);
    let query = |harness: &mut Harness, itt, lun| {
        harness.take();
        let pdu = function(harness, Function::QueryTask, lun).with_reference(itt, Sn(0));
        harness.feed(&pdu, &[]).unwrap();
        codes(harness)
    };
    assert_eq!(query(&mut harness, 7, lun), [Code::FunctionSucceeded]);
    assert_eq!(query(&mut harness, 7, Lun::ZERO), [Code::FunctionComplete]);
    assert_eq!(query(&mut harness, 8, lun), [Code::FunctionComplete]);
    for (unit, wanted) in [(lun, true), (Lun::ZERO, false)] {
        let pdu = function(&harness, Function::QueryTaskSet, unit);
        harness.feed(&pdu, &[]).unwrap();
        let asked = harness.managed().last().copied();
        assert!(matches!(asked, Some(ManagementRequest::QueryTaskSet { present, .. }) if present == wanted));
    }
    let pdu = function(&harness, Function::ItNexusReset, Lun::ZERO);
    harness.feed(&pdu, &[]).unwrap();
    assert!(matches!(harness.managed().last(), Some(ManagementRequest::NexusReset { .. })));
    assert_eq!(query(&mut harness, 7, lun), [Code::FunctionComplete], "it is killed");
    harness.connection.forget(task);
    let pdu = function(&harness, Function::QueryAsyncEvent, lun);
    harness.feed(&pdu, &[]).unwrap();
    let id = harness.managed().last().unwrap().id();
    harness.take();
    let response = ManagementResponse::Succeeded { information: [0x16, 0x29, 0] };
    harness.connection.managed(id, response, 0, &mut harness.out);
    let answer = harness.sent::<TaskManagementResponse>()[0];
    assert_eq!(answer.additional_response_information(), [0x16, 0x29, 0]);
}

#[test]
fn a_cold_reset_ends_the_session_with_its_answer() {
    let mut harness = Harness::session("");
    let pdu = function(&harness, Function::TargetColdReset, Lun::ZERO);
    harness.feed(&pdu, &[]).unwrap();
    let id = harness.managed()[0].id();
    harness.take();
    harness.connection.managed(id, ManagementResponse::Complete, 0, &mut harness.out);
    assert_eq!(codes(&harness), [Code::FunctionComplete]);
    assert_eq!(harness.sent::<pdu::AsyncMessage>()[0].event(), Ok(pdu::AsyncEvent::DropSession));
    assert_eq!(harness.closed(), Some(stampede_session::Close::TargetReset));
    assert_eq!(harness.connection.phase(), Phase::Closed);
}

#[test]
fn a_reset_kills_every_task_of_the_session() {
    let mut harness = Harness::session("");
    let tasks = [read_on(&mut harness, 1, Lun::ZERO), read_on(&mut harness, 2, Lun::encode(9).unwrap())];
    let pdu = function(&harness, Function::TargetWarmReset, Lun::ZERO);
    harness.feed(&pdu, &[]).unwrap();
    assert!(tasks.iter().all(|task| harness.connection.task(*task).unwrap().killed()));
}

#[test]
fn another_sessions_reset_kills_here_in_silence() {
    let mut harness = Harness::session("");
    let running = harness.read(1, 512);
    harness.write(2, 8192, 0, false).unwrap();
    let elsewhere = read_on(&mut harness, 3, Lun::encode(1).unwrap());
    harness.take();
    harness.connection.kill(Some(Lun::ZERO), &mut harness.out);
    assert_eq!(harness.out.0.len(), 1, "one release, nothing sent");
    assert!(harness.connection.task(running).unwrap().killed());
    assert!(!harness.connection.task(elsewhere).unwrap().killed());
}

#[test]
fn too_many_functions_are_rejected() {
    let mut harness = Harness::session("");
    let pdu = function(&harness, Function::LogicalUnitReset, Lun::ZERO);
    for _ in 0..17 {
        harness.feed(&pdu, &[]).unwrap();
    }
    assert_eq!(harness.managed().len(), 16);
    assert_eq!(harness.sent::<Reject>()[0].reason(), Ok(RejectReason::TooManyImmediateCommands));
    let sns = harness.take_sns();
    let pdu = TaskManagementRequest::new(Function::LogicalUnitReset, 0x99, Lun::ZERO, sns);
    harness.feed(&pdu, &[]).unwrap();
    assert_eq!(codes(&harness), [Code::FunctionRejected]);
}

#[test]
fn a_function_in_command_order_uses_up_its_number() {
    let mut harness = Harness::session("");
    let sns = harness.take_sns();
    let pdu = TaskManagementRequest::new(Function::AbortTaskSet, 0x99, Lun::ZERO, sns);
    harness.feed(&pdu, &[]).unwrap();
    let id = harness.managed()[0].id();
    harness.connection.managed(id, ManagementResponse::LunDoesNotExist, 0, &mut harness.out);
    assert_eq!(codes(&harness), [Code::LunDoesNotExist]);
    assert_eq!(harness.sent::<TaskManagementResponse>()[0].exp_cmd_sn(), Sn(1));
}

#[test]
fn a_logout_waits_for_what_runs() {
    let mut harness = Harness::session("DefaultTime2Wait=3");
    let running = harness.read(1, 512);
    harness.write(2, 8192, 0, false).unwrap();
    let pending = function(&harness, Function::LogicalUnitReset, Lun::ZERO);
    harness.feed(&pending, &[]).unwrap();
    let reset = harness.managed()[0].id();
    harness.take();
    let sns = harness.take_sns();
    harness.feed(&pdu::LogoutRequest::close_session(0x55, sns), &[]).unwrap();
    assert_eq!(harness.connection.phase(), Phase::LoggingOut);
    let Some(ManagementRequest::Drain { id }) = harness.managed().first().copied() else { panic!("a drain") };
    // Nothing is taken any more, and the overtaken function is not answered.
    assert_eq!(harness.write(3, 512, 512, false), Ok(Disposition::Discard));
    harness.connection.managed(reset, ManagementResponse::Complete, 0, &mut harness.out);
    harness.connection.forget(running);
    assert!(harness.sent::<pdu::LogoutResponse>().is_empty() && codes(&harness).is_empty());
    harness.connection.managed(id, ManagementResponse::Complete, 0, &mut harness.out);
    let answer = harness.sent::<pdu::LogoutResponse>()[0];
    assert_eq!(
        (answer.response(), answer.time2wait(), answer.time2retain()),
        (Ok(pdu::LogoutResponseCode::Success), 3, 20)
    );
    assert_eq!(harness.closed(), Some(stampede_session::Close::LoggedOut));
    assert_eq!(harness.connection.phase(), Phase::Closed);
}
