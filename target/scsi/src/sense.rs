//! Sense data: what it says, and its fixed and descriptor formats (SPC-4 4.5).

use smallvec::SmallVec;

/// Sense key (SPC-4 table 48).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub enum SenseKey {
    NoSense = 0x0,
    RecoveredError = 0x1,
    NotReady = 0x2,
    MediumError = 0x3,
    HardwareError = 0x4,
    IllegalRequest = 0x5,
    UnitAttention = 0x6,
    DataProtect = 0x7,
    BlankCheck = 0x8,
    CopyAborted = 0xA,
    AbortedCommand = 0xB,
    Miscompare = 0xE,
}

/// Which of the two sense data formats to use (D_SENSE, SPC-4 7.5.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SenseFormat {
    /// Response code 70h, 18 bytes.
    #[default]
    Fixed,
    /// Response code 72h, 8 bytes and descriptors.
    Descriptor,
}

/// Where an illegal value was (sense key specific field pointer, SPC-4 4.5.2.4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FieldPointer {
    /// The field is in the CDB (true) or in the parameter list (false).
    pub in_cdb: bool,
    /// Byte offset of the field's first byte.
    pub byte: u16,
    /// Most significant bit of the field in that byte, when told.
    pub bit: Option<u8>,
}

/// Sense data of one CHECK CONDITION, or of REQUEST SENSE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sense {
    /// Sense key.
    pub key: SenseKey,
    /// ADDITIONAL SENSE CODE.
    pub asc: u8,
    /// ADDITIONAL SENSE CODE QUALIFIER.
    pub ascq: u8,
    /// INFORMATION: a logical block address or a byte offset, as the command defines.
    pub information: Option<u64>,
    /// COMMAND-SPECIFIC INFORMATION.
    pub command_specific: Option<u64>,
    /// Which field of the CDB or parameter list was wrong.
    pub field: Option<FieldPointer>,
    /// PROGRESS INDICATION: a fraction of 65,536; told where `field` is none.
    pub progress: Option<u16>,
    /// The format [`Sense::encode`] uses.
    pub format: SenseFormat,
}

/// Bytes of encoded sense data: at most 40.
pub type SenseBytes = SmallVec<[u8; 40]>;

impl Sense {
    /// Sense data of a key and an additional sense code, in fixed format, without further fields.
    pub const fn new(key: SenseKey, asc: u8, ascq: u8) -> Self {
        Self {
            key,
            asc,
            ascq,
            information: None,
            command_specific: None,
            field: None,
            progress: None,
            format: SenseFormat::Fixed,
        }
    }

    /// The same with an INFORMATION value.
    pub const fn with_information(mut self, information: u64) -> Self {
        self.information = Some(information);
        self
    }

    /// The same with a PROGRESS INDICATION, a fraction of 65,536 (SPC-4 4.5.2.4.4).
    pub const fn with_progress(mut self, progress: u16) -> Self {
        self.progress = Some(progress);
        self
    }

    /// The same in another format.
    pub const fn with_format(mut self, format: SenseFormat) -> Self {
        self.format = format;
        self
    }

    /// The same with a pointer at a field of the CDB.
    pub const fn with_cdb_field(mut self, byte: u16, bit: Option<u8>) -> Self {
        self.field = Some(FieldPointer { in_cdb: true, byte, bit });
        self
    }

    /// The same with a pointer at a field of the parameter list.
    pub const fn with_parameter_field(mut self, byte: u16, bit: Option<u8>) -> Self {
        self.field = Some(FieldPointer { in_cdb: false, byte, bit });
        self
    }

    /// 05h/24h/00h INVALID FIELD IN CDB, pointing at `byte` and, if known, `bit` (7 is the most significant).
    pub const fn invalid_cdb(byte: u16, bit: Option<u8>) -> Self {
        Self::illegal_field(0x24, true, byte, bit)
    }

    /// 05h/26h/00h INVALID FIELD IN PARAMETER LIST, pointing at `byte` and, if known, `bit`.
    pub const fn invalid_parameter(byte: u16, bit: Option<u8>) -> Self {
        Self::illegal_field(0x26, false, byte, bit)
    }

