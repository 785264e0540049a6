//! The conformance suite against this daemon, over TCP.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use stampede_conformance::registry::all;
use stampede_conformance::run::{Place, Side, run};

#[test]
fn everything_holds_over_tcp() {
    let place = Place::Program(env!("CARGO_BIN_EXE_stampede").into());
    let mut failed = Vec::new();
    for (group, test) in all().filter(|(_, test)| test.runs_on(Side::Tcp)) {
        let report = run(group, test, &place);
        if report.verdict.is_wrong() {
            failed.push(format!(
                "{}/{}: {:?}: {}\n    {}",
                report.group,
                report.name,
                report.verdict,
                report.why,
                report.transcript.join("\n    ")
            ));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
