//! Runs that another tool measured, one JSON object a line.

use crate::figures::{Counted, Run};
use crate::fio;
use anyhow::{Context as _, bail};
use serde::Deserialize;
use stampede_report::{StormReport, Watched};
use std::path::Path;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    workload: String,
    candidate: String,
    #[serde(default = "first")]
    round: u32,
    report: Option<StormReport>,
    fio: Option<serde_json::Value>,
    watched: Option<Watched>,
    machine_cpu_seconds: Option<f64>,
    counted: Option<Counted>,
}

fn first() -> u32 {
    1
}

/// Reads the runs of a file, in its order.
///
/// # Errors
/// The file cannot be read, or a line is not as it should be; the error says which.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Run>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let runs: Vec<Run> = lines
        .map(|(number, line)| run(line).with_context(|| format!("{}, line {}", path.display(), number + 1)))
        .collect::<anyhow::Result<_>>()?;
    if runs.is_empty() {
        bail!("{} has no runs", path.display());
    }
    Ok(runs)
}

fn run(line: &str) -> anyhow::Result<Run> {
    let line: Line = serde_json::from_str(line).context("not a run")?;
    let mut report = match (line.report, line.fio) {
        (Some(report), None) => report,
        (None, Some(value)) => fio::report(&serde_json::to_vec(&value)?, &line.candidate)?,
        _ => bail!("a run has either `report` or `fio`"),
    };
    report.watched = line.watched.or(report.watched);
    report.machine_cpu_seconds = line.machine_cpu_seconds.unwrap_or(report.machine_cpu_seconds);
    let (workload, candidate, round) = (line.workload, line.candidate, line.round);
    Ok(Run { workload, candidate, round, report, counted: line.counted, idle: None, boots: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_read_and_mistakes_are_placed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs");
        let write = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path)
        };
        let report = serde_json::to_string(&StormReport { iops: 5.0, ..StormReport::default() }).unwrap();
        let good = format!(
            "{{\"workload\":\"w\",\"candidate\":\"c\",\"report\":{report},\"machine_cpu_seconds\":2.5}}\n\n"
        );
        let runs = write(&good).unwrap();
        assert_eq!((runs.len(), runs[0].round, runs[0].report.machine_cpu_seconds), (1, 1, 2.5));
        let error = write(&format!("{good}{{\"workload\":\"w\",\"candidate\":\"c\"}}\n")).unwrap_err();
        assert!(format!("{error:#}").contains("line 3: a run has either"), "{error:#}");
        assert!(write("\n").is_err() && write("{\"wrong\":1}").is_err());
    }
}
