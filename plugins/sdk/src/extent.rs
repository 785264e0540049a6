//! Where the blocks of the disk lie that a guest sees.

use crate::FileId;

/// A range of the guest's disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Range {
    /// Its first byte; a multiple of 512.
    pub offset: u64,
    /// Its length in bytes; a multiple of 512, not 0.
    pub length: u64,
}

/// Which state of the disk is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum View {
    /// The disk as it is now.
    Active,
    /// An internal snapshot, by its place in [`Job::SnapshotList`](crate::Job::SnapshotList)'s answer. Read-only.
    Snapshot(u32),
}

/// A stretch of the guest's disk whose bytes all lie in one way. Offsets and lengths are multiples of 512.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The stretch.
    pub range: Range,
    /// Where its bytes are.
    pub place: Place,
}

/// Where the bytes of an extent are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a file, one after the other.
    Data {
        /// The file.
        file: FileId,
        /// Where the extent's first byte is, in bytes.
        offset: u64,
        /// Whether they may be overwritten where they are, with no plan: nothing else refers to them.
        in_place: bool,
    },
    /// Nowhere: they are zeros.
    Zero,
    /// In the parent, at the same place of its disk; zeros beyond the parent's end, and when there is no parent.
    Parent,
    /// Compressed, in a file.
    Packed {
        /// How.
        codec: Codec,
        /// The file.
        file: FileId,
        /// Where the compressed bytes begin. Any byte.
        offset: u64,
        /// How many there are at most; what follows the end of the compressed stream is ignored.
        length: u32,
        /// How many bytes they give, at least and at most.
        unpacked: u32,
        /// How many of those come before the extent's first byte.
        skip: u32,
    },
    /// In a file, one after the other, as far as a bitmap says so; each other sector is absent. New sectors are written without a
    /// plan: the data, then, when that is durable, their bits.
    Sparse {
        /// The file.
        file: FileId,
        /// Where the extent's first byte is, in bytes.
        offset: u64,
        /// Which sectors are there.
        bitmap: Bitmap,
        /// What an absent sector reads as.
        absent: Absent,
    },
}

/// A bitmap in a file: a bit for each sector of an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bitmap {
    /// The file.
    pub file: FileId,
    /// Where the byte is that has the first sector's bit.
    pub offset: u64,
    /// Which bit of that byte it is, counted in `order`.
    pub first_bit: u8,
    /// How bits are counted in a byte.
    pub order: BitOrder,
    /// How many bytes of the disk a bit stands for: a multiple of 512.
    pub unit: u32,
}

/// How bits are counted in a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BitOrder {
    /// The most significant bit first (VHD).
    MsbFirst,
    /// The least significant bit first (VHDX).
    LsbFirst,
}

/// What a sector reads as whose bit is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// As the parent's sector.
    Parent,
    /// As zeros.
    Zero,
}

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Deflate with no header (RFC 1951).
    Deflate,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Range {
    /// The range from `offset` to `end`, both in bytes.
    pub fn between(offset: u64, end: u64) -> Self {
        Self { offset, length: end.saturating_sub(offset) }
    }

    /// The byte behind its last.
    pub fn end(self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}
