//! What a connection does to the outside: one trait, implemented by the engine, and by a recorder in tests.

use std::fmt;

use stampede_wire::Bhs;

use crate::{LoginRequest, ManagementRequest, SessionInfo, TaskKey};

/// Everything a [`Connection`](crate::Connection) does to the outside. Calls happen only inside a call into the
/// connection and must not call back into it; the engine queues what it cannot do at once.
pub trait Output {
    /// Queues one PDU. The header is final (DataSegmentLength is set); the sink pads the data and, once
    /// [`Output::digests`] said so, adds digests. PDUs leave in the order of these calls: StatSN and the order
    /// "responses of tasks before the response of the TMF that ended them" depend on it.
    fn send(&mut self, header: &Bhs, data: OutData<'_>);

    /// A normal-session login reached its end and a decision is wanted; answered by
    /// [`Connection::admitted`](crate::Connection::admitted), at once or later. No timer of the connection runs
    /// meanwhile.
    fn admit(&mut self, request: LoginRequest);

    /// A SCSI command entered the task table (in `begin_pdu`): the memory granted with it now belongs to `task`,
    /// until `respond` or `forget`, or until `release`. A command that `begin_pdu` returns from without this call was
    /// not taken: its grant goes back. An engine that allocated nothing ignores it.
    fn accept(&mut self, task: TaskKey) {
        let _ = task;
    }

    /// The command has all its data, or needs none: run it. Answered by
    /// [`Connection::respond`](crate::Connection::respond), or by [`Connection::forget`](crate::Connection::forget)
    /// if the task was killed meanwhile.
    fn command(&mut self, task: TaskKey);

    /// A task management function, or a drain, to execute; answered by
    /// [`Connection::managed`](crate::Connection::managed) when the I/O of every task it killed is over.
    fn manage(&mut self, request: ManagementRequest);

    /// The task is gone without having run (aborted or failed while its data was collected, or the session
    /// ended): free its buffers. The key is dead; no `forget` is wanted. It may come while a payload is arriving for
    /// the task: the rest of that payload is then dropped.
    fn release(&mut self, task: TaskKey);

    /// The digests in force for PDUs sent after this call and for the next PDU received (RFC 7143 7.4.2: from the
    /// full-feature phase on). Called right after the final Login Response was sent.
    fn digests(&mut self, header: bool, data: bool);

    /// Login is done, of a normal or a discovery session: the full-feature phase begins.
    fn full_feature(&mut self, session: &SessionInfo);

    /// Send what is queued, then close the TCP connection. The connection wants no more PDUs;
    /// [`Connection::disconnect`](crate::Connection::disconnect) is still the engine's to call.
    fn close(&mut self, how: Close);
}

/// The data segment of a PDU to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutData<'a> {
    /// No data segment.
    None,
    /// These bytes, valid during the call only: the sink copies them.
    Bytes(&'a [u8]),
    /// Bytes `offset .. offset + len` of the read payload that the engine holds for `task`. The key may be dead
    /// when the call that sent it returns; the sink keeps its own hold on the payload.
    Task {
        /// The task whose payload is meant.
        task: TaskKey,
        /// First byte, from the start of the payload.
        offset: u32,
        /// Bytes; never 0.
        len: u32,
    },
}

impl OutData<'_> {
    /// Length in bytes, without padding: what DataSegmentLength says.
    #[must_use]
    pub fn len(&self) -> usize {
        match *self {
            Self::None => 0,
            Self::Bytes(bytes) => bytes.len(),
            Self::Task { len, .. } => len as usize,
        }
    }

    /// Whether there is no data.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a connection is closed in an orderly way (for the log and the counters).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Close {
    /// The initiator logged out; the Logout Response is queued.
    LoggedOut,
    /// The login was refused; the Login Response with this status is queued.
    LoginRefused(crate::LoginStatus),
    /// The login was redirected to another portal; the Login Response is queued.
    Redirected,
    /// We end the session and have said so; the Asynchronous Message is queued.
    Dropped,
    /// TARGET COLD RESET was executed and answered, and we end the session as [`Close::Dropped`]; every other session
    /// of the target is to be dropped too (RFC 7143 11.5.1).
    TargetReset,
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoggedOut => f.write_str("the initiator logged out"),
            Self::LoginRefused(status) => write!(f, "login refused: {status}"),
            Self::Dropped => f.write_str("dropped, as the initiator was told"),
            Self::TargetReset => f.write_str("the initiator reset the target"),
            Self::Redirected => f.write_str("login redirected to another portal"),
        }
    }
}
