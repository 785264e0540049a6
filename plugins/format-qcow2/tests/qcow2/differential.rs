//! Drawn operations beside a plain model, judged by QEMU at each reopening.

use stampede_plugin::{Job, Range, Repair};

use super::{
    bench::Bench,
    config::Config,
    draw::{Draw, seeds},
};

const OPERATIONS: u64 = 45;

fn range(draw: &mut Draw, config: &Config, size: u64) -> Range {
    let longest = (config.cluster * 4).min(size) / 512;
    let length = match draw.below(3) {
        0 => draw.below(longest) + 1,
        1 => (config.cluster / 512).min(size / 512),
        _ => draw.below(8.min(longest)) + 1,
    };
    let mut offset = draw.below(size / 512 - length + 1);
    if draw.below(2) == 0 {
        offset = offset * 512 / config.cluster * config.cluster / 512;
    }
    Range { offset: offset * 512, length: length.min(size / 512 - offset) * 512 }
}

fn operate(bench: &mut Bench, draw: &mut Draw, number: u64) {
    let size = bench.disk.len() as u64;
    let config = bench.config.clone();
    match draw.below(30) {
        0..=13 => {
            let range = range(draw, &config, size);
            let data = draw.bytes(range.length as usize);
            bench.write(range.offset, &data);
        }
        14..=16 => bench.zero(range(draw, &config, size)),
        17..=20 => bench.unmap(range(draw, &config, size)),
        21..=22 => bench.model.flush().unwrap(),
        23 => bench.kill(),
        24 => bench.reopen(),
        25 | 26 if !config.data_file && config.refcount_bits > 1 => snapshot(bench, draw, number),
        27 => resize(bench, draw),
        28 => {
            bench.model.flush_all().unwrap();
            let report = bench.check(Repair::No);
            assert_eq!((report.error_count, report.leaked_bytes), (0, 0), "{report:?}");
        }
        _ => bench.verify(),
    }
}

fn snapshot(bench: &mut Bench, draw: &mut Draw, number: u64) {
    let chosen = draw.below(bench.snapshots.len() as u64) as usize;
    match draw.below(5) {
        0 | 1 => {
            let name = format!("s{number}");
            if bench.job(Job::SnapshotCreate { name: name.clone(), time: 1_700_000_000 }).is_ok() {
                bench.snapshots.push((name, bench.disk.clone()));
            } else {
                assert!(bench.config.refcount_bits < 8, "only narrow counts can be full");
            }
        }
        2 | 3 if !bench.snapshots.is_empty() => {
            let (name, disk) = bench.snapshots[chosen].clone();
            if bench.job(Job::SnapshotApply { name }).is_ok() {
                bench.disk = disk;
            } else {
                assert!(bench.config.refcount_bits < 8, "only narrow counts can be full");
            }
        }
        4 if !bench.snapshots.is_empty() => {
            let (name, _) = bench.snapshots.remove(chosen);
            bench.job(Job::SnapshotDelete { name }).unwrap();
        }
        _ => {}
    }
    bench.verify();
}

fn resize(bench: &mut Bench, draw: &mut Draw) {
    let old = bench.disk.len() as u64;
    let most = bench.config.size * 2;
    let size = (draw.below(most / 512) + 1) * 512;
    let done = bench.job(Job::Resize { virtual_size: size, shrink: true });
    let (v2, overlay) = (bench.config.v2, bench.config.parent.is_some());
    let refused = v2 && (!bench.snapshots.is_empty() || (overlay && size >= old));
    assert_eq!(done.is_err(), refused, "{done:?}");
    if done.is_ok() {
        bench.disk.resize(size as usize, 0);
    }
    bench.verify();
}

fn run(seed: u64, bench: &mut Bench) {
    let mut draw = Draw::new(seed ^ 0xd1ff);
    for number in 0..OPERATIONS {
        operate(bench, &mut draw, number);
    }
    bench.verify();
    bench.reopen();
    bench.verify();
    for (name, disk) in &bench.snapshots {
        // QEMU reads a snapshot as if its disk had today's size.
        let found = bench.judge.read(Some(name));
        let common = found.len().min(disk.len());
        let differs = found[..common].iter().zip(disk).position(|(found, expected)| found != expected);
        assert_eq!(differs, None, "QEMU reads snapshot {name} otherwise");
    }
}

fn shown(config: &Config) -> String {
    let parent = config.parent.as_ref().map(Vec::len);
    format!("{:?}", Config { parent: None, ..config.clone() }).replace("None", &format!("{parent:?}"))
}

#[test]
fn drawn_operations_agree_with_qemu() {
    for seed in seeds(10) {
        let config = Config::drawn(&mut Draw::new(seed));
        eprintln!("seed {seed}: {}", shown(&config));
        let mut bench = Bench::new(config);
        run(seed, &mut bench);
    }
}

#[test]
fn drawn_operations_on_images_of_qemu_agree_with_it() {
    for seed in seeds(5) {
        let config = Config::drawn(&mut Draw::new(seed ^ 0x9e11));
        eprintln!("seed {seed}: {}", shown(&config));
        let mut bench = super::images::made_by_qemu(&config, &mut Draw::new(seed));
        run(seed, &mut bench);
    }
}
