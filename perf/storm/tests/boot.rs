//! Boot storms against the test target: what is right passes, what is wrong is found, and reports say it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail their test")]

mod target;

use serde_json::Value;
use stampede_verify::Stamp;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use target::{Bug, Config, Target};

/// A boot with all that a trace may have.
const BOOT: &str = "stampede-trace 1\nname short\norigin model\nlogin 1 firmware\nc 00 0\nr 0 1\nr = 63\nclose 1\n\
    login 2 firmware 500\nr = 63\nr = 100\nlogin 3 os 900\nc 1200000024 36\nc 00 0\nclose 2\nr 2000 8\nr 3000 16 @1\n\
    r 4000 256 @2\nw 2000 8 fua\nr 1998 12\nw 2004 16\nr 1990 64\ns\nclose 3\nlogin 3 os 2000\nr 2000 32 5\nmarker there\n\
    w 5000 64\nr 5000 64\n";

/// Many writes that are read back.
fn writes() -> String {
    let mut text = "stampede-trace 1\nname writes\norigin model\nlogin 1 os\n".to_owned();
    for index in 0..120 {
        writeln!(text, "w {} 4 @3", 40 * index % 4000).unwrap();
    }
    text
}

/// A target whose disk is a stamped golden.
fn stamped(config: Config) -> Target {
    let target = Target::start(config);
    for (sector, lba) in target.disk.lock().unwrap().bytes.as_chunks_mut().0.iter_mut().zip(0..) {
        Stamp::golden(lba).write(sector);
    }
    target
}

fn file(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// The exit code, what was said, and the report.
fn boot(target: &Target, trace: &str, words: &str) -> (Option<i32>, String, Value) {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "a.trace", trace);
    let (output, report) = target.storm(&format!("boot --trace {} {words}", path.display()));
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned(), report)
}

fn number(report: &Value, name: &str) -> u64 {
    report["boot"][name].as_u64().unwrap_or_else(|| panic!("{name} in {report}"))
}

#[test]
fn a_whole_boot_with_its_logins() {
    let target = stamped(Config::default());
    let folder = tempfile::tempdir().unwrap();
    let (page, csv) = (folder.path().join("r.html"), folder.path().join("r.csv"));
    let words = format!("--think 0 --read-back --report {} --csv {}", page.display(), csv.display());
    let (code, text, report) = boot(&target, BOOT, &words);
    assert_eq!(code, Some(0), "{text}");
    for (name, wanted) in [("up", 1), ("done", 1), ("logins", 4), ("mismatches", 0), ("refused", 0)] {
        assert_eq!(number(&report, name), wanted, "{name}: {report}");
    }
    // 10 READs and 3 WRITEs of the trace, and a READ for each part of what was written.
    assert_eq!(report["writes"]["operations"], 3);
    assert!(report["reads"]["operations"].as_u64().unwrap() >= 12, "{}", report["reads"]["operations"]);
    assert!(number(&report, "checked_bytes") > 300_000 && report["boot"]["golden"] == "stamped");
    let machine = &report["boot"]["machines"][0];
    assert!(machine["marker_seconds"].as_f64() <= machine["end_seconds"].as_f64());
    let names: Vec<&Value> =
        report["boot"]["phases"].as_array().unwrap().iter().map(|phase| &phase["name"]).collect();
    assert_eq!(names, ["firmware", "os"]);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.matches("<svg").count() == 3 && page.contains("1 of 1 machines came up"), "{page}");
    assert!(std::fs::read_to_string(csv).unwrap().starts_with("machine,on_seconds,marker_seconds,"));
}

#[test]
fn machines_come_as_they_are_told() {
    let target = stamped(Config::default());
    for arrival in ["ramp:0.3", "groups:10:0.2", "poisson:100"] {
        let words = format!("--clients 20 --think 0.01 --no-writes --arrival {arrival}");
        let (code, text, report) = boot(&target, BOOT, &words);
        assert_eq!(code, Some(0), "{text}");
        assert_eq!((number(&report, "done"), number(&report, "logins")), (20, 80), "{report}");
        let on = |machine: usize| report["boot"]["machines"][machine]["on_seconds"].as_f64().unwrap();
        assert!(on(0) < on(19) && report["writes"]["operations"] == 0, "{arrival}");
    }
}

#[test]
fn planted_bugs_are_found() {
    for (bug, kinds) in [
        (Bug::Lost, &["lost", "stale"][..]),
        (Bug::Misplaced, &["foreign", "lost"]),
        (Bug::Flipped, &["garbage"]),
        (Bug::DroppedTail, &["lost"]),
        (Bug::ReadsNeighbour, &["foreign", "lost"]),
        (Bug::ShortRead, &["short"]),
    ] {
        let target = stamped(Config { bug, ..Config::default() });
        let (code, text, report) = boot(&target, &writes(), "--think 0 --read-back");
        assert_eq!(code, Some(1), "{bug:?}: {text}");
        assert!(text.contains("gave wrong data"), "{bug:?}: {text}");
        let found = report["boot"]["first_mismatches"].as_array().unwrap();
        let found: Vec<&str> = found.iter().map(|wrong| wrong["kind"].as_str().unwrap()).collect();
        assert!(found.iter().any(|kind| kinds.contains(kind)), "{bug:?} is found as {found:?}");
    }
    let target = stamped(Config::default());
    let (code, text, report) = boot(&target, &writes(), "--think 0 --read-back --small-writes 50");
    assert_eq!(code, Some(0), "{text}");
    assert!(number(&report, "small_writes") > 20, "{report}");
}

