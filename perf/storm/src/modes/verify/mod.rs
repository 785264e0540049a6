//! verify: stamped blocks, written in every way, read back and judged.

mod shard;

use crate::cli::{Common, VerifyArguments};
use crate::failure::Failure;
use crate::finish::{self, Parameters};
use crate::modes::io::{blocks_of, sessions_by_shard};
use crate::modes::record::Figures;
use crate::probe::{Unit, probe};
use crate::run::{Course, Schedule, share};
use crate::values::{Region, size_text};
use shard::{VerifyResult, VerifyShard, VerifyWork};
use stampede_report::VerifySummary;
use stampede_verify::{Counts, Plan, VerifyConfig};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest reads and writes, bytes.
const TRANSFER_MAX: u32 = 128 * 1024;
/// The least that one session can do something with, logical blocks.
const PART_MIN: u64 = 64;
/// Mismatches that the report lists.
const LISTED_MAX: usize = 20;

/// Runs and reports.
///
/// # Errors
/// Why there is no run or no report; and, after the report, that data was wrong or operations failed.
pub(crate) fn run(arguments: &VerifyArguments) -> Result<(), Failure> {
    let VerifyArguments { common, length, ops, .. } = arguments;
    if arguments.region.is_none() && !arguments.destroy {
        return Err(Failure::usage(
            "verify writes, and what is there is lost: name the bytes that it may use with --region START-END, or give \
             --destroy for the whole unit",
        ));
    }
    let course = Course::prepare(common)?;
    let unit = probe(&course.endpoint)?;
    unit.check_use(arguments.destroy)?;
    if unit.is_read_only {
        return Err(Failure::runtime("the unit is read-only, and verify writes: give another unit"));
    }
    let mut works = works(arguments, &unit)?;
    let mut bodies = Vec::new();
    for numbers in sessions_by_shard(common) {
        let mine = works.drain(..numbers.len()).collect();
        let (endpoint, control, depth) =
            (course.endpoint.clone(), Arc::clone(&course.control), arguments.depth);
        let slot = TRANSFER_MAX.max(unit.block_size);
        bodies.push(move || VerifyShard::new(&endpoint, numbers, mine, depth, slot, &control)?.run());
    }
    let secs = ops.is_none().then_some(length.secs);
    let schedule = Schedule { warmup: 0.0, secs, operations: *ops, machines: None, afterwards: "read back" };
    let (window, results) = course.run(&schedule, bodies)?;
    let mut figures = Figures::default();
    let (summary, unread) = summarise(arguments.seed, results, &mut figures);
    finish::verify(common, parameters(common, arguments, &unit), &window, &figures, summary, unread)
}

/// One plan for each session, each in its own part of the region.
fn works(arguments: &VerifyArguments, unit: &Unit) -> Result<Vec<VerifyWork>, Failure> {
    let sessions = u64::from(arguments.common.sessions);
    let (first, len) = blocks_of(arguments.region, unit)?;
    let part = len / sessions;
    if part < PART_MIN {
        return Err(Failure::Runtime(format!(
            "{} are too small for verify with {sessions} sessions, each of which wants {PART_MIN} blocks: give a larger \
             --region or unit, or fewer --sessions",
            size_text(len * u64::from(unit.block_size))
        )));
    }
    let largest = (TRANSFER_MAX / unit.block_size).max(1);
    let run = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    let work = |session: u32| {
        let config = VerifyConfig {
            seed: arguments.seed,
            run,
            client: session,
            first_lba: first + u64::from(session) * part,
            blocks: part,
            block_size: unit.block_size,
            depth: u32::from(arguments.depth),
            transfer_max: if unit.transfer_max == 0 { largest } else { largest.min(unit.transfer_max) },
            unmap_max: unit.unmap_max,
            write_same_max: unit.write_same_max,
            unmapped_is_zero: unit.unmapped_is_zero,
            syncs: unit.syncs,
        };
        let budget = arguments.ops.map_or(u64::MAX, |ops| share(ops, sessions, u64::from(session)));
        Plan::new(config).map(|plan| VerifyWork::new(plan, budget)).map_err(Failure::runtime)
    };
    (0..arguments.common.sessions).map(work).collect()
}

/// Adds up what the shards found; also how many blocks could not be read back.
fn summarise(seed: u64, results: Vec<VerifyResult>, figures: &mut Figures) -> (VerifySummary, u64) {
    let mut summary = VerifySummary { seed, ..VerifySummary::default() };
    let mut unread = 0;
    for VerifyResult { figures: more, counts, mismatches } in results {
        figures.merge(more);
        for Counts {
            reads, writes, unmaps, write_sames, syncs, blocks_checked, unknown, mismatches, ..
        } in &counts
        {
            summary.reads += reads;
            summary.writes += writes;
            summary.unmaps += unmaps;
            summary.write_sames += write_sames;
            summary.syncs += syncs;
            summary.blocks_checked += blocks_checked;
            summary.unknown += unknown;
            summary.mismatches += mismatches;
        }
        unread += counts.iter().map(|counts| counts.unread).sum::<u64>();
        summary.first_mismatches.extend(mismatches);
    }
    summary.first_mismatches.truncate(LISTED_MAX);
    (summary, unread)
}

fn parameters(common: &Common, arguments: &VerifyArguments, unit: &Unit) -> Parameters {
    let mut parameters = Parameters::of(common);
    parameters.set("depth", arguments.depth);
    parameters.set("seed", arguments.seed);
    parameters.set("destroy", arguments.destroy);
    match arguments.ops {
        Some(ops) => parameters.set("ops", ops),
        None => parameters.set("secs", arguments.length.secs),
    }
    if let Some(Region { start, end }) = arguments.region {
        parameters.set("region", format!("{start}-{end}"));
    }
    parameters.set("unit", unit.describe());
    parameters
}
