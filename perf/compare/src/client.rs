//! The clients: storm, the floor's own, iscsi-perf, and fio with its libiscsi engine. All give storm's report.

use crate::fio;
use crate::process::{Interrupt, Running, pinned, tail};
use crate::workload::{Pattern, Workload};
use anyhow::{Context as _, bail};
use clap::ValueEnum;
use stampede_report::watch::{Sample, machine_cpu_seconds};
use stampede_report::{Client, LatencySummary, SCHEMA, StormReport, Traffic};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// This project's load generator
    Storm,
    /// Debian's iscsi-perf: sequential reads of one size by one session, no latencies
    IscsiPerf,
    /// A fio with the libiscsi engine (scripts/fio --build makes one)
    Fio,
    /// The floor's own client; for the floor alone
    #[value(skip)]
    Floor,
}

/// Where the clients' programs are.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    /// The folder of storm, null-target and floor.
    pub(crate) folder: PathBuf,
    pub(crate) fio: Option<PathBuf>,
    /// fio's job file, with a section for each workload.
    pub(crate) fio_jobs: PathBuf,
}

/// What a client is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task<'a> {
    pub(crate) workload: &'a Workload,
    /// `iscsi://host:port/IQN/LUN`, or `host:port` of the floor.
    pub(crate) url: &'a str,
    /// The target's process.
    pub(crate) pid: u32,
    pub(crate) seconds: f64,
    pub(crate) warmup: f64,
    /// The client's cores, as taskset takes them.
    pub(crate) cores: &'a str,
    /// For the client's files.
    pub(crate) folder: &'a Path,
    /// The target gives each machine a disk of its own.
    pub(crate) own_disks: bool,
}

/// Where a client's report lies.
pub(crate) fn report_in(folder: &Path) -> PathBuf {
    folder.join("report.json")
}

/// Runs a client to its end.
///
/// # Errors
/// It could not be started, failed, or was interrupted.
pub(crate) fn run(
    kind: Kind,
    tools: &Tools,
    task: &Task<'_>,
    interrupt: &Interrupt,
) -> anyhow::Result<StormReport> {
    let json = report_in(task.folder);
    match kind {
        Kind::Storm => {
            finish(storm(tools, task, &json), kind, task, interrupt)?;
            Ok(StormReport::read(&json)?)
        }
        Kind::Floor => {
            finish(floor(tools, task, &json), kind, task, interrupt)?;
            Ok(StormReport::read(&json)?)
        }
        Kind::IscsiPerf => iscsi_perf(task, interrupt),
        Kind::Fio => {
            let window = watched(fio_command(tools, task, &json)?, kind, task, interrupt)?;
            let report = fio::report(&std::fs::read(&json)?, task.url)?;
            Ok(StormReport {
                watched: window.watched,
                machine_cpu_seconds: window.machine_cpu_seconds,
                ..report
            })
        }
    }
}

impl Kind {
    /// The program, as people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Storm => "storm",
            Kind::IscsiPerf => "iscsi-perf",
            Kind::Fio => "fio",
            Kind::Floor => "floor",
        }
    }
}

fn storm(tools: &Tools, task: &Task<'_>, json: &Path) -> Command {
    let Workload { pattern, bs, depth, sessions, read, .. } = task.workload;
    let mut command = pinned(task.cores, tools.folder.join("storm"));
    command.arg(match pattern {
        Pattern::Random => "rand",
        Pattern::Sequential => "seq",
        Pattern::Idle => "idle",
        Pattern::Boot => return boots(command, task, json),
    });
    if *pattern == Pattern::Idle {
        // Targets answer many logins at once as fast as they can.
        command.args(["--login-timeout", "60"]);
    } else {
        command.args(["--bs", bs, "--depth", &depth.to_string(), "--read", &read.to_string()]);
        command.args(["--warmup", &task.warmup.to_string()]);
    }
    command.args(["--sessions", &sessions.to_string(), "--secs", &task.seconds.to_string()]);
    command.args(["--cores", task.cores, "--watch-pid", &task.pid.to_string()]);
    command.arg("--json").arg(json).arg("--quiet");
    if task.workload.writes() {
        command.arg("--destroy");
    }
    command.arg(task.url);
    command
}

/// The machines of a boot storm write only where each has a disk of its own. What they read is not looked at: not all
/// targets have a golden behind their units, and looking is the client's work alone.
fn boots(mut command: Command, task: &Task<'_>, json: &Path) -> Command {
    command.args(["boot", "--think", "0", "--no-check", "--login-timeout", "60"]);
    command.args(["--clients", &task.workload.sessions.to_string()]);
    if !task.own_disks {
        command.arg("--no-writes");
    }
    command.args(["--cores", task.cores, "--watch-pid", &task.pid.to_string()]);
    command.arg("--json").arg(json).arg("--quiet").arg(task.url);
    command
}

