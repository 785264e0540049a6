//! Which shard a session lands on: that of the CPU its client runs on, with the steering program; any, without.
//!
//! Where the kernel refuses the program to this user, the tests that need it are skipped with a loud message; with
//! STAMPEDE_TESTS_STRICT set they fail.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod common;
#[path = "common/raw.rs"]
mod raw;

use common::{Holder, Target, have, skipped, stampede};
use raw::Raw;
use serde_json::Value;
use stampede_ring::cpu;
use stampede_steer::reuseport::is_loaded;
use std::time::{Duration, Instant};

/// Logins from each CPU.
const LOGINS: u8 = 50;

/// Two CPUs for a shard each.
fn two_cpus() -> Option<[u16; 2]> {
    let cpus: Vec<u16> = cpu::allowed().unwrap().into_iter().map(|cpu| cpu as u16).collect();
    match cpus[..] {
        [a, b, ..] => Some([a, b]),
        _ => {
            skipped("one CPU is too few for two shards");
            None
        }
    }
}

/// A target with a shard on each of these CPUs, and its status, if the kernel lets it steer.
fn steered(cpus: [u16; 2]) -> Option<(Target, Value)> {
    let cores = format!("{},{}", cpus[0], cpus[1]);
    let flags = ["--cores", &cores, "--drain-timeout", "1s", "--listen", "127.0.0.1:0"];
    let target = Target::start_with(&["data=disk.img"], &flags);
    let status = target.status_value();
    let steering = &status["steering"];
    if steering["step"] != "reuseport-by-cpu" {
        assert!(steering["reason"].as_str().unwrap().contains("CAP_BPF"), "{steering}");
        skipped(&steering.to_string());
        return None;
    }
    Some((target, status))
}

/// Logs in from one CPU.
fn login(address: &str, cpu: u16, number: u8) -> Raw {
    let address = address.to_owned();
    let login = move || {
        cpu::pin_current_thread(usize::from(cpu)).unwrap();
        let initiator = format!("iqn.2026-11.test:cpu-{cpu}-{number}");
        Raw::login(&address, &initiator, "data", number).map_err(|status| format!("refused: {status:#06x}"))
    };
    std::thread::spawn(login).join().unwrap().unwrap()
}

