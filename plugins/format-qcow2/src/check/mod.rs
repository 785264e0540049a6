//! Looking for contradictions: every reference is counted, and compared with the counts that are stored.
//!
//! References are counted a *window* of clusters at a time, so that an image of any size needs little memory: each window is a walk over
//! all tables. What a table names outside the file is an error, and never a reason to allocate. What is counted too high is a leak; what
//! is counted too low, or not at all, is an error, as is a COPIED bit that says other than the count.

mod compare;
mod count;

use alloc::{string::String, vec::Vec};

use stampede_plugin::{Fail, FileId, Halt, Outcome, Repair, Report};

use crate::{
    draft::Draft,
    header::Header,
    job,
    layout::{CORRUPT, DIRTY, L1Table, field},
};

/// How many clusters are counted in a walk.
const WINDOW: u64 = 1 << 22;
/// How many clusters behind the file's end are looked at for counts.
const BEHIND_MAX: u64 = 1 << 22;
/// How many errors are named.
const NAMED_MAX: usize = 1000;

/// A check under way.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    repair: Repair,
    phase: Phase,
    /// The clusters that are looked at, and how many of them the file has.
    total: u64,
    /// The first cluster of the window, and the references to each of its clusters.
    start: u64,
    counts: Vec<u32>,
    /// The active L1 table, and those of snapshots.
    roots: Vec<L1Table>,
    first_walk: bool,
    /// Errors in tables, which are not mended: what they should be is not known.
    damage: u64,
    /// Errors that were not mended.
    left: u64,
    pub(crate) report: Report,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Begin,
    /// What the header names.
    Window,
    /// The refcount table's blocks, from an entry on.
    Blocks(u64),
    /// An L1 table, from an entry on.
    Tables(usize, u64),
    /// The counts from a cluster on.
    Compare(u64),
    /// The active tables, from an L1 entry on.
    Copied(u64),
    /// The header's bits.
    Finish,
    Done,
}

impl Check {
    pub(crate) fn new(repair: Repair) -> Self {
        Self {
            repair,
            phase: Phase::Begin,
            total: 0,
            start: 0,
            counts: Vec::new(),
            roots: Vec::new(),
            first_walk: true,
            damage: 0,
            left: 0,
            report: Report::default(),
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// How many clusters are compared, and how many there are.
    pub(crate) fn progress(&self) -> (u64, u64) {
        match self.phase {
            Phase::Compare(at) => (at, self.total),
            Phase::Copied(_) | Phase::Finish | Phase::Done => (self.total, self.total),
            _ => (self.start, self.total),
        }
    }

    /// A bit of the check. Whether the draft is a plan to be carried out.
    pub(crate) fn step(&mut self, draft: &mut Draft<'_>, header: &Header) -> Outcome<bool> {
        match self.phase {
            Phase::Begin => self.begin(draft).map(|()| false),
            Phase::Window => self.window(draft, header).map(|()| false),
            Phase::Blocks(from) => self.blocks(draft, from).map(|()| false),
            Phase::Tables(root, index) => self.tables(draft, root, index).map(|()| false),
            Phase::Compare(from) => self.compare(draft, from),
            Phase::Copied(index) => self.copied(draft, index),
            Phase::Finish => self.finish(draft),
            Phase::Done => Ok(false),
        }
    }

    fn begin(&mut self, draft: &mut Draft<'_>) -> Outcome<()> {
        let layout = draft.layout;
        let mut roots = alloc::vec![layout.l1];
        match crate::snapshot::read(&mut draft.reader, &layout) {
            Ok(snapshots) => roots.extend(snapshots.iter().map(|snapshot| snapshot.l1)),
            Err(Halt::Fail(fail)) => self.damaged(&fail),
            Err(need) => return Err(need),
        }
        let file = layout.clusters_of(draft.reader.file_length(FileId::MAIN));
        let behind = self.counted_to(draft)?;
        self.roots = roots;
        self.total = file.max(behind.min(file + BEHIND_MAX));
        self.phase = Phase::Window;
        Ok(())
    }

    /// The cluster up to which there are refcount blocks.
    fn counted_to(&self, draft: &mut Draft<'_>) -> Outcome<u64> {
        let layout = draft.layout;
        let mut index = layout.reftable_entries();
        draft.reader.load(layout.reftable_offset, index * 8)?;
        while index > 0 && draft.reader.word(layout.reftable_offset + (index - 1) * 8, 8)? == 0 {
            index -= 1;
        }
        Ok(index.saturating_mul(layout.block_entries()))
    }

    /// An error that can be mended, and whether it is.
    fn error(&mut self, text: impl FnOnce() -> String, mended: bool) {
        self.report.error_count += 1;
        if mended {
            self.report.repaired_errors += 1;
        } else {
            self.left += 1;
        }
        if self.report.errors.len() < NAMED_MAX {
            self.report.errors.push(text());
        }
    }

    /// An error in a table.
    fn damaged(&mut self, fail: &Fail) {
        if self.first_walk {
            self.damage += 1;
            self.error(|| alloc::format!("{fail}"), false);
        }
    }

    /// COPIED bits of the next active table.
    fn copied(&mut self, draft: &mut Draft<'_>, mut index: u64) -> Outcome<bool> {
        let l1 = draft.layout.l1;
        while index < l1.entries {
            match draft.l2_table(l1, index) {
                Ok(Some(table)) => {
                    let mut wrong = Vec::new();
                    match job::mend_table(draft, index, table, &mut wrong) {
                        // A count that cannot be read is an error that was named before.
                        Ok(()) | Err(Halt::Fail(_)) => {}
                        Err(need) => return Err(need),
                    }
                    let mend = self.repair == Repair::All;
                    for at in &wrong {
                        self.error(
                            || alloc::format!("COPIED says other than the count (at byte {at})"),
                            mend,
                        );
                    }
                    self.phase = Phase::Copied(index + 1);
                    return Ok(mend && !wrong.is_empty());
                }
                Ok(None) | Err(Halt::Fail(_)) => index += 1,
                Err(need) => return Err(need),
            }
        }
        self.phase = Phase::Finish;
        Ok(false)
    }

    /// An image that was mended whole is neither dirty nor corrupt.
    fn finish(&mut self, draft: &mut Draft<'_>) -> Outcome<bool> {
        let bits = draft.layout.incompatible & !(DIRTY | CORRUPT);
        let mend = self.repair == Repair::All && self.left == 0 && bits != draft.layout.incompatible;
        if mend {
            draft.refer(field::INCOMPATIBLE, bits.to_be_bytes().to_vec())?;
            draft.layout.incompatible = bits;
        }
        self.phase = Phase::Done;
        Ok(mend)
    }
}
