//! The report of one `storm` run.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{CurvePoint, Latency, LatencySummary, ReportError, read_json, write_json};

/// The version of the JSON form. A field that is added has a default and leaves it as it is.
pub const SCHEMA: u32 = 1;

/// What one run of `storm` found. The JSON form has the same names.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct StormReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The tool that wrote it: `storm`, or what compare runs in its place.
    pub tool: String,
    /// The tool's version.
    pub version: String,
    /// `rand`, `seq`, `mix`, `verify`, `login` or `idle`.
    pub mode: String,
    /// The unit that was driven: `iscsi://host:port/IQN/LUN`.
    pub url: String,
    /// The command line's options as they were given or as their defaults are, by name without dashes.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Length of the measuring window, seconds; the warm-up is not in it.
    pub seconds: f64,
    /// Operations per second, reads and writes together.
    pub iops: f64,
    /// Bytes of data per second, both ways together.
    pub bytes_per_second: f64,
    /// Operations that failed or had no outcome in the window.
    pub errors: u64,
    /// Reads.
    pub reads: Traffic,
    /// Writes; for `verify` also UNMAP, WRITE SAME and SYNCHRONIZE CACHE.
    pub writes: Traffic,
    /// Both together.
    pub all: Traffic,
    /// What the client itself used.
    pub client: Client,
    /// What the process named with `--watch-pid` used; null without it.
    pub watched: Option<Watched>,
    /// CPU time of the whole machine in the window, all its CPUs and all its processes, seconds.
    pub machine_cpu_seconds: f64,
    /// Latencies by phase: `login`, `logout`, `warmup` ..
    #[serde(default)]
    pub phases: Vec<Phase>,
    /// Latencies by session.
    #[serde(default)]
    pub sessions: Vec<SessionSummary>,
    /// What was done in each second of the window.
    #[serde(default)]
    pub timeline: Vec<Second>,
    /// What `verify` found; null in the other modes.
    #[serde(default)]
    pub verify: Option<VerifySummary>,
}

impl StormReport {
    /// Writes the report to `path` as JSON.
    ///
    /// # Errors
    /// As [`write_json`]; also [`ReportError::Value`] if a figure is not a finite number, since JSON has no form for it.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        // JSON has null for what is no finite number, and null cannot be read back as a figure.
        let readable = serde_json::to_value(self).and_then(serde_json::from_value::<StormReport>);
        if let Err(error) = readable {
            let what = format!("a figure of the report is not a finite number ({error})");
            return Err(ReportError::Value { path: path.into(), what });
        }
        write_json(path, self)
    }

    /// Reads the report that [`StormReport::write`] wrote to `path`.
    ///
    /// # Errors
    /// As [`read_json`].
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        read_json(path)
    }
}

/// Operations of one kind.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// How many ended with status GOOD.
    pub operations: u64,
    /// Bytes of data that they moved.
    pub bytes: u64,
    /// How long they took, from the command's hand-over to its status.
    pub latency_us: LatencySummary,
    /// The latency distribution, for plots. May be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<CurvePoint>,
}

/// Counts operations of one kind as they end; [`TrafficRecorder::report`] gives what [`Traffic`] holds.
#[derive(Clone, Debug, Default)]
pub struct TrafficRecorder {
    /// Bytes of data so far.
    pub bytes: u64,
    /// Latencies so far.
    pub latency: Latency,
}

impl TrafficRecorder {
    /// Counts one operation that moved `bytes` bytes in `ns` nanoseconds.
    pub fn record(&mut self, bytes: u64, ns: u64) {
        self.bytes += bytes;
        self.latency.record_ns(ns);
    }

    /// Adds what `other` counted.
    pub fn merge(&mut self, other: &TrafficRecorder) {
        self.bytes += other.bytes;
        self.latency.merge(&other.latency);
    }

    /// Forgets everything: the warm-up is over.
    pub fn clear(&mut self) {
        self.bytes = 0;
        self.latency.clear();
    }

    /// What was counted, for a report.
    #[must_use]
    pub fn report(&self) -> Traffic {
        Traffic {
            operations: self.latency.count(),
            bytes: self.bytes,
            latency_us: self.latency.summary(),
            curve: self.latency.curve(),
        }
    }
}

/// What the load generator itself used in the window.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Client {
    /// CPU time, user and system, seconds.
    pub cpu_seconds: f64,
}

/// What a watched process used in the window.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Watched {
    /// The process.
    pub pid: u32,
    /// CPU time of all its threads, seconds.
    pub cpu_seconds: f64,
    /// How often its threads went to sleep: wake-ups, as `/proc` counts them.
    pub voluntary_switches: u64,
    /// How often its threads were taken off a CPU.
    pub involuntary_switches: u64,
    /// Resident memory at the window's end, KiB.
    pub rss_kib: u64,
}

/// Latencies of one phase of the run.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Phase {
    /// The phase's name.
    pub name: String,
    /// How many operations it had.
    pub operations: u64,
    /// How long each took.
    pub latency_us: LatencySummary,
}

impl Phase {
    /// A phase from what was recorded in it.
    #[must_use]
    pub fn new(name: impl Into<String>, latency: &Latency) -> Self {
        Phase { name: name.into(), operations: latency.count(), latency_us: latency.summary() }
    }
}

/// Latencies of one session.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SessionSummary {
    /// The session's number, from 0.
    pub session: u32,
    /// How many operations it ended.
    pub operations: u64,
    /// How long each took.
    pub latency_us: LatencySummary,
}

impl SessionSummary {
    /// Session `session` from what was recorded in it.
    #[must_use]
    pub fn new(session: u32, latency: &Latency) -> Self {
        SessionSummary { session, operations: latency.count(), latency_us: latency.summary() }
    }
}

/// What was done in one second of the window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Second {
    /// The second's number, from 1.
    pub second: u64,
    /// Operations that ended in it.
    pub operations: u64,
    /// Bytes that they moved.
    pub bytes: u64,
}

/// What `verify` did and found.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct VerifySummary {
    /// The seed that replays the run's operations.
    pub seed: u64,
    /// READs of the run and of its last pass.
    pub reads: u64,
    /// WRITEs.
    pub writes: u64,
    /// UNMAPs.
    pub unmaps: u64,
    /// WRITE SAMEs.
    pub write_sames: u64,
    /// SYNCHRONIZE CACHEs.
    pub syncs: u64,
    /// Logical blocks whose content was read and judged; a block counts each time.
    pub blocks_checked: u64,
    /// Operations whose outcome is unknown since the connection was lost.
    pub unknown: u64,
    /// How many mismatches there were; more may be than are listed.
    pub mismatches: u64,
    /// The first mismatches.
    #[serde(default)]
    pub first_mismatches: Vec<MismatchEntry>,
}

/// One mismatch.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MismatchEntry {
    /// `lost`, `torn`, `stale`, `foreign`, `garbage` ..
    pub kind: String,
    /// The logical block that shows it.
    pub lba: u64,
    /// The session that found it.
    pub session: u32,
    /// What the block was to hold.
    pub expected: String,
    /// What it held.
    pub found: String,
}

/// `amount` per second over `seconds`, or 0 for a window of no length: a rate is always a finite number.
#[must_use]
pub fn rate(amount: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { amount / seconds } else { 0.0 }
}
