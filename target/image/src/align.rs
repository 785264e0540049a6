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
        range.start.is_multiple_of(offset)
            && range.len.is_multiple_of(offset)
            && (address as u64).is_multiple_of(memory)
    }

    /// Whether a file of this length can be written whole by direct I/O. In one that ends inside a block the last
    /// write would lengthen the file, so that part needs buffered I/O.
    #[must_use]
    pub fn divides(&self, file_len_bytes: u64) -> bool {
        file_len_bytes.is_multiple_of(u64::from(self.offset))
    }

    /// The range widened to whole blocks; `None` when its end or the widened end is beyond `u64`.
    #[must_use]
    pub fn widen(&self, range: ByteRange) -> Option<Widened> {
        if range.len == 0 {
            return Some(Widened { block: range, head: range, tail: range });
        }
        let block = u64::from(self.offset);
        let start = range.start - range.start % block;
        let end = range.start.checked_add(range.len)?;
        let block_end = end.checked_next_multiple_of(block)?;
        Some(Widened {
            block: ByteRange { start, len: block_end - start },
            head: ByteRange { start, len: range.start - start },
            tail: ByteRange { start: end, len: block_end - end },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCK: Alignment = Alignment { memory: 512, offset: 4096 };

    fn range(start: u64, len: u64) -> ByteRange {
        ByteRange { start, len }
    }

    #[test]
    fn an_aligned_range_stays_as_it_is() {
        let widened = BLOCK.widen(range(8192, 4096)).unwrap();
        assert!(widened.is_aligned());
        assert_eq!(widened.block, range(8192, 4096));
        assert_eq!(widened.fill_reads(BLOCK), [None, None]);
    }

    #[test]
    fn one_sector_within_a_block_needs_the_block() {
        let widened = BLOCK.widen(range(512, 512)).unwrap();
        assert_eq!(widened.block, range(0, 4096));
        assert_eq!(widened.head, range(0, 512));
        assert_eq!(widened.tail, range(1024, 3072));
        assert_eq!(widened.fill_reads(BLOCK), [Some(range(0, 4096)), None]);
    }

    #[test]
    fn a_long_range_needs_only_its_partial_ends() {
        let both = BLOCK.widen(range(512, 5 * 4096)).unwrap();
        assert_eq!(both.fill_reads(BLOCK), [Some(range(0, 4096)), Some(range(5 * 4096, 4096))]);
        let head = BLOCK.widen(range(512, 2 * 4096 - 512)).unwrap();
        assert_eq!(head.fill_reads(BLOCK), [Some(range(0, 4096)), None]);
        let tail = BLOCK.widen(range(0, 4096 + 512)).unwrap();
        assert_eq!(tail.fill_reads(BLOCK), [Some(range(4096, 4096)), None]);
        let touching = BLOCK.widen(range(512, 4096)).unwrap();
        assert_eq!(touching.fill_reads(BLOCK), [Some(range(0, 8192)), None], "two blocks, one read");
    }

    #[test]
    fn an_empty_range_needs_nothing() {
        let widened = BLOCK.widen(range(513, 0)).unwrap();
        assert_eq!(widened.block.len, 0);
        assert_eq!(widened.fill_reads(BLOCK), [None, None]);
    }

    #[test]
    fn ranges_beyond_u64_are_refused() {
        assert_eq!(BLOCK.widen(range(u64::MAX, 2)), None);
        assert_eq!(BLOCK.widen(range(u64::MAX - 512, 512)), None, "the widened end is beyond");
        assert!(Alignment::NONE.widen(range(u64::MAX - 512, 512)).is_some());
    }

    #[test]
    fn statx_answers_are_checked() {
        assert_eq!(Alignment::from_statx(4, 512), Some(Alignment { memory: 4, offset: 512 }));
        assert_eq!(Alignment::from_statx(0, 0), None, "no direct I/O");
        assert_eq!(Alignment::from_statx(4, 520), None);
    }

    #[test]
    fn address_offset_and_length_must_all_fit() {
        assert!(BLOCK.allows(range(4096, 8192), 512));
        assert!(!BLOCK.allows(range(4096, 8192), 100));
        assert!(!BLOCK.allows(range(512, 4096), 512));
        assert!(!BLOCK.allows(range(4096, 512), 512));
        assert!(BLOCK.divides(1 << 20));
        assert!(!BLOCK.divides((1 << 20) + 512));
    }

    proptest! {
        #[test]
        fn head_range_and_tail_tile_the_block(start in 0_u64..1 << 20, len in 1_u64..1 << 16, shift in 0_u32..13) {
            let alignment = Alignment { memory: 1, offset: 1 << shift };
            let block = u64::from(alignment.offset);
            let widened = alignment.widen(range(start, len)).unwrap();
            prop_assert_eq!(widened.block.start % block, 0);
            prop_assert_eq!(widened.block.len % block, 0);
            prop_assert_eq!(widened.head.start, widened.block.start);
            prop_assert_eq!(widened.head.end(), start);
            prop_assert_eq!(widened.tail.start, start + len);
            prop_assert_eq!(widened.tail.end(), widened.block.end());
            prop_assert!(widened.head.len < block && widened.tail.len < block);
            // Every padding byte is read by exactly one fill read, and those are whole blocks within the range.
            let fills: Vec<_> = widened.fill_reads(alignment).into_iter().flatten().collect();
            for fill in &fills {
                prop_assert!(alignment.allows(*fill, 0));
                prop_assert!(fill.start >= widened.block.start && fill.end() <= widened.block.end());
            }
            for padding in [widened.head, widened.tail].into_iter().filter(|padding| padding.len > 0) {
                let covering = fills.iter().filter(|fill| fill.start <= padding.start && padding.end() <= fill.end());
                prop_assert_eq!(covering.count(), 1);
            }
        }
    }
}
