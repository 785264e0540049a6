//! The conformance suite against this daemon, over TCP.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use stampede_conformance::registry::all;
use stampede_conformance::run::{Place, run_all_of};

#[test]
fn everything_holds_over_tcp() {
    let place = Place::Program(env!("CARGO_BIN_EXE_stampede").into());
    let tests: Vec<_> = all().collect();
    let reports = run_all_of(&tests, &place);
    let wrong: Vec<String> =
        reports.iter().filter(|report| report.verdict.is_wrong()).map(|report| report.explain()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
