//! Looking for contradictions, also in an image that opening refuses, and mending them.

use alloc::{format, string::String, vec::Vec};

use stampede_plugin::{Fail, FileId, Halt, JobStep, Outcome, Pages, Patch, Plan, Repair, Report, Step};

use super::{Running, Stepped, plan};
use crate::{
    Names,
    ends::{self, Ends},
    layout::{Footer, Header, Kind, SECTOR, UNUSED, header_at},
    open::{footer_patch, patch},
    size,
    sparse::{Sparse, read_header},
};

/// So many contradictions are named.
const NAMED_MAX: usize = 1000;

/// A check under way.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    repair: Repair,
    stage: Stage,
}

/// What comes next.
#[derive(Debug, Clone)]
enum Stage {
    Look,
    /// The file is cut behind its last footer.
    Cut(u64, Report),
}

/// What was found, and what would mend it.
#[derive(Default)]
struct Found {
    report: Report,
    mends: Vec<Mend>,
    /// Where the footer belongs, when the space before it is nobody's.
    cut: Option<(u64, Footer)>,
}

/// Bytes that mend a contradiction.
struct Mend {
    at: u64,
    bytes: Vec<u8>,
}

impl Check {
    pub(crate) fn of(repair: Repair) -> Self {
        Self { repair, stage: Stage::Look }
    }

    pub(crate) fn step(&self, pages: &mut dyn Pages, names: &mut Names) -> Stepped {
        match &self.stage {
            Stage::Look => {
                let found = look(pages)?;
                Ok(self.mend(pages, names, found))
            }
            Stage::Cut(length, report) => {
                let mut plan = plan(names);
                plan.now.push(Step::SetLength { file: FileId::MAIN, length: *length });
                Ok((JobStep::Plan(plan), Some(Running::Finished(report.clone()))))
            }
        }
    }

    /// What may be mended is; the report comes last.
    fn mend(&self, pages: &dyn Pages, names: &mut Names, found: Found) -> (JobStep, Option<Running>) {
        let mut report = found.report;
        let mut plan = plan(names);
        if self.repair == Repair::All {
            report.repaired_errors = found.mends.len() as u64;
            for mend in found.mends {
                lengthen(pages, &mut plan, mend.at + mend.bytes.len() as u64);
                plan.meta.push(patch(names, mend.at, mend.bytes));
            }
        }
        // Space is only given back when nothing contradicts what it is counted by.
        let sound = report.error_count == report.repaired_errors;
        if self.repair != Repair::No
            && sound
            && let Some((at, footer)) = found.cut
        {
            let earlier: Vec<_> = plan.meta.iter().map(|patch| patch.id).collect();
            plan.meta.push(Patch { after: earlier, ..footer_patch(names, &footer, at) });
            report.repaired_bytes = report.leaked_bytes;
            let check = Self { repair: self.repair, stage: Stage::Cut(at + SECTOR, report) };
            return (JobStep::Plan(plan), Some(Running::Check(check)));
        }
        match plan.meta.is_empty() {
            true => (JobStep::Done(report), None),
            false => (JobStep::Plan(plan), Some(Running::Finished(report))),
        }
    }
}

/// Makes the file as long as a mend needs it.
fn lengthen(pages: &dyn Pages, plan: &mut Plan, end: u64) {
    let file = FileId::MAIN;
    let set = plan.now.iter().any(|step| matches!(step, Step::SetLength { length, .. } if *length >= end));
    if end > pages.file_length(file) && !set {
        plan.now.push(Step::SetLength { file, length: end });
    }
}

impl Found {
    fn error(&mut self, text: String, mend: Option<Mend>) {
        self.report.error_count += 1;
        if self.report.errors.len() < NAMED_MAX {
            self.report.errors.push(text);
        }
        self.mends.extend(mend);
    }

    fn fail(&mut self, fail: &Fail, mend: Option<Mend>) {
        self.error(format!("{fail}"), mend);
    }

    fn detail(&mut self, name: &str, value: impl Into<String>) {
        self.report.details.push((name.into(), value.into()));
    }
}

/// An answer, or what is wrong instead; missing pages are asked for.
fn or_fail<T>(outcome: Outcome<T>) -> Result<Result<T, Fail>, Halt> {
    match outcome {
        Ok(answer) => Ok(Ok(answer)),
        Err(Halt::Fail(fail)) => Ok(Err(fail)),
        Err(need) => Err(need),
    }
}

fn look(pages: &mut dyn Pages) -> Outcome<Found> {
    let mut found = Found::default();
    let ends = match or_fail(ends::look(pages))? {
        Ok(ends) => ends,
        Err(fail) if fail.kind == stampede_plugin::FailKind::NotThisFormat => return Err(fail.into()),
        Err(fail) => {
            found.fail(&fail, None);
            return Ok(found);
        }
    };
    describe(&mut found, &ends);
    match ends.kind {
        Kind::Fixed => look_at_fixed(&mut found, pages, &ends),
        Kind::Dynamic | Kind::Differencing => look_at_sparse(&mut found, pages, &ends)?,
    }
    Ok(found)
}

