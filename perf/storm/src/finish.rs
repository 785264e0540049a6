//! Figures into a report: on the terminal and in files.

use crate::cli::Common;
use crate::failure::Failure;
use crate::modes::Figures;
use crate::modes::boot::arguments::BootArguments;
use crate::modes::idle::IdleSummary;
use crate::run::Window;
use serde::Serialize;
use serde_json::Value;
use stampede_report::{
    BootReport, BootSummary, Client, MismatchEntry, Phase, SCHEMA, SessionSummary, Spread, StormReport,
    Traffic, TrafficRecorder, VerifySummary, csv, html, human, plot, rate, table, write_json,
};
use std::collections::BTreeMap;

/// The options of a run, by their names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameters(BTreeMap<String, Value>);

impl Parameters {
    /// Those that every mode has.
    pub(crate) fn of(common: &Common) -> Self {
        let mut parameters = Self::default();
        parameters.set("sessions", common.sessions);
        parameters.set("initiator-name", common.initiator_name.as_str());
        parameters.set("header-digest", common.header_digest);
        parameters.set("data-digest", common.data_digest);
        parameters.set("cores", common.cores().to_vec());
        parameters
    }

    /// Sets one.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }
}

/// A report with everything that is the same in all modes.
pub(crate) fn report(
    mode: &str,
    common: &Common,
    parameters: Parameters,
    window: &Window,
    figures: &Figures,
) -> StormReport {
    let (reads, writes) = (figures.reads.report(), figures.writes.report());
    let all = if writes.operations == 0 {
        reads.clone()
    } else {
        let mut both: TrafficRecorder = figures.reads.clone();
        both.merge(&figures.writes);
        both.report()
    };
    let logins = &figures.logins;
    let phases = [
        ("wait", &logins.wait),
        ("connect", &logins.connect),
        ("security", &logins.security),
        ("operational", &logins.operational),
        ("login", &logins.login),
        ("warmup", &figures.warmup),
        ("logout", &logins.logout),
    ];
    let phases = phases.into_iter().filter(|(_, latency)| latency.count() > 0);
    let seconds = window.seconds;
    let watched = window.before.watched.as_ref().zip(window.after.watched.as_ref());
    StormReport {
        schema: SCHEMA,
        tool: "storm".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mode: mode.to_owned(),
        url: common.url.to_string(),
        parameters: parameters.0,
        seconds,
        iops: rate(all.operations as f64, seconds),
        bytes_per_second: rate(all.bytes as f64, seconds),
        errors: figures.errors.count,
        reads,
        writes,
        all,
        client: Client { cpu_seconds: window.after.client_cpu_seconds - window.before.client_cpu_seconds },
        watched: watched.map(|(before, after)| before.until(after)),
        machine_cpu_seconds: window.after.machine_cpu_seconds - window.before.machine_cpu_seconds,
        phases: phases.map(|(name, latency)| Phase::new(name, latency)).collect(),
        sessions: figures
            .sessions
            .iter()
            .map(|(number, latency)| SessionSummary::new(*number, latency))
            .collect(),
        timeline: figures.timeline.clone(),
        verify: None,
    }
}

/// Shows and writes the report of reads and writes.
///
/// # Errors
/// A file cannot be written; or operations failed, which the report counts.
pub(crate) fn io(
    mode: &str,
    common: &Common,
    parameters: Parameters,
    window: &Window,
    figures: &Figures,
) -> Result<(), Failure> {
    let report = report(mode, common, parameters, window, figures);
    if !common.quiet {
        println!("{}", headline(&report));
        println!("{}", table::storm(&report));
        println!("{}", cost(&report));
    }
    write(common, &report)?;
    verdict(&report, window, figures)
}

/// Shows and writes the report of logins, each of which is an operation of it.
///
/// # Errors
/// A file cannot be written; or logins failed, which the report counts.
pub(crate) fn logins(
    common: &Common,
    parameters: Parameters,
    window: &Window,
    figures: &Figures,
) -> Result<(), Failure> {
    let mut report = report("login", common, parameters, window, figures);
    report.all = TrafficRecorder { bytes: 0, latency: figures.logins.login.clone() }.report();
    report.iops = rate(report.all.operations as f64, report.seconds);
    if !common.quiet {
        println!(
            "login: {} logins in {:.2} s: {} logins/s, {} errors",
            report.all.operations,
            report.seconds,
            human::count(report.iops),
            report.errors
        );
        println!("{}", table::storm(&report));
        println!("{}", cost(&report));
    }
    write(common, &report)?;
    verdict(&report, window, figures)
}

