//! QEMU and we honour each other's locks.
//!
//! A file of its own: a child between fork and exec has our descriptors, and with them our locks, which would
//! disturb tests of locks in the same process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the whole file is tests")]

use stampede_ring::file::{Access, open};
use std::path::Path;

fn write(folder: &Path, name: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, vec![0xa5; 1 << 20]).unwrap();
    path
}

/// Runs `qemu-img`; `None` where it is not installed.
fn qemu_img(arguments: &[&std::ffi::OsStr]) -> Option<std::process::Output> {
    match std::process::Command::new("qemu-img").args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn qemu_reads_a_golden_in_use_and_does_not_write_it() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = write(folder.path(), "golden.img");
    let source = write(folder.path(), "source.img");
    let copy = folder.path().join("copy.img");
    let convert = |flags: &str, from: &Path, to: &Path| {
        qemu_img(&[
            "convert".as_ref(),
            flags.as_ref(),
            "raw".as_ref(),
            "-O".as_ref(),
            "raw".as_ref(),
            from.as_ref(),
            to.as_ref(),
        ])
    };
    let golden = open(&path, Access::ReadOnly).unwrap();
    let Some(read) = convert("-f", &path, &copy) else {
        eprintln!("qemu-img is not installed: nothing was tried");
        return;
    };
    assert!(read.status.success(), "{read:?}");
    let written = convert("-nf", &source, &path).unwrap();
    assert!(!written.status.success());
    assert!(String::from_utf8_lossy(&written.stderr).contains("lock"), "{written:?}");
    drop(golden);

    let writer = open(&path, Access::ReadWrite).unwrap();
    let read = convert("-f", &path, &copy).unwrap();
    assert!(!read.status.success());
    assert!(String::from_utf8_lossy(&read.stderr).contains("lock"), "{read:?}");
    drop(writer);
    assert!(convert("-nf", &source, &path).unwrap().status.success());
}
