//! The intent journal of one image: what an atomic write is about to write, so that a start after a power loss can
//! finish what was begun.
//!
//! ```text
//!  journal:  slot 0 ┬ header (4 KiB): where, how long, CRC of the data, CRC of the header
//!                   └ data (at most 1 MiB)
//!            slot 1 ...
//!
//!  intent written and durable ─► image written and durable ─► header zeroed and durable ─► status
//!        torn: ignored              replayed at the start         nothing is left to do
//! ```
//!
//! Both checksums must be right for an intent to count, so one that was cut off anywhere, even within a sector, does
//! not. No two intents of a journal overlap: the writer keeps its range to itself until the header is zeroed.

use std::ops::Range;

/// Bytes of a slot's header, and what its length is a multiple of.
pub const HEADER: u32 = 4096;
/// The most bytes of one atomic write.
pub const DATA_MAX: u32 = 1 << 20;
/// Bytes of a slot.
pub const SLOT: u64 = HEADER as u64 + DATA_MAX as u64;
/// Slots of a journal: as many atomic writes of one image are under way at once.
pub const SLOTS: u8 = 2;
/// Bytes of a journal.
pub const JOURNAL: u64 = SLOT * SLOTS as u64;

/// What a header begins with: the name, and the version of what follows.
const MAGIC: [u8; 8] = *b"STMPINT\x01";
/// Bytes of a header that mean something; the rest is zero.
const MEANT: usize = 28;

/// One atomic write that is about to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Where it goes, in bytes from the start of the image.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u32,
    /// CRC32C of its data.
    data_crc: u32,
}

impl Intent {
    /// The intent to write these bytes, which follow each other, at byte `offset`; `None` when there are more than
    /// [`DATA_MAX`].
    pub fn new<'a>(offset: u64, data: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let (mut len, mut data_crc) = (0usize, 0);
        for slice in data {
            len = len.checked_add(slice.len())?;
            data_crc = crc32c::crc32c_append(data_crc, slice);
        }
        let len = u32::try_from(len).ok().filter(|len| *len <= DATA_MAX)?;
        Some(Self { offset, len, data_crc })
    }

    /// The beginning of the slot's header; zeros follow.
    #[must_use]
    pub fn encode(&self) -> [u8; MEANT] {
        let mut header = [0; MEANT];
        header[..8].copy_from_slice(&MAGIC);
        header[8..16].copy_from_slice(&self.offset.to_be_bytes());
        header[16..20].copy_from_slice(&self.len.to_be_bytes());
        header[20..24].copy_from_slice(&self.data_crc.to_be_bytes());
        let crc = crc32c::crc32c(&header[..24]);
        header[24..].copy_from_slice(&crc.to_be_bytes());
        header
    }

    fn decode(header: &[u8]) -> Option<Self> {
        let (meant, rest) = header.split_at_checked(24)?;
        let word = |at: usize| Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?));
        if !meant.starts_with(&MAGIC) || rest.get(..4)? != crc32c::crc32c(meant).to_be_bytes() {
            return None;
        }
        let offset = u64::from(word(8)?) << 32 | u64::from(word(12)?);
        let intent = Self { offset, len: word(16)?, data_crc: word(20)? };
        (intent.len <= DATA_MAX).then_some(intent)
    }
}

/// Where a slot is in its journal.
#[must_use]
pub fn slot(number: u8) -> Range<u64> {
    let start = u64::from(number) * SLOT;
    start..start + SLOT
}

/// The intents of a journal that are complete, with their data: what is to be written now.
pub fn complete(journal: &[u8]) -> impl Iterator<Item = (Intent, &[u8])> {
    journal.chunks_exact(SLOT as usize).filter_map(|slot| {
        let (header, data) = slot.split_at_checked(HEADER as usize)?;
        let intent = Intent::decode(header)?;
        let data = data.get(..intent.len as usize)?;
        (crc32c::crc32c(data) == intent.data_crc).then_some((intent, data))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn journal(intents: &[(u8, u64, &[u8])]) -> Vec<u8> {
        let mut journal = vec![0; JOURNAL as usize];
        for (number, offset, data) in intents {
            let at = slot(*number).start as usize;
            let header = Intent::new(*offset, [*data].into_iter()).unwrap().encode();
            journal[at..at + MEANT].copy_from_slice(&header);
            let at = at + HEADER as usize;
            journal[at..at + data.len()].copy_from_slice(data);
        }
        journal
    }

    #[test]
    fn complete_intents_are_found_and_zeroed_ones_are_not() {
        let (one, two) = (vec![0x11; 4096], vec![0x22; DATA_MAX as usize]);
        let mut journal = journal(&[(0, 8192, &one), (1, 1 << 40, &two)]);
        let found: Vec<_> = complete(&journal).map(|(intent, data)| (intent.offset, data.to_vec())).collect();
        assert_eq!(found, [(8192, one), (1 << 40, two)]);
        journal[..HEADER as usize].fill(0);
        assert_eq!(complete(&journal).map(|(intent, _)| intent.offset).collect::<Vec<_>>(), [1 << 40]);
        assert_eq!(complete(&vec![0; JOURNAL as usize]).count(), 0);
        assert_eq!(complete(&[]).count(), 0);
    }

    #[test]
    fn more_than_a_slot_holds_is_no_intent() {
        let data = vec![0; DATA_MAX as usize];
        assert!(Intent::new(0, [&data[..]].into_iter()).is_some());
        assert!(Intent::new(0, [&data[..], &[0][..]].into_iter()).is_none());
    }

    proptest! {
        #[test]
        fn a_changed_byte_makes_it_no_intent(
            data in proptest::collection::vec(any::<u8>(), 4096..8192),
            at in any::<prop::sample::Index>(),
            change in 1u8..,
        ) {
            let mut journal = journal(&[(1, 4096, &data)]);
            let meant = MEANT + data.len();
            let at = at.index(meant);
            let base = slot(1).start as usize;
            let place = if at < MEANT { base + at } else { base + HEADER as usize + at - MEANT };
            journal[place] ^= change;
            prop_assert_eq!(complete(&journal).count(), 0);
        }

        #[test]
        fn any_bytes_are_defined(journal in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut whole = journal.clone();
            whole.resize(JOURNAL as usize, 0xA5);
            prop_assert_eq!(complete(&journal).count() + complete(&whole).count(), 0);
        }
    }
}
