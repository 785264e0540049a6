//! Counting references.

use alloc::{vec, vec::Vec};

use stampede_plugin::{Halt, Outcome};

use super::{Check, Phase, WINDOW};
use crate::{
    bitmaps, draft::Draft, entry::Entry, header::Header, job::host_clusters, layout::Layout, reader::small,
    refcount, snapshot,
};

/// How many entries of the refcount table are looked at in a step.
const ENTRIES_STEP: u64 = 1 << 14;

impl Check {
    /// Begins a window: what the header names.
    pub(super) fn window(&mut self, draft: &mut Draft<'_>, header: &Header) -> Outcome<()> {
        let layout = draft.layout;
        let mut runs = vec![
            (0, 1),
            run(&layout, layout.reftable_offset, layout.reftable_clusters << layout.cluster_bits),
        ];
        runs.extend(self.roots.iter().map(|l1| run(&layout, l1.offset, l1.entries * 8)));
        if let Some(table) = self.known(snapshot::read(&mut draft.reader, &layout))? {
            runs.push(run(&layout, layout.snapshots_offset, snapshot::table_length(&table)));
        }
        if let Some(more) = self.known(bitmaps::clusters(draft, header))? {
            runs.extend(more);
        }
        self.counts = vec![0; small(self.total.saturating_sub(self.start).min(WINDOW))];
        for (first, count) in runs {
            self.refer(first, count);
        }
        self.phase = Phase::Blocks(0);
        Ok(())
    }

    /// An answer, or an error that is noted.
    pub(super) fn known<T>(&mut self, answer: Outcome<T>) -> Outcome<Option<T>> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(Halt::Fail(fail)) => {
                self.damaged(&fail);
                Ok(None)
            }
            Err(need) => Err(need),
        }
    }

    /// One reference to each of these clusters.
    fn refer(&mut self, first: u64, count: u64) {
        let end = self.start + self.counts.len() as u64;
        for cluster in first.max(self.start)..(first.saturating_add(count)).min(end) {
            let place = &mut self.counts[small(cluster - self.start)];
            *place = place.saturating_add(1);
        }
    }

    /// The refcount blocks.
    pub(super) fn blocks(&mut self, draft: &mut Draft<'_>, from: u64) -> Outcome<()> {
        let layout = draft.layout;
        let end = layout.reftable_entries().min(from + ENTRIES_STEP);
        draft.reader.load(layout.reftable_offset + from * 8, (end - from) * 8)?;
        let mut found = Vec::new();
        for index in from..end {
            let at = layout.reftable_offset + index * 8;
            let entry = draft.reader.word(at, 8)?;
            if entry != 0 {
                found.push(refcount::check_block(&layout, draft.length(), at, entry));
            }
        }
        // One that is wrong is an error of the comparison, which can mend it.
        for block in found.into_iter().flatten() {
            self.refer(block >> layout.cluster_bits, 1);
        }
        self.phase = if end == layout.reftable_entries() { Phase::Tables(0, 0) } else { Phase::Blocks(end) };
        Ok(())
    }

    /// The next L2 table of an L1 table.
    pub(super) fn tables(&mut self, draft: &mut Draft<'_>, root: usize, index: u64) -> Outcome<()> {
        let Some(&l1) = self.roots.get(root) else {
            self.phase = Phase::Compare(self.start);
            return Ok(());
        };
        let end = l1.entries.min(index + ENTRIES_STEP);
        for index in index..end {
            let table = draft.l2_table(l1, index);
            if let Some(Some(table)) = self.known(table)? {
                let entries = self.entries(draft, table)?;
                let first = table.offset >> draft.layout.cluster_bits;
                self.refer(first, 1);
                self.count_entries(draft, &entries, root == 0);
                self.phase = Phase::Tables(root, index + 1);
                return Ok(());
            }
        }
        self.phase = if end == l1.entries { Phase::Tables(root + 1, 0) } else { Phase::Tables(root, end) };
        Ok(())
    }

    /// The legal entries of a table; others are noted.
    fn entries(&mut self, draft: &mut Draft<'_>, table: crate::table::L2Table) -> Outcome<Vec<Entry>> {
        draft.reader.load(table.offset, draft.layout.cluster())?;
        let mut entries = Vec::new();
        for index in 0..draft.layout.l2_entries() {
            let entry = draft.entry(table, index);
            entries.extend(self.known(entry)?);
        }
        Ok(entries)
    }

    fn count_entries(&mut self, draft: &Draft<'_>, entries: &[Entry], active: bool) {
        for &entry in entries {
            if active && self.first_walk {
                self.report.allocated_bytes += match entry {
                    Entry::Standard(entry) => {
                        u64::from(entry.allocated.count_ones()) * draft.layout.subcluster()
                    }
                    Entry::Packed(packed) => packed.length,
                };
            }
            if draft.layout.data_file() {
                continue;
            }
            if let Some((first, count)) = host_clusters(draft, entry) {
                self.refer(first, count);
            }
        }
    }
}

/// The clusters of a table.
fn run(layout: &Layout, offset: u64, length: u64) -> (u64, u64) {
    (offset >> layout.cluster_bits, layout.clusters_of(length))
}