/// Shows and writes the report of a verification.
///
/// Lost sessions alone are no failure: they are what some runs are about, and their operations count as unknown.
///
/// # Errors
/// A file cannot be written; or data was wrong, operations failed, or not everything could be read back.
pub(crate) fn verify(
    common: &Common,
    parameters: Parameters,
    window: &Window,
    figures: &Figures,
    summary: VerifySummary,
    unread: u64,
) -> Result<(), Failure> {
    let mut report = report("verify", common, parameters, window, figures);
    if !common.quiet {
        println!("{}", headline(&report));
        println!("{}", table::storm(&report));
        println!(
            "{} reads, {} writes, {} UNMAPs, {} WRITE SAMEs and {} SYNCHRONIZE CACHEs; {} blocks checked, {} operations \
             without a known outcome, {} mismatches",
            summary.reads,
            summary.writes,
            summary.unmaps,
            summary.write_sames,
            summary.syncs,
            summary.blocks_checked,
            summary.unknown,
            summary.mismatches
        );
        for MismatchEntry { kind, lba, session, expected, found } in &summary.first_mismatches {
            println!("  {kind}: block {lba}, session {session}: expected {expected}, found {found}");
        }
    }
    let mismatches = summary.mismatches;
    report.verify = Some(summary);
    write(common, &report)?;
    if mismatches > 0 {
        return Err(Failure::Runtime(format!("{mismatches} reads gave wrong data")));
    }
    if unread > 0 {
        return Err(Failure::Runtime(format!("{unread} blocks could not be read back")));
    }
    verdict(&report, window, figures)
}

/// Shows and writes the report of a boot storm.
///
/// # Errors
/// A file cannot be written; or data was wrong, machines gave up or commands failed.
pub(crate) fn boot(
    arguments: &BootArguments,
    parameters: Parameters,
    window: &Window,
    figures: &Figures,
    boot: BootSummary,
) -> Result<(), Failure> {
    let common = &arguments.common;
    let report = BootReport { report: report("boot", common, parameters, window, figures), boot };
    if !common.quiet {
        print_boot(&report);
    }
    if let Some(path) = &common.json {
        write_json(path, &report).map_err(Failure::runtime)?;
    }
    if let Some(path) = &common.csv {
        csv::write_boot(path, &report).map_err(Failure::runtime)?;
    }
    if let Some(path) = &arguments.report {
        html::write_boot(path, &report).map_err(Failure::runtime)?;
    }
    if let Some(path) = &common.plot {
        let series =
            report.boot.phases.iter().map(|phase| plot::Series { name: &phase.name, points: &phase.curve });
        plot::latency_cdf(path, "storm boot: latencies", &series.collect::<Vec<_>>())
            .map_err(Failure::runtime)?;
    }
    if report.boot.mismatches > 0 {
        return Err(Failure::Runtime(format!("{} reads gave wrong data", report.boot.mismatches)));
    }
    verdict(&report.report, window, figures)
}

fn print_boot(report: &BootReport) {
    let BootReport { report: storm, boot } = report;
    println!(
        "boot: {} machines, {} up and {} done in {:.2} s: {}/s, {} errors",
        boot.clients,
        boot.up,
        boot.done,
        storm.seconds,
        human::bytes(storm.bytes_per_second),
        storm.errors
    );
    println!("{}", table::storm(storm));
    let spread = |name: &str, spread: &Spread| {
        println!(
            "{name}: first {:.2} s, median {:.2} s, 90% {:.2} s, 99% {:.2} s, last {:.2} s",
            spread.min, spread.p50, spread.p90, spread.p99, spread.max
        );
    };
    spread(&format!("to {}", boot.trace.marker), &boot.marker_seconds);
    spread("to the end", &boot.end_seconds);
    println!(
        "{} logins, {} put off; {} sessions lost, {} replaced, {} at once; sent again: {} unit attentions, {} BUSY, {} TASK SET FULL, {} \
         other; {} commands unknown to the unit",
        boot.logins,
        boot.logins_put_off,
        boot.sessions_lost,
        boot.sessions_replaced,
        boot.sessions_max,
        boot.retries.unit_attention,
        boot.retries.busy,
        boot.retries.task_set_full,
        boot.retries.other,
        boot.refused
    );
    println!(
        "{} compared ({} golden), {} wrong reads; storm's memory {}",
        human::bytes(boot.checked_bytes as f64),
        boot.golden,
        boot.mismatches,
        human::bytes(boot.client_rss_bytes as f64)
    );
    for MismatchEntry { kind, lba, session, expected, found } in &boot.first_mismatches {
        println!("  {kind}: block {lba}, machine {session}: expected {expected}, found {found}");
    }
    println!("{}", cost(storm));
}

