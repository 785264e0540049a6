//! SCSI Data-Out and SCSI Data-In (RFC 7143 11.7).

use super::{FINAL, Residual, TargetSns, pdu, target_sns};
use crate::{
    Lun, RESERVED_TAG, Sn,
    field::{Field, SnField, accessors},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, big_endian::U32};

bitflags::bitflags! {
    /// Byte 1 of Data-In; Data-Out has F alone (RFC 7143 11.7.1 to 11.7.3).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct DataFlags: u8 {
        /// F: the last PDU of a sequence (11.7.1).
        const FINAL = 0x80;
        /// A: the initiator is to acknowledge the data; ErrorRecoveryLevel 1 and up (11.7.2).
        const ACKNOWLEDGE = 0x40;
        /// O: residual overflow, with S only.
        const OVERFLOW = 0x04;
        /// U: residual underflow, with S only.
        const UNDERFLOW = 0x02;
        /// S: this PDU also carries the command's status (11.7.3).
        const STATUS = 0x01;
    }
}

/// SCSI Data-Out: write data, solicited by an R2T or not (RFC 7143 11.7).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct DataOut {
    opcode: u8,
    /// 11.7.1.
    flags: u8,
    reserved_2: [u8; 2],
    total_ahs_length: u8,
    data_segment_length: [u8; 3],
    /// 11.7.4: as in the R2T, reserved in unsolicited data.
    lun: Lun,
    initiator_task_tag: U32,
    /// 11.7.4.
    target_transfer_tag: U32,
    reserved_24: U32,
    exp_stat_sn: SnField,
    reserved_32: U32,
    /// 11.7.5.
    data_sn: U32,
    /// 11.7.6.
    buffer_offset: U32,
    reserved_44: U32,
}
pdu!(DataOut);

impl DataOut {
    /// Data that answers the R2T with `target_transfer_tag` and `lun`.
    #[must_use]
    pub fn solicited(tag: u32, lun: Lun, target_transfer_tag: u32, exp_stat_sn: Sn) -> Self {
        let mut pdu = Self::blank();
        pdu.lun = lun;
        pdu.initiator_task_tag = tag.into();
        pdu.target_transfer_tag = target_transfer_tag.into();
        pdu.exp_stat_sn = Field::of(exp_stat_sn);
        pdu
    }

    /// Data sent before any R2T; `lun` is the command's.
    #[must_use]
    pub fn unsolicited(tag: u32, lun: Lun, exp_stat_sn: Sn) -> Self {
        Self::solicited(tag, lun, RESERVED_TAG, exp_stat_sn)
    }

    /// Places this PDU in its sequence: the `data_sn`th PDU of it (from 0), `buffer_offset` bytes into the
    /// command's data, and whether it is the last one.
    #[must_use]
    pub fn at(mut self, data_sn: u32, buffer_offset: u32, last: bool) -> Self {
        self.data_sn = data_sn.into();
        self.buffer_offset = buffer_offset.into();
        self.flags = if last { FINAL } else { 0 };
        self
    }

    /// F: this PDU ends its sequence.
    #[must_use]
    #[inline]
    pub fn is_final(&self) -> bool {
        self.flags & FINAL != 0
    }

    /// Whether no R2T asked for this data (11.7.4).
    #[must_use]
    #[inline]
    pub fn is_unsolicited(&self) -> bool {
        self.target_transfer_tag() == RESERVED_TAG
    }

    accessors! {
        /// The R2T's LUN; reserved in unsolicited data.
        lun: Lun;
        /// The task.
        initiator_task_tag: u32;
        /// The R2T's tag, or [`RESERVED_TAG`].
        target_transfer_tag: u32;
        /// The next status number the initiator waits for.
        exp_stat_sn: Sn;
        /// Place in the sequence, from 0 for each R2T and for the unsolicited sequence (11.7.5).
        data_sn: u32;
        /// Bytes from the start of the command's data (11.7.6).
        buffer_offset: u32;
    }
}

