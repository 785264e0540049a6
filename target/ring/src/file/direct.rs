//! O_DIRECT: whether a file can be read past the page cache, and with which alignment.

use rustix::fs::{AtFlags, OFlags, StatxFlags};
use std::os::fd::BorrowedFd;

/// What O_DIRECT transfers must be aligned to; both are powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectAlignment {
    /// Of the memory address, in bytes.
    pub memory: u32,
    /// Of the file offset and the length, in bytes.
    pub offset: u32,
}

/// Alignments beyond this are left to the page cache: our I/O buffers are aligned to pages.
const ALIGNMENT_MAX: u32 = 4096;

/// Switches the file to O_DIRECT where the kernel names the alignment (STATX_DIOALIGN) and a real read proves it.
/// Otherwise leaves it buffered and tells why.
pub(super) fn enable(
    file: BorrowedFd<'_>,
    len_bytes: u64,
    writable: bool,
) -> Result<DirectAlignment, String> {
    let alignment = alignment(file)?;
    if writable && !len_bytes.is_multiple_of(u64::from(alignment.offset)) {
        return Err(format!(
            "its length is no multiple of {} bytes, so its end could not be written past the cache",
            alignment.offset
        ));
    }
    let flags = rustix::fs::fcntl_getfl(file).map_err(|errno| format!("fcntl(F_GETFL) failed: {errno}"))?;
    rustix::fs::fcntl_setfl(file, flags | OFlags::DIRECT)
        .map_err(|errno| format!("the file system refuses O_DIRECT: {errno}"))?;
    match probe(file, alignment) {
        Ok(()) => Ok(alignment),
        Err(reason) => {
            rustix::fs::fcntl_setfl(file, flags)
                .map_err(|errno| format!("fcntl(F_SETFL) failed: {errno}"))?;
            Err(reason)
        }
    }
}

fn alignment(file: BorrowedFd<'_>) -> Result<DirectAlignment, String> {
    let stat = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)
        .map_err(|errno| format!("statx failed: {errno}"))?;
    if stat.stx_mask & StatxFlags::DIOALIGN.bits() == 0 {
        return Err("the file system does not tell the alignment of O_DIRECT (STATX_DIOALIGN)".to_owned());
    }
    let alignment = DirectAlignment { memory: stat.stx_dio_mem_align, offset: stat.stx_dio_offset_align };
    match alignment {
        DirectAlignment { memory: 0, .. } | DirectAlignment { offset: 0, .. } => {
            Err("the file system has no O_DIRECT for this file".to_owned())
        }
        DirectAlignment { memory, offset } if memory.max(offset) > ALIGNMENT_MAX => {
            Err(format!("O_DIRECT would need an alignment of {} bytes", memory.max(offset)))
        }
        DirectAlignment { memory, offset } if !memory.is_power_of_two() || !offset.is_power_of_two() => {
            Err(format!("the file system tells an alignment of {memory} and {offset} bytes, no power of two"))
        }
        usable => Ok(usable),
    }
}

/// Reads the file's first block with exactly the alignment that was told.
fn probe(file: BorrowedFd<'_>, alignment: DirectAlignment) -> Result<(), String> {
    let mut memory = memmap2::MmapMut::map_anon(2 * ALIGNMENT_MAX as usize)
        .map_err(|error| format!("no memory to try O_DIRECT: {error}"))?;
    let start = alignment.memory as usize % ALIGNMENT_MAX as usize;
    let block = &mut memory[start..start + alignment.offset as usize];
    match rustix::io::pread(file, block, 0) {
        Ok(_) => Ok(()),
        Err(errno) => Err(format!(
            "a trial read with O_DIRECT (memory aligned to {}, {} bytes) failed: {errno}",
            alignment.memory, alignment.offset
        )),
    }
}
