//! Whole runs against the test target, and what their reports say.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail their test")]

mod target;

use serde_json::Value;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use target::{Config, Target};

fn spawn(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_storm"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The report of a run that is to succeed.
#[track_caller]
fn report(target: &Target, words: &str) -> Value {
    let (output, report) = target.storm(words);
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    report
}

fn number(report: &Value, pointer: &str) -> u64 {
    let value = report.pointer(pointer).unwrap_or_else(|| panic!("{pointer} in {report}"));
    value.as_u64().unwrap_or_else(|| panic!("{pointer}: {value}"))
}

#[test]
fn as_many_operations_as_asked_for() {
    let target = Target::start(Config::default());
    let report = report(&target, "rand --ops 1001 --warmup 0 --sessions 3 --depth 7 --bs 8k");
    assert_eq!(number(&report, "/all/operations"), 1001);
    assert_eq!(number(&report, "/reads/bytes"), 1001 * 8192);
    assert_eq!((number(&report, "/errors"), number(&report, "/schema")), (0, 1));
    let sessions = report["sessions"].as_array().unwrap();
    let shares: Vec<u64> = sessions.iter().map(|session| session["operations"].as_u64().unwrap()).collect();
    assert_eq!(shares, [334, 334, 333]);
    assert_eq!((&report["mode"], &report["parameters"]["bs"]), (&"rand".into(), &"8k".into()));
    assert!(report["all"]["latency_us"]["p99"].as_f64().unwrap() > 0.0);
    // The probe's commands, a TEST UNIT READY for each session, and the operations: nothing was asked twice.
    assert!((1001..1030).contains(&target.commands()), "{}", target.commands());
}

#[test]
fn a_mixture_reads_and_writes_with_and_without_r2ts() {
    for initial_r2t in [false, true] {
        let target = Target::start(Config { initial_r2t, ..Config::default() });
        let report =
            report(&target, "mix --secs 0.5 --warmup 0.1 --sessions 2 --bs 512:1,64k:1,256k:1 --destroy");
        let (reads, writes) = (number(&report, "/reads/operations"), number(&report, "/writes/operations"));
        assert!(reads > writes && writes > 10, "{reads} reads, {writes} writes");
        assert_eq!((number(&report, "/errors"), number(&report, "/all/operations")), (0, reads + writes));
        let seconds = report["timeline"].as_array().unwrap();
        let total: u64 = seconds.iter().map(|second| second["operations"].as_u64().unwrap()).sum();
        assert_eq!(total, reads + writes);
        assert!(target.disk.lock().unwrap().bytes.iter().any(|byte| *byte != 0));
    }
}

#[test]
fn a_sequence_writes_all_of_its_region_and_nothing_else() {
    let target = Target::start(Config::default());
    report(&target, "seq --read 0 --ops 64 --warmup 0 --bs 16k --sessions 2 --region 1m-2m --destroy");
    let disk = target.disk.lock().unwrap();
    let is_written = |block: &[u8]| block.iter().any(|byte| *byte != 0);
    for (block, index) in disk.bytes.chunks(16_384).zip(0..) {
        assert_eq!(is_written(block), (64..128).contains(&index), "block {index} of 16 KiB");
    }
}

#[test]
fn failed_operations_are_counted_and_the_exit_code_says_so() {
    let target = Target::start(Config { reads_fail: true, ..Config::default() });
    let (output, report) = target.storm("rand --ops 100 --warmup 0");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("100 operations failed; the first: a read: CHECK CONDITION, MEDIUM ERROR"),
        "{text}"
    );
    assert_eq!((number(&report, "/errors"), number(&report, "/all/operations")), (100, 0));
}

#[test]
fn lost_sessions_come_back_and_are_counted() {
    let target = Target::start(Config { breaks_after: Some(500), ..Config::default() });
    let (output, report) = target.storm("rand --secs 2 --warmup 0 --sessions 2 --depth 4");
    assert_eq!(output.status.code(), Some(1));
    assert!(number(&report, "/errors") > 0);
    // More than two sessions of 500 commands could have done.
    assert!(number(&report, "/all/operations") > 1200, "{}", report["all"]["operations"]);
}

#[test]
fn logins_one_after_the_other_and_at_a_rate() {
    let target = Target::start(Config::default());
    let closed = report(&target, "login --ops 50 --sessions 4");
    assert_eq!(number(&closed, "/all/operations"), 50);
    let phases: Vec<&str> =
        closed["phases"].as_array().unwrap().iter().map(|phase| phase["name"].as_str().unwrap()).collect();
    assert_eq!(phases, ["connect", "security", "operational", "login", "logout"]);
    let open = report(&target, "login --rate 40 --secs 1 --sessions 20 --hold 0.1");
    assert!((35..=40).contains(&number(&open, "/all/operations")), "{}", open["all"]["operations"]);
    assert_eq!(open["phases"][0]["name"], "wait");
}

#[test]
fn idle_sessions_stay_and_are_weighed() {
    let target = Target::start(Config::default());
    let pid = std::process::id();
    let report = report(&target, &format!("idle --sessions 20 --secs 0.5 --settle 0.1 --watch-pid {pid}"));
    assert_eq!((number(&report, "/idle/sessions"), number(&report, "/idle/lost")), (20, 0));
    assert!(number(&report, "/idle/watched_rss_kib_with") > 0);
    assert_eq!(number(&report, "/watched/pid"), u64::from(pid));
}

#[test]
fn several_threads_share_the_sessions() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let list = format!("0-{}", cores.min(2) - 1);
    let target = Target::start(Config::default());
    let report =
        report(&target, &format!("rand --ops 300 --warmup 0 --cores {list} --sessions 3 --zipf 0.9"));
    assert_eq!(number(&report, "/all/operations"), 300);
    assert_eq!(report["sessions"].as_array().unwrap().len(), 3);
}

#[test]
fn an_interrupted_run_still_reports() {
    let target = Target::start(Config::default());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let url = target.url(0);
    let child =
        spawn(&["rand", "--secs", "60", "--warmup", "0", "--json", path.to_str().unwrap(), "--quiet", &url]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while target.commands() < 500 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("interrupted"), "{:?} {text}", output.status);
    let report = target::report(&path);
    assert!(report["seconds"].as_f64().unwrap() < 40.0);
    assert!(number(&report, "/all/operations") > 100);
}

#[test]
fn a_table_csv_and_a_plot() {
    let target = Target::start(Config::default());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (csv, plot, url) = (file("r.csv"), file("r.svg"), target.url(0));
    let output =
        spawn(&["rand", "--ops", "200", "--csv", &csv, "--plot", &plot, &url]).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("200 operations") && text.contains("p99.9"), "{text}");
    assert!(std::fs::read_to_string(&csv).unwrap().contains("traffic,all,200,"));
    assert!(std::fs::read_to_string(&plot).unwrap().contains("<svg"));
}
