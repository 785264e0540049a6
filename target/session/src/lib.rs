//! The session layer of an iSCSI target (RFC 7143), sans-IO: PDUs and the time go in, PDUs to send and tasks to run
//! come out through [`Output`]. It names no socket, no memory pool and no clock.
//!
//! MaxConnections is 1 and ErrorRecoveryLevel 0 by design, so one [`Connection`] is one session.
//!
//! ```text
//!            begin_pdu(header) ─► Disposition: where the payload goes
//!   PDUs in ─┤                                                        ┌─ send      PDUs out, in order
//!            end_pdu(payload)  ─► acts ───────────────────────────────┤─ admit     a login wants a decision
//!                                                                     ├─ command   a task has its data: run it
//!   answers: admitted, respond, forget, managed ──► acts ─────────────┤─ manage    kill tasks, or drain
//!   time:    tick ────────────────────────────────► acts ─────────────┴─ release, digests, full_feature, close
//!
//!   Login ──admit──► Deciding ──admitted(Allow)──► FullFeature ──Logout──► LoggingOut ──► Closed
//! ```
//!
//! How the engine drives a connection:
//! 1. For each PDU header, [`Connection::begin_pdu`]; the payload, if there is one, goes where the [`Disposition`] says;
//!    after its last byte [`Connection::end_pdu`]. A [`Violation`] from either: queued PDUs may still be sent, then drop it.
//! 2. For a SCSI Command the engine decodes the CDB first and grants memory for its write data ([`DataGrant`]).
//! 3. [`Output::command`] hands a task over; [`Connection::respond`] ends it.
//! 4. When the TCP connection is gone or dropped, [`Connection::disconnect`]; each task still with the engine is
//!    [forgotten](Connection::forget) when its I/O is over; when [`Connection::tasks_len`] is 0 the connection may go.

#![forbid(unsafe_code)]

mod admission;
mod connection;
mod full_feature;
mod login;
mod management;
mod output;
mod settings;
mod stage;
mod table;
mod task;
mod violation;

pub use admission::{
    Admission, Announcement, Claim, LoginRequest, LoginStatus, Parameters, SessionId, SessionInfo,
    SessionKind,
};
pub use connection::{Connection, DataGrant, Disposition, Phase};
pub use full_feature::short_cdb;
pub use login::chap::{
    CHAP_NAME_MAX, ChapAlgorithm, ChapPolicy, ChapPolicyError, ChapResponse, ChapSelf, ChapUser, Entropy,
    NoEntropy, SECRET_MAX, SECRET_MIN, Secret, SecretError, is_chap_name,
};
pub use management::{ManagementId, ManagementRequest, ManagementResponse};
pub use output::{Close, OutData, Output};
pub use settings::{Applicant, Authentication, DigestPolicy, Directory, Redirection, Settings};
pub use stage::LoginStage;
pub use task::{CommandResult, Task, TaskAttribute, TaskKey, Transfer};
pub use violation::{Violation, ViolationKind};
