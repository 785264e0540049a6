//! A record: what one slot of the arena or block of scratch space holds, in one word.
//!
//! ```text
//!   63                          28 27             10 9        2 1     0
//!  ┌──────────────────────────────┬─────────────────┬──────────┬───────┐
//!  │ 4 KiB of the disk: its index │ clone           │ sectors  │ state │
//!  └──────────────────────────────┴─────────────────┴──────────┴───────┘
//! ```
//! A word of 0 is a free slot.

const MASK: u32 = 2;
const CLONE: u32 = 10;
const BLOCK: u32 = 28;
const CLONE_BITS: u64 = (1 << (BLOCK - CLONE)) - 1;

/// What a record says of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It counts.
    Live = 1,
    /// It counts, in place of a live one, if its clone has committed.
    Pending = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) state: State,
    /// Which sectors, bit n is sector n.
    pub(super) mask: u8,
    pub(super) clone: u32,
    pub(super) block: u64,
}

impl Record {
    /// The block of a pattern beneath the overlay.
    pub(super) const PATTERN: u64 = (1 << (64 - BLOCK)) - 1;
    /// Blocks of a disk, at most: 256 TiB less a few.
    pub(super) const BLOCKS: u64 = Self::PATTERN - 255;

    #[inline]
    pub(super) fn word(self) -> u64 {
        debug_assert!(u64::from(self.clone) <= CLONE_BITS && self.block <= Self::PATTERN);
        self.block << BLOCK
            | u64::from(self.clone) << CLONE
            | u64::from(self.mask) << MASK
            | self.state as u64
    }

    /// `None` for a free slot, and for a word that is no record.
    pub(super) fn of(word: u64) -> Option<Self> {
        let state = match word & 3 {
            1 => State::Live,
            2 => State::Pending,
            _ => return None,
        };
        let (mask, block) = ((word >> MASK) as u8, word >> BLOCK);
        let clone = (word >> CLONE & CLONE_BITS) as u32;
        let is_sound = mask != 0 && (block < Self::BLOCKS || block == Self::PATTERN);
        is_sound.then_some(Self { state, mask, clone, block })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_what_it_was() {
        for state in [State::Live, State::Pending] {
            for (mask, clone, block) in [
                (1, 0, 0),
                (0xff, 65_535, Record::BLOCKS - 1),
                (0x80, 1, Record::PATTERN),
                (3, 262_143, 1 << 35),
            ] {
                let record = Record { state, mask, clone, block };
                assert_eq!(Record::of(record.word()), Some(record));
            }
        }
        let no_mask = Record { state: State::Live, mask: 0, clone: 1, block: 1 };
        let beyond = Record { state: State::Live, mask: 1, clone: 1, block: Record::BLOCKS };
        for word in [0, 3, 7, u64::MAX, no_mask.word(), beyond.word()] {
            assert_eq!(Record::of(word), None);
        }
    }
}
