//! Making an image: a header, a refcount table with its first blocks, and an L1 table, in one plan.

use alloc::{format, string::String, vec, vec::Vec};

use stampede_plugin::{Created, Fail, FailKind, FileId, MetadataRange, Patch, Plan, Step, Token};

use crate::{
    draft::words,
    header::{BACKING_NAME_MAX, MAGIC, V2_LENGTH, kind, name_table},
    job::{check_size, invalid},
    layout::{DATA, L1_BYTES_MAX, LAZY_REFCOUNTS},
    options::Options,
    reader::small,
};

/// A header of version 3 as it is written here: with the compression type, and padding.
const HEADER_LENGTH: u64 = 112;

/// Where an image's first tables are, in clusters.
struct Places {
    reftable: u64,
    reftable_clusters: u64,
    blocks: u64,
    block_count: u64,
    l1: u64,
    l1_clusters: u64,
    end: u64,
}

/// The plan that makes an image in an empty file.
pub(crate) fn plan(created: &Created, token: Token) -> Result<Plan, Fail> {
    check_size(created.virtual_size)?;
    let options = Options::parse(&created.options)?;
    check(created, &options)?;
    let cluster = 1_u64 << options.cluster_bits;
    let entry_bytes = if options.extended { 16 } else { 8 };
    let l1_entries = created.virtual_size.div_ceil(cluster / entry_bytes * cluster);
    if l1_entries * 8 > L1_BYTES_MAX {
        let text = format!("a disk of {} bytes needs larger clusters", created.virtual_size);
        return Err(invalid(text));
    }
    let places = places(&options, l1_entries);
    let header = header(created, &options, &places, l1_entries)?;
    let mut patches = Vec::new();
    let mut patch = |offset: u64, bytes: Vec<u8>, after: Vec<u64>| {
        let id = patches.len() as u64 + 1;
        patches.push(Patch { id, file: FileId::MAIN, offset, bytes, after, after_data: true, lazy: false });
        id
    };
    let table: Vec<u64> = (0..places.block_count).map(|index| (places.blocks + index) * cluster).collect();
    let mut first = vec![patch(places.reftable * cluster, words(&table), Vec::new())];
    first.push(patch(places.blocks * cluster, counts(&options, &places), Vec::new()));
    patch(0, header, first);
    let mut now = vec![Step::SetLength { file: FileId::MAIN, length: places.end * cluster }];
    if options.data_file.is_some() {
        now.push(Step::SetLength { file: DATA, length: created.virtual_size });
    }
    let protect = vec![MetadataRange { file: FileId::MAIN, offset: 0, length: places.end * cluster }];
    Ok(Plan { token, now, meta: patches, protect, ..Plan::default() })
}

fn check(created: &Created, options: &Options) -> Result<(), Fail> {
    if options.data_file_raw && created.parent.is_some() {
        return Err(invalid("data_file_raw and a parent exclude each other"));
    }
    Ok(())
}

/// Header, refcount table, blocks, L1 table: one behind the other.
fn places(options: &Options, l1_entries: u64) -> Places {
    let cluster = 1_u64 << options.cluster_bits;
    let l1_clusters = (l1_entries * 8).div_ceil(cluster);
    let entries = cluster << 3 >> options.refcount_order;
    let (mut block_count, mut reftable_clusters) = (1, 1);
    loop {
        let end = 1 + reftable_clusters + block_count + l1_clusters;
        let blocks = end.div_ceil(entries);
        let table = (blocks * 8).div_ceil(cluster);
        if (blocks, table) == (block_count, reftable_clusters) {
            let blocks = 1 + reftable_clusters;
            return Places {
                reftable: 1,
                reftable_clusters,
                blocks,
                block_count,
                l1: blocks + block_count,
                l1_clusters,
                end,
            };
        }
        (block_count, reftable_clusters) = (blocks.max(block_count), table.max(reftable_clusters));
    }
}

