//! Jobs: lists of stages, carried out one after the other. Each plan of a job is durable before the next step, so the order of a
//! job's plans is the order on the disk.
//!
//! A job that changes counts of clusters which it keeps marks the image dirty first (version 3): an image whose job was cut short has
//! its counts and COPIED bits made anew when it is opened. In version 2, which has no such mark, the order of stages leaves
//! leaks, and COPIED bits that are missing, which cost a copy at the next write, and nothing else.

mod references;
mod resize;
mod snapshots;

use alloc::{collections::VecDeque, vec, vec::Vec};

use stampede_plugin::{Fail, FailKind, Outcome, Repair, Report};

use crate::{
    check::Check,
    draft::Draft,
    header::Header,
    layout::{DIRTY, L1Table, field},
    recover,
    relink::{self, Link},
    snapshot::Snapshot,
};

pub(crate) use resize::{check_size, grow_stages, shrink_stages};
pub(crate) use snapshots::{apply_stages, create_stages, delete_stages};

/// A part of a job.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    /// Sets the dirty bit.
    Mark,
    /// Clears it.
    Unmark,
    /// Clears COPIED bits of an L1 table and its L2 tables.
    ClearCopied(L1Table),
    /// Makes COPIED bits of the active tables what counts say.
    SetCopied,
    /// Refuses when a count would not fit.
    Verify(L1Table),
    /// One reference more to all that an L1 table reaches.
    Add(L1Table),
    /// One reference less.
    Subtract(L1Table),
    /// One reference less to the clusters of a table.
    DropTable(L1Table),
    /// The snapshot's L1 table, the snapshot table, and the header.
    Create { snapshot: stampede_plugin::SnapshotInfo },
    /// A snapshot table without one, and the header.
    Delete { id: alloc::string::String },
    /// A snapshot's L1 table as the active one.
    Apply { snapshot: Snapshot },
    /// A longer active L1 table.
    GrowL1 { entries: u64 },
    /// Zeros from one byte of the disk to another, as if it had `size` bytes.
    Zero { at: u64, end: u64 },
    /// Gives clusters back from one byte of the disk to another.
    Discard { at: u64, end: u64 },
    /// Gives up L2 tables from an L1 entry on.
    Cut { index: u64 },
    /// The disk's size.
    SetSize(u64),
    /// Another parent's name.
    Relink(Link),
    /// Bitmaps and autoclear bits, before the image is written.
    Settle,
    /// Looks at everything, and mends.
    Check(Check),
}

/// A job under way.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) stages: VecDeque<Stage>,
    /// How far the first stage got (an L1 index, or a place on the disk).
    pub(crate) index: u64,
    pub(crate) report: Report,
    done: u64,
    total: u64,
}

/// What a stage did.
pub(crate) enum Done {
    /// Its part up to here; it goes on at `0`.
    Part(u64),
    /// All of it.
    All,
}

impl Job {
    pub(crate) fn new(stages: Vec<Stage>) -> Self {
        let total = stages.len() as u64;
        Self { stages: stages.into(), index: 0, report: Report::default(), done: 0, total }
    }

    pub(crate) fn finished(report: Report) -> Self {
        Self { report, ..Self::new(Vec::new()) }
    }

    /// How many stages are done, and how many there are.
    pub(crate) fn progress(&self) -> (u64, u64) {
        (self.done, self.total)
    }

    /// Goes on behind what was done.
    pub(crate) fn advance(&mut self, done: &Done) {
        match done {
            Done::Part(index) => self.index = *index,
            Done::All => {
                self.stages.pop_front();
                self.index = 0;
                self.done += 1;
            }
        }
    }
}

/// Does a bit of a stage, other than [`Stage::Check`].
pub(crate) fn step(draft: &mut Draft<'_>, header: &Header, stage: &Stage, index: u64) -> Outcome<Done> {
    match stage {
        Stage::Mark => mark(draft, true),
        Stage::Unmark => mark(draft, false),
        Stage::ClearCopied(l1) => references::clear_copied(draft, *l1, index),
        Stage::SetCopied => references::set_copied(draft, index),
        Stage::Verify(l1) => references::verify(draft, *l1, index),
        Stage::Add(l1) => references::add(draft, *l1, index),
        Stage::Subtract(l1) => references::subtract(draft, *l1, index),
        Stage::DropTable(l1) => references::drop_table(draft, *l1),
        Stage::Create { snapshot } => snapshots::create(draft, snapshot),
        Stage::Delete { id } => snapshots::delete(draft, id),
        Stage::Apply { snapshot } => snapshots::apply(draft, snapshot),
        Stage::GrowL1 { entries } => resize::grow_l1(draft, *entries),
        Stage::Zero { at, end } => resize::zero(draft, index.max(*at), *end),
        Stage::Discard { at, end } => resize::discard(draft, index.max(*at), *end),
        Stage::Cut { index: first } => resize::cut(draft, index.max(*first)),
        Stage::SetSize(size) => resize::set_size(draft, *size),
        Stage::Relink(link) => relink::apply(draft, header, link).map(|()| Done::All),
        Stage::Settle => recover::settle(draft, header).map(|()| Done::All),
        Stage::Check(_) => Ok(Done::All),
    }
}

pub(crate) use references::{host_clusters, mend_table};

/// Sets or clears the dirty bit; version 2 has none.
fn mark(draft: &mut Draft<'_>, dirty: bool) -> Outcome<Done> {
    if draft.layout.version >= 3 {
        let bits = draft.layout.incompatible & !DIRTY | u64::from(dirty);
        draft.layout.incompatible = bits;
        draft.refer(field::INCOMPATIBLE, bits.to_be_bytes().to_vec())?;
    }
    Ok(Done::All)
}

/// The stages of a check.
pub(crate) fn check_stages(repair: Repair) -> Vec<Stage> {
    vec![Stage::Check(Check::new(repair))]
}

/// An argument that makes no sense.
pub(crate) fn invalid(text: impl Into<alloc::string::String>) -> Fail {
    Fail::new(FailKind::Invalid, text)
}
