//! Additional header segments (RFC 7143 11.2.2): the rest of a long CDB, and the read length of a bidirectional command.

use crate::encode::pad4;

/// One additional header segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ahs<'a> {
    /// Extended CDB (11.2.2.3): the CDB's bytes from the 17th on.
    ExtendedCdb(&'a [u8]),
    /// Bidirectional read expected data transfer length, bytes (11.2.2.4).
    BidirectionalRead(u32),
    /// A reserved type, with what follows its length field.
    Other {
        /// AHSType.
        kind: u8,
        /// The AHS-specific bytes.
        bytes: &'a [u8],
    },
}

/// A segment whose length does not fit into the header, or does not fit its type (answer: Reject, invalid PDU field).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("additional header segment of type {kind} says {len} bytes")]
pub struct AhsError {
    /// AHSType; 0 when not even the length is there.
    pub kind: u8,
    /// AHSLength, bytes.
    pub len: u16,
}

/// The segments in `ahs` (`frame::Header::ahs`), in order..
#[must_use]
pub fn segments(ahs: &[u8]) -> Segments<'_> {
    Segments(ahs)
}

/// Iterator of [`segments`].
#[derive(Clone, Debug)]
pub struct Segments<'a>(&'a [u8]);

impl<'a> Iterator for Segments<'a> {
    type Item = Result<Ahs<'a>, AhsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let (segment, rest) = split(self.0).unwrap_or_else(|error| (Err(error), &[]));
        self.0 = rest;
        Some(segment)
    }
}

type Split<'a> = (Result<Ahs<'a>, AhsError>, &'a [u8]);

/// The first segment of `bytes`, and what is behind it and its padding.
fn split(bytes: &[u8]) -> Result<Split<'_>, AhsError> {
    let Some(([high, low, kind], rest)) = bytes.split_first_chunk::<3>() else {
        return Err(AhsError { kind: 0, len: 0 });
    };
    let len = u16::from_be_bytes([*high, *low]);
    let error = AhsError { kind: *kind, len };
    // AHSLength counts the bytes after AHSType, without padding.
    let (specific, rest) = rest.split_at_checked(usize::from(len)).ok_or(error)?;
    let padding = pad4(usize::from(len) + 3);
    let rest = rest.get(padding..).ok_or(error)?;
    Ok((typed(*kind, specific).ok_or(error), rest))
}

fn typed(kind: u8, specific: &[u8]) -> Option<Ahs<'_>> {
    match kind {
        // Both known types start with a reserved byte.
        1 => specific.split_first().filter(|(_, cdb)| !cdb.is_empty()).map(|(_, cdb)| Ahs::ExtendedCdb(cdb)),
        2 => match specific {
            [_, length @ ..] => {
                length.try_into().ok().map(|be| Ahs::BidirectionalRead(u32::from_be_bytes(be)))
            }
            [] => None,
        },
        _ => Some(Ahs::Other { kind, bytes: specific }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn the_two_known_types() {
        // A 32-byte CDB: 16 further bytes, AHSLength 17 with the reserved byte; then a bidirectional read of 512.
        let mut ahs = Vec::from([0, 17, 1, 0]);
        ahs.extend_from_slice(&[0xab; 16]);
        ahs.extend_from_slice(&[0, 5, 2, 0, 0, 0, 2, 0]);
        let seen: Vec<_> = segments(&ahs).collect();
        assert_eq!(seen, [Ok(Ahs::ExtendedCdb(&[0xab; 16])), Ok(Ahs::BidirectionalRead(512))]);
    }

    #[test]
    fn padding_follows_an_odd_length() {
        let ahs = [0, 2, 1, 0, 0xcd, 0, 0, 0, 0, 0, 9, 0];
        let seen: Vec<_> = segments(&ahs).collect();
        assert_eq!(seen, [Ok(Ahs::ExtendedCdb(&[0xcd])), Ok(Ahs::Other { kind: 9, bytes: &[] })]);
    }

    #[test]
    fn lengths_that_lie_end_the_walk() {
        for ahs in [&[0xff, 0xff, 1, 0][..], &[0, 9, 2, 0, 0, 0, 0, 0], &[0, 0]] {
            let seen: Vec<_> = segments(ahs).collect();
            assert!(matches!(seen[..], [Err(_)]), "{seen:?}");
        }
        // A wrong length for the type is an error, but the walk can go on.
        let seen: Vec<_> = segments(&[0, 1, 2, 0, 0, 5, 2, 0, 0, 0, 0, 7]).collect();
        assert_eq!(seen, [Err(AhsError { kind: 2, len: 1 }), Ok(Ahs::BidirectionalRead(7))]);
    }
}
