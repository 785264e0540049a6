//! Properties of single parts; whole images are tested in `tests/`.
#![allow(clippy::unwrap_used, reason = "tests")]
extern crate std;

use alloc::vec::Vec;

use stampede_plugin::Codec;

use super::{
    entry::{self, Entry, Standard},
    layout::{L1Table, Layout},
    refcount,
};

fn layout(cluster_bits: u32, refcount_order: u32, incompatible: u64) -> Layout {
    Layout {
        version: 3,
        size: 1 << 30,
        cluster_bits,
        refcount_order,
        l1: L1Table { offset: 1 << cluster_bits, entries: 1 },
        reftable_offset: 2 << cluster_bits,
        reftable_clusters: 1,
        snapshots: 0,
        snapshots_offset: 0,
        incompatible,
        compatible: 0,
        autoclear: 0,
        codec: Codec::Deflate,
        backing: false,
    }
}

#[test]
fn counts_of_less_than_a_byte_begin_at_the_lowest_bit() {
    let layout = layout(9, 1, 0);
    let mut block: Vec<u8> = alloc::vec![0; 512];
    block[0] = 0b11_10_01_00;
    let counts: Vec<u64> = (0..4).map(|index| refcount::in_block(&layout, &block, index)).collect();
    assert_eq!(counts, [0, 1, 2, 3]);
    assert_eq!(layout.refcount_max(), 3);
}

#[test]
fn wide_counts_are_big_endian() {
    let layout = layout(9, 6, 0);
    let mut block: Vec<u8> = alloc::vec![0; 512];
    block[8..16].copy_from_slice(&0x0102_0304_0506_0708_u64.to_be_bytes());
    assert_eq!(refcount::in_block(&layout, &block, 1), 0x0102_0304_0506_0708);
    assert_eq!(layout.refcount_max(), u64::MAX);
}

#[test]
fn a_packed_descriptor_has_its_offset_below_and_its_sectors_above() {
    let layout = layout(16, 4, 0);
    let bits = layout.packed_offset_bits();
    assert_eq!(bits, 54);
    let word = 1 << 62 | 3 << bits | 0x1_0203;
    let Ok(Entry::Packed(packed)) = entry::decode(&layout, word, 0) else { std::panic!("it is packed") };
    assert_eq!((packed.offset, packed.length), (0x1_0203, 4 * 512 - 0x003));
}

#[test]
fn entries_are_written_as_they_are_read() {
    for (incompatible, allocated, zero) in [(0, 1, 0), (0, 0, 1), (1 << 4, 0b1010, 0b0101)] {
        let layout = layout(16, 4, incompatible);
        let entry = Standard { host: Some(5 << 16), copied: true, allocated, zero };
        let [word, bits] = entry::encode(&layout, &entry);
        assert_eq!(entry::decode(&layout, word, bits), Ok(Entry::Standard(entry)));
    }
}

#[test]
fn a_subcluster_is_not_both_allocated_and_zero() {
    let layout = layout(16, 4, 1 << 4);
    assert!(entry::decode(&layout, 5 << 16, 1 << 32 | 1).is_err());
    assert!(entry::decode(&layout, 0, 1).is_err());
}
