//! Images that somebody made to do harm: they are refused with the field and its place, or contained; nothing panics, nothing is
//! allocated by a number that the file does not back.

use std::time::{Duration, Instant};

use stampede_plugin::{
    Fail, FailKind, Job, Mode, Range,
    model::{Disk, ModelError},
};

use super::{
    bench::{Bench, open},
    config::Config,
    draw::{Draw, seeds},
};

#[path = "../../fuzz/bodies.rs"]
mod bodies;

fn sample(config: Config) -> Vec<u8> {
    let mut bench = Bench::new(config);
    bench.write(0, &[1; 20 << 10]);
    bench.job(Job::SnapshotCreate { name: "s".into(), time: 1 }).unwrap();
    bench.write(4096, &[2; 4096]);
    bench.zero(Range { offset: 8192, length: 4096 });
    bench.model.flush_all().unwrap();
    bench.model.disk().files()[0].clone()
}

fn refusal(file: Vec<u8>) -> Fail {
    match open(Disk::new(vec![file]), None, Mode::ReadOnly) {
        Err(ModelError::Fail(fail)) => fail,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it opens"),
    }
}

#[test]
fn headers_that_are_not_legal_are_refused_with_the_field_and_its_place() {
    let good = sample(Config::plain(4096, 1 << 20));
    let file = good.len() as u64;
    let be32 = |word: u32| word.to_be_bytes().to_vec();
    let be64 = |word: u64| word.to_be_bytes().to_vec();
    let cases: Vec<(&str, usize, Vec<u8>, FailKind)> = vec![
        ("version", 4, be32(4), FailKind::Unsupported),
        ("backing file", 8, be64(file), FailKind::Corrupt),
        ("cluster_bits", 20, be32(8), FailKind::Corrupt),
        ("cluster_bits", 20, be32(64), FailKind::Corrupt),
        ("size", 24, be64(1000), FailKind::Unsupported),
        ("l1_size", 24, be64(1 << 60), FailKind::Corrupt),
        ("encrypted (AES)", 32, be32(1), FailKind::Unsupported),
        ("encrypted (LUKS)", 32, be32(2), FailKind::Unsupported),
        ("l1_size", 36, be32(u32::MAX), FailKind::Corrupt),
        ("l1_size", 36, be32(0), FailKind::Corrupt),
        ("l1_table_offset", 40, be64(file + 4096), FailKind::Corrupt),
        ("l1_table_offset", 40, be64(u64::MAX - 4095), FailKind::Corrupt),
        ("l1_table_offset", 40, be64(4097), FailKind::Corrupt),
        ("refcount_table_offset", 48, be64(u64::MAX), FailKind::Corrupt),
        ("refcount_table_clusters", 56, be32(u32::MAX), FailKind::Corrupt),
        ("refcount_table_clusters", 56, be32(0), FailKind::Corrupt),
        ("nb_snapshots", 60, be32(u32::MAX), FailKind::Corrupt),
        ("snapshots_offset", 64, be64(file), FailKind::Corrupt),
        ("incompatible feature bit 63", 72, be64(1 << 63), FailKind::Unsupported),
        ("compression_type", 72, be64(1 << 3), FailKind::Corrupt),
        ("extended L2", 72, be64(1 << 4), FailKind::Corrupt),
        ("snapshots", 72, be64(1 << 2), FailKind::Corrupt),
        ("raw data file", 88, be64(2), FailKind::Corrupt),
        ("refcount_order", 96, be32(7), FailKind::Corrupt),
        ("refcount_order", 96, be32(u32::MAX), FailKind::Corrupt),
        ("header_length", 100, be32(96), FailKind::Corrupt),
        ("header_length", 100, be32(105), FailKind::Corrupt),
        ("header_length", 100, be32(u32::MAX - 7), FailKind::Corrupt),
        ("compression_type", 104, vec![1], FailKind::Corrupt),
        ("header extension", 116, be32(u32::MAX), FailKind::Corrupt),
    ];
    for (name, at, bytes, kind) in cases {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(&bytes);
        let fail = refusal(file);
        assert!(fail.kind == kind && fail.text.contains(name), "{name} at {at}: {fail:?}");
        assert!(fail.at.is_some(), "{name}: {fail:?}");
    }
}

#[test]
fn an_unknown_feature_is_named_by_the_image() {
    let mut file = sample(Config::plain(4096, 1 << 20));
    // The first name of the feature table is that of the dirty bit: it becomes that of bit 9.
    let at = file.windows(9).position(|bytes| bytes == b"dirty bit").unwrap();
    file[at - 1] = 9;
    file[at..at + 9].copy_from_slice(b"hyperjump");
    file[78] = 2;
    assert!(refusal(file).text.contains("hyperjump (incompatible feature bit 9)"));
}

