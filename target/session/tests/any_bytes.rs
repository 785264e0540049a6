//! The fuzz bodies as property tests: they run in every test run, also where there is no fuzzer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

#[path = "../fuzz/bodies.rs"]
mod bodies;
#[path = "../../wire/fuzz/corpora.rs"]
mod corpora;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn session(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        bodies::session(&bytes);
    }

    #[test]
    fn login(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        bodies::login(&bytes);
    }

    #[test]
    fn chap(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        bodies::chap(&bytes);
    }
}

/// What reaches far, and what was once found.
#[test]
fn the_corpora_hold() {
    corpora::replay(
        concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus"),
        &[("session", bodies::session), ("login", bodies::login), ("chap", bodies::chap)],
    );
}
