//! Asynchronous Message (RFC 7143 11.9): what a target tells without having been asked.

use super::{FINAL, TargetSns, pdu, target_sns};
use crate::{
    Lun, RESERVED_TAG, Sn,
    field::{SnField, accessors},
};
use num_enum::{IntoPrimitive, TryFromPrimitive};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, big_endian::U16, big_endian::U32};

/// What happened (RFC 7143 11.9.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, IntoPrimitive, TryFromPrimitive)]
#[repr(u8)]
pub enum AsyncEvent {
    /// A SCSI asynchronous event; sense data is in the data segment.
    ScsiEvent = 0,
    /// The initiator is to log out within Parameter3 seconds.
    LogoutRequest = 1,
    /// The target will drop connection Parameter1.
    DropConnection = 2,
    /// The target will drop all connections of the session.
    DropSession = 3,
    /// The initiator is to renegotiate this connection's parameters within Parameter3 seconds.
    NegotiationRequest = 4,
    /// All tasks of the LUN are being terminated (multi-task abort with TaskReporting FastAbort).
    TasksTerminated = 5,
    /// Vendor specific; AsyncVCode and the data segment say what.
    Vendor = 255,
}

/// Asynchronous Message (RFC 7143 11.9). Uses up StatSN.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct AsyncMessage {
    opcode: u8,
    flags: u8,
    reserved_2: [u8; 2],
    total_ahs_length: u8,
    data_segment_length: [u8; 3],
    /// 11.9.3.
    lun: Lun,
    /// Always the reserved tag.
    initiator_task_tag: U32,
    reserved_20: U32,
    stat_sn: SnField,
    exp_cmd_sn: SnField,
    max_cmd_sn: SnField,
    /// 11.9.1.
    async_event: u8,
    /// 11.9.2.
    async_vcode: u8,
    /// 11.9.1, as are the next two: their meaning is the event's.
    parameter1: U16,
    parameter2: U16,
    parameter3: U16,
    reserved_44: U32,
}
pdu!(AsyncMessage);

impl AsyncMessage {
    fn new(event: AsyncEvent, sns: TargetSns) -> Self {
        let mut pdu = Self::blank();
        pdu.flags = FINAL;
        pdu.initiator_task_tag = RESERVED_TAG.into();
        pdu.async_event = event as u8;
        pdu.set_sns(sns);
        pdu
    }

    /// A SCSI event of `lun`; its sense data follows in the data segment (11.9.4.1).
    #[must_use]
    pub fn scsi_event(lun: Lun, sns: TargetSns) -> Self {
        let mut pdu = Self::new(AsyncEvent::ScsiEvent, sns);
        pdu.lun = lun;
        pdu
    }

    /// Asks for a logout within `wait_s` seconds, on any connection of the session.
    #[must_use]
    pub fn logout_request(wait_s: u16, sns: TargetSns) -> Self {
        let mut pdu = Self::new(AsyncEvent::LogoutRequest, sns);
        pdu.parameter3 = wait_s.into();
        pdu
    }

    /// Says that connection `cid` will be dropped: come back no sooner than `time2wait_s` seconds and, for its
    /// tasks, no later than `time2retain_s` seconds after that.
    #[must_use]
    pub fn drop_connection(cid: u16, time2wait_s: u16, time2retain_s: u16, sns: TargetSns) -> Self {
        let mut pdu = Self::new(AsyncEvent::DropConnection, sns);
        pdu.parameter1 = cid.into();
        pdu.parameter2 = time2wait_s.into();
        pdu.parameter3 = time2retain_s.into();
        pdu
    }

    /// Says that every connection of the session will be dropped; the times as in [`Self::drop_connection`].
    #[must_use]
    pub fn drop_session(time2wait_s: u16, time2retain_s: u16, sns: TargetSns) -> Self {
        let mut pdu = Self::new(AsyncEvent::DropSession, sns);
        pdu.parameter2 = time2wait_s.into();
        pdu.parameter3 = time2retain_s.into();
        pdu
    }

    /// Asks for a text negotiation on this connection within `wait_s` seconds.
    #[must_use]
    pub fn negotiation_request(wait_s: u16, sns: TargetSns) -> Self {
        let mut pdu = Self::new(AsyncEvent::NegotiationRequest, sns);
        pdu.parameter3 = wait_s.into();
        pdu
    }

    /// Says that all tasks of `lun` are being terminated; the initiator acknowledges by a NOP-Out.
    #[must_use]
    pub fn tasks_terminated(lun: Lun, sns: TargetSns) -> Self {
        let mut pdu = Self::new(AsyncEvent::TasksTerminated, sns);
        pdu.lun = lun;
        pdu
    }

    /// What happened.
    ///
    /// # Errors
    /// The code, when it is reserved or RFC 7144's and newer.
    pub fn event(&self) -> Result<AsyncEvent, u8> {
        AsyncEvent::try_from(self.async_event).map_err(|error| error.number)
    }

    accessors! {
        /// The LUN of a SCSI event and of terminated tasks (11.9.3).
        lun: Lun;
        /// Always [`RESERVED_TAG`].
        initiator_task_tag: u32;
        /// Which vendor event; with [`AsyncEvent::Vendor`] only (11.9.2).
        async_vcode: u8;
        /// The CID of a dropped connection.
        parameter1: u16;
        /// Time2Wait of a dropped connection or session, seconds.
        parameter2: u16;
        /// Time2Retain, or the seconds in which to log out or to negotiate.
        parameter3: u16;
        /// StatSN.
        stat_sn: Sn;
        /// ExpCmdSN.
        exp_cmd_sn: Sn;
        /// MaxCmdSN.
        max_cmd_sn: Sn;
    }

    target_sns!();
}
