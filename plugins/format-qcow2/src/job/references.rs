//! What an L1 table reaches: its L2 tables and their clusters, a table at a step.

use alloc::vec::Vec;

use stampede_plugin::{Fail, FailKind, Halt, Outcome};

use super::Done;
use crate::{
    draft::{Draft, words},
    entry::{COPIED, Entry, Packed, Standard, is_standard},
    layout::{L1Table, OFFSET_MASK},
    table::L2Table,
};

/// How many empty L1 entries are passed over in a step.
const EMPTY_MAX: u64 = 1 << 16;

/// The next L2 table of an L1 table, from `index` on: its index and place. `Err(next)` when there is none up to `next`.
fn next(draft: &mut Draft<'_>, l1: L1Table, mut index: u64) -> Outcome<Result<(u64, L2Table), u64>> {
    let stop = l1.entries.min(index.saturating_add(EMPTY_MAX));
    draft.reader.load(l1.offset + index * 8, stop.saturating_sub(index).min(512) * 8)?;
    while index < stop {
        if let Some(table) = draft.l2_table(l1, index)? {
            draft.reader.load(table.offset, draft.layout.cluster())?;
            return Ok(Ok((index, table)));
        }
        index += 1;
    }
    Ok(Err(stop))
}

/// Runs `each` over the next L2 table.
fn with_next(
    draft: &mut Draft<'_>,
    l1: L1Table,
    index: u64,
    each: impl FnOnce(&mut Draft<'_>, u64, L2Table) -> Outcome<()>,
) -> Outcome<Done> {
    match next(draft, l1, index)? {
        Ok((index, table)) => {
            each(draft, index, table)?;
            Ok(Done::Part(index + 1))
        }
        Err(stop) if stop >= l1.entries => Ok(Done::All),
        Err(stop) => Ok(Done::Part(stop)),
    }
}

/// The host clusters that an entry refers to: the first, and how many.
pub(crate) fn host_clusters(draft: &Draft<'_>, entry: Entry) -> Option<(u64, u64)> {
    let bits = draft.layout.cluster_bits;
    match entry {
        Entry::Standard(Standard { host: Some(host), .. }) => Some((host >> bits, 1)),
        Entry::Standard(_) => None,
        Entry::Packed(Packed { offset, length }) => {
            let (first, last) = (offset >> bits, (offset + length - 1) >> bits);
            Some((first, last - first + 1))
        }
    }
}

/// Every entry of a table, with its index.
fn entries(draft: &mut Draft<'_>, table: L2Table) -> Outcome<Vec<Entry>> {
    (0..draft.layout.l2_entries()).map(|index| draft.entry(table, index)).collect()
}

/// Clears COPIED in the next table's entries and its own entry. Only ever on tables whose data is written by copying afterwards.
pub(super) fn clear_copied(draft: &mut Draft<'_>, l1: L1Table, index: u64) -> Outcome<Done> {
    with_next(draft, l1, index, |draft, index, table| {
        for number in 0..draft.layout.l2_entries() {
            let at = table.offset + number * draft.layout.entry_bytes();
            let word = draft.reader.word(at, 8)?;
            if is_standard(word) && word & COPIED != 0 && !draft.layout.data_file() {
                draft.refer(at, words(&[word & !COPIED]))?;
            }
        }
        if table.copied {
            draft.refer(l1.offset + index * 8, words(&[table.offset]))?;
        }
        Ok(())
    })
}

/// Makes COPIED of the next active table what counts say.
pub(super) fn set_copied(draft: &mut Draft<'_>, index: u64) -> Outcome<Done> {
    let l1 = draft.layout.l1;
    with_next(draft, l1, index, |draft, index, table| mend_table(draft, index, table, &mut Vec::new()))
}

/// Makes COPIED of an active table, and of the L1 entry that names it, what counts say. `wrong` gets the places that were not.
pub(crate) fn mend_table(
    draft: &mut Draft<'_>,
    index: u64,
    table: L2Table,
    wrong: &mut Vec<u64>,
) -> Outcome<()> {
    let bits = draft.layout.cluster_bits;
    draft.reader.load(table.offset, draft.layout.cluster())?;
    for number in 0..draft.layout.l2_entries() {
        let at = table.offset + number * draft.layout.entry_bytes();
        let word = draft.reader.word(at, 8)?;
        let host = word & OFFSET_MASK;
        if is_standard(word) && host != 0 && !draft.layout.data_file() {
            mend_copied(draft, at, word, host >> bits, wrong)?;
        }
    }
    let at = draft.layout.l1.offset + index * 8;
    let word = draft.reader.word(at, 8)?;
    mend_copied(draft, at, word, table.offset >> bits, wrong)
}

fn mend_copied(draft: &mut Draft<'_>, at: u64, word: u64, cluster: u64, wrong: &mut Vec<u64>) -> Outcome<()> {
    let copied = draft.count(cluster)? == 1;
    if copied != (word & COPIED != 0) {
        wrong.push(at);
        draft.refer(at, words(&[word ^ COPIED]))?;
    }
    Ok(())
}

/// Refuses when a count that one more reference makes would not fit, before anything is changed.
pub(super) fn verify(draft: &mut Draft<'_>, l1: L1Table, index: u64) -> Outcome<Done> {
    let max = draft.layout.refcount_max();
    with_next(draft, l1, index, |draft, _, table| {
        let own = draft.count(table.offset >> draft.layout.cluster_bits)?;
        check_room(draft, own, 1, max)?;
        for entry in entries(draft, table)? {
            let Some((first, clusters)) = host_clusters(draft, entry) else { continue };
            for cluster in first..first + clusters {
                let count = draft.count(cluster)?;
                // Several compressed clusters can be in a host cluster: at most as many as are counted.
                let more = if matches!(entry, Entry::Packed(_)) { count } else { 1 };
                check_room(draft, count, more, max)?;
            }
        }
        Ok(())
    })
}

fn check_room(draft: &Draft<'_>, count: u64, more: u64, max: u64) -> Outcome<()> {
    if count.checked_add(more).is_some_and(|sum| sum <= max) {
        return Ok(());
    }
    let text = alloc::format!(
        "another snapshot would be the {}th reference to a cluster; refcount_bits {} count to {max}",
        count.saturating_add(more),
        1_u32 << draft.layout.refcount_order,
    );
    Err(Halt::Fail(Fail::new(FailKind::NoSpace, text)))
}

/// One reference more to the next table, and to what its entries name.
pub(super) fn add(draft: &mut Draft<'_>, l1: L1Table, index: u64) -> Outcome<Done> {
    with_next(draft, l1, index, |draft, _, table| {
        raise(draft, table.offset >> draft.layout.cluster_bits)?;
        for entry in entries(draft, table)? {
            let Some((first, clusters)) = host_clusters(draft, entry) else { continue };
            for cluster in first..first + clusters {
                raise(draft, cluster)?;
            }
        }
        Ok(())
    })
}

fn raise(draft: &mut Draft<'_>, cluster: u64) -> Outcome<()> {
    let count = draft.count(cluster)?;
    draft.set_count(cluster, count.saturating_add(1))
}

/// One reference less to the next table, and to what its entries name.
pub(super) fn subtract(draft: &mut Draft<'_>, l1: L1Table, index: u64) -> Outcome<Done> {
    with_next(draft, l1, index, |draft, _, table| release(draft, table))
}

/// One reference less to a table, and to what its entries name.
pub(super) fn release(draft: &mut Draft<'_>, table: L2Table) -> Outcome<()> {
    draft.drop_cluster(table.offset >> draft.layout.cluster_bits);
    if draft.layout.data_file() {
        return Ok(());
    }
    for entry in entries(draft, table)? {
        let Some((first, clusters)) = host_clusters(draft, entry) else { continue };
        for cluster in first..first + clusters {
            draft.drop_cluster(cluster);
        }
    }
    Ok(())
}

/// One reference less to the clusters of an L1 table itself.
pub(super) fn drop_table(draft: &mut Draft<'_>, l1: L1Table) -> Outcome<Done> {
    drop_run(draft, l1.offset, l1.entries * 8);
    Ok(Done::All)
}

/// One reference less to the clusters of a table that is not used any more.
pub(super) fn drop_run(draft: &mut Draft<'_>, offset: u64, length: u64) {
    let (first, count) = (offset >> draft.layout.cluster_bits, draft.layout.clusters_of(length));
    for cluster in first..first + count {
        draft.drop_cluster(cluster);
    }
    if count > 0 {
        draft.retired.push((first, count));
    }
}
