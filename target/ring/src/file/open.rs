//! Opening and identifying.

use super::lock::{LockError, lock};
use super::{Access, FileTraits, Identity, OpenConfig, OpenFileError, OpenedFile, direct};
use rustix::fs::{CWD, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// File systems whose files are memory, by their `statfs` magic: tmpfs (memfds too), ramfs.
const MEMORY_FILE_SYSTEMS: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Opens a regular file or block device, locked, with O_DIRECT where possible.
///
/// # Errors
/// See [`OpenFileError`].
pub fn open(path: impl AsRef<Path>, access: Access) -> Result<OpenedFile, OpenFileError> {
    open_with(path, OpenConfig::new(access))
}

/// Opens a regular file or block device as configured.
///
/// # Errors
/// See [`OpenFileError`].
pub fn open_with(path: impl AsRef<Path>, config: OpenConfig) -> Result<OpenedFile, OpenFileError> {
    let path = path.as_ref();
    let fd = open_checked(path, config.access)?;
    let other =
        |call| move |source: io::Error| OpenFileError::Other { path: path.to_path_buf(), call, source };
    let (identity, device) = identify(fd.as_fd()).map_err(other("fstat"))?;
    if config.lock {
        lock(fd.as_fd(), config.access).map_err(|error| match error {
            LockError::Conflict(conflict) => OpenFileError::Locked { path: path.to_path_buf(), conflict },
            LockError::Kernel(source) => other("fcntl(F_OFD_SETLK)")(source),
        })?;
    }
    let writable = config.access == Access::ReadWrite;
    let in_memory = is_in_memory(fd.as_fd(), device).map_err(other("fstatfs"))?;
    let direct = if config.direct && !in_memory {
        Some(direct::enable(fd.as_fd(), identity.len_bytes, writable))
    } else {
        None
    };
    let (direct, buffered_reason) = match direct {
        None => (None, None),
        Some(Ok(alignment)) => (Some(alignment), None),
        Some(Err(reason)) => (None, Some(reason)),
    };
    let len_bytes = identity.len_bytes;
    let traits = FileTraits { len_bytes, direct, buffered_reason, in_memory, writable, device, identity };
    Ok(OpenedFile { fd, path: path.to_path_buf(), traits })
}

/// Opens what is a regular file or block device, and nothing else: opening a pipe would wait for its other end, and
/// opening a character device may do anything.
fn open_checked(path: &Path, access: Access) -> Result<OwnedFd, OpenFileError> {
    let stat = rustix::fs::stat(path).map_err(|errno| open_error(path, access, "stat", errno))?;
    check_kind(path, &stat)?;
    // Without O_NONBLOCK a pipe that takes the file's place right now would hang us.
    let mut flags = OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    flags |= match access {
        Access::ReadOnly => OFlags::RDONLY,
        Access::ReadWrite => OFlags::RDWR,
    };
    if access == Access::ReadWrite && FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice {
        // For block devices this means: fail if it is mounted or otherwise claimed.
        flags |= OFlags::EXCL;
    }
    let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())
        .map_err(|errno| open_error(path, access, "open", errno))?;
    let stat = rustix::fs::fstat(&fd).map_err(|errno| open_error(path, access, "fstat", errno))?;
    check_kind(path, &stat)?;
    // io_uring takes O_NONBLOCK as "fail with EAGAIN instead of waiting for the disk".
    // Nobody asks when an image was read last; only the file's owner may do without.
    rustix::fs::fcntl_setfl(&fd, OFlags::NOATIME)
        .or_else(|_| rustix::fs::fcntl_setfl(&fd, OFlags::empty()))
        .map_err(|errno| open_error(path, access, "fcntl", errno))?;
    Ok(fd)
}

fn check_kind(path: &Path, stat: &Stat) -> Result<(), OpenFileError> {
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::BlockDevice => return Ok(()),
        FileType::Directory => "a folder",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        _ => "something else",
    };
    Err(OpenFileError::WrongKind { path: path.to_path_buf(), what })
}

fn open_error(path: &Path, access: Access, call: &'static str, errno: Errno) -> OpenFileError {
    let path = path.to_path_buf();
    match errno {
        Errno::NOENT | Errno::NOTDIR => OpenFileError::NotFound { path },
        Errno::ACCESS | Errno::PERM | Errno::ROFS => {
            let purpose = match access {
                Access::ReadOnly => "to read",
                Access::ReadWrite => "to write",
            };
            OpenFileError::NoPermission { path, purpose, source: errno.into() }
        }
        Errno::BUSY => OpenFileError::DeviceBusy { path },
        _ => OpenFileError::Other { path, call, source: errno.into() },
    }
}

/// The identity of an open file, and whether it is a device.
pub(super) fn identify(file: BorrowedFd<'_>) -> io::Result<(Identity, bool)> {
    let stat = rustix::fs::fstat(file)?;
    let device = FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice;
    let mut identity = identity_of(&stat);
    if device {
        identity.len_bytes = rustix::fs::seek(file, SeekFrom::End(0))?;
    }
    Ok((identity, device))
}

/// The identity of what the path names now; without the length of a device.
pub(super) fn identify_path(path: &Path) -> Option<Identity> {
    rustix::fs::stat(path).ok().map(|stat| identity_of(&stat))
}

fn identity_of(stat: &Stat) -> Identity {
    if FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice {
        // A device is known by its number: its node may be made anew at any time.
        return Identity { device: stat.st_rdev, inode: 0, modified_ns: 0, len_bytes: 0 };
    }
    let modified_ns = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    let len_bytes = u64::try_from(stat.st_size).unwrap_or(0);
    Identity { device: stat.st_dev, inode: stat.st_ino, modified_ns, len_bytes }
}

fn is_in_memory(file: BorrowedFd<'_>, device: bool) -> io::Result<bool> {
    // A device node lies on devtmpfs, which is a tmpfs; the device does not.
    if device {
        return Ok(false);
    }
    is_memory(file)
}

/// Whether a file lies on a file system that is memory.
pub(crate) fn is_memory(file: BorrowedFd<'_>) -> io::Result<bool> {
    let magic = rustix::fs::fstatfs(file)?.f_type as u64 & 0xffff_ffff;
    Ok(MEMORY_FILE_SYSTEMS.contains(&magic))
}
