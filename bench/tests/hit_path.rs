//! The hit path allocates nothing: a counting allocator watches a warm shard serve.

use stampede_bench::one_shard::{Load, OneShard, Unit, Work};

/// Allocations of a warm shard that serves 3,200 commands.
fn allocations(unit: Unit, work: Work, bytes: u32) -> u64 {
    let load = Load { work, bytes, depth: 32, span: 16 << 20 };
    let mut shard = OneShard::new(unit);
    // Everything that grows to its size has grown: every slot of the span is written, every table has met its depth.
    shard.run(&load, 2000);
    let before = shard.commands();
    let info = allocation_counter::measure(|| shard.run(&load, 100));
    assert_eq!(shard.commands() - before, 3200);
    info.count_total
}

#[test]
fn the_counter_counts() {
    let info = allocation_counter::measure(|| drop(std::hint::black_box(vec![1_u8; 100])));
    assert_eq!(info.count_total, 1);
}

#[test]
fn reads_of_a_disk_allocate_nothing() {
    assert_eq!(allocations(Unit::Disk, Work::Read, 4096), 0);
    assert_eq!(allocations(Unit::Disk, Work::Read, 65_536), 0);
}

#[test]
fn writes_of_a_disk_allocate_nothing() {
    assert_eq!(allocations(Unit::Disk, Work::Write, 4096), 0);
}

#[test]
fn reads_and_writes_of_a_device_allocate_nothing() {
    assert_eq!(allocations(Unit::Device, Work::Read, 4096), 0);
    assert_eq!(allocations(Unit::Device, Work::Write, 4096), 0);
}

#[test]
fn reads_of_a_clone_allocate_nothing() {
    assert_eq!(allocations(Unit::Clone, Work::Read, 4096), 0);
}

#[test]
fn overwrites_of_a_clone_allocate_nothing() {
    assert_eq!(allocations(Unit::Clone, Work::Write, 4096), 0);
}
