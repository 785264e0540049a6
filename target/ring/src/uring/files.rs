//! The ring's files, and the operations on files in memory, which are done inline.

use super::UringRing;
use super::config::AddError;
use super::mapped::MappedFile;
use super::table::Target;
use crate::file::{FileTraits, OpenedFile};
use crate::memory::Buffer;
use crate::seam::{Errno, Event, FileId};
use rustix::fs::FallocateFlags;
use std::os::fd::{AsFd, AsRawFd};

pub(super) struct OpenFile {
    pub(super) file: OpenedFile,
    pub(super) target: Target,
    /// Of a file in memory.
    pub(super) mapped: Option<MappedFile>,
}

impl OpenFile {
    /// Reads from a file in memory.
    pub(super) fn read_inline(&mut self, offset: u64, mut buffer: Buffer, start: u32, len: u32) -> Event {
        if let Some(mapped) = &mut self.mapped {
            if mapped.read(offset, &mut buffer, start, len) {
                return Event::Transferred { result: Ok(len), buffer };
            }
            if mapped.is_damaged() {
                self.mapped = None;
            }
        }
        let end = start as usize + len as usize;
        let result = match buffer.bytes_mut() {
            Some(bytes) => {
                transferred(rustix::io::pread(&self.file, &mut bytes[start as usize..end], offset))
            }
            None => Err(Errno(libc::EINVAL)),
        };
        if let (Some(mapped), Ok(done)) = (&mut self.mapped, result) {
            mapped.learn(offset, done);
        }
        Event::Transferred { result, buffer }
    }

    /// Writes to a file in memory.
    pub(super) fn write_inline(&mut self, offset: u64, buffer: Buffer, start: u32, len: u32) -> Event {
        if let Some(mapped) = &mut self.mapped {
            mapped.changes(offset, len.into());
            if mapped.write(offset, &buffer, start, len) {
                return Event::Transferred { result: Ok(len), buffer };
            }
            if mapped.is_damaged() {
                self.mapped = None;
            }
        }
        let end = start as usize + len as usize;
        let bytes = &buffer.bytes()[start as usize..end];
        let result = transferred(rustix::io::pwrite(&self.file, bytes, offset));
        if let (Some(mapped), Ok(done)) = (&mut self.mapped, result) {
            mapped.written(offset, done);
        }
        Event::Transferred { result, buffer }
    }

    /// A range is about to be freed.
    pub(super) fn freed(&mut self, offset: u64, len: u64) {
        if let Some(mapped) = &mut self.mapped {
            mapped.freed(offset, len);
        }
    }

    /// Sets what a write through a mapping leaves unset.
    pub(super) fn stamp(&mut self) {
        if let Some(mapped) = &mut self.mapped {
            mapped.stamp();
        }
    }
}

/// Freeing or allocating more memory than this at once is left to a worker thread.
pub(super) const INLINE_MAX: u64 = 4 << 20;

impl UringRing {
    /// Takes a file in.
    ///
    /// # Errors
    /// See [`AddError`].
    pub fn add_file(&mut self, file: OpenedFile) -> Result<FileId, AddError> {
        let full = AddError::Full { table: "files", limit: self.files.max() };
        let Some(index) = self.files.next_index() else {
            return Err(full);
        };
        let target = self.register_descriptor(self.sockets.max() + index, file.as_fd().as_raw_fd());
        let mapped = MappedFile::new(&file, self.number);
        self.files.insert(OpenFile { file, target, mapped }).map(FileId).map_err(|_| full)
    }

    /// What the file is; `None` for an id that is not (or no longer) valid.
    pub fn file_traits(&self, file: FileId) -> Option<&FileTraits> {
        self.files.get(file.0).map(|open| open.file.traits())
    }

    /// Lets go of a file and hands it back. The caller has reaped the last completion of its operations.
    pub fn remove_file(&mut self, file: FileId) -> Option<OpenedFile> {
        let (index, OpenFile { file, target, mapped: _ }) = self.files.remove(file.0)?;
        self.unregister_descriptor(self.sockets.max() + index, target);
        Some(file)
    }
}

/// Frees a range of a file in memory.
pub(super) fn discard_inline(file: &OpenedFile, offset: u64, len: u64) -> Result<(), Errno> {
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(file, punch, offset, len).map_err(errno)
}

/// Zeroes a range of a file in memory: such files cannot in one step, but a hole reads as zeros and so does what is
/// allocated in it.
pub(super) fn zero_inline(file: &OpenedFile, offset: u64, len: u64) -> Result<(), Errno> {
    discard_inline(file, offset, len)?;
    allocate_inline(file, offset, len)
}

/// Gives a range of a file in memory its memory; no byte changes.
pub(super) fn allocate_inline(file: &OpenedFile, offset: u64, len: u64) -> Result<(), Errno> {
    rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, offset, len).map_err(errno)
}

fn transferred(result: rustix::io::Result<usize>) -> Result<u32, Errno> {
    // At most a buffer's length, so it fits.
    result.map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX)).map_err(errno)
}

fn errno(errno: rustix::io::Errno) -> Errno {
    Errno(errno.raw_os_error())
}
