//! The snapshot table (spec: "Snapshots").

use alloc::{format, string::String, vec::Vec};

use stampede_plugin::{FileId, Outcome, SnapshotInfo};

use crate::{
    header::wrong,
    layout::{L1_BYTES_MAX, L1Table, Layout, field},
    reader::{Reader, big_endian, small},
};

/// An entry's length in bytes, without what varies.
pub(crate) const ENTRY_BYTES: u64 = 40;
/// Extra data as this code writes it: the VM state's size, and the disk's.
const EXTRA_BYTES: u64 = 16;
/// The longest extra data, in bytes.
const EXTRA_MAX: u64 = 1024;
/// The longest table, in bytes.
const TABLE_MAX: u64 = 16 << 20;
/// The longest name and id, in bytes.
pub(crate) const NAME_MAX: usize = 1023;

/// An internal snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// What is shown of it.
    pub(crate) info: SnapshotInfo,
    /// Its L1 table.
    pub(crate) l1: L1Table,
    /// Whether its entry names a disk size of its own.
    pub(crate) sized: bool,
    /// Its entry, as it stands in the table, padding included.
    pub(crate) raw: Vec<u8>,
}

/// Reads the table.
pub(crate) fn read(reader: &mut Reader<'_>, layout: &Layout) -> Outcome<Vec<Snapshot>> {
    let mut snapshots = Vec::new();
    let mut at = layout.snapshots_offset;
    for _ in 0..layout.snapshots {
        let snapshot = entry(reader, layout, at)?;
        at += snapshot.raw.len() as u64;
        if at - layout.snapshots_offset > TABLE_MAX {
            let text = format!("the snapshot table is longer than {TABLE_MAX} bytes");
            return Err(wrong(field::SNAPSHOTS_OFFSET, text).into());
        }
        snapshots.push(snapshot);
    }
    Ok(snapshots)
}

fn entry(reader: &mut Reader<'_>, layout: &Layout, at: u64) -> Outcome<Snapshot> {
    let file = reader.file_length(FileId::MAIN);
    let outside = |length: u64| {
        wrong(at, format!("a snapshot's entry of {length} bytes goes beyond the end of the file"))
    };
    if at + ENTRY_BYTES > file {
        return Err(outside(ENTRY_BYTES).into());
    }
    let fixed = reader.bytes(at, ENTRY_BYTES)?;
    let number = |from: usize, to: usize| big_endian(&fixed[from..to]);
    let (id, name, extra) = (number(12, 14), number(14, 16), number(36, 40));
    if extra > EXTRA_MAX {
        let text = format!("a snapshot's extra data has {extra} bytes; {EXTRA_MAX} at most");
        return Err(wrong(at + 36, text).into());
    }
    if layout.version >= 3 && extra < EXTRA_BYTES {
        let text = format!("a snapshot's extra data has {extra} bytes; version 3 demands {EXTRA_BYTES}");
        return Err(wrong(at + 36, text).into());
    }
    let length = ENTRY_BYTES + extra + id + name;
    if at + length > file {
        return Err(outside(length).into());
    }
    // The last entry's padding may be missing.
    let mut raw = reader.bytes(at, length)?;
    raw.resize(small(length.next_multiple_of(8)), 0);
    let l1 = L1Table { offset: number(0, 8), entries: number(8, 12) };
    check_l1(layout, file, at, l1)?;
    let sized = extra >= EXTRA_BYTES;
    let virtual_size = if sized { big_endian(&raw[48..56]) } else { layout.size };
    check_size(layout, at, l1, virtual_size)?;
    let id_at = small(ENTRY_BYTES + extra);
    let name_at = id_at + small(id);
    let text =
        |from: usize, length: u64| String::from_utf8_lossy(&raw[from..from + small(length)]).into_owned();
    let info =
        SnapshotInfo { id: text(id_at, id), name: text(name_at, name), time: number(16, 20), virtual_size };
    Ok(Snapshot { info, l1, sized, raw })
}

fn check_l1(layout: &Layout, file: u64, at: u64, l1: L1Table) -> Outcome<()> {
    if l1.entries * 8 > L1_BYTES_MAX {
        let text = format!("a snapshot's l1_size is {}; {} at most", l1.entries, L1_BYTES_MAX / 8);
        return Err(wrong(at + 8, text).into());
    }
    crate::header::check_table(layout, file, at, "a snapshot's l1_table_offset", l1.offset, l1.entries * 8)?;
    Ok(())
}

fn check_size(layout: &Layout, at: u64, l1: L1Table, size: u64) -> Outcome<()> {
    if size == 0 || !size.is_multiple_of(512) || layout.l1_needed(size) > l1.entries {
        let text = format!("a snapshot's disk has {size} bytes, its L1 table {} entries", l1.entries);
        return Err(wrong(at + 48, text).into());
    }
    Ok(())
}

/// A new snapshot's entry.
pub(crate) fn new_entry(layout: &Layout, info: &SnapshotInfo, l1: L1Table) -> Vec<u8> {
    let narrow16 = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let narrow32 = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes();
    let mut raw = l1.offset.to_be_bytes().to_vec();
    raw.extend_from_slice(&narrow32(l1.entries));
    raw.extend_from_slice(&narrow16(info.id.len()));
    raw.extend_from_slice(&narrow16(info.name.len()));
    raw.extend_from_slice(&narrow32(info.time));
    // No fraction of the second, no time that a machine ran, no VM state.
    raw.extend_from_slice(&[0; 16]);
    raw.extend_from_slice(&narrow32(EXTRA_BYTES));
    raw.extend_from_slice(&0_u64.to_be_bytes());
    raw.extend_from_slice(&layout.size.to_be_bytes());
    raw.extend_from_slice(info.id.as_bytes());
    raw.extend_from_slice(info.name.as_bytes());
    raw.resize(raw.len().next_multiple_of(8), 0);
    raw
}

/// The entries of a table, one after the other.
pub(crate) fn table(entries: &[Vec<u8>]) -> Vec<u8> {
    entries.concat()
}

/// How many bytes the table in the image has.
pub(crate) fn table_length(snapshots: &[Snapshot]) -> u64 {
    snapshots.iter().map(|snapshot| snapshot.raw.len() as u64).sum()
}

/// A snapshot by its id or name; the id is looked for first.
pub(crate) fn find(snapshots: &[Snapshot], name: &str) -> Option<usize> {
    let by_id = snapshots.iter().position(|snapshot| snapshot.info.id == name);
    by_id.or_else(|| snapshots.iter().position(|snapshot| snapshot.info.name == name))
}

/// An id that no snapshot has.
pub(crate) fn new_id(snapshots: &[Snapshot]) -> String {
    let greatest = snapshots.iter().filter_map(|snapshot| snapshot.info.id.parse::<u64>().ok()).max();
    format!("{}", greatest.unwrap_or(0).saturating_add(1))
}
