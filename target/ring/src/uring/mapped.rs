//! A file in memory, mapped: reading and writing what is there costs a copy, not a call into the kernel.
//!
//! ```text
//!   page known to be there ──► copy from or to the mapping
//!   any other              ──► pread or pwrite, and a look whether the page is there now
//! ```
//!
//! A hole is never touched through the mapping: that would give it memory, and a sparse image would become a dense one
//! by being read. Somebody may shorten the file while it is mapped ([`crate::guard`]): the transfer is then done over
//! by a call, which gives the right error, and the file is not used through a mapping any more.
//!
//! What is read to be sent is not copied at all at first, if it is long: see [`super::late`].

use super::late::LateReads;
use super::mapping::Mapping;
use crate::cold_copy::copy_to_cold_raw;
use crate::file::OpenedFile;
use crate::guard::Guarded;
use crate::memory::Buffer;
use rustix::fs::{SeekFrom, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use std::os::fd::{AsFd, OwnedFd};

/// Bytes of a page.
const PAGE: u64 = 4096;

/// The longest file that is mapped, in bytes: a bit per page of it is 8 MiB.
const LEN_MAX: u64 = 256 << 30;

/// Stretches of data that are looked for when a file is mapped. A file in more pieces is learned as it is used.
const STRETCHES_MAX: usize = 4096;

/// Bytes of a file that get their page table entries, and huge pages, when it is mapped. The rest get them one by one, at its first use,
/// by a page fault each, which takes longer than the command that it holds up.
const POPULATED_MAX: u64 = 4 << 30;

/// Shorter reads are copied at once: to look after them costs as much as the copy.
const LATE_MIN: u32 = 16 * 1024;

/// Pages of one transfer that are looked for after it was done by a call.
const LEARN_MAX: u64 = 16;

/// A mapped file, and which of its pages are known to be there.
pub(super) struct MappedFile {
    /// Goes before the mapping does.
    guard: Guarded,
    mapping: Mapping,
    /// For looking at what is mapped.
    fd: OwnedFd,
    /// Bytes that are mapped: whole pages.
    len: u64,
    present: Vec<u64>,
    /// Reads whose bytes still lie here.
    late: LateReads,
    writable: bool,
    /// It was written since its modification time was set: stores into a mapping do not set it.
    modified: bool,
}

impl MappedFile {
    /// Maps a file in memory for a ring; `None` where that cannot be, which costs speed only.
    pub(super) fn new(file: &OpenedFile, ring: u32) -> Option<Self> {
        let traits = file.traits();
        let len = (traits.len_bytes / PAGE * PAGE).min(LEN_MAX);
        let possible = traits.in_memory && len > 0 && rustix::param::page_size() as u64 == PAGE;
        if !possible {
            return None;
        }
        let fd = file.as_fd().try_clone_to_owned().ok()?;
        let mapping = Mapping::new(&fd, usize::try_from(len).ok()?, traits.writable).ok()?;
        let guard = Guarded::new(ring, mapping.as_ptr() as usize, mapping.len())?;
        let words = usize::try_from((len / PAGE).div_ceil(64)).ok()?;
        let present = vec![0; words];
        let (late, writable) = (LateReads::default(), traits.writable);
        let mut this = Self { guard, mapping, fd, len, present, late, writable, modified: false };
        this.find_data();
        Some(this)
    }

    /// Notes what is there at first, and makes it accessible. The kernel goes through a GiB of pages in a few
    /// milliseconds, and copies it into huge pages or fills in its page table in some hundred, before the shard runs.
    fn find_data(&mut self) {
        let (mut at, mut populate) = (0, POPULATED_MAX);
        for _ in 0..STRETCHES_MAX {
            let Ok(data) = rustix::fs::seek(&self.fd, SeekFrom::Data(at)) else { return };
            let Ok(hole) = rustix::fs::seek(&self.fd, SeekFrom::Hole(data)) else { return };
            let (first, behind) = (data.div_ceil(PAGE), hole.min(self.len) / PAGE);
            (first..behind).for_each(|page| self.mark(page, true));
            let bytes = (behind.saturating_sub(first) * PAGE).min(populate);
            if bytes > 0 {
                populate -= bytes;
                self.mapping.take_together((first * PAGE) as usize, bytes as usize);
                self.mapping.populate((first * PAGE) as usize, bytes as usize);
            }
            at = hole;
            if at <= data || at >= self.len {
                return;
            }
        }
    }

    /// Whether the file was found shortened: it must not be used any more.
    pub(super) fn is_damaged(&self) -> bool {
        self.guard.is_damaged()
    }

    /// Copies `len` bytes at byte `offset` of the file to `start` in the buffer, which is not shared; false, and
    /// nothing that counts was done, when that takes a call.
    pub(super) fn read(&self, offset: u64, buffer: &mut Buffer, start: u32, len: u32) -> bool {
        if !self.has(offset, len) {
            return false;
        }
        let Some(target) =
            buffer.bytes_mut().and_then(|bytes| bytes.get_mut(start as usize..start as usize + len as usize))
        else {
            return false;
        };
        // SAFETY: `has` checked that the range is mapped, and the two do not overlap, since the buffer's pool has a
        // mapping of its own. Another process may write to the file meanwhile: then the bytes are some mixture, as
        // they would be by a call. No reference into the mapping is made.
        #[allow(unsafe_code, reason = "bytes of a shared mapping must not be referred to")]
        unsafe {
            let source = self.mapping.as_ptr().add(offset as usize);
            std::ptr::copy_nonoverlapping(source, target.as_mut_ptr(), target.len());
        }
        !self.is_damaged()
    }

    /// As `read`, to the buffer's start, but the bytes stay where they lie; they are no others when the file is written.
    /// False, and nothing was done, where that cannot be or does not pay.
    pub(super) fn read_late(&mut self, offset: u64, buffer: &mut Buffer, len: u32) -> bool {
        if len < LATE_MIN || !self.has(offset, len) || self.is_damaged() {
            return false;
        }
        let source = self.mapping.as_ptr().wrapping_add(offset as usize);
        // SAFETY: `has` checked that the range is mapped. It stays mapped until `drop`, and its bytes stay what they are
        // until `changes`; both have all reads that are in `late` copied before.
        #[allow(unsafe_code, reason = "bytes of a shared mapping must not be referred to")]
        unsafe {
            self.late.add(buffer, source, len, self.guard.number())
        }
    }

    /// A range is about to be changed: reads that were to have its bytes get them now.
    #[inline]
    pub(super) fn changes(&mut self, offset: u64, len: u64) {
        if !self.late.is_empty() {
            let start = (self.mapping.as_ptr() as usize).saturating_add(offset as usize);
            self.late.settle(start, start.saturating_add(len as usize));
        }
    }

    /// Copies `buffer[start..start + len]` to byte `offset` of the file; false, and it must be done by a call.
    pub(super) fn write(&mut self, offset: u64, buffer: &Buffer, start: u32, len: u32) -> bool {
        if !self.writable || !self.has(offset, len) {
            return false;
        }
        let Some(source) = buffer.bytes().get(start as usize..start as usize + len as usize) else {
            return false;
        };
        // SAFETY: as in `read`; the mapping is writable.
        #[allow(unsafe_code, reason = "bytes of a shared mapping must not be referred to")]
        unsafe {
            let target = self.mapping.as_ptr().add(offset as usize);
            copy_to_cold_raw(source.as_ptr(), target, source.len());
        }
        self.modified = true;
        !self.is_damaged()
    }

    /// Whether all pages of the range are mapped and known to be there.
    fn has(&self, offset: u64, len: u32) -> bool {
        let Some(end) = offset.checked_add(u64::from(len)).filter(|end| *end <= self.len && len > 0) else {
            return false;
        };
        (offset / PAGE..end.div_ceil(PAGE)).all(|page| {
            self.present.get((page / 64) as usize).is_some_and(|word| word >> (page % 64) & 1 != 0)
        })
    }

    /// After a read by a call: notes which pages of the range are there.
    pub(super) fn learn(&mut self, offset: u64, len: u32) {
        let end = offset.saturating_add(u64::from(len)).min(self.len).div_ceil(PAGE);
        for page in (offset / PAGE..end).take(LEARN_MAX as usize) {
            // Where there is data at a page's start, the page is no hole.
            let at = page * PAGE;
            if rustix::fs::seek(&self.fd, SeekFrom::Data(at)) == Ok(at) {
                self.mark(page, true);
            }
        }
    }

    /// After a write by a call: its pages have memory now.
    pub(super) fn written(&mut self, offset: u64, len: u32) {
        let end = offset.saturating_add(u64::from(len)).min(self.len).div_ceil(PAGE);
        (offset / PAGE..end).for_each(|page| self.mark(page, true));
    }

    /// Before a range is freed.
    pub(super) fn freed(&mut self, offset: u64, len: u64) {
        self.changes(offset, len);
        let end = offset.saturating_add(len).min(self.len).div_ceil(PAGE);
        (offset / PAGE..end).for_each(|page| self.mark(page, false));
    }

    fn mark(&mut self, page: u64, there: bool) {
        if let Some(word) = self.present.get_mut((page / 64) as usize) {
            let bit = 1 << (page % 64);
            *word = if there { *word | bit } else { *word & !bit };
        }
    }

    /// Sets the file's modification time, if it was written through the mapping since this was done last.
    pub(super) fn stamp(&mut self) {
        if std::mem::take(&mut self.modified) {
            let when = |nanoseconds| Timespec { tv_sec: 0, tv_nsec: nanoseconds };
            let times = Timestamps { last_access: when(UTIME_OMIT), last_modification: when(UTIME_NOW) };
            // Without it a backup by modification time may overlook the file: no reason to fail a flush.
            let _ = rustix::fs::futimens(&self.fd, &times);
        }
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        self.stamp();
        // From here on nobody touches the mapping.
        self.late.settle(0, usize::MAX);
    }
}
