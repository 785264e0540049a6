//! Rules of plans.

use alloc::{collections::BTreeSet, format, vec::Vec};

use super::{Judge, Purpose, Verdict, ranges::Ranges};
use crate::{Change, FileId, Mode, Plan, Range, Step};

impl Judge {
    /// Judges a plan, and remembers what it protects and gives up.
    ///
    /// # Errors
    /// When a step is outside its file, guest data would be over metadata, data of the change would go nowhere or twice, two steps meet, a
    /// patch is outside its file, or there is too much of something.
    pub fn plan(&mut self, plan: &Plan, purpose: Purpose<'_>, lengths: &dyn Fn(FileId) -> u64) -> Verdict {
        let most = self.bounds.plan_items_max;
        for (what, count) in [
            ("steps", plan.now.len()),
            ("extents", plan.map.len()),
            ("patches", plan.meta.len()),
            ("free ranges", plan.free.len()),
        ] {
            self.count(what, count, most)?;
        }
        self.count("metadata ranges", plan.protect.len(), self.bounds.metadata_ranges_max)?;
        let set = self.lengths_set(plan)?;
        let after = |file: FileId| {
            set.iter().rev().find(|(of, _)| *of == file).map_or_else(|| lengths(file), |(_, length)| *length)
        };
        self.steps(plan, purpose, &after)?;
        self.puts(plan, purpose)?;
        self.patches(plan, &after)?;
        self.frees(plan, &after)?;
        for range in &plan.protect {
            self.in_file("metadata", range.file, range.offset, range.length, &after)?;
            self.metadata.insert(range.file.0, range.offset, range.offset + range.length);
        }
        self.map(plan, purpose, &after)?;
        if !plan.free.is_empty() {
            self.freed.push((plan.token, plan.free.clone()));
        }
        Ok(())
    }

    /// The lengths that a plan sets.
    fn lengths_set(&self, plan: &Plan) -> Result<Vec<(FileId, u64)>, alloc::string::String> {
        let mut set = Vec::new();
        for step in &plan.now {
            if let Step::SetLength { file, length } = *step {
                if file.0 >= self.files || length > self.bounds.file_length_max {
                    return Err(format!("file {} is to get {length} bytes", file.0));
                }
                set.push((file, length));
            }
        }
        Ok(set)
    }

    /// Each step is inside its file and off metadata, and none meets another.
    fn steps(&self, plan: &Plan, purpose: Purpose<'_>, lengths: &dyn Fn(FileId) -> u64) -> Verdict {
        // A job may copy what is no part of the disk as it is now (a snapshot's, a larger disk's).
        let disk = match purpose {
            Purpose::Change(..) => self.virtual_size,
            Purpose::Upkeep => self.bounds.virtual_size_max,
        };
        let mut places = Vec::new();
        for step in &plan.now {
            let (file, offset, length) = match *step {
                Step::SetLength { .. } => continue,
                Step::Copy { guest, length, file, offset } | Step::Put { guest, length, file, offset } => {
                    on_disk(guest, length, disk)?;
                    (file, offset, length)
                }
                Step::Fill { file, offset, length } => (file, offset, length),
            };
            self.in_file("guest data", file, offset, length, lengths)?;
            self.off_metadata("guest data", file, offset, length)?;
            places.push((file, offset, offset + length));
        }
        places.sort_unstable();
        match places.windows(2).find(|pair| pair[0].0 == pair[1].0 && pair[1].1 < pair[0].2) {
            Some(pair) => Err(format!("two steps write byte {} of file {}", pair[1].1, pair[1].0.0)),
            None => Ok(()),
        }
    }

