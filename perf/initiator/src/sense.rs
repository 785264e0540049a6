//! Sense data: what a CHECK CONDITION says (SPC-5 4.4).

use std::fmt;

/// Sense key, additional sense code and qualifier, and the information field if it is valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sense {
    /// The sense key (SPC-5 table 48).
    pub key: u8,
    /// The additional sense code.
    pub asc: u8,
    /// Its qualifier.
    pub ascq: u8,
}

impl Sense {
    /// NO SENSE.
    pub const NO_SENSE: u8 = 0;
    /// NOT READY.
    pub const NOT_READY: u8 = 2;
    /// ILLEGAL REQUEST.
    pub const ILLEGAL_REQUEST: u8 = 5;
    /// UNIT ATTENTION.
    pub const UNIT_ATTENTION: u8 = 6;

    /// Reads fixed or descriptor format; `None` for anything else.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let at = |index: usize| bytes.get(index).copied();
        match at(0)? & 0x7f {
            0x70 | 0x71 => {
                Some(Self { key: at(2)? & 0x0f, asc: at(12).unwrap_or(0), ascq: at(13).unwrap_or(0) })
            }
            0x72 | 0x73 => Some(Self { key: at(1)? & 0x0f, asc: at(2)?, ascq: at(3)? }),
            _ => None,
        }
    }

    fn key_name(self) -> &'static str {
        match self.key {
            0x0 => "NO SENSE",
            0x1 => "RECOVERED ERROR",
            0x2 => "NOT READY",
            0x3 => "MEDIUM ERROR",
            0x4 => "HARDWARE ERROR",
            0x5 => "ILLEGAL REQUEST",
            0x6 => "UNIT ATTENTION",
            0x7 => "DATA PROTECT",
            0xb => "ABORTED COMMAND",
            0xe => "MISCOMPARE",
            _ => "sense key",
        }
    }
}

impl fmt::Display for Sense {
    /// The key's name, and key, code and qualifier in hex: `ILLEGAL REQUEST 05/25/00`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:02x}/{:02x}/{:02x}", self.key_name(), self.key, self.asc, self.ascq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_and_nonsense() {
        let mut fixed = [0u8; 18];
        fixed[..3].copy_from_slice(&[0xf0, 0, 0x25]);
        fixed[12..14].copy_from_slice(&[0x25, 0x01]);
        let sense = Sense { key: 5, asc: 0x25, ascq: 1 };
        assert_eq!(Sense::parse(&fixed), Some(sense));
        assert_eq!(Sense::parse(&[0x72, 5, 0x25, 1]), Some(sense));
        assert_eq!(sense.to_string(), "ILLEGAL REQUEST 05/25/01");
        assert_eq!(Sense::parse(&[]).or(Sense::parse(&[0x12, 0, 0])).or(Sense::parse(&[0x72, 5])), None);
    }
}
