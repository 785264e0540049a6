//! Opening files: kinds, locks, O_DIRECT, memory, change.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the whole file is tests")]

use stampede_ring::file::{Access, OpenConfig, OpenFileError, open, open_with};
use std::fs;
use std::path::Path;

/// A folder on a real disk (`tempdir` would follow TMPDIR onto a tmpfs on some machines).
fn disk_folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn write(folder: &Path, name: &str, len: usize) -> std::path::PathBuf {
    let path = folder.join(name);
    fs::write(&path, vec![0xa5; len]).unwrap();
    path
}

#[test]
fn a_regular_file_is_described() {
    let folder = disk_folder();
    let path = write(folder.path(), "disk.raw", 64 * 1024);
    let file = open(&path, Access::ReadWrite).unwrap();
    let traits = file.traits();
    assert_eq!(traits.len_bytes, 64 * 1024);
    assert!(traits.writable && !traits.device);
    assert_eq!(traits.direct.is_none(), traits.buffered_reason.is_some() || traits.in_memory);
    assert_eq!(file.path(), path);
    assert_eq!(file.reidentify().unwrap(), traits.identity);
}

#[test]
fn o_direct_is_proved_where_it_is_claimed() {
    let folder = disk_folder();
    let path = write(folder.path(), "disk.raw", 64 * 1024);
    let file = open(&path, Access::ReadOnly).unwrap();
    let flags = rustix::fs::fcntl_getfl(&file).unwrap();
    assert_eq!(flags.contains(rustix::fs::OFlags::DIRECT), file.traits().direct.is_some());
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
    drop(file);
    let config = OpenConfig { direct: false, ..OpenConfig::new(Access::ReadOnly) };
    let file = open_with(&path, config).unwrap();
    assert_eq!(file.traits().direct, None);
    assert_eq!(file.traits().buffered_reason, None);
}

#[test]
fn a_writable_file_with_an_odd_end_is_buffered() {
    let folder = disk_folder();
    let path = write(folder.path(), "odd.raw", 64 * 1024 + 100);
    let file = open(&path, Access::ReadWrite).unwrap();
    assert_eq!(file.traits().direct, None);
}

#[test]
fn a_file_in_memory_is_told() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = open(write(folder.path(), "disk.raw", 4096), Access::ReadOnly).unwrap();
    assert!(file.traits().in_memory);
    assert_eq!(file.traits().direct, None);
}

#[test]
fn other_kinds_are_refused_by_name() {
    let folder = disk_folder();
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let cases: [(&Path, &str); 4] = [
        (folder.path(), "a folder"),
        (&pipe, "a named pipe"),
        (&socket, "a socket"),
        (Path::new("/dev/null"), "a character device"),
    ];
    for (path, expected) in cases {
        for access in [Access::ReadOnly, Access::ReadWrite] {
            let error = open(path, access).unwrap_err();
            assert!(matches!(error, OpenFileError::WrongKind { what, .. } if what == expected), "{error}");
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = open("/nonexistent/golden.img", Access::ReadOnly).unwrap_err();
    assert!(matches!(error, OpenFileError::NotFound { .. }));
    assert!(error.to_string().contains("/nonexistent/golden.img"), "{error}");
}

#[test]
fn readers_share_and_writers_do_not() {
    let folder = disk_folder();
    let path = write(folder.path(), "golden.img", 4096);
    let golden = open(&path, Access::ReadOnly).unwrap();
    let second = open(&path, Access::ReadOnly).unwrap();
    let error = open(&path, Access::ReadWrite).unwrap_err();
    assert!(error.to_string().contains("golden in use"), "{error}");

    // A clone keeps the lock when the first handle goes.
    let clone = golden.try_clone().unwrap();
    drop((golden, second));
    assert!(matches!(open(&path, Access::ReadWrite), Err(OpenFileError::Locked { .. })));
    drop(clone);

    let writer = open(&path, Access::ReadWrite).unwrap();
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let error = open(&path, access).unwrap_err();
        assert!(error.to_string().contains("open for writing"), "{error}");
    }
    let unlocked = OpenConfig { lock: false, ..OpenConfig::new(Access::ReadOnly) };
    open_with(&path, unlocked).unwrap();
    drop(writer);
    open(&path, Access::ReadWrite).unwrap();
}

#[test]
fn a_change_behind_our_back_is_noticed() {
    let folder = disk_folder();
    let path = write(folder.path(), "golden.img", 4096);
    let file = open(&path, Access::ReadOnly).unwrap();
    assert!(!file.replaced());
    fs::write(&path, vec![1; 8192]).unwrap();
    let now = file.reidentify().unwrap();
    assert_ne!(now, file.traits().identity);
    assert!(now.same_file(&file.traits().identity));

    let other = write(folder.path(), "other.img", 4096);
    fs::rename(other, &path).unwrap();
    assert!(file.replaced());
    fs::remove_file(&path).unwrap();
    assert!(file.replaced());
}

#[test]
fn links_are_followed() {
    let folder = disk_folder();
    let path = write(folder.path(), "golden.img", 4096);
    let link = folder.path().join("link.img");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(open(&link, Access::ReadOnly).unwrap().traits().len_bytes, 4096);
}

#[test]
fn a_file_tells_what_it_takes_and_what_is_left() {
    let folder = disk_folder();
    let path = write(folder.path(), "thin.img", 4096);
    let file = open(&path, Access::ReadWrite).unwrap();
    file.lengthen(1 << 30).unwrap();
    let (before, left) = file.space().unwrap().unwrap();
    assert!(before < 1 << 20, "a hole takes nothing: {before}");
    assert!(left > 0);
    file.allocate(8 << 20).unwrap();
    let (after, _) = file.space().unwrap().unwrap();
    assert!(after >= 8 << 20, "{after}");
}
