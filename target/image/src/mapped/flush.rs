//! What a flush writes, and in which order.

use stampede_plugin::{FileId, PatchId};

/// Sectors that become durable together: they are written in any order, and then there is a barrier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// What is written.
    pub writes: Vec<SectorWrite>,
}

/// Bytes of a file, whole sectors of 512 bytes (the last one of a file may be shorter).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectorWrite {
    /// The file.
    pub file: FileId,
    /// Where, in bytes: a multiple of 512.
    pub offset: u64,
    /// What.
    pub bytes: Vec<u8>,
}

/// Metadata on its way to become durable. All levels are written, each with a barrier behind it; a level without writes
/// is a barrier for the data before it. If a write or a barrier fails, nobody knows what the files have: the image is closed, and opened again.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what is not written is not durable"]
pub struct Flush {
    /// The levels, in order. None: there is nothing to write, and no data to wait for.
    pub levels: Vec<Level>,
    /// The patches that will be durable.
    pub(super) ids: Vec<PatchId>,
    /// The pages whose sectors are written, which are held until then.
    pub(super) pages: Vec<super::PageKey>,
}
