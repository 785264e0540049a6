//! SCSI Command and SCSI Response (RFC 7143 11.3, 11.4; RFC 7144 for PRI and the status qualifier).

use super::{FINAL, InitiatorSns, TargetSns, immediate, initiator_sns, pdu, target_sns};
use crate::{
    Lun,
    field::{SnField, accessors},
};
use num_enum::{IntoPrimitive, TryFromPrimitive};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, big_endian::U16, big_endian::U32};

bitflags::bitflags! {
    /// Byte 1 of a SCSI Command without the task attribute (RFC 7143 11.3.1).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct CommandFlags: u8 {
        /// F: no unsolicited Data-Out PDU follows this command.
        const FINAL = 0x80;
        /// R: the command is expected to read data.
        const READ = 0x40;
        /// W: the command is expected to write data.
        const WRITE = 0x20;
    }
}

bitflags::bitflags! {
    /// Byte 1 of a SCSI Response (RFC 7143 11.4.1).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct ResponseFlags: u8 {
        /// Always set.
        const FINAL = 0x80;
        /// o: residual overflow of the read part of a bidirectional command.
        const BIDI_OVERFLOW = 0x10;
        /// u: residual underflow of the read part of a bidirectional command.
        const BIDI_UNDERFLOW = 0x08;
        /// O: the residual count is what did not fit into the expected length.
        const OVERFLOW = 0x04;
        /// U: the residual count is what was not transferred of the expected length.
        const UNDERFLOW = 0x02;
    }
}

/// ATTR, the task attribute (RFC 7143 11.3.1, SAM-5 8.9).
#[derive(Clone, Copy, PartialEq, Eq, Debug, IntoPrimitive, TryFromPrimitive)]
#[repr(u8)]
pub enum TaskAttribute {
    /// Untagged: handled as simple.
    Untagged = 0,
    /// Simple.
    Simple = 1,
    /// Ordered.
    Ordered = 2,
    /// Head of queue.
    HeadOfQueue = 3,
    /// ACA.
    Aca = 4,
}

/// The Response byte of a SCSI Response (RFC 7143 11.4.3). 80h to FFh are vendor specific.
#[derive(Clone, Copy, PartialEq, Eq, Debug, IntoPrimitive, TryFromPrimitive)]
#[repr(u8)]
pub enum ResponseCode {
    /// The command completed at the target: the status byte counts.
    CompletedAtTarget = 0x00,
    /// The target failed: there is no status.
    TargetFailure = 0x01,
}

/// SCSI status codes (SAM-5 5.3.1) that the transport itself tells apart.
pub mod status {
    /// GOOD.
    pub const GOOD: u8 = 0x00;
    /// CHECK CONDITION: sense data follows in the data segment.
    pub const CHECK_CONDITION: u8 = 0x02;
    /// CONDITION MET.
    pub const CONDITION_MET: u8 = 0x04;
    /// BUSY.
    pub const BUSY: u8 = 0x08;
    /// RESERVATION CONFLICT.
    pub const RESERVATION_CONFLICT: u8 = 0x18;
    /// TASK SET FULL.
    pub const TASK_SET_FULL: u8 = 0x28;
    /// ACA ACTIVE.
    pub const ACA_ACTIVE: u8 = 0x30;
    /// TASK ABORTED.
    pub const TASK_ABORTED: u8 = 0x40;
}

/// How a transfer's length differs from the Expected Data Transfer Length, bytes (RFC 7143 11.4.5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Residual {
    /// As long as expected.
    #[default]
    None,
    /// So many expected bytes were not transferred.
    Underflow(u32),
    /// So many bytes there were beyond what was expected; they were not transferred.
    Overflow(u32),
}

impl Residual {
    /// The residual of a command that expected `expected` bytes and had `actual` to transfer. An overflow of
    /// 4 GiB and more is told as 2^32-1.
    #[must_use]
    #[inline]
    pub fn of(expected: u32, actual: u64) -> Self {
        match actual.checked_sub(u64::from(expected)) {
            Some(0) => Self::None,
            Some(more) => Self::Overflow(u32::try_from(more).unwrap_or(u32::MAX)),
            // `actual` < `expected`, so it fits 32 bits.
            None => Self::Underflow(expected.saturating_sub(u32::try_from(actual).unwrap_or(expected))),
        }
    }