    /// The data of a change goes to one place each.
    fn puts(&self, plan: &Plan, purpose: Purpose<'_>) -> Verdict {
        let mut puts: Vec<Range> = Vec::new();
        for step in &plan.now {
            if let Step::Put { guest, length, .. } = *step {
                puts.push(Range { offset: guest, length });
            }
        }
        let Purpose::Change(ranges, Change::Data) = purpose else {
            return match puts.first() {
                Some(put) => {
                    Err(format!("it puts data that there is none of, at byte {} of the disk", put.offset))
                }
                None => Ok(()),
            };
        };
        puts.sort_unstable_by_key(|put| put.offset);
        let mut puts = puts.into_iter();
        for range in merged(ranges) {
            let mut at = range.offset;
            while at < range.end() {
                match puts.next() {
                    Some(put) if put.offset == at && put.end() <= range.end() => at = put.end(),
                    Some(put) => {
                        return Err(format!("it puts data of {put:?}, where byte {at} of the disk is next"));
                    }
                    None => return Err(format!("the data of byte {at} of the disk goes nowhere")),
                }
            }
        }
        puts.next().map_or(Ok(()), |put| Err(format!("it puts data of {put:?}, which is not in the change")))
    }

    fn patches(&self, plan: &Plan, lengths: &dyn Fn(FileId) -> u64) -> Verdict {
        let (mut ids, mut bytes) = (BTreeSet::new(), 0_u64);
        for patch in &plan.meta {
            bytes = bytes.saturating_add(patch.bytes.len() as u64);
            self.in_file("a patch", patch.file, patch.offset, patch.bytes.len() as u64, lengths)?;
            if patch.bytes.is_empty() || patch.after.len() > self.bounds.plan_items_max as usize {
                return Err(format!(
                    "patch {} is empty, or comes after {} others",
                    patch.id,
                    patch.after.len()
                ));
            }
            if !ids.insert(patch.id) {
                return Err(format!("two patches {}", patch.id));
            }
        }
        if bytes > self.bounds.patch_bytes_max {
            return Err(format!("{bytes} bytes of patches; {} may be", self.bounds.patch_bytes_max));
        }
        // An order within a plan is that of its list, so it has no loops.
        let mut before = BTreeSet::new();
        for patch in &plan.meta {
            if let Some(later) = patch.after.iter().find(|id| ids.contains(id) && !before.contains(*id)) {
                return Err(format!("patch {} comes after {later}, which is listed behind it", patch.id));
            }
            before.insert(patch.id);
        }
        Ok(())
    }

    fn frees(&self, plan: &Plan, lengths: &dyn Fn(FileId) -> u64) -> Verdict {
        for free in &plan.free {
            // What a shorter length cut off is free too, and has no place in the file any more.
            let end = free.offset.checked_add(free.length);
            if free.file.0 >= self.files || end.is_none_or(|end| free.punch && end > lengths(free.file)) {
                return Err(format!(
                    "{} free bytes at byte {} of file {}",
                    free.length, free.offset, free.file.0
                ));
            }
        }
        if !plan.free.is_empty() && self.freed.iter().any(|(token, _)| *token == plan.token) {
            return Err(format!("two plans {}", plan.token));
        }
        Ok(())
    }

    /// The map has the changed ranges, and nothing that is outside the files.
    fn map(&self, plan: &Plan, purpose: Purpose<'_>, lengths: &dyn Fn(FileId) -> u64) -> Verdict {
        for extent in &plan.map {
            self.extent(extent, self.mode == Mode::ReadWrite, lengths)?;
        }
        let Purpose::Change(ranges, Change::Data | Change::Zero) = purpose else { return Ok(()) };
        let mut told = Ranges::default();
        for extent in &plan.map {
            told.insert(0, extent.range.offset, extent.range.end());
        }
        for range in ranges {
            let found = told.touching(0, range.offset, range.offset + 1);
            if found.is_none_or(|(_, end)| end < range.end()) {
                return Err(format!("the map does not have all of {range:?}"));
            }
        }
        Ok(())
    }
}

/// Part of a disk of `whole` bytes.
fn on_disk(guest: u64, length: u64, whole: u64) -> Verdict {
    let end = guest.checked_add(length);
    if length > 0 && (guest | length).is_multiple_of(512) && end.is_some_and(|end| end <= whole) {
        return Ok(());
    }
    Err(format!("{length} bytes at byte {guest} of the disk, which has {whole}"))
}

/// Ranges one after the other become one.
fn merged(ranges: &[Range]) -> Vec<Range> {
    let mut merged: Vec<Range> = Vec::new();
    for &range in ranges {
        match merged.last_mut() {
            Some(last) if last.end() == range.offset => last.length += range.length,
            _ => merged.push(range),
        }
    }
    merged
}