fn floor(tools: &Tools, task: &Task<'_>, json: &Path) -> Command {
    let Workload { bs, depth, sessions, .. } = task.workload;
    let mut command = pinned(task.cores, tools.folder.join("floor"));
    command.args(["drive", "--bs", bs]);
    if task.workload.writes() {
        command.arg("--write");
    }
    command.args(["--depth", &depth.to_string(), "--sessions", &sessions.to_string()]);
    command.args(["--secs", &task.seconds.to_string(), "--warmup", &task.warmup.to_string()]);
    command.args(["--watch-pid", &task.pid.to_string(), "--quiet", "--json"]).arg(json).arg(task.url);
    command
}

fn fio_command(tools: &Tools, task: &Task<'_>, json: &Path) -> anyhow::Result<Command> {
    let program = tools.fio.as_ref().context(
        "fio with the libiscsi engine is not there: scripts/fio --build makes it and prints its path for --fio",
    )?;
    let jobs = &tools.fio_jobs;
    let section = task.workload.name;
    let text = std::fs::read_to_string(jobs).with_context(|| format!("cannot read {}", jobs.display()))?;
    // fio would do nothing, and succeed.
    if !text.lines().any(|line| line.trim() == format!("[{section}]")) {
        bail!("{} has no section [{section}]", jobs.display());
    }
    let mut command = pinned(task.cores, program);
    // A colon separates file names there.
    command.env("STAMPEDE_LUN", task.url.replace(':', "\\:"));
    command.env("STAMPEDE_SECONDS", task.seconds.ceil().to_string());
    command.arg("--output-format=json").arg(format!("--output={}", json.display()));
    command.arg(format!("--section={section}")).arg(jobs);
    Ok(command)
}

/// iscsi-perf says IOPS and nothing else.
fn iscsi_perf(task: &Task<'_>, interrupt: &Interrupt) -> anyhow::Result<StormReport> {
    let depth = task.workload.depth;
    let bytes = task.workload.block_bytes().context("iscsi-perf has one block size")?;
    let mut command = pinned(task.cores, "iscsi-perf");
    command.args(["-m", &depth.to_string(), "-b", &(bytes / 512).to_string()]);
    command.args(["-t", &task.seconds.ceil().to_string()]);
    command.arg(task.url);
    let window = watched(command, Kind::IscsiPerf, task, interrupt)?;
    let text = std::fs::read(log_of(task))?;
    let text = String::from_utf8_lossy(&text);
    let average = text.rsplit("iops average ").next().and_then(|rest| rest.split_whitespace().next());
    let iops: f64 = average
        .and_then(|word| word.parse().ok())
        .with_context(|| format!("iscsi-perf gave no figure: {}", tail(&log_of(task))))?;
    let seconds = task.seconds.ceil();
    let operations = (iops * seconds) as u64;
    // By Little's law; percentiles are unknown.
    let latency_us = LatencySummary { mean: f64::from(depth) / iops * 1e6, ..LatencySummary::default() };
    let all = Traffic { operations, bytes: operations * bytes, latency_us, curve: Vec::new() };
    Ok(StormReport {
        schema: SCHEMA,
        tool: Kind::IscsiPerf.name().to_owned(),
        url: task.url.to_owned(),
        seconds,
        iops,
        bytes_per_second: iops * bytes as f64,
        reads: all.clone(),
        all,
        ..window
    })
}

/// How long a boot storm may take: it ends when its machines do.
const BOOTS_MAX: Duration = Duration::from_secs(3600);

fn log_of(task: &Task<'_>) -> PathBuf {
    task.folder.join("client.log")
}

fn finish(command: Command, kind: Kind, task: &Task<'_>, interrupt: &Interrupt) -> anyhow::Result<()> {
    let log = log_of(task);
    let limit = match task.workload.pattern {
        Pattern::Boot => BOOTS_MAX,
        _ => Duration::from_secs_f64(task.seconds + task.warmup + 60.0),
    };
    let child = Running::start(kind.name(), command, &log, Duration::from_millis(500))?;
    let status = child.finish(limit, interrupt)?;
    if !status.success() {
        bail!("{} failed ({status}): {}", kind.name(), tail(&log));
    }
    Ok(())
}

/// Runs a client that does not watch the target itself. The window is all of its life: log in, work, log out.
fn watched(
    command: Command,
    kind: Kind,
    task: &Task<'_>,
    interrupt: &Interrupt,
) -> anyhow::Result<StormReport> {
    let (before, machine, started) = (Sample::of(task.pid)?, machine_cpu_seconds()?, Instant::now());
    finish(command, kind, task, interrupt)?;
    let after = Sample::of(task.pid)?;
    Ok(StormReport {
        seconds: started.elapsed().as_secs_f64(),
        client: Client::default(),
        watched: Some(before.until(&after)),
        machine_cpu_seconds: machine_cpu_seconds()? - machine,
        ..StormReport::default()
    })
}
