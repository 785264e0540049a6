//! `stampede topology` on this machine and on sample machines.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod common;
#[path = "../../steer/tests/machine/mod.rs"]
mod machine;

use common::stampede;
use machine::Machine;
use std::path::Path;
use std::process::Output;

fn topology(root: &Path, arguments: &[&str]) -> Output {
    stampede().arg("topology").arg("--sysroot").arg(root).args(arguments).output().unwrap()
}

fn text(root: &Path, arguments: &[&str]) -> String {
    let output = topology(root, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The words of the first line that begins with these.
fn row(text: &str, begin: &[&str]) -> Vec<String> {
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line =
        lines.find(|words| words.starts_with(begin)).unwrap_or_else(|| panic!("no {begin:?} in {text}"));
    line[begin.len()..].iter().map(ToString::to_string).collect()
}

#[test]
fn people_see_what_is_there_and_what_goes_where() {
    let machine = Machine::sample("two-by-two");
    let shown = text(machine.root(), &["--listen", "192.0.2.10:3260", "--cores", "numa2,0"]);
    assert!(shown.starts_with("2 sockets, 4 NUMA nodes, 16 cores, 32 CPUs online\n"), "{shown}");
    assert_eq!(row(&shown, &["2", "64.0", "GiB"]), ["8-11,24-27", "eth0", "32", "32", "10", "12"]);
    assert_eq!(row(&shown, &["1", "2", "9", "9,25"]), ["shard", "1", "on", "9"]);
    assert_eq!(row(&shown, &["eth0", "2", "up"]), ["mlx5_core", "8", "8", "bond0", "bond0.7"]);
    assert_eq!(
        row(&shown, &["102", "eth0", "rx+tx", "1"]),
        ["mlx5_comp1@pci:0000:81:00.0", "0-31", "9", "1", "9"],
        "queue 1 interrupts CPU 9, where shard 1 is"
    );
    assert!(shown.contains("listening on 192.0.2.10:3260: by way of eth0"), "{shown}");
    assert!(shown.contains("numa2: first usable thread of its core, on the node of eth0"), "{shown}");
    assert_eq!(row(&shown, &["4", "0", "0", "0"]), ["listed"], "shard 4 on CPU 0");
    assert_eq!(row(&shown, &["control", "1"]).join(" "), "the first core without a shard");
    assert!(shown.contains("warning: shards 4 are not on node 2"), "{shown}");
}

#[test]
fn scripts_get_json() {
    let machine = Machine::sample("cpuset-3");
    let shown = text(machine.root(), &["--listen", "192.0.2.10:3260", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(value["topology"]["limits"]["cpuset"], "5-6,13");
    assert_eq!(value["topology"]["cpus"][0]["state"], "outside-cpuset");
    assert_eq!(value["topology"]["nics"][0]["interrupts"][1]["queue"]["number"], 1);
    assert_eq!(value["placement"]["shards"][0]["core"], 6);
    assert_eq!(value["placement"]["control"]["core"], 5);
    assert_eq!(value["placement"]["warnings"][0]["kind"], "far-from-nic");
}

#[test]
fn what_cannot_be_is_refused_after_the_machine_is_shown() {
    let machine = Machine::sample("offline");
    let output = topology(machine.root(), &["--cores", "8"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stdout).contains("isolated: used when listed: 6,14"));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("cores: CPU 8 is offline: bring it up"), "{error}");
    let output = topology(machine.root(), &["--cores", "8", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(value["placement"].is_null() && value["topology"]["cpus"].is_array());
    let empty = tempfile::tempdir().unwrap();
    let error = topology(empty.path(), &[]);
    assert_eq!(error.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&error.stderr).contains("mount /sys and /proc there"));
}

#[test]
fn a_file_says_the_same_as_flags_and_this_machine_can_be_shown() {
    let machine = Machine::sample("big-128");
    let file = machine.root().join("s.toml");
    std::fs::write(&file, "cores = 'numa1'\nnuma = '1'\nlisten = ['192.0.2.1:3260']\n").unwrap();
    let from_file = text(machine.root(), &["--config", file.to_str().unwrap()]);
    let flags = ["--cores", "numa1", "--numa", "1", "--listen", "192.0.2.1:3260"];
    assert_eq!(from_file, text(machine.root(), &flags));
    assert!(from_file.contains("shard 63 on 127"), "{from_file}");
    assert!(text(Path::new("/"), &[]).contains("control"));
}
