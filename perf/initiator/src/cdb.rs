//! The command descriptor blocks that a load generator sends (SPC-5, SBC-4). LBAs and lengths count logical blocks.

/// A CDB, padded with zeros to the 16 bytes of a SCSI Command PDU.
pub type Cdb = [u8; 16];

/// TEST UNIT READY.
#[must_use]
pub const fn test_unit_ready() -> Cdb {
    [0; 16]
}

/// INQUIRY of the standard data, or of vital product data page `page`, with room for `len` bytes.
#[must_use]
pub fn inquiry(page: Option<u8>, len: u16) -> Cdb {
    let [high, low] = len.to_be_bytes();
    head(&[0x12, u8::from(page.is_some()), page.unwrap_or(0), high, low])
}

/// READ CAPACITY(16), with room for `len` bytes.
#[must_use]
pub fn read_capacity_16(len: u32) -> Cdb {
    let mut cdb = head(&[0x9e, 0x10]);
    cdb[10..14].copy_from_slice(&len.to_be_bytes());
    cdb
}

/// READ CAPACITY(10).
#[must_use]
pub fn read_capacity_10() -> Cdb {
    head(&[0x25])
}

/// REPORT LUNS, with room for `len` bytes.
#[must_use]
pub fn report_luns(len: u32) -> Cdb {
    let mut cdb = head(&[0xa0]);
    cdb[6..10].copy_from_slice(&len.to_be_bytes());
    cdb
}

/// PERSISTENT RESERVE IN, READ FULL STATUS if `full`, else READ KEYS, with room for `len` bytes.
#[must_use]
pub fn persistent_reserve_in(full: bool, len: u16) -> Cdb {
    let mut cdb = head(&[0x5e, if full { 3 } else { 0 }]);
    cdb[7..9].copy_from_slice(&len.to_be_bytes());
    cdb
}

/// REPORT SUPPORTED OPERATION CODES for one operation code, with room for `len` bytes.
#[must_use]
pub fn report_supported_operation_code(opcode: u8, len: u32) -> Cdb {
    let mut cdb = head(&[0xa3, 0x0c, 1, opcode]);
    cdb[6..10].copy_from_slice(&len.to_be_bytes());
    cdb
}

/// MODE SENSE(6) of page `page`, without block descriptors, with room for `len` bytes.
#[must_use]
pub fn mode_sense_6(page: u8, len: u8) -> Cdb {
    head(&[0x1a, 0x08, page & 0x3f, 0, len])
}

/// READ(10), or READ(16) where the address or the length does not fit.
#[must_use]
#[inline]
pub fn read(lba: u64, blocks: u32) -> Cdb {
    ten_or_sixteen(0x28, 0x88, 0, lba, blocks)
}

/// WRITE(10), or WRITE(16) where the address or the length does not fit.
#[must_use]
#[inline]
pub fn write(lba: u64, blocks: u32) -> Cdb {
    ten_or_sixteen(0x2a, 0x8a, 0, lba, blocks)
}

/// WRITE(16) with FUA: durable when it has GOOD status.
#[must_use]
pub fn write_fua(lba: u64, blocks: u32) -> Cdb {
    sixteen(0x8a, 0x08, lba, blocks)
}

/// SYNCHRONIZE CACHE(16) of `blocks` blocks, or of everything from `lba` on if 0.
#[must_use]
pub fn synchronize_cache(lba: u64, blocks: u32) -> Cdb {
    ten_or_sixteen(0x35, 0x91, 0, lba, blocks)
}

/// WRITE SAME(16) of one logical block; with `unmap` the UNMAP bit.
#[must_use]
pub fn write_same_16(lba: u64, blocks: u32, unmap: bool) -> Cdb {
    sixteen(0x93, if unmap { 0x08 } else { 0 }, lba, blocks)
}

/// UNMAP with a parameter list of `len` bytes; see [`unmap_list`].
#[must_use]
pub fn unmap(len: u16) -> Cdb {
    let mut cdb = head(&[0x42]);
    cdb[7..9].copy_from_slice(&len.to_be_bytes());
    cdb
}

/// The parameter list of an UNMAP with one descriptor (SBC-4 5.35).
#[must_use]
pub fn unmap_list(lba: u64, blocks: u32) -> [u8; 24] {
    let mut list = [0; 24];
    list[1] = 22;
    list[3] = 16;
    list[8..16].copy_from_slice(&lba.to_be_bytes());
    list[16..20].copy_from_slice(&blocks.to_be_bytes());
    list
}

fn head(bytes: &[u8]) -> Cdb {
    let mut cdb = [0; 16];
    cdb[..bytes.len()].copy_from_slice(bytes);
    cdb
}

#[inline]
fn ten_or_sixteen(ten: u8, opcode_16: u8, flags: u8, lba: u64, blocks: u32) -> Cdb {
    let (Ok(short_lba), Ok(short_blocks)) = (u32::try_from(lba), u16::try_from(blocks)) else {
        return sixteen(opcode_16, flags, lba, blocks);
    };
    let mut cdb = [0; 16];
    cdb[0] = ten;
    cdb[1] = flags;
    cdb[2..6].copy_from_slice(&short_lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&short_blocks.to_be_bytes());
    cdb
}

fn sixteen(opcode: u8, flags: u8, lba: u64, blocks: u32) -> Cdb {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    cdb[1] = flags;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_as_long_as_it_fits() {
        assert_eq!(read(0x0102_0304, 0x0506)[..10], [0x28, 0, 1, 2, 3, 4, 0, 5, 6, 0]);
        assert_eq!(read(1 << 32, 1)[..14], [0x88, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(write(5, 0x1_0000)[0], 0x8a);
        assert_eq!(synchronize_cache(0, 0)[0], 0x35);
    }

    #[test]
    fn an_unmap_list_counts_itself() {
        let list = unmap_list(0x1122, 0x33);
        assert_eq!(list[..8], [0, 22, 0, 16, 0, 0, 0, 0]);
        assert_eq!((list[14], list[15], list[19]), (0x11, 0x22, 0x33));
    }
}
