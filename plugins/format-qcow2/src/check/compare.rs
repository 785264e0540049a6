//! Comparing references with counts, and mending counts.

use alloc::{format, vec::Vec};

use stampede_plugin::{Halt, Outcome, Repair};

use super::{Check, Phase, WINDOW};
use crate::{draft::Draft, reader::small, refcount};

/// How many clusters are compared in a step.
const STEP: u64 = 1 << 16;

/// A cluster whose count is wrong.
struct Differs {
    cluster: u64,
    stored: u64,
    found: u64,
}

impl Check {
    /// Compares the next clusters. Whether there is something to carry out.
    pub(super) fn compare(&mut self, draft: &mut Draft<'_>, from: u64) -> Outcome<bool> {
        let window_end = self.start + self.counts.len() as u64;
        if from >= window_end {
            self.next_window();
            return Ok(false);
        }
        let entries = draft.layout.block_entries();
        let end = window_end.min((from / entries + 1) * entries).min(from + STEP);
        let block = match refcount::block_of(draft, from) {
            Ok(block) => Ok(block),
            Err(Halt::Fail(fail)) => Err(fail),
            Err(need) => return Err(need),
        };
        let differs = self.differing(draft, block.clone().ok().flatten(), from, end)?;
        let mends = self.mend(draft, &differs, block.is_err(), from / entries)?;
        if let Err(fail) = block
            && from.is_multiple_of(entries)
        {
            self.error(|| format!("{fail}"), self.repair == Repair::All);
        }
        for differs in &differs {
            self.note(draft, differs);
        }
        for &(start, count) in &draft.taken.clone() {
            for cluster in start..start + count {
                if (self.start..window_end).contains(&cluster) {
                    self.counts[small(cluster - self.start)] += 1;
                }
            }
        }
        self.phase = Phase::Compare(end);
        Ok(mends)
    }

    fn next_window(&mut self) {
        self.first_walk = false;
        if self.start + WINDOW < self.total {
            self.start += WINDOW;
            self.phase = Phase::Window;
        } else {
            self.counts = Vec::new();
            self.phase = Phase::Copied(0);
        }
    }

    fn differing(
        &self,
        draft: &mut Draft<'_>,
        block: Option<u64>,
        from: u64,
        end: u64,
    ) -> Outcome<Vec<Differs>> {
        let layout = draft.layout;
        let entries = layout.block_entries();
        let bytes = match block {
            Some(block) => draft.reader.bytes(block, layout.cluster())?,
            None => Vec::new(),
        };
        let mut differs = Vec::new();
        for cluster in from..end {
            let stored = refcount::in_block(&layout, &bytes, cluster % entries);
            let found = u64::from(self.counts[small(cluster - self.start)]);
            if stored != found {
                differs.push(Differs { cluster, stored, found });
            }
        }
        Ok(differs)
    }

    /// Whether a count is to be mended. Where tables are damaged nothing is given up: what they named may be there.
    fn mends(&self, draft: &Draft<'_>, differs: &Differs) -> bool {
        let leak = differs.stored > differs.found;
        match self.repair {
            Repair::No => false,
            Repair::Leaks => leak && self.damage == 0,
            Repair::All if leak => self.damage == 0,
            Repair::All => differs.found <= draft.layout.refcount_max(),
        }
    }

    /// Mends counts, with a new block where there is none.
    fn mend(&self, draft: &mut Draft<'_>, differs: &[Differs], bad_block: bool, index: u64) -> Outcome<bool> {
        let wanted: Vec<_> = differs.iter().filter(|differs| self.mends(draft, differs)).collect();
        let at = draft.layout.reftable_offset + index * 8;
        if bad_block && self.repair == Repair::All {
            draft.edit_tables(at, crate::draft::words(&[0]))?;
        } else if wanted.is_empty() || bad_block {
            return Ok(false);
        }
        for differs in &wanted {
            if refcount::block_of(draft, differs.cluster)?.is_none() {
                draft.add_block(index)?;
            }
            draft.set_count(differs.cluster, differs.found)?;
        }
        Ok(true)
    }

    fn note(&mut self, draft: &Draft<'_>, differs: &Differs) {
        let mended = self.mends(draft, differs);
        let cluster = draft.layout.cluster();
        if differs.stored > differs.found {
            self.report.leaked_bytes += cluster;
            self.report.repaired_bytes += if mended { cluster } else { 0 };
            return;
        }
        let &Differs { cluster: number, stored, found } = differs;
        let text =
            || format!("cluster {number} has reference count {stored}, but is referred to {found} times");
        self.error(text, mended);
    }
}
