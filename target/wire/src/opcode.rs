//! Opcodes: the low six bits of a PDU's first byte (RFC 7143 11.2.1.2).

use num_enum::{IntoPrimitive, TryFromPrimitive};

/// The I bit of a request's first byte: deliver at once, outside the CmdSN order (RFC 7143 11.2.1.1).
pub const IMMEDIATE: u8 = 0x40;

/// The bits of the first byte that hold the opcode.
pub const MASK: u8 = 0x3f;

/// What a PDU is (RFC 7143 11.2.1.2). Vendor codes (1Ch to 1Eh, 3Ch to 3Eh) are not here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, IntoPrimitive, TryFromPrimitive)]
#[repr(u8)]
pub enum Opcode {
    /// NOP-Out (11.18).
    NopOut = 0x00,
    /// SCSI Command (11.3).
    ScsiCommand = 0x01,
    /// SCSI Task Management Function Request (11.5).
    TaskManagementRequest = 0x02,
    /// Login Request (11.12).
    LoginRequest = 0x03,
    /// Text Request (11.10).
    TextRequest = 0x04,
    /// SCSI Data-Out (11.7).
    DataOut = 0x05,
    /// Logout Request (11.14).
    LogoutRequest = 0x06,
    /// SNACK Request (11.16).
    SnackRequest = 0x10,
    /// NOP-In (11.19).
    NopIn = 0x20,
    /// SCSI Response (11.4).
    ScsiResponse = 0x21,
    /// SCSI Task Management Function Response (11.6).
    TaskManagementResponse = 0x22,
    /// Login Response (11.13).
    LoginResponse = 0x23,
    /// Text Response (11.11).
    TextResponse = 0x24,
    /// SCSI Data-In (11.7).
    DataIn = 0x25,
    /// Logout Response (11.15).
    LogoutResponse = 0x26,
    /// Ready To Transfer (11.8).
    ReadyToTransfer = 0x31,
    /// Asynchronous Message (11.9).
    AsyncMessage = 0x32,
    /// Reject (11.17).
    Reject = 0x3f,
}

impl Opcode {
    /// Whether an initiator sends it.
    #[must_use]
    pub const fn is_request(self) -> bool {
        (self as u8) < 0x20
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_requests_and_ten_responses() {
        let known = (0..=MASK).filter_map(|code| Opcode::try_from(code).ok());
        let (requests, responses): (std::vec::Vec<_>, std::vec::Vec<_>) = known.partition(|o| o.is_request());
        assert_eq!((requests.len(), responses.len()), (8, 10));
    }
}