fn describe(found: &mut Found, ends: &Ends) {
    found.detail("type", ends.kind.name());
    found.detail("creator", format!("{}", ends.footer.creator_app.escape_ascii()));
    let (cylinders, heads) = (ends.footer.cylinders.get(), ends.footer.heads);
    found.detail("geometry", format!("{cylinders}/{heads}/{}", ends.footer.sectors_per_track));
    found.detail("uuid", hex(&ends.footer.uuid));
    found.detail("saved_state", if ends.footer.saved_state == 0 { "no" } else { "yes" });
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn look_at_fixed(found: &mut Found, pages: &dyn Pages, ends: &Ends) {
    found.report.allocated_bytes = size::virtual_size(&ends.footer);
    if let Some(length) = ends.cut_growth {
        let text = format!(
            "the file's growth was cut short: its footer is at byte {} of {}",
            length - SECTOR,
            pages.file_length(FileId::MAIN)
        );
        let at = (pages.file_length(FileId::MAIN) - SECTOR).next_multiple_of(SECTOR);
        // The same footer at the end: the disk keeps its size, and the file its length.
        found.error(text, Some(Mend { at, bytes: footer_bytes(&ends.footer) }));
    }
}

fn footer_bytes(footer: &Footer) -> Vec<u8> {
    zerocopy::IntoBytes::as_bytes(footer).to_vec()
}

fn look_at_sparse(found: &mut Found, pages: &mut dyn Pages, ends: &Ends) -> Outcome<()> {
    let (at, header) = match or_fail(read_header(pages, ends))? {
        Ok(read) => read,
        Err(fail) => {
            found.fail(&fail, None);
            return Ok(());
        }
    };
    let sparse = match or_fail(Sparse::of(pages, ends, at, header.clone()))? {
        Ok(sparse) => sparse,
        Err(fail) => {
            found.fail(&fail, None);
            return Ok(());
        }
    };
    look_at_checksum(found, at, &header);
    found.detail("block_size", format!("{}", sparse.block_bytes()));
    let length = pages.file_length(FileId::MAIN);
    let blocks = sparse.all_blocks(pages, ends.tail_at.unwrap_or(length))?;
    for (block, fail) in &blocks.wrong {
        let mend = Mend { at: sparse.entry_at(*block), bytes: UNUSED.to_be_bytes().to_vec() };
        found.fail(fail, Some(mend));
    }
    // Those that were not looked at are found when these are mended.
    found.report.error_count += blocks.wrong_count - blocks.wrong.len() as u64;
    let used_end = sparse.used_end(&blocks);
    look_at_footers(found, ends, length, used_end);
    found.report.allocated_bytes = blocks.placed.len() as u64 * sparse.block_bytes();
    let tail = ends.tail_at.unwrap_or_else(|| missing_tail(length, used_end));
    if tail > used_end {
        found.report.leaked_bytes = tail - used_end;
        // Blocks with a wrong entry may lie there: whoever can save them should find them.
        found.cut = blocks.wrong.is_empty().then(|| (used_end, ends.footer.clone()));
    }
    let head: u64 = sparse.head.iter().map(|part| part.1 - part.0).sum();
    let stride = u64::from(sparse.bitmap_bytes()) + sparse.block_bytes();
    let used = head + blocks.placed.len() as u64 * stride;
    found.detail("unused_bytes", format!("{}", used_end.saturating_sub(used)));
    Ok(())
}

fn look_at_checksum(found: &mut Found, at: u64, header: &Header) {
    let (field, sum) = (header.checksum.get(), header.sum());
    if field != sum {
        let at = at + header_at::CHECKSUM;
        let text =
            format!("the header's checksum is {field:#010x}, its bytes make {sum:#010x} (at byte {at})");
        found.error(text, Some(Mend { at, bytes: sum.to_be_bytes().to_vec() }));
    }
}

/// Where a footer belongs that is missing at the end: in the last sector, unless that is used.
fn missing_tail(length: u64, used_end: u64) -> u64 {
    length.saturating_sub(SECTOR).next_multiple_of(SECTOR).max(used_end)
}

fn look_at_footers(found: &mut Found, ends: &Ends, length: u64, used_end: u64) {
    let bytes = footer_bytes(&ends.footer);
    if !ends.front_sound {
        let text = "the footer's copy at the beginning is damaged (at byte 0)";
        found.error(text.into(), Some(Mend { at: 0, bytes: bytes.clone() }));
    }
    if ends.tail_at.is_none() {
        let at = missing_tail(length, used_end);
        let text = format!(
            "the footer at the end is missing, or differs from its copy at the beginning (at byte {at})"
        );
        found.error(text, Some(Mend { at, bytes }));
    }
}
