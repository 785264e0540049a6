//! Logout Request and Logout Response (RFC 7143 11.14, 11.15).

use super::{FINAL, InitiatorSns, TargetSns, immediate, initiator_sns, pdu, target_sns};
use crate::{
    Sn,
    field::{SnField, accessors},
};
use num_enum::{IntoPrimitive, TryFromPrimitive};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, big_endian::U16, big_endian::U32};

/// What is to be closed (RFC 7143 11.14.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, IntoPrimitive, TryFromPrimitive)]
#[repr(u8)]
pub enum LogoutReason {
    /// The whole session, with all its commands.
    CloseSession = 0,
    /// The connection named by CID, with its commands.
    CloseConnection = 1,
    /// The connection named by CID, whose commands are to be kept for another one.
    RemoveConnectionForRecovery = 2,
}

/// How a logout ended (RFC 7143 11.15.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, IntoPrimitive, TryFromPrimitive)]
#[repr(u8)]
pub enum LogoutResponseCode {
    /// Closed.
    Success = 0,
    /// CID not found.
    CidNotFound = 1,
    /// Connection recovery is not supported: ErrorRecoveryLevel is not 2.
    RecoveryNotSupported = 2,
    /// Cleanup failed for some reason.
    CleanupFailed = 3,
}

/// Logout Request (RFC 7143 11.14).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct LogoutRequest {
    opcode: u8,
    /// 11.14.1, under the F bit.
    reason: u8,
    reserved_2: [u8; 2],
    /// 11.14.2: 0, as is the data segment length.
    total_ahs_length: u8,
    data_segment_length: [u8; 3],
    reserved_8: [u8; 8],
    initiator_task_tag: U32,
    /// 11.14.3.
    cid: U16,
    reserved_22: [u8; 2],
    cmd_sn: SnField,
    /// 11.14.4.
    exp_stat_sn: SnField,
    reserved_32: [u8; 16],
}
pdu!(LogoutRequest);

impl LogoutRequest {
    /// Asks for the end of the session.
    #[must_use]
    pub fn close_session(tag: u32, sns: InitiatorSns) -> Self {
        Self::with_reason(LogoutReason::CloseSession, 0, tag, sns)
    }

    /// Asks for the end of connection `cid`; with `recovery`, its tasks are to be kept for another one.
    #[must_use]
    pub fn close_connection(cid: u16, recovery: bool, tag: u32, sns: InitiatorSns) -> Self {
        let reason =
            if recovery { LogoutReason::RemoveConnectionForRecovery } else { LogoutReason::CloseConnection };
        Self::with_reason(reason, cid, tag, sns)
    }

    fn with_reason(reason: LogoutReason, cid: u16, tag: u32, sns: InitiatorSns) -> Self {
        let mut pdu = Self::blank();
        pdu.reason = FINAL | reason as u8;
        pdu.initiator_task_tag = tag.into();
        pdu.cid = cid.into();
        pdu.set_sns(sns);
        pdu
    }

    /// What is to be closed.
    ///
    /// # Errors
    /// The seven-bit code, when it is reserved (answer: Reject, invalid PDU field).
    pub fn reason(&self) -> Result<LogoutReason, u8> {
        LogoutReason::try_from(self.reason & !FINAL).map_err(|error| error.number)
    }

    accessors! {
        /// This request's tag.
        initiator_task_tag: u32;
        /// The connection; reserved when the session is closed (11.14.3).
        cid: u16;
        /// CmdSN.
        cmd_sn: Sn;
        /// ExpStatSN (11.14.4).
        exp_stat_sn: Sn;
    }

    immediate!();
    initiator_sns!();
}

/// Logout Response (RFC 7143 11.15).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct LogoutResponse {
    opcode: u8,
    flags: u8,
    /// 11.15.1.
    response: u8,
    reserved_3: u8,
    /// 11.15.2: 0, as is the data segment length.
    total_ahs_length: u8,
    data_segment_length: [u8; 3],
    reserved_8: [u8; 8],
    initiator_task_tag: U32,
    reserved_20: U32,
    stat_sn: SnField,
    exp_cmd_sn: SnField,
    max_cmd_sn: SnField,
    reserved_36: U32,
    /// 11.15.3.
    time2wait: U16,
    /// 11.15.4.
    time2retain: U16,
    reserved_44: U32,
}
pdu!(LogoutResponse);

impl LogoutResponse {
    /// The answer to the request with tag `tag`. `time2wait_s` and `time2retain_s`: seconds before an initiator
    /// may come back, and seconds its tasks are then kept (11.15.3, 11.15.4).
    #[must_use]
    pub fn new(
        tag: u32,
        response: LogoutResponseCode,
        time2wait_s: u16,
        time2retain_s: u16,
        sns: TargetSns,
    ) -> Self {
        let mut pdu = Self::blank();
        pdu.flags = FINAL;
        pdu.response = response as u8;
        pdu.initiator_task_tag = tag.into();
        pdu.time2wait = time2wait_s.into();
        pdu.time2retain = time2retain_s.into();
        pdu.set_sns(sns);
        pdu
    }

    /// How the logout ended.
    ///
    /// # Errors
    /// The code, when it is reserved.
    pub fn response(&self) -> Result<LogoutResponseCode, u8> {
        LogoutResponseCode::try_from(self.response).map_err(|error| error.number)
    }

    accessors! {
        /// The request that is answered.
        initiator_task_tag: u32;
        /// Seconds to wait before reconnecting (11.15.3).
        time2wait: u16;
        /// Seconds for which tasks can then still be reassigned (11.15.4).
        time2retain: u16;
        /// StatSN.
        stat_sn: Sn;
        /// ExpCmdSN.
        exp_cmd_sn: Sn;
        /// MaxCmdSN.
        max_cmd_sn: Sn;
    }

    target_sns!();
}
