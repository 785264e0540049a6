//! Wall time of a batch of 32 commands of 4 KiB: each stage alone, then a whole shard. Compare ratios within one run.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stampede_bench::one_shard::{Load, OneShard, Unit, Work};
use stampede_bench::stages;

fn stages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stage");
    group.throughput(Throughput::Elements(u64::from(stages::BATCH)));
    for (name, mut stage) in stages::all() {
        group.bench_function(name, |bencher| bencher.iter(|| stage.batch()));
    }
    group.finish();
}

fn shard(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shard");
    for (name, unit, work) in [
        ("disk read", Unit::Disk, Work::Read),
        ("disk write", Unit::Disk, Work::Write),
        ("clone read", Unit::Clone, Work::Read),
        ("clone write", Unit::Clone, Work::Write),
    ] {
        let load = Load { work, bytes: 4096, depth: stages::BATCH, span: 64 << 20 };
        let mut shard = OneShard::new(unit);
        shard.run(&load, 100);
        group.throughput(Throughput::Elements(u64::from(load.depth)));
        group.bench_function(name, |bencher| bencher.iter(|| shard.run(&load, 1)));
    }
    group.finish();
}

criterion_group!(benches, stages, shard);
criterion_main!(benches);
