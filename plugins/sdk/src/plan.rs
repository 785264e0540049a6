//! A change of an image, as steps that the host carries out.

use alloc::vec::Vec;

use crate::{Extent, FileId, MetadataRange};

/// Names a plan: chosen by the plugin, never twice for an instance.
pub type Token = u64;

/// Names a patch: chosen by the plugin, never twice for an instance.
pub type PatchId = u64;

/// What is to happen to ranges of the guest's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// They get data, which the plugin does not see.
    Data,
    /// They get zeros, by whatever is cheapest, their space kept or not.
    Zero,
    /// Their space may be given back. They read as zeros afterwards, or as before where the format cannot say so; never as the parent.
    Unmap,
}

/// A change of an image.
///
/// `now` happens before the change is acknowledged: first all [`Step::SetLength`], then the rest, in any order (they do not overlap).
/// Then `map` replaces what the host knows of these ranges, and `meta` is applied to the host's pages and to its journal, so that it outlives
/// the process. It becomes durable later, in order, many plans together, with as few barriers as the order needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Its name.
    pub token: Token,
    /// What happens before the acknowledgement.
    pub now: Vec<Step>,
    /// How the changed ranges lie afterwards.
    pub map: Vec<Extent>,
    /// Changes of metadata.
    pub meta: Vec<Patch>,
    /// Space that nobody will refer to when the patches named are durable.
    pub free: Vec<Free>,
    /// Ranges that have metadata from now on.
    pub protect: Vec<MetadataRange>,
}

/// What happens before a change is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The file gets this length in bytes. What is new in it reads as zeros.
    SetLength {
        /// The file.
        file: FileId,
        /// Its length in bytes.
        length: u64,
    },
    /// The disk's bytes as they are before this plan, wherever they lie (copy-up).
    Copy {
        /// Their place on the guest's disk, in bytes.
        guest: u64,
        /// How many.
        length: u64,
        /// Where to.
        file: FileId,
        /// Where to, in bytes.
        offset: u64,
    },
    /// The data of the change.
    Put {
        /// Their place on the guest's disk, in bytes.
        guest: u64,
        /// How many.
        length: u64,
        /// Where to.
        file: FileId,
        /// Where to, in bytes.
        offset: u64,
    },
    /// Zeros: written, or made by a hole. Done before the acknowledgement, so it is also how space that stays in use is given back; [`Plan::free`]
    /// is for space that nobody refers to any more.
    Fill {
        /// Where to.
        file: FileId,
        /// Where to, in bytes.
        offset: u64,
        /// How many.
        length: u64,
    },
}

/// A change of metadata: some bytes of a file.
///
/// A patch is durable no earlier than those that it names in `after`. Where two patches touch the same byte, the later one is durable no
/// earlier than the earlier one, named or not. A patch that crosses a multiple of 512 bytes may be torn there by a power cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// Its name.
    pub id: PatchId,
    /// The file.
    pub file: FileId,
    /// Where, in bytes.
    pub offset: u64,
    /// What the file has there from now on.
    pub bytes: Vec<u8>,
    /// Patches that must be durable first. One that is named nowhere, or is durable already, is no hindrance.
    pub after: Vec<PatchId>,
    /// Whether the data of this plan and all earlier ones, and the lengths of the files, must be durable first.
    pub after_data: bool,
    /// Whether it may stay behind when the guest flushes: without it the image only has less free space (a leak) than it could have.
    pub lazy: bool,
}

/// Space that will be free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Free {
    /// The file.
    pub file: FileId,
    /// Where, in bytes.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
    /// Patches that must be durable before it is free.
    pub after: Vec<PatchId>,
    /// Whether the host should give the space back to the file system (a hole).
    pub punch: bool,
}
