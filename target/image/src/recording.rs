//! A golden's first boot as it was recorded: which blocks were used, in which order and when; and its file.
//!
//! A block is [`BLOCK`] bytes of the golden, as in the cache. Each is in the recording once, where it was first used, however
//! often it was used later: that is what reading ahead can do for another machine that boots the same way.
//!
//! The file, all numbers little-endian:
//!
//! ```text
//!   0    8  "STAMPREC"
//!   8    4  version: 1
//!  12    4  bytes of a block: 32768
//!  16    8  the golden's device   ┐
//!  24    8  inode                 │ the golden must still be this
//!  32    8  length in bytes       │ (GoldenIdentity)
//!  40   16  mtime in ns, signed   │
//!  56    8  generation            ┘
//!  64    4  1 if the machine had come to rest, 0 if it went away before
//!  68    4  number of blocks, at most 65536
//!  72  8*n  each: block (byte offset / 32768) u32, microseconds since the one before (the first: since the clone was made) u32
//!   +    4  CRC32C of all before
//! ```

use crate::cache::BLOCK;
use crate::golden::GoldenIdentity;
use std::sync::Arc;
use thiserror::Error;

/// The most blocks of a recording: 2 GiB of the golden.
pub const BLOCKS_MAX: usize = 65_536;

const MAGIC: [u8; 8] = *b"STAMPREC";
const VERSION: u32 = 1;
const HEADER: usize = 72;
const ENTRY: usize = 8;
const CHECKSUM: usize = 4;

/// Bytes of the longest file.
pub const FILE_MAX: u64 = (HEADER + BLOCKS_MAX * ENTRY + CHECKSUM) as u64;

/// Blocks that are put in file order together, 16 MiB: enough for a disk's arm to gain by it, and little beside a boot,
/// so that what is wanted first is read first.
const WINDOW: usize = 512;

/// A block's first use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstUse {
    /// Which block: byte offset divided by [`BLOCK`].
    pub block: u32,
    /// Microseconds since the first use before it.
    pub gap_us: u32,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// What was recorded.
    pub golden: GoldenIdentity,
    /// Whether it goes on to where the machine used nothing new any more.
    pub complete: bool,
    /// In the order of first use; no block twice.
    pub uses: Vec<FirstUse>,
}

/// A file that is no recording that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Damage {
    /// It begins with something else.
    #[error("it is not a recording")]
    Magic,
    /// It is of a version that is not known here.
    #[error("it is a recording of version {0}, of which nothing is known here")]
    Version(u32),
    /// It has not the length that it says.
    #[error("it is cut off, or too long")]
    Length,
    /// Its bytes are not those that were written.
    #[error("its checksum is wrong")]
    Checksum,
    /// It names a block that the golden does not have, or one twice, or has another block length.
    #[error("it names blocks that the golden does not have")]
    Blocks,
}

impl Recording {
    /// The bytes of its file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let uses = &self.uses[..self.uses.len().min(BLOCKS_MAX)];
        let mut file = Vec::with_capacity(HEADER + uses.len() * ENTRY + CHECKSUM);
        file.extend(MAGIC);
        file.extend(VERSION.to_le_bytes());
        file.extend((BLOCK as u32).to_le_bytes());
        file.extend(self.golden.device.to_le_bytes());
        file.extend(self.golden.inode.to_le_bytes());
        file.extend(self.golden.len_bytes.to_le_bytes());
        file.extend(self.golden.mtime_ns.to_le_bytes());
        file.extend(self.golden.generation.to_le_bytes());
        file.extend(u32::from(self.complete).to_le_bytes());
        file.extend((uses.len() as u32).to_le_bytes());
        for FirstUse { block, gap_us } in uses {
            file.extend(block.to_le_bytes());
            file.extend(gap_us.to_le_bytes());
        }
        file.extend(crc32c::crc32c(&file).to_le_bytes());
        file
    }

    /// Reads a file's bytes.
    ///
    /// # Errors
    /// See [`Damage`].
    pub fn decode(file: &[u8]) -> Result<Self, Damage> {
        if !file.starts_with(&MAGIC) {
            return Err(Damage::Magic);
        }
        let (body, checksum) = file.split_last_chunk::<CHECKSUM>().ok_or(Damage::Length)?;
        let mut fields = Fields(body.get(MAGIC.len()..).ok_or(Damage::Length)?);
        let version = fields.u32()?;
        if version != VERSION {
            return Err(Damage::Version(version));
        }
        let block_len = fields.u32()?;
        let golden = GoldenIdentity {
            device: fields.u64()?,
            inode: fields.u64()?,
            len_bytes: fields.u64()?,
            mtime_ns: i128::from_le_bytes(fields.take()?),
            generation: fields.u64()?,
        };
        let complete = fields.u32()? != 0;
        let count = fields.u32()? as usize;
        if count > BLOCKS_MAX || fields.0.len() != count * ENTRY {
            return Err(Damage::Length);
        }
        if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
            return Err(Damage::Checksum);
        }
        let mut uses = Vec::with_capacity(count);
        for _ in 0..count {
            uses.push(FirstUse { block: fields.u32()?, gap_us: fields.u32()? });
        }
        let mut blocks: Vec<u32> = uses.iter().map(|each| each.block).collect();
        blocks.sort_unstable();
        let twice = blocks.windows(2).any(|pair| pair[0] == pair[1]);
        let behind = blocks.last().is_some_and(|last| u64::from(*last) * BLOCK >= golden.len_bytes);
        if twice || behind || u64::from(block_len) != BLOCK {
            return Err(Damage::Blocks);
        }
        Ok(Self { golden, complete, uses })
    }

    /// Microseconds from the clone's making to the last first use.
    #[must_use]
    pub fn duration_us(&self) -> u64 {
        self.uses.iter().map(|each| u64::from(each.gap_us)).sum()
    }

    /// How to read it ahead.
    #[must_use]
    pub fn route(&self) -> Route {
        let mut order: Vec<u32> = self.uses.iter().map(|each| each.block).collect();
        order.chunks_mut(WINDOW).for_each(<[u32]>::sort_unstable);
        Route::new(order)
    }
}

