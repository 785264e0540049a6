//! The stamp: 512 bytes that say what they are, where they belong, and whether they are whole.
//!
//! ```text
//!   0        8        16       24       32           40       44       48     50     52          508     512
//!   ┌────────┬────────┬────────┬────────┬────────────┬────────┬────────┬──────┬──────┬───────────┬───────┐
//!   │ magic  │ run    │ seed   │ lba    │ generation │ client │ blocks │ kind │sector│ filler .. │CRC32C │
//!   └────────┴────────┴────────┴────────┴────────────┴────────┴────────┴──────┴──────┴───────────┴───────┘
//! ```
//! All numbers are big-endian. The filler follows from the other fields, so any two stamps differ in nearly every byte, and
//! a sector that was pieced together from two can be told.

/// Bytes of a sector: what one stamp fills.
pub const SECTOR: usize = 512;

const MAGIC: [u8; 8] = *b"STAMPVF1";
const FILLER: usize = 52;
const CHECKSUM: usize = SECTOR - 4;

/// What kind of write put a stamp there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum StampKind {
    /// A WRITE: the stamp belongs to the block `lba` alone.
    Own,
    /// A WRITE SAME: the stamp belongs to each of the `blocks` blocks from `lba` on.
    Same,
    /// Whoever made the image: the stamp belongs to the block `lba` alone.
    Golden,
}

/// What a sector says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Which run wrote it, so that what an earlier run of the same seed left is not taken for this one's.
    pub run: u64,
    /// The run's seed.
    pub seed: u64,
    /// The logical block that it belongs to; for [`StampKind::Same`] the first of them.
    pub lba: u64,
    /// The operation that wrote it: its number within its client, from 1. Later operations have higher ones.
    pub generation: u64,
    /// The client that wrote it: a session's number.
    pub client: u32,
    /// How many logical blocks share it: 1, or for [`StampKind::Same`] the length of the WRITE SAME.
    pub blocks: u32,
    /// What kind of write it came with.
    pub kind: StampKind,
    /// The sector's number within its logical block, from 0.
    pub sector: u16,
}

/// Why a sector holds no whole stamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StampError {
    /// It does not begin as stamps do.
    #[error("no stamp")]
    NoStamp,
    /// It begins as a stamp, but its checksum does not fit the rest.
    #[error("a damaged stamp")]
    Damaged,
}

impl Stamp {
    /// What sector `lba` of a stamped golden holds: its content follows from its place alone.
    #[must_use]
    pub fn golden(lba: u64) -> Self {
        Self { run: 0, seed: 0, lba, generation: 0, client: 0, blocks: 1, kind: StampKind::Golden, sector: 0 }
    }

    /// Fills `sector` with the stamp.
    pub fn write(&self, sector: &mut [u8; SECTOR]) {
        sector[..8].copy_from_slice(&MAGIC);
        sector[8..16].copy_from_slice(&self.run.to_be_bytes());
        sector[16..24].copy_from_slice(&self.seed.to_be_bytes());
        sector[24..32].copy_from_slice(&self.lba.to_be_bytes());
        sector[32..40].copy_from_slice(&self.generation.to_be_bytes());
        sector[40..44].copy_from_slice(&self.client.to_be_bytes());
        sector[44..48].copy_from_slice(&self.blocks.to_be_bytes());
        let kind: u16 = match self.kind {
            StampKind::Own => 1,
            StampKind::Same => 2,
            StampKind::Golden => 3,
        };
        sector[48..50].copy_from_slice(&kind.to_be_bytes());
        sector[50..52].copy_from_slice(&self.sector.to_be_bytes());
        let mut state = self.key();
        for word in sector[FILLER..CHECKSUM].chunks_exact_mut(8) {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word.copy_from_slice(&(mixed ^ (mixed >> 32)).to_be_bytes());
        }
        let checksum = crc32c::crc32c(&sector[..CHECKSUM]);
        sector[CHECKSUM..].copy_from_slice(&checksum.to_be_bytes());
    }

    /// Where the filler begins: another place for each stamp.
    fn key(&self) -> u64 {
        let parts =
            [self.run, self.seed, self.lba, self.generation, u64::from(self.client), u64::from(self.sector)];
        parts
            .into_iter()
            .fold(0, |key: u64, part| (key.rotate_left(23) ^ part).wrapping_mul(0x94d0_49bb_1331_11eb))
    }

    /// Reads a sector.
    ///
    /// # Errors
    /// [`StampError::NoStamp`] if it does not begin as a stamp does, [`StampError::Damaged`] if it does but is not whole.
    pub fn parse(sector: &[u8; SECTOR]) -> Result<Stamp, StampError> {
        if sector[..8] != MAGIC {
            return Err(StampError::NoStamp);
        }
        let checksum = u32::from_be_bytes(at(sector, CHECKSUM));
        let kind = match u16::from_be_bytes(at(sector, 48)) {
            1 => StampKind::Own,
            2 => StampKind::Same,
            3 => StampKind::Golden,
            _ => return Err(StampError::Damaged),
        };
        if crc32c::crc32c(&sector[..CHECKSUM]) != checksum {
            return Err(StampError::Damaged);
        }
        Ok(Stamp {
            run: u64::from_be_bytes(at(sector, 8)),
            seed: u64::from_be_bytes(at(sector, 16)),
            lba: u64::from_be_bytes(at(sector, 24)),
            generation: u64::from_be_bytes(at(sector, 32)),
            client: u32::from_be_bytes(at(sector, 40)),
            blocks: u32::from_be_bytes(at(sector, 44)),
            kind,
            sector: u16::from_be_bytes(at(sector, 50)),
        })
    }

    /// Whether the stamp may lie in sector number `sector` of the block `lba`.
    #[must_use]
    pub fn belongs_to(&self, lba: u64, sector: usize) -> bool {
        let offset = lba.checked_sub(self.lba);
        usize::from(self.sector) == sector && offset.is_some_and(|offset| offset < u64::from(self.blocks))
    }
}

fn at<const N: usize>(sector: &[u8; SECTOR], offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&sector[offset..offset + N]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        Stamp {
            run: 1,
            seed: 2,
            lba: 3,
            generation: 4,
            client: 5,
            blocks: 1,
            kind: StampKind::Own,
            sector: 6,
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let mut sector = [0; SECTOR];
        stamp().write(&mut sector);
        assert_eq!(Stamp::parse(&sector), Ok(stamp()));
        for bit in 0..SECTOR * 8 {
            sector[bit / 8] ^= 1 << (bit % 8);
            assert!(Stamp::parse(&sector).is_err(), "bit {bit}");
            sector[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(Stamp::parse(&[0; SECTOR]), Err(StampError::NoStamp));
    }

    #[test]
    fn two_stamps_differ_nearly_everywhere() {
        let (mut one, mut two) = ([0; SECTOR], [0; SECTOR]);
        stamp().write(&mut one);
        Stamp { generation: 5, ..stamp() }.write(&mut two);
        let same = one[FILLER..].iter().zip(&two[FILLER..]).filter(|(a, b)| a == b).count();
        assert!(same < 16, "{same} bytes are the same");
    }

    #[test]
    fn a_write_same_belongs_to_its_range() {
        let same = Stamp { kind: StampKind::Same, blocks: 4, ..stamp() };
        let belongs = |lba| same.belongs_to(lba, 6);
        assert_eq!([2, 3, 6, 7].map(belongs), [false, true, true, false]);
        assert!(!same.belongs_to(3, 5));
    }
}
