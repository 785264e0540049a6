//! Images that QEMU made.

use std::fs;

use stampede_plugin::{Job, Mode, Repair, model::Disk};

use super::{
    bench::{Bench, open},
    config::Config,
    draw::Draw,
    judge::Judge,
};

/// An image of a configuration, made by QEMU with some data in it; compressed where it can be.
pub fn made_by_qemu(config: &Config, draw: &mut Draw) -> Bench {
    let judge = Judge::new();
    let mut disk = config.parent.clone().unwrap_or_default();
    disk.resize(config.size as usize, 0);
    for _ in 0..6 {
        let at = (draw.below(config.size / 512) * 512) as usize;
        let length = (config.cluster as usize + 512).min(disk.len() - at);
        let data = if draw.below(3) == 0 { vec![0; length] } else { draw.bytes(length) };
        disk[at..at + length].copy_from_slice(&data);
    }
    let folder = judge.folder();
    fs::write(folder.join("source.raw"), &disk).unwrap();
    let options: Vec<String> =
        config.options().iter().map(|(name, value)| format!("{name}={value}")).collect();
    let options = options.join(",");
    let mut arguments = vec!["convert", "-f", "raw", "-O", "qcow2", "-o", &options];
    if let Some(parent) = &config.parent {
        fs::write(folder.join("parent.raw"), parent).unwrap();
        arguments.extend(["-B", "parent.raw", "-F", "raw"]);
    }
    let compressed = !config.data_file && draw.below(2) == 0;
    if compressed {
        arguments.push("-c");
    }
    arguments.extend(["source.raw", "image.qcow2"]);
    judge.run("qemu-img", &arguments);
    let files = judge.take(if config.data_file { 2 } else { 1 });
    let mut bench = Bench::over(config.clone(), Disk::new(files), judge);
    bench.disk = disk;
    bench.verify();
    bench
}

#[test]
fn compressed_clusters_are_read_and_written_over() {
    for zstd in [false, true] {
        for cluster in [512, 4096, 65536, 2 << 20] {
            let config = Config { zstd, ..Config::plain(cluster, cluster * 5) };
            let judge = Judge::new();
            let disk: Vec<u8> = (0..config.size / 8).flat_map(|word| (word / 3).to_be_bytes()).collect();
            fs::write(judge.folder().join("source.raw"), &disk).unwrap();
            let options =
                format!("cluster_size={cluster},compression_type={}", if zstd { "zstd" } else { "zlib" });
            judge.run(
                "qemu-img",
                &["convert", "-c", "-O", "qcow2", "-o", &options, "source.raw", "image.qcow2"],
            );
            let mut bench = Bench::over(config, Disk::new(judge.take(1)), judge);
            bench.disk = disk;
            bench.verify();
            bench.write(cluster + 512 % cluster, &[7; 512]);
            bench.unmap(stampede_plugin::Range { offset: cluster * 3, length: cluster });
            bench.verify();
            bench.reopen();
            bench.verify();
        }
    }
}

#[test]
fn snapshots_of_qemu_are_listed_read_applied_and_deleted() {
    let config = Config::plain(4096, 1 << 20);
    let mut bench = Bench::new(config);
    bench.write(0, &[1; 8192]);
    bench.model.close().unwrap();
    bench.judged(0);
    let judge = &bench.judge;
    judge.run("qemu-img", &["snapshot", "-c", "first", "image.qcow2"]);
    judge.run("qemu-io", &["-c", "write -P 2 4096 65536", "image.qcow2"]);
    judge.run("qemu-img", &["snapshot", "-c", "second", "image.qcow2"]);
    let first = bench.disk.clone();
    bench.disk[4096..4096 + 65536].fill(2);
    let files = judge.take(1);
    bench.model = open(Disk::new(files), None, Mode::ReadWrite).unwrap();
    bench.snapshots = vec![("first".into(), first.clone()), ("second".into(), bench.disk.clone())];
    bench.verify();
    let listed = bench.job(Job::SnapshotList).unwrap().snapshots;
    assert_eq!(listed.iter().map(|found| found.name.as_str()).collect::<Vec<_>>(), ["first", "second"]);
    bench.write(8192, &[3; 512]);
    bench.job(Job::SnapshotApply { name: "1".into() }).unwrap();
    bench.disk = first;
    bench.verify();
    bench.job(Job::SnapshotDelete { name: "second".into() }).unwrap();
    bench.snapshots.pop();
    bench.reopen();
    bench.verify();
}

