//! Raw images, made, changed, converted and compared.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Folder, Libraries, open, options, pattern, plain};
use stampede_chain::{Chain, Comparison, ConvertOptions, SegmentKind, compare, convert, create};
use stampede_plugin::{Change, Mode, Range, View};

const SIZE: u64 = 9 << 20;

/// A raw image with two stretches of data.
fn sample(folder: &Folder, name: &str) -> std::path::PathBuf {
    let path = folder.create(name, "raw", SIZE);
    let mut chain = open(&path, "raw", Mode::ReadWrite).unwrap();
    chain.write(1 << 20, &pattern(1, 8192)).unwrap();
    chain.write(5 << 20, &pattern(2, 3 << 20)).unwrap();
    chain.close().unwrap();
    path
}

#[test]
fn what_is_written_is_in_the_file_and_read_again() {
    let folder = Folder::new();
    let path = sample(&folder, "a.raw");
    let file = std::fs::read(&path).unwrap();
    assert_eq!(file.len() as u64, SIZE);
    assert!(file[1 << 20..][..8192] == pattern(1, 8192));
    let mut chain = open(&path, "raw", Mode::ReadOnly).unwrap();
    let mut read = vec![1; 1024];
    chain.read(View::Active, (1 << 20) - 512, &mut read).unwrap();
    assert!(read[..512].iter().all(|&byte| byte == 0) && read[512..] == file[1 << 20..][..512]);
    chain.read(View::Active, SIZE - 512, &mut read).unwrap();
    assert!(read[512..].iter().all(|&byte| byte == 0), "zeros behind the end");
}

#[test]
fn a_copy_has_the_same_disk_and_takes_no_space_for_zeros() {
    use std::os::unix::fs::MetadataExt;
    let folder = Folder::new();
    let source = sample(&folder, "a.raw");
    let target = folder.path("b.raw");
    let mut last = (0, 0);
    let mut chain = open(&source, "raw", Mode::ReadOnly).unwrap();
    let how = ConvertOptions { create: plain("raw", None), view: View::Active };
    convert(&Libraries, &mut chain, &target, &how, &mut |done, total| last = (done, total)).unwrap();
    assert_eq!(last, (SIZE, SIZE));
    assert!(std::fs::read(&source).unwrap() == std::fs::read(&target).unwrap());
    let used = std::fs::metadata(&target).unwrap().blocks() * 512;
    assert!(used <= (3 << 20) + (64 << 10), "{used} bytes for 3 MiB and 8 KiB of data");
    let mut copy = open(&target, "raw", Mode::ReadOnly).unwrap();
    assert_eq!(compare(&mut chain, &mut copy, &mut |_, _| ()).unwrap(), Comparison::Same);
    assert_eq!(folder.names(), ["a.raw", "b.raw"]);
}

#[test]
fn comparing_finds_the_first_byte_that_differs_and_a_tail_of_zeros() {
    let folder = Folder::new();
    let (one, other) = (sample(&folder, "a.raw"), sample(&folder, "b.raw"));
    let compared = |one: &std::path::Path, other: &std::path::Path| {
        let (mut one, mut other) =
            (open(one, "raw", Mode::ReadOnly).unwrap(), open(other, "raw", Mode::ReadOnly).unwrap());
        compare(&mut one, &mut other, &mut |_, _| ()).unwrap()
    };
    let longer = std::fs::File::options().write(true).open(&other).unwrap();
    longer.set_len(SIZE + 512).unwrap();
    assert_eq!(compared(&one, &other), Comparison::SameButLength);
    let mut chain = open(&other, "raw", Mode::ReadWrite).unwrap();
    chain.write(SIZE, &[0, 0, 9].repeat(512)[..512]).unwrap();
    chain.close().unwrap();
    assert_eq!(compared(&one, &other), Comparison::Differs { offset: SIZE + 2 });
    let mut chain = open(&other, "raw", Mode::ReadWrite).unwrap();
    chain.change(Range { offset: 5 << 20, length: 512 }, Change::Zero).unwrap();
    chain.close().unwrap();
    assert_eq!(compared(&one, &other), Comparison::Differs { offset: 5 << 20 });
}

#[test]
fn a_map_of_a_raw_disk_is_one_stretch() {
    let folder = Folder::new();
    let path = sample(&folder, "a.raw");
    let mut chain = open(&path, "raw", Mode::ReadOnly).unwrap();
    let found = chain.segments(Range { offset: 0, length: u64::MAX }).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].length, found[0].kind, found[0].offset), (SIZE, SegmentKind::Data, Some(0)));
    let info = chain.info(&Libraries).unwrap();
    assert_eq!((info.layers[0].virtual_size, info.layers[0].format.as_str()), (SIZE, "raw"));
}

#[test]
fn mistakes_are_refused_and_leave_nothing() {
    let folder = Folder::new();
    let path = sample(&folder, "a.raw");
    let refused = |result: Result<(), stampede_chain::ChainError>, part: &str| {
        let text = result.unwrap_err().to_string();
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    };
    refused(create(&Libraries, &path, &plain("raw", Some(512))), "--replace");
    refused(create(&Libraries, &folder.path("b"), &plain("raw", None)), "how large");
    refused(create(&Libraries, &folder.path("b"), &plain("raw", Some(513))), "multiple of 512");
    refused(
        create(&Libraries, &folder.path("b"), &plain("qed", Some(512))),
        "no plugin for the format \"qed\"",
    );
    refused(open(&folder.path("b"), "raw", Mode::ReadOnly).map(drop), "no such file");
    let mut reader = open(&path, "raw", Mode::ReadOnly).unwrap();
    refused(reader.write(0, &[0; 512]), "read-only");
    refused(open(&path, "raw", Mode::ReadWrite).map(drop), "must not see it change");
    drop(reader);
    let mut writer = open(&path, "raw", Mode::ReadWrite).unwrap();
    refused(writer.write(SIZE - 512, &[0; 1024]), "not whole sectors of the disk");
    refused(writer.write(1, &[0; 512]), "not whole sectors of the disk");
    drop(writer);
    let small = ConvertOptions { create: plain("raw", Some(512)), view: View::Active };
    let mut source = Chain::open(&Libraries, &path, &options(&path, "raw", Mode::ReadOnly)).unwrap();
    refused(convert(&Libraries, &mut source, &folder.path("b"), &small, &mut |_, _| ()), "does not fit");
    assert_eq!(folder.names(), ["a.raw"]);
}