#[test]
fn snapshot_tables_that_lie_are_refused() {
    let good = sample(Config::plain(4096, 1 << 20));
    let table = u64::from_be_bytes(good[64..72].try_into().unwrap()) as usize;
    for (at, bytes) in [
        (0, u64::MAX.to_be_bytes().to_vec()),
        (8, u32::MAX.to_be_bytes().to_vec()),
        (12, vec![0xff, 0xff, 0xff, 0xff]),
        (36, u32::MAX.to_be_bytes().to_vec()),
        (36, vec![0, 0, 0, 8]),
        (48, u64::MAX.to_be_bytes().to_vec()),
    ] {
        let mut file = good.clone();
        file[table + at..table + at + bytes.len()].copy_from_slice(&bytes);
        if at == 12 {
            // Long names that are in the file are names; in this file they are not.
            file.truncate(table + 4096);
        }
        let fail = refusal(file);
        assert_eq!(fail.kind, FailKind::Corrupt, "{at}: {fail:?}");
    }
}

#[test]
fn entries_that_name_metadata_or_nothing_are_refused_when_they_are_met() {
    let good = sample(Config::plain(4096, 1 << 20));
    let be = |at: usize| u64::from_be_bytes(good[at..at + 8].try_into().unwrap());
    let l1 = be(40) as usize;
    let l2 = (be(l1) & 0x00ff_ffff_ffff_fe00) as usize;
    let mut bad = vec![
        (l1, 1 << 55),
        (l1, 513),
        (l2, 1 << 63 | 1 << 55),
        (l2, 1 << 63 | 512),
        (l2, 1 << 62 | ((1 << 50) - 1)),
    ];
    bad.extend([l1, l2, 0, be(48) as usize].map(|table| (l2, 1 << 63 | table as u64)));
    for (at, word) in bad {
        let mut file = good.clone();
        file[at..at + 8].copy_from_slice(&u64::to_be_bytes(word));
        if at == l2 && word == 1 << 63 {
            // Offset 0 with bit 63 is unallocated where there is no data file.
            continue;
        }
        let mut model = match open(Disk::new(vec![file]), None, Mode::ReadWrite) {
            Ok(model) => model,
            Err(ModelError::Fail(_)) => continue,
            Err(other) => panic!("{other}"),
        };
        let read = model.read(Range { offset: 0, length: 512 });
        assert!(matches!(read, Err(ModelError::Fail(Fail { at: Some(_), .. }))), "{at} {word:#x}: {read:?}");
        let written = model.write(0, &[1; 512]);
        assert!(matches!(written, Err(ModelError::Fail(_))), "{at} {word:#x}: {written:?}");
    }
}

fn mutated(good: &[u8], draw: &mut Draw) -> Vec<u8> {
    let mut file = good.to_vec();
    for _ in 0..=draw.below(4) {
        let at = match draw.below(3) {
            0 => draw.below(128),
            1 => draw.below(file.len() as u64 / 8) * 8,
            _ => draw.below(file.len() as u64 / 4096) * 4096 + draw.below(64) * 8,
        } as usize;
        let word = match draw.below(5) {
            0 => draw.next(),
            1 => draw.below(file.len() as u64 * 2) / 4096 * 4096,
            2 => 1 << draw.below(64),
            3 => u64::MAX,
            _ => (1 << 63) | (draw.below(16) * 4096),
        };
        let end = (at + 8).min(file.len());
        let width = draw.one(&[1, 4, 8]).min(end - at);
        file[at..at + width].copy_from_slice(&word.to_be_bytes()[8 - width..]);
    }
    if draw.below(8) == 0 {
        let length = draw.below(file.len() as u64) as usize;
        file.truncate(length);
    }
    file
}

/// For `QCOW2_FUZZ_SECONDS`, or two seconds.
#[test]
fn whatever_a_file_holds_nothing_panics() {
    let seconds = std::env::var("QCOW2_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let samples = [
        sample(Config::plain(4096, 1 << 20)),
        sample(Config::plain(512, 256 << 10)),
        sample(Config { v2: true, ..Config::plain(4096, 1 << 20) }),
        sample(Config { extended: true, ..Config::plain(16384, 1 << 20) }),
        sample(Config { refcount_bits: 2, ..Config::plain(1024, 1 << 20) }),
    ];
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut count = 0_u64;
    let mut draw = Draw::new(seeds(1).start.wrapping_add(seconds));
    while Instant::now() < end {
        let file = mutated(&samples[(count % 5) as usize], &mut draw);
        bodies::image(&[&draw.next().to_le_bytes()[..], &file].concat());
        count += 1;
    }
    eprintln!("{count} files");
    assert!(count > 10);
}

/// What fuzzing began with, and what it once found.
#[test]
fn the_fuzz_corpus_stays_mended() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/image");
    for entry in std::fs::read_dir(folder).unwrap() {
        bodies::image(&std::fs::read(entry.unwrap().path()).unwrap());
    }
}
