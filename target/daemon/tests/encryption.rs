//! Encrypted units: what lies on the disk, what a slip in the configuration costs, and the end of a key.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod common;
#[path = "common/raw.rs"]
mod raw;

use common::Target;
use raw::{Raw, transfer_10};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const SECRET: &[u8; 16] = b"nobody sees this";
const CRYPTOGRAPHIC_ERASE: u8 = 3;
const IMMED: u8 = 0x80;

fn host(target: &Target, isid: u8) -> Raw {
    let mut host = Raw::login(target.address(), "iqn.2026-11.example:h", "data", isid).unwrap();
    // A new nexus hears of itself, and of a sanitize operation until that is over.
    let deadline = Instant::now() + Duration::from_secs(20);
    while host.run([0; 16], &[], 0).0 != 0 {
        assert!(Instant::now() < deadline, "it never becomes ready");
    }
    host
}

fn read(host: &mut Raw) -> Vec<u8> {
    let (status, data) = host.run(transfer_10(0x28, 8, 8), &[], 4096);
    assert_eq!(status, 0);
    data
}

fn write(host: &mut Raw, bytes: &[u8]) {
    assert_eq!(host.run(transfer_10(0x2a, 8, 8), bytes, 0).0, 0);
}

fn sanitize(flags_and_action: u8) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (0x48, flags_and_action);
    cdb
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

fn key_file(target: &Target) -> PathBuf {
    let mut keys = fs::read_dir(target.folder().join("state/keys")).unwrap();
    let path = keys.next().unwrap().unwrap().path();
    assert!(keys.next().is_none(), "one key, and nothing beside it");
    path
}

fn key(target: &Target) -> String {
    let text = fs::read_to_string(key_file(target)).unwrap();
    let line = text.lines().find(|line| line.starts_with("key = ")).unwrap();
    line.trim_start_matches("key = ").trim_matches('"').to_owned()
}

#[test]
fn the_disk_tells_nothing_and_with_its_key_goes_everything() {
    let mut target = Target::start(&["data=disk.img,thin,encryption=aes-xts"]);
    let plain = SECRET.repeat(256);
    let mut one = host(&target, 1);
    assert!(read(&mut one).iter().all(|byte| *byte == 0), "an empty image is an empty disk");
    write(&mut one, &plain);
    assert!(read(&mut one) == plain);
    let image = fs::read(target.folder().join("disk.img")).unwrap();
    assert!(image.iter().any(|byte| *byte != 0) && !contains(&image, SECRET));
    target.kill_and_restart(&[]);
    let mut one = host(&target, 1);
    assert!(read(&mut one) == plain);

    let status = target.status_value();
    assert_eq!(status["targets"][0]["luns"][0]["encrypted"], true);
    let list = String::from_utf8(target.ask(&["lun", "list"]).stdout).unwrap();
    assert!(list.contains("disk, encrypted"), "{list}");
    let old = key(&target);
    for shown in [status.to_string(), list, target.log()] {
        assert!(!shown.contains(&old[..16]), "the key is shown");
    }

    assert_eq!(one.run(sanitize(CRYPTOGRAPHIC_ERASE), &[], 0).0, 0);
    assert_ne!(key(&target), old);
    assert!(read(&mut one).iter().all(|byte| *byte == 0));
    write(&mut one, &plain);
    // Killed in the midst of it, or before or after.
    for wait_us in [0, 200, 1_000, 3_000, 10_000] {
        let before = key(&target);
        assert_eq!(one.run(sanitize(IMMED | CRYPTOGRAPHIC_ERASE), &[], 0).0, 0);
        std::thread::sleep(Duration::from_micros(wait_us));
        target.kill_and_restart(&[]);
        one = host(&target, 1);
        assert!(key(&target) != before, "a sanitize operation that was answered is done");
        assert!(read(&mut one) != plain);
        write(&mut one, &plain);
        assert!(read(&mut one) == plain);
    }
    target.stop();
}

#[test]
fn an_encrypted_image_is_not_served_as_a_plain_one() {
    let mut target = Target::start(&["data=disk.img,encryption=aes-xts"]);
    let mut one = host(&target, 1);
    write(&mut one, &[7; 4096]);
    drop(one);
    let (path, state) = (target.folder().join("disk.img"), target.folder().join("state"));
    target.signal("TERM");
    assert!(target.wait().success());
    let start = |options: &str| {
        let output = common::stampede()
            .args(["serve", "--listen", &common::free_address(), "--state-dir"])
            .arg(&state)
            .arg("--control")
            .arg(target.folder().join("control"))
            .arg("--target")
            .arg(format!("data={}{options}", path.display()))
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    for (options, why) in [
        ("", "its image is encrypted"),
        (",clone=ephemeral", "make clones of a plain image"),
        (",encryption=aes-xts,block-size=4K", "give block-size=512"),
    ] {
        let error = start(options);
        assert!(error.contains(why) && error.contains("target `data`"), "{error}");
    }
    fs::remove_dir_all(state.join("keys")).unwrap();
    let error = start(",encryption=aes-xts");
    assert!(error.contains("there is data in"), "{error}");
}
