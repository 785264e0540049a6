//! The fuzz bodies as property tests: they run in every test run, also where there is no fuzzer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

#[path = "../fuzz/bodies.rs"]
mod bodies;

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
}

/// The seeds of the fuzz targets: commands as initiators send them.
#[test]
fn the_corpora_hold() {
    let corpora = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus");
    let mut run = 0;
    for (name, body) in [("commands", bodies::commands as fn(&[u8])), ("reservations", bodies::reservations)]
    {
        for entry in std::fs::read_dir(format!("{corpora}/{name}")).unwrap() {
            body(&std::fs::read(entry.unwrap().path()).unwrap());
            run += 1;
        }
    }
    assert!(run >= 4, "the corpora are gone");
}
