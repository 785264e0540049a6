//! Memory that outlives the process: a file of a tmpfs, or a memfd of which somebody else keeps a descriptor.
//!
//! Two things are mapped of such a file: words that are read and written one by one ([`Words`]), and the slots of a pool
//! ([`Pool::lasting`]). A killed process leaves each store that it has made, in the order in which it made them, since the
//! pages belong to the file; only the host's power takes them away.

use super::{Buffer, Pool, PoolConfig};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, FlockOperation, MemfdFlags, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a page: the unit in which such a file takes memory.
const PAGE: u64 = 4096;
/// Bytes of a word.
const WORD: u64 = size_of::<u64>() as u64;

/// A file in memory that outlives the process.
#[derive(Clone, Debug)]
pub struct LastingFile(Arc<File>);

impl LastingFile {
    /// A new one without a path. Who wants it after this process keeps its descriptor.
    ///
    /// # Errors
    /// As memfd_create.
    pub fn unnamed(name: &str) -> io::Result<Self> {
        let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(fd.into())))
    }

    /// The file at a path, which is made if it is not there; for this process alone.
    ///
    /// # Errors
    /// `Unsupported` when it is not on a tmpfs, `WouldBlock` when another process has it; else as open and flock.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        // What clones hold is nobody else's to read.
        Self::own(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?)
    }

    /// The file of a descriptor that this process was started with, for this process alone.
    ///
    /// # Errors
    /// As [`LastingFile::open`].
    pub fn inherited(descriptor: i32) -> io::Result<Self> {
        let path = format!("/proc/self/fd/{descriptor}");
        Self::own(rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
    }

    fn own(fd: OwnedFd) -> io::Result<Self> {
        if !crate::file::is_memory(fd.as_fd())? {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "not a file of a tmpfs"));
        }
        rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self(Arc::new(fd.into())))
    }

    /// The descriptor, for whoever keeps it.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Its length in bytes.
    ///
    /// # Errors
    /// As fstat.
    pub fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    /// Makes it at least so many bytes long. What is new reads as zeros and takes no memory yet.
    ///
    /// # Errors
    /// As ftruncate.
    pub fn lengthen(&self, bytes: u64) -> io::Result<()> {
        if self.len_bytes()? < bytes {
            self.0.set_len(bytes)?;
        }
        Ok(())
    }

    /// Takes the memory of a range, so that no store to it can fail.
    ///
    /// # Errors
    /// `ENOSPC` when the tmpfs is full, `ENOMEM` when the host is.
    pub fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        let len = range.end.saturating_sub(range.start);
        loop {
            match rustix::fs::fallocate(&*self.0, FallocateFlags::KEEP_SIZE, range.start, len.max(1)) {
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Gives the memory of a range back; it reads as zeros. The range is whole pages.
    ///
    /// # Errors
    /// As fallocate.
    pub fn clear(&self, range: Range<u64>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&*self.0, how, range.start, range.end - range.start)?)
    }

    /// Maps `count` words from byte `offset` on, a multiple of a page; the file is at least that long.
    ///
    /// # Errors
    /// `InvalidInput` for an offset or length that is not there; else as mmap.
    pub fn words(&self, offset: u64, count: usize) -> io::Result<Words> {
        let bytes = count as u64 * WORD;
        let fits = offset.checked_add(bytes).is_some_and(|end| end <= self.len_bytes().unwrap_or(0));
        if !fits || !offset.is_multiple_of(PAGE) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the file has no such part"));
        }
        let len = (bytes as usize).max(1);
        let mapping = MmapOptions::new().offset(offset).len(len).no_reserve_swap().map_raw(&*self.0)?;
        Ok(Words { mapping, count, offset, file: self.clone() })
    }
}

/// Words of a [`LastingFile`].
#[derive(Debug)]
pub struct Words {
    mapping: MmapRaw,
    count: usize,
    offset: u64,
    file: LastingFile,
}

