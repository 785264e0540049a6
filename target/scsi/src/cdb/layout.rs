//! Where block commands keep their logical block address and their number of blocks (SBC-3 4.6, SPC-4 4.2.5).

use super::field::{be16, be32, be64};

/// The shape of a block command's CDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockLayout {
    /// 21-bit address, 8-bit length where 0 means 256.
    Six,
    /// 32-bit address, 16-bit length.
    Ten,
    /// 32-bit address, 32-bit length.
    Twelve,
    /// 64-bit address, 32-bit length.
    Sixteen,
    /// COMPARE AND WRITE: 64-bit address, 8-bit length.
    Compare,
    /// WRITE ATOMIC(16): 64-bit address, 16-bit length behind a boundary.
    Atomic,
    /// The short form of 32 bytes: 64-bit address, 32-bit length.
    Long,
}

/// Address and length of a block command, unchecked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockCdb {
    /// Logical block address.
    pub(crate) lba: u64,
    /// Number of logical blocks.
    pub(crate) count: u32,
}

impl BlockLayout {
    /// Reads address and length.
    #[inline]
    pub(crate) fn decode(self, cdb: &[u8; 16]) -> BlockCdb {
        let (lba, count) = match self {
            Self::Six => {
                let count = if cdb[4] == 0 { 256 } else { u32::from(cdb[4]) };
                (u64::from(be32(cdb, 0) & 0x001F_FFFF), count)
            }
            Self::Ten => (u64::from(be32(cdb, 2)), u32::from(be16(cdb, 7))),
            Self::Twelve => (u64::from(be32(cdb, 2)), be32(cdb, 6)),
            Self::Sixteen | Self::Long => (be64(cdb, 2), be32(cdb, 10)),
            Self::Compare => (be64(cdb, 2), u32::from(cdb[13])),
            Self::Atomic => (be64(cdb, 2), u32::from(be16(cdb, 12))),
        };
        BlockCdb { lba, count }
    }

    /// Byte offset of the address field, for field pointers.
    pub(crate) const fn lba_byte(self) -> u16 {
        match self {
            Self::Six => 1,
            Self::Long => 12,
            _ => 2,
        }
    }

    /// Byte offset of the length field, for field pointers.
    pub(crate) const fn count_byte(self) -> u16 {
        match self {
            Self::Six => 4,
            Self::Ten => 7,
            Self::Twelve => 6,
            Self::Sixteen => 10,
            Self::Compare => 13,
            Self::Atomic => 12,
            Self::Long => 28,
        }
    }

    /// Byte offset of the flags, for field pointers; CDBs of 6 bytes have none.
    pub(crate) const fn flags_byte(self) -> u16 {
        match self {
            Self::Long => 10,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_reads_its_fields() {
        let mut cdb = [0u8; 16];
        for (i, byte) in cdb.iter_mut().enumerate() {
            *byte = i as u8 * 0x11;
        }
        assert_eq!(BlockLayout::Six.decode(&cdb), BlockCdb { lba: 0x11_2233, count: 0x44 });
        assert_eq!(BlockLayout::Ten.decode(&cdb), BlockCdb { lba: 0x2233_4455, count: 0x7788 });
        assert_eq!(BlockLayout::Twelve.decode(&cdb), BlockCdb { lba: 0x2233_4455, count: 0x6677_8899 });
        let lba = 0x2233_4455_6677_8899;
        assert_eq!(BlockLayout::Sixteen.decode(&cdb), BlockCdb { lba, count: 0xAABB_CCDD });
        assert_eq!(BlockLayout::Compare.decode(&cdb), BlockCdb { lba, count: 0xDD });
        assert_eq!(BlockLayout::Atomic.decode(&cdb), BlockCdb { lba, count: 0xCCDD });
    }
}
