//! The table in `docs/conformance.md` is current, and what it says of the code is there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use stampede_conformance::must_dos::MUST_DOS;
use stampede_conformance::registry::all;
use stampede_conformance::table::replace;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

#[test]
fn committed_table_is_current() {
    let text = std::fs::read_to_string(root().join("docs/conformance.md")).unwrap();
    let wanted = replace(&text).expect("docs/conformance.md has the markers");
    assert!(
        text == wanted,
        "docs/conformance.md is out of date: run `conformance table --write docs/conformance.md`"
    );
}

#[test]
fn code_that_keeps_a_rule_exists() {
    let mut missing = Vec::new();
    for (_, test) in all() {
        let (file, what) = test.code.split_once('#').expect("file#name");
        let text = std::fs::read_to_string(root().join("target").join(file)).unwrap_or_default();
        if !text.contains(what) {
            missing.push(format!("{}: target/{file} has no `{what}`", test.name));
        }
    }
    assert!(missing.is_empty(), "the code of these tests has moved:\n{}", missing.join("\n"));
}

#[test]
fn each_of_the_thirty_was_seen_to_fail() {
    let mut missing = Vec::new();
    for (number, what) in (1u8..).zip(MUST_DOS) {
        let tested = all().any(|(_, test)| test.must.contains(&number) && test.mutation.is_some());
        if !tested {
            missing.push(format!("{number}: {what}"));
        }
    }
    assert!(missing.is_empty(), "no test that was seen to fail for\n{}", missing.join("\n"));
}
