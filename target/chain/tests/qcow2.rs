//! QCOW2 images and chains of them, beside qemu-img: what it makes is read here, and the other way round.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;
use std::process::Command;

use common::{Folder, Libraries, child, child_of, open, pattern, plain};
use stampede_chain::{Comparison, ConvertOptions, SegmentKind, compare, convert, create};
use stampede_plugin::{Change, Job, Mode, Range, Repair, View};

const SIZE: u64 = 24 << 20;

/// Runs qemu-img, which must succeed. Where it is not installed these tests mean nothing, so it has to be.
fn qemu_img(arguments: &[&str]) -> String {
    let output =
        Command::new("qemu-img").args(arguments).output().expect("qemu-img is installed: scripts/setup");
    assert!(output.status.success(), "qemu-img {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A raw image with data here and there, of `SIZE` bytes.
fn raw(folder: &Folder) -> std::path::PathBuf {
    let path = folder.create("golden.raw", "raw", SIZE);
    let mut chain = open(&path, "raw", Mode::ReadWrite).unwrap();
    for (seed, at) in [0, 3 << 20, (6 << 20) + 512, (7 << 20) - 512, SIZE - 4096].into_iter().enumerate() {
        chain.write(at, &pattern(seed as u64, 4096)).unwrap();
        // Something that can be compressed.
        chain.write(at / 2 / 4096 * 4096 + (9 << 20), &vec![seed as u8 + 1; 200 << 10]).unwrap();
    }
    chain.close().unwrap();
    path
}

fn same(one: (&Path, &str), other: (&Path, &str)) -> bool {
    let mut one = open(one.0, one.1, Mode::ReadOnly).unwrap();
    let mut other = open(other.0, other.1, Mode::ReadOnly).unwrap();
    compare(&mut one, &mut other, &mut |_, _| ()).unwrap() == Comparison::Same
}

/// Our own check finds nothing, and neither does qemu-img's.
fn check(path: &Path) {
    let mut chain = open(path, "qcow2", Mode::ReadOnly).unwrap();
    let report = chain.job(&Libraries, Job::Check(Repair::No), &mut |_, _| ()).unwrap();
    assert_eq!((report.errors, report.leaked_bytes), (vec![], 0));
    drop(chain);
    qemu_img(&["check", "-q", "-f", "qcow2", text(path)]);
}

#[test]
fn what_qemu_img_makes_is_read_compressed_or_not() {
    let folder = Folder::new();
    let golden = raw(&folder);
    let ways: [&[&str]; 6] = [
        &[],
        &["-c"],
        &["-c", "-o", "compression_type=zstd"],
        &["-c", "-o", "cluster_size=2M"],
        &["-o", "compat=0.10,cluster_size=512"],
        &["-o", "extended_l2=on,cluster_size=128k"],
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let path = folder.path(&format!("{number}.qcow2"));
        let arguments = [&["convert", "-O", "qcow2"], way, &[text(&golden), text(&path)]].concat();
        qemu_img(&arguments);
        assert!(same((&golden, "raw"), (&path, "qcow2")), "{way:?}");
        let mut chain = open(&path, "qcow2", Mode::ReadOnly).unwrap();
        let segments = chain.segments(Range { offset: 0, length: SIZE }).unwrap();
        let compressed = segments.iter().any(|segment| segment.kind == SegmentKind::Compressed);
        assert_eq!(compressed, way.contains(&"-c"), "{way:?}");
    }
}

#[test]
fn what_is_made_here_is_read_by_qemu_img() {
    let folder = Folder::new();
    let golden = raw(&folder);
    for (number, options) in [
        vec![],
        vec![("cluster_size", "4096")],
        vec![("compat", "0.10")],
        vec![("extended_l2", "on"), ("cluster_size", "65536")],
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.path(&format!("{number}.qcow2"));
        let options =
            options.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect();
        let create = stampede_chain::CreateOptions { options, ..plain("qcow2", None) };
        let mut source = open(&golden, "raw", Mode::ReadOnly).unwrap();
        convert(
            &Libraries,
            &mut source,
            &path,
            &ConvertOptions { create, view: View::Active },
            &mut |_, _| (),
        )
        .unwrap();
        drop(source);
        check(&path);
        qemu_img(&["compare", "-q", "-f", "raw", "-F", "qcow2", text(&golden), text(&path)]);
    }
}

#[test]
fn clones_take_writes_zeros_and_unmaps_and_qemu_img_sees_the_same() {
    let folder = Folder::new();
    let golden = raw(&folder);
    for parent_format in ["raw", "qcow2"] {
        let parent = if parent_format == "raw" {
            golden.clone()
        } else {
            let path = folder.path("golden.qcow2");
            qemu_img(&["convert", "-c", "-O", "qcow2", text(&golden), text(&path)]);
            path
        };
        let path = folder.path(&format!("on-{parent_format}.qcow2"));
        create(&Libraries, &path, &child_of(&parent, parent_format, "qcow2")).unwrap();
        let mut expected = std::fs::read(&golden).unwrap();
        let mut chain = open(&path, "qcow2", Mode::ReadWrite).unwrap();
        for (seed, (at, length)) in
            [(512, 512), (3 << 20, 200 << 10), (SIZE - 512, 512), (9 << 20, 4096)].into_iter().enumerate()
        {
            let data = pattern(50 + seed as u64, length as usize);
            chain.write(at, &data).unwrap();
            expected[at as usize..(at + length) as usize].copy_from_slice(&data);
        }
        chain.change(Range { offset: 10 << 20, length: 100 << 10 }, Change::Zero).unwrap();
        expected[10 << 20..(10 << 20) + (100 << 10)].fill(0);
        chain.flush().unwrap();
        chain.change(Range { offset: 6 << 20, length: 1 << 20 }, Change::Unmap).unwrap();
        expected[6 << 20..7 << 20].fill(0);
        let mut read = vec![0; SIZE as usize];
        chain.read(View::Active, 0, &mut read).unwrap();
        assert!(read == expected, "before it is closed");
        chain.close().unwrap();
        check(&path);
        let plain = folder.path("expected.raw");
        std::fs::write(&plain, &expected).unwrap();
        qemu_img(&["compare", "-q", "-f", "raw", "-F", "qcow2", text(&plain), text(&path)]);
        assert!(same((&plain, "raw"), (&path, "qcow2")));
    }
}

#[test]
fn snapshots_are_made_listed_read_applied_and_deleted_and_qemu_img_sees_them() {
    let folder = Folder::new();
    let path = folder.create("a.qcow2", "qcow2", SIZE);
    let job = |job: Job| {
        let mut chain = open(&path, "qcow2", Mode::ReadWrite).unwrap();
        let report = chain.job(&Libraries, job, &mut |_, _| ()).unwrap();
        chain.close().unwrap();
        check(&path);
        report
    };
    let write = |seed: u64| {
        let mut chain = open(&path, "qcow2", Mode::ReadWrite).unwrap();
        chain.write(1 << 20, &pattern(seed, 100 << 10)).unwrap();
        chain.close().unwrap();
        check(&path);
    };
    let read = |view: View| {
        let mut chain = open(&path, "qcow2", Mode::ReadOnly).unwrap();
        let mut bytes = vec![0; 100 << 10];
        chain.read(view, 1 << 20, &mut bytes).unwrap();
        bytes
    };
    write(1);
    job(Job::SnapshotCreate { name: "first".into(), time: 1_700_000_000 });
    write(2);
    assert!(read(View::Active) == pattern(2, 100 << 10) && read(View::Snapshot(0)) == pattern(1, 100 << 10));
    assert!(qemu_img(&["snapshot", "-l", text(&path)]).contains("first"));
    qemu_img(&["snapshot", "-c", "second", text(&path)]);
    let names: Vec<_> = job(Job::SnapshotList).snapshots.into_iter().map(|snapshot| snapshot.name).collect();
    assert_eq!(names, ["first", "second"]);
    job(Job::SnapshotApply { name: "first".into() });
    assert!(read(View::Active) == pattern(1, 100 << 10) && read(View::Snapshot(1)) == pattern(2, 100 << 10));
    job(Job::SnapshotDelete { name: "second".into() });
    job(Job::SnapshotDelete { name: "first".into() });
    assert!(read(View::Active) == pattern(1, 100 << 10));
}

#[test]
fn a_disk_grows_and_a_chain_of_three_is_one_disk() {
    let folder = Folder::new();
    let golden = raw(&folder);
    let (middle, top) = (folder.path("middle.qcow2"), folder.path("top.qcow2"));
    create(&Libraries, &middle, &child_of(&golden, "raw", "qcow2")).unwrap();
    let mut chain = open(&middle, "qcow2", Mode::ReadWrite).unwrap();
    chain.write(4 << 20, &pattern(9, 64 << 10)).unwrap();
    chain.close().unwrap();
    create(&Libraries, &top, &child(&middle, "qcow2")).unwrap();
    let mut chain = open(&top, "qcow2", Mode::ReadWrite).unwrap();
    chain
        .job(&Libraries, Job::Resize { virtual_size: SIZE + (5 << 20), shrink: false }, &mut |_, _| ())
        .unwrap();
    chain.write(SIZE + (1 << 20), &pattern(10, 4096)).unwrap();
    chain.close().unwrap();
    check(&top);
    let mut expected = std::fs::read(&golden).unwrap();
    expected[4 << 20..][..64 << 10].copy_from_slice(&pattern(9, 64 << 10));
    expected.resize((SIZE + (5 << 20)) as usize, 0);
    expected[(SIZE + (1 << 20)) as usize..][..4096].copy_from_slice(&pattern(10, 4096));
    let plain = folder.path("expected.raw");
    std::fs::write(&plain, &expected).unwrap();
    qemu_img(&["compare", "-q", "-f", "raw", "-F", "qcow2", text(&plain), text(&top)]);
    let mut chain = open(&top, "qcow2", Mode::ReadOnly).unwrap();
    assert_eq!(chain.paths().count(), 3);
    let mut read = vec![0; expected.len()];
    chain.read(View::Active, 0, &mut read).unwrap();
    assert!(read == expected);
}
