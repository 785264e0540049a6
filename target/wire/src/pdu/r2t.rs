//! Ready To Transfer (RFC 7143 11.8); its answer is Data-Out.

use super::{FINAL, TargetSns, pdu, target_sns};
use crate::{
    Lun, RESERVED_TAG, Sn,
    field::{SnField, accessors},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, big_endian::U32};

/// Ready To Transfer: asks the initiator for a piece of a write command's data (RFC 7143 11.8).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct ReadyToTransfer {
    opcode: u8,
    flags: u8,
    reserved: [u8; 2],
    total_ahs_length: u8,
    data_segment_length: [u8; 3],
    lun: Lun,
    initiator_task_tag: U32,
    /// 11.8.5.
    target_transfer_tag: U32,
    /// 11.8.3.
    stat_sn: SnField,
    exp_cmd_sn: SnField,
    max_cmd_sn: SnField,
    /// 11.8.2.
    r2t_sn: U32,
    /// 11.8.4.
    buffer_offset: U32,
    /// 11.8.4.
    desired_data_transfer_length: U32,
}
pdu!(ReadyToTransfer);

impl ReadyToTransfer {
    /// Asks task `tag` for `len` bytes from `buffer_offset` of its data, as R2T number `r2t_sn` of that task.
    /// StatSN in `sns` is the next one to be assigned; an R2T does not use it up (11.8.3).
    ///
    /// # Panics
    /// When `target_transfer_tag` is [`RESERVED_TAG`] or `len` is 0: the sender's own mistake (11.8.4, 11.8.5).
    #[must_use]
    pub fn new(
        tag: u32,
        lun: Lun,
        target_transfer_tag: u32,
        r2t_sn: u32,
        buffer_offset: u32,
        len: u32,
        sns: TargetSns,
    ) -> Self {
        assert!(target_transfer_tag != RESERVED_TAG, "ffffffffh is not a target transfer tag");
        assert!(len != 0, "an R2T asks for at least one byte");
        let mut pdu = Self::blank();
        pdu.flags = FINAL;
        pdu.lun = lun;
        pdu.initiator_task_tag = tag.into();
        pdu.target_transfer_tag = target_transfer_tag.into();
        pdu.r2t_sn = r2t_sn.into();
        pdu.buffer_offset = buffer_offset.into();
        pdu.desired_data_transfer_length = len.into();
        pdu.set_sns(sns);
        pdu
    }

    accessors! {
        /// The command's LUN, to be copied into the Data-Out PDUs.
        lun: Lun;
        /// The task.
        initiator_task_tag: u32;
        /// The tag to be copied into the Data-Out PDUs (11.8.5).
        target_transfer_tag: u32;
        /// The next StatSN; not used up (11.8.3).
        stat_sn: Sn;
        /// ExpCmdSN.
        exp_cmd_sn: Sn;
        /// MaxCmdSN.
        max_cmd_sn: Sn;
        /// Place among the command's R2Ts, from 0 (11.8.2).
        r2t_sn: u32;
        /// Bytes from the start of the command's data (11.8.4).
        buffer_offset: u32;
        /// Bytes asked for, at most MaxBurstLength (11.8.4).
        desired_data_transfer_length: u32;
    }

    target_sns!();
}
