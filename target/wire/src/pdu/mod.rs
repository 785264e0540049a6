//! The PDUs of RFC 7143 section 11, one module per request and response pair.
//!
//! Every type here is exactly the 48 bytes of a basic header segment. `Bhs::view` turns received bytes into one,
//! `AsRef<[u8]>` turns one into bytes to send; neither copies. Fields that a peer wrote are returned as they
//! are: enumerations come back as `Result<Enum, u8>` where the standard leaves values free.

use crate::{Bhs, Opcode, Sn};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

mod any;
mod async_message;
mod data;
mod login;
mod logout;
mod nop;
mod r2t;
mod reject;
mod scsi;
mod snack;
mod task_management;
mod text;

pub use any::{Request, Response};
pub use async_message::{AsyncEvent, AsyncMessage};
pub use data::{DataFlags, DataIn, DataOut};
pub use login::{LoginRequest, LoginResponse, LoginStatus, LoginStep, Stage, VERSION};
pub use logout::{LogoutReason, LogoutRequest, LogoutResponse, LogoutResponseCode};
pub use nop::{NopIn, NopOut};
pub use r2t::ReadyToTransfer;
pub use reject::{Reject, RejectReason};
pub use scsi::{
    CommandFlags, Residual, ResponseCode, ResponseFlags, ScsiCommand, ScsiResponse, TaskAttribute, status,
};
pub use snack::{SnackKind, SnackRequest};
pub use task_management::{
    TaskManagementFunction, TaskManagementRequest, TaskManagementResponse, TaskManagementResponseCode,
};
pub use text::{TextRequest, TextResponse, TextStep};

/// The F bit of byte 1 (RFC 7143 11.2.1.3); T in login PDUs.
pub(crate) const FINAL: u8 = 0x80;
/// The C bit of byte 1 in text and login PDUs (11.10.2, 11.12.2).
pub(crate) const CONTINUE: u8 = 0x40;

/// A typed view of a basic header segment. Sealed: the layouts of this module implement it, nothing else can.
pub trait Pdu: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned + Copy + sealed::Sealed {
    /// The opcode these PDUs carry.
    const OPCODE: Opcode;

    /// `bhs` seen as this type, whatever its opcode.
    fn from_bhs(bhs: &Bhs) -> &Self;

    /// This PDU as an untyped header.
    fn bhs(&self) -> &Bhs;

    /// This PDU as an untyped header, to change what all PDUs share.
    fn bhs_mut(&mut self) -> &mut Bhs;

    /// DataSegmentLength (11.2.1.6), bytes without padding.
    #[inline]
    fn data_segment_len(&self) -> u32 {
        self.bhs().data_segment_len()
    }

    /// Sets DataSegmentLength (11.2.1.6), bytes without padding.
    ///
    /// # Panics
    /// When `len` does not fit in 24 bits; negotiated lengths always do.
    #[inline]
    fn set_data_segment_len(&mut self, len: u32) {
        self.bhs_mut().set_data_segment_len(len);
    }

    /// This PDU with DataSegmentLength set; see [`Pdu::set_data_segment_len`].
    #[must_use]
    #[inline]
    fn with_data_segment_len(mut self, len: u32) -> Self {
        self.set_data_segment_len(len);
        self
    }
}

mod sealed {
    pub trait Sealed {}
}

/// The numbers every request carries (RFC 7143 4.2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct InitiatorSns {
    /// CmdSN: this command's place in the session's order. An immediate command does not use it up.
    pub cmd_sn: Sn,
    /// ExpStatSN: the next StatSN the initiator waits for on this connection; acknowledges all before it.
    pub exp_stat_sn: Sn,
}

/// The numbers every response carries (RFC 7143 4.2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TargetSns {
    /// StatSN of this status, or the next one to be assigned where the PDU carries no status.
    pub stat_sn: Sn,
    /// ExpCmdSN: the next CmdSN the target waits for; acknowledges all before it.
    pub exp_cmd_sn: Sn,
    /// MaxCmdSN: the last CmdSN the target accepts; one before ExpCmdSN when the window is closed.
    pub max_cmd_sn: Sn,
}

