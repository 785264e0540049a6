//! What goes wrong when a report is written or read.

use std::io;
use std::path::{Path, PathBuf};

/// Why a report could not be written or read. Every text names the file and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file system said no.
    #[error("cannot {verb} {}: {source}", path.display())]
    File {
        /// What was tried: "read" or "write".
        verb: &'static str,
        /// The file it was tried on.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The file is not the JSON that was asked for.
    #[error("{} is not a report that can be read: {source}; write it anew with this version's tools", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// The report was written by a tool of another schema version.
    #[error("{} has schema {found}, this tool reads schema {wanted}: use tools of one version for both", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// The version that the file names.
        found: u32,
        /// The version that this tool knows.
        wanted: u32,
    },
    /// A value cannot be written as JSON or CSV.
    #[error("cannot write {}: {what}", path.display())]
    Value {
        /// The file that was to be written.
        path: PathBuf,
        /// What is wrong with the value.
        what: String,
    },
    /// A plot has nothing to show.
    #[error("nothing to plot in {}: {what}", path.display())]
    Empty {
        /// The plot that was to be written.
        path: PathBuf,
        /// What was missing.
        what: &'static str,
    },
    /// The drawing library failed.
    #[error("cannot draw {}: {what}", path.display())]
    Draw {
        /// The plot that was to be written.
        path: PathBuf,
        /// What the library said.
        what: String,
    },
}

impl ReportError {
    pub(crate) fn reading(path: &Path, source: io::Error) -> Self {
        ReportError::File { verb: "read", path: path.into(), source }
    }

    pub(crate) fn writing(path: &Path, source: io::Error) -> Self {
        ReportError::File { verb: "write", path: path.into(), source }
    }
}
