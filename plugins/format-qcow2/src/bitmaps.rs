//! Persistent bitmaps: kept where they are, and marked as out of date before the image is written (spec: "Bitmaps").

use alloc::{format, vec::Vec};

use stampede_plugin::{FileId, Outcome};

use crate::{
    draft::Draft,
    header::{BitmapsAt, Header, wrong},
    layout::{BITMAPS, OFFSET_MASK},
    reader::{Reader, big_endian},
};

/// Bit 0 of the flags: the bitmap is not what was written.
const IN_USE: u64 = 1;
/// Bit 1: the bitmap follows every change.
const AUTO: u64 = 2;
/// An entry's length in bytes, without what varies.
const ENTRY_BYTES: u64 = 24;
/// The longest directory, in bytes, and the most bitmaps.
const DIRECTORY_MAX: u64 = 1 << 20;
const COUNT_MAX: u64 = 65_535;
/// The longest table of a bitmap, in bytes.
const TABLE_MAX: u64 = 8 << 20;

/// A bitmap's entry in the directory.
struct Entry {
    /// Where the entry is.
    at: u64,
    table: u64,
    table_entries: u64,
    flags: u64,
}

/// Where the directory is, if what it says counts.
fn directory(header: &Header) -> Option<BitmapsAt> {
    header.bitmaps.filter(|_| header.layout.autoclear & BITMAPS != 0)
}

fn entries(reader: &mut Reader<'_>, header: &Header, place: BitmapsAt) -> Outcome<Vec<Entry>> {
    let file = reader.file_length(FileId::MAIN);
    if place.count > COUNT_MAX || place.length > DIRECTORY_MAX {
        let text = format!("the directory of {} bitmaps has {} bytes", place.count, place.length);
        return Err(wrong(place.offset, text).into());
    }
    crate::header::check_table(
        &header.layout,
        file,
        0,
        "bitmap_directory_offset",
        place.offset,
        place.length,
    )?;
    let (mut found, mut at) = (Vec::new(), place.offset);
    let end = place.offset + place.length;
    for _ in 0..place.count {
        if at + ENTRY_BYTES > end {
            return Err(wrong(at, "the directory of bitmaps ends inside an entry").into());
        }
        let bytes = reader.bytes(at, ENTRY_BYTES)?;
        let number = |from: usize, to: usize| big_endian(&bytes[from..to]);
        let length = (ENTRY_BYTES + number(18, 20) + number(20, 24)).next_multiple_of(8);
        let (table, table_entries) = (number(0, 8), number(8, 12));
        if table_entries * 8 > TABLE_MAX {
            let text = format!("bitmap_table_size is {table_entries}; {} at most", TABLE_MAX / 8);
            return Err(wrong(at + 8, text).into());
        }
        crate::header::check_table(
            &header.layout,
            file,
            at,
            "bitmap_table_offset",
            table,
            table_entries * 8,
        )?;
        found.push(Entry { at, table, table_entries, flags: number(12, 16) });
        at = at.saturating_add(length);
    }
    Ok(found)
}

/// The runs of clusters that bitmaps take: directory, tables, data.
pub(crate) fn clusters(draft: &mut Draft<'_>, header: &Header) -> Outcome<Vec<(u64, u64)>> {
    let Some(place) = directory(header) else { return Ok(Vec::new()) };
    let layout = draft.layout;
    let run = |offset: u64, length: u64| (offset >> layout.cluster_bits, layout.clusters_of(length));
    let mut runs = alloc::vec![run(place.offset, place.length)];
    for entry in entries(&mut draft.reader, header, place)? {
        runs.push(run(entry.table, entry.table_entries * 8));
        let table = draft.reader.bytes(entry.table, entry.table_entries * 8)?;
        for word in table.chunks_exact(8) {
            let offset = big_endian(word) & OFFSET_MASK;
            if offset != 0 {
                runs.push(run(offset, layout.cluster()));
            }
        }
    }
    Ok(runs)
}

/// Whether there are bitmaps that a write would make wrong without a word.
pub(crate) fn outdated_by_writes(reader: &mut Reader<'_>, header: &Header) -> Outcome<bool> {
    let Some(place) = directory(header) else { return Ok(false) };
    Ok(entries(reader, header, place)?.iter().any(follows))
}

fn follows(entry: &Entry) -> bool {
    entry.flags & (AUTO | IN_USE) == AUTO
}

/// Marks every bitmap that follows changes as out of date: nobody here keeps them.
pub(crate) fn mark(draft: &mut Draft<'_>, header: &Header) -> Outcome<()> {
    let Some(place) = directory(header) else { return Ok(()) };
    for entry in entries(&mut draft.reader, header, place)?.iter().filter(|entry| follows(entry)) {
        let flags = u32::try_from(entry.flags | IN_USE).unwrap_or(u32::MAX);
        draft.refer(entry.at + 12, flags.to_be_bytes().to_vec())?;
    }
    Ok(())
}

/// How many bitmaps there are.
pub(crate) fn count(header: &Header) -> u64 {
    directory(header).map_or(0, |place| place.count)
}
