//! Opening.

use super::{Access, Identity, OpenConfig, OpenFileError, OpenedFile};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

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
    let _ = config;
    Err(OpenFileError::NotFound { path: path.as_ref().to_path_buf() })
}

pub(super) fn identify(_fd: BorrowedFd<'_>) -> io::Result<(Identity, bool)> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

pub(super) fn identify_path(_path: &Path) -> Option<Identity> {
    None
}
