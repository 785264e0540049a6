//! NOP-Out and NOP-In (RFC 7143 11.18, 11.19): pings both ways, and a carrier for SN updates.

use super::{FINAL, InitiatorSns, TargetSns, immediate, initiator_sns, pdu, target_sns};
use crate::{
    Lun, RESERVED_TAG, Sn,
    field::{SnField, accessors},
    opcode,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, big_endian::U32};

/// NOP-Out (RFC 7143 11.18). The data segment is ping data.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct NopOut {
    opcode: u8,
    flags: u8,
    reserved_2: [u8; 2],
    total_ahs_length: u8,
    data_segment_length: [u8; 3],
    /// As in the NOP-In this one answers.
    lun: Lun,
    /// 11.18.1.
    initiator_task_tag: U32,
    /// 11.18.2.
    target_transfer_tag: U32,
    cmd_sn: SnField,
    exp_stat_sn: SnField,
    reserved_32: [u8; 16],
}
pdu!(NopOut);

impl NopOut {
    fn new(tag: u32, target_transfer_tag: u32, sns: InitiatorSns) -> Self {
        let mut pdu = Self::blank();
        pdu.flags = FINAL;
        pdu.initiator_task_tag = tag.into();
        pdu.target_transfer_tag = target_transfer_tag.into();
        pdu.set_sns(sns);
        pdu
    }

    /// A ping, to be answered by a NOP-In with this tag and the same data. Immediate only if made so.
    ///
    /// # Panics
    /// When `tag` is [`RESERVED_TAG`]: the sender's own mistake (11.18.1).
    #[must_use]
    pub fn ping(tag: u32, sns: InitiatorSns) -> Self {
        assert!(tag != RESERVED_TAG, "a ping carries a tag");
        Self::new(tag, RESERVED_TAG, sns)
    }

    /// The answer to the target's ping with `target_transfer_tag` and `lun`: immediate, without a tag of its own.
    #[must_use]
    pub fn reply(target_transfer_tag: u32, lun: Lun, sns: InitiatorSns) -> Self {
        let mut pdu = Self::new(RESERVED_TAG, target_transfer_tag, sns);
        pdu.opcode |= opcode::IMMEDIATE;
        pdu.lun = lun;
        pdu
    }

    /// No ping and no answer: tells the target ExpStatSN. Immediate.
    #[must_use]
    pub fn notify(sns: InitiatorSns) -> Self {
        Self::reply(RESERVED_TAG, Lun::ZERO, sns)
    }

    /// Whether the sender waits for a NOP-In (11.18.1).
    #[must_use]
    pub fn wants_reply(&self) -> bool {
        self.initiator_task_tag() != RESERVED_TAG
    }

    accessors! {
        /// The answered NOP-In's LUN.
        lun: Lun;
        /// The ping's tag, or [`RESERVED_TAG`] (11.18.1).
        initiator_task_tag: u32;
        /// The answered NOP-In's tag, or [`RESERVED_TAG`] (11.18.2).
        target_transfer_tag: u32;
        /// CmdSN.
        cmd_sn: Sn;
        /// ExpStatSN.
        exp_stat_sn: Sn;
    }

    immediate!();
    initiator_sns!();
}

/// NOP-In (RFC 7143 11.19). The data segment is ping data.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct NopIn {
    opcode: u8,
    flags: u8,
    reserved_2: [u8; 2],
    total_ahs_length: u8,
    data_segment_length: [u8; 3],
    /// 11.19.3.
    lun: Lun,
    initiator_task_tag: U32,
    /// 11.19.1.
    target_transfer_tag: U32,
    /// 11.19.2.
    stat_sn: SnField,
    exp_cmd_sn: SnField,
    max_cmd_sn: SnField,
    reserved_36: [u8; 12],
}
pdu!(NopIn);

impl NopIn {
    fn new(tag: u32, target_transfer_tag: u32, sns: TargetSns) -> Self {
        let mut pdu = Self::blank();
        pdu.flags = FINAL;
        pdu.initiator_task_tag = tag.into();
        pdu.target_transfer_tag = target_transfer_tag.into();
        pdu.set_sns(sns);
        pdu
    }

    /// The answer to the initiator's ping `tag`; uses up StatSN. Its data is the ping's, as far as the
    /// initiator's MaxRecvDataSegmentLength allows (11.18.3).
    #[must_use]
    pub fn reply(tag: u32, sns: TargetSns) -> Self {
        Self::new(tag, RESERVED_TAG, sns)
    }

    /// A ping, to be answered by a NOP-Out with this tag and LUN. Carries the next StatSN, does not use it up
    /// (11.19.2).
    ///
    /// # Panics
    /// When `target_transfer_tag` is [`RESERVED_TAG`]: the sender's own mistake (11.19.1).
    #[must_use]
    pub fn ping(target_transfer_tag: u32, lun: Lun, sns: TargetSns) -> Self {
        assert!(target_transfer_tag != RESERVED_TAG, "a ping carries a tag");
        let mut pdu = Self::new(RESERVED_TAG, target_transfer_tag, sns);
        pdu.lun = lun;
        pdu
    }

    /// No ping and no answer: tells the initiator ExpCmdSN and MaxCmdSN, such as a window that opened again.
    /// Carries the next StatSN, does not use it up (11.19.2).
    #[must_use]
    pub fn notify(sns: TargetSns) -> Self {
        Self::new(RESERVED_TAG, RESERVED_TAG, sns)
    }

    /// Whether the sender waits for a NOP-Out (11.19.1).
    #[must_use]
    pub fn wants_reply(&self) -> bool {
        self.target_transfer_tag() != RESERVED_TAG
    }

    accessors! {
        /// To be copied into the answer (11.19.3).
        lun: Lun;
        /// The answered ping's tag, or [`RESERVED_TAG`].
        initiator_task_tag: u32;
        /// This ping's tag, or [`RESERVED_TAG`] (11.19.1).
        target_transfer_tag: u32;
        /// StatSN (11.19.2).
        stat_sn: Sn;
        /// ExpCmdSN.
        exp_cmd_sn: Sn;
        /// MaxCmdSN.
        max_cmd_sn: Sn;
    }

    target_sns!();
}
