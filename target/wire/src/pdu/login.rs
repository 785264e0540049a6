//! Login Request and Login Response (RFC 7143 11.12, 11.13).

use super::{CONTINUE, FINAL, InitiatorSns, TargetSns, initiator_sns, pdu, target_sns};
use crate::{
    Isid, Sn, Tsih,
    field::{SnField, TsihField, accessors},
    opcode,
};
use core::fmt;
use num_enum::{IntoPrimitive, TryFromPrimitive};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, big_endian::U16, big_endian::U32};

/// The protocol version of RFC 7143, the only one (11.12.4).
pub const VERSION: u8 = 0;

/// A login stage: the two-bit CSG and NSG fields (RFC 7143 11.12.3). 2 is not a stage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, IntoPrimitive, TryFromPrimitive)]
#[repr(u8)]
pub enum Stage {
    /// Security negotiation.
    Security = 0,
    /// Login operational negotiation.
    Operational = 1,
    /// Full feature phase; never a current stage.
    FullFeature = 3,
}

/// What a login PDU does with its stage. T and C exclude each other (RFC 7143 11.12.2), so they are one value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoginStep {
    /// The negotiation of this stage goes on.
    Stay,
    /// C: the text of this PDU goes on in the next one.
    Continue,
    /// T with NSG: ready to leave for this stage.
    Transit(Stage),
}

impl LoginStep {
    /// Byte 1 of a login PDU in stage `current`.
    const fn encode(self, current: Stage) -> u8 {
        let step = match self {
            Self::Stay => 0,
            Self::Continue => CONTINUE,
            Self::Transit(next) => FINAL | next as u8,
        };
        step | (current as u8) << 2
    }
}

/// The flag byte of a login PDU, for the accessors both directions share.
macro_rules! login_flags {
    () => {
        /// T: ready for the next stage (11.12.1).
        #[must_use]
        pub fn transit(&self) -> bool {
            self.flags & FINAL != 0
        }

        /// C: the text goes on in the next PDU (11.12.2).
        #[must_use]
        pub fn continues(&self) -> bool {
            self.flags & CONTINUE != 0
        }

        /// CSG, the stage this PDU belongs to (11.12.3).
        ///
        /// # Errors
        /// 2, the reserved stage.
        pub fn current_stage(&self) -> Result<Stage, u8> {
            Stage::try_from(self.flags >> 2 & 3).map_err(|error| error.number)
        }

        /// NSG, the stage to go to; counts with T only (11.12.3).
        ///
        /// # Errors
        /// 2, the reserved stage.
        pub fn next_stage(&self) -> Result<Stage, u8> {
            Stage::try_from(self.flags & 3).map_err(|error| error.number)
        }
    };
}

/// Login Request (RFC 7143 11.12). Its text keys are the data segment.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct LoginRequest {
    opcode: u8,
    /// 11.12.1 to 11.12.3: T, C, CSG, NSG.
    flags: u8,
    /// 11.12.4.1.
    version_max: u8,
    /// 11.12.4.2.
    version_min: u8,
    total_ahs_length: u8,
    data_segment_length: [u8; 3],
    /// 11.12.5.
    isid: Isid,
    /// 11.12.6.
    tsih: TsihField,
    initiator_task_tag: U32,
    /// 11.12.7.
    cid: U16,
    reserved_22: [u8; 2],
    /// 11.12.8.
    cmd_sn: SnField,
    /// 11.12.9.
    exp_stat_sn: SnField,
    reserved_32: [u8; 16],
}
pdu!(LoginRequest);

impl LoginRequest {
    /// A login PDU in stage `current`; always immediate. `cid` names the connection within the session, `tsih` is
    /// [`Tsih::NEW`] for a new session. One login keeps its tag and CmdSN through all of its PDUs.
    #[must_use]
    pub fn new(
        isid: Isid,
        tsih: Tsih,
        cid: u16,
        tag: u32,
        current: Stage,
        step: LoginStep,
        sns: InitiatorSns,
    ) -> Self {
        let mut pdu = Self::blank();
        pdu.opcode |= opcode::IMMEDIATE;
        pdu.flags = step.encode(current);
        pdu.version_max = VERSION;
        pdu.version_min = VERSION;
        pdu.isid = isid;
        pdu.tsih = crate::field::Field::of(tsih);
        pdu.initiator_task_tag = tag.into();
        pdu.cid = cid.into();
        pdu.set_sns(sns);
        pdu
    }

    login_flags!();

    accessors! {
        /// The highest version the initiator speaks (11.12.4.1).
        version_max: u8;
        /// The lowest version the initiator speaks (11.12.4.2).
        version_min: u8;
        /// The initiator's part of the session identifier (11.12.5).
        isid: Isid;
        /// The session to join or to reinstate, or [`Tsih::NEW`] (11.12.6).
        tsih: Tsih;
        /// The login's tag.
        initiator_task_tag: u32;
        /// Connection identifier (11.12.7).
        cid: u16;
        /// On the leading connection the session's first CmdSN (11.12.8).
        cmd_sn: Sn;
        /// The StatSN waited for; on the first PDU only for a connection that is reinstated (11.12.9).
        exp_stat_sn: Sn;
    }

    initiator_sns!();
}

