//! Text Request and Text Response (RFC 7143 11.10, 11.11).

use super::{CONTINUE, FINAL, InitiatorSns, TargetSns, immediate, initiator_sns, pdu, target_sns};
use crate::{
    Lun, RESERVED_TAG, Sn,
    field::{SnField, accessors},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, big_endian::U32};

/// What a text PDU says about what follows. F and C exclude each other (RFC 7143 11.10.2), so they are one value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TextStep {
    /// F: the sender has said all it has to say.
    Final,
    /// Neither: the negotiation goes on.
    More,
    /// C: the text of this PDU goes on in the next one.
    Continue,
}

impl TextStep {
    const fn encode(self) -> u8 {
        match self {
            Self::Final => FINAL,
            Self::More => 0,
            Self::Continue => CONTINUE,
        }
    }
}

/// The flag byte of a text PDU, for the accessors both directions share.
macro_rules! text_flags {
    () => {
        /// F: the sender has said all (11.10.1, 11.11.1).
        #[must_use]
        pub fn is_final(&self) -> bool {
            self.flags & FINAL != 0
        }

        /// C: the text goes on in the next PDU (11.10.2, 11.11.2).
        #[must_use]
        pub fn continues(&self) -> bool {
            self.flags & CONTINUE != 0
        }
    };
}

/// Text Request (RFC 7143 11.10). Its text keys are the data segment.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct TextRequest {
    opcode: u8,
    /// 11.10.1, 11.10.2.
    flags: u8,
    reserved_2: [u8; 2],
    total_ahs_length: u8,
    data_segment_length: [u8; 3],
    lun: Lun,
    /// 11.10.3.
    initiator_task_tag: U32,
    /// 11.10.4.
    target_transfer_tag: U32,
    cmd_sn: SnField,
    exp_stat_sn: SnField,
    reserved_32: [u8; 16],
}
pdu!(TextRequest);

impl TextRequest {
    /// The first request of a negotiation.
    #[must_use]
    pub fn new(tag: u32, step: TextStep, sns: InitiatorSns) -> Self {
        let mut pdu = Self::blank();
        pdu.flags = step.encode();
        pdu.initiator_task_tag = tag.into();
        pdu.target_transfer_tag = RESERVED_TAG.into();
        pdu.set_sns(sns);
        pdu
    }

    /// A further request, which hands the tag and LUN of `response` back (11.10.4).
    #[must_use]
    pub fn following(response: &TextResponse, step: TextStep, sns: InitiatorSns) -> Self {
        let mut pdu = Self::new(response.initiator_task_tag(), step, sns);
        pdu.target_transfer_tag = response.target_transfer_tag;
        pdu.lun = response.lun;
        pdu
    }

    text_flags!();

    accessors! {
        /// As in the response this one follows; else reserved.
        lun: Lun;
        /// The negotiation's tag (11.10.3).
        initiator_task_tag: u32;
        /// The tag of the response this one follows, or [`RESERVED_TAG`], which starts anew (11.10.4).
        target_transfer_tag: u32;
        /// CmdSN.
        cmd_sn: Sn;
        /// ExpStatSN.
        exp_stat_sn: Sn;
    }

    immediate!();
    initiator_sns!();
}

/// Text Response (RFC 7143 11.11). Its text keys are the data segment.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct TextResponse {
    opcode: u8,
    /// 11.11.1, 11.11.2.
    flags: u8,
    reserved_2: [u8; 2],
    total_ahs_length: u8,
    data_segment_length: [u8; 3],
    lun: Lun,
    /// 11.11.3.
    initiator_task_tag: U32,
    /// 11.11.4.
    target_transfer_tag: U32,
    /// 11.11.5.
    stat_sn: SnField,
    exp_cmd_sn: SnField,
    max_cmd_sn: SnField,
    reserved_36: [u8; 12],
}
pdu!(TextResponse);

impl TextResponse {
    /// The last answer of a negotiation: F set, no tag to come back with (11.11.1, 11.11.4).
    #[must_use]
    pub fn last(tag: u32, sns: TargetSns) -> Self {
        Self::with_step(tag, TextStep::Final, RESERVED_TAG, sns)
    }

    /// An answer after which the initiator is to come back with `target_transfer_tag`; `continues` sets C: the
    /// text itself goes on.
    ///
    /// # Panics
    /// When `target_transfer_tag` is [`RESERVED_TAG`]: the sender's own mistake (11.11.4).
    #[must_use]
    pub fn partial(tag: u32, target_transfer_tag: u32, continues: bool, sns: TargetSns) -> Self {
        assert!(target_transfer_tag != RESERVED_TAG, "a partial answer carries a tag");
        let step = if continues { TextStep::Continue } else { TextStep::More };
        Self::with_step(tag, step, target_transfer_tag, sns)
    }

    fn with_step(tag: u32, step: TextStep, target_transfer_tag: u32, sns: TargetSns) -> Self {
        let mut pdu = Self::blank();
        pdu.flags = step.encode();
        pdu.initiator_task_tag = tag.into();
        pdu.target_transfer_tag = target_transfer_tag.into();
        pdu.set_sns(sns);
        pdu
    }

    text_flags!();

    accessors! {
        /// To be handed back with the tag.
        lun: Lun;
        /// The negotiation's tag (11.11.3).
        initiator_task_tag: u32;
        /// The tag to come back with, or [`RESERVED_TAG`] (11.11.4).
        target_transfer_tag: u32;
        /// StatSN (11.11.5).
        stat_sn: Sn;
        /// ExpCmdSN.
        exp_cmd_sn: Sn;
        /// MaxCmdSN.
        max_cmd_sn: Sn;
    }

    target_sns!();
}
