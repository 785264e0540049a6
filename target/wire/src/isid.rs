//! Session identifiers: ISID (RFC 7143 11.12.5) and TSIH (11.12.6).

use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// How the naming authority of an [`Isid`] is written: its two T bits (RFC 7143 11.12.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IsidType {
    /// 00b: A and B hold the 22-bit IEEE OUI of the initiator's vendor. Linux and Windows use it.
    Oui,
    /// 01b: B holds an IANA enterprise number. iPXE uses it.
    EnterpriseNumber,
    /// 10b: B holds a random value. libiscsi (and so QEMU) uses it.
    Random,
    /// 11b: reserved.
    Reserved,
}

/// The initiator's half of a session identifier: with the initiator's name it names the initiator port
/// (RFC 7143 4.4.2), so it keys sessions and persistent reservations.
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
pub struct Isid(pub [u8; 6]);

impl Isid {
    /// The T bits.
    #[must_use]
    pub const fn kind(self) -> IsidType {
        match self.0[0] >> 6 {
            0 => IsidType::Oui,
            1 => IsidType::EnterpriseNumber,
            2 => IsidType::Random,
            _ => IsidType::Reserved,
        }
    }

    /// A random-type ISID: T = 10b, B = the low 24 bits of `random`, C = `qualifier`.
    #[must_use]
    pub const fn random(random: u32, qualifier: u16) -> Self {
        let [_, b2, b1, b0] = random.to_be_bytes();
        let [q1, q0] = qualifier.to_be_bytes();
        Self([0x80, b2, b1, b0, q1, q0])
    }
}

impl fmt::Display for Isid {
    /// Twelve hex digits, as a persistent reservation's TransportID writes it after `,i,0x` (SPC-5 7.6.4.6).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Isid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Isid({self})")
    }
}

/// The target's half of a session identifier (RFC 7143 11.12.6, 11.13.3): 0 asks for a new session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Tsih(pub u16);

impl Tsih {
    /// "No session yet", the value a login for a new session carries.
    pub const NEW: Self = Self(0);
}

impl fmt::Display for Tsih {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn kinds_of_recorded_initiators() {
        assert_eq!(Isid([0x40, 0, 0x27, 0x23, 0x35, 0x7c]).kind(), IsidType::EnterpriseNumber); // iPXE
        assert_eq!(Isid([0, 2, 0x3d, 0, 0, 1]).kind(), IsidType::Oui); // open-iscsi
        assert_eq!(Isid([0x80, 0xc8, 0xcc, 0xc5, 0, 0]).kind(), IsidType::Random); // libiscsi
        assert_eq!(Isid([0xc0; 6]).kind(), IsidType::Reserved);
    }

    #[test]
    fn display_is_twelve_hex_digits() {
        assert_eq!(Isid([0, 2, 0x3d, 0, 0, 1]).to_string(), "00023d000001");
        assert_eq!(Isid::random(0xffc8_ccc5, 2).to_string(), "80c8ccc50002");
        assert_eq!(Tsih(10).to_string(), "000a");
    }
}