/// How a login step ended: Status-Class in the high byte, Status-Detail in the low (RFC 7143 11.13.5).
///
/// Class 2 makes an initiator give up, class 3 makes it try again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, IntoPrimitive, TryFromPrimitive)]
#[repr(u16)]
pub enum LoginStatus {
    /// Success: the login goes on.
    Success = 0x0000,
    /// Target moved temporarily: TargetAddress says where.
    TargetMovedTemporarily = 0x0101,
    /// Target moved permanently: TargetAddress says where.
    TargetMovedPermanently = 0x0102,
    /// Miscellaneous error of the initiator.
    InitiatorError = 0x0200,
    /// Authentication failure.
    AuthenticationFailure = 0x0201,
    /// The initiator may not use this target.
    AuthorizationFailure = 0x0202,
    /// No such target.
    NotFound = 0x0203,
    /// The target was removed and left no address.
    TargetRemoved = 0x0204,
    /// No common version.
    UnsupportedVersion = 0x0205,
    /// Too many connections for this SSID.
    TooManyConnections = 0x0206,
    /// A required key is missing, such as InitiatorName or TargetName.
    MissingParameter = 0x0207,
    /// The target does not let this session span to this connection.
    CannotIncludeInSession = 0x0208,
    /// This type of session is not supported.
    SessionTypeNotSupported = 0x0209,
    /// There is no session with this TSIH to add a connection to.
    SessionDoesNotExist = 0x020a,
    /// A request that is not allowed during login.
    InvalidDuringLogin = 0x020b,
    /// The target's hardware or software failed.
    TargetError = 0x0300,
    /// The service or target is not operational for now.
    ServiceUnavailable = 0x0301,
    /// Not enough session, connection or other resources.
    OutOfResources = 0x0302,
}

impl LoginStatus {
    /// Status-Class: 0 success, 1 redirection, 2 initiator error, 3 target error.
    #[must_use]
    pub const fn class(self) -> u8 {
        (self as u16 >> 8) as u8
    }

    /// Status-Detail within the class.
    #[must_use]
    pub const fn detail(self) -> u8 {
        (self as u16 & 0xff) as u8
    }
}

impl fmt::Display for LoginStatus {
    /// Four hex digits and the name: `0203 NotFound`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x} {self:?}", *self as u16)
    }
}

/// Login Response (RFC 7143 11.13). Its text keys are the data segment.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct LoginResponse {
    opcode: u8,
    /// 11.13.6, 11.13.7: T, C, CSG, NSG.
    flags: u8,
    /// 11.13.1.
    version_max: u8,
    /// 11.13.2.
    version_active: u8,
    total_ahs_length: u8,
    data_segment_length: [u8; 3],
    isid: Isid,
    /// 11.13.3.
    tsih: TsihField,
    initiator_task_tag: U32,
    reserved_20: U32,
    /// 11.13.4.
    stat_sn: SnField,
    exp_cmd_sn: SnField,
    max_cmd_sn: SnField,
    /// 11.13.5.
    status_class: u8,
    /// 11.13.5.
    status_detail: u8,
    reserved_38: [u8; 10],
}
pdu!(LoginResponse);

impl LoginResponse {
    /// An answer in stage `current` with status Success. `tsih` is the new session's in the last one, else the
    /// request's (11.13.3).
    #[must_use]
    pub fn new(isid: Isid, tsih: Tsih, tag: u32, current: Stage, step: LoginStep, sns: TargetSns) -> Self {
        let mut pdu = Self::blank();
        pdu.flags = step.encode(current);
        pdu.version_max = VERSION;
        pdu.version_active = VERSION;
        pdu.isid = isid;
        pdu.tsih = crate::field::Field::of(tsih);
        pdu.initiator_task_tag = tag.into();
        pdu.set_sns(sns);
        pdu
    }

    /// The last answer of a login that is redirected or refused; the connection is closed after it (11.13.5).
    /// T and the numbers stay 0: they do not count (11.13.4, 11.13.6).
    ///
    /// # Panics
    /// When `status` is Success.
    #[must_use]
    pub fn refused(request: &LoginRequest, status: LoginStatus) -> Self {
        assert!(status != LoginStatus::Success, "a refusal says why");
        let mut pdu = Self::blank();
        // The stage is echoed even where it is the reserved one: it is the initiator's own value.
        pdu.flags = request.flags & 0x0c;
        pdu.version_max = VERSION;
        pdu.version_active = VERSION;
        pdu.isid = request.isid;
        pdu.tsih = request.tsih;
        pdu.initiator_task_tag = request.initiator_task_tag;
        pdu.status_class = status.class();
        pdu.status_detail = status.detail();
        pdu
    }

    login_flags!();

    /// Status-Class and Status-Detail.
    ///
    /// # Errors
    /// `class << 8 | detail`, when RFC 7143 does not define it; the class alone still says what to do.
    pub fn status(&self) -> Result<LoginStatus, u16> {
        LoginStatus::try_from(u16::from_be_bytes([self.status_class, self.status_detail]))
            .map_err(|error| error.number)
    }

    accessors! {
        /// The highest version the target speaks (11.13.1).
        version_max: u8;
        /// The version in use (11.13.2).
        version_active: u8;
        /// The request's ISID.
        isid: Isid;
        /// The session's TSIH in the last answer (11.13.3).
        tsih: Tsih;
        /// The login's tag.
        initiator_task_tag: u32;
        /// StatSN; the first one seeds the connection's numbering (11.13.4).
        stat_sn: Sn;
        /// ExpCmdSN.
        exp_cmd_sn: Sn;
        /// MaxCmdSN.
        max_cmd_sn: Sn;
    }

    target_sns!();
}
