//! Task management (RFC 7143 11.5, 11.6).
//!
//! Tasks still collecting data are killed here; those that run are marked killed, and the engine stops them. A killed
//! task's status is never sent, and the response leaves only when the engine says that its I/O is over.

use stampede_wire::{
    Lun, RESERVED_TAG, Sn,
    pdu::{
        Pdu, RejectReason, TaskManagementFunction as Function, TaskManagementRequest, TaskManagementResponse,
    },
};

use super::{FullFeature, Killer, Life, same_unit};
use crate::{ManagementId, ManagementRequest, ManagementResponse, OutData, Output, Task, task::State};

/// Functions (and a logout) under way at once; an initiator has one or two.
const PENDING_MAX: usize = 16;

/// What waits for the engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waiting {
    /// A task management function with this tag.
    Function { itt: u32 },
    /// TARGET COLD RESET with this tag: the session ends with its answer.
    ColdReset { itt: u32 },
    /// A logout with this tag.
    Logout { itt: u32 },
}

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Pending {
    id: ManagementId,
    waiting: Waiting,
    /// Its response also waits for data that is on its way to killed tasks.
    drains: bool,
    /// What the engine answered, while it does.
    answer: Option<ManagementResponse>,
}

/// The functions under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Managements {
    pending: [Option<Pending>; PENDING_MAX],
    count: u32,
}

impl Managements {
    /// Remembers `waiting`; `None` when there are too many.
    pub(super) fn add(&mut self, waiting: Waiting, drains: bool) -> Option<ManagementId> {
        let place = self.pending.iter_mut().find(|place| place.is_none())?;
        self.count = self.count.wrapping_add(1);
        let id = ManagementId(self.count);
        *place = Some(Pending { id, waiting, drains, answer: None });
        Some(id)
    }

    /// The engine has answered: what waited for it, unless it also waits for data.
    fn take(&mut self, id: ManagementId, answer: ManagementResponse) -> Option<Waiting> {
        let place = self.pending.iter_mut().find(|place| place.is_some_and(|pending| pending.id == id))?;
        match place {
            Some(pending) if pending.drains => {
                pending.answer = Some(answer);
                None
            }
            _ => place.take().map(|pending| pending.waiting),
        }
    }

    /// No data is waited for any more: the oldest that the engine has answered meanwhile.
    fn take_drained(&mut self) -> Option<(Waiting, ManagementResponse)> {
        self.pending.iter_mut().flatten().for_each(|pending| pending.drains = false);
        let answered = |pending: &Pending| pending.answer.map(|_| self.count.wrapping_sub(pending.id.0));
        let age = |place: &Option<Pending>| place.as_ref().and_then(answered);
        let (at, _) = (0..PENDING_MAX)
            .filter_map(|at| Some((at, age(&self.pending[at])?)))
            .max_by_key(|(_, age)| *age)?;
        let pending = self.pending[at].take()?;
        Some((pending.waiting, pending.answer?))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.iter().all(Option::is_none)
    }

    fn is_full(&self) -> bool {
        self.pending.iter().all(Option::is_some)
    }

    /// A logout overtakes the functions under way: nobody waits for their answers any more.
    pub(super) fn clear(&mut self) {
        self.pending = [None; PENDING_MAX];
    }
}

impl FullFeature {
    pub(super) fn task_management(&mut self, pdu: &TaskManagementRequest, out: &mut impl Output) {
        let itt = pdu.initiator_task_tag();
        let lun = pdu.lun();
        match pdu.function() {
            Ok(Function::AbortTask) => self.abort_task(pdu, out),
            Ok(Function::AbortTaskSet) => {
                self.manage(pdu, Some(lun), out, |id| ManagementRequest::AbortTaskSet { id, lun });
            }
            Ok(Function::ClearTaskSet) => {
                self.manage(pdu, Some(lun), out, |id| ManagementRequest::ClearTaskSet { id, lun });
            }
            Ok(Function::LogicalUnitReset) => {
                self.manage(pdu, Some(lun), out, |id| ManagementRequest::LunReset { id, lun });
            }
            Ok(Function::TargetWarmReset) => {
                self.manage(pdu, None, out, |id| ManagementRequest::TargetWarmReset { id });
            }
            Ok(Function::TargetColdReset) => {
                self.manage(pdu, None, out, |id| ManagementRequest::TargetColdReset { id });
            }
            Ok(Function::ClearAca) => {
                self.ask_engine(pdu, out, |id| ManagementRequest::ClearAca { id, lun });
            }
            Ok(Function::TaskReassign) => {
                self.answer_management(itt, ManagementResponse::ReassignmentNotSupported, out);
            }
            Ok(Function::QueryTask) if self.info.parameters.has_rfc_7144() => self.query_task(pdu, out),
            Ok(Function::QueryTaskSet) if self.info.parameters.has_rfc_7144() => {
                let present = self.has_live_task(|task| same_unit(task.lun(), lun));
                self.ask_engine(pdu, out, |id| ManagementRequest::QueryTaskSet { id, lun, present });
            }
            Ok(Function::ItNexusReset) if self.info.parameters.has_rfc_7144() => {
                self.manage(pdu, None, out, |id| ManagementRequest::NexusReset { id });
            }
            Ok(Function::QueryAsyncEvent) if self.info.parameters.has_rfc_7144() => {
                self.ask_engine(pdu, out, |id| ManagementRequest::QueryAsyncEvent { id, lun });
            }
            // Unknown ones, and those of RFC 7144 where it was not agreed on.
            _ => self.answer_management(itt, ManagementResponse::NotSupported, out),
        }
    }

