//! VHD images and chains of them, beside qemu-img where it is installed.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;
use std::process::Command;

use common::{Folder, Libraries, child, open, options, pattern, plain};
use stampede_chain::{Chain, Comparison, ConvertOptions, Roots, SegmentKind, compare, convert, create};
use stampede_plugin::{Change, Job, Mode, ParentHint, ParentRef, Range, Repair, View};

const SIZE: u64 = 16 << 20;

/// A raw image with data here and there, of `SIZE` bytes.
fn raw(folder: &Folder) -> std::path::PathBuf {
    let path = folder.create("golden.raw", "raw", SIZE);
    let mut chain = open(&path, "raw", Mode::ReadWrite).unwrap();
    for (seed, at) in [0, 3 << 20, (6 << 20) + 512, SIZE - 4096].into_iter().enumerate() {
        chain.write(at, &pattern(seed as u64, 4096)).unwrap();
    }
    chain.close().unwrap();
    path
}

fn converted(folder: &Folder, source: &Path, name: &str, format: &str) -> std::path::PathBuf {
    let target = folder.path(name);
    let from = if source.extension().is_some_and(|ending| ending == "raw") { "raw" } else { "vhd" };
    let mut chain = open(source, from, Mode::ReadOnly).unwrap();
    let how = ConvertOptions { create: plain(format, None), view: View::Active };
    convert(&Libraries, &mut chain, &target, &how, &mut |_, _| ()).unwrap();
    target
}

fn same(one: (&Path, &str), other: (&Path, &str)) -> bool {
    let mut one = open(one.0, one.1, Mode::ReadOnly).unwrap();
    let mut other = open(other.0, other.1, Mode::ReadOnly).unwrap();
    compare(&mut one, &mut other, &mut |_, _| ()).unwrap() == Comparison::Same
}

fn check(path: &Path) {
    let mut chain = open(path, "vhd", Mode::ReadOnly).unwrap();
    let report = chain.job(&Libraries, Job::Check(Repair::No), &mut |_, _| ()).unwrap();
    assert_eq!(report.errors, Vec::<String>::new());
}

#[test]
fn raw_to_vhd_and_back_is_the_same_disk_and_qemu_agrees() {
    let folder = Folder::new();
    let golden = raw(&folder);
    let vhd = converted(&folder, &golden, "golden.vhd", "vhd");
    assert!(std::fs::metadata(&vhd).unwrap().len() < SIZE, "a dynamic image of a few blocks");
    check(&vhd);
    assert!(same((&golden, "raw"), (&vhd, "vhd")));
    let back = converted(&folder, &vhd, "back.raw", "raw");
    assert!(std::fs::read(&golden).unwrap() == std::fs::read(back).unwrap());
    let image =
        format!("driver=vpc,force_size_calc=current_size,file.driver=file,file.filename={}", vhd.display());
    let options = format!("driver=raw,file.driver=file,file.filename={}", golden.display());
    match Command::new("qemu-img").args(["compare", "--image-opts", &image, &options]).output() {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => eprintln!("not compared by qemu-img: {error}"),
    }
}

#[test]
fn a_child_has_its_parents_disk_and_its_own_changes() {
    let folder = Folder::new();
    let source = raw(&folder);
    let golden = converted(&folder, &source, "golden.vhd", "vhd");
    let path = folder.path("clone.vhd");
    create(&Libraries, &path, &child(&golden, "vhd")).unwrap();
    assert!(same((&source, "raw"), (&path, "vhd")));

    let mut expected = std::fs::read(&source).unwrap();
    let mut chain = open(&path, "vhd", Mode::ReadWrite).unwrap();
    let writes = [(512, 512), (3 << 20, 1024), ((8 << 20) - 512, 2048), (1 << 20, 70_144)];
    for (seed, (at, length)) in writes.into_iter().enumerate() {
        let data = pattern(100 + seed as u64, length);
        chain.write(at, &data).unwrap();
        expected[at as usize..at as usize + length].copy_from_slice(&data);
    }
    chain.change(Range { offset: 0, length: 512 }, Change::Zero).unwrap();
    expected[..512].fill(0);
    chain.flush().unwrap();
    // More in blocks that are there: no plan, only bits.
    chain.write(5120, &pattern(200, 1536)).unwrap();
    expected[5120..5120 + 1536].copy_from_slice(&pattern(200, 1536));
    let mut read = vec![0; SIZE as usize];
    chain.read(View::Active, 0, &mut read).unwrap();
    assert!(read == expected);
    chain.close().unwrap();

    check(&path);
    let mut chain = open(&path, "vhd", Mode::ReadOnly).unwrap();
    chain.read(View::Active, 0, &mut read).unwrap();
    assert!(read == expected, "after it was opened again");
    assert_eq!(chain.paths().collect::<Vec<_>>(), [path.as_path(), &golden]);
    let segments = chain.segments(Range { offset: 0, length: SIZE }).unwrap();
    let mut at = 0;
    for segment in &segments {
        assert_eq!(segment.start, at);
        at += segment.length;
        if segment.kind == SegmentKind::Zero {
            assert!(expected[segment.start as usize..at as usize].iter().all(|&byte| byte == 0));
        }
    }
    assert_eq!(at, SIZE);
    assert!([0, 1].iter().all(|depth| segments.iter().any(|segment| segment.depth == *depth)));
    let whole = converted(&folder, &path, "whole.raw", "raw");
    assert!(std::fs::read(whole).unwrap() == expected, "the chain as one image");
}

