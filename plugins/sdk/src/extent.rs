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

impl Extent {
    /// The part of it that a range inside it has.
    #[must_use]
    pub fn cut(&self, range: Range) -> Self {
        let before = range.offset.saturating_sub(self.range.offset);
        let place = match self.place {
            Place::Data { file, offset, in_place } => {
                Place::Data { file, offset: offset.saturating_add(before), in_place }
            }
            Place::Packed { codec, file, offset, length, unpacked, skip } => {
                let skip = skip.saturating_add(u32::try_from(before).unwrap_or(u32::MAX));
                Place::Packed { codec, file, offset, length, unpacked, skip }
            }
            Place::Sparse { file, offset, bitmap, absent } => Place::Sparse {
                file,
                offset: offset.saturating_add(before),
                bitmap: bitmap.skip(before),
                absent,
            },
            place @ (Place::Zero | Place::Parent) => place,
        };
        Self { range, place }
    }

    /// The extent that this one and `next`, which begins where this one ends, are together, if their bytes go on the same way.
    #[must_use]
    pub fn join(&self, next: &Self) -> Option<Self> {
        let range =
            Range { offset: self.range.offset, length: self.range.length.checked_add(next.range.length)? };
        let whole = Self { range, place: self.place };
        // Compressed units stay apart: each is unpacked alone.
        let apart = self.range.end() != next.range.offset || matches!(self.place, Place::Packed { .. });
        (!apart && whole.cut(next.range) == *next).then_some(whole)
    }
}

impl Bitmap {
    /// The bitmap of what follows so many bytes later.
    #[must_use]
    pub fn skip(mut self, bytes: u64) -> Self {
        let bits = u64::from(self.first_bit) + bytes.checked_div(u64::from(self.unit)).unwrap_or(0);
        self.offset = self.offset.saturating_add(bits / 8);
        self.first_bit = (bits % 8) as u8;
        self
    }

    /// The byte and the mask in it of the bit that stands for the `number`th unit.
    pub fn bit(&self, number: u64) -> (u64, u8) {
        let index = u64::from(self.first_bit).saturating_add(number);
        let mask = match self.order {
            BitOrder::MsbFirst => 0x80 >> (index % 8),
            BitOrder::LsbFirst => 1 << (index % 8),
        };
        (self.offset.saturating_add(index / 8), mask)
    }
}
