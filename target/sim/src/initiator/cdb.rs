//! The CDBs that tests need. LBAs and lengths are in logical blocks.

use super::{Command, Transfer};

/// TEST UNIT READY.
pub fn test_unit_ready() -> [u8; 16] {
    [0; 16]
}

/// INQUIRY; `page` asks for a VPD page.
pub fn inquiry(page: Option<u8>, allocation: u16) -> [u8; 16] {
    let [high, low] = allocation.to_be_bytes();
    cdb(&[0x12, u8::from(page.is_some()), page.unwrap_or(0), high, low])
}

/// READ CAPACITY(16).
pub fn read_capacity_16() -> [u8; 16] {
    let mut cdb = cdb(&[0x9e, 0x10]);
    cdb[13] = 32;
    cdb
}

/// REPORT LUNS.
pub fn report_luns(allocation: u32) -> [u8; 16] {
    let mut cdb = cdb(&[0xa0]);
    cdb[6..10].copy_from_slice(&allocation.to_be_bytes());
    cdb
}

/// READ(16).
pub fn read_16(lba: u64, blocks: u32) -> [u8; 16] {
    sixteen(0x88, 0, lba, blocks)
}

/// WRITE(16), with FUA or not.
pub fn write_16(lba: u64, blocks: u32, fua: bool) -> [u8; 16] {
    sixteen(0x8a, if fua { 0x08 } else { 0 }, lba, blocks)
}

/// WRITE ATOMIC(16) without a boundary, with FUA or not.
pub fn write_atomic_16(lba: u64, blocks: u16, fua: bool) -> [u8; 16] {
    let mut cdb = sixteen(0x9c, if fua { 0x08 } else { 0 }, lba, 0);
    cdb[12..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// SYNCHRONIZE CACHE(16) of a range; 0 blocks for all up to the end.
pub fn synchronize_cache_16(lba: u64, blocks: u32) -> [u8; 16] {
    sixteen(0x91, 0, lba, blocks)
}

/// WRITE SAME(16), with the UNMAP bit or not.
pub fn write_same_16(lba: u64, blocks: u32, unmap: bool) -> [u8; 16] {
    sixteen(0x93, if unmap { 0x08 } else { 0 }, lba, blocks)
}

/// UNMAP of one range on a logical unit, with its parameter list.
pub fn unmap(lun: u16, lba: u64, blocks: u32) -> Command {
    let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
    list.extend_from_slice(&lba.to_be_bytes());
    list.extend_from_slice(&blocks.to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    Command::new(lun, cdb(&[0x42, 0, 0, 0, 0, 0, 0, 0, 24]), Transfer::Out(list))
}

fn cdb(head: &[u8]) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[..head.len()].copy_from_slice(head);
    cdb
}

fn sixteen(opcode: u8, flags: u8, lba: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = cdb(&[opcode, flags]);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}
