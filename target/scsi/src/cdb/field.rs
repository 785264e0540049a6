//! Big-endian fields of CDBs and parameter lists.

/// The 16-bit field at `at`; the caller knows that it lies inside.
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The 32-bit field at `at`; the caller knows that it lies inside.
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The 64-bit field at `at`; the caller knows that it lies inside.
pub(crate) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be32(bytes, at)) << 32 | u64::from(be32(bytes, at + 4))
}

/// Where a length in bytes stands in a CDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LengthField {
    /// One byte.
    Byte(u8),
    /// Two bytes from here.
    Short(u8),
    /// Four bytes from here.
    Long(u8),
}

impl LengthField {
    /// Offset of its first byte in the CDB.
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Byte(at) | Self::Short(at) | Self::Long(at) => at,
        }
    }

    /// The length in bytes.
    pub(crate) fn read(self, cdb: &[u8; 16]) -> u32 {
        match self {
            Self::Byte(at) => u32::from(cdb[usize::from(at)]),
            Self::Short(at) => u32::from(be16(cdb, usize::from(at))),
            Self::Long(at) => be32(cdb, usize::from(at)),
        }
    }
}
