//! A stream of PDUs, however it is split, comes out of the framer as it went in.

use proptest::prelude::*;
use stampede_wire::{
    BHS_LEN, Bhs,
    encode::{Digests, data_digest, header_digest_with_ahs, pad4},
    frame::{AHS_MAX, Frame, FrameError, Framer, FramerConfig},
};

/// A PDU to send, and the digests its connection uses from this PDU on.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Sent {
    bhs: Bhs,
    ahs: Vec<u8>,
    data: Vec<u8>,
    digests: Digests,
}

impl Sent {
    fn new(fill: u8, ahs_len: usize, data_len: usize, digests: Digests) -> Self {
        let mut bhs = Bhs([fill; BHS_LEN]);
        bhs.0[4] = u8::try_from(ahs_len / 4).expect("TotalAHSLength is one byte");
        bhs.set_data_segment_len(u32::try_from(data_len).expect("test data is small"));
        let pattern = |len: usize| (0..len).map(|i| (i as u8).wrapping_mul(31) ^ fill).collect();
        Self { bhs, ahs: pattern(ahs_len), data: pattern(data_len), digests }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bhs.0);
        out.extend_from_slice(&self.ahs);
        if self.digests.header {
            out.extend_from_slice(&header_digest_with_ahs(&self.bhs, &self.ahs));
        }
        out.extend_from_slice(&self.data);
        out.extend_from_slice(&[0; 3][..pad4(self.data.len())]);
        if self.digests.data && !self.data.is_empty() {
            out.extend_from_slice(&data_digest(&self.data));
        }
    }
}

fn stream(pdus: &[Sent]) -> Vec<u8> {
    let mut out = Vec::new();
    pdus.iter().for_each(|pdu| pdu.write(&mut out));
    out
}

const OPEN: FramerConfig = FramerConfig {
    max_data_segment: 1 << 20,
    max_ahs: AHS_MAX as u16,
    header_digest: false,
    data_digest: false,
};

/// When a receiver switches digests: the two moments at which a session learns what the next PDU has.
#[derive(Clone, Copy, Debug)]
enum Switch {
    AtHeader,
    AtEnd,
}

/// Reads `pdus` back from `chunks`, switching digests as the connection does. Payload slices must lie in the chunk.
fn receive<'a>(
    pdus: &[Sent],
    chunks: impl Iterator<Item = &'a [u8]>,
    switch: Switch,
) -> Result<Vec<Sent>, FrameError> {
    let digests_of = |index: usize| pdus.get(index).map_or(Digests::default(), |pdu| pdu.digests);
    let mut framer = Framer::new(OPEN);
    framer.set_digests(digests_of(0).header, digests_of(0).data);
    let mut seen: Vec<Sent> = Vec::new();
    for chunk in chunks {
        let mut input = chunk;
        while let Some(frame) = framer.next(&mut input)? {
            let next = digests_of(seen.len() + usize::from(frame == Frame::Header));
            match frame {
                Frame::Header => {
                    let (bhs, ahs) = (*framer.header().bhs(), framer.header().ahs().to_vec());
                    seen.push(Sent { bhs, ahs, data: Vec::new(), digests: digests_of(seen.len()) });
                    if matches!(switch, Switch::AtHeader) {
                        framer.set_digests(next.header, next.data);
                    }
                }
                Frame::Data(data) => {
                    assert!(chunk.as_ptr_range().contains(&data.as_ptr()), "payload is not copied");
                    seen.last_mut().expect("a header comes first").data.extend_from_slice(data);
                }
                Frame::End { data_digest_ok } => {
                    assert!(data_digest_ok);
                    if matches!(switch, Switch::AtEnd) {
                        framer.set_digests(next.header, next.data);
                    }
                }
            }
        }
        assert!(input.is_empty());
    }
    assert!(!framer.in_pdu());
    Ok(seen)
}

const NONE: Digests = Digests { header: false, data: false };
const BOTH: Digests = Digests { header: true, data: true };

#[test]
fn every_pair_of_cuts_of_a_short_stream() {
    // A login without digests, then a full feature phase that uses both, all in one go.
    let pdus = [
        Sent::new(0x43, 0, 5, NONE),
        Sent::new(0x01, 8, 6, BOTH),
        Sent::new(0x00, 0, 0, BOTH),
        Sent::new(0x05, 0, 8, BOTH),
    ];
    let bytes = stream(&pdus);
    for switch in [Switch::AtHeader, Switch::AtEnd] {
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let chunks = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(receive(&pdus, chunks.into_iter(), switch).as_deref(), Ok(&pdus[..]));
            }
        }
        assert_eq!(receive(&pdus, bytes.chunks(1), switch).as_deref(), Ok(&pdus[..]));
    }
}

