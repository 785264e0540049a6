//! The ring's files, and the operations on files in memory, which are done inline.

use super::UringRing;
use super::config::AddError;
use super::table::Target;
use crate::file::{FileTraits, OpenedFile};
use crate::memory::Buffer;
use crate::seam::{Errno, Event, FileId};
use rustix::fs::FallocateFlags;
use std::os::fd::{AsFd, AsRawFd};

pub(super) struct OpenFile {
    pub(super) file: OpenedFile,
    pub(super) target: Target,
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
        self.files.insert(OpenFile { file, target }).map(FileId).map_err(|_| full)
    }

    /// What the file is; `None` for an id that is not (or no longer) valid.
    pub fn file_traits(&self, file: FileId) -> Option<&FileTraits> {
        self.files.get(file.0).map(|open| open.file.traits())
    }

    /// Lets go of a file and hands it back. The caller has reaped the last completion of its operations.
    pub fn remove_file(&mut self, file: FileId) -> Option<OpenedFile> {
        let (index, OpenFile { file, target }) = self.files.remove(file.0)?;
        self.unregister_descriptor(self.sockets.max() + index, target);
        Some(file)
    }
}

/// Reads from a file in memory.
pub(super) fn read_inline(file: &OpenedFile, offset: u64, mut buffer: Buffer, start: u32, len: u32) -> Event {
    let end = start as usize + len as usize;
    let result = match buffer.bytes_mut() {
        Some(bytes) => transferred(rustix::io::pread(file, &mut bytes[start as usize..end], offset)),
        None => Err(Errno(libc::EINVAL)),
    };
    Event::Transferred { result, buffer }
}

/// Writes to a file in memory.
pub(super) fn write_inline(file: &OpenedFile, offset: u64, buffer: Buffer, start: u32, len: u32) -> Event {
    let end = start as usize + len as usize;
    let result = transferred(rustix::io::pwrite(file, &buffer.bytes()[start as usize..end], offset));
    Event::Transferred { result, buffer }
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
    rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, offset, len).map_err(errno)
}

fn transferred(result: rustix::io::Result<usize>) -> Result<u32, Errno> {
    // At most a buffer's length, so it fits.
    result.map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX)).map_err(errno)
}

fn errno(errno: rustix::io::Errno) -> Errno {
    Errno(errno.raw_os_error())
}
