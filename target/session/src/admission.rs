//! The decision on a login: what the session layer asks, what it is answered, and what a session then is.

use std::{fmt, net::SocketAddr};

use stampede_wire::Isid;

use crate::LoginStage;

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
        /// Class 2 makes an initiator give up, class 3 makes it try again.
        status: LoginStatus,
    },
    /// Send it elsewhere (RFC 7143 11.13.5, class 1).
    Redirect {
        /// TargetAddress without a portal group tag: `192.0.2.1:3260`, `[2001:db8::1]:3260` or a DNS name.
        address: String,
        /// Whether the move is permanent (0102) or temporary (0101).
        permanent: bool,
    },
}

/// Why a login is refused: Status-Class and Status-Detail of classes 2 and 3 (RFC 7143 11.13.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum LoginStatus {
    /// 0200: a miscellaneous iSCSI initiator error.
    InitiatorError = 0x0200,
    /// 0201: the initiator could not be authenticated.
    AuthenticationFailure = 0x0201,
    /// 0202: the initiator is not allowed access to the target.
    AuthorizationFailure = 0x0202,
    /// 0203: the target name does not exist here.
    NotFound = 0x0203,
    /// 0204: the target was removed and no forwarding address is known.
    TargetRemoved = 0x0204,
    /// 0205: the requested iSCSI version is not in the range we support.
    UnsupportedVersion = 0x0205,
    /// 0206: too many connections on this session.
    TooManyConnections = 0x0206,
    /// 0207: a parameter that is needed (InitiatorName, TargetName) is missing.
    MissingParameter = 0x0207,
    /// 0208: the session cannot span to this target portal group.
    CannotIncludeInSession = 0x0208,
    /// 0209: this session type is not supported.
    SessionTypeNotSupported = 0x0209,
    /// 020A: there is no session of this TSIH.
    SessionDoesNotExist = 0x020a,
    /// 020B: the request is invalid during login.
    InvalidDuringLogin = 0x020b,
    /// 0300: a hardware or software error of the target.
    TargetError = 0x0300,
    /// 0301: the service is not available now; try again.
    ServiceUnavailable = 0x0301,
    /// 0302: out of resources; try again.
    OutOfResources = 0x0302,
}

impl LoginStatus {
    /// Status-Class.
    #[must_use]
    pub const fn class(self) -> u8 {
        (self as u16 >> 8) as u8
    }

    /// Status-Detail.
    #[must_use]
    pub const fn detail(self) -> u8 {
        (self as u16 & 0xff) as u8
    }
}

impl fmt::Display for LoginStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::InitiatorError => "initiator error",
            Self::AuthenticationFailure => "authentication failure",
            Self::AuthorizationFailure => "not authorized",
            Self::NotFound => "no such target",
            Self::TargetRemoved => "target removed",
            Self::UnsupportedVersion => "unsupported version",
            Self::TooManyConnections => "too many connections",
            Self::MissingParameter => "missing parameter",
            Self::CannotIncludeInSession => "cannot include in session",
            Self::SessionTypeNotSupported => "session type not supported",
            Self::SessionDoesNotExist => "session does not exist",
            Self::InvalidDuringLogin => "invalid during login",
            Self::TargetError => "target error",
            Self::ServiceUnavailable => "service unavailable",
            Self::OutOfResources => "out of resources",
        };
        write!(f, "{text} ({:04x})", *self as u16)
    }
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
    /// TaskReporting offered FastAbort and we agreed (13.23).
    pub fast_abort: bool,
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
        }
    }
}
