//! Reports as CSV (RFC 4180): a header line, then one line a row.

use std::path::Path;

use crate::{BootReport, LatencySummary, ReportError, StormReport};

/// Writes `rows` under `header` to `path`. Fields with commas, quotes or line feeds are quoted.
///
/// # Errors
/// [`ReportError::File`] if the file cannot be written; [`ReportError::Value`] if a row has more or fewer fields than
/// the header.
pub fn write<Row, Field>(
    path: &Path,
    header: &[&str],
    rows: impl IntoIterator<Item = Row>,
) -> Result<(), ReportError>
where
    Row: IntoIterator<Item = Field>,
    Field: AsRef<[u8]>,
{
    let wrong = |error: ::csv::Error| match error.into_kind() {
        ::csv::ErrorKind::Io(error) => ReportError::writing(path, error),
        other => ReportError::Value { path: path.into(), what: format!("{other:?}") },
    };
    let mut writer = ::csv::Writer::from_path(path).map_err(wrong)?;
    writer.write_record(header).map_err(wrong)?;
    for row in rows {
        writer.write_record(row).map_err(wrong)?;
    }
    writer.flush().map_err(|error| ReportError::writing(path, error))
}

/// The header of [`write_storm`]'s file.
pub const STORM_HEADER: [&str; 14] = [
    "scope",
    "name",
    "operations",
    "bytes",
    "iops",
    "bytes_per_second",
    "mean_us",
    "min_us",
    "p50_us",
    "p90_us",
    "p99_us",
    "p99_9_us",
    "max_us",
    "errors",
];

/// Writes `report` to `path`: a line for all operations, one each for reads and writes, each phase, each session and
/// each second. Fields that a line has no figure for are empty.
///
/// # Errors
/// As [`write`].
pub fn write_storm(path: &Path, report: &StormReport) -> Result<(), ReportError> {
    let mut rows = Vec::new();
    for (name, side) in [("all", &report.all), ("reads", &report.reads), ("writes", &report.writes)] {
        let mut row = line("traffic", name, side.operations, Some(side.bytes), report.seconds);
        row.extend(latency(&side.latency_us));
        row.push(if name == "all" { report.errors.to_string() } else { String::new() });
        rows.push(row);
    }
    for phase in &report.phases {
        // A phase has a length of its own, so the window's does not give its rate.
        let mut row = line("phase", &phase.name, phase.operations, None, 0.0);
        row.extend(latency(&phase.latency_us));
        row.push(String::new());
        rows.push(row);
    }
    for session in &report.sessions {
        let mut row = line("session", &session.session.to_string(), session.operations, None, report.seconds);
        row.extend(latency(&session.latency_us));
        row.push(String::new());
        rows.push(row);
    }
    for second in &report.timeline {
        let mut row = line("second", &second.second.to_string(), second.operations, Some(second.bytes), 1.0);
        row.resize(STORM_HEADER.len(), String::new());
        rows.push(row);
    }
    write(path, &STORM_HEADER, rows)
}

/// The header of [`write_boot`]'s file.
pub const BOOT_HEADER: [&str; 12] = [
    "machine",
    "on_seconds",
    "marker_seconds",
    "end_seconds",
    "operations",
    "p50_us",
    "max_us",
    "retries",
    "logins_put_off",
    "sessions_lost",
    "mismatches",
    "failure",
];

/// Writes a line for each machine of a boot storm to `path`.
///
/// # Errors
/// As [`write`].
pub fn write_boot(path: &Path, report: &BootReport) -> Result<(), ReportError> {
    let seconds = |seconds: Option<f64>| seconds.map_or_else(String::new, |seconds| format!("{seconds:.6}"));
    let rows = report.boot.machines.iter().map(|machine| {
        [
            machine.machine.to_string(),
            seconds(Some(machine.on_seconds)),
            seconds(machine.marker_seconds),
            seconds(machine.end_seconds),
            machine.operations.to_string(),
            format!("{:.3}", machine.p50_us),
            format!("{:.3}", machine.max_us),
            machine.retries.to_string(),
            machine.logins_put_off.to_string(),
            machine.sessions_lost.to_string(),
            machine.mismatches.to_string(),
            machine.failure.clone().unwrap_or_default(),
        ]
    });
    write(path, &BOOT_HEADER, rows)
}

fn line(scope: &str, name: &str, operations: u64, bytes: Option<u64>, seconds: f64) -> Vec<String> {
    let rate = |amount: u64| {
        if seconds > 0.0 { format!("{:.3}", amount as f64 / seconds) } else { String::new() }
    };
    let bytes_text = bytes.map_or(String::new(), |bytes| bytes.to_string());
    let bytes_rate = bytes.map_or(String::new(), rate);
    vec![scope.into(), name.into(), operations.to_string(), bytes_text, rate(operations), bytes_rate]
}

fn latency(latency: &LatencySummary) -> [String; 7] {
    let LatencySummary { mean, min, p50, p90, p99, p99_9, max } = *latency;
    [mean, min, p50, p90, p99, p99_9, max].map(|us| format!("{us:.3}"))
}
