//! One direction of a TCP connection: segments in order, each byte once, and what is missing as gaps.

use crate::limits::{HELD_SEGMENTS_MAX, HELD_STREAM_MAX};
use std::collections::BTreeMap;

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Piece<'a> {
    Bytes(&'a [u8]),
    /// So many bytes are not in the capture.
    Gap(u32),
}

/// What was found out on the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) repeated: u64,
    pub(crate) cut: u64,
    pub(crate) gaps: u64,
    pub(crate) gap_bytes: u64,
}

/// A segment that waits for one before it.
#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    missing: u32,
}

impl Held {
    fn len(&self) -> u64 {
        self.bytes.len() as u64 + u64::from(self.missing)
    }
}

/// See the module. Places are bytes from the stream's beginning, which sequence numbers are modulo 2^32.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The sequence number of the first byte.
    first_seq: u32,
    /// The place of the next byte.
    next: u64,
    held: BTreeMap<u64, Held>,
    held_bytes: usize,
    pub(crate) counts: Counts,
}

impl Stream {
    /// A stream whose first byte has this sequence number.
    pub(crate) fn new(first_seq: u32) -> Self {
        Self { first_seq, next: 0, held: BTreeMap::new(), held_bytes: 0, counts: Counts::default() }
    }

    /// Whether its first byte has this sequence number.
    pub(crate) fn is_first(&self, seq: u32) -> bool {
        self.first_seq == seq
    }

    /// Bytes that wait.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The place nearest to `next` that has this sequence number; none before the stream's beginning.
    fn place(&self, seq: u32) -> Option<u64> {
        let next_seq = self.first_seq.wrapping_add(self.next as u32);
        // Half of the number space lies before, half behind, as in TCP itself (RFC 9293 3.4).
        self.next.checked_add_signed(i64::from(seq.wrapping_sub(next_seq) as i32))
    }

