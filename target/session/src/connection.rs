//! One connection, which is one session.

use std::{net::SocketAddr, sync::Arc};

use stampede_wire::{Lun, frame::Header};

use crate::{
    Admission, CommandResult, ManagementId, ManagementResponse, Output, SessionId, SessionInfo, Settings, Task, TaskKey,
    Violation,
};

/// What the engine grants with the header of a SCSI Command; ignored with other PDUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DataGrant {
    /// Bytes of Data-Out the target wants for this command, at most its Expected Data Transfer Length (more is
    /// cut). Bytes beyond are taken off the wire and dropped.
    pub wanted: u32,
}

/// Where the payload of the PDU just begun goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// There is none.
    None,
    /// Into a buffer that is passed to `end_pdu`; its length is DataSegmentLength, which is within bounds.
    Collect,
    /// Into the task's buffer.
    Task {
        /// Whose.
        task: TaskKey,
        /// Where the first byte goes.
        offset: u32,
        /// Bytes to store, at most DataSegmentLength; what follows them is dropped.
        len: u32,
    },
    /// Nowhere: taken off the wire and dropped.
    Discard,
}

/// The phases of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Login requests are being exchanged.
    Login,
    /// The login is done but for the decision ([`Output::admit`]).
    Deciding,
    /// Full-feature phase.
    FullFeature,
    /// A Logout Request came; the Logout Response waits for the last task.
    LoggingOut,
    /// No PDU is taken or sent any more.
    Closed,
}

/// One connection of an initiator, which is one session (MaxConnections = 1).
#[derive(Debug)]
pub struct Connection {
    session: SessionId,
}

impl Connection {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(session: SessionId, settings: Arc<Settings>, local: SocketAddr, peer: SocketAddr, now_ns: u64) -> Self {
        let _ = (settings, local, peer, now_ns);
        Self { session }
    }

    /// A PDU's header has arrived, its header digest was right. Says where its payload goes.
    ///
    /// # Errors
    /// The peer broke the protocol: drop the connection once what is queued is sent.
    pub fn begin_pdu(
        &mut self,
        header: &Header,
        grant: DataGrant,
        now_ns: u64,
        out: &mut impl Output,
    ) -> Result<Disposition, Violation> {
        let _ = (header, grant, now_ns, out);
        Ok(Disposition::None)
    }

    /// The PDU just begun is complete; only now it acts. `collected` is its payload if that was to be collected.
    ///
    /// # Errors
    /// As [`Connection::begin_pdu`].
    pub fn end_pdu(
        &mut self,
        collected: &[u8],
        data_digest_ok: bool,
        now_ns: u64,
        out: &mut impl Output,
    ) -> Result<(), Violation> {
        let _ = (collected, data_digest_ok, now_ns, out);
        Ok(())
    }

    /// Answers [`Output::admit`]. Ignored in any other phase than [`Phase::Deciding`].
    pub fn admitted(&mut self, admission: Admission, now_ns: u64, out: &mut impl Output) {
        let _ = (admission, now_ns, out);
    }

    /// The task of this key, if it is still in the table.
    #[must_use]
    pub fn task(&self, task: TaskKey) -> Option<&Task> {
        let _ = task;
        None
    }

    /// A command has ended: sends its data and status, frees its slot and opens the window. A killed task is only
    /// forgotten. A dead key is ignored.
    pub fn respond(&mut self, task: TaskKey, result: &CommandResult<'_>, now_ns: u64, out: &mut impl Output) {
        let _ = (task, result, now_ns, out);
    }

    /// The I/O of a killed task is over: frees its slot. A dead key is ignored.
    pub fn forget(&mut self, task: TaskKey) {
        let _ = task;
    }

    /// Another session's task management (CLEAR TASK SET, a reset) covers tasks of this one: kills those on `lun`
    /// (all, if `None`). Those that were collecting data are released; those that run are marked killed. Their
    /// initiator gets no status; it learns by a unit attention.
    pub fn kill(&mut self, lun: Option<Lun>, out: &mut impl Output) {
        let _ = (lun, out);
    }

    /// Answers [`Output::manage`]: sends the response. An unknown id is ignored.
    pub fn managed(&mut self, id: ManagementId, response: ManagementResponse, now_ns: u64, out: &mut impl Output) {
        let _ = (id, response, now_ns, out);
    }

    /// Pings the initiator by NOP-In, unless a ping is under way or the session is not in the full-feature phase.
    pub fn ping(&mut self, now_ns: u64, out: &mut impl Output) {
        let _ = (now_ns, out);
    }

    /// When the last PDU (or part of one) came.
    #[must_use]
    pub fn last_heard_ns(&self) -> u64 {
        0
    }

    /// Whether the initiator answers pings; `None` until it was tried.
    #[must_use]
    pub fn answers_pings(&self) -> Option<bool> {
        None
    }

    /// Asks the initiator to log out within `seconds` (Asynchronous Message, AsyncEvent 1; RFC 7143 11.9.1). When it
    /// does not, [`Connection::tick`] says so.
    pub fn request_logout(&mut self, seconds: u16, now_ns: u64, out: &mut impl Output) {
        let _ = (seconds, now_ns, out);
    }

    /// The engine's back-pressure: commands the session may have in the target at once; 0 closes the window as far
    /// as promises already made allow. MaxCmdSN never moves back. When a closed window reopens, the initiator is
    /// told by NOP-In.
    pub fn set_window(&mut self, commands: u16, out: &mut impl Output) {
        let _ = (commands, out);
    }

    /// When [`Connection::tick`] wants to be called next.
    #[must_use]
    pub fn deadline_ns(&self) -> Option<u64> {
        None
    }

    /// Time has passed.
    ///
    /// # Errors
    /// A time limit of the peer's is over: drop the connection.
    pub fn tick(&mut self, now_ns: u64, out: &mut impl Output) -> Result<(), Violation> {
        let _ = (now_ns, out);
        Ok(())
    }

    /// The TCP connection is gone, or is being dropped: tasks collecting data are released, the others are marked
    /// killed, and nothing is sent any more.
    pub fn disconnect(&mut self, out: &mut impl Output) {
        let _ = out;
    }

    /// The phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        Phase::Login
    }

    /// The engine's number of this connection.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The session, from the full-feature phase on.
    #[must_use]
    pub fn info(&self) -> Option<&SessionInfo> {
        None
    }

    /// The keys of all tasks in the table, by index.
    pub fn tasks(&self) -> impl Iterator<Item = TaskKey> + '_ {
        std::iter::empty()
    }

    /// Tasks in the table.
    #[must_use]
    pub fn tasks_len(&self) -> usize {
        0
    }

    /// Slots of the task table: every [`TaskKey::index`] is below it.
    #[must_use]
    pub fn tasks_max(&self) -> usize {
        0
    }
}
