//! The order in which patches become durable.
//!
//! A patch's *level* says how many barriers must be before it: one more than that of each patch that it comes after, at least one when data must be
//! durable first, and no less than that of an earlier patch of the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use stampede_plugin::{Patch, PatchId};

/// A patch that is not durable yet. One of the host's own (a bit of a sector bitmap) has no id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) id: Option<PatchId>,
    pub(super) patch: Patch,
}

/// For each patch its level. `data` says whether there is data that is not durable.
pub(super) fn levels(patches: &[Waiting], data: bool) -> Vec<u32> {
    let mut by_id: BTreeMap<PatchId, u32> = BTreeMap::new();
    let mut by_byte: BTreeMap<u16, Stretches> = BTreeMap::new();
    let mut levels = Vec::with_capacity(patches.len());
    for Waiting { id, patch } in patches {
        let after = patch.after.iter().filter_map(|id| by_id.get(id)).map(|level| level + 1).max();
        let own = u32::from(patch.after_data && data).max(after.unwrap_or(0));
        let level = by_byte.entry(patch.file.0).or_default().raise(start(patch), end(patch), own);
        if let Some(id) = id {
            by_id.insert(*id, level);
        }
        levels.push(level);
    }
    levels
}

/// Which patches a flush must write: all that are not lazy, and all that those rest on.
pub(super) fn wanted(patches: &[Waiting]) -> Vec<bool> {
    let mut ids: BTreeSet<PatchId> = BTreeSet::new();
    let mut bytes: BTreeMap<u16, Stretches> = BTreeMap::new();
    let mut wanted = vec![false; patches.len()];
    for (Waiting { id, patch }, wanted) in patches.iter().zip(&mut wanted).rev() {
        let stretches = bytes.entry(patch.file.0).or_default();
        *wanted = !patch.lazy
            || id.is_some_and(|id| ids.contains(&id))
            || stretches.touches(start(patch), end(patch));
        if *wanted {
            ids.extend(&patch.after);
            stretches.raise(start(patch), end(patch), 0);
        }
    }
    wanted
}

pub(super) fn start(patch: &Patch) -> u64 {
    patch.offset
}

pub(super) fn end(patch: &Patch) -> u64 {
    patch.offset.saturating_add(patch.bytes.len() as u64)
}

/// Bytes of a file that were patched, with the level of the last patch: stretches that do not overlap, by their first byte.
#[derive(Default)]
struct Stretches(BTreeMap<u64, (u64, u32)>);

impl Stretches {
    fn touching(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64, u32)> + '_ {
        // They do not overlap, so only the last one that begins before `start` can reach into the range from there.
        let first = self.0.range(..start).next_back().filter(|(_, stretch)| stretch.0 > start);
        first
            .into_iter()
            .chain(self.0.range(start..end.max(start)))
            .map(|(&from, &(to, level))| (from, to, level))
    }

    fn touches(&self, start: u64, end: u64) -> bool {
        self.touching(start, end).next().is_some()
    }

    /// Gives the bytes from `start` to `end` the highest of `level` and what they have; returns it.
    fn raise(&mut self, start: u64, end: u64, level: u32) -> u32 {
        let touched: Vec<_> = self.touching(start, end).collect();
        let level = touched.iter().map(|(_, _, level)| *level).max().unwrap_or(0).max(level);
        for (from, to, old) in touched {
            self.0.remove(&from);
            if from < start {
                self.0.insert(from, (start, old));
            }
            if to > end {
                self.0.insert(end, (to, old));
            }
        }
        if start < end {
            self.0.insert(start, (end, level));
        }
        level
    }
}