#[test]
fn a_whole_pdu_in_one_chunk_is_three_frames() {
    let pdu = Sent::new(0x01, 0, 7, BOTH);
    let bytes = stream(std::slice::from_ref(&pdu));
    let mut framer = Framer::new(FramerConfig { header_digest: true, data_digest: true, ..OPEN });
    let mut input = &bytes[..];
    assert_eq!(framer.next(&mut input), Ok(Some(Frame::Header)));
    assert_eq!(framer.next(&mut input), Ok(Some(Frame::Data(&pdu.data))));
    assert!(framer.in_pdu());
    assert_eq!(framer.next(&mut input), Ok(Some(Frame::End { data_digest_ok: true })));
    assert!(!framer.in_pdu());
    assert_eq!(framer.next(&mut input), Ok(None));
}

/// RFC 7143 7.7: a wrong header digest loses the stream, a wrong data digest only that PDU.
#[test]
fn every_flipped_bit_is_noticed() {
    let pdus = [Sent::new(0x01, 4, 5, BOTH), Sent::new(0x00, 0, 0, BOTH)];
    let bytes = stream(&pdus);
    let first_len = bytes.len() - BHS_LEN - 4;
    let header_len = BHS_LEN + 4 + 4;
    for bit in 0..first_len * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let mut framer = Framer::new(FramerConfig { header_digest: true, data_digest: true, ..OPEN });
        let mut input = &damaged[..];
        let mut ends = Vec::new();
        let error = loop {
            match framer.next(&mut input) {
                Ok(Some(Frame::End { data_digest_ok })) => ends.push(data_digest_ok),
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if bit / 8 >= header_len {
            assert_eq!((ends.as_slice(), error), (&[false, true][..], None), "bit {bit}");
        } else if bit / 8 != 4 {
            assert!(matches!(error, Some(FrameError::HeaderDigest { .. })), "bit {bit}: {error:?}");
        } else {
            // A longer AHS may only make it wait for more, which a timeout ends.
            assert!(ends.is_empty() || error.is_some(), "bit {bit}");
        }
    }
}

#[test]
fn lengths_beyond_the_limits_lose_the_stream() {
    let config =
        FramerConfig { max_data_segment: 8192, max_ahs: 8, header_digest: false, data_digest: false };
    let too_much_data = stream(&[Sent::new(1, 0, 8193, NONE)]);
    let mut framer = Framer::new(config);
    let error = FrameError::DataSegmentTooLong { len: 8193, max: 8192 };
    assert_eq!(framer.next(&mut &too_much_data[..]), Err(error));
    assert_eq!(framer.next(&mut &[][..]), Err(error), "it stays lost");

    let too_much_ahs = stream(&[Sent::new(1, 12, 0, NONE)]);
    let mut framer = Framer::new(config);
    assert_eq!(framer.next(&mut &too_much_ahs[..]), Err(FrameError::AhsTooLong { len: 12, max: 8 }));

    let mut framer = Framer::new(config);
    framer.set_max_data_segment(8193);
    assert_eq!(framer.next(&mut &too_much_data[..]), Ok(Some(Frame::Header)));
}

fn sent() -> impl Strategy<Value = Sent> {
    let lengths = (
        prop_oneof![4 => Just(0usize), 1 => 0..=255usize],
        prop_oneof![Just(0usize), 1..70usize, 0..5000usize],
    );
    (any::<u8>(), lengths, any::<bool>(), any::<bool>()).prop_map(
        |(fill, (ahs_words, data_len), header, data)| {
            Sent::new(fill, ahs_words * 4, data_len, Digests { header, data })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_split_of_any_stream(
        pdus in prop::collection::vec(sent(), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        at_end: bool,
    ) {
        let bytes = stream(&pdus);
        let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        let mut start = 0;
        let chunks = ends.into_iter().map(|end| &bytes[std::mem::replace(&mut start, end)..end]);
        let switch = if at_end { Switch::AtEnd } else { Switch::AtHeader };
        prop_assert_eq!(receive(&pdus, chunks, switch), Ok(pdus));
    }
}