/// Ties a layout to its opcode: size check, [`Pdu`], conversions, and `Debug` by the header's dump.
macro_rules! pdu {
    ($Name:ident) => {
        const _: () = assert!(size_of::<$Name>() == $crate::BHS_LEN);

        impl $crate::pdu::sealed::Sealed for $Name {}

        impl $crate::pdu::Pdu for $Name {
            const OPCODE: $crate::Opcode = $crate::Opcode::$Name;
            #[inline]
            fn from_bhs(bhs: &$crate::Bhs) -> &Self {
                zerocopy::transmute_ref!(bhs)
            }
            #[inline]
            fn bhs(&self) -> &$crate::Bhs {
                zerocopy::transmute_ref!(self)
            }
            #[inline]
            fn bhs_mut(&mut self) -> &mut $crate::Bhs {
                zerocopy::transmute_mut!(self)
            }
        }

        impl $Name {
            /// A header of this kind with every other byte 0.
            #[inline]
            fn blank() -> Self {
                let mut pdu: Self = zerocopy::FromZeros::new_zeroed();
                pdu.opcode = $crate::Opcode::$Name as u8;
                pdu
            }
        }

        impl From<$Name> for $crate::Bhs {
            #[inline]
            fn from(pdu: $Name) -> Self {
                *$crate::pdu::Pdu::bhs(&pdu)
            }
        }

        impl AsRef<[u8]> for $Name {
            #[inline]
            fn as_ref(&self) -> &[u8] {
                zerocopy::IntoBytes::as_bytes(self)
            }
        }

        impl core::fmt::Debug for $Name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Debug::fmt($crate::pdu::Pdu::bhs(self), f)
            }
        }
    };
}

/// The I bit of a request (RFC 7143 11.2.1.1).
macro_rules! immediate {
    () => {
        /// The I bit (11.2.1.1): deliver at once, ahead of the CmdSN order, without using up the CmdSN.
        #[must_use]
        #[inline]
        pub fn immediate(&self) -> bool {
            self.opcode & $crate::opcode::IMMEDIATE != 0
        }

        /// This request with its I bit set.
        #[must_use]
        #[inline]
        pub fn into_immediate(mut self) -> Self {
            self.opcode |= $crate::opcode::IMMEDIATE;
            self
        }
    };
}

/// `sns` and `set_sns` of a request with CmdSN and ExpStatSN.
macro_rules! initiator_sns {
    () => {
        /// CmdSN and ExpStatSN.
        #[must_use]
        #[inline]
        pub fn sns(&self) -> $crate::pdu::InitiatorSns {
            $crate::pdu::InitiatorSns { cmd_sn: self.cmd_sn(), exp_stat_sn: self.exp_stat_sn() }
        }

        /// Stamps CmdSN and ExpStatSN.
        #[inline]
        pub fn set_sns(&mut self, sns: $crate::pdu::InitiatorSns) {
            self.cmd_sn = $crate::field::Field::of(sns.cmd_sn);
            self.exp_stat_sn = $crate::field::Field::of(sns.exp_stat_sn);
        }
    };
}

/// `sns` and `set_sns` of a response with StatSN, ExpCmdSN and MaxCmdSN.
macro_rules! target_sns {
    () => {
        /// StatSN, ExpCmdSN and MaxCmdSN.
        #[must_use]
        #[inline]
        pub fn sns(&self) -> $crate::pdu::TargetSns {
            $crate::pdu::TargetSns {
                stat_sn: self.stat_sn(),
                exp_cmd_sn: self.exp_cmd_sn(),
                max_cmd_sn: self.max_cmd_sn(),
            }
        }

        /// Stamps StatSN, ExpCmdSN and MaxCmdSN: a sender that queues PDUs does so as each one leaves.
        #[inline]
        pub fn set_sns(&mut self, sns: $crate::pdu::TargetSns) {
            self.stat_sn = $crate::field::Field::of(sns.stat_sn);
            self.exp_cmd_sn = $crate::field::Field::of(sns.exp_cmd_sn);
            self.max_cmd_sn = $crate::field::Field::of(sns.max_cmd_sn);
        }
    };
}

pub(crate) use {immediate, initiator_sns, pdu, target_sns};

#[cfg(test)]
mod tests;
