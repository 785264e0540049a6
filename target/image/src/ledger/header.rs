//! The ledger's header: whether its words are what this version takes them for, and belong to this boot of the host.

use super::Words;
use std::sync::atomic::Ordering;
use thiserror::Error;

/// "STAMPEDE", as the host's words have it: memory of a host of the other byte order has another.
const MAGIC: u64 = u64::from_be_bytes(*b"STAMPEDE");
/// The version of the layout. Whoever changes what a word means counts it up: then clones of the version before are dropped.
const VERSION: u64 = 1;

/// The header's words. `MAGIC` is stored last.
const AT_MAGIC: usize = 0;
const AT_VERSION: usize = 1;
const AT_BOOT: usize = 2;
const AT_ARENA: usize = 4;
const AT_BLOCKS: usize = 5;
const AT_SCRATCH: usize = 6;

/// What a run says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which boot of the host.
    pub boot: u128,
    /// Slots of the arena.
    pub arena_slots: u32,
    /// Blocks of scratch space.
    pub scratch_blocks: u32,
    /// Which file or device the scratch space is; 0 for none.
    pub scratch: [u64; 3],
}

/// Why what is there cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Mismatch {
    /// Nothing was ever kept here.
    #[error("it is empty")]
    Empty,
    /// It is no ledger.
    #[error("it is not of stampede, or of a host of another byte order")]
    Foreign,
    /// Another version wrote it.
    #[error("its layout is version {found}, and this stampede has version {VERSION}")]
    Version {
        /// Its version.
        found: u64,
    },
    /// The host was rebooted since.
    #[error("it is of an earlier boot of this host")]
    Boot,
}

/// The header of a ledger.
#[derive(Debug)]
pub struct Header(Box<dyn Words>);

impl Header {
    /// The header in these words, at least 16.
    #[must_use]
    pub fn new(words: Box<dyn Words>) -> Self {
        Self(words)
    }

    fn word(&self, at: usize) -> u64 {
        self.0.all().get(at).map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn put(&self, at: usize, value: u64) {
        if let Some(word) = self.0.all().get(at) {
            word.store(value, Ordering::Release);
        }
    }

    /// What the run before said of itself.
    ///
    /// # Errors
    /// Why its ledger cannot be used in this boot of the host.
    pub fn read(&self, boot: u128) -> Result<Stamp, Mismatch> {
        match (self.word(AT_MAGIC), self.word(AT_VERSION)) {
            (0, _) => return Err(Mismatch::Empty),
            (MAGIC, VERSION) => {}
            (MAGIC, found) => return Err(Mismatch::Version { found }),
            _ => return Err(Mismatch::Foreign),
        }
        let found = u128::from(self.word(AT_BOOT)) << 64 | u128::from(self.word(AT_BOOT + 1));
        if found != boot {
            return Err(Mismatch::Boot);
        }
        let count = |at| u32::try_from(self.word(at)).map_err(|_| Mismatch::Foreign);
        Ok(Stamp {
            boot,
            arena_slots: count(AT_ARENA)?,
            scratch_blocks: count(AT_BLOCKS)?,
            scratch: [0, 1, 2].map(|at| self.word(AT_SCRATCH + at)),
        })
    }

    /// Says that nothing of what is there counts; then it may be cleared.
    pub fn void(&self) {
        self.put(AT_MAGIC, 0);
    }

    /// Says what this run is. Of a ledger that goes on, all that another stamp would make void is gone before.
    pub fn write(&self, stamp: &Stamp) {
        self.put(AT_VERSION, VERSION);
        self.put(AT_BOOT, (stamp.boot >> 64) as u64);
        self.put(AT_BOOT + 1, stamp.boot as u64);
        self.put(AT_ARENA, u64::from(stamp.arena_slots));
        self.put(AT_BLOCKS, u64::from(stamp.scratch_blocks));
        for (at, word) in stamp.scratch.iter().enumerate() {
            self.put(AT_SCRATCH + at, *word);
        }
        self.put(AT_MAGIC, MAGIC);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    fn header() -> Header {
        let words: Box<[AtomicU64]> = (0..16).map(|_| AtomicU64::new(0)).collect();
        Header::new(Box::new(words))
    }

    #[test]
    fn a_stamp_is_found_in_the_same_boot_only() {
        let header = header();
        assert_eq!(header.read(5), Err(Mismatch::Empty));
        let stamp = Stamp { boot: 1 << 100 | 5, arena_slots: 7, scratch_blocks: 9, scratch: [1, 2, 3] };
        header.write(&stamp);
        assert_eq!(header.read(stamp.boot), Ok(stamp));
        assert_eq!(header.read(5), Err(Mismatch::Boot));
        header.put(AT_VERSION, VERSION + 1);
        assert_eq!(header.read(stamp.boot), Err(Mismatch::Version { found: VERSION + 1 }));
        header.put(AT_MAGIC, MAGIC.swap_bytes());
        assert_eq!(header.read(stamp.boot), Err(Mismatch::Foreign));
        header.void();
        assert_eq!(header.read(stamp.boot), Err(Mismatch::Empty));
    }

    #[test]
    fn a_stamp_that_is_half_written_does_not_count() {
        let header = header();
        for at in (0..16).filter(|at| *at != AT_MAGIC) {
            header.put(at, u64::MAX);
            assert_eq!(header.read(u128::MAX), Err(Mismatch::Empty));
        }
    }
}