/// The report of idle sessions: everybody's fields and its own.
#[derive(Serialize)]
struct IdleReport {
    #[serde(flatten)]
    report: StormReport,
    idle: IdleSummary,
}

/// Shows and writes the report of idle sessions.
///
/// # Errors
/// A file cannot be written; or sessions were lost.
pub(crate) fn idle(
    common: &Common,
    parameters: Parameters,
    window: &Window,
    figures: &Figures,
    idle: IdleSummary,
) -> Result<(), Failure> {
    let report = report("idle", common, parameters, window, figures);
    if !common.quiet {
        print_idle(&report, &idle);
    }
    if let Some(path) = &common.csv {
        csv::write_storm(path, &report).map_err(Failure::runtime)?;
    }
    let result = verdict(&report, window, figures);
    if let Some(path) = &common.json {
        write_json(path, &IdleReport { report, idle }).map_err(Failure::runtime)?;
    }
    result
}

fn print_idle(report: &StormReport, idle: &IdleSummary) {
    println!(
        "idle: {} sessions for {:.2} s: {} lost, {} pings answered",
        idle.sessions, report.seconds, idle.lost, idle.pings_answered
    );
    println!("{}", table::storm(report));
    if let (Some(cpu), Some(before), Some(with), Some(each)) = (
        idle.watched_cpu_percent,
        idle.watched_rss_kib_before,
        idle.watched_rss_kib_with,
        idle.watched_rss_bytes_per_session,
    ) {
        println!(
            "process: {cpu:.3}% of a core, RSS {} before and {} with the sessions: {} for each",
            human::bytes(before as f64 * 1024.0),
            human::bytes(with as f64 * 1024.0),
            human::bytes(each)
        );
    }
    println!(
        "kernel, for each session and what is of both its ends on this machine: {} in socket buffers, {} in its structures",
        human::bytes(idle.tcp_memory_bytes_per_session),
        human::bytes(idle.kernel_slab_bytes_per_session)
    );
}

/// What ended badly, as the exit code tells it too.
pub(crate) fn verdict(report: &StormReport, window: &Window, figures: &Figures) -> Result<(), Failure> {
    if report.errors > 0 {
        let first = figures.errors.first.as_deref().unwrap_or("unknown");
        return Err(Failure::Runtime(format!("{} operations failed; the first: {first}", report.errors)));
    }
    if window.interrupted {
        eprintln!("storm: interrupted: the report is of the {:.1} s until then", report.seconds);
    }
    Ok(())
}

/// Writes the files that were asked for.
///
/// # Errors
/// Which one cannot be written.
pub(crate) fn write(common: &Common, report: &StormReport) -> Result<(), Failure> {
    if let Some(path) = &common.json {
        report.write(path).map_err(Failure::runtime)?;
    }
    if let Some(path) = &common.csv {
        csv::write_storm(path, report).map_err(Failure::runtime)?;
    }
    if let Some(path) = &common.plot {
        let mut series = Vec::new();
        let is_io = report.reads.operations + report.writes.operations > 0;
        for (name, traffic) in [("reads", &report.reads), ("writes", &report.writes), ("logins", &report.all)]
        {
            if !traffic.curve.is_empty() && (name != "logins" || !is_io) {
                series.push(plot::Series { name, points: &traffic.curve });
            }
        }
        let title = format!("storm {}: {} operations/s", report.mode, human::count(report.iops));
        plot::latency_cdf(path, &title, &series).map_err(Failure::runtime)?;
    }
    Ok(())
}

fn headline(report: &StormReport) -> String {
    let Traffic { operations, .. } = report.all;
    format!(
        "{}: {} operations in {:.2} s: {} op/s, {}/s, {} errors",
        report.mode,
        operations,
        report.seconds,
        human::count(report.iops),
        human::bytes(report.bytes_per_second),
        report.errors
    )
}

/// CPU per operation of the client and of the watched process.
fn cost(report: &StormReport) -> String {
    let each = |seconds: f64| human::micros(rate(seconds * 1e6, report.all.operations as f64));
    let mut text = format!(
        "CPU per operation: client {}, whole machine {}",
        each(report.client.cpu_seconds),
        each(report.machine_cpu_seconds)
    );
    if let Some(watched) = &report.watched {
        let per_wake = rate(report.all.operations as f64, watched.voluntary_switches as f64);
        text.push_str(&format!(
            ", process {} {} ({per_wake:.1} operations per wake-up, RSS {})",
            watched.pid,
            each(watched.cpu_seconds),
            human::bytes(watched.rss_kib as f64 * 1024.0)
        ));
    }
    text
}
