//! Opening image files and devices: what they are, how they may be read, and who else has them open.
//!
//! A file that is opened here is a regular file or a block device, locked against other writers, and known by
//! its identity, so that a change behind our back is noticed ([`OpenedFile::reidentify`]).

mod direct;
mod error;
mod lock;
mod open;

pub use direct::DirectAlignment;
pub use error::OpenFileError;
pub(crate) use open::is_memory;
pub use open::{open, open_with};

use rustix::fs::{AtFlags, StatxFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What the file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read: a golden. Other readers are welcome, writers are not.
    ReadOnly,
    /// To read and write: nobody else may have it open.
    ReadWrite,
}

/// How to open a file; the default is what a target wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenConfig {
    /// For what.
    pub access: Access,
    /// Whether to take the advisory lock (shared to read, exclusive to write).
    pub lock: bool,
    /// Whether to use O_DIRECT where the file allows it.
    pub direct: bool,
}

impl OpenConfig {
    /// With the lock and O_DIRECT.
    pub fn new(access: Access) -> Self {
        Self { access, lock: true, direct: true }
    }
}

/// Which file it is, and its state when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The device that the file is on, or the device that it is.
    pub device: u64,
    /// The inode.
    pub inode: u64,
    /// Last modification, in nanoseconds since the epoch. For a block device it says nothing, and is 0.
    pub modified_ns: i128,
    /// Length in bytes.
    pub len_bytes: u64,
}

impl Identity {
    /// Whether both are the same file, changed or not.
    pub fn same_file(&self, other: &Self) -> bool {
        self.device == other.device && self.inode == other.inode
    }
}

/// What the ring and the image layer need to know about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileTraits {
    /// Length in bytes.
    pub len_bytes: u64,
    /// Set when the file is open with O_DIRECT: transfers must keep to this alignment, or fail with EINVAL.
    pub direct: Option<DirectAlignment>,
    /// Why the file is buffered although O_DIRECT was wanted.
    pub buffered_reason: Option<String>,
    /// The file is in memory (tmpfs, ramfs, memfd). The kernel cannot do such I/O without blocking in its own
    /// sense, and io_uring hands each to a worker thread; so the ring does it inline, with pread and pwrite.
    pub in_memory: bool,
    /// Whether it may be written.
    pub writable: bool,
    /// A block device, not a regular file.
    pub device: bool,
    /// Which file it is, and its state when it was opened.
    pub identity: Identity,
}

/// An open file or device. Its lock lasts as long as it, or a clone of it, lives.
#[derive(Debug)]
pub struct OpenedFile {
    fd: OwnedFd,
    path: PathBuf,
    traits: FileTraits,
}

impl OpenedFile {
    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is.
    pub fn traits(&self) -> &FileTraits {
        &self.traits
    }

