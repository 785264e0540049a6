//! Patches that are not durable yet, and the order in which they become so.
//!
//! A patch's *level* is how many barriers must be before it: one more than that of each patch it comes after, one at least when data must be
//! durable first, and no less than an earlier patch's of the same bytes. A flush writes level by level, a barrier behind each; so its number of
//! barriers is that of levels, however many plans there were.

use std::{collections::BTreeMap, format, vec, vec::Vec};

use super::{Disk, ModelError, usize_of, violation};
use crate::{FileId, Free, Patch, PatchId, Token};

const SECTOR: u64 = 512;

#[derive(Default)]
pub(super) struct Pending {
    patches: Vec<Waiting>,
    frees: Vec<(Token, Vec<Free>)>,
    /// Whether data was written, or a file got another length, since the last barrier.
    data: bool,
}

/// A patch; one of the host's own (a bit of a sector bitmap) has no id.
struct Waiting {
    id: Option<PatchId>,
    patch: Patch,
}

impl Pending {
    pub(super) fn data_written(&mut self) {
        self.data = true;
    }

    pub(super) fn add(&mut self, id: Option<PatchId>, patch: &Patch) -> Result<(), ModelError> {
        if id.is_some() && self.patches.iter().any(|waiting| waiting.id == id) {
            return violation(format!("there are two patches {}", patch.id));
        }
        self.patches.push(Waiting { id, patch: patch.clone() });
        Ok(())
    }

    pub(super) fn free_later(&mut self, token: Token, frees: &[Free]) {
        if !frees.is_empty() {
            self.frees.push((token, frees.to_vec()));
        }
    }

    /// Plans whose space is free now.
    pub(super) fn freed(&mut self) -> Vec<(Token, Vec<Free>)> {
        let waiting = |free: &Free| {
            free.after.iter().any(|id| self.patches.iter().any(|waiting| waiting.id == Some(*id)))
        };
        let (later, now) =
            core::mem::take(&mut self.frees).into_iter().partition(|(_, frees)| frees.iter().any(waiting));
        self.frees = later;
        now
    }

    /// Makes everything durable, or everything but what may stay behind.
    pub(super) fn flush(&mut self, disk: &mut Disk, lazy_too: bool) -> Result<(), ModelError> {
        let (levels, wanted) = (self.levels()?, self.wanted(lazy_too));
        let last = levels.iter().zip(&wanted).filter(|(_, wanted)| **wanted).map(|(level, _)| *level).max();
        for level in 0..=last.unwrap_or(0) {
            let mut wrote = level == 0 && self.data;
            for (index, waiting) in self.patches.iter().enumerate() {
                if wanted[index] && levels[index] == level {
                    write_sectors(disk, &waiting.patch);
                    wrote = true;
                }
            }
            if wrote {
                disk.barrier();
            }
        }
        self.data = false;
        let mut keep = wanted.iter().map(|wanted| !wanted);
        self.patches.retain(|_| keep.next().unwrap_or(false));
        Ok(())
    }

    fn levels(&self) -> Result<Vec<u32>, ModelError> {
        let mut levels: Vec<u32> = vec![];
        let mut by_id: BTreeMap<PatchId, u32> = BTreeMap::new();
        let ids: Vec<_> = self.patches.iter().filter_map(|waiting| waiting.id).collect();
        for (index, waiting) in self.patches.iter().enumerate() {
            let mut level = u32::from(waiting.patch.after_data && self.data);
            for id in &waiting.patch.after {
                match by_id.get(id) {
                    Some(earlier) => level = level.max(earlier + 1),
                    None if ids.contains(id) => {
                        return violation(format!("patch {} comes after a later one", waiting.patch.id));
                    }
                    None => {}
                }
            }
            for (earlier, at) in self.patches[..index].iter().zip(&levels) {
                if overlap(&earlier.patch, &waiting.patch) {
                    level = level.max(*at);
                }
            }
            if let Some(id) = waiting.id {
                by_id.insert(id, level);
            }
            levels.push(level);
        }
        Ok(levels)
    }

    /// Which patches a flush writes: without lazy ones all that are not, and those that they rest on.
    fn wanted(&self, lazy_too: bool) -> Vec<bool> {
        let mut wanted: Vec<bool> =
            self.patches.iter().map(|waiting| lazy_too || !waiting.patch.lazy).collect();
        for index in (0..self.patches.len()).rev() {
            if wanted[index] {
                let (earlier, later) = (&self.patches[..index], &self.patches[index].patch);
                for (one, wanted) in earlier.iter().zip(&mut wanted) {
                    let rests = one.id.is_some_and(|id| later.after.contains(&id));
                    *wanted |= rests || overlap(&one.patch, later);
                }
            }
        }
        wanted
    }
}

fn overlap(one: &Patch, other: &Patch) -> bool {
    let end = |patch: &Patch| patch.offset + patch.bytes.len() as u64;
    one.file == other.file && one.offset < end(other) && other.offset < end(one)
}

/// Writes the sectors that a patch touches, as the host does: with what the file has around it.
fn write_sectors(disk: &mut Disk, patch: &Patch) {
    let FileId(file) = patch.file;
    let start = patch.offset / SECTOR * SECTOR;
    let end = (patch.offset + patch.bytes.len() as u64).div_ceil(SECTOR) * SECTOR;
    let bytes = &disk.files()[usize::from(file)];
    let end = end.min((bytes.len() as u64).max(patch.offset + patch.bytes.len() as u64));
    let mut sectors = vec![0; usize_of(end - start)];
    let there = bytes.len().saturating_sub(usize_of(start)).min(sectors.len());
    sectors[..there].copy_from_slice(&bytes[usize_of(start)..usize_of(start) + there]);
    let at = usize_of(patch.offset - start);
    sectors[at..at + patch.bytes.len()].copy_from_slice(&patch.bytes);
    disk.write(patch.file, start, &sectors);
}
