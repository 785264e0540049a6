//! What connections give rise to, and what comes back to them.

use super::{Shard, io};
use crate::connection::Happening;
use crate::lun::Result as BackResult;
use crate::messages::{LunAddress, LunId, LunMap, ShardId, ToControl};
use crate::request::{Answer, Clearing, Manager, Message, Origin, Outcome, Request};
use crate::token::Key;
use stampede_ring::Ring;
use stampede_scsi::{Reply, Status, TransportId, cdb};
use stampede_session::{
    Admission, Close, LoginRequest, LoginStatus, ManagementRequest, ManagementResponse, Task, TaskKey,
};
use std::collections::VecDeque;
use std::sync::Arc;

/// REPORT LUNS (SPC-4 6.33): a question to the target, not to one unit.
const REPORT_LUNS: u8 = 0xa0;

impl<R: Ring> Shard<R> {
    pub(super) fn handle(&mut self, happening: Happening) {
        match happening {
            Happening::Command(key, task) => self.start_command(key, task),
            Happening::Manage(key, request) => self.manage(key, request),
            Happening::Login(key, request) => self.ask_admission(key, *request),
            Happening::FullFeature(key) => self.attach(key),
            Happening::Finish(key, how) => {
                let Some(conn) = self.conns.get_mut(key) else { return };
                match how {
                    Close::LoggedOut => conn.logged_out = true,
                    Close::LoginRefused(status) => {
                        self.counters.logins_refused += 1;
                        // Other refusals are those of the control thread, which has said why.
                        if let Some(claim) = conn.session.refused() {
                            tracing::info!(
                                peer = %conn.peer, initiator = ?claim.initiator, target = claim.target,
                                user = ?claim.user, %status, "login refused"
                            );
                        }
                    }
                    Close::TargetReset => {
                        let session = conn.session.session();
                        self.control.send(ToControl::TargetReset { session });
                    }
                    Close::Redirected | Close::Dropped => {}
                }
                self.finish(key, &how);
            }
            Happening::Overload(key, why) => self.drop_conn(key, &why),
        }
    }

    /// A login wants its decision: the control thread's, if there is room for a session here at all.
    fn ask_admission(&mut self, key: Key, request: LoginRequest) {
        self.leave_applicants(key);
        let sessions = self.conns.len().saturating_sub(self.applicants.len());
        let full = sessions > self.config.connections_max as usize;
        let Some(conn) = self.conns.get_mut(key) else { return };
        if full {
            tracing::warn!(
                peer = %conn.peer, initiator = %request.initiator, target = %request.target,
                "login refused: this shard has as many sessions as it may"
            );
            let admission = Admission::Refuse { status: LoginStatus::OutOfResources };
            conn.act(key, &mut self.front, |session, now, sink| session.admitted(admission, now, sink));
            self.mark(key);
            return;
        }
        conn.asked = true;
        self.control.send(ToControl::Login { shard: self.config.shard, request });
    }

    fn attach(&mut self, key: Key) {
        self.counters.logins += 1;
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(info) = conn.session.info() else { return };
        tracing::debug!(
            peer = %conn.peer, session = info.session.0, initiator = %info.initiator,
            target = info.target.as_deref().unwrap_or(""), stage = ?info.stage, "logged in"
        );
        conn.attached = true;
        let luns = conn.luns().clone();
        conn.attaching = luns.0.len() as u32;
        for (_, address) in &luns.0 {
            self.greet(key, *address, luns.clone());
        }
    }