#[test]
fn a_parent_that_is_missing_elsewhere_or_another_is_refused() {
    let folder = Folder::new();
    let source = raw(&folder);
    let golden = converted(&folder, &source, "golden.vhd", "vhd");
    let path = folder.path("clone.vhd");
    create(&Libraries, &path, &child(&golden, "vhd")).unwrap();
    let refused = |part: &str| {
        let text =
            open(&path, "vhd", Mode::ReadOnly).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    };

    std::fs::rename(&golden, folder.path("kept.vhd")).unwrap();
    refused("its parent is missing");
    converted(&folder, &source, "golden.vhd", "vhd");
    refused("its unique id differs");
    std::fs::remove_file(&golden).unwrap();
    std::fs::rename(folder.path("kept.vhd"), &golden).unwrap();
    assert!(open(&path, "vhd", Mode::ReadOnly).is_ok());

    let elsewhere = Folder::new();
    std::fs::rename(&golden, elsewhere.path("golden.vhd")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path("golden.vhd"), &golden).unwrap();
    refused("not beneath");
    let mut allowed = options(&path, "vhd", Mode::ReadOnly);
    allowed.roots = Roots::new([elsewhere.path("")]).with_folder_of(&path);
    assert!(Chain::open(&Libraries, &path, &allowed).is_ok());
}

#[test]
fn a_loop_is_refused() {
    let folder = Folder::new();
    let golden = folder.create("golden.vhd", "vhd", SIZE);
    let path = folder.path("clone.vhd");
    create(&Libraries, &path, &child(&golden, "vhd")).unwrap();
    // The parent's place is taken by the child itself.
    std::fs::remove_file(&golden).unwrap();
    std::os::unix::fs::symlink(&path, &golden).unwrap();
    let mut options = options(&path, "vhd", Mode::ReadOnly);
    options.any_parent = true;
    let text = Chain::open(&Libraries, &path, &options).err().unwrap().to_string();
    assert!(text.contains("is a loop"), "{text}");
}

#[test]
fn relinking_finds_a_parent_that_moved() {
    let folder = Folder::new();
    let source = raw(&folder);
    let golden = converted(&folder, &source, "golden.vhd", "vhd");
    let path = folder.path("clone.vhd");
    create(&Libraries, &path, &child(&golden, "vhd")).unwrap();
    std::fs::create_dir(folder.path("deep")).unwrap();
    let moved = folder.path("deep/moved.vhd");
    std::fs::rename(&golden, &moved).unwrap();
    let mut alone = options(&path, "vhd", Mode::ReadWrite);
    alone.parents = false;
    let mut chain = Chain::open(&Libraries, &path, &alone).unwrap();
    let identity = open(&moved, "vhd", Mode::ReadOnly).unwrap().opened().identity;
    let hints = vec![
        ParentHint { kind: "relative".into(), name: "deep/moved.vhd".into() },
        ParentHint { kind: "absolute".into(), name: moved.to_str().unwrap().into() },
    ];
    let parent = ParentRef { hints, format: Some("vhd".into()), identity, virtual_size: Some(SIZE) };
    chain.job(&Libraries, Job::Relink(parent), &mut |_, _| ()).unwrap();
    chain.close().unwrap();
    assert!(same((&source, "raw"), (&path, "vhd")));
}

#[test]
fn an_image_that_was_cut_off_is_read_as_it_is_and_mended_by_its_first_writer() {
    let folder = Folder::new();
    let source = raw(&folder);
    let path = converted(&folder, &source, "golden.vhd", "vhd");
    let whole = std::fs::read(&path).unwrap();
    let cut = &whole[..whole.len() - 512];
    std::fs::write(&path, cut).unwrap();
    assert!(same((&source, "raw"), (&path, "vhd")));
    assert!(std::fs::read(&path).unwrap() == cut, "a reader writes nothing");
    open(&path, "vhd", Mode::ReadWrite).unwrap().close().unwrap();
    assert!(std::fs::read(&path).unwrap().ends_with(&whole[whole.len() - 512..]));
    assert!(same((&source, "raw"), (&path, "vhd")));
}