/// What is left of a file.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(Damage::Length)?;
        self.0 = rest;
        Ok(*field)
    }

    fn u32(&mut self) -> Result<u32, Damage> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Damage> {
        self.take().map(u64::from_le_bytes)
    }
}

/// Blocks of a golden in the order in which they are read ahead. Windows of a recording, each in file order: the disk
/// gets neighbours one after the other, which it reads together, and what a boot wants first still comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    order: Arc<[u32]>,
    sorted: Arc<[u32]>,
}

impl Route {
    fn new(order: Vec<u32>) -> Self {
        let mut sorted = order.clone();
        sorted.sort_unstable();
        Self { order: order.into(), sorted: sorted.into() }
    }

    /// A whole image of so many bytes, from its begin to its end.
    #[must_use]
    pub fn whole(len_bytes: u64) -> Self {
        // A golden beyond 2^32 blocks is not cached.
        let blocks = u32::try_from(len_bytes.div_ceil(BLOCK)).unwrap_or(u32::MAX);
        let order: Arc<[u32]> = (0..blocks).collect();
        Self { sorted: Arc::clone(&order), order }
    }

    /// The blocks in order.
    #[must_use]
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// Whether a block is among them.
    #[must_use]
    pub fn foresees(&self, block: u32) -> bool {
        self.sorted.binary_search(&block).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn recording(blocks: &[u32], complete: bool) -> Recording {
        let uses = (0..).zip(blocks).map(|(gap_us, block)| FirstUse { block: *block, gap_us });
        let golden = GoldenIdentity {
            device: 8,
            inode: 42,
            len_bytes: 1 << 40,
            mtime_ns: -5_000_000_000_000_000_000_000,
            generation: 3,
        };
        Recording { golden, complete, uses: uses.collect() }
    }

    fn blocks() -> impl Strategy<Value = Vec<u32>> {
        proptest::collection::btree_set(0u32..1 << 25, 0..2000)
            .prop_map(|set| set.into_iter().collect::<Vec<_>>())
            .prop_shuffle()
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(blocks in blocks(), complete: bool) {
            let recording = recording(&blocks, complete);
            prop_assert_eq!(Recording::decode(&recording.encode()), Ok(recording));
        }

        /// Whatever happened to a file, it is read as it was written or not at all.
        #[test]
        fn no_damage_goes_unnoticed(blocks in blocks(), at: prop::sample::Index, bit in 0u8..8, cut: prop::sample::Index) {
            let file = recording(&blocks, true).encode();
            let mut flipped = file.clone();
            flipped[at.index(file.len())] ^= 1u8 << bit;
            prop_assert!(Recording::decode(&flipped).is_err());
            prop_assert!(Recording::decode(&file[..cut.index(file.len())]).is_err());
            let longer = [&file[..], &[0]].concat();
            prop_assert!(Recording::decode(&longer).is_err());
        }

        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Recording::decode(&bytes);
            let _ = Recording::decode(&[&MAGIC[..], &1u32.to_le_bytes(), &bytes].concat());
        }

        /// Every block once, none further from its turn than a window, and neighbours in order.
        #[test]
        fn a_route_is_in_file_order_window_by_window(blocks in blocks()) {
            let route = recording(&blocks, true).route();
            for (ours, recorded) in route.order().chunks(WINDOW).zip(blocks.chunks(WINDOW)) {
                let mut sorted = recorded.to_vec();
                sorted.sort_unstable();
                prop_assert_eq!(ours, &sorted[..]);
            }
            prop_assert_eq!(route.order().len(), blocks.len());
            prop_assert!(blocks.iter().all(|block| route.foresees(*block)));
            prop_assert!((0..64).all(|block| route.foresees(block) == blocks.contains(&block)));
        }
    }

    #[test]
    fn blocks_that_cannot_be_are_refused() {
        assert_eq!(Recording::decode(&recording(&[5, 5], true).encode()), Err(Damage::Blocks));
        let mut short = recording(&[5], true);
        short.golden.len_bytes = 5 * BLOCK;
        assert_eq!(Recording::decode(&short.encode()), Err(Damage::Blocks));
        short.golden.len_bytes += 1;
        assert_eq!(Recording::decode(&short.encode()), Ok(short));
    }

    #[test]
    fn a_whole_image_is_read_from_its_begin() {
        let route = Route::whole(3 * BLOCK + 1);
        assert_eq!(route.order(), [0, 1, 2, 3]);
        assert!(route.foresees(3) && !route.foresees(4));
    }
}
