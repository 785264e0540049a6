//! The peer's fault: what breaks a connection beyond repair at ErrorRecoveryLevel 0.

use std::fmt;

use stampede_wire::{Bhs, opcode};

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
    /// The initiator was asked to renegotiate and did not.
    RenegotiationTimeout,
    /// A PDU that is no Login Request came in the login phase.
    NotALogin,
    /// A PDU came while the answer to the login was being decided.
    Impatient,
    /// A Login Request came in the full-feature phase.
    LoginInFullFeature,
    /// A data segment is longer than was declared acceptable.
    SegmentTooLong,
    /// A CmdSN is missing: with one connection, nothing can bring it any more.
    CommandMissing,
    /// The payload of a request that used up a CmdSN was damaged: only a new session helps (RFC 7143 7.8).
    DigestError,
    /// A Data-Out names no transfer that is, or recently was, open.
    UnknownTransfer,
}

impl ViolationKind {
    /// What happened, as the middle of a sentence.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LoginTimeout => "the login took too long",
            Self::PingTimeout => "a ping was not answered",
            Self::LogoutTimeout => "the initiator was asked to log out and did not",
            Self::RenegotiationTimeout => "the initiator was asked to renegotiate and did not",
            Self::NotALogin => "a PDU other than a Login Request came before login",
            Self::Impatient => "a PDU came before the login was answered",
            Self::LoginInFullFeature => "a Login Request came after login",
            Self::SegmentTooLong => "a data segment is longer than was declared acceptable",
            Self::CommandMissing => "a command is missing: CmdSN skipped a number",
            Self::DigestError => "the data digest of a command is wrong",
            Self::UnknownTransfer => "a Data-Out belongs to no open transfer",
        }
    }
}

impl Violation {
    pub(crate) const fn new(kind: ViolationKind) -> Self {
        Self { kind, opcode: None }
    }

    /// At fault is the PDU with this header.
    pub(crate) const fn by(kind: ViolationKind, bhs: &Bhs) -> Self {
        Self { kind, opcode: Some(bhs.0[0] & opcode::MASK) }
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
