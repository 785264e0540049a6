//! How read data is cut into Data-In PDUs (RFC 7143 11.7).

/// One Data-In PDU of a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) data_sn: u32,
    /// The F bit: the last PDU of a sequence (RFC 7143 11.7.2).
    pub(crate) ends_sequence: bool,
    /// The last PDU of the read: the one that may carry the status.
    pub(crate) last: bool,
}

impl Piece {
    /// All `len` bytes of a read in one PDU.
    #[inline]
    pub(crate) const fn whole(len: u32) -> Self {
        Self { offset: 0, len, data_sn: 0, ends_sequence: true, last: true }
    }
}

/// Cuts `len` bytes into PDUs of at most `segment` bytes (the initiator's MaxRecvDataSegmentLength), in sequences of
/// at most `burst` bytes (MaxBurstLength).
#[inline]
pub(crate) fn pieces(len: u32, segment: u32, burst: u32) -> Pieces {
    let burst = burst.max(1);
    Pieces { len, segment: segment.max(1), burst, offset: 0, left_in_burst: burst, data_sn: 0 }
}

/// See [`pieces`].
#[derive(Clone, Debug)]
pub(crate) struct Pieces {
    len: u32,
    segment: u32,
    burst: u32,
    offset: u32,
    left_in_burst: u32,
    data_sn: u32,
}

impl Iterator for Pieces {
    type Item = Piece;

    #[inline]
    fn next(&mut self) -> Option<Piece> {
        let left = self.len - self.offset;
        if left == 0 {
            return None;
        }
        let len = left.min(self.segment).min(self.left_in_burst);
        let (last, ends_burst) = (len == left, len == self.left_in_burst);
        let piece = Piece {
            offset: self.offset,
            len,
            data_sn: self.data_sn,
            ends_sequence: last || ends_burst,
            last,
        };
        self.offset += len;
        self.left_in_burst = if ends_burst { self.burst } else { self.left_in_burst - len };
        self.data_sn = self.data_sn.wrapping_add(1);
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_fits_one_pdu_is_one_piece() {
        assert_eq!(pieces(4096, 4096, 8192).collect::<Vec<_>>(), [Piece::whole(4096)]);
        assert_eq!(pieces(4096, 8192, 4096).collect::<Vec<_>>(), [Piece::whole(4096)]);
    }

    #[test]
    fn nothing_to_read_is_no_pdu() {
        assert_eq!(pieces(0, 8192, 262_144).count(), 0);
    }

    #[test]
    fn a_sequence_ends_at_max_burst_length() {
        let cut: Vec<_> = pieces(20_000, 8192, 16_384).collect();
        let seen: Vec<_> =
            cut.iter().map(|p| (p.offset, p.len, p.data_sn, p.ends_sequence, p.last)).collect();
        assert_eq!(
            seen,
            [(0, 8192, 0, false, false), (8192, 8192, 1, true, false), (16_384, 3616, 2, true, true)]
        );
    }

    proptest! {
        #[test]
        fn pieces_cover_the_payload_once(len in 0u32..4_000_000, segment in 512u32..300_000, burst in 512u32..600_000) {
            let (mut at, mut in_sequence, mut ended) = (0, 0, true);
            for (count, piece) in pieces(len, segment, burst).enumerate() {
                prop_assert_eq!(piece.offset, at);
                prop_assert_eq!(piece.data_sn as usize, count);
                prop_assert!(piece.len > 0 && piece.len <= segment);
                in_sequence += piece.len;
                prop_assert!(in_sequence <= burst);
                at += piece.len;
                ended = piece.ends_sequence;
                prop_assert_eq!(piece.last, at == len);
                if ended { in_sequence = 0; }
            }
            prop_assert_eq!(at, len);
            prop_assert!(ended, "the last PDU has the F bit");
        }
    }
}