    /// Another handle, for another shard; both share the lock.
    ///
    /// # Errors
    /// EMFILE or ENFILE.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, path: self.path.clone(), traits: self.traits.clone() })
    }

    /// What the file at the descriptor is now, to compare with [`FileTraits::identity`]: a different length or
    /// modification time means that somebody changed it.
    ///
    /// # Errors
    /// Whatever fstat says.
    pub fn reidentify(&self) -> std::io::Result<Identity> {
        open::identify(self.fd.as_fd()).map(|(identity, _)| identity)
    }

    /// Bytes that a regular file takes of its file system, and bytes that are left there; `None` for a device, which tells
    /// neither. It may wait, as any look at a file may.
    ///
    /// # Errors
    /// Whatever fstat and fstatvfs say.
    pub fn space(&self) -> std::io::Result<Option<(u64, u64)>> {
        /// st_blocks counts these.
        const UNIT: u64 = 512;
        if self.traits.device {
            return Ok(None);
        }
        let (file, system) = (rustix::fs::fstat(&self.fd)?, rustix::fs::fstatvfs(&self.fd)?);
        let used = u64::try_from(file.st_blocks).unwrap_or(0).saturating_mul(UNIT);
        Ok(Some((used, system.f_bavail.saturating_mul(system.f_frsize))))
    }

    /// Makes a regular file longer; what is added reads as zeros and takes no space yet. Never shorter: a file that has
    /// so many bytes already stays as it is.
    ///
    /// # Errors
    /// Whatever fstat and ftruncate say: EFBIG, EPERM, EINVAL for a device.
    pub fn lengthen(&self, bytes: u64) -> std::io::Result<()> {
        if self.reidentify()?.len_bytes < bytes {
            rustix::fs::ftruncate(&self.fd, bytes)?;
        }
        Ok(())
    }

    /// Gives a regular file's first bytes their space, and the file that length at least. What was not there reads as zeros.
    ///
    /// # Errors
    /// Whatever fallocate says: ENOSPC, EFBIG, EOPNOTSUPP where the file system cannot; ENODEV for a device.
    pub fn allocate(&self, bytes: u64) -> std::io::Result<()> {
        Ok(rustix::fs::fallocate(&self.fd, rustix::fs::FallocateFlags::empty(), 0, bytes)?)
    }

    /// When the file was made, in nanoseconds since the epoch; `None` where the file system does not tell, and for a
    /// device.
    pub fn born_ns(&self) -> Option<i128> {
        if self.traits.device {
            return None;
        }
        let stat = rustix::fs::statx(&self.fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BTIME).ok()?;
        let told = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        let born = stat.stx_btime;
        told.then(|| i128::from(born.tv_sec) * 1_000_000_000 + i128::from(born.tv_nsec))
    }

    /// Writes whole blocks of 4,096 bytes at a byte offset that is a multiple of it, and makes them durable. It waits,
    /// so it is for the start, before the file is in a ring.
    ///
    /// # Errors
    /// Whatever pwrite and fdatasync say.
    pub fn write_durably(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        // O_DIRECT wants aligned memory, which a mapping is.
        let mut memory = memmap2::MmapMut::map_anon(bytes.len().max(1))?;
        memory[..bytes.len()].copy_from_slice(bytes);
        let mut at = 0;
        while at < bytes.len() {
            match rustix::io::pwrite(&self.fd, &memory[at..bytes.len()], offset + at as u64) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(done) => at += done,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(rustix::fs::fdatasync(&self.fd)?)
    }

    /// Whether there is anything in it but zeros. It reads whatever is no hole, and waits for that, so it is for the start.
    ///
    /// # Errors
    /// Whatever lseek and pread say.
    pub fn holds_data(&self) -> std::io::Result<bool> {
        const CHUNK: u64 = 1 << 20;
        const BLOCK: u64 = 4096;
        // O_DIRECT wants aligned memory, which a mapping is.
        let mut memory = memmap2::MmapMut::map_anon(CHUNK as usize)?;
        let mut at = 0;
        while at < self.traits.len_bytes {
            if !self.traits.device {
                at = match rustix::fs::seek(&self.fd, rustix::fs::SeekFrom::Data(at)) {
                    Ok(data) => at.max(data / BLOCK * BLOCK),
                    Err(rustix::io::Errno::NXIO) => return Ok(false),
                    Err(errno) => return Err(errno.into()),
                };
            }
            match rustix::io::pread(&self.fd, &mut memory[..], at) {
                Ok(0) => return Ok(false),
                Ok(done) if memory[..done].iter().any(|byte| *byte != 0) => return Ok(true),
                Ok(done) => at += done as u64,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(false)
    }

    /// Whether the path now names another file than the one that is open, or none.
    pub fn replaced(&self) -> bool {
        open::identify_path(&self.path).is_none_or(|now| !now.same_file(&self.traits.identity))
    }
}

impl From<OpenedFile> for OwnedFd {
    /// The descriptor, with its lock.
    fn from(opened: OpenedFile) -> Self {
        opened.fd
    }
}

impl AsFd for OpenedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
