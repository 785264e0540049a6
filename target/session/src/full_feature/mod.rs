//! The full-feature phase: one module per kind of PDU over one state.
//!
//! A PDU acts in two steps. `begin` judges its header: CmdSN, limits, where its payload goes. `end` acts, when the
//! payload is complete and its digest known. What `begin` found out waits in [`Current`] in between.

mod collection;
mod command;
mod data_in;
mod data_out;
mod killed;
mod logout;
mod management;
mod nop;
mod numbers;
mod reject;
mod respond;
mod text;
mod window;

use std::sync::Arc;

use stampede_wire::{
    Bhs, Lun,
    frame::Header,
    pdu::{Pdu, RejectReason, Request},
};

use self::{collection::Arrived, killed::KilledTags, management::Managements, nop::Pings, window::Arrival};
pub(crate) use self::{collection::Collection, numbers::Numbers};
use crate::{
    Close, DataGrant, Disposition, OutData, Output, SessionInfo, SessionKind, Settings, TaskKey, Violation,
    ViolationKind, table::TaskTable, task::State,
};

/// A session in the full-feature phase.
#[derive(Debug)]
pub(crate) struct FullFeature {
    settings: Arc<Settings>,
    info: SessionInfo,
    numbers: Numbers,
    tasks: TaskTable,
    killed: KilledTags,
    managements: Managements,
    text: text::Exchange,
    pings: Pings,
    /// When the initiator must have logged out, once it was asked to.
    logout_deadline_ns: Option<u64>,
    /// Counts R2Ts, to tell their tags apart.
    r2t_count: u16,
    current: Current,
    life: Life,
}

/// How far the session has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    /// It takes requests.
    Active,
    /// A Logout Request came.
    LoggingOut,
    /// Nothing is taken or sent any more.
    Over,
}

/// The PDU whose payload is arriving.
#[derive(Clone, Copy, Debug)]
enum Current {
    /// None, or one that does nothing.
    Nothing,
    /// A SCSI Command that has its task.
    Command(TaskKey, Bhs),
    /// A Data-Out of an open sequence.
    DataOut(TaskKey, Arrived, Bhs),
    /// A request that acts on its collected payload.
    Whole(Bhs),
    /// A request to be rejected once its payload is off the wire.
    Reject(Bhs, RejectReason),
}

impl FullFeature {
    pub(crate) fn new(settings: Arc<Settings>, info: SessionInfo, numbers: Numbers) -> Self {
        let tasks = TaskTable::new(settings.command_window());
        Self {
            killed: KilledTags::new(tasks.capacity()),
            tasks,
            settings,
            info,
            numbers,
            managements: Managements::default(),
            text: text::Exchange::default(),
            pings: Pings::default(),
            logout_deadline_ns: None,
            r2t_count: 0,
            current: Current::Nothing,
            life: Life::Active,
        }
    }

    pub(crate) fn info(&self) -> &SessionInfo {
        &self.info
    }

    pub(crate) fn life(&self) -> Life {
        self.life
    }

    pub(crate) fn tasks(&self) -> &TaskTable {
        &self.tasks
    }

    /// See [`Connection::shrink`](crate::Connection::shrink).
    pub(crate) fn shrink(&mut self) {
        self.tasks.shrink();
    }

    /// A header has arrived.
    pub(crate) fn begin(
        &mut self,
        header: &Header,
        grant: DataGrant,
        out: &mut impl Output,
    ) -> Result<Disposition, Violation> {
        let bhs = header.bhs();
        let len = bhs.data_segment_len();
        self.current = Current::Nothing;
        if self.life != Life::Active {
            return Ok(dropped(len));
        }
        if len > self.info.parameters.target_recv_data_segment {
            self.reject(bhs, RejectReason::ProtocolError, out);
            return Err(Violation::by(ViolationKind::SegmentTooLong, bhs));
        }
        match bhs.request() {
            Some(Request::DataOut(pdu)) => self.begin_data_out(pdu, out),
            Some(Request::LoginRequest(_)) => {
                self.reject(bhs, RejectReason::ProtocolError, out);
                Err(Violation::by(ViolationKind::LoginInFullFeature, bhs))
            }
            Some(Request::SnackRequest(_)) => Ok(self.begin_rejected(bhs, RejectReason::ProtocolError)),
            Some(Request::ScsiCommand(pdu)) if self.is_normal() => {
                if !self.arrives(bhs, pdu.cmd_sn())? {
                    return Ok(dropped(len));
                }
                Ok(self.begin_command(header, pdu, grant, out))
            }
            Some(Request::TaskManagementRequest(pdu)) if self.is_normal() => {
                self.begin_whole(bhs, pdu.cmd_sn())
            }
            Some(Request::NopOut(pdu)) => self.begin_whole(bhs, pdu.cmd_sn()),
            Some(Request::TextRequest(pdu)) => self.begin_whole(bhs, pdu.cmd_sn()),
            Some(Request::LogoutRequest(pdu)) => self.begin_whole(bhs, pdu.cmd_sn()),
            // What a discovery session may not do, and opcodes we do not know: CmdSN is where a command has it.
            _ => {
                let arrived = bhs.opcode().is_ok_and(|opcode| !opcode.is_request()) || {
                    let sn = bhs.view::<stampede_wire::pdu::ScsiCommand>().cmd_sn();
                    self.arrives(bhs, sn)?
                };
                let reason = RejectReason::CommandNotSupported;
                Ok(if arrived { self.begin_rejected(bhs, reason) } else { dropped(len) })
            }
        }
    }