    /// Takes a segment in and gives what is in order by now.
    pub(crate) fn push(&mut self, seq: u32, bytes: &[u8], missing: u32, sink: &mut dyn FnMut(Piece<'_>)) {
        if bytes.is_empty() && missing == 0 {
            return;
        }
        let Some(place) = self.place(seq) else {
            self.counts.repeated += bytes.len() as u64;
            return;
        };
        if place > self.next {
            self.hold(place, bytes, missing);
            if self.held.len() > HELD_SEGMENTS_MAX || self.held_bytes > HELD_STREAM_MAX {
                self.skip(sink);
            }
            return;
        }
        self.take(place, bytes, missing, sink);
        self.release(sink);
    }

    /// The other side says that it has everything before `ack`. What waits and is acknowledged waits for nothing: the
    /// receiver has what the capture has not.
    pub(crate) fn acknowledged(&mut self, ack: u32, sink: &mut dyn FnMut(Piece<'_>)) {
        let Some(place) = self.place(ack) else { return };
        while self.held.first_key_value().is_some_and(|(start, held)| start + held.len() <= place) {
            self.skip(sink);
        }
    }

    /// Nothing comes any more: what waits is given with its gaps.
    pub(crate) fn finish(&mut self, sink: &mut dyn FnMut(Piece<'_>)) {
        while !self.held.is_empty() {
            self.skip(sink);
        }
    }

    fn hold(&mut self, place: u64, bytes: &[u8], missing: u32) {
        let len = bytes.len() as u64 + u64::from(missing);
        if let Some(held) = self.held.get(&place) {
            if held.len() >= len {
                self.counts.repeated += bytes.len() as u64;
                return;
            }
            self.counts.repeated += held.bytes.len() as u64;
            self.held_bytes -= held.bytes.len();
        }
        self.held_bytes += bytes.len();
        self.held.insert(place, Held { bytes: bytes.to_vec(), missing });
    }

    /// Takes what begins at or before the next byte.
    fn take(&mut self, place: u64, bytes: &[u8], missing: u32, sink: &mut dyn FnMut(Piece<'_>)) {
        let old = self.next - place;
        let fresh = usize::try_from(old).ok().and_then(|old| bytes.get(old..)).unwrap_or_default();
        self.counts.repeated += (bytes.len() - fresh.len()) as u64;
        if !fresh.is_empty() {
            self.next += fresh.len() as u64;
            sink(Piece::Bytes(fresh));
        }
        let end = place + bytes.len() as u64 + u64::from(missing);
        if end > self.next {
            // No more than `missing`, which has 32 bits.
            let cut = (end - self.next) as u32;
            self.next = end;
            self.counts.cut += u64::from(cut);
            sink(Piece::Gap(cut));
        }
    }

    /// Takes what waited for what is there now.
    fn release(&mut self, sink: &mut dyn FnMut(Piece<'_>)) {
        while let Some(entry) = self.held.first_entry().filter(|entry| *entry.key() <= self.next) {
            let (place, held) = entry.remove_entry();
            self.held_bytes -= held.bytes.len();
            self.take(place, &held.bytes, held.missing, sink);
        }
    }

    /// Gives up waiting for what is missing before the first segment that waits.
    fn skip(&mut self, sink: &mut dyn FnMut(Piece<'_>)) {
        let Some((start, _)) = self.held.first_key_value() else { return };
        let gap = start.saturating_sub(self.next);
        self.counts.gaps += 1;
        self.counts.gap_bytes += gap;
        self.next = *start;
        // Places that wait lie less than 2^31 ahead of what was next when they came, and the next one only grows.
        sink(Piece::Gap(u32::try_from(gap).unwrap_or(u32::MAX)));
        self.release(sink);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(pieces: &mut String, piece: Piece<'_>) {
        match piece {
            Piece::Bytes(bytes) => pieces.push_str(std::str::from_utf8(bytes).unwrap()),
            Piece::Gap(len) => pieces.push_str(&format!("<{len}>")),
        }
    }

    fn all(first: u32, segments: &[(u32, &str, u32)]) -> (String, Counts) {
        let mut stream = Stream::new(first);
        let mut pieces = String::new();
        for (seq, bytes, missing) in segments {
            stream.push(*seq, bytes.as_bytes(), *missing, &mut |piece| text(&mut pieces, piece));
        }
        stream.finish(&mut |piece| text(&mut pieces, piece));
        assert_eq!(stream.held_bytes(), 0);
        (pieces, stream.counts)
    }

    #[test]
    fn segments_come_in_order_and_once() {
        assert_eq!(all(10, &[(10, "abc", 0), (13, "def", 0)]).0, "abcdef");
        let (pieces, counts) = all(10, &[(13, "def", 0), (10, "abc", 0), (11, "bcd", 0), (12, "cdefg", 0)]);
        assert_eq!((pieces.as_str(), counts.repeated, counts.gaps), ("abcdefg", 7, 0));
        // Across the end of the number space, and before the beginning.
        assert_eq!(all(u32::MAX - 1, &[(0, "cd", 0), (u32::MAX - 1, "ab", 0)]).0, "abcd");
        assert_eq!(all(10, &[(5, "abc", 0), (10, "x", 0)]).0, "x");
    }

    #[test]
    fn what_is_missing_is_told() {
        let (pieces, counts) = all(0, &[(0, "ab", 0), (5, "fg", 0)]);
        assert_eq!((pieces.as_str(), counts.gaps, counts.gap_bytes), ("ab<3>fg", 1, 3));
        let (pieces, counts) = all(0, &[(0, "ab", 3), (5, "fg", 0)]);
        assert_eq!((pieces.as_str(), counts.cut, counts.gaps), ("ab<3>fg", 3, 0));
        // The whole segment comes again: what was cut is not asked for twice.
        assert_eq!(all(0, &[(0, "ab", 3), (0, "abcde", 0), (5, "f", 0)]).0, "ab<3>f");
    }

    #[test]
    fn an_acknowledgement_ends_the_wait() {
        let (mut stream, mut pieces) = (Stream::new(0), String::new());
        stream.push(4, b"efg", 0, &mut |piece| text(&mut pieces, piece));
        stream.acknowledged(4, &mut |piece| text(&mut pieces, piece));
        assert_eq!(pieces, "");
        stream.acknowledged(7, &mut |piece| text(&mut pieces, piece));
        assert_eq!(pieces, "<4>efg");
    }

    #[test]
    fn waiting_is_bounded() {
        let (mut stream, mut given) = (Stream::new(0), 0);
        let chunk = vec![0; 64 << 10];
        for index in 0..1000_u32 {
            stream.push(1 + index * 65_537, &chunk, 0, &mut |piece| {
                given += if let Piece::Bytes(bytes) = piece { bytes.len() } else { 0 };
            });
            assert!(stream.held_bytes() <= HELD_STREAM_MAX && stream.held.len() <= HELD_SEGMENTS_MAX);
        }
        assert!(given > 900 * (64 << 10));
    }

    proptest! {
        /// Any order, any repetition: the bytes come out as they were sent.
        #[test]
        fn any_order_gives_the_stream(
            first: u32,
            cuts in prop::collection::vec(1..9_usize, 1..40),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..80),
        ) {
            let sent: Vec<u8> = (0..cuts.iter().sum::<usize>()).map(|index| index as u8).collect();
            let mut start = 0;
            let parts: Vec<(u32, &[u8])> = cuts
                .iter()
                .map(|len| {
                    let part = (first.wrapping_add(start as u32), &sent[start..start + len]);
                    start += len;
                    part
                })
                .collect();
            let mut stream = Stream::new(first);
            let mut received = Vec::new();
            let random = order.iter().map(|index| parts[index.index(parts.len())]);
            for (seq, bytes) in random.chain(parts.iter().copied()) {
                stream.push(seq, bytes, 0, &mut |piece| match piece {
                    Piece::Bytes(bytes) => received.extend_from_slice(bytes),
                    Piece::Gap(_) => received.clear(),
                });
            }
            prop_assert_eq!(received, sent);
            prop_assert_eq!((stream.counts.gaps, stream.held_bytes()), (0, 0));
        }
    }
}
