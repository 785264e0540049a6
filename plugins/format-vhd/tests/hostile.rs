//! Images that were made to hurt: each is refused, with the field, its value and where it is.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

mod common;

use common::Shape;
use stampede_format_vhd::Vhd;
use stampede_plugin::{
    Fail, FailKind, FileId, Format, Halt, Mode, OpenRequest, Pages, Span, model::ModelError,
};

const BLOCK: u32 = 32 << 10;
const HEADER: usize = 512;
const TABLE: usize = 1536;

/// A change of an image: where, and the bytes.
type Change = (usize, Vec<u8>);

fn be32(at: usize, value: u32) -> Change {
    (at, value.to_be_bytes().to_vec())
}

fn be64(at: usize, value: u64) -> Change {
    (at, value.to_be_bytes().to_vec())
}

/// A differencing image with one block, its fields changed and its checksums right.
fn changed(changes: &[Change]) -> Vec<u8> {
    let shape = Shape::new("differencing", BLOCK, 96 << 10);
    let mut model = shape.model();
    model.write(0, &[1; 512]).unwrap();
    model.close().unwrap();
    let mut file = model.into_disk().files()[0].clone();
    for (at, bytes) in changes {
        file[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    seal(&mut file[..512], 64);
    seal(&mut file[HEADER..HEADER + 1024], 36);
    let end = file.len() - 512;
    file.copy_within(..512, end);
    file
}

fn seal(part: &mut [u8], field: usize) {
    part[field..field + 4].fill(0);
    let sum: u32 = part.iter().map(|&byte| u32::from(byte)).sum();
    part[field..field + 4].copy_from_slice(&(!sum).to_be_bytes());
}

/// How an image is refused, by both modes alike.
fn refused(file: Vec<u8>) -> Fail {
    let shape = Shape::new("differencing", BLOCK, 96 << 10);
    let fails = [Mode::ReadOnly, Mode::ReadWrite].map(|mode| match shape.opened(file.clone(), mode) {
        Err(ModelError::Fail(fail)) => fail,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it opened"),
    });
    assert_eq!(fails[0], fails[1]);
    fails[0].clone()
}

#[test]
fn fields_that_lie_are_refused_by_name_and_place() {
    let locator = HEADER + 576;
    let cases: Vec<(&str, FailKind, usize, Change)> = vec![
        ("file format version 2.0", FailKind::Unsupported, 12, be32(12, 0x2_0000)),
        ("disk_type is 6", FailKind::Unsupported, 60, be32(60, 6)),
        ("data_offset is 513", FailKind::Corrupt, 16, be64(16, 513)),
        ("data_offset is 0", FailKind::Corrupt, 16, be64(16, 0)),
        ("data_offset is 18446744073709551104", FailKind::Corrupt, 16, be64(16, u64::MAX - 511)),
        ("cxsparse", FailKind::Corrupt, HEADER, be64(HEADER, 0)),
        ("header_version is 3.0", FailKind::Unsupported, HEADER + 24, be32(HEADER + 24, 0x3_0000)),
        ("table_offset is 1537", FailKind::Corrupt, HEADER + 16, be64(HEADER + 16, 1537)),
        ("other metadata", FailKind::Corrupt, HEADER + 16, be64(HEADER + 16, 512)),
        ("beyond the file", FailKind::Corrupt, HEADER + 28, be64(HEADER + 16, 1 << 40)),
        ("beyond the file", FailKind::Corrupt, HEADER + 28, be64(HEADER + 16, 0_u64.wrapping_sub(512))),
        ("max_table_entries is 4294967295", FailKind::Corrupt, HEADER + 28, be32(HEADER + 28, u32::MAX)),
        ("max_table_entries is 2", FailKind::Corrupt, HEADER + 28, be32(HEADER + 28, 2)),
        ("block_size is 0", FailKind::Corrupt, HEADER + 32, be32(HEADER + 32, 0)),
        ("block_size is 98304", FailKind::Corrupt, HEADER + 32, be32(HEADER + 32, 96 << 10)),
        ("block_size is 256", FailKind::Corrupt, HEADER + 32, be32(HEADER + 32, 256)),
        ("block_size is 2147483648", FailKind::Unsupported, HEADER + 32, be32(HEADER + 32, 1 << 31)),
        ("max_table_entries is 3, the disk", FailKind::Corrupt, HEADER + 28, be64(48, 2040 << 30)),
        ("0 bytes", FailKind::Invalid, usize::MAX, be64(48, 0)),
        ("data_length is 65537", FailKind::Corrupt, locator + 8, be32(locator + 8, (64 << 10) + 1)),
        ("data_length is 4294967295", FailKind::Corrupt, locator + 8, be32(locator + 8, u32::MAX)),
        ("parent locator 0: data_offset", FailKind::Corrupt, locator + 16, be64(locator + 16, u64::MAX - 3)),
        ("parent locator 0: data_offset", FailKind::Corrupt, locator + 16, be64(locator + 16, 1 << 40)),
        ("parent locator 0 (bytes 0", FailKind::Corrupt, locator + 16, be64(locator + 16, 0)),
        ("parent locator 0 (bytes 1536", FailKind::Corrupt, locator + 16, be64(locator + 16, 1536)),
        ("block 1 is at sector 0, on the metadata", FailKind::Corrupt, TABLE + 4, be32(TABLE + 4, 0)),
        ("block 1 is at sector 1, on the metadata", FailKind::Corrupt, TABLE + 4, be32(TABLE + 4, 1)),
        ("block 1 is at sector 3, on the metadata", FailKind::Corrupt, TABLE + 4, be32(TABLE + 4, 3)),
        ("block 1 is at sector 4294967294", FailKind::Corrupt, TABLE + 4, be32(TABLE + 4, u32::MAX - 1)),
        ("split image", FailKind::Corrupt, TABLE + 4, be32(TABLE + 4, 60)),
    ];
    for (text, kind, at, change) in cases {
        let fail = refused(changed(std::slice::from_ref(&change)));
        let expected = (at != usize::MAX).then_some((FileId::MAIN, at as u64));
        assert!(
            fail.text.contains(text) && fail.kind == kind && fail.at == expected,
            "{change:?}: {fail:?}, not {text}"
        );
    }
}

#[test]
fn blocks_that_overlap_are_refused() {
    let file = changed(&[]);
    let first = u32::from_be_bytes(file[TABLE..TABLE + 4].try_into().unwrap());
    let longer = |file: &[u8], entry: u32| {
        let mut longer = [&file[..file.len() - 512], &vec![0; BLOCK as usize], &file[..512]].concat();
        longer[TABLE + 8..TABLE + 12].copy_from_slice(&entry.to_be_bytes());
        longer
    };
    for entry in [first, first + 1, first + BLOCK / 512] {
        let fail = refused(longer(&file, entry));
        assert!(fail.text.contains("block 2") && fail.at.is_some(), "{fail}");
    }
}

#[test]
fn wrong_checksums_are_refused() {
    let file = changed(&[]);
    let mut header = file.clone();
    header[HEADER + 900] ^= 4;
    let fail = refused(header);
    assert!(fail.text.contains("checksum is") && fail.at == Some((FileId::MAIN, 512 + 36)), "{fail}");
    let mut footers = file;
    let end = footers.len() - 512;
    for at in [0, end] {
        footers[at + 400] ^= 4;
    }
    assert!(refused(footers).text.contains("footer's checksum is"));
    assert_eq!(refused(vec![0; 4096]).kind, FailKind::NotThisFormat);
    assert_eq!(refused(vec![]).kind, FailKind::NotThisFormat);
    assert_eq!(refused(vec![0xAA; 511]).kind, FailKind::NotThisFormat);
}

#[test]
fn parts_of_split_images_and_undo_disks_are_refused_as_parents() {
    for (name, word) in [("golden.v01", "split"), ("undo.vud", "undo")] {
        let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_be_bytes).chain([0, 0]).collect();
        let fail = refused(changed(&[(HEADER + 64, vec![0; 100]), (HEADER + 64, name)]));
        assert!(fail.kind == FailKind::Unsupported && fail.text.contains(word), "{fail}");
    }
}

#[test]
fn a_fixed_disk_larger_than_its_file_is_refused() {
    let mut file = Shape::new("fixed", 0, 64 << 10).file();
    let moved = [&[0; 76], &file[..]].concat();
    assert!(refused(moved).text.contains("no multiple of 512"));
    let end = file.len() - 512;
    file[end + 48..end + 56].copy_from_slice(&(1_u64 << 40).to_be_bytes());
    seal(&mut file[end..], 64);
    let fail = refused(file);
    assert!(
        fail.at == Some((FileId::MAIN, end as u64 + 48)) && fail.text.contains("before it are only"),
        "{fail}"
    );
}

/// A file that says it is as long as can be, and is zeros but for its beginning.
struct Huge {
    head: Vec<u8>,
    asked: usize,
}

impl Pages for Huge {
    fn read(&mut self, span: Span) -> Option<Vec<u8>> {
        assert!(span.length <= Span::LENGTH_MAX);
        self.asked += span.length as usize;
        let at = |index: u64| usize::try_from(span.offset + index).ok().and_then(|at| self.head.get(at));
        Some((0..u64::from(span.length)).map(|index| at(index).copied().unwrap_or(0)).collect())
    }

    fn file_length(&self, _file: FileId) -> u64 {
        1 << 62
    }
}

/// However long a file is, what is read of it when it is opened is bounded, and so is what is kept.
#[test]
fn a_huge_table_is_refused_before_it_is_read() {
    let mut head = changed(&[be64(48, 2040 << 30), be32(HEADER + 28, u32::MAX), be32(HEADER + 32, 512)]);
    head.truncate(8192);
    let mut pages = Huge { head, asked: 0 };
    let opened = Vhd::default().open(&mut pages, &OpenRequest { mode: Mode::ReadOnly, files: 1 });
    let Err(Halt::Fail(fail)) = opened else { panic!("{opened:?}") };
    assert!(fail.text.contains("blocks of 512 bytes"), "{fail}");
    assert!(pages.asked < 64 << 10);
    let mut head = changed(&[
        be64(48, 2040 << 30),
        be32(HEADER + 28, 4 << 20),
        be32(HEADER + 32, 512 << 10),
        be64(HEADER + 16, 1 << 50),
    ]);
    head.truncate(8192);
    let mut pages = Huge { head, asked: 0 };
    let opened = Vhd::default().open(&mut pages, &OpenRequest { mode: Mode::ReadOnly, files: 1 });
    // All its entries are 0, which is on the footer.
    let Err(Halt::Fail(fail)) = opened else { panic!("{opened:?}") };
    assert!(fail.text.contains("block 0 is at sector 0"), "{fail}");
    assert!(pages.asked < 40 << 20);
}
