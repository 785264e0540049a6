//! SNACK Request (RFC 7143 11.16): recognised at ErrorRecoveryLevel 0, where it is rejected.

use super::{FINAL, pdu};
use crate::{
    Lun, Sn,
    field::{Field, SnField, accessors},
};
use num_enum::{IntoPrimitive, TryFromPrimitive};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, big_endian::U32};

/// What is asked for again or acknowledged (RFC 7143 11.16.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, IntoPrimitive, TryFromPrimitive)]
#[repr(u8)]
pub enum SnackKind {
    /// Data-In or R2T PDUs again.
    DataOrR2t = 0,
    /// Status PDUs again.
    Status = 1,
    /// Acknowledges Data-In PDUs.
    DataAck = 2,
    /// Data-In PDUs again, cut anew.
    ResegmentingData = 3,
}

/// SNACK Request (RFC 7143 11.16). Has no CmdSN.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct SnackRequest {
    opcode: u8,
    /// 11.16.1, under the F bit.
    kind: u8,
    reserved_2: [u8; 2],
    total_ahs_length: u8,
    data_segment_length: [u8; 3],
    lun: Lun,
    /// 11.16.4.
    initiator_task_tag: U32,
    /// 11.16.5: target transfer tag or SNACK tag.
    tag: U32,
    reserved_24: U32,
    exp_stat_sn: SnField,
    reserved_32: [u8; 8],
    /// 11.16.6.
    beg_run: U32,
    /// 11.16.7.
    run_length: U32,
}
pdu!(SnackRequest);

impl SnackRequest {
    /// Asks for `run_length` PDUs from number `beg_run` on (0 PDUs: all from there), or acknowledges those before
    /// `beg_run`.
    #[must_use]
    pub fn new(
        kind: SnackKind,
        initiator_task_tag: u32,
        tag: u32,
        beg_run: u32,
        run_length: u32,
        exp_stat_sn: Sn,
    ) -> Self {
        let mut pdu = Self::blank();
        pdu.kind = FINAL | kind as u8;
        pdu.initiator_task_tag = initiator_task_tag.into();
        pdu.tag = tag.into();
        pdu.beg_run = beg_run.into();
        pdu.run_length = run_length.into();
        pdu.exp_stat_sn = Field::of(exp_stat_sn);
        pdu
    }

    /// What is asked for.
    ///
    /// # Errors
    /// The four-bit code, when it is reserved.
    pub fn kind(&self) -> Result<SnackKind, u8> {
        SnackKind::try_from(self.kind & 0x0f).map_err(|error| error.number)
    }

    accessors! {
        /// With a DataAck: as in the Data-In.
        lun: Lun;
        /// The task (11.16.4).
        initiator_task_tag: u32;
        /// With a DataAck the Data-In's target transfer tag, with a resegmenting one the SNACK tag (11.16.5).
        tag: u32;
        /// ExpStatSN.
        exp_stat_sn: Sn;
        /// The first number asked for, or the first not acknowledged (11.16.6).
        beg_run: u32;
        /// How many (11.16.7).
        run_length: u32;
    }
}
