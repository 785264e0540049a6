//! The fuzz bodies as property tests: they run in every test run, also where there is no fuzzer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

#[path = "../fuzz/bodies.rs"]
mod bodies;
#[path = "../../wire/fuzz/corpora.rs"]
mod corpora;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn commands(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        bodies::commands(&bytes);
    }

    #[test]
    fn reservations(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        bodies::reservations(&bytes);
    }

    #[test]
    fn copies(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        bodies::copies(&bytes);
    }

    #[test]
    fn modes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        bodies::modes(&bytes);
    }

    #[test]
    fn saved(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        bodies::saved(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = 1;
            bodies::saved(&bytes);
        }
    }
}

/// What reaches far, and what was once found.
#[test]
fn the_corpora_hold() {
    corpora::replay(
        concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus"),
        &[
            ("commands", bodies::commands),
            ("reservations", bodies::reservations),
            ("copies", bodies::copies),
            ("modes", bodies::modes),
            ("saved", bodies::saved),
        ],
    );
}
