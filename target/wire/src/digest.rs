//! CRC32C digests (RFC 7143 11.2.3, 13.1): over headers, and over data with its padding.
//!
//! On the wire a digest is the CRC's value, least significant byte first ([`to_wire`]); that is the bit order
//! which RFC 3720 B.4 draws and whose examples the tests here check.

/// Length of a header or data digest, bytes.
pub const DIGEST_LEN: usize = 4;

/// CRC32C of `bytes`.
#[must_use]
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    append(0, bytes)
}

/// CRC32C of a byte string that comes in pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Crc32c(u32);

impl Crc32c {
    /// The CRC of no bytes yet.
    #[must_use]
    #[inline]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Appends `bytes`.
    #[inline]
    pub fn update(&mut self, bytes: &[u8]) {
        self.0 = append(self.0, bytes);
    }

    /// The CRC of everything appended.
    #[must_use]
    #[inline]
    pub const fn finish(self) -> u32 {
        self.0
    }
}

/// A CRC as the four digest bytes on the wire.
#[must_use]
#[inline]
pub const fn to_wire(crc: u32) -> [u8; DIGEST_LEN] {
    crc.to_le_bytes()
}

/// The CRC that four digest bytes from the wire stand for.
#[must_use]
#[inline]
pub const fn from_wire(bytes: [u8; DIGEST_LEN]) -> u32 {
    u32::from_le_bytes(bytes)
}

#[cfg(feature = "hardware-crc")]
#[inline]
fn append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

#[cfg(not(feature = "hardware-crc"))]
use software::append;

/// A byte at a time by table, for builds without `std`, and to check the hardware against.
#[cfg(any(test, not(feature = "hardware-crc")))]
mod software {
    /// The generator 11EDC6F41h (RFC 7143 13.1), bit-reflected, without its top bit.
    const POLYNOMIAL: u32 = 0x82f6_3b78;

    const TABLE: [u32; 256] = table();

    const fn table() -> [u32; 256] {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut crc = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = crc >> 1 ^ if crc & 1 != 0 { POLYNOMIAL } else { 0 };
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    }

    pub(super) fn append(crc: u32, bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!crc, |crc, byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 3720 B.4: the first bytes of a Read (10) command PDU.
    const READ_10: [u8; 48] = [
        0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0x14, 0, 0,
        0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0,
    ];

    /// RFC 3720 B.4: bytes, and the digest as it is sent.
    #[test]
    fn rfc_3720_examples() {
        let rising: [u8; 32] = core::array::from_fn(|i| i as u8);
        let falling: [u8; 32] = core::array::from_fn(|i| 31 - i as u8);
        let examples: [(&[u8], [u8; 4]); 5] = [
            (&[0; 32], [0xaa, 0x36, 0x91, 0x8a]),
            (&[0xff; 32], [0x43, 0xab, 0xa8, 0x62]),
            (&rising, [0x4e, 0x79, 0xdd, 0x46]),
            (&falling, [0x5c, 0xdb, 0x3f, 0x11]),
            (&READ_10, [0x56, 0x3a, 0x96, 0xd9]),
        ];
        for (bytes, digest) in examples {
            assert_eq!(to_wire(crc32c(bytes)), digest);
            assert_eq!(to_wire(software::append(0, bytes)), digest);
        }
    }

    proptest! {
        #[test]
        fn pieces_give_the_crc_of_the_whole(bytes: std::vec::Vec<u8>, cuts: [prop::sample::Index; 3]) {
            let mut ends = cuts.map(|cut| cut.index(bytes.len() + 1));
            ends.sort_unstable();
            let mut crc = Crc32c::new();
            let mut start = 0;
            for end in ends.into_iter().chain([bytes.len()]) {
                crc.update(&bytes[start..end]);
                start = end;
            }
            prop_assert_eq!(crc.finish(), crc32c(&bytes));
            prop_assert_eq!(crc.finish(), software::append(0, &bytes));
        }
    }
}