/// The shards of the sessions of initiators whose name holds `part`.
fn shards(target: &Target, part: &str) -> Vec<u64> {
    let status = target.status_value();
    let sessions = status["sessions"].as_array().unwrap().iter();
    let sessions = sessions.filter(|session| session["initiator"].as_str().unwrap().contains(part));
    sessions.map(|session| session["shard"].as_u64().unwrap()).collect()
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn sessions_live_on_the_shard_of_their_clients_cpu() {
    let Some([a, b]) = two_cpus() else { return };
    // Shard 0 is on the second CPU, so that a mix-up of cores and shards shows.
    let Some((target, status)) = steered([b, a]) else { return };
    assert_eq!(status["steering"]["reason"], "");
    let portals: Vec<&str> = status["listen"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(portals.len(), 2);
    // By turns: where one shard is ahead of the others, the registrar hands a login over.
    let pair = |n: u8| [a, b].map(|cpu| login(portals[usize::from(n % 2)], cpu, n));
    let sessions: Vec<[Raw; 2]> = (0..LOGINS).map(pair).collect();
    for (cpu, shard) in [(a, 1), (b, 0)] {
        assert_eq!(shards(&target, &format!("cpu-{cpu}-")), vec![shard; usize::from(LOGINS)]);
    }
    let status = target.status_value();
    for (at, address) in portals.iter().enumerate() {
        let portal = &status["steering"]["portals"][at];
        assert_eq!(portal["address"], *address);
        assert_eq!(portal["by_cpu"], u64::from(LOGINS), "{portal}");
        assert_eq!((&portal["by_hash"], &portal["by_kernel"]), (&0.into(), &0.into()));
    }
    let text = target.ask(&["status"]).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("steering: reuseport-by-cpu (100 connections to the shard of their CPU, 0 elsewhere)"),
        "{text}"
    );
    drop(sessions);
    target.stop();
}

#[test]
fn a_real_initiator_pinned_by_taskset_lands_on_that_shard() {
    let Some([a, b]) = two_cpus() else { return };
    if !have("taskset") || !have("qemu-io") {
        return;
    }
    let Some((target, _)) = steered([a, b]) else { return };
    for (cpu, shard) in [(a, 0), (b, 1)] {
        for _ in 0..3 {
            let holder = Holder::open_on(cpu, &target.url("data"));
            eventually("qemu-io does not log in", || shards(&target, "iqn").len() == 1);
            assert_eq!(shards(&target, "iqn"), [shard], "CPU {cpu}");
            drop(holder);
            eventually("its session does not end", || shards(&target, "").is_empty());
        }
    }
    target.stop();
}

#[test]
fn nothing_stays_attached_when_it_is_gone() {
    let Some(cpus) = two_cpus() else { return };
    for signal in ["TERM", "KILL"] {
        let Some((mut target, status)) = steered(cpus) else { return };
        let program = status["steering"]["portals"][0]["program"].as_u64().unwrap() as u32;
        match is_loaded(program) {
            Ok(loaded) => assert!(loaded, "program {program}"),
            Err(error) => return skipped(&error.to_string()),
        }
        let _session = login(target.address(), cpus[0], 0);
        target.signal(signal);
        target.wait();
        eventually("the program outlived its process", || !is_loaded(program).unwrap());
    }
}

#[test]
fn without_capabilities_it_serves_by_plain_reuseport_and_says_so() {
    let Some([a, b]) = two_cpus() else { return };
    let cores = format!("{a},{b}");
    let target = Target::start_without_capabilities(&["data=disk.img"], &["--cores", &cores]);
    let status = target.status_value();
    let steering = &status["steering"];
    assert_eq!(steering["step"], "plain-reuseport");
    let reason = steering["reason"].as_str().unwrap();
    assert!(reason.contains("Operation not permitted") && reason.contains("CAP_BPF"), "{reason}");
    assert_eq!(steering["portals"], Value::Array(vec![]));
    let log = target.log();
    assert!(log.contains("steering: plain reuseport") && log.contains("Operation not permitted"), "{log}");
    let text = String::from_utf8(target.ask(&["status"]).stdout).unwrap();
    assert!(text.contains("steering: plain reuseport: ") && text.contains("CAP_BPF"), "{text}");
    let sessions: Vec<Raw> = (0..LOGINS).map(|n| login(target.address(), a, n)).collect();
    assert_eq!(shards(&target, "cpu-").len(), usize::from(LOGINS));
    drop(sessions);
    target.stop();
}

#[test]
fn what_was_asked_for_is_what_there_is() {
    let Some([a, b]) = two_cpus() else { return };
    let cores = format!("{a},{b}");
    let target = Target::start_with(&["data=disk.img"], &["--cores", &cores, "--steering", "plain"]);
    let steering = target.status_value()["steering"].clone();
    assert_eq!(
        (&steering["step"], &steering["reason"]),
        (&"plain-reuseport".into(), &"it was asked for".into())
    );
    target.stop();
    let target = Target::start_with(&["data=disk.img"], &["--cores", &a.to_string(), "--steering", "cpu"]);
    assert_eq!(target.status_value()["steering"]["step"], "one-shard");
    target.stop();
}

#[test]
fn by_cpu_or_not_at_all() {
    let Some([a, b]) = two_cpus() else { return };
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk.img");
    std::fs::write(&image, [0; 4096]).unwrap();
    let output = std::process::Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"])
        .arg(stampede().get_program())
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--cores",
            &format!("{a},{b}"),
            "--steering",
            "cpu",
            "--state-dir",
        ])
        .arg(folder.path().join("state"))
        .args(["--target", &format!("data={}", image.display())])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("Operation not permitted") && text.contains("CAP_BPF") && text.contains("auto"),
        "{text}"
    );
}
