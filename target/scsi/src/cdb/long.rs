//! CDBs of 32 bytes (SPC-4 4.2.3): brought into 16 bytes, so that whoever handles commands has one size of them.
//!
//! ```text
//!  32 bytes   7Fh  CONTROL  -  GROUP  18h  SERVICE ACTION  flags  -  ADDRESS  tags  LENGTH
//!               │     └────────────────────────┐     │        └───────│─────────────│──┐
//!  16 bytes   7Fh  SERVICE ACTION (5 bits) ◄───┼─────┘     ADDRESS ◄─┘  LENGTH ◄───┘  flags  CONTROL
//! ```
//!
//! The tags are those of protection information, which there is none of. In ORWRITE(32) two generations are in their place:
//! those go beside the short form ([`generations`]), and two small fields where it has room, BMOP above the service action,
//! PREVIOUS GENERATION PROCESSING above the bits of CONTROL that are looked at.

use super::field::{be16, be64};

/// The operation code of CDBs that are longer than 16 bytes (SPC-4 4.2.3.1).
pub const LONG: u8 = 0x7F;
/// Where the short form keeps the flags and CONTROL.
pub(crate) const FLAGS: usize = 14;
const CONTROL: usize = 15;
/// The service action of ORWRITE(32).
const ORWRITE: u8 = 0x0E;
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
    if short[1] == ORWRITE {
        short[1] |= (head[2] & 0x07) << 5;
        short[CONTROL] = head[1] & 0x0F | head[3] << 4;
    }
    short[2..6].copy_from_slice(&head[12..]);
    short[6..10].copy_from_slice(&rest[..4]);
    short[10..14].copy_from_slice(&rest[12..]);
    short[FLAGS] = head[10];
    short
}

/// EXPECTED ORWGENERATION and NEW ORWGENERATION, one above the other, of a long CDB whose rest this is (SBC-4 5.11). Of
/// other commands it means nothing; 0 where there is no such rest.
pub fn generations(rest: &[u8]) -> u64 {
    rest.first_chunk::<16>().map_or(0, |rest| be64(rest, 4))
}

/// BMOP and PREVIOUS GENERATION PROCESSING of ORWRITE(32), as its short form has them.
pub(crate) fn bitmap_fields(short: &[u8; 16]) -> (u8, u8) {
    (short[1] >> 5, short[CONTROL] >> 4)
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
    fn the_fields_of_orwrite_find_theirs() {
        let (mut head, rest) = long(0x0E);
        (head[1], head[2], head[3]) = (0xF4, 0xF9, 0xF5);
        let short = condensed(&head, &rest);
        assert_eq!((short[1] & 0x1F, short[15] & 0x0F), (0x0E, 0x04));
        assert_eq!(bitmap_fields(&short), (1, 5));
        assert_eq!(short[2..15], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0xF9]);
        assert_eq!(generations(&rest), 0xEEEE_EEEE_EEEE_EEEE);
        assert_eq!(generations(&rest[..15]), 0);
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
