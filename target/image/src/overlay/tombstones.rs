//! Tombstones: the runs of sectors that read as zeroes, with a bound on their number.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::ledger::{Entry, RUNS_MAX};

/// The overlay's budget of tombstone runs is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the clone has no room for another zeroed range: {runs_max} are in use")]
pub struct OverlayFull {
    /// The budget, in runs.
    pub runs_max: u32,
}

/// Disjoint runs that do not touch either: first sector to the sector behind the last, and where the run is recorded.
#[derive(Debug)]
pub(super) struct Tombstones {
    runs: BTreeMap<u64, Run>,
    runs_max: u32,
    /// Entries of the ledger that are free, of those that were ever used.
    free: Vec<u32>,
    /// Entries from here on were never used.
    fresh: u32,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    end: u64,
    /// Its entry in the ledger, if the overlay is kept.
    entry: u32,
}

impl Tombstones {
    pub(super) fn new(runs_max: u32) -> Self {
        Self { runs: BTreeMap::new(), runs_max, free: Vec::new(), fresh: 0 }
    }

    /// What the ledger has, which a kill may have left in the middle of a change: runs that overlap are made one there too.
    pub(super) fn found(runs_max: u32, entry: &Entry) -> Self {
        let mut found = Self::new(RUNS_MAX);
        for (number, (start, end)) in (0..).zip(entry.runs()) {
            found.fresh = number + 1;
            if start < end {
                // A record that is there takes no memory.
                let _ = found.merge(start, end, Some(number), Some(entry));
            } else {
                found.free.push(number);
            }
        }
        found.runs_max = runs_max.min(RUNS_MAX);
        found
    }

    pub(super) fn runs(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn clear(&mut self, kept: Option<&Entry>) {
        self.runs.clear();
        self.free.clear();
        self.fresh = 0;
        kept.into_iter().for_each(Entry::clear_runs);
    }

    /// Adds `start..end` (not empty), merged with what it overlaps or touches. Nothing changes on error.
    pub(super) fn add(&mut self, start: u64, end: u64, kept: Option<&Entry>) -> Result<(), OverlayFull> {
        self.merge(start, end, None, kept)
    }

    /// The same; `recorded` is where the ledger has it already.
    fn merge(
        &mut self,
        start: u64,
        end: u64,
        recorded: Option<u32>,
        kept: Option<&Entry>,
    ) -> Result<(), OverlayFull> {
        let full = OverlayFull { runs_max: self.runs_max };
        let mut merged = (start, end);
        // Any of the runs that it absorbs can become it.
        let mut grows = None;
        if let Some((&before_start, before)) = self.runs.range(..start).next_back()
            && before.end >= start
        {
            merged = (before_start, end.max(before.end));
            grows = Some(before.entry);
        }
        // Runs are disjoint, so at most the last that starts in reach ends beyond it.
        if let Some((_, last)) = self.runs.range(start..=end).next_back() {
            merged.1 = merged.1.max(last.end);
            grows = grows.or(Some(last.entry));
        }
        if grows.is_none() && self.runs.len() >= self.runs_max as usize {
            return Err(full);
        }
        let entry = match (kept, grows.or(recorded)) {
            (Some(kept), Some(entry)) => {
                kept.put_run(entry, merged.0, merged.1).then_some(entry).ok_or(full)?
            }
            (Some(kept), None) => self.record(kept, merged).ok_or(full)?,
            (None, _) => 0,
        };
        while let Some((&inner, run)) = self.runs.range(merged.0..=merged.1).next() {
            let run = *run;
            self.runs.remove(&inner);
            self.release(run.entry, entry, kept);
        }
        if let Some(recorded) = recorded {
            self.release(recorded, entry, kept);
        }
        self.runs.insert(merged.0, Run { end: merged.1, entry });
        Ok(())
    }

    /// Records a run in an entry that is free.
    fn record(&mut self, kept: &Entry, (start, end): (u64, u64)) -> Option<u32> {
        let entry = self.free.last().copied().unwrap_or(self.fresh);
        if !kept.put_run(entry, start, end) {
            return None;
        }
        if self.free.pop().is_none() {
            self.fresh += 1;
        }
        Some(entry)
    }

    /// The entry of a run that became a part of another's is free.
    fn release(&mut self, entry: u32, but: u32, kept: Option<&Entry>) {
        if let Some(kept) = kept.filter(|_| entry != but) {
            kept.clear_run(entry);
            self.free.push(entry);
        }
    }

    /// The runs within `start..end` (not empty), cut to it, in order.
    pub(super) fn within(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let before = self.runs.range(..start).next_back().filter(|(_, run)| run.end > start);
        let inside = self.runs.range(start..end);
        before
            .into_iter()
            .chain(inside)
            .map(move |(&run_start, run)| (run_start.max(start), run.end.min(end)))
    }
}
