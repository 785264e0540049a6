//! Internal snapshots: made, applied, deleted (spec: "Snapshots").

use alloc::{string::String, vec, vec::Vec};

use stampede_plugin::{Fail, FailKind, FileId, Outcome, SnapshotInfo};

use super::{Done, Stage, invalid, references::drop_run};
use crate::{
    draft::{Draft, words},
    entry::COPIED,
    header::SNAPSHOTS_MAX,
    layout::{L1Table, Layout, field},
    snapshot::{self, NAME_MAX, Snapshot},
};

/// Makes a snapshot of the disk as it is.
pub(crate) fn create_stages(
    layout: &Layout,
    snapshots: &[Snapshot],
    name: &str,
    time: u64,
) -> Result<Vec<Stage>, Fail> {
    supported(layout)?;
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(invalid(alloc::format!("a snapshot's name has 1 to {NAME_MAX} bytes")));
    }
    if snapshots.iter().any(|snapshot| snapshot.info.name == name) {
        return Err(invalid(alloc::format!("there is a snapshot {name} already")));
    }
    if snapshots.len() as u64 >= SNAPSHOTS_MAX {
        return Err(Fail::new(
            FailKind::NoSpace,
            alloc::format!("an image has {SNAPSHOTS_MAX} snapshots at most"),
        ));
    }
    let snapshot = SnapshotInfo {
        id: snapshot::new_id(snapshots),
        name: String::from(name),
        time,
        virtual_size: layout.size,
    };
    let l1 = layout.l1;
    Ok(vec![
        Stage::Verify(l1),
        Stage::Mark,
        Stage::ClearCopied(l1),
        Stage::Add(l1),
        Stage::Create { snapshot },
        Stage::Unmark,
    ])
}

/// Makes the disk what it was at a snapshot.
pub(crate) fn apply_stages(layout: &Layout, snapshots: &[Snapshot], name: &str) -> Result<Vec<Stage>, Fail> {
    supported(layout)?;
    let snapshot = named(snapshots, name)?.clone();
    let (l1, old) = (snapshot.l1, layout.l1);
    Ok(vec![
        Stage::Verify(l1),
        Stage::Mark,
        Stage::ClearCopied(l1),
        Stage::Add(l1),
        Stage::Apply { snapshot },
        Stage::Subtract(old),
        Stage::DropTable(old),
        Stage::SetCopied,
        Stage::Unmark,
    ])
}

/// Removes a snapshot.
pub(crate) fn delete_stages(layout: &Layout, snapshots: &[Snapshot], name: &str) -> Result<Vec<Stage>, Fail> {
    supported(layout)?;
    let snapshot = named(snapshots, name)?;
    Ok(vec![
        Stage::Mark,
        Stage::Delete { id: snapshot.info.id.clone() },
        Stage::Subtract(snapshot.l1),
        Stage::DropTable(snapshot.l1),
        Stage::SetCopied,
        Stage::Unmark,
    ])
}

fn supported(layout: &Layout) -> Result<(), Fail> {
    if layout.data_file() {
        return Err(Fail::new(FailKind::Unsupported, "an image with a data file has no internal snapshots"));
    }
    Ok(())
}

fn named<'a>(snapshots: &'a [Snapshot], name: &str) -> Result<&'a Snapshot, Fail> {
    let found = snapshot::find(snapshots, name).and_then(|index| snapshots.get(index));
    found.ok_or_else(|| invalid(alloc::format!("there is no snapshot {name}")))
}

/// A copy of the active L1 table, a table with the new entry, and the header that names it.
pub(super) fn create(draft: &mut Draft<'_>, info: &SnapshotInfo) -> Outcome<Done> {
    let layout = draft.layout;
    let old = snapshot::read(&mut draft.reader, &layout)?;
    let contents = draft.reader.bytes(layout.l1.offset, layout.l1.entries * 8)?;
    let place = draft.allocate(layout.clusters_of(contents.len() as u64))?.start;
    draft.new_table(place, &contents)?;
    let l1 = L1Table { offset: place << layout.cluster_bits, entries: layout.l1.entries };
    let mut entries: Vec<_> = old.iter().map(|snapshot| snapshot.raw.clone()).collect();
    entries.push(snapshot::new_entry(&layout, info, l1));
    switch_table(draft, &old, &entries)
}

/// A table without a snapshot.
pub(super) fn delete(draft: &mut Draft<'_>, id: &str) -> Outcome<Done> {
    let layout = draft.layout;
    let old = snapshot::read(&mut draft.reader, &layout)?;
    let entries: Vec<_> =
        old.iter().filter(|snapshot| snapshot.info.id != id).map(|snapshot| snapshot.raw.clone()).collect();
    switch_table(draft, &old, &entries)
}

/// Puts a new snapshot table in place of the old one: the header's two fields are in one sector.
fn switch_table(draft: &mut Draft<'_>, old: &[Snapshot], entries: &[Vec<u8>]) -> Outcome<Done> {
    let layout = draft.layout;
    let offset = if entries.is_empty() {
        0
    } else {
        let table = snapshot::table(entries);
        let place = draft.allocate(layout.clusters_of(table.len() as u64))?.start;
        draft.new_table(place, &table)?;
        place << layout.cluster_bits
    };
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let mut fields = count.to_be_bytes().to_vec();
    fields.extend_from_slice(&offset.to_be_bytes());
    draft.refer(field::SNAPSHOTS, fields)?;
    (draft.layout.snapshots, draft.layout.snapshots_offset) = (count, offset);
    drop_run(draft, layout.snapshots_offset, snapshot::table_length(old));
    Ok(Done::All)
}

/// A snapshot's L1 table, with no COPIED bit, as the active one; size, l1_size and l1_table_offset are in one sector.
pub(super) fn apply(draft: &mut Draft<'_>, snapshot: &Snapshot) -> Outcome<Done> {
    let layout = draft.layout;
    let size = if snapshot.sized { snapshot.info.virtual_size } else { layout.size };
    let bytes = draft.reader.bytes(snapshot.l1.offset, snapshot.l1.entries * 8)?;
    let entries: Vec<u64> =
        bytes.chunks_exact(8).map(|entry| crate::reader::big_endian(entry) & !COPIED).collect();
    let place = draft.allocate(layout.clusters_of(bytes.len() as u64))?.start;
    draft.new_table(place, &words(&entries))?;
    let l1 = L1Table { offset: place << layout.cluster_bits, entries: snapshot.l1.entries };
    switch_l1(draft, size, l1)?;
    Ok(Done::All)
}

/// Names another active L1 table and another size in the header.
pub(super) fn switch_l1(draft: &mut Draft<'_>, size: u64, l1: L1Table) -> Outcome<()> {
    let mut fields = size.to_be_bytes().to_vec();
    let crypt = draft.reader.bytes(field::CRYPT_METHOD, 4)?;
    fields.extend_from_slice(&crypt);
    fields.extend_from_slice(&u32::try_from(l1.entries).unwrap_or(u32::MAX).to_be_bytes());
    fields.extend_from_slice(&l1.offset.to_be_bytes());
    draft.refer(field::SIZE, fields)?;
    (draft.layout.size, draft.layout.l1) = (size, l1);
    let end = (l1.offset + l1.entries * 8).max(draft.length());
    draft.need_length(FileId::MAIN, end);
    Ok(())
}
