//! Tombstones: the runs of sectors that read as zeroes, with a bound on their number.

use std::collections::BTreeMap;

use thiserror::Error;

/// The overlay's budget of tombstone runs is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the clone has no room for another zeroed range: {runs_max} are in use")]
pub struct OverlayFull {
    /// The budget, in runs.
    pub runs_max: u32,
}

/// Disjoint runs that do not touch either: first sector to the sector behind the last.
#[derive(Debug)]
pub(super) struct Tombstones {
    runs: BTreeMap<u64, u64>,
    runs_max: u32,
}

impl Tombstones {
    pub(super) fn new(runs_max: u32) -> Self {
        Self { runs: BTreeMap::new(), runs_max }
    }

    pub(super) fn runs(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn clear(&mut self) {
        self.runs.clear();
    }

    /// Adds `start..end` (not empty), merged with what it overlaps or touches. Nothing changes on error.
    pub(super) fn add(&mut self, start: u64, end: u64) -> Result<(), OverlayFull> {
        let mut merged = (start, end);
        if let Some((&before_start, &before_end)) = self.runs.range(..start).next_back()
            && before_end >= start
        {
            merged = (before_start, end.max(before_end));
        }
        // Runs are disjoint, so at most the last that starts in reach ends beyond it.
        if let Some((_, &last_end)) = self.runs.range(start..=end).next_back() {
            merged.1 = merged.1.max(last_end);
        }
        let absorbs = merged.0 < start || self.runs.range(start..=end).next().is_some();
        if !absorbs && self.runs.len() >= self.runs_max as usize {
            return Err(OverlayFull { runs_max: self.runs_max });
        }
        while let Some((&inner, _)) = self.runs.range(start..=end).next() {
            self.runs.remove(&inner);
        }
        self.runs.insert(merged.0, merged.1);
        Ok(())
    }

    /// The runs within `start..end` (not empty), cut to it, in order.
    pub(super) fn within(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let before = self.runs.range(..start).next_back().filter(|&(_, &run_end)| run_end > start);
        let inside = self.runs.range(start..end);
        before
            .into_iter()
            .chain(inside)
            .map(move |(&run_start, &run_end)| (run_start.max(start), run_end.min(end)))
    }
}
