//! Real initiators against a running target: libiscsi's tools and QEMU's block driver.
//!
//! A tool that is not installed skips its test with a loud message; with STAMPEDE_TESTS_STRICT set it fails it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod common;

use common::{Holder, Target, have};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Every tool can hang against a target that does not behave: then `timeout` ends it.
fn client(arguments: &[&str]) -> Output {
    Command::new("timeout").arg("60").args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Expects that it works, and gives back what it printed.
fn works(arguments: &[&str]) -> String {
    let output = client(arguments);
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {}: {text}", output.status);
    text
}

#[test]
fn libiscsi_tools_see_the_disks() {
    if !have("iscsi-ls") {
        return;
    }
    let target = Target::start(&["data=disk.img", "os=golden.img,clone=ephemeral", "ro=other.img,ro"]);
    let list = works(&["iscsi-ls", "-s", &format!("iscsi://{}", target.address())]);
    for name in ["data", "os", "ro"] {
        assert!(
            list.contains(&format!("iqn.2026-11.io.stampede:{name} Portal:{}", target.address())),
            "{list}"
        );
    }
    assert_eq!(list.matches("DIRECT_ACCESS").count(), 3, "{list}");
    let inquiry = works(&["iscsi-inq", &target.url("data")]);
    assert!(inquiry.contains("STAMPEDE"), "{inquiry}");
    assert!(works(&["iscsi-inq", &target.url("os")]).contains("GOLDEN CLONE"));
    assert!(works(&["iscsi-readcapacity16", &target.url("data")]).contains("Total size:67108864"));
    assert!(works(&["iscsi-swp", &target.url("data")]).contains("SWP:0"));
    target.stop();
}

#[test]
fn an_image_goes_in_and_comes_out_unchanged() {
    if !have("qemu-img") {
        return;
    }
    let target = Target::start(&["data=disk.img"]);
    let source = target.folder().join("source.img");
    let content: Vec<u8> = (0..4u32 << 20).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    fs::write(&source, &content).unwrap();
    fs::OpenOptions::new().write(true).open(&source).unwrap().set_len(64 << 20).unwrap();
    let (source, back) = (source.to_str().unwrap().to_owned(), target.folder().join("back.img"));
    let url = target.url("data");
    works(&["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", &source, &url]);
    assert!(works(&["qemu-img", "compare", "-f", "raw", "-F", "raw", &source, &url]).contains("identical"));
    works(&["qemu-img", "convert", "-f", "raw", "-O", "raw", &url, back.to_str().unwrap()]);
    assert_eq!(fs::read(&source).unwrap(), fs::read(&back).unwrap());
    let status = target.status_value();
    let traffic = &status["targets"][0]["luns"][0]["traffic"];
    assert!(traffic["written_bytes"].as_u64().unwrap() >= 16 << 20, "{traffic}");
    assert_eq!(traffic["failed"], 0);
    let disk = fs::File::open(target.folder().join("disk.img")).unwrap();
    let source = fs::read(&source).unwrap();
    target.stop();
    let mut written = Vec::new();
    (&disk).read_to_end(&mut written).unwrap();
    assert!(written == source, "what is in the file after the stop is not what was written");
}

#[test]
fn a_clone_takes_writes_and_the_golden_stays() {
    if !have("qemu-img") {
        return;
    }
    let target = Target::start(&["os=golden.img,clone=ephemeral"]);
    let golden = target.folder().join("golden.img");
    let before = fs::read(&golden).unwrap();
    let url = target.url("os");
    assert!(
        works(&["qemu-img", "compare", "-f", "raw", "-F", "raw", golden.to_str().unwrap(), &url])
            .contains("identical")
    );
    if have("qemu-io") {
        let said =
            works(&["qemu-io", "-f", "raw", "-c", "write -P 0xa5 1M 64k", "-c", "read -P 0xa5 1M 64k", &url]);
        assert!(!said.contains("verification failed"), "{said}");
    }
    assert_eq!(fs::read(&golden).unwrap(), before);
    target.stop();
}

#[test]
fn garbage_and_silence_disturb_nobody() {
    let target = Target::start_with(&["data=disk.img"], &["--login-timeout", "1s"]);
    let mut garbage = TcpStream::connect(target.address()).unwrap();
    garbage.write_all(&[0xff; 4096]).unwrap();
    let mut half = TcpStream::connect(target.address()).unwrap();
    half.write_all(&[0x43, 0x81, 0, 0, 0, 0xff, 0xff, 0xff, 0, 0]).unwrap();
    let silent = TcpStream::connect(target.address()).unwrap();
    let began = Instant::now();
    for mut stream in [garbage, half, silent] {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // A reset is as good an end as a FIN.
        let end = stream.read(&mut [0; 4096]);
        assert!(!matches!(&end, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock), "still open");
    }
    assert!(began.elapsed() < Duration::from_secs(8));
    if have("iscsi-inq") {
        assert!(works(&["iscsi-inq", &target.url("data")]).contains("DIRECT_ACCESS"));
    }
    target.stop();
}

#[test]
fn kill_9_keeps_what_was_flushed_and_refuses_a_lost_clone() {
    if !have("qemu-io") {
        return;
    }
    let mut target = Target::start(&["data=disk.img", "os=golden.img,clone=ephemeral"]);
    let url = target.url("data");
    works(&["qemu-io", "-f", "raw", "-c", "write -P 0x5a 2M 1M", "-c", "flush", &url]);
    // A session that never logs out: its epoch is on record when the target dies.
    let holder = Holder::open(&target.url("os"));
    wait_attached(&target);
    target.kill_and_restart(&[]);
    drop(holder);
    assert_eq!(target.status_value()["clones"][0]["state"], "lost");
    let said = works(&["qemu-io", "-f", "raw", "-c", "read -P 0x5a 2M 1M", &url]);
    assert!(!said.contains("verification failed"), "{said}");
    let refused = client(&["qemu-img", "info", &target.url("os")]);
    assert!(!refused.status.success(), "a running system got a blank disk");
    let initiator = target.status_value()["clones"][0]["initiator"].as_str().unwrap().to_owned();
    let reset = target.ask(&["clone", "reset", &initiator]);
    assert!(reset.status.success(), "{}", String::from_utf8_lossy(&reset.stderr));
    works(&["qemu-img", "info", &target.url("os")]);
    target.stop();
}

/// Waits until some clone is in use.
fn wait_attached(target: &Target) {
    let attached = || {
        let status = target.status_value();
        status["clones"].as_array().unwrap().iter().any(|clone| clone["state"] == "attached")
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !attached() {
        assert!(Instant::now() < deadline, "{}", target.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn two_machines_of_one_name_do_not_share_a_clone() {
    if !have("qemu-io") {
        return;
    }
    let target = Target::start(&["os=golden.img,clone=ephemeral"]);
    let _first = Holder::open(&target.url("os"));
    wait_attached(&target);
    let second = client(&["qemu-img", "info", &target.url("os")]);
    assert!(!second.status.success());
    let status = target.status_value();
    assert_eq!(status["clones"][0]["state"], "attached");
    assert!(status["alerts"][0]["text"].as_str().unwrap().contains("two machines"), "{}", status["alerts"]);
    let initiator = status["clones"][0]["initiator"].as_str().unwrap();
    let reset = target.ask(&["clone", "reset", initiator]);
    assert_eq!(reset.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&reset.stdout).contains("shut that machine down first"));
    let list = String::from_utf8(target.ask(&["clone", "list"]).stdout).unwrap();
    assert!(list.contains(initiator) && list.contains("attached"), "{list}");
}

#[test]
fn a_full_arena_fails_its_writer_alone() {
    if !have("qemu-io") {
        return;
    }
    let target = Target::start_with(&["os=golden.img,clone=ephemeral", "data=disk.img"], &["--arena", "1M"]);
    let golden = fs::read(target.folder().join("golden.img")).unwrap();
    let url = target.url("os");
    let full = client(&["qemu-io", "-f", "raw", "-c", "write -P 1 0 4M", "-c", "read 32M 1M", &url]);
    let said = format!("{}{}", String::from_utf8_lossy(&full.stdout), String::from_utf8_lossy(&full.stderr));
    assert!(said.contains("write failed: No space left on device"), "{said}");
    assert!(said.contains("read 1048576/1048576"), "reads go on: {said}");
    let said = works(&["qemu-io", "-f", "raw", "-c", "write -P 2 0 4M", &target.url("data")]);
    assert!(said.contains("wrote 4194304/4194304"), "{said}");
    assert!(fs::read(target.folder().join("golden.img")).unwrap() == golden);
    target.stop();
}

#[test]
fn a_lun_is_reached_from_another_shard() {
    let cores = std::thread::available_parallelism().unwrap().get();
    if !have("qemu-img") || cores < 2 {
        return;
    }
    let target = Target::start_with(&["a=disk.img", "b=golden.img,ro"], &["--cores", "0-1"]);
    let golden = target.folder().join("golden.img").to_str().unwrap().to_owned();
    // Connections land on either shard: some of these cross from one to the other.
    for _ in 0..8 {
        works(&["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", &golden, &target.url("a")]);
        for name in ["a", "b"] {
            let said = works(&["qemu-img", "compare", "-f", "raw", "-F", "raw", &golden, &target.url(name)]);
            assert!(said.contains("identical"), "{said}");
        }
        let status = target.status_value();
        let forwarded = |shard: &serde_json::Value| shard["counters"]["forwarded"].as_u64().unwrap();
        if status["shards"].as_array().unwrap().iter().any(|shard| forwarded(shard) > 0) {
            return target.stop();
        }
    }
    panic!("no command was ever forwarded");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut target = Target::start(&["data=disk.img"]);
    // A client that neither logs out nor goes holds the drain up until its limit.
    let _held = TcpStream::connect(target.address()).unwrap();
    target.signal("TERM");
    std::thread::sleep(Duration::from_millis(300));
    target.signal("TERM");
    let began = Instant::now();
    target.wait();
    assert!(began.elapsed() < Duration::from_secs(3));
}
