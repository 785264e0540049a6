//! What all shards have seen, in one report.

use super::arguments::BootArguments;
use super::golden::Image;
use super::machine::Machine;
use super::shard::{BootResult, Counts};
use crate::finish::Parameters;
use crate::modes::record::Figures;
use crate::probe::Unit;
use stampede_report::{
    BootSummary, Latency, MachineSummary, PhaseCurve, Retries, Spread, TraceSummary, rate,
};
use stampede_trace::{BLOCK, Totals, Trace};

/// Mismatches that the report lists.
const LISTED_MAX: usize = 20;

pub(super) fn summarise(
    results: Vec<BootResult>,
    trace: &Trace,
    totals: &Totals,
    image: Option<&Image>,
) -> (Figures, BootSummary) {
    let mut figures = Figures::default();
    let (mut firmware, mut os, mut counts) = (Latency::new(), Latency::new(), Counts::default());
    let mut boot = BootSummary { trace: trace_summary(trace, totals), ..BootSummary::default() };
    for result in results {
        firmware.merge(&result.firmware);
        os.merge(&result.os);
        counts.merge(&result.counts);
        boot.first_mismatches.extend(result.mismatches);
        boot.machines.extend(result.machines.iter().map(|machine| of_machine(machine, result.begin_ns)));
        figures.merge(result.figures);
    }
    boot.first_mismatches.truncate(LISTED_MAX);
    boot.machines.sort_by_key(|machine| machine.machine);
    boot.phases = [("firmware", &firmware), ("os", &os)]
        .into_iter()
        .filter(|(_, latency)| latency.count() > 0)
        .map(|(name, latency)| PhaseCurve::new(name, latency))
        .collect();
    boot.golden = match image {
        None => "none",
        Some(Image::Stamped) => "stamped",
        Some(Image::File(_)) => "file",
    }
    .to_owned();
    boot.logins = counts.logins;
    boot.sessions_replaced = counts.replaced;
    boot.sessions_max = counts.sessions_max;
    boot.retries = Retries {
        unit_attention: counts.unit_attentions,
        busy: counts.busy,
        task_set_full: counts.task_set_full,
        other: counts.other_retries,
    };
    (boot.refused, boot.small_writes) = (counts.refused, counts.small_writes);
    boot.checked_bytes = counts.checked_bytes;
    boot.client_rss_bytes = peak_rss_bytes();
    machines(&mut boot);
    (figures, boot)
}

/// What follows from the machines' times.
fn machines(boot: &mut BootSummary) {
    let all = &boot.machines;
    let took = |of: fn(&MachineSummary) -> Option<f64>| -> Vec<f64> {
        all.iter().filter_map(|machine| of(machine).map(|at| at - machine.on_seconds)).collect()
    };
    let count = |of: fn(&MachineSummary) -> bool| all.iter().filter(|machine| of(machine)).count() as u32;
    boot.clients = all.len() as u32;
    boot.up = count(|machine| machine.marker_seconds.is_some());
    boot.done = count(|machine| machine.end_seconds.is_some());
    boot.gave_up = count(|machine| machine.failure.is_some());
    boot.marker_seconds = Spread::of(took(|machine| machine.marker_seconds));
    boot.end_seconds = Spread::of(took(|machine| machine.end_seconds));
    if boot.up == boot.clients {
        let last = all.iter().filter_map(|machine| machine.marker_seconds).fold(0.0, f64::max);
        boot.last_marker_seconds = last;
    }
    boot.slowest_over_median = rate(boot.marker_seconds.max, boot.marker_seconds.p50);
    let sum = |of: fn(&MachineSummary) -> u64| all.iter().map(of).sum();
    boot.logins_put_off = sum(|machine| machine.logins_put_off);
    boot.sessions_lost = sum(|machine| machine.sessions_lost);
    boot.mismatches = sum(|machine| machine.mismatches);
}

fn of_machine(machine: &Machine, begin_ns: u64) -> MachineSummary {
    let seconds = |at_ns: u64| at_ns.saturating_sub(begin_ns) as f64 / 1e9;
    let record = &machine.record;
    let latency = |quantile| record.latency.as_ref().map_or(0.0, |latency| latency.quantile_us(quantile));
    MachineSummary {
        machine: machine.number,
        on_seconds: record.started_ns.map_or(0.0, seconds),
        marker_seconds: record.marker_ns.map(seconds),
        end_seconds: record.end_ns.map(seconds),
        operations: record.latency.as_ref().map_or(0, |latency| latency.count()),
        p50_us: latency(0.5),
        max_us: latency(1.0),
        retries: record.retries,
        logins_put_off: record.logins_put_off,
        sessions_lost: record.sessions_lost,
        mismatches: record.mismatches,
        failure: record.failure.clone(),
    }
}

fn trace_summary(trace: &Trace, totals: &Totals) -> TraceSummary {
    TraceSummary {
        name: trace.name.clone(),
        origin: trace.origin.to_string(),
        commands: totals.commands,
        logins: totals.logins,
        read_bytes: totals.blocks_read * BLOCK,
        unique_bytes: totals.blocks_unique * BLOCK,
        written_bytes: totals.blocks_written * BLOCK,
        think_seconds: totals.think_us as f64 / 1e6,
        marker: trace.marker().unwrap_or("end").to_owned(),
    }
}

/// `VmHWM` of this process; 0 where /proc does not tell it.
fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

pub(super) fn parameters(arguments: &BootArguments, unit: &Unit, trace: &Trace) -> Parameters {
    let mut parameters = Parameters::of(&arguments.common);
    parameters.set("trace", trace.name.as_str());
    parameters.set("think", arguments.think);
    parameters.set("arrival", arguments.arrival.to_string());
    parameters.set("writes", !arguments.no_writes);
    parameters.set("small-writes", arguments.small_writes);
    parameters.set("read-back", arguments.read_back);
    parameters.set("stay", arguments.stay);
    parameters.set("seed", arguments.seed);
    parameters.set("unit", unit.describe());
    parameters
}
