//! rand, seq and mix: reads and writes at a constant depth.

mod shard;

use crate::cli::{Common, IoArguments};
use crate::failure::Failure;
use crate::finish::{self, Parameters};
use crate::load::{Layout, PatternPlan};
use crate::modes::record::Figures;
use crate::probe::{Unit, probe};
use crate::run::{Course, Schedule, share};
use crate::values::{Mixture, Region};
use shard::{IoPlan, IoShard};
use std::sync::Arc;

/// Which of the three.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Rand,
    Seq,
    Mix,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Rand => "rand",
            Self::Seq => "seq",
            Self::Mix => "mix",
        }
    }

    /// Block sizes unless some are given.
    fn sizes(self) -> Result<Mixture, Failure> {
        let text = match self {
            Self::Rand => "4k",
            Self::Seq => "256k",
            Self::Mix => "4k:60,16k:20,64k:20",
        };
        text.parse().map_err(Failure::usage)
    }

    /// Share of reads, percent, unless one is given.
    fn reads(self) -> u8 {
        if self == Self::Mix { 70 } else { 100 }
    }
}

/// Runs and reports.
///
/// # Errors
/// Why there is no run or no report; and, after the report, that operations failed.
pub(crate) fn run(kind: Kind, arguments: &IoArguments) -> Result<(), Failure> {
    let IoArguments { common, .. } = arguments;
    let sizes = arguments.bs.clone().map_or_else(|| kind.sizes(), Ok)?;
    let read_percent = arguments.read.unwrap_or_else(|| kind.reads());
    if read_percent < 100 && !arguments.destroy {
        return Err(Failure::Usage(format!(
            "{} with {read_percent}% reads writes, and what is on the unit is lost: give --destroy if that is meant, \
             or --read 100",
            kind.name()
        )));
    }
    if kind == Kind::Seq && arguments.zipf.is_some() {
        return Err(Failure::usage("seq goes through its region in order: --zipf is for rand and mix"));
    }
    let course = Course::prepare(common)?;
    let unit = probe(&course.endpoint)?;
    unit.check_use(arguments.destroy)?;
    if read_percent < 100 && unit.is_read_only {
        return Err(Failure::runtime("the unit is read-only: give --read 100, or another unit"));
    }
    check_transfer(&unit, &sizes)?;
    let (first, len) = blocks_of(arguments.region, &unit)?;
    let layout = match (kind, arguments.zipf) {
        (Kind::Seq, _) => Layout::Sequential,
        (_, Some(theta)) => Layout::Zipf { theta },
        (_, None) => Layout::Uniform,
    };
    let patterns = PatternPlan {
        first,
        len,
        block_size: unit.block_size,
        sizes: sizes.clone(),
        read_percent,
        layout,
        sessions: common.sessions,
        seed: arguments.seed,
    };
    let mut patterns = patterns.patterns().map_err(Failure::Runtime)?;
    let schedule = Schedule {
        warmup: arguments.warmup,
        secs: arguments.ops.is_none().then_some(arguments.length.secs),
        operations: arguments.ops,
        machines: None,
        afterwards: "log out",
    };
    let mut bodies = Vec::new();
    for numbers in sessions_by_shard(common) {
        let plan = IoPlan {
            endpoint: course.endpoint.clone(),
            patterns: patterns.drain(..numbers.len()).collect(),
            budgets: numbers
                .clone()
                .map(|number| match arguments.ops {
                    Some(ops) => share(ops, u64::from(common.sessions), u64::from(number)),
                    None => u64::MAX,
                })
                .collect(),
            numbers,
            depth: arguments.depth,
            block_size: unit.block_size,
            largest: sizes.largest(),
            seed: arguments.seed,
        };
        let control = Arc::clone(&course.control);
        bodies.push(move || IoShard::new(plan, &control)?.run());
    }
    let (window, results) = course.run(&schedule, bodies)?;
    let mut figures = Figures::default();
    results.into_iter().for_each(|result| figures.merge(result));
    let mut parameters = Parameters::of(common);
    parameters.set("bs", sizes.to_string());
    parameters.set("depth", arguments.depth);
    parameters.set("read", read_percent);
    parameters.set("warmup", arguments.warmup);
    parameters.set("seed", arguments.seed);
    parameters.set("destroy", arguments.destroy);
    match arguments.ops {
        Some(ops) => parameters.set("ops", ops),
        None => parameters.set("secs", arguments.length.secs),
    }
    if let Some(theta) = arguments.zipf {
        parameters.set("zipf", theta);
    }
    if let Some(Region { start, end }) = arguments.region {
        parameters.set("region", format!("{start}-{end}"));
    }
    parameters.set("unit", unit.describe());
    finish::io(kind.name(), common, parameters, &window, &figures)
}

/// Which sessions each shard has.
pub(crate) fn sessions_by_shard(common: &Common) -> Vec<std::ops::Range<u32>> {
    let sessions = u64::from(common.sessions);
    // More threads than sessions would have nothing to do.
    let threads = (common.cores().len().max(1) as u64).min(sessions);
    let mut first = 0;
    let mut ranges = Vec::new();
    for part in 0..threads {
        let end = first + share(sessions, threads, part) as u32;
        ranges.push(first..end);
        first = end;
    }
    ranges
}

/// The logical blocks of a region, or of the whole unit.
pub(crate) fn blocks_of(region: Option<Region>, unit: &Unit) -> Result<(u64, u64), Failure> {
    let Some(Region { start, end }) = region else { return Ok((0, unit.blocks)) };
    let size = u64::from(unit.block_size);
    if end > unit.bytes() {
        return Err(Failure::Runtime(format!(
            "the region ends at byte {end}, the unit at {}: give a --region inside of it, or a larger unit",
            unit.bytes()
        )));
    }
    if !start.is_multiple_of(size) || !end.is_multiple_of(size) {
        return Err(Failure::Runtime(format!(
            "the region {start}-{end} is not aligned to the unit's logical blocks of {size} bytes"
        )));
    }
    Ok((start / size, (end - start) / size))
}

fn check_transfer(unit: &Unit, sizes: &Mixture) -> Result<(), Failure> {
    let max = u64::from(unit.transfer_max) * u64::from(unit.block_size);
    if max > 0 && u64::from(sizes.largest()) > max {
        return Err(Failure::Runtime(format!(
            "a block size of {} is more than the {max} bytes that the unit takes in one command: give smaller --bs",
            sizes.largest()
        )));
    }
    Ok(())
}
