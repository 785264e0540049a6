//! The whole suite on the twin, and every rule broken once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use stampede_conformance::registry::{KNOWN, all};
use stampede_conformance::run::{Place, Side, attempt, run_all_of};
use std::collections::BTreeSet;

#[test]
fn everything_holds_on_the_twin() {
    let tests: Vec<_> = all().collect();
    let reports = [1, 2].into_iter().flat_map(|seed| run_all_of(&tests, &Place::Seed(seed)));
    let wrong: Vec<String> =
        reports.filter(|report| report.verdict.is_wrong()).map(|report| report.explain()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_broken_rule_is_noticed() {
    let mut missed = Vec::new();
    for (group, test) in all() {
        let Some(mutation) = test.mutation.filter(|_| test.runs_on(Side::Twin)) else { continue };
        if attempt(test, &Place::Seed(1), true).0.is_ok() {
            missed.push(format!("{}/{}: {}", group.folder(), test.name, mutation.what));
        }
    }
    assert!(missed.is_empty(), "broken on purpose, and not noticed:\n{}", missed.join("\n"));
}

#[test]
fn names_are_unique_and_known_failures_are_tests() {
    let names: Vec<&str> = all().map(|(_, test)| test.name).collect();
    let unique: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(names.len(), unique.len(), "two tests have one name");
    for known in KNOWN {
        assert!(unique.contains(known.test), "{} is known to fail, and no test", known.test);
    }
}
