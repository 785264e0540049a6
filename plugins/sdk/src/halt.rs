//! Why a call did not answer: pages are missing, or it cannot be done.

use alloc::{string::String, vec::Vec};
use core::fmt;

use crate::{FileId, Span};

/// What a call of a plugin gives: its answer, or why there is none. Without an answer the plugin is as it was before the call.
pub type Outcome<T> = Result<T, Halt>;

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// These bytes of the image's files are needed. The host makes them available and calls again with the same arguments; it
    /// gives up after a bounded number of rounds and of bytes. Each span is inside its file and at most [`Span::LENGTH_MAX`] long.
    Need(Vec<Span>),
    /// It cannot be done.
    Fail(Fail),
}

/// A failure, for the operator: what is wrong, where, and (where the plugin knows) what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fail {
    /// What sort of failure; decides the sense data and the exit code.
    pub kind: FailKind,
    /// The failure in words, naming the field as the format's specification does: `refcount_table_clusters is 4096, the file has 3`.
    pub text: String,
    /// The file and the byte offset where the bad field is, if it is at one place.
    pub at: Option<(FileId, u64)>,
}

/// What sort of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailKind {
    /// The file is not of this format (its magic number is missing).
    NotThisFormat,
    /// The image uses a feature, named in the text, that the plugin does not know.
    Unsupported,
    /// The image contradicts itself or its specification.
    Corrupt,
    /// An argument of the call is out of range or makes no sense for this image.
    Invalid,
    /// The format has no room for this: the image cannot grow that far.
    NoSpace,
    /// The image was opened read-only, or must not be written in its state.
    ReadOnly,
    /// The plugin is at fault, not the image: it trapped, took too long or too much memory, or broke a rule of the interface. The host says so;
    /// the instance is of no use any more.
    Broken,
}

impl Fail {
    /// A failure that is at no one place.
    pub fn new(kind: FailKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), at: None }
    }

    /// A contradiction in the image, at `offset` bytes into `file`.
    pub fn corrupt(file: FileId, offset: u64, text: impl Into<String>) -> Self {
        Self { kind: FailKind::Corrupt, text: text.into(), at: Some((file, offset)) }
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match self.at {
            Some((FileId::MAIN, offset)) => write!(f, " (at byte {offset})"),
            Some((file, offset)) => write!(f, " (at byte {offset} of file {})", file.0),
            None => Ok(()),
        }
    }
}

impl core::error::Error for Fail {}

impl From<Fail> for Halt {
    fn from(fail: Fail) -> Self {
        Self::Fail(fail)
    }
}
