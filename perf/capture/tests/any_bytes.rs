//! The fuzz bodies as property tests, with bytes that are nearly captures.

#[path = "../fuzz/bodies.rs"]
mod bodies;
mod common;

use common::{Link, boot, pcap, pcapng};
use proptest::prelude::*;

fn link() -> impl Strategy<Value = Link> {
    prop::sample::select(Link::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    /// A good capture with some bytes changed anywhere.
    #[test]
    fn damaged_captures_are_read_or_refused(
        link in link(),
        ng: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        keep in any::<prop::sample::Index>(),
    ) {
        let frames = boot(link).frames;
        let mut file = if ng { pcapng(link, &frames, 6) } else { pcap(link, &frames, false, false) };
        let len = file.len();
        for (at, byte) in changes {
            file[at.index(len)] = byte;
        }
        bodies::capture(&file);
        bodies::capture(&file[..keep.index(len)]);
    }

    /// Packets in any order, some more than once and some not at all.
    #[test]
    fn shuffled_captures_are_read_or_refused(order in prop::collection::vec(any::<prop::sample::Index>(), 1..80)) {
        let frames = boot(Link::Raw).frames;
        let shuffled: Vec<_> = order.iter().map(|index| frames[index.index(frames.len())].clone()).collect();
        bodies::capture(&pcap(Link::Raw, &shuffled, false, false));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600), head in 0..3_u8) {
        let head = match head {
            0 => Vec::new(),
            1 => pcap(Link::Ethernet, &[], false, false),
            _ => pcapng(Link::Ethernet, &[], 6),
        };
        bodies::capture(&[&head[..], &bytes].concat());
        bodies::recording(&bytes);
        bodies::recording(&[b"STAMPREC\x01\0\0\0", &bytes[..]].concat());
    }
}