/// SCSI Data-In: read data, and on the last PDU perhaps the status (RFC 7143 11.7).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct DataIn {
    opcode: u8,
    /// 11.7.1 to 11.7.3.
    flags: u8,
    reserved_2: u8,
    /// 11.7.3, with S only.
    status: u8,
    total_ahs_length: u8,
    data_segment_length: [u8; 3],
    /// 11.7.4, with A only.
    lun: Lun,
    initiator_task_tag: U32,
    /// 11.7.4, with A only.
    target_transfer_tag: U32,
    /// 11.4.9, with S only.
    stat_sn: SnField,
    exp_cmd_sn: SnField,
    max_cmd_sn: SnField,
    /// 11.7.5.
    data_sn: U32,
    /// 11.7.6.
    buffer_offset: U32,
    /// 11.4.5, with S only.
    residual_count: U32,
}
pdu!(DataIn);

impl DataIn {
    /// The `data_sn`th PDU (from 0) of task `tag`'s data, `buffer_offset` bytes into it. `last` ends a sequence
    /// (11.7.1: at MaxBurstLength and at the end of the data). StatSN in `sns` is not sent without status.
    #[must_use]
    #[inline]
    pub fn new(tag: u32, data_sn: u32, buffer_offset: u32, last: bool, sns: TargetSns) -> Self {
        let mut pdu = Self::blank();
        pdu.flags = if last { FINAL } else { 0 };
        pdu.initiator_task_tag = tag.into();
        pdu.target_transfer_tag = RESERVED_TAG.into();
        pdu.data_sn = data_sn.into();
        pdu.buffer_offset = buffer_offset.into();
        pdu.set_sns(TargetSns { stat_sn: Sn(0), ..sns });
        pdu
    }

    /// This PDU as the last one of its command, carrying its status ("phase collapse", 11.7.3): sets F and S.
    /// Only for a status without sense data.
    #[must_use]
    #[inline]
    pub fn with_status(mut self, status: u8, residual: Residual, stat_sn: Sn) -> Self {
        let (residual_flag, residual_count) = residual.encode();
        self.flags |= FINAL | DataFlags::STATUS.bits() | residual_flag;
        self.status = status;
        self.residual_count = residual_count.into();
        self.stat_sn = Field::of(stat_sn);
        self
    }

    /// This PDU asking for a DataACK SNACK with this tag and LUN (11.7.2, ErrorRecoveryLevel 1 and up).
    #[must_use]
    pub fn with_acknowledge(mut self, target_transfer_tag: u32, lun: Lun) -> Self {
        self.flags |= DataFlags::ACKNOWLEDGE.bits();
        self.target_transfer_tag = target_transfer_tag.into();
        self.lun = lun;
        self
    }

    /// The flags of byte 1.
    #[must_use]
    #[inline]
    pub fn flags(&self) -> DataFlags {
        DataFlags::from_bits_truncate(self.flags)
    }

    /// The command's SCSI status, if this PDU carries it.
    #[must_use]
    #[inline]
    pub fn status(&self) -> Option<u8> {
        self.flags().contains(DataFlags::STATUS).then_some(self.status)
    }

    /// How the transfer differs from what was expected; counts with a status only.
    #[must_use]
    #[inline]
    pub fn residual(&self) -> Residual {
        Residual::decode(self.flags, self.residual_count.get())
    }

    accessors! {
        /// With A: the LUN to put into the DataACK.
        lun: Lun;
        /// The task.
        initiator_task_tag: u32;
        /// With A: the tag to put into the DataACK.
        target_transfer_tag: u32;
        /// StatSN; counts with a status only.
        stat_sn: Sn;
        /// ExpCmdSN.
        exp_cmd_sn: Sn;
        /// MaxCmdSN.
        max_cmd_sn: Sn;
        /// Place among the command's Data-In PDUs, from 0 (11.7.5).
        data_sn: u32;
        /// Bytes from the start of the command's data (11.7.6).
        buffer_offset: u32;
    }

    target_sns!();
}
