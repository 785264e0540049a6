//! The decision on a login: what the session layer asks, what it is answered, and what a session then is.

use std::{fmt, net::SocketAddr};

use stampede_wire::Isid;
pub use stampede_wire::pdu::LoginStatus;

use crate::{LoginStage, Redirection};

/// The engine's number of a connection, which is also that of its session (MaxConnections = 1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A normal-session login that reached its end: all keys are agreed, and only the final Login Response is missing.
///
/// Whoever decides also does session reinstatement (RFC 7143 6.3.5): with `tsih` 0, a live session of the same
/// initiator name, ISID and target is ended first. With another `tsih` the initiator means an existing session:
/// the same `cid` is connection reinstatement (RFC 7143 6.3.4: end the old connection, then allow with that TSIH),
/// another `cid` is [`LoginStatus::TooManyConnections`], an unknown TSIH [`LoginStatus::SessionDoesNotExist`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoginRequest {
    /// The connection that asks.
    pub session: SessionId,
    /// InitiatorName, ASCII letters lowered.
    pub initiator: String,
    /// InitiatorAlias, if sent.
    pub alias: Option<String>,
    /// TargetName, ASCII letters lowered; the directory has it.
    pub target: String,
    /// The CHAP name that the initiator proved, if it had to prove one.
    pub user: Option<String>,
    /// The initiator's half of the session identifier.
    pub isid: Isid,
    /// The target's half: 0 asks for a new session.
    pub tsih: u16,
    /// Connection identifier.
    pub cid: u16,
    /// Firmware or operating system.
    pub stage: LoginStage,
    /// The row of the fingerprint table that told the stage; `"unknown"` if none did.
    pub fingerprint: &'static str,
    /// The initiator's address.
    pub peer: SocketAddr,
    /// The portal it came to.
    pub local: SocketAddr,
}

/// The answer to a [`LoginRequest`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Let it in.
    Allow {
        /// The session's TSIH, not 0.
        tsih: u16,
    },
    /// Refuse with this status.
    Refuse {
        /// Class 2 makes an initiator give up, class 3 makes it try again. Other classes count as 0300.
        status: LoginStatus,
    },
    /// Send it elsewhere (RFC 7143 11.13.5, class 1).
    Redirect(Redirection),
}

/// What a login that was refused had said of itself; nothing of it was proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim<'a> {
    /// InitiatorName; empty if it was not said.
    pub initiator: &'a str,
    /// TargetName of a normal session.
    pub target: Option<&'a str>,
    /// CHAP_N: the first 64 characters of anything without control characters.
    pub user: Option<&'a str>,
}

/// What kind of session it is (RFC 7143 13.21).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionKind {
    /// A session with a target.
    Normal,
    /// Text, NOP-Out and Logout only.
    Discovery,
}

/// A session in the full-feature phase.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionInfo {
    /// The engine's number of it.
    pub session: SessionId,
    /// Normal or discovery.
    pub kind: SessionKind,
    /// InitiatorName, ASCII letters lowered.
    pub initiator: String,
    /// InitiatorAlias, if sent.
    pub alias: Option<String>,
    /// TargetName, ASCII letters lowered; `None` in a discovery session.
    pub target: Option<String>,
    /// The CHAP name that the initiator proved, if it had to prove one.
    pub user: Option<String>,
    /// The initiator's half of the session identifier.
    pub isid: Isid,
    /// The target's half.
    pub tsih: u16,
    /// Connection identifier.
    pub cid: u16,
    /// Firmware or operating system.
    pub stage: LoginStage,
    /// The row of the fingerprint table that told the stage.
    pub fingerprint: &'static str,
    /// The initiator's address.
    pub peer: SocketAddr,
    /// The portal it came to.
    pub local: SocketAddr,
    /// What was agreed.
    pub parameters: Parameters,
}

/// The operational parameters in force (RFC 7143 13); the defaults are those of the RFC.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parameters {
    /// HeaderDigest is CRC32C (13.1).
    pub header_digest: bool,
    /// DataDigest is CRC32C (13.1).
    pub data_digest: bool,
    /// InitialR2T (13.10): no unsolicited Data-Out.
    pub initial_r2t: bool,
    /// ImmediateData (13.11).
    pub immediate_data: bool,
    /// The initiator's MaxRecvDataSegmentLength, bytes (13.12): bounds what we send.
    pub initiator_recv_data_segment: u32,
    /// Our MaxRecvDataSegmentLength, bytes: bounds what we are sent.
    pub target_recv_data_segment: u32,
    /// MaxBurstLength, bytes (13.13).
    pub max_burst: u32,
    /// FirstBurstLength, bytes (13.14).
    pub first_burst: u32,
    /// DefaultTime2Wait, seconds (13.15).
    pub time2wait: u16,
    /// DefaultTime2Retain, seconds (13.16).
    pub time2retain: u16,
    /// MaxOutstandingR2T (13.17).
    pub max_outstanding_r2t: u16,
    /// TaskReporting is FastAbort (13.23): functions over several tasks do not wait for data that is on its way.
    pub fast_abort: bool,
    /// iSCSIProtocolLevel (13.24): 1 is RFC 7143, 2 is RFC 7144 too.
    pub protocol_level: u8,
}

impl Parameters {
    /// Whether the features of RFC 7144 were agreed on.
    #[must_use]
    #[inline]
    pub const fn has_rfc_7144(&self) -> bool {
        self.protocol_level >= 2
    }
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            initial_r2t: true,
            immediate_data: true,
            initiator_recv_data_segment: 8192,
            target_recv_data_segment: 8192,
            max_burst: 262_144,
            first_burst: 65_536,
            time2wait: 2,
            time2retain: 20,
            max_outstanding_r2t: 1,
            fast_abort: false,
            protocol_level: 1,
        }
    }
}

/// What an initiator is told without having asked (RFC 7143 11.9.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Announcement {
    /// AsyncEvent 1: it is to log out within so many seconds. When it does not,
    /// [`Connection::tick`](crate::Connection::tick) says so.
    Logout {
        /// Parameter3, seconds.
        seconds: u16,
    },
    /// AsyncEvent 2: its connection is dropped, at once.
    DropConnection,
    /// AsyncEvent 3: its session is dropped, at once.
    DropSession,
    /// AsyncEvent 4: it is to begin a text negotiation within so many seconds; as for the logout.
    Renegotiate {
        /// Parameter3, seconds.
        seconds: u16,
    },
}
