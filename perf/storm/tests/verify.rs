//! verify finds nothing in a right target, and each planted bug in a wrong one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail their test")]

mod target;

use serde_json::Value;
use target::{Bug, Config, Target};

/// The exit code, what was said, and the report.
fn verify(target: &Target, words: &str) -> (Option<i32>, String, Value) {
    let (output, report) = target.storm(&format!("verify {words}"));
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned(), report)
}

fn number(report: &Value, name: &str) -> u64 {
    report["verify"][name].as_u64().unwrap_or_else(|| panic!("{name} in {report}"))
}

#[test]
fn a_right_target_passes() {
    for (block_size, bug) in [(512, Bug::None), (4096, Bug::None), (512, Bug::UnmapIgnored)] {
        let target = Target::start(Config { block_size, bug, blocks: 4096, ..Config::default() });
        let (code, text, report) = verify(&target, "--ops 4000 --sessions 2 --destroy");
        assert_eq!(code, Some(0), "{text}");
        for name in ["reads", "writes", "unmaps", "write_sames", "syncs"] {
            assert!(number(&report, name) > 10, "{name}: {report}");
        }
        assert!(number(&report, "blocks_checked") >= 4096);
        assert_eq!((number(&report, "mismatches"), number(&report, "unknown")), (0, 0));
    }
}

#[test]
fn without_extras_there_are_reads_and_writes_only() {
    let target = Target::start(Config { has_extras: false, initial_r2t: true, ..Config::default() });
    let (code, text, report) = verify(&target, "--ops 1000 --region 1m-2m");
    assert_eq!(code, Some(0), "{text}");
    let extras: Vec<u64> = ["unmaps", "write_sames", "syncs"].map(|name| number(&report, name)).into();
    assert_eq!(extras, [0, 0, 0]);
    let disk = target.disk.lock().unwrap();
    assert!(
        disk.bytes[..1 << 20].iter().chain(&disk.bytes[2 << 20..]).all(|byte| *byte == 0),
        "outside of the region"
    );
}

#[test]
fn lost_connections_are_forgiven_and_their_operations_unknown() {
    let target = Target::start(Config { breaks_after: Some(300), ..Config::default() });
    let (code, text, report) = verify(&target, "--ops 2000 --destroy");
    assert_eq!(code, Some(0), "{text}");
    assert!(number(&report, "unknown") > 0 && number(&report, "mismatches") == 0, "{report}");
}

#[test]
fn planted_bugs_are_found() {
    for (bug, kinds) in [
        (Bug::Lost, &["lost"][..]),
        (Bug::Torn, &["torn"]),
        (Bug::Stale, &["stale", "lost"]),
        (Bug::Misplaced, &["foreign", "lost"]),
        (Bug::Flipped, &["garbage", "torn"]),
        (Bug::ShortWriteSame, &["lost", "stale", "foreign", "garbage"]),
        (Bug::UnmapUncovers, &["lost", "stale"]),
        (Bug::UnmapSameKeeps, &["lost", "stale"]),
        (Bug::LongWriteSame, &["foreign"]),
        (Bug::DroppedTail, &["lost", "stale"]),
        (Bug::OtherSession, &["foreign"]),
        (Bug::ReadsNeighbour, &["foreign", "lost", "stale", "garbage"]),
        (Bug::ShortRead, &["short"]),
    ] {
        let target = Target::start(Config { bug, blocks: 2048, ..Config::default() });
        let (code, text, report) = verify(&target, "--ops 4000 --sessions 2 --destroy");
        assert_eq!(code, Some(1), "{bug:?}: {text}");
        assert!(text.contains("gave wrong data"), "{bug:?}: {text}");
        let found = report["verify"]["first_mismatches"].as_array().unwrap();
        let found: Vec<&str> = found.iter().map(|mismatch| mismatch["kind"].as_str().unwrap()).collect();
        assert!(found.iter().any(|kind| kinds.contains(kind)), "{bug:?} is found as {found:?}");
    }
}

#[test]
fn nothing_is_written_unless_it_is_said_where() {
    let target = Target::start(Config::default());
    let (code, text, _) = verify(&target, "");
    assert!(code == Some(2) && text.contains("--region START-END") && target.commands() == 0, "{text}");
    let (code, text, _) = verify(&target, "--region 0-16k --sessions 4");
    assert!(code == Some(1) && text.contains("too small for verify"), "{text}");
    let reserved = Target::start(Config { keys: 1, ..Config::default() });
    let (code, text, _) = verify(&reserved, "--region 0-1m");
    assert!(code == Some(1) && text.contains("in use"), "{text}");
}
