//! The full-feature phase: one module per kind of PDU over one state.
//!
//! A PDU acts in two steps. `begin` judges its header: CmdSN, limits, where its payload goes. `end` acts, when the
//! payload is complete and its digest known; what `begin` found out waits in [`Current`] in between. Without a payload
//! both are one step.
//!
//! SCSI Command and Data-Out go their own short way through both; everything else is rare.

mod announce;
mod collection;
mod command;
mod data_in;
mod data_out;
mod drain;
mod killed;
mod logout;
mod management;
mod nop;
mod numbers;
mod order;
mod reject;
mod respond;
mod text;
mod window;

use std::sync::Arc;

use stampede_wire::{
    Bhs, Lun,
    frame::Header,
    pdu::{DataOut, Pdu, RejectReason, Request, ScsiCommand},
};

pub use self::command::short_cdb;
pub(crate) use self::{
    collection::{Collection, Fault},
    numbers::Numbers,
};
use self::{drain::Drain, killed::KilledTags, management::Managements, nop::Pings, window::Arrival};
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
    /// When it must have begun a text negotiation, once it was asked to.
    renegotiation_deadline_ns: Option<u64>,
    /// Counts R2Ts, to tell their tags apart.
    r2t_count: u16,
    /// ORDERED tasks that the engine has not got yet: mostly none, and then no task waits for another.
    ordered: u16,
    drain: Drain,
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

/// Why tasks are killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Killer {
    /// A function of this session's initiator.
    Function,
    /// What another session's initiator did.
    Other,
    /// The end of the session.
    End,
}

/// The PDU whose payload is arriving.
#[derive(Clone, Copy, Debug)]
enum Current {
    /// None, or one that does nothing.
    Nothing,
    /// A SCSI Command that has its task.
    Command(TaskKey),
    /// A Data-Out of an open sequence.
    DataOut(TaskKey),
    /// A request that acts on its collected payload.
    Whole,
    /// A request to be rejected once its payload is off the wire.
    Reject(RejectReason),
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
            renegotiation_deadline_ns: None,
            r2t_count: 0,
            ordered: 0,
            drain: Drain::default(),
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

    #[inline]
    pub(crate) fn tasks(&self) -> &TaskTable {
        &self.tasks
    }

    /// See [`Connection::shrink`](crate::Connection::shrink).
    pub(crate) fn shrink(&mut self) {
        self.tasks.shrink();
    }

