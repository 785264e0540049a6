//! Advisory locks that QEMU's image locking understands, and that understand it.
//!
//! QEMU marks what it does with an image, and what it does not let others do, by shared locks on single bytes:
//! byte 100 + n means "I use permission n", byte 200 + n means "I do not share permission n" (0 consistent read,
//! 1 write, 3 resize). Whoever opens an image takes its own marks first and then looks whether anyone's
//! contradict them. Speaking the same language, `qemu-img` can read a golden in use but not write it, and a
//! disk that a running machine writes cannot become a golden. The locks belong to the open file description: they
//! go when its last descriptor goes, and two targets of one process exclude each other too.

use super::Access;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const USED: i64 = 100;
const UNSHARED: i64 = 200;
const CONSISTENT_READ: i64 = 0;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;

/// Why the lock was not taken.
#[derive(Debug)]
pub(super) enum LockError {
    /// Somebody else's marks contradict ours.
    Conflict(&'static str),
    /// fcntl failed.
    Kernel(io::Error),
}

/// Locks an open file for this access, without waiting.
pub(super) fn lock(file: BorrowedFd<'_>, access: Access) -> Result<(), LockError> {
    let used: &[i64] = match access {
        Access::ReadOnly => &[CONSISTENT_READ],
        Access::ReadWrite => &[CONSISTENT_READ, WRITE, RESIZE],
    };
    let unshared = [WRITE, RESIZE];
    let marks = used.iter().map(|bit| USED + bit).chain(unshared.map(|bit| UNSHARED + bit));
    for byte in marks {
        let mut lock = byte_lock(libc::F_RDLCK, byte);
        fcntl(file, libc::F_OFD_SETLK, &mut lock).map_err(|error| match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EACCES) => {
                LockError::Conflict("another program has locked it exclusively")
            }
            _ => LockError::Kernel(error),
        })?;
    }
    for bit in unshared {
        if is_locked(file, USED + bit)? {
            return Err(LockError::Conflict("another program or target has it open for writing"));
        }
    }
    for &bit in used {
        if is_locked(file, UNSHARED + bit)? {
            return Err(LockError::Conflict(match access {
                Access::ReadOnly => "another program has it open and excludes readers",
                Access::ReadWrite => {
                    "another program or target reads it and must not see it change (a golden in use cannot be \
                     opened for writing)"
                }
            }));
        }
    }
    Ok(())
}

/// Whether anybody else has any lock on this byte.
fn is_locked(file: BorrowedFd<'_>, byte: i64) -> Result<bool, LockError> {
    let mut lock = byte_lock(libc::F_WRLCK, byte);
    fcntl(file, libc::F_OFD_GETLK, &mut lock).map_err(LockError::Kernel)?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

fn byte_lock(kind: i32, byte: i64) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: byte, l_len: 1, l_pid: 0 }
}

#[allow(unsafe_code, reason = "no safe wrapper of open file description locks exists")]
fn fcntl(file: BorrowedFd<'_>, command: i32, lock: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed, and `lock` is a valid, exclusive `flock` structure, which
    // is what both commands read and write.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(lock)) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
