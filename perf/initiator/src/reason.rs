//! Why a session ended.

use stampede_ring::Errno;
use stampede_wire::frame::FrameError;
use stampede_wire::pdu::LoginStatus;

/// How a session ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// By the logout that the caller asked for.
    LoggedOut,
    /// The caller closed it without a logout.
    Closed,
    /// Otherwise.
    Lost(Reason),
}

/// What the target answered instead of letting us in (RFC 7143 11.13.5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoginRefused {
    /// Status-Class and Status-Detail.
    pub status: u16,
    /// The TargetAddress of a redirection.
    pub address: Option<String>,
}

impl LoginRefused {
    /// The status, if RFC 7143 defines it.
    #[must_use]
    pub fn known(&self) -> Option<LoginStatus> {
        LoginStatus::try_from(self.status).ok()
    }
}

impl std::fmt::Display for LoginRefused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.known() {
            Some(status) => write!(f, "{status}")?,
            None => write!(f, "{:04x}", self.status)?,
        }
        match &self.address {
            Some(address) => write!(f, ", go to {address}"),
            None => Ok(()),
        }
    }
}

/// Why a session was lost.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Reason {
    /// Connecting, or the connection later, failed.
    #[error("the connection failed: {0}")]
    Connection(Errno),
    /// The target closed the connection.
    #[error("the target closed the connection")]
    ClosedByTarget,
    /// The target did not answer the login in time.
    #[error("no answer to the login for {0} s")]
    LoginTimeout(u64),
    /// The target did not answer the logout in time.
    #[error("no answer to the logout for {0} s")]
    LogoutTimeout(u64),
    /// Commands wait and nothing comes.
    #[error("commands wait for an answer and the target is silent for {0} s")]
    Silent(u64),
    /// The login was refused.
    #[error("the login was refused with status {0}")]
    Refused(LoginRefused),
    /// The target wants a proof of identity.
    #[error("the target wants {0} authentication, which this initiator does not do")]
    Authentication(String),
    /// A digest that was demanded was not agreed.
    #[error("the target does not take {0}=CRC32C")]
    NoDigest(&'static str),
    /// The target answered a key with what it may not.
    #[error("the target's answer {key}={value} is not legal")]
    Negotiation {
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
    /// The stream of PDUs broke.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// A data digest is wrong.
    #[error("a data segment's digest is wrong")]
    DataDigest,
    /// The target rejected a PDU (RFC 7143 11.17).
    #[error("the target rejected a PDU for reason {0:#04x}")]
    Rejected(u8),
    /// The target broke the protocol.
    #[error("the target broke the protocol: {0}")]
    Protocol(&'static str),
    /// No memory for headers.
    #[error("no memory is left for what waits to be sent")]
    NoHeaders,
}
