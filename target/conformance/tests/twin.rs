//! The whole suite on the twin, and every rule broken once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use stampede_conformance::registry::{KNOWN, all};
use stampede_conformance::run::{Place, Side, attempt, run};
use std::collections::BTreeSet;

#[test]
fn everything_holds_on_the_twin() {
    let mut failed = Vec::new();
    for seed in [1, 2] {
        for (group, test) in all().filter(|(_, test)| test.runs_on(Side::Twin)) {
            let report = run(group, test, &Place::Seed(seed));
            if report.verdict.is_wrong() {
                failed.push(format!(
                    "{}/{} with seed {seed}: {:?}: {}\n    {}",
                    report.group,
                    report.name,
                    report.verdict,
                    report.why,
                    report.transcript.join("\n    ")
                ));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
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
