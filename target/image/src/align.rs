//! What direct I/O asks of offsets, lengths and buffers, and how a guest's range is widened to it.

use crate::range_lock::ByteRange;

/// The alignment that a file's direct I/O needs, as `statx` with `STATX_DIOALIGN` tells it. Both are powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alignment {
    /// Bytes that a buffer's address must be a multiple of (`stx_dio_mem_align`).
    pub memory: u32,
    /// Bytes that a file offset and an I/O's length must be multiples of (`stx_dio_offset_align`).
    pub offset: u32,
}

/// A byte range widened to whole device blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widened {
    /// The smallest aligned range that holds the guest's.
    pub block: ByteRange,
    /// Bytes of `block` before the guest's range; a write must first read them. Empty when aligned.
    pub head: ByteRange,
    /// Bytes of `block` behind the guest's range; a write must first read them. Empty when aligned.
    pub tail: ByteRange,
}

impl Widened {
    /// Whether nothing had to be added.
    #[must_use]
    pub fn is_aligned(&self) -> bool {
        self.head.len == 0 && self.tail.len == 0
    }

    /// The device blocks that a write must read before it can be written, in file order: the first block when the
    /// head is partial, the last when the tail is; one range when they are the same block or touch.
    #[must_use]
    pub fn fill_reads(&self, alignment: Alignment) -> [Option<ByteRange>; 2] {
        let block = u64::from(alignment.offset);
        let first = ByteRange { start: self.block.start, len: block };
        let last = ByteRange { start: self.block.end().saturating_sub(block), len: block };
        match (self.head.len > 0, self.tail.len > 0) {
            (false, false) => [None, None],
            (true, false) => [Some(first), None],
            (false, true) => [Some(last), None],
            (true, true) if self.block.len <= block.saturating_mul(2) => [Some(self.block), None],
            (true, true) => [Some(first), Some(last)],
        }
    }
}

impl Alignment {
    /// What buffered I/O needs: nothing.
    pub const NONE: Self = Self { memory: 1, offset: 1 };

    /// An alignment from `statx`; `None` when the file has no direct I/O (zeroes) or a value is no power of two.
    #[must_use]
    pub fn from_statx(memory: u32, offset: u32) -> Option<Self> {
        (memory.is_power_of_two() && offset.is_power_of_two()).then_some(Self { memory, offset })
    }

    /// Whether an I/O of `range` into a buffer at `address` may go direct.
    #[must_use]
    pub fn allows(&self, range: ByteRange, address: usize) -> bool {
        let offset = u64::from(self.offset);
        let memory = u64::from(self.memory);
        range.start % offset == 0 && range.len % offset == 0 && (address as u64) % memory == 0
    }

    /// Whether a file of this length can be written whole by direct I/O. In one that ends inside a block the last
    /// write would lengthen the file, so that part needs buffered I/O.
    #[must_use]
    pub fn divides(&self, file_len_bytes: u64) -> bool {
        file_len_bytes % u64::from(self.offset) == 0
    }

    /// The range widened to whole blocks; `None` when its end or the widened end is beyond `u64`.
    #[must_use]
    pub fn widen(&self, range: ByteRange) -> Option<Widened> {
        let block = u64::from(self.offset);
        let end = range.start.checked_add(range.len)?;
        let start = range.start - range.start % block;
        let block_end = if range.len == 0 { start } else { end.checked_next_multiple_of(block)? };
        if range.len == 0 {
            let empty = ByteRange { start: range.start, len: 0 };
            return Some(Widened { block: empty, head: empty, tail: empty });
        }
        Some(Widened {
            block: ByteRange { start, len: block_end - start },
            head: ByteRange { start, len: range.start - start },
            tail: ByteRange { start: end, len: block_end - end },
        })
    }
}
