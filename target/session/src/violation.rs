//! The peer's fault: what breaks a connection beyond repair at ErrorRecoveryLevel 0.

use std::fmt;

/// The peer broke the protocol, or stayed silent too long: the connection is to be dropped. What was queued before
/// (a Reject, say) may still be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Violation {
    /// What went wrong.
    pub kind: ViolationKind,
    /// Opcode of the PDU at fault, if one was.
    pub opcode: Option<u8>,
}

/// The kinds of [`Violation`], for counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ViolationKind {
    /// The login phase lasted too long.
    LoginTimeout,
    /// A ping stayed unanswered by an initiator that has answered before.
    PingTimeout,
    /// The initiator was asked to log out and did not.
    LogoutTimeout,
    /// A PDU that is no Login Request came in the login phase.
    NotALogin,
    /// A PDU came after the connection was closed.
    AfterClose,
}

impl ViolationKind {
    /// What happened, as the middle of a sentence.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LoginTimeout => "the login took too long",
            Self::PingTimeout => "a ping was not answered",
            Self::LogoutTimeout => "the initiator was asked to log out and did not",
            Self::NotALogin => "a PDU other than a Login Request came before login",
            Self::AfterClose => "a PDU came after the connection was closed",
        }
    }
}

impl Violation {
    pub(crate) const fn new(kind: ViolationKind) -> Self {
        Self { kind, opcode: None }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        match self.opcode {
            Some(opcode) => write!(f, " (opcode {opcode:#04x})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Violation {}
