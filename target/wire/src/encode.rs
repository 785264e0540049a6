//! What stands between the headers and the data of outgoing PDUs: padding and digests.

use crate::{
    Bhs,
    digest::{Crc32c, DIGEST_LEN, crc32c, to_wire},
    pdu::Pdu,
};
use alloc::vec::Vec;

/// Zeros to take padding from: `&PADDING[..pad4(len)]`.
pub const PADDING: [u8; 3] = [0; 3];

/// Padding bytes, 0 to 3, after a segment of `len` bytes (RFC 7143 11.1).
#[must_use]
#[inline]
pub const fn pad4(len: usize) -> usize {
    len.wrapping_neg() & 3
}

/// The header digest of a PDU without additional header segments, as sent.
#[must_use]
#[inline]
pub fn header_digest(bhs: &Bhs) -> [u8; DIGEST_LEN] {
    to_wire(crc32c(&bhs.0))
}

/// The header digest of a PDU with additional header segments, as sent. `ahs` is already padded.
#[must_use]
pub fn header_digest_with_ahs(bhs: &Bhs, ahs: &[u8]) -> [u8; DIGEST_LEN] {
    let mut crc = Crc32c::new();
    crc.update(&bhs.0);
    crc.update(ahs);
    to_wire(crc.finish())
}

/// The data digest over `data` and the zeros that pad it, as sent. A PDU without data has no data digest.
#[must_use]
#[inline]
pub fn data_digest(data: &[u8]) -> [u8; DIGEST_LEN] {
    data_digest_of([data])
}

/// [`data_digest`] of a data segment that lies in several pieces.
#[must_use]
#[inline]
pub fn data_digest_of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> [u8; DIGEST_LEN] {
    let mut crc = Crc32c::new();
    let mut len = 0usize;
    for piece in pieces {
        crc.update(piece);
        len = len.wrapping_add(piece.len()); // only the low two bits are used
    }
    crc.update(&PADDING[..pad4(len)]);
    to_wire(crc.finish())
}

/// Which digests a connection uses in one direction (RFC 7143 13.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Digests {
    /// HeaderDigest=CRC32C.
    pub header: bool,
    /// DataDigest=CRC32C.
    pub data: bool,
}

/// Appends a whole PDU to `out`: header with its DataSegmentLength set, header digest, data, padding, data digest.
/// For paths where a copy does not matter, such as login and tests.
///
/// # Panics
/// When `data` is 2^24 bytes or longer.
pub fn append_pdu<P: Pdu>(out: &mut Vec<u8>, pdu: &P, data: &[u8], digests: Digests) {
    let mut bhs = *pdu.bhs();
    bhs.set_data_segment_len(u32::try_from(data.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(&bhs.0);
    if digests.header {
        out.extend_from_slice(&header_digest(&bhs));
    }
    out.extend_from_slice(data);
    out.extend_from_slice(&PADDING[..pad4(data.len())]);
    if digests.data && !data.is_empty() {
        out.extend_from_slice(&data_digest(data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_completes_a_word() {
        assert_eq!([0, 1, 2, 3, 4, 5].map(pad4), [0, 3, 2, 1, 0, 3]);
        assert_eq!(pad4(usize::MAX), 1);
    }

    #[test]
    fn the_data_digest_covers_the_padding() {
        assert_eq!(data_digest(b"abcde"), to_wire(crc32c(b"abcde\0\0\0")));
        assert_eq!(data_digest_of([&b"ab"[..], b"", b"cde"]), data_digest(b"abcde"));
        assert_eq!(header_digest_with_ahs(&Bhs([7; 48]), &[7; 4]), to_wire(crc32c(&[7; 52])));
    }
}
