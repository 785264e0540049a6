//! Why a file could not be opened, and what to do.

use std::io;
use std::path::PathBuf;

/// Why a file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenFileError {
    /// There is none.
    #[error("{}: no such file. Check the path; a file system that is mounted late shows up when it is mounted", path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// Not allowed.
    #[error("{}: no permission to open it {purpose}. Check its owner and mode, those of the folders above it, \
             and that its file system is not mounted read-only", path.display())]
    NoPermission {
        /// The file.
        path: PathBuf,
        /// "to read" or "to write".
        purpose: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A folder, a pipe, a socket, a character device.
    #[error("{}: it is {what}, not a regular file or block device", path.display())]
    WrongKind {
        /// The file.
        path: PathBuf,
        /// What it is, with its article.
        what: &'static str,
    },
    /// Another program, or another target of this one, has it open in a way that excludes us.
    #[error("{}: {conflict}. Close the other user first (`lslocks` and `fuser` name it)", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// What the other user does and what that excludes.
        conflict: &'static str,
    },
    /// A block device that is mounted, or part of a volume group or array.
    #[error("{}: the device is in use (mounted, or part of an array or volume group). Unmount it or stop its \
             user first", path.display())]
    DeviceBusy {
        /// The device.
        path: PathBuf,
    },
    /// Anything else.
    #[error("{}: {call} failed: {source}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// The system call.
        call: &'static str,
        /// Its answer.
        source: io::Error,
    },
}
