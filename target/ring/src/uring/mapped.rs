//! A file in memory, mapped: reading and writing what is there costs a copy, not a call into the kernel.
//!
//! ```text
//!   page known to be there ──► copy from or to the mapping
//!   any other              ──► pread or pwrite, and a look whether the page is there now
//! ```
//!
//! A hole is never touched through the mapping: that would give it memory, and a sparse image would become a dense one
//! by being read. Somebody may shorten the file while it is mapped: touching what is gone raises SIGBUS. The handler
//! here puts a page of zeros into the gap so that the copy ends, and marks the mapping; the transfer is then done over
//! by a call, which gives the right error, and the file is not used through a mapping any more.

use crate::cold_copy::copy_to_cold_raw;
use crate::file::OpenedFile;
use crate::memory::Buffer;
use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{SeekFrom, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bytes of a page.
const PAGE: u64 = 4096;

/// The longest file that is mapped, in bytes: a bit per page of it is 8 MiB.
const LEN_MAX: u64 = 256 << 30;

/// Files of the process that are mapped at once; further ones are read and written by calls.
const MAPPINGS_MAX: usize = 256;

/// Stretches of data that are looked for when a file is mapped. A file in more pieces is learned as it is used.
const STRETCHES_MAX: usize = 4096;

/// Bytes of a file that get their page table entries when it is mapped. The rest get them one by one, at its first use,
/// by a page fault each, which takes longer than the command that it holds up.
const POPULATED_MAX: u64 = 4 << 30;

/// Pages of one transfer that are looked for after it was done by a call.
const LEARN_MAX: u64 = 16;

/// One mapping, as the signal handler knows it.
struct Guard {
    taken: AtomicBool,
    start: AtomicUsize,
    end: AtomicUsize,
    damaged: AtomicBool,
}

static GUARDS: [Guard; MAPPINGS_MAX] = [const {
    Guard {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        damaged: AtomicBool::new(false),
    }
}; MAPPINGS_MAX];

/// A mapped file, and which of its pages are known to be there.
pub(super) struct MappedFile {
    mapping: MmapRaw,
    /// For looking at what is mapped.
    fd: OwnedFd,
    /// Bytes that are mapped: whole pages.
    len: u64,
    present: Vec<u64>,
    guard: &'static Guard,
    writable: bool,
    /// It was written since its modification time was set: stores into a mapping do not set it.
    modified: bool,
}

impl MappedFile {
    /// Maps a file in memory; `None` where that cannot be, which costs speed only.
    pub(super) fn new(file: &OpenedFile) -> Option<Self> {
        let traits = file.traits();
        let len = (traits.len_bytes / PAGE * PAGE).min(LEN_MAX);
        let possible = traits.in_memory && len > 0 && rustix::param::page_size() as u64 == PAGE;
        if !possible || !handler_is_installed() {
            return None;
        }
        let mut options = MmapOptions::new();
        options.len(usize::try_from(len).ok()?);
        let fd = file.as_fd().try_clone_to_owned().ok()?;
        let mapped = if traits.writable { options.map_raw(&fd) } else { options.map_raw_read_only(&fd) };
        let mapping = mapped.ok()?;
        let guard = GUARDS.iter().find(|guard| {
            guard.taken.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        })?;
        let start = mapping.as_mut_ptr() as usize;
        guard.damaged.store(false, Ordering::Relaxed);
        guard.start.store(start, Ordering::Relaxed);
        guard.end.store(start + mapping.len(), Ordering::Release);
        let words = usize::try_from((len / PAGE).div_ceil(64)).ok()?;
        let present = vec![0; words];
        let mut this = Self { mapping, fd, len, present, guard, writable: traits.writable, modified: false };
        this.find_data();
        Some(this)
    }

    /// Notes what is there at first, and makes it accessible. The kernel goes through a GiB of pages in a few
    /// milliseconds, and fills in its page table in some hundred, before the shard runs.
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
                // Where the kernel cannot (before 5.14), the pages are found when they are used.
                let _ =
                    self.mapping.advise_range(Advice::PopulateRead, (first * PAGE) as usize, bytes as usize);
            }
            at = hole;
            if at <= data || at >= self.len {
                return;
            }
        }
    }

    /// Whether the file was found shortened: it must not be used any more.
    pub(super) fn is_damaged(&self) -> bool {
        self.guard.damaged.load(Ordering::Relaxed)
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
            let target = self.mapping.as_mut_ptr().add(offset as usize);
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
        // No fault of this mapping can come any more: it is only ever touched by its own methods.
        self.guard.end.store(0, Ordering::Relaxed);
        self.guard.start.store(0, Ordering::Relaxed);
        self.guard.taken.store(false, Ordering::Release);
    }
}

/// What handled SIGBUS before us.
static PREVIOUS: OnceLock<Option<libc::sigaction>> = OnceLock::new();

/// Installs the handler, once in the process; false when the kernel refuses.
#[allow(unsafe_code, reason = "signal handlers are installed by libc only")]
fn handler_is_installed() -> bool {
    let installed = PREVIOUS.get_or_init(|| {
        // SAFETY: both structures are plain data for which zero is valid; the handler only does what a signal handler
        // may: atomics, mmap, sigaction.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let mut previous: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_bus_error as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            (libc::sigaction(libc::SIGBUS, &raw const action, &raw mut previous) == 0).then_some(previous)
        }
    });
    installed.is_some()
}

/// Closes the gap that a mapping of ours was found to have; any other fault goes to whoever handled it before.
#[allow(unsafe_code, reason = "a signal handler gets bare pointers")]
extern "C" fn on_bus_error(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid structure to a handler with SA_SIGINFO.
    let address = unsafe { (*info).si_addr() } as usize;
    for guard in &GUARDS {
        let end = guard.end.load(Ordering::Acquire);
        let start = guard.start.load(Ordering::Relaxed);
        if (start..end).contains(&address) {
            guard.damaged.store(true, Ordering::Relaxed);
            let page = (address & !(PAGE as usize - 1)) as *mut libc::c_void;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            let access = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: it replaces one page of a mapping that is ours and that nothing refers to.
            let mapped = unsafe { libc::mmap(page, PAGE as usize, access, flags, -1, 0) };
            if mapped != libc::MAP_FAILED {
                return;
            }
        }
    }
    let previous = PREVIOUS.get().and_then(Option::as_ref);
    match previous.map(|previous| (previous.sa_sigaction, previous.sa_flags)) {
        Some((handler, flags)) if handler > libc::SIG_IGN && flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: that is what the previous handler was installed as.
            unsafe {
                let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) =
                    std::mem::transmute(handler);
                handler(signal, info, context);
            }
        }
        // SAFETY: with the default action the fault, which comes again, ends the process.
        _ => unsafe {
            libc::signal(signal, libc::SIG_DFL);
        },
    }
}
