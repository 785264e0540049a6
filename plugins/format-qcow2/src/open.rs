//! Opening an image.

use alloc::{string::String, vec, vec::Vec};

use stampede_plugin::{
    Fail, FailKind, FileHint, FileId, Halt, MetadataRange, Mode, OpenRequest, Opened, Outcome, Pages,
    ParentHint, ParentRef,
};

use crate::{
    bitmaps,
    header::{self, Header},
    layout::{DIRTY, L1Table, Layout, OFFSET_MASK},
    reader::{Reader, big_endian},
    recover, snapshot,
    snapshot::Snapshot,
    space::Space,
};

/// How many entries of tables are read to know where metadata is. An image with more has its tables of the second level unguarded.
const GUARDED_ENTRIES_MAX: u64 = 1 << 17;

/// An open image.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) header: Header,
    pub(crate) snapshots: Vec<Snapshot>,
    pub(crate) space: Space,
    pub(crate) mode: Mode,
}

/// Reads an image's header and tables.
pub(crate) fn open(pages: &mut dyn Pages, request: &OpenRequest) -> Outcome<(State, Opened)> {
    let mut reader = Reader::new(pages);
    let header = header::read(&mut reader)?;
    let writing = request.mode == Mode::ReadWrite;
    if writing && header::is_corrupt(&header.layout) {
        let text = "the image is marked corrupt: check and repair it before it is written";
        return Err(Fail::new(FailKind::ReadOnly, text).into());
    }
    let files = data_file(&header)?;
    let snapshots = snapshot::read(&mut reader, &header.layout)?;
    let needs_recovery = writing && recover::needed(&mut reader, &header)?;
    let mut space = Space::default();
    space.unused_from = header.layout.clusters_of(reader.file_length(FileId::MAIN));
    space.protect(&guard(&mut reader, &header, &snapshots)?);
    let end = reader.file_length(FileId::MAIN);
    let metadata = metadata(&header.layout, &space, end);
    let opened = opened(&header, metadata, files, needs_recovery, writing);
    Ok((State { header, snapshots, space, mode: request.mode }, opened))
}

fn data_file(header: &Header) -> Outcome<Vec<FileHint>> {
    if !header.layout.data_file() {
        return Ok(Vec::new());
    }
    let Some(name) = header.data_file.clone() else {
        let text = "the image's data is in another file, which it does not name";
        return Err(Fail::new(FailKind::Unsupported, text).into());
    };
    Ok(vec![FileHint { name, length_min: 0 }])
}

fn opened(
    header: &Header,
    metadata: Vec<MetadataRange>,
    files: Vec<FileHint>,
    needs_recovery: bool,
    writing: bool,
) -> Opened {
    let layout = &header.layout;
    let cluster = 1_u32 << layout.cluster_bits;
    let gives_back = !layout.data_file() && (layout.version >= 3 || !layout.backing);
    let parent = header.backing.as_ref().map(|name| ParentRef {
        hints: vec![ParentHint { kind: kind_of(name), name: name.clone() }],
        format: header.backing_format.clone(),
        identity: None,
        virtual_size: None,
    });
    Opened {
        virtual_size: layout.size,
        block_size: 512,
        allocation_unit: cluster,
        unmap_unit: if gives_back { cluster } else { 0 },
        files,
        parent,
        identity: None,
        metadata,
        needs_recovery,
        warnings: warnings(header, writing),
    }
}

/// The ranges that have metadata, as far as they are in the file: its last cluster may be short.
fn metadata(layout: &Layout, space: &Space, end: u64) -> Vec<MetadataRange> {
    let range = |&(start, count): &(u64, u64)| {
        let offset = start << layout.cluster_bits;
        let length = (count << layout.cluster_bits).min(end.saturating_sub(offset));
        MetadataRange { file: FileId::MAIN, offset, length }
    };
    space.guard().iter().map(range).filter(|range| range.length > 0).collect()
}

fn kind_of(name: &str) -> String {
    String::from(if name.starts_with('/') { "absolute" } else { "relative" })
}

fn warnings(header: &Header, writing: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if header::is_corrupt(&header.layout) {
        warnings.push(String::from("the image is marked corrupt: what it reads as may be wrong"));
    }
    if header.layout.incompatible & DIRTY != 0 && !writing {
        warnings.push(String::from("the image was not closed: its reference counts may be wrong"));
    }
    if writing && bitmaps::count(header) > 0 {
        warnings.push(String::from(
            "the image has bitmaps of changed blocks: those that follow changes are marked as out of date",
        ));
    }
    if header.backing.is_some() && header.backing_format.is_none() {
        warnings.push(String::from("the image does not say which format its parent has: name it"));
    }
    warnings
}

/// The clusters that have metadata.
fn guard(reader: &mut Reader<'_>, header: &Header, snapshots: &[Snapshot]) -> Outcome<Vec<(u64, u64)>> {
    let layout = &header.layout;
    let run = |offset: u64, length: u64| (offset >> layout.cluster_bits, layout.clusters_of(length));
    let mut runs = vec![(0, 1), run(layout.reftable_offset, layout.reftable_clusters << layout.cluster_bits)];
    if !snapshots.is_empty() {
        runs.push(run(layout.snapshots_offset, snapshot::table_length(snapshots)));
    }
    let mut budget = GUARDED_ENTRIES_MAX;
    let mut second = Vec::new();
    let tables = core::iter::once(layout.l1).chain(snapshots.iter().map(|snapshot| snapshot.l1));
    for L1Table { offset, entries } in tables {
        runs.push(run(offset, entries * 8));
        named(reader, layout, (offset, entries), OFFSET_MASK, &mut budget, &mut second)?;
    }
    let blocks = (layout.reftable_offset, layout.reftable_entries());
    named(reader, layout, blocks, !0x1ff, &mut budget, &mut second)?;
    second.sort_unstable();
    second.dedup();
    runs.extend(second.into_iter().map(|cluster| (cluster, 1)));
    Ok(runs)
}

/// The clusters that the entries of a table name, as far as they are in the file and the budget lasts.
fn named(
    reader: &mut Reader<'_>,
    layout: &Layout,
    (offset, entries): (u64, u64),
    mask: u64,
    budget: &mut u64,
    clusters: &mut Vec<u64>,
) -> Outcome<()> {
    if entries > *budget {
        return Ok(());
    }
    *budget -= entries;
    let length = reader.file_length(FileId::MAIN);
    let bytes = match reader.bytes(offset, entries * 8) {
        Ok(bytes) => bytes,
        Err(need @ Halt::Need(_)) => return Err(need),
        Err(Halt::Fail(_)) => return Ok(()),
    };
    for entry in bytes.chunks_exact(8) {
        let named = big_endian(entry) & mask;
        if named != 0 && named < length {
            clusters.push(named >> layout.cluster_bits);
        }
    }
    Ok(())
}
