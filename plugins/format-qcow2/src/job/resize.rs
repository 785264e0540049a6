//! Another size of the disk.

use alloc::vec::Vec;

use stampede_plugin::{Change, Fail, FailKind, Outcome, Range};

use super::{
    Done, Stage, invalid,
    references::{drop_run, release},
    snapshots::switch_l1,
};
use crate::{
    draft::{Draft, words},
    layout::{DATA, L1_BYTES_MAX, L1Table, Layout, field},
    write,
};

/// How many clusters a step zeroes or gives back.
const STEP_CLUSTERS: u64 = 4096;

/// Makes the disk larger. What is new reads as zeros, also where a backing file is longer, or where tables name something
/// behind the old end (the state of a machine, after a snapshot was applied).
pub(crate) fn grow_stages(layout: &Layout, size: u64) -> Result<Vec<Stage>, Fail> {
    let entries = layout.l1_needed(size);
    if entries * 8 > L1_BYTES_MAX {
        let text = alloc::format!(
            "a disk of {size} bytes needs an L1 table longer than {L1_BYTES_MAX} bytes; use larger clusters"
        );
        return Err(Fail::new(FailKind::NoSpace, text));
    }
    if layout.version < 3 && layout.backing {
        let text = "version 2 has no zero clusters: an image with a backing file cannot grow; convert it to version 3";
        return Err(Fail::new(FailKind::Unsupported, text));
    }
    let mut stages = Vec::new();
    if entries > layout.l1.entries {
        stages.push(Stage::GrowL1 { entries });
    }
    stages.push(Stage::Zero { at: layout.size, end: size });
    stages.push(Stage::SetSize(size));
    Ok(stages)
}

/// Makes the disk smaller: first the header says so, then what lies behind is given up.
pub(crate) fn shrink_stages(layout: &Layout, size: u64) -> Vec<Stage> {
    let first = size.next_multiple_of(layout.cluster());
    let table_end = layout.l1_needed(size) * layout.l2_span();
    let mut stages = alloc::vec![Stage::SetSize(size)];
    let end = layout.size.min(table_end);
    if first < end {
        stages.push(Stage::Discard { at: first, end });
    }
    stages.push(Stage::Cut { index: layout.l1_needed(size) });
    stages
}

/// A longer L1 table; the disk's size stays.
pub(super) fn grow_l1(draft: &mut Draft<'_>, entries: u64) -> Outcome<Done> {
    let layout = draft.layout;
    let mut contents = draft.reader.bytes(layout.l1.offset, layout.l1.entries * 8)?;
    contents.resize(crate::reader::small(entries * 8), 0);
    let place = draft.allocate(layout.clusters_of(entries * 8))?.start;
    draft.new_table(place, &contents)?;
    switch_l1(draft, layout.size, L1Table { offset: place << layout.cluster_bits, entries })?;
    drop_run(draft, layout.l1.offset, layout.l1.entries * 8);
    Ok(Done::All)
}

/// Runs a change over the next clusters as if the disk ended at `end`.
fn change_next(draft: &mut Draft<'_>, at: u64, end: u64, size: u64, change: Change) -> Outcome<Done> {
    if at >= end {
        return Ok(Done::All);
    }
    let layout = draft.layout;
    let stop = end.min((at / layout.cluster() + STEP_CLUSTERS) * layout.cluster());
    // An L2 table that is not there is zeros already, when nothing can show through.
    let span = layout.l2_span();
    let table_end = (at / span + 1) * span;
    if !layout.backing && draft.l2_table(layout.l1, at / span)?.is_none() {
        return Ok(Done::Part(table_end.min(end)));
    }
    draft.layout.size = size;
    let planned = write::plan(draft, &[Range::between(at, stop)], change);
    draft.layout.size = layout.size;
    draft.set_map(Vec::new());
    planned?;
    Ok(Done::Part(stop))
}

/// Zeros behind the end of the disk.
pub(super) fn zero(draft: &mut Draft<'_>, at: u64, end: u64) -> Outcome<Done> {
    change_next(draft, at, end, end, Change::Zero)
}

/// Gives back what is behind the end of the disk, as far as the last table that stays maps it.
pub(super) fn discard(draft: &mut Draft<'_>, at: u64, end: u64) -> Outcome<Done> {
    change_next(draft, at, end, end, Change::Unmap)
}

/// Gives up the next L2 table behind the end of the disk.
pub(super) fn cut(draft: &mut Draft<'_>, mut index: u64) -> Outcome<Done> {
    let l1 = draft.layout.l1;
    while index < l1.entries {
        if let Some(table) = draft.l2_table(l1, index)? {
            draft.reader.load(table.offset, draft.layout.cluster())?;
            draft.refer(l1.offset + index * 8, words(&[0]))?;
            release(draft, table)?;
            return Ok(Done::Part(index + 1));
        }
        index += 1;
    }
    Ok(Done::All)
}

/// Writes the size into the header.
pub(super) fn set_size(draft: &mut Draft<'_>, size: u64) -> Outcome<Done> {
    draft.refer(field::SIZE, size.to_be_bytes().to_vec())?;
    draft.layout.size = size;
    if draft.layout.data_file() {
        draft.need_length(DATA, size);
    }
    Ok(Done::All)
}

/// Refuses sizes that no disk here has.
pub(crate) fn check_size(size: u64) -> Result<(), Fail> {
    if size == 0 || !size.is_multiple_of(512) || size > 1 << 62 {
        return Err(invalid(alloc::format!(
            "a disk of {size} bytes: its size must be a multiple of 512, and not 0"
        )));
    }
    Ok(())
}
