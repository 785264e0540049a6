//! What an initiator tells its test.

use super::Tag;

/// Something that ended or happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The login succeeded.
    LoggedIn {
        /// The session's handle.
        tsih: u16,
        /// Every key that the target sent, in order.
        keys: Vec<(String, String)>,
    },
    /// The login was refused; the connection is closed. RFC 7143 11.13.5.
    LoginFailed {
        /// Status-Class: 1 redirection, 2 initiator error, 3 target error.
        class: u8,
        /// Status-Detail.
        detail: u8,
        /// Every key that the target sent, such as TargetAddress.
        keys: Vec<(String, String)>,
    },
    /// A command has its status.
    Done(Done),
    /// A command was ended by task management and will have no status.
    Aborted {
        /// The command.
        tag: Tag,
    },
    /// A task management function was answered. Commands that it ended were reported before.
    TaskManagement {
        /// The function's own tag.
        tag: Tag,
        /// The response of RFC 7143 11.6.1: 0 complete, 1 no such task, 2 no such LUN, 5 not supported...
        response: u8,
    },
    /// A NOP-Out was answered.
    Nop {
        /// Its tag.
        tag: Tag,
        /// The data that came back.
        data: Vec<u8>,
    },
    /// A text request was answered.
    Text {
        /// Its tag.
        tag: Tag,
        /// The keys that came.
        keys: Vec<(String, String)>,
    },
    /// A PDU was rejected. RFC 7143 11.17.1.
    Rejected {
        /// The reason.
        reason: u8,
        /// The command whose header came back, if it is one of ours: it will have no status from this.
        tag: Option<Tag>,
    },
    /// An asynchronous message came. RFC 7143 11.9.1.
    Async {
        /// AsyncEvent.
        event: u8,
    },
    /// The logout was answered; the connection is closed.
    LoggedOut {
        /// The response of RFC 7143 11.15.1; 0 is success.
        response: u8,
    },
    /// The connection ended.
    Disconnected {
        /// Commands whose outcome is unknown.
        outstanding: Vec<Tag>,
    },
}

/// A command's outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The command.
    pub tag: Tag,
    /// The iSCSI response: 0 is "command completed at target"; with others the status means nothing.
    pub response: u8,
    /// The SCSI status.
    pub status: u8,
    /// Sense data; empty without.
    pub sense: Vec<u8>,
    /// Data that came in, exactly as much as came.
    pub data: Vec<u8>,
    /// What was not transferred.
    pub residual: Residual,
}

impl Done {
    /// Whether the status is GOOD.
    pub fn is_good(&self) -> bool {
        self.response == 0 && self.status == 0
    }

    /// Sense key, additional sense code and qualifier, if there is sense data.
    pub fn sense_code(&self) -> Option<(u8, u8, u8)> {
        match self.sense.first()? & 0x7f {
            0x70 | 0x71 => Some((self.sense.get(2)? & 15, *self.sense.get(12)?, *self.sense.get(13)?)),
            0x72 | 0x73 => Some((self.sense.get(1)? & 15, *self.sense.get(2)?, *self.sense.get(3)?)),
            _ => None,
        }
    }
}

/// What the target says was not transferred, in bytes. RFC 7143 11.4.5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Residual {
    /// Everything was transferred.
    #[default]
    None,
    /// Fewer bytes than expected.
    Underflow(u32),
    /// More bytes would have been transferred.
    Overflow(u32),
}

/// What kind of rule the target broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ViolationKind {
    /// A PDU's lengths, opcode, reserved values or digests.
    Format,
    /// Stages, ISID, TSIH or status of a login response.
    Login,
    /// A key or value of a negotiation.
    Key,
    /// StatSN.
    StatSn,
    /// ExpCmdSN or MaxCmdSN.
    CmdWindow,
    /// A PDU for a task that does not exist (any more).
    UnknownTask,
    /// DataSN, R2TSN or ExpDataSN.
    DataSn,
    /// Offset or length of Data-In.
    DataIn,
    /// An R2T that asks for what it must not.
    R2t,
    /// Residual count, or how much was transferred.
    Residual,
    /// Status or sense.
    Status,
}

/// The target did something against the standard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?}: {detail}")]
pub struct Violation {
    /// Which rule.
    pub kind: ViolationKind,
    /// What was seen.
    pub detail: String,
}
