//! Address space of a mapped file, where the kernel can give it huge pages.
//!
//! ```text
//!   reserved, without access:  |·····|· the file ···························|·····|
//!                                    ▲ a multiple of 2 MiB, so that 2 MiB of the file can have one entry
//! ```
//!
//! A command touches a few pages of a file of many GiB, each time others: with pages of 4 KiB the processor finds hardly
//! any of them in its TLB, and goes through the page tables of the machine, and of the host's if it is a guest. Linux gives
//! files in memory no huge pages unless its operator says so for the whole machine, but takes them together when asked.

use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::ffi::c_void;
use std::io;
use std::os::fd::AsFd;
use std::ptr::{NonNull, null_mut};

/// Bytes of a huge page.
pub(super) const HUGE_PAGE: usize = 2 << 20;

/// A file mapped from its beginning on, shared.
pub(super) struct Mapping {
    reserved: NonNull<c_void>,
    reserved_len: usize,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it is address space; whoever reads and writes there answers for that.
#[allow(unsafe_code, reason = "a bare pointer is neither by itself")]
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of a file.
    ///
    /// # Errors
    /// What mmap says.
    #[allow(unsafe_code, reason = "memory is mapped by no safe call")]
    pub(super) fn new(file: &impl AsFd, len: usize, writable: bool) -> io::Result<Self> {
        let reserved_len = len.checked_add(HUGE_PAGE).ok_or(io::ErrorKind::InvalidInput)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping where the kernel likes, which nothing refers to.
        let reserved =
            unsafe { rustix::mm::mmap_anonymous(null_mut(), reserved_len, ProtFlags::empty(), flags) }?;
        let reserved = NonNull::new(reserved).ok_or(io::ErrorKind::OutOfMemory)?;
        let start = reserved.as_ptr().map_addr(|address| address.next_multiple_of(HUGE_PAGE));
        // From here on its drop gives the reservation back.
        let this = Self {
            reserved,
            reserved_len,
            start: NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?,
            len,
        };
        let access = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: it replaces a part of the reservation, which is ours and has no access: the start is less than a huge
        // page behind the reservation's, which is by a huge page longer than the file.
        unsafe { rustix::mm::mmap(start, len, access, flags, file, 0) }?;
        Ok(this)
    }

    /// Address of the file's first byte.
    pub(super) fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Bytes of the file that are mapped.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Has the kernel take whole huge pages of a stretch together, where the file has data throughout: else holes in it
    /// would get memory. Nothing but speed depends on it, so a kernel that cannot (before 6.1) or may not is no error;
    /// whether it did.
    pub(super) fn take_together(&self, start: usize, len: usize) -> bool {
        /// Of linux/mman.h; rustix has no name for it.
        const MADV_COLLAPSE: i32 = 25;
        let end = (start + len).min(self.len) / HUGE_PAGE * HUGE_PAGE;
        let start = start.next_multiple_of(HUGE_PAGE);
        let Some(whole) = end.checked_sub(start).filter(|whole| *whole > 0) else { return false };
        let address = self.as_ptr().wrapping_add(start);
        // SAFETY: the range is of our mapping, and no byte of it changes.
        #[allow(unsafe_code, reason = "madvise takes an address")]
        let result = unsafe { libc::madvise(address.cast(), whole, MADV_COLLAPSE) };
        result == 0
    }

    /// Fills in the page table for a stretch of data, where the kernel can (5.14): else pages are found when they are used.
    pub(super) fn populate(&self, start: usize, len: usize) {
        let len = len.min(self.len.saturating_sub(start));
        // SAFETY: the range is of our mapping; reading it changes nothing.
        #[allow(unsafe_code, reason = "madvise takes an address")]
        let _ = unsafe {
            rustix::mm::madvise(self.as_ptr().wrapping_add(start).cast(), len, Advice::LinuxPopulateRead)
        };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: all of it is ours, and whoever used it is gone: nothing borrows from it, so that is for its owner to see.
        #[allow(unsafe_code, reason = "memory is unmapped by no safe call")]
        let _ = unsafe { rustix::mm::munmap(self.reserved.as_ptr(), self.reserved_len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    const MIB: usize = 1 << 20;

    /// Data, a hole, and data: only what is data throughout is taken together, and no byte and no block changes.
    #[test]
    fn holes_stay_and_what_is_between_them_is_taken_together() {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        file.set_len(9 * MIB as u64).unwrap();
        let data: Vec<u8> = (0..3 * MIB).map(|at| (at / 512) as u8 | 1).collect();
        file.write_all_at(&data, 0).unwrap();
        file.write_all_at(&data, 6 * MIB as u64).unwrap();
        let blocks = file.metadata().unwrap().blocks();
        let mapping = Mapping::new(&file, 9 * MIB, true).unwrap();
        assert!(mapping.as_ptr().addr().is_multiple_of(HUGE_PAGE));
        let taken = [mapping.take_together(0, 3 * MIB), mapping.take_together(6 * MIB, 3 * MIB)];
        assert_eq!(taken[0], taken[1], "the kernel can, or it cannot");
        mapping.populate(0, 3 * MIB);
        mapping.populate(6 * MIB, 3 * MIB);
        assert!(!mapping.take_together(MIB, 2 * MIB), "no huge page lies in there whole");
        assert_eq!(file.metadata().unwrap().blocks(), blocks, "holes got memory");
        let mut read = vec![0; data.len()];
        for offset in [0, 6 * MIB as u64] {
            file.read_exact_at(&mut read, offset).unwrap();
            assert!(read == data);
        }
        let hole = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(0)).unwrap();
        assert_eq!(hole, 3 * MIB as u64);
        // A hole that is punched into a huge page frees what it can, and the rest stays.
        let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, punch, MIB as u64, 4096).unwrap();
        file.read_exact_at(&mut read, 0).unwrap();
        assert!(read[MIB..][..4096].iter().all(|byte| *byte == 0));
        assert!(read[..MIB] == data[..MIB] && read[MIB + 4096..] == data[MIB + 4096..]);
        println!("taken together: {taken:?}, blocks {blocks} and then {}", file.metadata().unwrap().blocks());
    }
}