    const fn illegal_field(asc: u8, in_cdb: bool, byte: u16, bit: Option<u8>) -> Self {
        let mut sense = Self::new(SenseKey::IllegalRequest, asc, 0);
        sense.field = Some(FieldPointer { in_cdb, byte, bit });
        sense
    }

    /// The sense data bytes in [`Sense::format`].
    pub fn encode(&self) -> SenseBytes {
        match self.format {
            SenseFormat::Fixed => self.encode_fixed(),
            SenseFormat::Descriptor => self.encode_descriptor(),
        }
    }

    /// Fixed format, 18 bytes (SPC-4 4.5.3). An INFORMATION value over 32 bits is left out (VALID is zero).
    pub fn encode_fixed(&self) -> SenseBytes {
        let mut bytes = SenseBytes::from_elem(0, 18);
        bytes[0] = 0x70;
        bytes[2] = self.key as u8;
        bytes[7] = 10;
        bytes[12] = self.asc;
        bytes[13] = self.ascq;
        if let Some(information) = self.information.and_then(|value| u32::try_from(value).ok()) {
            bytes[0] |= 0x80;
            bytes[3..7].copy_from_slice(&information.to_be_bytes());
        }
        if let Some(specific) = self.command_specific.and_then(|value| u32::try_from(value).ok()) {
            bytes[8..12].copy_from_slice(&specific.to_be_bytes());
        }
        if let Some(specific) = self.key_specific() {
            bytes[15..18].copy_from_slice(&specific);
        }
        bytes
    }

    /// SENSE KEY SPECIFIC: a field pointer or a progress indication (SPC-4 4.5.2.4).
    fn key_specific(&self) -> Option<[u8; 3]> {
        let progress = self.progress.map(|progress| {
            let [high, low] = progress.to_be_bytes();
            [0x80, high, low]
        });
        self.field.map(FieldPointer::encode).or(progress)
    }

    /// Descriptor format, 8 to 40 bytes (SPC-4 4.5.2).
    pub fn encode_descriptor(&self) -> SenseBytes {
        let mut bytes = SenseBytes::from_slice(&[0x72, self.key as u8, self.asc, self.ascq, 0, 0, 0, 0]);
        if let Some(information) = self.information {
            bytes.extend_from_slice(&[0x00, 0x0A, 0x80, 0]);
            bytes.extend_from_slice(&information.to_be_bytes());
        }
        if let Some(specific) = self.command_specific {
            bytes.extend_from_slice(&[0x01, 0x0A, 0, 0]);
            bytes.extend_from_slice(&specific.to_be_bytes());
        }
        if let Some([a, b, c]) = self.key_specific() {
            bytes.extend_from_slice(&[0x02, 0x06, 0, 0, a, b, c, 0]);
        }
        bytes[7] = (bytes.len() - 8) as u8;
        bytes
    }
}

impl FieldPointer {
    /// SKSV, C/D, BPV, BIT POINTER, FIELD POINTER.
    fn encode(self) -> [u8; 3] {
        let mut first = 0x80;
        if self.in_cdb {
            first |= 0x40;
        }
        if let Some(bit) = self.bit {
            first |= 0x08 | (bit & 0x07);
        }
        let [high, low] = self.byte.to_be_bytes();
        [first, high, low]
    }
}

