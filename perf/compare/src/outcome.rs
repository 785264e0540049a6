//! What a comparison came to, and its three forms: tables, JSON, plots.

use crate::bars::Judged;
use crate::figures::{Figures, Run, Summary};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use stampede_report::plot::{Bar, bars};
use stampede_report::{SCHEMA, human, table, write_json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One workload, with all candidates that did it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Compared {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) summaries: Vec<Summary>,
    /// Candidates that did not do it, and why.
    pub(crate) left_out: Vec<(String, String)>,
}

/// Where it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) memory_kib: u64,
}

/// Everything, as in the JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) schema: u32,
    pub(crate) tool: String,
    pub(crate) version: String,
    pub(crate) machine: Machine,
    pub(crate) parameters: BTreeMap<String, String>,
    /// The candidate that ratios are to.
    pub(crate) base: String,
    pub(crate) workloads: Vec<Compared>,
    pub(crate) bars: Vec<Judged>,
    /// Runs that failed, in words.
    pub(crate) failures: Vec<String>,
    pub(crate) runs: Vec<Run>,
}

impl Machine {
    /// This machine.
    pub(crate) fn this() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = value(&text("/proc/meminfo"), "MemTotal");
        Self {
            processor: value(&text("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_kib: memory.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0),
        }
    }
}

impl Outcome {
    /// Of these runs; workloads in the order of `workloads`, candidates in that of `candidates`.
    pub(crate) fn new(
        runs: Vec<Run>,
        workloads: &[(String, String)],
        candidates: &[String],
        base: &str,
    ) -> Self {
        let compare = |(name, what): &(String, String)| {
            let of = |candidate: &String| {
                let found: Vec<&Run> =
                    runs.iter().filter(|run| run.workload == *name && run.candidate == *candidate).collect();
                (!found.is_empty()).then(|| Summary::of(candidate, &found))
            };
            let summaries = candidates.iter().filter_map(of).collect();
            Compared { name: name.clone(), what: what.clone(), summaries, left_out: Vec::new() }
        };
        Self {
            schema: SCHEMA,
            tool: "compare".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: Machine::this(),
            parameters: BTreeMap::new(),
            base: base.to_owned(),
            workloads: workloads.iter().map(compare).collect(),
            bars: Vec::new(),
            failures: Vec::new(),
            runs,
        }
    }

    /// The tables, one for each workload, as text.
    pub(crate) fn tables(&self) -> String {
        self.workloads.iter().map(|workload| workload.table(&self.base) + "\n").collect()
    }

    /// The bars as a table.
    pub(crate) fn bars_table(&self) -> String {
        let mut table = table::figures(&["bar", "found", "limit", ""]);
        for bar in &self.bars {
            let found = bar.value.map_or("not measured".to_owned(), |value| format!("{value:.3}"));
            let verdict = match bar.met {
                Some(true) => "met",
                Some(false) => "MISSED",
                None => "-",
            };
            table.add_row([bar.rule.as_str(), &found, &format!("{:.3}", bar.limit), verdict]);
        }
        table.to_string()
    }

    /// Writes everything as JSON.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        Ok(write_json(path, self)?)
    }

    /// Draws the target's CPU time, the operations per second and the median latency: three SVG files whose names begin
    /// with `prefix`. Returns their names.
    pub(crate) fn plot(&self, prefix: &Path) -> anyhow::Result<Vec<PathBuf>> {
        type Of = fn(&Figures) -> Option<f64>;
        let figures: [(&str, &str, &str, Of); 3] = [
            ("cpu", "Target CPU time for 1,000 operations", "ms", |figures| figures.target_cpu_ms),
            ("iops", "Operations per second", "1/s", |figures| figures.iops),
            ("latency", "Median latency", "us", |figures| figures.p50_us),
        ];
        let mut written = Vec::new();
        for (suffix, title, unit, of) in figures {
            let bar =
                |workload: &'_ Compared, summary: &'_ Summary| -> Option<(String, String, f64, (f64, f64))> {
                    let spread = (of(&summary.smallest)?, of(&summary.largest)?);
                    Some((workload.name.clone(), summary.candidate.clone(), of(&summary.median)?, spread))
                };
            let all: Vec<_> = self
                .workloads
                .iter()
                .flat_map(|workload| {
                    workload.summaries.iter().filter_map(move |summary| bar(workload, summary))
                })
                .collect();
            if all.is_empty() {
                continue;
            }
            let drawn: Vec<Bar<'_>> = all
                .iter()
                .map(|(group, name, value, spread)| Bar { group, name, value: *value, spread: Some(*spread) })
                .collect();
            let mut path = prefix.as_os_str().to_owned();
            path.push(format!("-{suffix}.svg"));
            let path = PathBuf::from(path);
            bars(&path, title, unit, &drawn).with_context(|| format!("cannot plot {}", path.display()))?;
            written.push(path);
        }
        Ok(written)
    }
}

