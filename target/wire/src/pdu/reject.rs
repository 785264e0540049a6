//! Reject (RFC 7143 11.17): the target could not take a PDU.

use super::{FINAL, TargetSns, pdu, target_sns};
use crate::{
    BHS_LEN, RESERVED_TAG, Sn,
    field::{SnField, accessors},
};
use num_enum::{IntoPrimitive, TryFromPrimitive};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, big_endian::U32};

/// Why a PDU was rejected (RFC 7143 11.17.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, IntoPrimitive, TryFromPrimitive)]
#[repr(u8)]
pub enum RejectReason {
    /// Data (payload) digest error. The original PDU may be sent again.
    DataDigestError = 0x02,
    /// SNACK reject. The original PDU may be sent again.
    SnackReject = 0x03,
    /// Protocol error, such as a SNACK for a status already acknowledged.
    ProtocolError = 0x04,
    /// Command not supported.
    CommandNotSupported = 0x05,
    /// Immediate command reject: too many immediate commands. May be sent again.
    TooManyImmediateCommands = 0x06,
    /// Task in progress.
    TaskInProgress = 0x07,
    /// Invalid data acknowledgement.
    InvalidDataAck = 0x08,
    /// Invalid PDU field.
    InvalidPduField = 0x09,
    /// Long operation reject: no target transfer tag to be had. May be sent again.
    LongOperationReject = 0x0a,
    /// Negotiation reset; deprecated by RFC 7143.
    NegotiationReset = 0x0b,
    /// Waiting for logout.
    WaitingForLogout = 0x0c,
}

/// Reject (RFC 7143 11.17). The data segment is the header of the rejected PDU, without its digest (11.17.4).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct Reject {
    opcode: u8,
    flags: u8,
    /// 11.17.1.
    reason: u8,
    reserved_3: u8,
    total_ahs_length: u8,
    data_segment_length: [u8; 3],
    reserved_8: [u8; 8],
    /// Always the reserved tag.
    initiator_task_tag: U32,
    reserved_20: U32,
    /// 11.17.3.
    stat_sn: SnField,
    exp_cmd_sn: SnField,
    max_cmd_sn: SnField,
    /// 11.17.2.
    data_sn: U32,
    reserved_40: [u8; 8],
}
pdu!(Reject);

impl Reject {
    /// A rejection; the data segment to send with it is the rejected PDU's 48-byte header.
    #[must_use]
    pub fn new(reason: RejectReason, sns: TargetSns) -> Self {
        let mut pdu = Self::blank();
        pdu.flags = FINAL;
        pdu.reason = reason as u8;
        pdu.initiator_task_tag = RESERVED_TAG.into();
        pdu.set_sns(sns);
        super::Pdu::with_data_segment_len(pdu, BHS_LEN as u32)
    }

    /// Why.
    ///
    /// # Errors
    /// The code, when it is reserved.
    pub fn reason(&self) -> Result<RejectReason, u8> {
        RejectReason::try_from(self.reason).map_err(|error| error.number)
    }

    accessors! {
        /// Always [`RESERVED_TAG`]: the rejected PDU's tag is in the data segment.
        initiator_task_tag: u32;
        /// StatSN (11.17.3).
        stat_sn: Sn;
        /// ExpCmdSN.
        exp_cmd_sn: Sn;
        /// MaxCmdSN.
        max_cmd_sn: Sn;
        /// The next DataSN or R2TSN the target would send; with a rejected SNACK or Data ACK only (11.17.2).
        data_sn: u32, set_data_sn;
    }

    target_sns!();
}
