//! Nonsense is refused with a sentence and the right exit code: 2 for the command line, 1 for the target and the unit.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail their test")]

mod target;

use std::net::TcpListener;
use std::process::{Command, Output};
use target::{Config, NAME, Target};

fn storm(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_storm")).args(arguments).output().unwrap()
}

/// Runs storm and checks its exit code and that each of `says` is in what it says.
#[track_caller]
fn refuses(arguments: &[&str], code: i32, says: &[&str]) {
    let output = storm(arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    for part in says {
        assert!(text.contains(part), "{arguments:?}: `{part}` is not in: {text}");
    }
    assert!(output.stdout.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_command_line() {
    let url = format!("iscsi://127.0.0.1:1/{NAME}/0");
    let cases: [(&[&str], &[&str]); 16] = [
        (&["rand", "--bs", "4q"], &["`q` in `4q` is no unit"]),
        (&["rand", "--bs", "0"], &["not possible"]),
        (&["rand", "--sessions", "0"], &["--sessions"]),
        (&["rand", "--depth", "0"], &["--depth"]),
        (&["rand", "--secs", "0"], &["--secs"]),
        (&["rand", "--read", "101"], &["--read"]),
        (&["rand", "--zipf", "0"], &["--zipf"]),
        (&["rand", "--region", "1m-4k"], &["empty"]),
        (&["rand", "--cores", "x"], &["no list of cores"]),
        (&["rand", "--cores", "4000"], &["core 4000 is not available"]),
        (&["rand", "--secs", "1", "--ops", "5"], &["cannot be used with"]),
        (&["rand", "--plot", "x.png"], &[".svg"]),
        (&["rand", "--watch-pid", "4194304"], &["--watch-pid: there is no process 4194304"]),
        (&["rand", "--initiator-name", "me"], &["no initiator name"]),
        (&["seq", "--zipf", "0.9"], &["--zipf is for rand and mix"]),
        (&["idle", "--plot", "x.svg"], &["leave --plot out"]),
    ];
    for (arguments, says) in cases {
        refuses(&[arguments, &[&url]].concat(), 2, says);
    }
    refuses(&["rand", "iscsi://127.0.0.1/nonsense/0"], 2, &["no legal target name"]);
    refuses(&["rand"], 2, &["<URL>"]);
}

#[test]
fn writing_wants_destroy() {
    let target = Target::start(Config::default());
    let url = target.url(0);
    for mode in ["rand", "seq", "mix"] {
        refuses(&[mode, "--read", "99", &url], 2, &["give --destroy"]);
    }
    refuses(&["mix", &url], 2, &["70% reads", "--destroy"]);
    assert_eq!(target.commands(), 0, "nothing was asked of the target");
}

#[test]
fn a_portal_that_is_not_there() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("iscsi://{free}/{NAME}/0");
    for mode in ["rand", "login", "idle"] {
        refuses(&[mode, &url], 1, &["nothing listens on", "start the target"]);
    }
    let url = format!("iscsi://no-such-host.invalid/{NAME}/0");
    refuses(&["rand", &url], 1, &["no-such-host.invalid", "Check the name"]);
}

#[test]
fn a_portal_that_says_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("iscsi://{}/{NAME}/0", silent.local_addr().unwrap());
    refuses(&["rand", "--login-timeout", "1", &url], 1, &["no login at", "--login-timeout"]);
}

#[test]
fn a_target_that_is_not_known() {
    let target = Target::start(Config::default());
    let url = format!("iscsi://{}/iqn.2026-11.io.stampede:other/0", target.address);
    refuses(&["rand", &url], 1, &["does not know iqn.2026-11.io.stampede:other", "check the name"]);
}

#[test]
fn a_unit_that_is_not_there() {
    let target = Target::start(Config::default());
    refuses(&["rand", &target.url(7)], 1, &["has no LUN 7", "these LUNs: 0"]);
}

#[test]
fn a_unit_that_is_too_small() {
    let target = Target::start(Config::default());
    let url = target.url(0);
    refuses(&["rand", "--region", "0-1g", &url], 1, &["the unit at 4194304", "larger unit"]);
    refuses(&["rand", "--region", "100-1m", &url], 1, &["not aligned"]);
    refuses(&["seq", "--bs", "1m", "--sessions", "5", &url], 1, &["too small", "fewer --sessions"]);
    refuses(&["rand", "--bs", "1000", &url], 1, &["no multiple"]);
}

#[test]
fn a_unit_that_is_in_use() {
    let target = Target::start(Config { keys: 2, ..Config::default() });
    let url = target.url(0);
    refuses(&["rand", &url], 1, &["2 persistent reservation keys", "--destroy"]);
    let output = storm(&["rand", "--secs", "0.1", "--warmup", "0", "--destroy", "--quiet", &url]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let target = Target::start(Config { is_reserved: true, ..Config::default() });
    refuses(&["rand", &target.url(0)], 1, &["RESERVATION CONFLICT", "Choose another"]);
}

#[test]
fn a_unit_that_takes_no_writes() {
    let target = Target::start(Config { is_read_only: true, ..Config::default() });
    refuses(&["rand", "--read", "0", "--destroy", &target.url(0)], 1, &["read-only"]);
}

#[test]
fn digests_that_the_target_does_not_take() {
    let target = Target::start(Config::default());
    refuses(&["rand", "--data-digest", &target.url(0)], 1, &["does not take DataDigest=CRC32C"]);
}

#[test]
fn a_file_that_cannot_be_written() {
    let target = Target::start(Config::default());
    let arguments =
        ["rand", "--secs", "0.1", "--warmup", "0", "--quiet", "--json", "/nowhere/x.json", &target.url(0)];
    refuses(&arguments, 1, &["/nowhere/x.json"]);
}