    /// Says to a unit that a session begins to use it; [`Shard::attached`] follows.
    pub(super) fn greet(&mut self, key: Key, unit: LunAddress, luns: Arc<LunMap>) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(info) = conn.session.info() else { return };
        let transport = TransportId { initiator_name: info.initiator.clone(), isid: info.isid.0 };
        let queries = info.parameters.has_rfc_7144();
        let (lun, nexus, shard, connection) = (unit.lun, conn.nexus(), self.config.shard, key);
        let message = Message::Attach { lun, nexus, transport, shard, connection, luns, queries };
        self.post(unit.owner, message);
    }

    /// A unit knows the session, wherever the unit is by now. Only then do commands go there: so none can come to a
    /// shard that the unit has left.
    pub(super) fn attached(&mut self, key: Key, lun: LunId, owner: ShardId) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.side.set_owner(&[lun], owner);
        conn.attaching = conn.attaching.saturating_sub(1);
        self.mark(key);
    }

    /// A command has all its data: it goes to the owner of its unit.
    fn start_command(&mut self, key: Key, task: TaskKey) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some((state, slot)) = conn.session.task(task).zip(conn.side.slot_mut(task)) else { return };
        if state.killed() {
            // By what came right behind it, in the same chunk.
            conn.answer(key, task, &mut Outcome::Aborted, &mut self.front);
            self.mark(key);
            return;
        }
        self.counters.commands += 1;
        let goes_on = !slot.refused && !state.cdb_long() && state.cdb()[0] != REPORT_LUNS;
        let Some(unit) = slot.unit.filter(|_| goes_on) else { return self.answer_here(key, task) };
        let reads = reading_bytes(slot.moves, state);
        let waits = if reads > 0 {
            !conn.waiting.is_empty() || !conn.side.may_read(reads, &mut self.front.shares)
        } else {
            !conn.waiting.is_empty() && conn.is_behind_waiting(state)
        };
        if waits || conn.attaching > 0 {
            if let Some(slot) = conn.side.slot_mut(task) {
                slot.running = true;
            }
            conn.waiting.push_back(task);
            return;
        }
        let origin = Origin { shard: self.config.shard, connection: key, task };
        let request = conn.side.request(origin, state, unit.lun, reads, &mut self.front);
        self.send_command(key, unit.owner, request);
    }

    /// Answers what never leaves this shard's front.
    #[cold]
    fn answer_here(&mut self, key: Key, task: TaskKey) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some((state, slot)) = conn.session.task(task).zip(conn.side.slot_mut(task)) else { return };
        let cdb = *state.cdb();
        let reply = if state.cdb_long() {
            Reply::check(stampede_scsi::sense::INVALID_OPERATION_CODE)
        } else if cdb[0] == REPORT_LUNS {
            let numbers: Vec<u16> = conn.luns().0.iter().map(|(number, _)| *number).collect();
            let reply = stampede_scsi::report_luns(&cdb, &numbers);
            if reply.status == Status::Good {
                self.tell_of_report(key);
            }
            reply
        } else if slot.unit.is_none() {
            stampede_scsi::no_such_lun(&cdb)
        } else {
            self.narrow_window(key);
            Reply::status(Status::TaskSetFull)
        };
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.answer(key, task, &mut reply.into(), &mut self.front);
        self.mark(key);
    }

    /// Starts commands that waited for their unit to know the session, and reads that waited for the client to take
    /// what it asked for before; ends those that were killed.
    pub(super) fn retry_waiting(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut conn.waiting);
        let (alive, killed): (VecDeque<TaskKey>, VecDeque<TaskKey>) =
            waiting.into_iter().partition(|task| conn.session.task(*task).is_some_and(|task| !task.killed()));
        conn.waiting = alive;
        for task in killed {
            conn.answer(key, task, &mut Outcome::Aborted, &mut self.front);
        }
        while let Some(conn) = self.conns.get_mut(key)
            && conn.attaching == 0
            && let Some(task) = conn.waiting.front().copied()
        {
            let Some((slot, state)) = conn.side.slot_mut(task).zip(conn.session.task(task)) else {
                conn.waiting.pop_front();
                continue;
            };
            let refused = slot.refused;
            let Some(unit) = slot.unit.filter(|_| slot.running) else {
                conn.waiting.pop_front();
                continue;
            };
            let reads = reading_bytes(slot.moves, state);
            if reads > 0 && !conn.side.may_read(reads, &mut self.front.shares) {
                return;
            }
            conn.waiting.pop_front();
            if refused {
                self.answer_here(key, task);
                continue;
            }
            let origin = Origin { shard: self.config.shard, connection: key, task };
            let request = conn.side.request(origin, state, unit.lun, reads, &mut self.front);
            self.send_command(key, unit.owner, request);
        }
    }

    #[inline(always)]
    fn send_command(&mut self, key: Key, owner: ShardId, mut request: Request) {
        self.counters.writes_borrowed += u64::from(request.borrowed);
        if owner == self.config.shard {
            self.execute(request);
            return;
        }
        if !request.keep(&self.front.memory, &mut self.counters) {
            return self.answer(request.refused());
        }
        self.counters.forwarded += 1;
        if !self.mesh.send(owner, Message::Command(request)) {
            self.close_window(key);
        }
    }

    /// The owner's queue is full: no further commands from this session for now.
    fn close_window(&mut self, key: Key) {
        if self.windows.contains(&key) {
            return;
        }
        self.windows.push(key);
        if let Some(conn) = self.conns.get_mut(key) {
            conn.act(key, &mut self.front, |session, _, sink| session.set_window(0, sink));
            self.mark(key);
        }
    }

    /// The queues have room again.
    pub(super) fn open_windows(&mut self) {
        for key in std::mem::take(&mut self.windows) {
            let window = self.config.settings.window;
            // The window of a session that is to move stays closed.
            if let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.moving.is_none()) {
                conn.act(key, &mut self.front, |session, _, sink| session.set_window(window, sink));
                self.mark(key);
            }
        }
    }

    /// What the back of this shard has for somebody's front.
    pub(super) fn deliver(&mut self, result: BackResult) {
        match result {
            BackResult::Answer(answer) => self.return_answer(answer),
            BackResult::CopyCommand(owner, request) => {
                self.post(owner, Message::CopyCommand(request));
            }
            BackResult::Cleared(manager, response) => {
                self.post(manager.shard, Message::Cleared { manager, response });
            }
            BackResult::Kill(kill) => {
                for shard in self.mesh.shards() {
                    self.post(shard, Message::Kill(kill.clone()));
                }
            }
            BackResult::Spill => {
                let me = self.config.shard;
                for shard in self.mesh.shards().filter(|shard| *shard != me).collect::<Vec<_>>() {
                    self.post(shard, Message::Spill);
                }
            }
            BackResult::Save { lun, number, state } => {
                self.control.send(ToControl::Save { shard: self.config.shard, lun, number, state });
            }
            BackResult::Rekey(lun) => {
                self.control.send(ToControl::Rekey { shard: self.config.shard, lun });
            }
            BackResult::Changed { request, lun, result } => {
                self.control.send(ToControl::Changed { request, lun, result });
            }
            BackResult::Closed(lun) => self.control.send(ToControl::Closed { lun }),
        }
    }

    /// A command comes to its unit, which this shard owns.
    pub(super) fn execute(&mut self, request: Request) {
        if let Some(answer) = self.backend.execute(request, &mut io!(self)) {
            self.return_answer(answer);
        }
    }

    /// An answer goes to the shard of its session.
    fn return_answer(&mut self, answer: Answer) {
        if answer.origin.shard == self.config.shard {
            self.answer(answer);
        } else {
            self.post(answer.origin.shard, Message::Answer(answer));
        }
    }

    /// A command has ended: its answer goes to its initiator.
    #[inline(always)]
    pub(super) fn answer(&mut self, mut answer: Answer) {
        let Answer { origin, outcome, .. } = &mut answer;
        let key = origin.connection;
        let Some(conn) = self.conns.get_mut(key) else { return self.answer_copy(answer) };
        if matches!(outcome, Outcome::Ended { status: Status::CheckCondition, .. }) {
            self.counters.check_conditions += 1;
        }
        conn.answer(key, origin.task, outcome, &mut self.front);
        self.mark(key);
    }

    /// A command has ended that no connection sent: a copy goes on.
    #[cold]
    fn answer_copy(&mut self, answer: Answer) {
        match answer.origin.as_copy() {
            Some(copy) => self.backend.copy_answered(copy, answer.outcome),
            None => debug_assert!(false, "an answer outlived its connection"),
        }
    }

    /// A command of a copy arrives. Its unit may have left since its copy's session was told where it is.
    pub(super) fn execute_for_copy(&mut self, request: Request) {
        match self.travel.owner_of(request.lun).filter(|_| !self.backend.owns(request.lun)) {
            Some(owner) => {
                self.post(owner, Message::CopyCommand(request));
            }
            None => self.backend.execute_for_copy(request, &mut io!(self)),
        }
    }

    /// Third-party copies among these tasks end before they are done: somebody waits for their end.
    pub(super) fn stop_copies(&mut self, key: Key, tasks: &[TaskKey]) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let copies: Vec<(LunAddress, TaskKey)> = tasks.iter().filter_map(|task| conn.copy(*task)).collect();
        for (address, task) in copies {
            let origin = Origin { shard: self.config.shard, connection: key, task };
            self.post(address.owner, Message::StopCopy { lun: address.lun, origin });
        }
    }

    fn manage(&mut self, key: Key, request: ManagementRequest) {
        self.counters.task_management += 1;
        let id = request.id();
        let Some(conn) = self.conns.get_mut(key) else { return };
        let find = |lun: stampede_wire::Lun| lun.decode().and_then(|number| conn.luns().find(number));
        match request {
            ManagementRequest::AbortTask { task, .. } => {
                let tasks = conn.running(None).into_iter().filter(|running| *running == task).collect();
                self.manage_and_wait(key, id, tasks, Vec::new());
            }
            ManagementRequest::AbortTaskSet { lun, .. } => match find(lun) {
                Some(address) => {
                    let tasks = conn.running(Some(address));
                    self.manage_and_wait(key, id, tasks, Vec::new());
                }
                None => self.managed(key, request, ManagementResponse::LunDoesNotExist),
            },
            ManagementRequest::ClearAca { lun, .. } => match find(lun) {
                Some(_) => self.managed(key, request, ManagementResponse::Complete),
                None => self.managed(key, request, ManagementResponse::LunDoesNotExist),
            },
            ManagementRequest::ClearTaskSet { lun, .. } => match find(lun) {
                Some(address) => {
                    let tasks = conn.running(Some(address));
                    self.manage_and_wait(key, id, tasks, vec![(address, Clearing::ClearTaskSet)]);
                }
                None => self.managed(key, request, ManagementResponse::LunDoesNotExist),
            },
            ManagementRequest::LunReset { lun, .. } => match find(lun) {
                Some(address) => {
                    let tasks = conn.running(Some(address));
                    self.manage_and_wait(key, id, tasks, vec![(address, Clearing::Reset)]);
                }
                None => self.managed(key, request, ManagementResponse::LunDoesNotExist),
            },
            ManagementRequest::TargetWarmReset { .. } => self.manage_all(key, id, Clearing::TargetReset),
            ManagementRequest::TargetColdReset { .. } => self.manage_all(key, id, Clearing::PowerOn),
            ManagementRequest::NexusReset { .. } => self.manage_all(key, id, Clearing::NexusLoss),
            ManagementRequest::QueryTaskSet { lun, present, .. } => {
                let response = match find(lun) {
                    Some(_) => ManagementResponse::of_query(present),
                    None => ManagementResponse::LunDoesNotExist,
                };
                self.managed(key, request, response);
            }
            ManagementRequest::QueryAsyncEvent { lun, .. } => match find(lun) {
                Some(address) => {
                    self.manage_and_wait(key, id, Vec::new(), vec![(address, Clearing::QueryEvent)]);
                }
                None => self.managed(key, request, ManagementResponse::LunDoesNotExist),
            },
            ManagementRequest::Drain { .. } => {
                let tasks = conn.running(None);
                self.manage_and_wait(key, id, tasks, Vec::new());
            }
        }
    }

    fn managed(&mut self, key: Key, request: ManagementRequest, response: ManagementResponse) {
        if let Some(conn) = self.conns.get_mut(key) {
            conn.managed(key, request.id(), response, &mut self.front);
            self.mark(key);
        }
    }

    /// A function on every unit that the session sees; all of its own tasks end.
    fn manage_all(&mut self, key: Key, id: stampede_session::ManagementId, clearing: Clearing) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let clearings = conn.luns().0.iter().map(|(_, address)| (*address, clearing)).collect();
        let tasks = conn.running(None);
        self.manage_and_wait(key, id, tasks, clearings);
    }

    fn manage_and_wait(
        &mut self,
        key: Key,
        id: stampede_session::ManagementId,
        tasks: Vec<TaskKey>,
        clearings: Vec<(LunAddress, Clearing)>,
    ) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let nexus = conn.nexus();
        let ending = tasks.clone();
        conn.manage(key, id, tasks, clearings.len() as u32, &mut self.front);
        self.mark(key);
        self.retry_waiting(key);
        self.stop_copies(key, &ending);
        let manager = Manager { shard: self.config.shard, connection: key, id };
        for (address, clearing) in clearings {
            self.post(address.owner, Message::Clear { manager, lun: address.lun, nexus, clearing });
        }
    }
}

/// Bytes of data-in that a command will bring at most.
fn reading_bytes(moves: cdb::Transfer, task: &Task) -> u64 {
    match moves {
        cdb::Transfer::In(bytes) => bytes.min(u64::from(task.expected_len())),
        _ => 0,
    }
}