#[test]
fn a_dirty_image_of_qemu_is_recovered() {
    let config = Config { lazy: true, ..Config::plain(4096, 1 << 20) };
    let mut bench = Bench::new(config);
    bench.model.close().unwrap();
    bench.judged(0);
    let (_, text) = bench.judge.try_run(
        "qemu-io",
        &["-t", "writeback", "-c", "write -P 5 0 64k", "-c", "flush", "-c", "abort", "image.qcow2"],
    );
    let files = bench.judge.take(1);
    assert_eq!(files[0][79] & 1, 1, "QEMU left it dirty: {text}");
    bench.model = open(Disk::new(files), None, Mode::ReadWrite).unwrap();
    bench.disk[..65536].fill(5);
    bench.verify();
    bench.write(1 << 19, &[6; 8192]);
    bench.reopen();
    bench.verify();
}

#[test]
fn bitmaps_that_follow_changes_are_marked_as_out_of_date_and_stay() {
    let mut bench = Bench::new(Config::plain(4096, 1 << 20));
    bench.model.close().unwrap();
    bench.judged(0);
    let judge = &bench.judge;
    judge.run("qemu-img", &["bitmap", "--add", "-g", "4096", "image.qcow2", "follows"]);
    judge.run("qemu-img", &["bitmap", "--add", "--disable", "-g", "4096", "image.qcow2", "stands"]);
    let files = judge.take(1);
    let read_only = open(Disk::new(files.clone()), None, Mode::ReadOnly).unwrap();
    assert!(read_only.disk().log().is_empty(), "reading marks nothing");
    bench.model = open(Disk::new(files), None, Mode::ReadWrite).unwrap();
    bench.write(0, &[9; 4096]);
    bench.reopen();
    let report = bench.check(Repair::No);
    assert_eq!((report.error_count, report.leaked_bytes), (0, 0), "{report:?}");
    let text = bench.judge.run("qemu-img", &["info", "image.qcow2"]);
    let follows = text.find("name: follows").unwrap();
    assert_eq!(text.matches("in-use").count(), 1, "{text}");
    assert!(text.contains("name: stands"), "{text}");
    let before = text[..follows].rfind("[0]").unwrap();
    assert!(text[before..follows].contains("in-use"), "{text}");
    assert!(bench.job(Job::Resize { virtual_size: 2 << 20, shrink: false }).is_err());
}

#[test]
fn zeros_over_parts_of_a_compressed_cluster_are_written_once() {
    let config = Config { extended: true, ..Config::plain(65536, 1 << 18) };
    let judge = Judge::new();
    let disk: Vec<u8> = (0..config.size / 8).flat_map(|word| (word / 3 + 1).to_be_bytes()).collect();
    fs::write(judge.folder().join("source.raw"), &disk).unwrap();
    let options = "cluster_size=65536,extended_l2=on";
    judge.run("qemu-img", &["convert", "-c", "-O", "qcow2", "-o", options, "source.raw", "image.qcow2"]);
    let mut bench = Bench::over(config, Disk::new(judge.take(1)), judge);
    bench.disk = disk;
    // Subclusters have 2,048 bytes: a part of one, whole ones, a part of one.
    bench.zero(stampede_plugin::Range { offset: 512, length: 8192 });
    bench.zero(stampede_plugin::Range { offset: 65536 + 1024, length: 65536 });
    bench.verify();
    bench.reopen();
}