impl Words {
    /// All of them.
    #[inline]
    #[must_use]
    pub fn all(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has room for `count` words, starts at a page and lives as long as this. Whoever else maps the
        // file stores to it while we look, so nothing but atomics ever refers to it.
        #[allow(unsafe_code, reason = "a shared mapping as atomics")]
        unsafe {
            std::slice::from_raw_parts(self.mapping.as_ptr().cast::<AtomicU64>(), self.count)
        }
    }

    /// The words that may be other than 0, in runs of pages. All others are 0, and to look at one would give it memory.
    ///
    /// # Errors
    /// As lseek.
    pub fn used(&self) -> io::Result<Vec<Range<usize>>> {
        let end = self.offset + self.count as u64 * WORD;
        let (mut at, mut runs) = (self.offset, Vec::new());
        while at < end {
            let start = match rustix::fs::seek(&*self.file.0, SeekFrom::Data(at)) {
                Ok(start) if start < end => start,
                Ok(_) | Err(Errno::NXIO) => break,
                Err(error) => return Err(error.into()),
            };
            let hole = rustix::fs::seek(&*self.file.0, SeekFrom::Hole(start))?.min(end);
            runs.push(
                ((start - self.offset) / WORD) as usize..((hole - self.offset).div_ceil(WORD)) as usize,
            );
            at = hole;
        }
        Ok(runs)
    }

    /// Sees to it that a word has memory, so that a store to it cannot fail.
    ///
    /// # Errors
    /// As [`LastingFile::allocate`]; `InvalidInput` for a word that is not there.
    pub fn take_memory(&self, word: usize) -> io::Result<()> {
        if word >= self.count {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no such word"));
        }
        let at = self.offset + word as u64 * WORD;
        let page = at - at % PAGE;
        self.file.allocate(page..page + PAGE)
    }
}

impl Pool {
    /// A pool whose slots are in a file that outlives the process, from byte `offset` on; `taken` are in use from the
    /// beginning, with the bytes that they have. Their handles come in the order given.
    ///
    /// # Errors
    /// As [`Pool::new`]; also `InvalidInput` when the file is too short, or a slot is taken twice or is not there.
    pub fn lasting(
        config: PoolConfig,
        file: &LastingFile,
        offset: u64,
        taken: &[u32],
    ) -> io::Result<(Arc<Self>, Vec<Buffer>)> {
        let invalid = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
        let bytes = u64::from(config.slot_len) * u64::from(config.slots);
        if offset.checked_add(bytes).is_none_or(|end| end > file.len_bytes().unwrap_or(0)) {
            return Err(invalid("the file is too short for the pool"));
        }
        let mapping = || {
            let len = usize::try_from(bytes).map_err(|_| invalid("pool larger than the address space"))?;
            MmapOptions::new().offset(offset).len(len.max(1)).no_reserve_swap().map_raw(&*file.0)
        };
        let pool = Arc::new(Self::over(config, mapping)?);
        let buffers = taken.iter().map(|slot| pool.hand_out(*slot)).collect::<Option<Vec<_>>>();
        let buffers = buffers.ok_or_else(|| invalid("a slot was taken twice, or is not there"))?;
        let fresh = taken.iter().max().map_or(0, |highest| highest + 1);
        pool.fresh.store(fresh, Ordering::Relaxed);
        for slot in (0..fresh).rev() {
            if pool.references[slot as usize].load(Ordering::Relaxed) == 0 {
                pool.push(slot, slot);
            }
        }
        Ok((pool, buffers))
    }

