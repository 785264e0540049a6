//! What opening an image says about it.

use alloc::{string::String, vec::Vec};

use crate::{Identity, Range, Span};

/// What an image is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// For reading: nothing is written to its files, whatever state they are in.
    ReadOnly,
    /// For reading and writing.
    ReadWrite,
}

/// How an image is to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRequest {
    /// What for.
    pub mode: Mode,
    /// How many of its files are open: the first, and then those that an earlier answer's [`Opened::files`] asked for, in that order.
    pub files: u16,
}

/// An image that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The size of the guest's disk, in bytes: a multiple of 512.
    pub virtual_size: u64,
    /// The disk's logical block size in bytes, when the format says: 512 or 4096.
    pub block_size: u32,
    /// The unit in which space is allocated (a cluster, a block), in bytes: a power of two.
    pub allocation_unit: u32,
    /// The unit in which space can be given back, in bytes, or 0 when it cannot.
    pub unmap_unit: u32,
    /// Other files that belong to the image. When there are more than [`OpenRequest::files`] says are open, the host opens them beneath
    /// its roots and calls again.
    pub files: Vec<FileHint>,
    /// The parent, if it has one.
    pub parent: Option<ParentRef>,
    /// The image's own identity, to which its children refer, if the format has one.
    pub identity: Option<Identity>,
    /// Where metadata is in its files: guest data is never written there. Later plans add to it by [`Plan::protect`](crate::Plan::protect).
    pub metadata: Vec<MetadataRange>,
    /// Whether [`Format::recover`](crate::Format::recover) must be called before anything else.
    pub needs_recovery: bool,
    /// What the operator should know (an old checksum, a time stamp that differs), a sentence each.
    pub warnings: Vec<String>,
}

/// A range of a file that has metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MetadataRange {
    /// The file.
    pub file: crate::FileId,
    /// Its first byte.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// Another file that belongs to an image, as the image names it: a hint, which the host follows only beneath its roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHint {
    /// The name as it stands in the image.
    pub name: String,
    /// How long it must be at least, in bytes.
    pub length_min: u64,
}

/// An image's parent, as the image names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentRef {
    /// Names, the best first.
    pub hints: Vec<ParentHint>,
    /// The parent's format (`raw`, `qcow2`, `vhd`), when the image says. It is never guessed: without it the operator must say.
    pub format: Option<String>,
    /// The identity that the parent must have.
    pub identity: Option<Identity>,
    /// The size in bytes that the parent's disk must have, when the format demands one.
    pub virtual_size: Option<u64>,
}

/// A name of a parent, as it stands in the image: a hint, which the host follows only beneath its roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentHint {
    /// What sort of name: `relative`, `absolute`, or the format's own word for it (`W2ru`).
    pub kind: String,
    /// The name.
    pub name: String,
}

impl MetadataRange {
    /// Whether a span of guest data would touch it.
    pub fn touches(&self, span: Span) -> bool {
        let own = Range { offset: self.offset, length: self.length };
        self.file == span.file
            && span.offset < own.end()
            && own.offset < span.offset.saturating_add(u64::from(span.length))
    }
}