/// The columns of a workload's table.
const HEADER: [&str; 15] = [
    "",
    "IOPS",
    "spread",
    "data/s",
    "mean",
    "p50",
    "p99",
    "p99.9",
    "CPU/1k",
    "spread",
    "machine/1k",
    "per wake-up",
    "per send",
    "RSS",
    "CPU, IOPS to base",
];

impl Compared {
    fn table(&self, base: &str) -> String {
        let idle = self.summaries.iter().any(|summary| summary.median.idle_core_percent.is_some());
        let boots = self.summaries.iter().any(|summary| summary.median.boot_cpu_ms.is_some());
        let mut table = table::figures(match (idle, boots) {
            (true, _) => &IDLE_HEADER[..],
            (_, true) => &BOOT_HEADER[..],
            _ => &HEADER[..],
        });
        let base = self.summaries.iter().find(|summary| summary.candidate == base);
        for summary in &self.summaries {
            table.add_row(match (idle, boots) {
                (true, _) => idle_row(summary),
                (_, true) => boot_row(summary, base),
                _ => row(summary, base),
            });
        }
        let mut text = format!("{}: {}\n{table}\n", self.name, self.what);
        for (candidate, why) in &self.left_out {
            text.push_str(&format!("  without {candidate}: {why}\n"));
        }
        text
    }
}

/// The columns of idle sessions.
const IDLE_HEADER: [&str; 6] =
    ["", "of a core", "spread", "RSS for each session", "kernel for each session", "RSS of all"];

fn idle_row(summary: &Summary) -> Vec<String> {
    let Summary { median, smallest, largest, .. } = summary;
    let show = |value: Option<f64>, digits: usize, unit: &str| {
        value.map_or("-".to_owned(), |value| format!("{value:.digits$}{unit}"))
    };
    vec![
        summary.candidate.clone(),
        show(median.idle_core_percent, 3, "%"),
        format!("{}-{}", show(smallest.idle_core_percent, 3, ""), show(largest.idle_core_percent, 3, "%")),
        show(median.idle_rss_kib, 1, " KiB"),
        show(median.idle_kernel_kib, 1, " KiB"),
        show(median.rss_kib.map(|kib| kib / 1024.0), 1, " MiB"),
    ]
}

/// The columns of a boot storm.
const BOOT_HEADER: [&str; 8] = [
    "",
    "CPU for each machine",
    "spread",
    "all up after",
    "spread",
    "slowest to median",
    "RSS",
    "CPU, time to base",
];

fn boot_row(summary: &Summary, base: Option<&Summary>) -> Vec<String> {
    let Summary { median, smallest, largest, .. } = summary;
    let show = |value: Option<f64>, digits: usize, unit: &str| {
        value.map_or("-".to_owned(), |value| format!("{value:.digits$}{unit}"))
    };
    let spread = |low: Option<f64>, high: Option<f64>, unit: &str| {
        format!("{}-{}", show(low, 2, ""), show(high, 2, unit))
    };
    let ratio = |of: fn(&Figures) -> Option<f64>| {
        let pair = of(median).zip(base.and_then(|base| of(&base.median))).filter(|(_, base)| *base > 0.0);
        pair.map_or("-".to_owned(), |(own, base)| format!("{:.2}", own / base))
    };
    vec![
        named(summary),
        show(median.boot_cpu_ms, 2, " ms"),
        spread(smallest.boot_cpu_ms, largest.boot_cpu_ms, " ms"),
        show(median.boot_last_s, 2, " s"),
        spread(smallest.boot_last_s, largest.boot_last_s, " s"),
        show(median.boot_slowest, 2, ""),
        show(median.rss_kib.map(|kib| kib / 1024.0), 1, " MiB"),
        format!("{}, {}", ratio(|figures| figures.boot_cpu_ms), ratio(|figures| figures.boot_last_s)),
    ]
}