    /// A header has arrived.
    #[inline]
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
        let command = bhs.try_view::<ScsiCommand>().filter(|_| self.is_normal());
        let disposition = if let Some(pdu) = command {
            if !self.arrives(bhs, pdu.cmd_sn())? {
                return Ok(dropped(len));
            }
            self.begin_command(header, pdu, grant, out)
        } else if let Some(pdu) = bhs.try_view::<DataOut>() {
            self.begin_data_out(pdu, out)?
        } else {
            self.begin_other(bhs, out)?
        };
        if len == 0 && !matches!(self.current, Current::Nothing) {
            self.end_at_once(header, out)?;
        }
        Ok(disposition)
    }

    /// The PDU just begun has no payload to wait for.
    #[inline(never)]
    fn end_at_once(&mut self, header: &Header, out: &mut impl Output) -> Result<(), Violation> {
        self.end(header, &[], true, out)
    }

    /// Any PDU but those of a command and its data.
    #[inline(never)]
    fn begin_other(&mut self, bhs: &Bhs, out: &mut impl Output) -> Result<Disposition, Violation> {
        match bhs.request() {
            Some(Request::LoginRequest(_)) => {
                self.reject(bhs, RejectReason::ProtocolError, out);
                Err(Violation::by(ViolationKind::LoginInFullFeature, bhs))
            }
            Some(Request::SnackRequest(_)) => {
                Ok(self.begin_rejected(bhs.data_segment_len(), RejectReason::ProtocolError))
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
                    let sn = bhs.view::<ScsiCommand>().cmd_sn();
                    self.arrives(bhs, sn)?
                };
                let (len, reason) = (bhs.data_segment_len(), RejectReason::CommandNotSupported);
                Ok(if arrived { self.begin_rejected(len, reason) } else { dropped(len) })
            }
        }
    }

    /// The PDU just begun is complete.
    #[inline]
    pub(crate) fn end(
        &mut self,
        header: &Header,
        collected: &[u8],
        data_digest_ok: bool,
        out: &mut impl Output,
    ) -> Result<(), Violation> {
        let current = std::mem::replace(&mut self.current, Current::Nothing);
        match current {
            Current::Nothing => {}
            _ if !data_digest_ok => return self.end_damaged(current, header.bhs(), out),
            Current::Command(task) => self.proceed(task, out),
            Current::DataOut(task) => self.end_data_out(task, header.bhs().view(), out),
            Current::Whole | Current::Reject(_) => self.end_other(current, header.bhs(), collected, out),
        }
        Ok(())
    }

    /// Any PDU but those of a command and its data.
    #[inline(never)]
    fn end_other(&mut self, current: Current, bhs: &Bhs, collected: &[u8], out: &mut impl Output) {
        match (current, bhs.request()) {
            (Current::Reject(reason), _) => self.reject(bhs, reason, out),
            (_, Some(Request::NopOut(pdu))) => self.nop_out(pdu, collected, out),
            (_, Some(Request::TextRequest(pdu))) => self.text_request(pdu, collected, out),
            (_, Some(Request::TaskManagementRequest(pdu))) => self.task_management(pdu, out),
            (_, Some(Request::LogoutRequest(pdu))) => self.logout_request(pdu, out),
            _ => {}
        }
    }

    /// RFC 7143 7.8: a PDU whose data digest is wrong is rejected and discarded. Data of a command ends that command
    /// (after the rest of its data). A request that used up a CmdSN leaves a hole, which at ErrorRecoveryLevel 0
    /// only session recovery fills.
    #[cold]
    fn end_damaged(&mut self, current: Current, bhs: &Bhs, out: &mut impl Output) -> Result<(), Violation> {
        if let Current::Command(task) = current {
            self.drop_pending(task, out);
        }
        self.reject(bhs, RejectReason::DataDigestError, out);
        if let Current::DataOut(task) = current {
            if let Some(collection) = self.tasks.collecting(task) {
                collection.fail(Fault::Digest);
            }
            self.end_data_out(task, bhs.view(), out);
            return Ok(());
        }
        if bhs.immediate() { Ok(()) } else { Err(Violation::by(ViolationKind::DigestError, bhs)) }
    }

    /// Judges a request by its CmdSN; `false` means that it is to be dropped without a word (RFC 7143 4.2.2.1).
    #[inline]
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
        self.current = Current::Whole;
        Ok(if len == 0 { Disposition::None } else { Disposition::Collect })
    }

    #[cold]
    fn begin_rejected(&mut self, len: u32, reason: RejectReason) -> Disposition {
        self.current = Current::Reject(reason);
        dropped(len)
    }

    #[inline]
    fn is_normal(&self) -> bool {
        self.info.kind == SessionKind::Normal
    }

    /// Ends a task that the engine has not got yet: its buffers are freed, data that still comes for it is dropped.
    fn drop_pending(&mut self, key: TaskKey, out: &mut impl Output) {
        let ordered = self.ordered;
        self.discard(key, out);
        if ordered > 0 {
            self.start_waiting(out);
        }
    }

    /// The same, and whoever waits for it is still to be started.
    fn discard(&mut self, key: TaskKey, out: &mut impl Output) {
        let Some(task) = self.tasks.at(key) else { return };
        if task.is_draining() {
            self.drain.tasks = self.drain.tasks.saturating_sub(1);
        } else {
            self.ordered = self.ordered.saturating_sub(u16::from(task.is_ordered()));
            out.release(key);
        }
        let Some(task) = self.tasks.remove(key) else { return };
        self.killed.remember(task.itt);
        if !task.immediate {
            self.numbers.window.vacate();
        }
    }

    /// Kills the tasks on `lun`, or all; whether there was one that lived.
    fn kill(&mut self, lun: Option<Lun>, by: Killer, out: &mut impl Output) -> bool {
        let (ordered, mut any) = (self.ordered, false);
        let drains = by == Killer::Function && !self.info.parameters.fast_abort;
        for index in 0..self.tasks.slots_len() {
            let Some(key) = self.tasks.key(index) else { continue };
            let Some(task) = self.tasks.at_mut(key) else { continue };
            if lun.is_some_and(|lun| !same_unit(lun, task.lun())) {
                continue;
            }
            match task.state {
                State::Collecting if task.is_draining() => {
                    if by == Killer::End {
                        self.discard(key, out);
                    }
                    continue;
                }
                State::Collecting if drains && task.collection.awaits_solicited() => {
                    self.begin_drain(key, out);
                }
                State::Collecting | State::Waiting => self.discard(key, out),
                State::Killed => continue,
                State::Running => task.state = State::Killed,
            }
            any = true;
        }
        if ordered > 0 {
            self.start_waiting(out);
        }
        any
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
        self.kill(None, Killer::End, out);
    }

    fn close(&mut self, how: Close, out: &mut impl Output) {
        self.life = Life::Over;
        out.close(how);
    }

    /// Sends a PDU whose header says everything.
    #[inline]
    fn send(&self, pdu: &impl Pdu, data: OutData<'_>, out: &mut impl Output) {
        out.send(pdu.bhs(), data);
    }
}

/// The payload is not wanted.
#[inline]
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