    /// The O or U bit (the same places in SCSI Response and Data-In) and the count.
    #[inline]
    pub(super) const fn encode(self) -> (u8, u32) {
        match self {
            Self::None => (0, 0),
            Self::Underflow(count) => (ResponseFlags::UNDERFLOW.bits(), count),
            Self::Overflow(count) => (ResponseFlags::OVERFLOW.bits(), count),
        }
    }

    /// The residual that `flags` and `count` say; both bits set is an error of the sender, told as overflow.
    pub(super) const fn decode(flags: u8, count: u32) -> Self {
        if flags & ResponseFlags::OVERFLOW.bits() != 0 {
            Self::Overflow(count)
        } else if flags & ResponseFlags::UNDERFLOW.bits() != 0 {
            Self::Underflow(count)
        } else {
            Self::None
        }
    }
}

/// SCSI Command (RFC 7143 11.3). The data segment holds immediate data.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct ScsiCommand {
    opcode: u8,
    /// 11.3.1: F, R, W, ATTR.
    flags: u8,
    /// RFC 7144 5.1: PRI in the high four bits.
    priority: u8,
    reserved: u8,
    total_ahs_length: u8,
    data_segment_length: [u8; 3],
    lun: Lun,
    initiator_task_tag: U32,
    /// 11.3.4.
    expected_data_transfer_length: U32,
    /// 11.3.2.
    cmd_sn: SnField,
    /// 11.3.3.
    exp_stat_sn: SnField,
    /// 11.3.5.
    cdb: [u8; 16],
}
pdu!(ScsiCommand);

impl ScsiCommand {
    const ATTRIBUTE: u8 = 0x07;

    /// A command that transfers nothing; [`Self::reading`] and [`Self::writing`] make it transfer.
    #[must_use]
    pub fn new(tag: u32, lun: Lun, attribute: TaskAttribute, cdb: &[u8; 16], sns: InitiatorSns) -> Self {
        let mut pdu = Self::blank();
        pdu.flags = FINAL | attribute as u8;
        pdu.lun = lun;
        pdu.initiator_task_tag = tag.into();
        pdu.cdb = *cdb;
        pdu.set_sns(sns);
        pdu
    }

    /// This command, expecting to read `len` bytes.
    #[must_use]
    pub fn reading(mut self, len: u32) -> Self {
        self.flags = self.flags & !CommandFlags::WRITE.bits() | CommandFlags::READ.bits();
        self.expected_data_transfer_length = len.into();
        self
    }

    /// This command, expecting to write `len` bytes. `unsolicited_follows` clears F: Data-Out PDUs come without
    /// an R2T (11.3.1; only with InitialR2T=No and beyond the immediate data).
    #[must_use]
    pub fn writing(mut self, len: u32, unsolicited_follows: bool) -> Self {
        let attribute = self.flags & Self::ATTRIBUTE;
        self.flags = attribute | CommandFlags::WRITE.bits() | if unsolicited_follows { 0 } else { FINAL };
        self.expected_data_transfer_length = len.into();
        self
    }

    /// F, R and W.
    #[must_use]
    #[inline]
    pub fn flags(&self) -> CommandFlags {
        CommandFlags::from_bits_truncate(self.flags)
    }

    /// The task attribute.
    ///
    /// # Errors
    /// The three bits, when they are one of the reserved values 5 to 7.
    #[inline]
    pub fn attribute(&self) -> Result<TaskAttribute, u8> {
        TaskAttribute::try_from(self.flags & Self::ATTRIBUTE).map_err(|error| error.number)
    }

    /// PRI, the command priority, 0 to 15 (RFC 7144 5.1; defined at iSCSIProtocolLevel 2).
    #[must_use]
    #[inline]
    pub fn priority(&self) -> u8 {
        self.priority >> 4
    }

    accessors! {
        /// The logical unit.
        lun: Lun;
        /// The tag that names this task until it ends (11.2.1.8).
        initiator_task_tag: u32;
        /// Bytes the initiator expects to transfer: to the target when W is set, else from it (11.3.4).
        expected_data_transfer_length: u32;
        /// The command's number (11.3.2).
        cmd_sn: crate::Sn;
        /// The next status number the initiator waits for (11.3.3).
        exp_stat_sn: crate::Sn;
    }