#[test]
fn the_golden_may_be_a_file_and_must_be_known() {
    let target = Target::start(Config::default());
    let bytes: Vec<u8> = (0..8192 * 512).map(|at: u32| (at / 7 % 253) as u8).collect();
    target.disk.lock().unwrap().bytes.copy_from_slice(&bytes);
    let folder = tempfile::tempdir().unwrap();
    let golden = file(folder.path(), "golden", &bytes);
    let (code, text, report) = boot(&target, BOOT, &format!("--think 0 --golden {}", golden.display()));
    assert!(code == Some(0) && report["boot"]["golden"] == "file", "{text}");
    let mut other = bytes.clone();
    other[3005 * 512 + 77] ^= 1;
    let other = file(folder.path(), "other", &other);
    let target = Target::start(Config::default());
    target.disk.lock().unwrap().bytes.copy_from_slice(&bytes);
    let (code, text, report) = boot(&target, BOOT, &format!("--think 0 --golden {}", other.display()));
    assert!(code == Some(1) && text.contains("1 reads gave wrong data"), "{text}");
    assert_eq!(report["boot"]["first_mismatches"][0]["lba"], 3005);
    let (code, text, _) = boot(&target, BOOT, "--think 0");
    assert!(code == Some(2) && text.contains("--golden FILE") && text.contains("--no-check"), "{text}");
    let short = file(folder.path(), "short", &bytes[512..]);
    let (code, text, _) = boot(&target, BOOT, &format!("--golden {}", short.display()));
    assert!(code == Some(1) && text.contains("not what the unit's machines boot from"), "{text}");
    let (code, text, report) = boot(&target, BOOT, "--think 0 --no-check");
    assert!(code == Some(0) && report["boot"]["checked_bytes"] == 0, "{text}");
}

#[test]
fn lost_sessions_come_back_with_their_commands() {
    let target = stamped(Config { breaks_after: Some(40), ..Config::default() });
    let (code, text, report) = boot(&target, &writes(), "--think 0 --read-back");
    assert!(code == Some(1) && text.contains("operations failed"), "{text}");
    assert!(number(&report, "sessions_lost") > 1, "{report}");
    assert_eq!((number(&report, "done"), number(&report, "mismatches")), (1, 0), "{report}");
}

#[test]
fn what_cannot_be_replayed_is_said() {
    let target = stamped(Config::default());
    let (code, text, _) = boot(&target, "stampede-trace 1\nname a\norigin model\nlogin 1 os\nr 1 x\n", "");
    assert!(code == Some(1) && text.contains("a.trace: line 5: \"x\" is not a number of blocks"), "{text}");
    let (code, text, _) = boot(&target, "stampede-trace 1\nname a\norigin model\nlogin 1 os\nr 9000 8\n", "");
    assert!(code == Some(1) && text.contains("a goes up to block 9008 and the unit has 8192"), "{text}");
    let (code, text, _) = boot(&target, BOOT, "--arrival sometimes");
    assert!(code == Some(2) && text.contains("poisson:PER-SECOND"), "{text}");
}

#[test]
fn traces_are_made_shown_and_refused() {
    let folder = tempfile::tempdir().unwrap();
    let storm = |words: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_storm")).args(words).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let path = folder.path().join("w.trace");
    let path = path.to_str().unwrap();
    let (code, text) = storm(&["trace", "model", "windows", path, "--size", "4g"]);
    assert!(code == Some(0) && text.contains("windows-model (model)"), "{text}");
    let (code, text) = storm(&["trace", "show", path]);
    assert!(code == Some(0) && text.contains("up at desktop"), "{text}");
    let csv = file(
        folder.path(),
        "a.csv",
        "t_us,stage,opcode,op,lun,lba,blocks,bytes,service_us,queued,think_us,status,fua\n9,ipxe,0x28,R,1,0,8,4096,1,0,5,0,0\n",
    );
    let (code, text) = storm(&["trace", "convert", csv.to_str().unwrap(), path]);
    assert!(code == Some(0) && text.contains("a (recorded): 1 commands"), "{text}");
    let golden = folder.path().join("g");
    let golden = golden.to_str().unwrap();
    let (code, text) = storm(&["golden", golden, "--size", "1m"]);
    assert!(code == Some(0), "{text}");
    let bytes = std::fs::read(golden).unwrap();
    assert!(
        bytes.len() == 1 << 20 && Stamp::parse(bytes[512..].first_chunk().unwrap()) == Ok(Stamp::golden(1))
    );
    let (code, text) = storm(&["golden", golden, "--size", "1m"]);
    assert!(code == Some(1) && text.contains("--force"), "{text}");
}
