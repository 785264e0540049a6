//! The bodies of the fuzz targets on random bytes, biased towards what the parsers look at.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../fuzz/bodies.rs"]
mod bodies;
#[path = "../fuzz/corpora.rs"]
mod corpora;

use proptest::prelude::*;
use stampede_wire::{BHS_LEN, Opcode, opcode};

/// A small PDU: any opcode, short AHS and data lengths, so that several fit into one stream.
fn small_pdu() -> impl Strategy<Value = Vec<u8>> {
    let lengths = (0u8..6, 0u8..64);
    (any::<[u8; BHS_LEN]>(), lengths, prop::collection::vec(any::<u8>(), 0..96)).prop_map(
        |(mut bhs, (ahs_words, data_len), rest)| {
            bhs[4..8].copy_from_slice(&[ahs_words, 0, 0, data_len]);
            [&bhs[..], &rest].concat()
        },
    )
}

proptest! {
    #[test]
    fn framer_on_noise(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        bodies::framer(&bytes);
    }

    #[test]
    fn framer_on_small_pdus(head: [u8; 3], pdus in prop::collection::vec(small_pdu(), 0..6)) {
        bodies::framer(&[&head[..], &pdus.concat()].concat());
    }

    #[test]
    fn text_on_noise(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        bodies::text(&bytes);
    }

    #[test]
    fn text_on_almost_pairs(text in "([A-Za-z.=]{0,8}[=\0]([ -~\u{80}-\u{ff}]{0,8}|0[xb][0-9A-Za-z+/=]{0,20})\0?){0,8}") {
        bodies::text(text.as_bytes());
    }

    #[test]
    fn value_on_almost_constants(text in "0[xXbB][0-9A-Za-z+/]{0,150}={0,3}") {
        bodies::text(text.as_bytes());
    }

    #[test]
    fn pdu_on_noise(mut bhs: [u8; BHS_LEN], opcode in 0..=opcode::MASK) {
        bodies::pdu(&bhs);
        bhs[0] = bhs[0] & !opcode::MASK | opcode;
        bodies::pdu(&bhs);
        prop_assert_eq!(Opcode::try_from(opcode).is_err(), stampede_wire::Bhs(bhs).opcode().is_err());
    }
}

/// What reaches far, and what was once found.
#[test]
fn the_corpora_hold() {
    corpora::replay(
        concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus"),
        &[("framer", bodies::framer), ("text", bodies::text), ("pdu", bodies::pdu)],
    );
}
