//! CDBs of 32 bytes (SPC-4 4.2.3): brought into 16 bytes, so that whoever handles commands has one size of them.
//!
//! ```text
//!  32 bytes   7Fh  CONTROL  -  GROUP  18h  SERVICE ACTION  flags  -  ADDRESS  tags  LENGTH
//!               │     └────────────────────────┐     │        └───────│─────────────│──┐
//!  16 bytes   7Fh  SERVICE ACTION (5 bits) ◄───┼─────┘     ADDRESS ◄─┘  LENGTH ◄───┘  flags  CONTROL
//! ```
//!
//! The tags are those of protection information, which there is none of.

use super::field::be16;

/// The operation code of CDBs that are longer than 16 bytes (SPC-4 4.2.3.1).
pub const LONG: u8 = 0x7F;
/// Where the short form keeps the flags and CONTROL.
pub(crate) const FLAGS: usize = 14;
const CONTROL: usize = 15;
/// Stands for a service action that no command of ours has.
const NO_SUCH_ACTION: u8 = 0x1F;
/// Stands for an ADDITIONAL CDB LENGTH that is not that of 32 bytes.
const BAD_LENGTH: u8 = 0x1E;
/// ADDITIONAL CDB LENGTH of a CDB of 32 bytes.
const ADDITIONAL: u8 = 24;

/// The short form of a long CDB: its first 16 bytes, and those that came in an additional header segment. It means
/// something to this crate alone. Never fails: what is not a long CDB of ours is refused as a command.
pub fn condensed(head: &[u8; 16], rest: &[u8]) -> [u8; 16] {
    let mut short = [0; 16];
    short[0] = LONG;
    short[CONTROL] = head[1];
    let Some(rest) = rest.first_chunk::<16>().filter(|_| head[7] == ADDITIONAL && rest.len() == 16) else {
        short[1] = BAD_LENGTH;
        return short;
    };
    short[1] = match be16(head, 8) {
        action @ 0..0x1E => action as u8,
        _ => NO_SUCH_ACTION,
    };
    short[2..6].copy_from_slice(&head[12..]);
    short[6..10].copy_from_slice(&rest[..4]);
    short[10..14].copy_from_slice(&rest[12..]);
    short[FLAGS] = head[10];
    short
}

/// Why a long CDB that found no command is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// READ, VERIFY, WRITE, WRITE AND VERIFY and WRITE ATOMIC of 32 bytes belong to units formatted with type 2
    /// protection; for any other there is no such operation code (SBC-3 5.15, 5.37, 5.42, 5.46).
    TypeTwoOnly,
    /// The SERVICE ACTION field.
    Action,
    /// The ADDITIONAL CDB LENGTH field.
    Length,
}

/// Why this short form found no command.
pub(crate) fn unknown(short: &[u8; 16]) -> Unknown {
    match short[1] {
        0x09..=0x0C | 0x0F => Unknown::TypeTwoOnly,
        BAD_LENGTH => Unknown::Length,
        _ => Unknown::Action,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(action: u16) -> ([u8; 16], [u8; 16]) {
        let (mut head, mut rest) = ([0; 16], [0; 16]);
        (head[0], head[1], head[7], head[10]) = (LONG, 0x04, 24, 0xF9);
        head[8..10].copy_from_slice(&action.to_be_bytes());
        head[12..].copy_from_slice(&[1, 2, 3, 4]);
        rest[..4].copy_from_slice(&[5, 6, 7, 8]);
        rest[4..12].fill(0xEE);
        rest[12..].copy_from_slice(&[9, 10, 11, 12]);
        (head, rest)
    }

    #[test]
    fn every_field_finds_its_place() {
        let (head, rest) = long(0x0D);
        let short = condensed(&head, &rest);
        assert_eq!(short, [0x7F, 0x0D, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0xF9, 0x04]);
    }

    #[test]
    fn what_is_no_long_cdb_of_ours_says_why() {
        for (action, why) in [
            (0x09, Unknown::TypeTwoOnly),
            (0x0B, Unknown::TypeTwoOnly),
            (0x0F, Unknown::TypeTwoOnly),
            (0x07, Unknown::Action),
            (0x0109, Unknown::Action),
            (0xFFFF, Unknown::Action),
        ] {
            let (head, rest) = long(action);
            assert_eq!(unknown(&condensed(&head, &rest)), why, "{action:04x}");
        }
        let (mut head, rest) = long(0x0D);
        for rest in [&rest[..0], &rest[..15]] {
            assert_eq!(unknown(&condensed(&head, rest)), Unknown::Length);
        }
        head[7] = 20;
        assert_eq!(unknown(&condensed(&head, &rest)), Unknown::Length);
    }
}