    /// Puts another command descriptor block in its place: the short form of a long one.
    pub fn set_cdb(&mut self, cdb: &[u8; 16]) {
        self.cdb = *cdb;
    }

    /// The command descriptor block, or its first 16 bytes when an extended CDB header segment follows (11.3.5).
    #[must_use]
    #[inline]
    pub fn cdb(&self) -> &[u8; 16] {
        &self.cdb
    }

    immediate!();
    initiator_sns!();
}

/// SCSI Response (RFC 7143 11.4). With sense, the data segment is SenseLength (two bytes) and the sense data.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct ScsiResponse {
    opcode: u8,
    /// 11.4.1.
    flags: u8,
    /// 11.4.3.
    response: u8,
    /// 11.4.2.
    status: u8,
    total_ahs_length: u8,
    data_segment_length: [u8; 3],
    /// RFC 7144 5.2.
    status_qualifier: U16,
    reserved: [u8; 6],
    initiator_task_tag: U32,
    /// 11.4.4.
    snack_tag: U32,
    /// 11.4.9.
    stat_sn: SnField,
    /// 11.4.10.
    exp_cmd_sn: SnField,
    /// 11.4.11.
    max_cmd_sn: SnField,
    /// 11.4.8.
    exp_data_sn: U32,
    /// 11.4.6.
    bidi_read_residual_count: U32,
    /// 11.4.5.
    residual_count: U32,
}
pdu!(ScsiResponse);

impl ScsiResponse {
    /// The answer to task `tag`: it completed with SCSI status `status`.
    #[must_use]
    #[inline]
    pub fn new(tag: u32, status: u8, residual: Residual, sns: TargetSns) -> Self {
        let (residual_flag, residual_count) = residual.encode();
        let mut pdu = Self::blank();
        pdu.flags = FINAL | residual_flag;
        pdu.status = status;
        pdu.initiator_task_tag = tag.into();
        pdu.residual_count = residual_count.into();
        pdu.set_sns(sns);
        pdu
    }

    /// The answer to task `tag`: the target failed, there is no SCSI status (11.4.3).
    #[must_use]
    pub fn target_failure(tag: u32, sns: TargetSns) -> Self {
        let mut pdu = Self::new(tag, 0, Residual::None, sns);
        pdu.response = ResponseCode::TargetFailure as u8;
        pdu
    }

    /// The flags of byte 1.
    #[must_use]
    #[inline]
    pub fn flags(&self) -> ResponseFlags {
        ResponseFlags::from_bits_truncate(self.flags)
    }

    /// Whether the status byte counts.
    ///
    /// # Errors
    /// The code, when it is reserved or vendor specific.
    #[inline]
    pub fn response(&self) -> Result<ResponseCode, u8> {
        ResponseCode::try_from(self.response).map_err(|error| error.number)
    }

    /// How the transfer differs from what was expected; of the write part for a bidirectional command.
    #[must_use]
    #[inline]
    pub fn residual(&self) -> Residual {
        Residual::decode(self.flags, self.residual_count.get())
    }

    accessors! {
        /// The SCSI status (11.4.2, SAM-5 5.3.1).
        status: u8;
        /// The status qualifier (RFC 7144 5.2, SAM-5 5.3.2; defined at iSCSIProtocolLevel 2).
        status_qualifier: u16, set_status_qualifier;
        /// The task that is answered.
        initiator_task_tag: u32;
        /// How many Data-In and R2T PDUs were sent for the command (11.4.8).
        exp_data_sn: u32, set_exp_data_sn;
        /// StatSN (11.4.9).
        stat_sn: crate::Sn;
        /// ExpCmdSN (11.4.10).
        exp_cmd_sn: crate::Sn;
        /// MaxCmdSN (11.4.11).
        max_cmd_sn: crate::Sn;
        /// Residual of the read part of a bidirectional command, bytes (11.4.6).
        bidi_read_residual_count: u32;
    }

    target_sns!();
}
