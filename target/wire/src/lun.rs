//! The eight-byte LUN field (RFC 7143 11.2.1.7, SAM-5 4.7) and the numbers in it.

use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A LUN field as it is on the wire. Any eight bytes; [`Lun::decode`] says which logical unit they name.
#[derive(
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
)]
#[repr(C)]
pub struct Lun(pub [u8; 8]);

/// Address method (the top two bits of a LUN field): peripheral device addressing, SAM-5 4.7.7.2.
const METHOD_PERIPHERAL: u8 = 0b00;
/// Address method: flat space addressing, SAM-5 4.7.7.3.
const METHOD_FLAT: u8 = 0b01;

impl Lun {
    /// Logical unit 0 in peripheral addressing; also what a PDU without a LUN holds.
    pub const ZERO: Self = Self([0; 8]);

    /// The REPORT LUNS well known logical unit (SAM-5 4.7.7.5.1), which [`Lun::decode`] does not number.
    pub const REPORT_LUNS: Self = Self([0xc1, 0x01, 0, 0, 0, 0, 0, 0]);

    /// The largest number [`Lun::encode`] can write: flat space has 14 bits.
    pub const NUMBER_MAX: u16 = 0x3fff;

    /// The logical unit number, if the field is a single-level one by peripheral device addressing on bus 0
    /// (0 to 255) or by flat space addressing (0 to 16,383).
    ///
    /// `None` for everything else: deeper levels, other buses, logical unit addressing, extended addressing,
    /// well known logical units. A command to such a LUN is answered with LOGICAL UNIT NOT SUPPORTED.
    #[must_use]
    #[inline]
    pub const fn decode(self) -> Option<u16> {
        let [high, low, r2, r3, r4, r5, r6, r7] = self.0;
        if r2 | r3 | r4 | r5 | r6 | r7 != 0 {
            return None;
        }
        match (high >> 6, high & 0x3f) {
            (METHOD_PERIPHERAL, 0) => Some(low as u16),
            (METHOD_FLAT, high) => Some(u16::from_be_bytes([high, low])),
            _ => None,
        }
    }

    /// The field that names logical unit `number`: peripheral device addressing below 256, else flat space.
    /// `None` above [`Lun::NUMBER_MAX`].
    #[must_use]
    pub const fn encode(number: u16) -> Option<Self> {
        let [high, low] = number.to_be_bytes();
        match number {
            0..=0xff => Some(Self([0, low, 0, 0, 0, 0, 0, 0])),
            0x100..=Self::NUMBER_MAX => Some(Self([METHOD_FLAT << 6 | high, low, 0, 0, 0, 0, 0, 0])),
            _ => None,
        }
    }
}

impl fmt::Display for Lun {
    /// The number where there is one, else all sixteen hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.decode() {
            Some(number) => fmt::Display::fmt(&number, f),
            None => write!(f, "{:016x}", u64::from_be_bytes(self.0)),
        }
    }
}

impl fmt::Debug for Lun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lun({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn every_number_survives_the_wire() {
        for number in 0..=Lun::NUMBER_MAX {
            assert_eq!(Lun::encode(number).and_then(Lun::decode), Some(number));
        }
        assert_eq!(Lun::encode(Lun::NUMBER_MAX + 1), None);
    }

    #[test]
    fn the_two_addressings_on_the_wire() {
        assert_eq!(Lun::encode(1), Some(Lun([0, 1, 0, 0, 0, 0, 0, 0])));
        assert_eq!(Lun::encode(256), Some(Lun([0x41, 0, 0, 0, 0, 0, 0, 0])));
        // Flat space may also hold a small number: ESXi writes LUN 1 either way.
        assert_eq!(Lun([0x40, 1, 0, 0, 0, 0, 0, 0]).decode(), Some(1));
    }

    #[test]
    fn other_forms_name_nothing() {
        assert_eq!(Lun([1, 0, 0, 0, 0, 0, 0, 0]).decode(), None); // bus 1
        assert_eq!(Lun([0x80, 0, 0, 0, 0, 0, 0, 0]).decode(), None); // logical unit addressing
        assert_eq!(Lun([0xd2, 0, 0, 1, 0, 0, 0, 0]).decode(), None); // extended flat space
        assert_eq!(Lun::REPORT_LUNS.decode(), None);
        for level in 2..8 {
            let mut field = [0; 8];
            field[level] = 1;
            assert_eq!(Lun(field).decode(), None);
        }
    }

    #[test]
    fn display_shows_the_number_or_the_bytes() {
        assert_eq!(Lun([0x40, 1, 0, 0, 0, 0, 0, 0]).to_string(), "1");
        assert_eq!(Lun::REPORT_LUNS.to_string(), "c101000000000000");
    }
}