/// The candidate, and whether its operations failed.
fn named(summary: &Summary) -> String {
    match summary.errors {
        0 => summary.candidate.clone(),
        errors => format!("{} ({errors} ERRORS)", summary.candidate),
    }
}

fn row(summary: &Summary, base: Option<&Summary>) -> Vec<String> {
    let Summary { median, smallest, largest, .. } = summary;
    let show = |value: Option<f64>, text: fn(f64) -> String| value.map_or("-".to_owned(), text);
    let ms = |ms: f64| format!("{ms:.2} ms");
    let times = |value: f64| format!("{value:.1}");
    let spread = |of: fn(&Figures) -> Option<f64>, digits: usize, scale: f64, unit: &str| match (
        of(smallest),
        of(largest),
    ) {
        (Some(low), Some(high)) => format!("{:.digits$}-{:.digits$}{unit}", low / scale, high / scale),
        _ => "-".to_owned(),
    };
    let ratio = |of: fn(&Figures) -> Option<f64>| {
        let pair = of(median).zip(base.and_then(|base| of(&base.median))).filter(|(_, base)| *base > 0.0);
        pair.map_or("-".to_owned(), |(own, base)| format!("{:.2}", own / base))
    };
    vec![
        named(summary),
        show(median.iops, human::count),
        spread(|figures| figures.iops, 1, 1e3, " k"),
        show(median.bytes_per_second, human::bytes),
        show(median.mean_us, human::micros),
        show(median.p50_us, human::micros),
        show(median.p99_us, human::micros),
        show(median.p99_9_us, human::micros),
        show(median.target_cpu_ms, ms),
        spread(|figures| figures.target_cpu_ms, 2, 1.0, ""),
        show(median.machine_cpu_ms, ms),
        show(median.per_wakeup, times),
        show(median.per_send, times),
        show(median.rss_kib, |kib| human::bytes(kib * 1024.0)),
        format!("{}, {}", ratio(|figures| figures.target_cpu_ms), ratio(|figures| figures.iops)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use stampede_report::{StormReport, Traffic, Watched};

    fn run(candidate: &str, cpu_seconds: f64) -> Run {
        let all = Traffic { operations: 1000, ..Traffic::default() };
        let watched = Some(Watched { cpu_seconds, rss_kib: 2048, ..Watched::default() });
        let report = StormReport { iops: 500.0, all, watched, ..StormReport::default() };
        Run {
            workload: "w".into(),
            candidate: candidate.into(),
            round: 1,
            report,
            counted: None,
            idle: None,
            boots: None,
        }
    }

    fn outcome() -> Outcome {
        let workloads = [("w".to_owned(), "some work".to_owned())];
        let candidates = ["a".to_owned(), "b".to_owned(), "absent".to_owned()];
        Outcome::new(vec![run("b", 0.002), run("a", 0.001)], &workloads, &candidates, "a")
    }

    #[test]
    fn a_table_has_the_candidates_in_order_and_ratios_to_the_base() {
        let mut outcome = outcome();
        outcome.workloads[0].left_out.push(("c".into(), "it cannot".into()));
        let text = outcome.tables();
        assert!(
            text.contains("w: some work") && text.contains("2.00, 1.00") && text.contains("2.00 MiB"),
            "{text}"
        );
        assert!(text.contains("without c: it cannot") && !text.contains("absent"), "{text}");
        assert!(text.find(" a ").unwrap() < text.find(" b ").unwrap(), "{text}");
    }

    #[test]
    fn json_can_be_read_back_and_plots_are_svg() {
        let folder = tempfile::tempdir().unwrap();
        let (outcome, path) = (outcome(), folder.path().join("all.json"));
        outcome.write(&path).unwrap();
        let read: Outcome = stampede_report::read_json(&path).unwrap();
        assert_eq!(read, outcome);
        let written = outcome.plot(&folder.path().join("p")).unwrap();
        // No run has a latency.
        assert_eq!(written.len(), 2);
        assert!(written.iter().all(|file| std::fs::read_to_string(file).unwrap().contains("<svg")));
    }
}
