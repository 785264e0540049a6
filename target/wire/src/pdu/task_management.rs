//! Task Management Function Request and Response (RFC 7143 11.5, 11.6; RFC 7144 6 for functions 9 to 12).

use super::{FINAL, InitiatorSns, TargetSns, immediate, initiator_sns, pdu, target_sns};
use crate::{
    Lun, RESERVED_TAG, Sn,
    field::{Field, SnField, accessors},
};
use num_enum::{IntoPrimitive, TryFromPrimitive};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, big_endian::U32};

/// What a task management request asks for (RFC 7143 11.5.1; 9 to 12: RFC 7144 6.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, IntoPrimitive, TryFromPrimitive)]
#[repr(u8)]
pub enum TaskManagementFunction {
    /// Aborts the task of the Referenced Task Tag.
    AbortTask = 1,
    /// Aborts all tasks of this session on the LUN.
    AbortTaskSet = 2,
    /// Clears the auto contingent allegiance condition.
    ClearAca = 3,
    /// Aborts all tasks of the LUN's task set.
    ClearTaskSet = 4,
    /// Resets the logical unit.
    LogicalUnitReset = 5,
    /// Resets all logical units of the target.
    TargetWarmReset = 6,
    /// Resets the target and ends all sessions.
    TargetColdReset = 7,
    /// Moves a task to this connection (ErrorRecoveryLevel 2).
    TaskReassign = 8,
    /// Asks whether the task is there.
    QueryTask = 9,
    /// Asks whether any task of this session is on the LUN.
    QueryTaskSet = 10,
    /// Ends the session's tasks and state on every LUN.
    ItNexusReset = 11,
    /// Asks for a pending unit attention.
    QueryAsyncEvent = 12,
}

/// How a task management request ended (RFC 7143 11.6.1; 7: RFC 7144 6.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, IntoPrimitive, TryFromPrimitive)]
#[repr(u8)]
pub enum TaskManagementResponseCode {
    /// Function complete.
    FunctionComplete = 0,
    /// Task does not exist.
    TaskDoesNotExist = 1,
    /// LUN does not exist.
    LunDoesNotExist = 2,
    /// Task still allegiant.
    TaskStillAllegiant = 3,
    /// Task allegiance reassignment not supported.
    ReassignNotSupported = 4,
    /// Task management function not supported.
    FunctionNotSupported = 5,
    /// Function authorization failed.
    AuthorizationFailed = 6,
    /// Function succeeded: the queried thing is there.
    FunctionSucceeded = 7,
    /// Function rejected.
    FunctionRejected = 255,
}

/// Task Management Function Request (RFC 7143 11.5).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct TaskManagementRequest {
    opcode: u8,
    /// 11.5.1, under the F bit.
    function: u8,
    reserved_2: [u8; 2],
    /// 11.5.2: 0, as is the data segment length.
    total_ahs_length: u8,
    data_segment_length: [u8; 3],
    /// 11.5.3.
    lun: Lun,
    initiator_task_tag: U32,
    /// 11.5.4.
    referenced_task_tag: U32,
    cmd_sn: SnField,
    exp_stat_sn: SnField,
    /// 11.5.5.
    ref_cmd_sn: SnField,
    /// 11.5.6.
    exp_data_sn: U32,
    reserved_40: [u8; 8],
}
pdu!(TaskManagementRequest);

impl TaskManagementRequest {
    /// A request for a whole task set, LUN, target or nexus; `lun` is [`Lun::ZERO`] where the function has none.
    /// Mostly sent as [`Self::into_immediate`].
    #[must_use]
    pub fn new(function: TaskManagementFunction, tag: u32, lun: Lun, sns: InitiatorSns) -> Self {
        let mut pdu = Self::blank();
        pdu.function = FINAL | function as u8;
        pdu.lun = lun;
        pdu.initiator_task_tag = tag.into();
        pdu.referenced_task_tag = RESERVED_TAG.into();
        pdu.set_sns(sns);
        pdu
    }

    /// This request about the one task `referenced` (ABORT TASK, QUERY TASK, TASK REASSIGN), whose command had
    /// CmdSN `ref_cmd_sn`.
    #[must_use]
    pub fn with_reference(mut self, referenced: u32, ref_cmd_sn: Sn) -> Self {
        self.referenced_task_tag = referenced.into();
        self.ref_cmd_sn = Field::of(ref_cmd_sn);
        self
    }

    /// The function.
    ///
    /// # Errors
    /// The seven-bit code, when it is none of 1 to 12 (answer: function not supported).
    #[inline]
    pub fn function(&self) -> Result<TaskManagementFunction, u8> {
        TaskManagementFunction::try_from(self.function & !FINAL).map_err(|error| error.number)
    }

    accessors! {
        /// The LUN, where the function has one (11.5.3).
        lun: Lun;
        /// This request's own tag.
        initiator_task_tag: u32;
        /// The task it is about, or [`RESERVED_TAG`] (11.5.4).
        referenced_task_tag: u32;
        /// CmdSN.
        cmd_sn: Sn;
        /// ExpStatSN.
        exp_stat_sn: Sn;
        /// CmdSN of the task it is about; decides when that task is unknown (11.5.5).
        ref_cmd_sn: Sn;
        /// Next DataSN expected, for TASK REASSIGN (11.5.6).
        exp_data_sn: u32;
    }

    immediate!();
    initiator_sns!();
}

/// Task Management Function Response (RFC 7143 11.6).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct TaskManagementResponse {
    opcode: u8,
    flags: u8,
    /// 11.6.1.
    response: u8,
    reserved_3: u8,
    /// 11.6.2: 0, as is the data segment length.
    total_ahs_length: u8,
    data_segment_length: [u8; 3],
    /// RFC 7144 6.2.
    additional_response_information: [u8; 3],
    reserved_11: [u8; 5],
    initiator_task_tag: U32,
    reserved_20: U32,
    stat_sn: SnField,
    exp_cmd_sn: SnField,
    max_cmd_sn: SnField,
    reserved_36: [u8; 12],
}
pdu!(TaskManagementResponse);

impl TaskManagementResponse {
    /// The answer to the request with tag `tag`.
    #[must_use]
    pub fn new(tag: u32, response: TaskManagementResponseCode, sns: TargetSns) -> Self {
        let mut pdu = Self::blank();
        pdu.flags = FINAL;
        pdu.response = response as u8;
        pdu.initiator_task_tag = tag.into();
        pdu.set_sns(sns);
        pdu
    }

    /// How the function ended.
    ///
    /// # Errors
    /// The code, when it is reserved.
    #[inline]
    pub fn response(&self) -> Result<TaskManagementResponseCode, u8> {
        TaskManagementResponseCode::try_from(self.response).map_err(|error| error.number)
    }

    /// Additional response information (RFC 7144 6.2): of QUERY ASYNC EVENT, the pending sense key and code.
    #[must_use]
    pub fn additional_response_information(&self) -> [u8; 3] {
        self.additional_response_information
    }

    /// Sets the additional response information.
    pub fn set_additional_response_information(&mut self, information: [u8; 3]) {
        self.additional_response_information = information;
    }

    accessors! {
        /// The request that is answered.
        initiator_task_tag: u32;
        /// StatSN.
        stat_sn: Sn;
        /// ExpCmdSN.
        exp_cmd_sn: Sn;
        /// MaxCmdSN.
        max_cmd_sn: Sn;
    }

    target_sns!();
}