/// The first blocks: each cluster so far is referred to once.
fn counts(options: &Options, places: &Places) -> Vec<u8> {
    debug_assert_eq!(places.l1 + places.l1_clusters, places.end);
    let mut bytes = vec![0; small(places.block_count << options.cluster_bits)];
    for cluster in 0..places.end {
        let bit = cluster << options.refcount_order;
        let width = 1_u64 << options.refcount_order;
        // The count's lowest bit: in its own byte, or in the last of its bytes.
        let (byte, shift) = if width >= 8 { (bit / 8 + width / 8 - 1, 0) } else { (bit / 8, bit % 8) };
        bytes[small(byte)] |= 1 << shift;
    }
    bytes
}

fn header(created: &Created, options: &Options, places: &Places, l1_entries: u64) -> Result<Vec<u8>, Fail> {
    let cluster = 1_u64 << options.cluster_bits;
    let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes();
    let mut extensions = Vec::new();
    let mut name = String::new();
    if let Some(parent) = &created.parent {
        name.clone_from(&parent.hints.first().ok_or_else(|| invalid("the parent has no name"))?.name);
        if let Some(format) = &parent.format {
            push_extension(&mut extensions, kind::BACKING_FORMAT, format.as_bytes());
        }
    }
    if let Some(file) = &options.data_file {
        push_extension(&mut extensions, kind::DATA_FILE, file.as_bytes());
    }
    let start = if options.version >= 3 { HEADER_LENGTH } else { V2_LENGTH };
    let table = name_table();
    let length = |extensions: &[u8]| start + extensions.len() as u64 + 8 + name.len() as u64;
    // A convenience for others, where there is room for it.
    if options.version >= 3 && length(&extensions) + 8 + table.len() as u64 <= cluster {
        push_extension(&mut extensions, kind::FEATURE_NAMES, &table);
    }
    if length(&extensions) > cluster || name.len() as u64 > BACKING_NAME_MAX {
        let text = format!(
            "the names of the parent and the data file do not fit into the first cluster of {cluster} bytes"
        );
        return Err(Fail::new(FailKind::NoSpace, text));
    }
    push_extension(&mut extensions, kind::END, &[]);
    let name_at = if name.is_empty() { 0 } else { start + extensions.len() as u64 };
    let mut bytes = narrow(MAGIC).to_vec();
    bytes.extend_from_slice(&options.version.to_be_bytes());
    bytes.extend_from_slice(&name_at.to_be_bytes());
    bytes.extend_from_slice(&narrow(name.len() as u64));
    bytes.extend_from_slice(&options.cluster_bits.to_be_bytes());
    bytes.extend_from_slice(&created.virtual_size.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&narrow(l1_entries));
    bytes.extend_from_slice(&words(&[places.l1 * cluster, places.reftable * cluster]));
    bytes.extend_from_slice(&narrow(places.reftable_clusters));
    bytes.extend_from_slice(&[0; 12]);
    if options.version >= 3 {
        let compatible = if options.lazy_refcounts { LAZY_REFCOUNTS } else { 0 };
        bytes.extend_from_slice(&words(&[options.incompatible(), compatible, options.autoclear()]));
        bytes.extend_from_slice(&options.refcount_order.to_be_bytes());
        bytes.extend_from_slice(&narrow(HEADER_LENGTH));
        bytes.extend_from_slice(&[u8::from(options.zstd), 0, 0, 0, 0, 0, 0, 0]);
    }
    bytes.extend_from_slice(&extensions);
    bytes.extend_from_slice(name.as_bytes());
    Ok(bytes)
}

/// Adds a header extension, padded.
pub(crate) fn push_extension(bytes: &mut Vec<u8>, kind: u64, data: &[u8]) {
    let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes();
    bytes.extend_from_slice(&narrow(kind));
    bytes.extend_from_slice(&narrow(data.len() as u64));
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
}
