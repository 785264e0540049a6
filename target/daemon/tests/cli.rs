//! The command line: configuration, errors, exit codes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod common;

use common::{Target, free_address, stampede};
use std::fs;
use std::process::{Output, Stdio};

fn run(arguments: &[&str]) -> Output {
    stampede().args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Runs, expects this exit code, and gives back what was printed as an error.
fn fails(code: i32, arguments: &[&str]) -> String {
    let output = run(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    text
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("good.img", &[0; 4096]);
        folder.write("odd.img", &[0; 1000]);
        folder.write("empty.img", &[]);
        folder
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn target(&self, name: &str, rest: &str) -> String {
        format!("{name}={}/{rest}", self.0.path().display())
    }
}

#[test]
fn print_config_prints_what_check_config_takes() {
    let folder = Folder::new();
    let target = folder.target("os", "good.img,clone=ephemeral,stage=firmware");
    let output = run(&["serve", "--target", &target, "--arena", "2G", "--cores", "0", "--print-config"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("arena = \"2G\"") && text.contains("stage = \"firmware\""), "{text}");
    folder.write("s.toml", text.as_bytes());
    let again = run(&["serve", "--config", &folder.path("s.toml"), "--print-config"]);
    assert_eq!(String::from_utf8(again.stdout).unwrap(), text);
    let check = run(&["serve", "--config", &folder.path("s.toml"), "--check-config"]);
    assert!(check.status.success());
    assert!(String::from_utf8(check.stdout).unwrap().contains("1 targets, 1 images"));
}

#[test]
fn mistakes_are_named_with_what_to_do() {
    let folder = Folder::new();
    folder.write("bad.toml", b"listen = []\n\ncoers = '0'\n");
    let good = folder.target("a", "good.img");
    let clone = folder.target("b", "good.img,clone=ephemeral");
    let twice = folder.target("a", "odd.img");
    for (arguments, says) in [
        (vec![], "nothing to serve"),
        (vec!["--target", "x"], "names no image"),
        (vec!["--target", &good, "--target", &twice], "two targets of one name, `a`"),
        (vec!["--target", &good, "--target", &clone], "copy of the file"),
        (vec!["--target", &folder.target("a", "nothing.img")], "no such file"),
        (vec!["--target", &folder.target("a", "odd.img")], "not a multiple of 512"),
        (vec!["--target", &folder.target("a", "empty.img")], "is empty"),
        (vec!["--target", "a=/"], "a folder"),
        (
            vec!["--target", &good, "--cores", "4095"],
            "cores: this machine has no CPU 4095: choose among CPUs 0",
        ),
        (vec!["--target", &good, "--control-core", "4095"], "control-core: this machine has no CPU 4095"),
        (vec!["--target", &good, "--cores", "numa99"], "no NUMA node 99: its nodes are 0"),
        (vec!["--target", &good, "--numa", "99"], "numa: this machine has no NUMA node 99"),
        (vec!["--config", &folder.path("bad.toml")], "bad.toml:3: unknown field `coers`"),
        (vec!["--config", &folder.path("none.toml")], "cannot read the configuration"),
    ] {
        let mut all = vec!["serve", "--check-config"];
        all.extend(arguments);
        let text = fails(2, &all);
        assert!(text.contains(says), "{all:?}: {text}");
    }
    for (flag, value, says) in [
        ("--arena", "much", "is not a size"),
        ("--cores", "x", "not a list of cores"),
        ("--numa", "x", "not a rule for NUMA nodes"),
        ("--listen", "nowhere", "invalid socket address"),
        ("--login-timeout", "soon", "not a period"),
        ("--log-format", "xml", "text, json"),
    ] {
        let text = fails(2, &["serve", "--target", &good, flag, value]);
        assert!(text.contains(says) && text.contains(flag), "{text}");
    }
    let text = fails(2, &["serve", "--target", &good, "--log", "a=b=c=d"]);
    assert!(text.contains("is not a filter"), "{text}");
}

#[test]
fn no_permission_is_said_so() {
    let folder = Folder::new();
    let text =
        fails(1, &["serve", "--target", &folder.target("a", "good.img"), "--state-dir", "/proc/nothing"]);
    assert!(text.contains("state directory") && text.contains("--state-dir"), "{text}");
}

#[test]
fn a_port_in_use_is_said_so() {
    let folder = Folder::new();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let control = folder.path("c.sock");
    let text = fails(
        1,
        &["serve", "--listen", &address, "--target", &folder.target("a", "good.img"), "--control", &control],
    );
    assert!(text.contains(&address) && text.contains("in use"), "{text}");
}

#[test]
fn nobody_to_ask_is_said_so() {
    let folder = Folder::new();
    for command in [
        &["status"][..],
        &["clone", "list"],
        &["clone", "reset", "iqn.x"],
        &["session", "list"],
        &["session", "move", "7", "--shard", "1"],
        &["session", "rebalance"],
    ] {
        let text = fails(1, &[command, &["--control", &folder.path("c.sock")]].concat());
        assert!(text.contains("Is it running?"), "{text}");
    }
}

#[test]
fn usage_errors_and_help() {
    fails(2, &["frobnicate"]);
    fails(2, &["serve", "--frobnicate"]);
    assert!(fails(2, &["session", "move", "7"]).contains("--shard"));
    assert!(fails(2, &["session", "move", "7", "--shard", "x"]).contains("invalid digit"));
    assert!(String::from_utf8(run(&["--version"]).stdout).unwrap().contains("features:"));
    assert!(String::from_utf8(run(&["serve", "--help"]).stdout).unwrap().contains("--print-config"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(String::from_utf8(run(&["completions", shell]).stdout).unwrap().contains("stampede"));
    }
}

#[test]
fn a_second_instance_is_kept_from_state_and_image() {
    let first = Target::start(&["data=disk.img"]);
    let state = first.folder().join("state");
    let image = format!("b={}", first.folder().join("disk.img").display());
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("o.img"), [0; 4096]).unwrap();
    let own = format!("b={}", other.path().join("o.img").display());
    let serve = |target: &str, state: &str| {
        fails_any(&["serve", "--listen", &free_address(), "--target", target, "--state-dir", state])
    };
    assert!(serve(&own, state.to_str().unwrap()).contains("in use by another stampede"));
    assert!(serve(&image, other.path().join("s").to_str().unwrap()).contains("open for writing"));
    assert!(first.status().contains("\"version\""));
    first.stop();
}

#[test]
fn systemd_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify.sock");
    let notify = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    notify.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let next = || {
        let mut text = [0; 256];
        let count = notify.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..count]).trim().to_owned()
    };
    let target = Target::start_in(tempfile::tempdir().unwrap(), &["data=disk.img"], &[], Some(&path));
    let said = next();
    assert!(said.starts_with("READY=1\nSTATUS=serving 1 targets on "), "{said}");
    target.stop();
    assert_eq!(next(), "STOPPING=1");
}

#[test]
fn print_config_without_targets_is_a_template() {
    let output = run(&["serve", "--print-config"]);
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("# [[target]]"));
}

fn fails_any(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}