    /// The handle of a slot that nobody has; while the pool is being made.
    fn hand_out(self: &Arc<Self>, slot: u32) -> Option<Buffer> {
        let references = self.references.get(slot as usize)?;
        references.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        let pool = match self.in_use.fetch_add(1, Ordering::Relaxed) {
            0 => ManuallyDrop::new(Arc::clone(self)),
            _ => ManuallyDrop::new(self.uncounted()),
        };
        Some(Buffer { pool, slot, count: slot })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOTS: PoolConfig = PoolConfig { slot_len: 4096, slots: 8 };

    fn file() -> LastingFile {
        let file = LastingFile::unnamed("test").unwrap();
        file.lengthen(1 << 30).unwrap();
        file
    }

    #[test]
    fn slots_and_words_are_found_again_and_free_slots_are_free() {
        let file = file();
        let (pool, none) = Pool::lasting(SLOTS, &file, 1 << 20, &[]).unwrap();
        assert!(none.is_empty());
        let mut buffers: Vec<Buffer> = (0..5).map(|_| pool.take().unwrap()).collect();
        for buffer in &mut buffers {
            let number = buffer.slot() as u8;
            buffer.bytes_mut().unwrap().fill(number + 1);
        }
        file.words(0, 512).unwrap().all()[3].store(77, Ordering::Release);
        std::mem::forget((buffers, pool));

        let (pool, found) = Pool::lasting(SLOTS, &file, 1 << 20, &[4, 1]).unwrap();
        assert_eq!(found.iter().map(|buffer| buffer.bytes()[9]).collect::<Vec<_>>(), [5, 2]);
        assert_eq!(pool.in_use(), 2);
        let mut rest: Vec<u32> = std::iter::from_fn(|| pool.take())
            .map(|buffer| {
                let slot = buffer.slot();
                std::mem::forget(buffer);
                slot
            })
            .collect();
        assert_eq!(rest[..3], [0, 2, 3], "slots that were used before come first");
        rest.sort_unstable();
        assert_eq!(rest, [0, 2, 3, 5, 6, 7]);
        assert_eq!(file.words(0, 512).unwrap().all()[3].load(Ordering::Acquire), 77);
    }

    #[test]
    fn a_pool_outlives_its_first_name_by_its_handles_only() {
        let (pool, mut found) = Pool::lasting(SLOTS, &file(), 0, &[2]).unwrap();
        let weak = Arc::downgrade(&pool);
        drop(pool);
        found[0].bytes_mut().unwrap().fill(1);
        assert!(weak.upgrade().is_some());
        found.clear();
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn only_words_with_memory_are_looked_at() {
        let file = file();
        let words = file.words(8192, 4096).unwrap();
        assert!(words.used().unwrap().is_empty());
        words.all()[1030].store(1, Ordering::Relaxed);
        words.take_memory(4095).unwrap();
        assert_eq!(words.used().unwrap().len(), 1, "what was taken only has nothing yet");
        words.all()[4095].store(1, Ordering::Relaxed);
        assert_eq!(words.used().unwrap(), [1024..1536, 3584..4096]);
        assert!(words.take_memory(4096).is_err());
        file.clear(8192 + 1024 * 8..8192 + 1536 * 8).unwrap();
        assert_eq!(words.used().unwrap().first(), Some(&(3584..4096)));
        assert_eq!(words.all()[1030].load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let file = LastingFile::unnamed("test").unwrap();
        file.lengthen(8 * 4096).unwrap();
        assert!(file.words(0, 4097).is_err() && file.words(8, 1).is_err() && file.words(4096, 3585).is_err());
        assert!(Pool::lasting(SLOTS, &file, 4096, &[]).is_err());
        assert!(Pool::lasting(SLOTS, &file, 0, &[8]).is_err());
        assert!(Pool::lasting(SLOTS, &file, 0, &[3, 3]).is_err());
    }

    #[test]
    fn a_file_is_one_process_s_and_in_memory() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = folder.path().join("arena");
        let first = LastingFile::open(&path).unwrap();
        assert_eq!(LastingFile::open(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(first);
        LastingFile::open(&path).unwrap();
        assert_eq!(
            LastingFile::open(Path::new("/proc/self/oom_score_adj")).unwrap_err().kind(),
            io::ErrorKind::Unsupported
        );
    }
}