    /// See [`Connection::managed`](crate::Connection::managed).
    pub(crate) fn managed(&mut self, id: ManagementId, response: ManagementResponse, out: &mut impl Output) {
        if let Some(waiting) = self.managements.take(id, response) {
            self.end_function(waiting, response, out);
        }
    }

    /// Answers the functions that waited for data.
    pub(super) fn answer_drained(&mut self, out: &mut impl Output) {
        while let Some((waiting, response)) = self.managements.take_drained() {
            self.end_function(waiting, response, out);
        }
    }

    fn end_function(&mut self, waiting: Waiting, response: ManagementResponse, out: &mut impl Output) {
        match waiting {
            _ if self.life == Life::Over => {}
            Waiting::Function { itt } => self.answer_management(itt, response, out),
            Waiting::ColdReset { itt } => {
                self.answer_management(itt, response, out);
                if response == ManagementResponse::Complete {
                    self.end_by_reset(out);
                }
            }
            Waiting::Logout { itt } => self.finish_logout(itt, out),
        }
    }

    /// ABORT TASK (RFC 7143 11.5.1, 11.5.5).
    fn abort_task(&mut self, pdu: &TaskManagementRequest, out: &mut impl Output) {
        let itt = pdu.initiator_task_tag();
        let Some(key) = self.tasks.find(pdu.referenced_task_tag()) else {
            let response = self.abort_unknown(pdu.referenced_task_tag(), pdu.ref_cmd_sn(), pdu.cmd_sn());
            return self.answer_management(itt, response, out);
        };
        let task = self.tasks.at(key);
        if task.is_some_and(Task::is_pending) {
            self.drop_pending(key, out);
            return self.answer_management(itt, ManagementResponse::Complete, out);
        }
        if task.is_some_and(Task::is_draining) {
            return self.answer_management(itt, ManagementResponse::Complete, out);
        }
        // Marked only once it is sure that the function is taken.
        if self.ask_engine(pdu, out, |id| ManagementRequest::AbortTask { id, task: key })
            && let Some(task) = self.tasks.at_mut(key)
        {
            task.state = State::Killed;
        }
    }

    /// QUERY TASK (RFC 7144 6.1, SAM-5 7.8): whether the task is in the task set.
    fn query_task(&mut self, pdu: &TaskManagementRequest, out: &mut impl Output) {
        let (tag, lun) = (pdu.referenced_task_tag(), pdu.lun());
        let present = self.has_live_task(|task| task.itt() == tag && same_unit(task.lun(), lun));
        let response = ManagementResponse::of_query(present);
        self.answer_management(pdu.initiator_task_tag(), response, out);
    }

    fn has_live_task(&self, is_it: impl Fn(&Task) -> bool) -> bool {
        let lives = |task: &Task| !task.killed() && !task.is_draining();
        self.tasks.keys().filter_map(|key| self.tasks.at(key)).any(|task| lives(task) && is_it(task))
    }

    /// The task is not here. It may have been answered already, or its command never came: then its CmdSN counts as
    /// received (RFC 7143 11.5.5, third case).
    fn abort_unknown(&mut self, tag: u32, command: Sn, request: Sn) -> ManagementResponse {
        if tag == RESERVED_TAG {
            return ManagementResponse::TaskDoesNotExist;
        }
        match self.numbers.window.plug(command, request) {
            Some(true) => {
                self.killed.remember(tag);
                ManagementResponse::Complete
            }
            Some(false) => ManagementResponse::Rejected,
            None => ManagementResponse::TaskDoesNotExist,
        }
    }

    /// A function over the tasks of `lun`, or of all.
    fn manage(
        &mut self,
        pdu: &TaskManagementRequest,
        lun: Option<Lun>,
        out: &mut impl Output,
        request: impl FnOnce(ManagementId) -> ManagementRequest,
    ) {
        // What still collects is released before the engine hears of the function, what runs is marked.
        if !self.managements.is_full() {
            self.kill(lun, Killer::Function, out);
        }
        let drains = self.drain.tasks > 0;
        self.hand_over(pdu, drains, out, request);
    }

    /// Hands a function to the engine that waits for no data.
    fn ask_engine(
        &mut self,
        pdu: &TaskManagementRequest,
        out: &mut impl Output,
        request: impl FnOnce(ManagementId) -> ManagementRequest,
    ) -> bool {
        self.hand_over(pdu, false, out, request)
    }

    /// Hands a function to the engine; `false`, and the initiator is told, when too many are under way.
    fn hand_over(
        &mut self,
        pdu: &TaskManagementRequest,
        drains: bool,
        out: &mut impl Output,
        request: impl FnOnce(ManagementId) -> ManagementRequest,
    ) -> bool {
        let itt = pdu.initiator_task_tag();
        let waiting = match pdu.function() {
            Ok(Function::TargetColdReset) => Waiting::ColdReset { itt },
            _ => Waiting::Function { itt },
        };
        match self.managements.add(waiting, drains) {
            Some(id) => {
                out.manage(request(id));
                return true;
            }
            None if pdu.immediate() => self.reject(pdu.bhs(), RejectReason::TooManyImmediateCommands, out),
            None => self.answer_management(itt, ManagementResponse::Rejected, out),
        }
        false
    }

    fn answer_management(&mut self, itt: u32, response: ManagementResponse, out: &mut impl Output) {
        let mut pdu = TaskManagementResponse::new(itt, response.into(), self.numbers.status());
        if let ManagementResponse::Succeeded { information } = response {
            pdu.set_additional_response_information(information);
        }
        self.send(&pdu, OutData::None, out);
    }
}
