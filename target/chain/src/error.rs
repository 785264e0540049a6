//! Why something could not be done with an image, and what to do.

use std::io;
use std::path::PathBuf;

use stampede_plugin::Fail;
use stampede_ring::file::OpenFileError;

/// Why something could not be done with an image.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// A file could not be opened.
    #[error(transparent)]
    Open(#[from] OpenFileError),
    /// There is no plugin for a format.
    #[error("{}: there is no plugin for the format {format:?}; there are: {known}", path.display())]
    NoSuchFormat {
        /// The image.
        path: PathBuf,
        /// The format that was asked for.
        format: String,
        /// Those that there are.
        known: String,
    },
    /// The format's plugin cannot be given another image.
    #[error("{}: the plugin {format} cannot be used: {why}", path.display())]
    NoInstance {
        /// The image.
        path: PathBuf,
        /// The format.
        format: String,
        /// Why.
        why: String,
    },
    /// The format's plugin refuses.
    #[error("{} ({format}): {fail}", path.display())]
    Plugin {
        /// The image.
        path: PathBuf,
        /// Its format.
        format: String,
        /// Why.
        fail: Fail,
    },
    /// A system call on a file failed.
    #[error("{}: {what}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried, with its place.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A name inside an image may not be followed.
    #[error("{}: it names {name:?} as {what}: {why}", path.display())]
    Refused {
        /// The image.
        path: PathBuf,
        /// The name as it stands there.
        name: String,
        /// "its parent" or "its data file".
        what: &'static str,
        /// Why not, and what to do.
        why: String,
    },
    /// None of the names of the parent leads to a file.
    #[error("{}: its parent is missing. {tried} Put it back, or tell the image where it is: stampede image relink", path.display())]
    ParentMissing {
        /// The image.
        path: PathBuf,
        /// What each name came to, a sentence each.
        tried: String,
    },
    /// The parent is not the one that the image was made on.
    #[error("{}: its parent {} is another image than it was made on ({what}). If you know that the contents are the same: stampede image relink",
            path.display(), parent.display())]
    OtherParent {
        /// The image.
        path: PathBuf,
        /// The file that was found.
        parent: PathBuf,
        /// What differs.
        what: String,
    },
    /// The image does not say what format its parent has.
    #[error("{}: it does not say what format its parent has, and formats are not guessed; say it with --parent-format", path.display())]
    ParentFormat {
        /// The image.
        path: PathBuf,
    },
    /// An image is its own parent, or the chain is too long.
    #[error("{}: {why}", path.display())]
    Chain {
        /// The image where it was noticed.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Compressed data cannot be taken apart.
    #[error("{}: compressed data at byte {offset}: {why}", path.display())]
    Packed {
        /// The file.
        path: PathBuf,
        /// Where the compressed data begins.
        offset: u64,
        /// Why.
        why: String,
    },
    /// The image was opened to read.
    #[error("{}: it was opened read-only", path.display())]
    ReadOnly {
        /// The image.
        path: PathBuf,
    },
    /// The request itself is not right.
    #[error("{0}")]
    Invalid(String),
}
