//! Copy sources and copy destinations, and how a descriptor names them (CSCD descriptors, SPC-4 6.4.5).

use super::limits::TARGET_BYTES;
use crate::cdb::be16;
use crate::sense::{self, Sense};
use smallvec::SmallVec;

/// Identification descriptor (SPC-4 6.4.5.3).
pub(super) const IDENTIFICATION: u8 = 0xE4;

/// The CSCD descriptor identifier that means the logical unit which got the command (SPC-4 table 139).
pub(super) const SELF: u16 = 0xFFFF;

/// A designator of a logical unit, as VPD page 83h has it (SPC-4 7.8.6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Designator {
    code_set: u8,
    kind: u8,
    bytes: SmallVec<[u8; 20]>,
}

/// One CSCD descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Who it is; `None` when the NUL bit says that nobody is.
    pub(super) designator: Option<Designator>,
    /// PERIPHERAL DEVICE TYPE.
    pub(super) device_type: u8,
    /// DISK BLOCK LENGTH in bytes, 0 when it is not told.
    pub(super) block_length: u32,
}

impl Target {
    /// Reads a descriptor of 32 bytes that stands at `at` of the parameter list.
    pub(super) fn parse(bytes: &[u8], at: usize) -> Result<Self, Sense> {
        let wrong = |byte: usize| Sense::invalid_parameter((at + byte) as u16, None);
        if bytes[0] != IDENTIFICATION {
            return Err(sense::UNSUPPORTED_TARGET_DESCRIPTOR.with_parameter_field(at as u16, None));
        }
        // LU ID TYPE is obsolete since SPC-4, and ignored: what is named is a logical unit.
        let (device_type, nul) = (bytes[1] & 0x1F, bytes[1] & 0x20 != 0);
        let block_length = u32::from_be_bytes([0, bytes[29], bytes[30], bytes[31]]);
        if nul {
            return Ok(Self { designator: None, device_type, block_length });
        }
        // ASSOCIATION: the designator is the logical unit's.
        if bytes[5] & 0x30 != 0 {
            return Err(wrong(5));
        }
        let designator = bytes[8..28].get(..usize::from(bytes[7])).ok_or(wrong(7))?;
        Ok(Self {
            designator: Some(Designator {
                code_set: bytes[4] & 0x0F,
                kind: bytes[5] & 0x0F,
                bytes: SmallVec::from_slice(designator),
            }),
            device_type,
            block_length,
        })
    }

    /// The descriptor of a unit with this NAA designator, for the creator field of a token.
    pub(super) fn of_naa(naa: &[u8; 16], block_length: u32) -> [u8; TARGET_BYTES] {
        let mut bytes = [0; TARGET_BYTES];
        (bytes[0], bytes[4], bytes[5], bytes[7]) = (IDENTIFICATION, 0x01, 0x03, 16);
        bytes[8..24].copy_from_slice(naa);
        bytes[28..].copy_from_slice(&block_length.to_be_bytes());
        bytes
    }
}

impl Designator {
    /// Whether the device identification page (VPD 83h, everything behind its header) has this designator for its
    /// logical unit.
    pub(super) fn is_in(&self, page: &[u8]) -> bool {
        let mut rest = page;
        while let [code_set, kind, _, length, more @ ..] = rest {
            let Some((bytes, behind)) = more.split_at_checked(usize::from(*length)) else { return false };
            let unit = kind & 0x30 == 0;
            if unit
                && code_set & 0x0F == self.code_set
                && kind & 0x0F == self.kind
                && bytes == &self.bytes[..]
            {
                return true;
            }
            rest = behind;
        }
        false
    }
}

/// The designators in the reply to INQUIRY for VPD page 83h.
pub(super) fn identification_page(reply: &[u8]) -> &[u8] {
    if reply.len() < 4 || reply[1] != 0x83 {
        return &[];
    }
    let end = (4 + usize::from(be16(reply, 2))).min(reply.len());
    &reply[4..end]
}
