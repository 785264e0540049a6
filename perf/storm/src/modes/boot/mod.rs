//! boot: a storm of machines, each of which does what a trace says, on a clone of its own.
//!
//! The trace's commands go to the URL's unit, whatever their unit was. Whatever is read is compared with the golden and
//! with what the machine itself wrote, while it is received.

pub(crate) mod arguments;
mod arrival;
mod check;
pub(crate) mod golden;
mod machine;
mod retry;
mod shard;
mod step;
mod summary;

use crate::failure::Failure;
use crate::finish;
use crate::modes::io::sessions_by_shard;
use crate::modes::trace;
use crate::probe::{Unit, probe_machine};
use crate::run::{Course, Schedule, nanoseconds};
use arguments::BootArguments;
use golden::Image;
use rustix::process::{Resource, getrlimit, setrlimit};
use shard::{BootShard, Plan};
use stampede_trace::{BLOCK, Totals, Trace};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What machines do unless a trace is given.
const DEFAULT_TRACE: &str = include_str!("../../../../traces/debian12-boot.trace");
/// Files that a session needs, and a few for everything else.
const FILES_PER_MACHINE: u64 = 3;
const FILES: u64 = 100;

/// Runs and reports.
///
/// # Errors
/// Why there is no run or no report; and, after the report, that data was wrong, machines gave up or commands failed.
pub(crate) fn run(arguments: &BootArguments) -> Result<(), Failure> {
    let BootArguments { common, .. } = arguments;
    let trace = match &arguments.trace {
        Some(path) => trace::read(path)?,
        None => stampede_trace::read(DEFAULT_TRACE.as_bytes()).map_err(Failure::runtime)?,
    };
    let totals = trace.totals();
    let course = Course::prepare(common)?;
    let (unit, start) = probe_machine(&course.endpoint)?;
    check_unit(&unit, &trace, &totals, arguments)?;
    let image = image(arguments, &unit, &start)?;
    raise_files(u64::from(common.sessions))?;
    let trace = Arc::new(trace);
    let run = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let times = arguments.arrival.times_ns(common.sessions, arguments.seed);
    let mut bodies = Vec::new();
    for numbers in sessions_by_shard(common) {
        let plan = Plan {
            endpoint: course.endpoint.clone(),
            trace: Arc::clone(&trace),
            depth: totals.depth + 1,
            think: arguments.think,
            seed: arguments.seed.wrapping_add(numbers.start.into()),
            machines: numbers.map(|number| (number, times[number as usize])).collect(),
            image: image.clone(),
            writes: !arguments.no_writes,
            small_writes: arguments.small_writes,
            read_back: arguments.read_back,
            stay_ns: nanoseconds(arguments.stay),
            blocks: unit.blocks,
            write_max: totals.write_max * BLOCK as u32,
        };
        let control = Arc::clone(&course.control);
        bodies.push(move || BootShard::new(plan, run, &control)?.run());
    }
    let machines = u64::from(common.sessions);
    let schedule = Schedule {
        warmup: 0.0,
        secs: None,
        operations: Some(totals.commands * machines),
        machines: Some(machines),
        afterwards: "report",
    };
    let (window, results) = course.run(&schedule, bodies)?;
    let (figures, boot) = summary::summarise(results, &trace, &totals, image.as_ref());
    let parameters = summary::parameters(arguments, &unit, &trace);
    finish::boot(arguments, parameters, &window, &figures, boot)
}

/// Refuses a unit that cannot be what the trace's machine booted from.
fn check_unit(unit: &Unit, trace: &Trace, totals: &Totals, arguments: &BootArguments) -> Result<(), Failure> {
    if u64::from(unit.block_size) != BLOCK {
        return Err(Failure::Runtime(format!(
            "the unit has blocks of {} bytes and traces have blocks of {BLOCK}: give a unit with such blocks",
            unit.block_size
        )));
    }
    if totals.end_lba > unit.blocks {
        return Err(Failure::Runtime(format!(
            "{} goes up to block {} and the unit has {}: it needs a unit of {} bytes at least",
            trace.name,
            totals.end_lba,
            unit.blocks,
            totals.end_lba * BLOCK
        )));
    }
    if unit.is_read_only && totals.writes > 0 && !arguments.no_writes {
        return Err(Failure::runtime("the unit is read-only: give another one, or --no-writes"));
    }
    if unit.transfer_max > 0 && totals.read_max.max(totals.write_max) > unit.transfer_max {
        return Err(Failure::Runtime(format!(
            "the trace has commands of {} blocks, and the unit takes {} at most",
            totals.read_max.max(totals.write_max),
            unit.transfer_max
        )));
    }
    Ok(())
}

/// What reads are compared with; `start` is what the unit's first blocks hold.
fn image(arguments: &BootArguments, unit: &Unit, start: &[u8]) -> Result<Option<Image>, Failure> {
    if arguments.no_check {
        return Ok(None);
    }
    if let Some(path) = &arguments.golden {
        return Image::open(path, unit.bytes()).map(Some);
    }
    if Image::is_stamp(0, start) {
        return Ok(Some(Image::Stamped));
    }
    Err(Failure::usage(
        "what the machines read cannot be compared with anything: give the image that they boot from with --golden FILE, \
         serve one that `storm golden` made, or give --no-check",
    ))
}

/// Takes as many files as all machines' sessions may need.
fn raise_files(machines: u64) -> Result<(), Failure> {
    let needed = machines * FILES_PER_MACHINE + FILES;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    limit.current = limit.maximum.map_or(Some(needed), |maximum| Some(maximum.min(needed)));
    setrlimit(Resource::Nofile, limit).map_err(Failure::runtime)?;
    match limit.current {
        // A machine has two sessions for a short time only.
        Some(current) if current < machines + FILES => Err(Failure::Runtime(format!(
            "{machines} machines need {needed} files, and this process may have {current}: raise it (ulimit -Hn)"
        ))),
        _ => Ok(()),
    }
}
