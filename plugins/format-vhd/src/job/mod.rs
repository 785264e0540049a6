//! What is done to an image as a whole. Each step is durable before the next begins; that alone orders them.

mod check;
mod create;
mod relink;
mod resize;

use alloc::{boxed::Box, format, vec::Vec};

use stampede_plugin::{Fail, FailKind, Job, JobStep, Outcome, Pages, Plan, Report};

use crate::{
    Names,
    layout::{Header, UNUSED},
    no_snapshots,
    open::{Image, patch},
};

/// How many entries of the table a step writes.
const ENTRIES_A_STEP: u32 = 64 << 10;

/// A job under way: which, and which of its steps comes next.
#[derive(Debug, Clone)]
pub(crate) enum Running {
    Create(Box<create::Create>),
    Check(check::Check),
    Resize(Box<resize::Resize>),
    Relink(Box<relink::Relink>),
    Finished(Report),
}

/// A step's answer and what comes next.
pub(crate) type Stepped = Outcome<(JobStep, Option<Running>)>;

/// Begins a job.
pub(crate) fn start(image: Option<&Image>, job: Job) -> Result<Running, Fail> {
    Ok(match job {
        Job::Create(created) => Running::Create(Box::new(create::Create::of(created)?)),
        Job::Check(repair) => Running::Check(check::Check::of(repair)),
        Job::Resize { virtual_size, shrink } => {
            Running::Resize(Box::new(resize::Resize::of(writable(image)?, virtual_size, shrink)?))
        }
        Job::Relink(parent) => Running::Relink(Box::new(relink::Relink::of(writable(image)?, &parent)?)),
        Job::Close => Running::Finished(Report::default()),
        Job::SnapshotList
        | Job::SnapshotCreate { .. }
        | Job::SnapshotApply { .. }
        | Job::SnapshotDelete { .. } => return Err(no_snapshots()),
    })
}

fn writable(image: Option<&Image>) -> Result<&Image, Fail> {
    let image = image.ok_or_else(|| Fail::new(FailKind::Invalid, "the image was not opened"))?;
    if !image.writable {
        return Err(Fail::new(FailKind::ReadOnly, "the image was opened read-only"));
    }
    Ok(image)
}

impl Running {
    /// Goes on with the job.
    pub(crate) fn step(&self, pages: &mut dyn Pages, names: &mut Names) -> Stepped {
        match self {
            Self::Create(create) => Ok(create.step(names)),
            Self::Check(check) => check.step(pages, names),
            Self::Resize(resize) => resize.step(pages, names),
            Self::Relink(relink) => Ok(relink.step(pages, names)),
            Self::Finished(report) => Ok((JobStep::Done(report.clone()), None)),
        }
    }

    fn finished() -> Option<Self> {
        Some(Self::Finished(Report::default()))
    }
}

fn plan(names: &mut Names) -> Plan {
    Plan { token: names.token(), ..Plan::default() }
}

/// Writes unused entries into a table at `table_at` bytes: from entry `from` on, at most as many as a step does, and not beyond `to`.
/// Gives where the next step goes on.
fn unused_entries(names: &mut Names, plan: &mut Plan, table_at: u64, from: u32, to: u32) -> u32 {
    let end = to.min(from.saturating_add(ENTRIES_A_STEP));
    let bytes: Vec<u8> = (from..end).flat_map(|_| UNUSED.to_be_bytes()).collect();
    if !bytes.is_empty() {
        plan.meta.push(patch(names, table_at + u64::from(from) * 4, bytes));
    }
    end
}

/// The fields of a header that tell where the table is: all in its first sector, so that a power cut leaves the old or the new ones.
fn table_fields(header: &Header) -> Vec<u8> {
    let mut bytes = header.table_offset.get().to_be_bytes().to_vec();
    for field in [header.version, header.max_table_entries, header.block_size, header.checksum] {
        bytes.extend(field.get().to_be_bytes());
    }
    bytes
}

fn invalid(text: impl Into<alloc::string::String>) -> Fail {
    Fail::new(FailKind::Invalid, text)
}

fn too_many_blocks(blocks: u64, block_size: u64) -> Fail {
    invalid(format!(
        "{blocks} blocks of {block_size} bytes are more than the {} that are supported: take a larger block_size",
        crate::sparse::ENTRIES_MAX
    ))
}
