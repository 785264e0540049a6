//! Self-describing sectors: content that says where it belongs, who wrote it and when.
//!
//! ```text
//!   byte 0   magic  8 | lba 8 | writer 8 | generation 8 | words drawn from those four ... | byte 512
//! ```
//! A sector that is torn below 512 bytes, or is foreign, or is rubbish, decodes to no stamp.

/// Bytes of a sector.
pub const SECTOR: usize = 512;

const MAGIC: u64 = u64::from_le_bytes(*b"STAMPSEC");

/// What a stamped sector says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Where it belongs: the 512-byte sector number.
    pub lba: u64,
    /// Who wrote it: an initiator, or a golden image.
    pub writer: u64,
    /// Which write of that writer.
    pub generation: u64,
}

impl Stamp {
    /// The sector with this stamp. All 512 bytes depend on the stamp.
    pub fn fill(self, sector: &mut [u8]) {
        let mut rng = fastrand::Rng::with_seed(self.seed());
        let head = [MAGIC, self.lba, self.writer, self.generation];
        for (index, word) in sector.chunks_exact_mut(8).enumerate() {
            let value = head.get(index).copied().unwrap_or_else(|| rng.u64(..));
            word.copy_from_slice(&value.to_le_bytes());
        }
    }

    fn seed(self) -> u64 {
        self.lba.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ self.writer.rotate_left(40)
            ^ self.generation.rotate_left(17)
    }

    /// The stamp of a sector, or `None` when it has none or any byte does not fit it.
    pub fn parse(sector: &[u8]) -> Option<Self> {
        let mut words =
            sector.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")));
        if sector.len() != SECTOR || words.next()? != MAGIC {
            return None;
        }
        let stamp = Self { lba: words.next()?, writer: words.next()?, generation: words.next()? };
        let mut rng = fastrand::Rng::with_seed(stamp.seed());
        words.all(|word| word == rng.u64(..)).then_some(stamp)
    }

    /// The sectors `lba..` of one write, stamped one after the other; `sectors` of them.
    pub fn write(lba: u64, sectors: u64, writer: u64, generation: u64) -> Vec<u8> {
        let mut bytes = vec![0; sectors as usize * SECTOR];
        for (index, sector) in bytes.chunks_exact_mut(SECTOR).enumerate() {
            Self { lba: lba + index as u64, writer, generation }.fill(sector);
        }
        bytes
    }
}

/// What a sector holds, as the model sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// 512 zero bytes.
    Zero,
    /// A stamped sector; its LBA is the sector's own.
    Written {
        /// Who wrote it.
        writer: u64,
        /// Which write of that writer.
        generation: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_and_any_changed_byte_is_seen() {
        let bytes = Stamp::write(7, 2, 3, 9);
        assert_eq!(Stamp::parse(&bytes[..SECTOR]), Some(Stamp { lba: 7, writer: 3, generation: 9 }));
        assert_eq!(Stamp::parse(&bytes[SECTOR..]), Some(Stamp { lba: 8, writer: 3, generation: 9 }));
        for index in 0..SECTOR {
            let mut torn = bytes[..SECTOR].to_vec();
            torn[index] ^= 0x40;
            assert_eq!(Stamp::parse(&torn), None, "byte {index}");
        }
        assert_eq!(Stamp::parse(&[0; SECTOR]), None);
        assert_eq!(Stamp::parse(&bytes), None);
    }
}