    /// The PDU just begun is complete.
    pub(crate) fn end(
        &mut self,
        collected: &[u8],
        data_digest_ok: bool,
        out: &mut impl Output,
    ) -> Result<(), Violation> {
        let current = std::mem::replace(&mut self.current, Current::Nothing);
        if !data_digest_ok {
            return self.end_damaged(current, out);
        }
        match current {
            Current::Nothing => {}
            Current::Command(task, _) => self.proceed(task, out),
            Current::DataOut(task, arrived, _) => self.end_data_out(task, &arrived, out),
            Current::Reject(bhs, reason) => self.reject(&bhs, reason, out),
            Current::Whole(bhs) => match bhs.request() {
                Some(Request::NopOut(pdu)) => self.nop_out(pdu, collected, out),
                Some(Request::TextRequest(pdu)) => self.text_request(pdu, collected, out),
                Some(Request::TaskManagementRequest(pdu)) => self.task_management(pdu, out),
                Some(Request::LogoutRequest(pdu)) => self.logout_request(pdu, out),
                _ => {}
            },
        }
        Ok(())
    }

    /// RFC 7143 7.8: a PDU whose data digest is wrong is rejected and discarded. Data of a command ends that command
    /// (after the rest of its data). A request that used up a CmdSN leaves a hole, which at ErrorRecoveryLevel 0
    /// only session recovery fills.
    fn end_damaged(&mut self, current: Current, out: &mut impl Output) -> Result<(), Violation> {
        let (bhs, fatal) = match current {
            Current::Nothing => return Ok(()),
            Current::DataOut(task, arrived, bhs) => {
                self.reject(&bhs, RejectReason::DataDigestError, out);
                if let Some(State::Collecting(collection)) =
                    self.tasks.at_mut(task).map(|task| &mut task.state)
                {
                    collection.fail(collection::Fault::Digest);
                }
                self.end_data_out(task, &arrived, out);
                return Ok(());
            }
            Current::Command(task, bhs) => {
                self.drop_collecting(task, out);
                (bhs, !bhs.immediate())
            }
            Current::Whole(bhs) | Current::Reject(bhs, _) => (bhs, !bhs.immediate()),
        };
        self.reject(&bhs, RejectReason::DataDigestError, out);
        if fatal { Err(Violation::by(ViolationKind::DigestError, &bhs)) } else { Ok(()) }
    }

    /// Judges a request by its CmdSN; `false` means that it is to be dropped without a word (RFC 7143 4.2.2.1).
    fn arrives(&mut self, bhs: &Bhs, sn: stampede_wire::Sn) -> Result<bool, Violation> {
        if bhs.immediate() {
            return Ok(true);
        }
        match self.numbers.window.arrive(sn) {
            Arrival::InOrder => Ok(true),
            Arrival::Ignore => Ok(false),
            Arrival::Gap => Err(Violation::by(ViolationKind::CommandMissing, bhs)),
        }
    }

    fn begin_whole(&mut self, bhs: &Bhs, sn: stampede_wire::Sn) -> Result<Disposition, Violation> {
        let len = bhs.data_segment_len();
        if !self.arrives(bhs, sn)? {
            return Ok(dropped(len));
        }
        self.current = Current::Whole(*bhs);
        Ok(if len == 0 { Disposition::None } else { Disposition::Collect })
    }

    fn begin_rejected(&mut self, bhs: &Bhs, reason: RejectReason) -> Disposition {
        self.current = Current::Reject(*bhs, reason);
        dropped(bhs.data_segment_len())
    }

    fn is_normal(&self) -> bool {
        self.info.kind == SessionKind::Normal
    }

    /// Ends a task that still collects data: its buffers are freed, data that still comes for it is dropped.
    fn drop_collecting(&mut self, key: TaskKey, out: &mut impl Output) {
        let Some(task) = self.tasks.remove(key) else { return };
        self.killed.remember(task.itt);
        if !task.immediate {
            self.numbers.window.vacate();
        }
        out.release(key);
    }

    /// Kills the tasks on `lun`, or all: see [`Connection::kill`](crate::Connection::kill).
    pub(crate) fn kill(&mut self, lun: Option<Lun>, out: &mut impl Output) {
        for index in 0..self.tasks.slots_len() {
            let Some(key) = self.tasks.key(index) else { continue };
            let Some(task) = self.tasks.at_mut(key) else { continue };
            if lun.is_some_and(|lun| !same_unit(lun, task.lun)) {
                continue;
            }
            match task.state {
                State::Collecting(_) => self.drop_collecting(key, out),
                State::Running | State::Killed => task.state = State::Killed,
            }
        }
    }

    /// The I/O of a killed task is over.
    pub(crate) fn forget(&mut self, key: TaskKey) {
        if self.tasks.remove(key).is_some_and(|task| !task.immediate) {
            self.numbers.window.vacate();
        }
    }

    /// The connection is gone.
    pub(crate) fn disconnect(&mut self, out: &mut impl Output) {
        self.life = Life::Over;
        self.current = Current::Nothing;
        self.kill(None, out);
    }

    fn close(&mut self, how: Close, out: &mut impl Output) {
        self.life = Life::Over;
        out.close(how);
    }

    /// Sends a PDU whose header says everything.
    fn send(&self, pdu: &impl Pdu, data: OutData<'_>, out: &mut impl Output) {
        out.send(pdu.bhs(), data);
    }
}

/// The payload is not wanted.
fn dropped(len: u32) -> Disposition {
    if len == 0 { Disposition::None } else { Disposition::Discard }
}

/// Whether two LUN fields name one logical unit: they may use different addressing methods.
fn same_unit(a: Lun, b: Lun) -> bool {
    match (a.decode(), b.decode()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}