/// 00h/00h/00h no additional sense information.
pub const NO_SENSE: Sense = Sense::new(SenseKey::NoSense, 0x00, 0x00);
/// 02h/04h/00h.
pub const NOT_READY: Sense = Sense::new(SenseKey::NotReady, 0x04, 0x00);
/// 02h/04h/01h.
pub const BECOMING_READY: Sense = Sense::new(SenseKey::NotReady, 0x04, 0x01);
/// 02h/04h/1Bh.
pub const SANITIZE_IN_PROGRESS: Sense = Sense::new(SenseKey::NotReady, 0x04, 0x1B);
/// 03h/31h/03h.
pub const SANITIZE_COMMAND_FAILED: Sense = Sense::new(SenseKey::MediumError, 0x31, 0x03);
/// 02h/04h/0Bh: target port in standby state.
pub const STANDBY: Sense = Sense::new(SenseKey::NotReady, 0x04, 0x0B);
/// 02h/04h/0Ch: target port in unavailable state.
pub const UNAVAILABLE: Sense = Sense::new(SenseKey::NotReady, 0x04, 0x0C);
/// 02h/04h/03h.
pub const MANUAL_INTERVENTION: Sense = Sense::new(SenseKey::NotReady, 0x04, 0x03);
/// 02h/3Ah/00h.
pub const MEDIUM_NOT_PRESENT: Sense = Sense::new(SenseKey::NotReady, 0x3A, 0x00);
/// 03h/0Ch/00h.
pub const WRITE_ERROR: Sense = Sense::new(SenseKey::MediumError, 0x0C, 0x00);
/// 03h/11h/00h.
pub const UNRECOVERED_READ_ERROR: Sense = Sense::new(SenseKey::MediumError, 0x11, 0x00);
/// 04h/44h/00h.
pub const INTERNAL_TARGET_FAILURE: Sense = Sense::new(SenseKey::HardwareError, 0x44, 0x00);
/// 05h/0Eh/03h INVALID FIELD IN COMMAND INFORMATION UNIT: the data-out length does not fit the CDB.
pub const INVALID_DATA_OUT_LENGTH: Sense = Sense::new(SenseKey::IllegalRequest, 0x0E, 0x03);
/// 05h/1Ah/00h.
pub const PARAMETER_LIST_LENGTH_ERROR: Sense = Sense::new(SenseKey::IllegalRequest, 0x1A, 0x00);
/// 05h/20h/00h.
pub const INVALID_OPERATION_CODE: Sense = Sense::new(SenseKey::IllegalRequest, 0x20, 0x00);
/// 05h/21h/00h.
pub const LBA_OUT_OF_RANGE: Sense = Sense::new(SenseKey::IllegalRequest, 0x21, 0x00);
/// 05h/24h/00h, of no field in particular.
pub const INVALID_FIELD_IN_CDB: Sense = Sense::new(SenseKey::IllegalRequest, 0x24, 0x00);
/// 05h/25h/00h.
pub const LUN_NOT_SUPPORTED: Sense = Sense::new(SenseKey::IllegalRequest, 0x25, 0x00);
/// 05h/26h/04h.
pub const INVALID_RELEASE: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x04);
/// 05h/2Ch/0Ch ORWRITE GENERATION DOES NOT MATCH.
pub const GENERATION_MISMATCH: Sense = Sense::new(SenseKey::IllegalRequest, 0x2C, 0x0C);
/// 05h/39h/00h.
pub const SAVING_NOT_SUPPORTED: Sense = Sense::new(SenseKey::IllegalRequest, 0x39, 0x00);
/// 05h/53h/02h.
pub const MEDIUM_REMOVAL_PREVENTED: Sense = Sense::new(SenseKey::IllegalRequest, 0x53, 0x02);
/// 05h/55h/04h.
pub const INSUFFICIENT_REGISTRATION_RESOURCES: Sense = Sense::new(SenseKey::IllegalRequest, 0x55, 0x04);
/// 07h/27h/00h.
pub const WRITE_PROTECTED: Sense = Sense::new(SenseKey::DataProtect, 0x27, 0x00);
/// 07h/27h/02h: SWP is one in the Control mode page.
pub const SOFTWARE_WRITE_PROTECTED: Sense = Sense::new(SenseKey::DataProtect, 0x27, 0x02);
/// 07h/27h/07h.
pub const SPACE_ALLOCATION_FAILED: Sense = Sense::new(SenseKey::DataProtect, 0x27, 0x07);
/// 05h/00h/16h OPERATION IN PROGRESS: a copy with that list identifier.
pub const OPERATION_IN_PROGRESS: Sense = Sense::new(SenseKey::IllegalRequest, 0x00, 0x16);
/// 05h/23h/00h.
pub const INVALID_TOKEN_OPERATION: Sense = Sense::new(SenseKey::IllegalRequest, 0x23, 0x00);
/// 05h/23h/01h.
pub const UNSUPPORTED_TOKEN_TYPE: Sense = Sense::new(SenseKey::IllegalRequest, 0x23, 0x01);
/// 05h/23h/04h.
pub const TOKEN_UNKNOWN: Sense = Sense::new(SenseKey::IllegalRequest, 0x23, 0x04);
/// 05h/23h/05h.
pub const TOKEN_CORRUPT: Sense = Sense::new(SenseKey::IllegalRequest, 0x23, 0x05);
/// 05h/23h/06h: what the token stands for has changed.
pub const TOKEN_REVOKED: Sense = Sense::new(SenseKey::IllegalRequest, 0x23, 0x06);
/// 05h/23h/0Ah.
pub const INVALID_TOKEN_LENGTH: Sense = Sense::new(SenseKey::IllegalRequest, 0x23, 0x0A);
/// 05h/26h/06h.
pub const TOO_MANY_TARGET_DESCRIPTORS: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x06);
/// 05h/26h/07h.
pub const UNSUPPORTED_TARGET_DESCRIPTOR: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x07);
/// 05h/26h/08h.
pub const TOO_MANY_SEGMENT_DESCRIPTORS: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x08);
/// 05h/26h/09h.
pub const UNSUPPORTED_SEGMENT_DESCRIPTOR: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x09);
/// 05h/26h/0Bh.
pub const INLINE_DATA_LENGTH_EXCEEDED: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x0B);
/// 0Ah/00h/00h: a segment reaches beyond the end of a unit.
pub const COPY_ABORTED: Sense = Sense::new(SenseKey::CopyAborted, 0x00, 0x00);
/// 0Ah/08h/04h: a segment names a copy source or destination that the list does not have.
pub const UNREACHABLE_COPY_TARGET: Sense = Sense::new(SenseKey::CopyAborted, 0x08, 0x04);
/// 0Ah/0Dh/01h: a command to a copy source or destination failed.
pub const THIRD_PARTY_DEVICE_FAILURE: Sense = Sense::new(SenseKey::CopyAborted, 0x0D, 0x01);
/// 0Ah/0Dh/02h: the I_T nexus sees no unit that is named so.
pub const COPY_TARGET_NOT_REACHABLE: Sense = Sense::new(SenseKey::CopyAborted, 0x0D, 0x02);
/// 0Ah/0Dh/03h.
pub const INCORRECT_COPY_TARGET_TYPE: Sense = Sense::new(SenseKey::CopyAborted, 0x0D, 0x03);
/// 0Ah/26h/0Ah.
pub const UNEXPECTED_INEXACT_SEGMENT: Sense = Sense::new(SenseKey::CopyAborted, 0x26, 0x0A);
/// 0Bh/4Bh/00h.
pub const DATA_PHASE_ERROR: Sense = Sense::new(SenseKey::AbortedCommand, 0x4B, 0x00);
/// 0Eh/1Dh/00h.
pub const MISCOMPARE: Sense = Sense::new(SenseKey::Miscompare, 0x1D, 0x00);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_format_carries_information_and_field() {
        let sense = UNRECOVERED_READ_ERROR.with_information(0x1234_5678);
        let bytes = sense.encode();
        assert_eq!(bytes[..], [0xF0, 0, 3, 0x12, 0x34, 0x56, 0x78, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0]);
        let bytes = Sense::invalid_cdb(2, Some(7)).encode();
        assert_eq!((bytes[0], bytes[2], bytes[12]), (0x70, 5, 0x24));
        assert_eq!(bytes[15..], [0xCF, 0, 2]);
        assert_eq!(Sense::invalid_parameter(0x102, None).encode()[15..], [0x80, 1, 2]);
    }

    #[test]
    fn an_address_over_32_bits_needs_descriptor_format() {
        let sense = UNRECOVERED_READ_ERROR.with_information(1 << 40);
        assert_eq!(sense.encode()[..7], [0x70, 0, 3, 0, 0, 0, 0]);
        let bytes = sense.with_format(SenseFormat::Descriptor).encode();
        assert_eq!(bytes[..8], [0x72, 3, 0x11, 0, 0, 0, 0, 12]);
        assert_eq!(bytes[8..], [0, 0x0A, 0x80, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn descriptor_format_holds_all_fields() {
        let mut sense = Sense::invalid_cdb(1, Some(3)).with_information(7);
        sense.command_specific = Some(9);
        let bytes = sense.encode_descriptor();
        assert_eq!(bytes.len(), 8 + 12 + 12 + 8);
        assert_eq!(usize::from(bytes[7]), bytes.len() - 8);
        assert_eq!((bytes[8], bytes[20], bytes[32]), (0, 1, 2));
        assert!(!bytes.spilled());
    }
}
