//! The figures of one run, and the median and spread of several.

use serde::{Deserialize, Serialize};
use stampede_report::StormReport;

/// What a target counted in one run, by its own counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// SCSI commands.
    pub(crate) commands: u64,
    /// Times through its loop.
    pub(crate) turns: u64,
    /// Vectored sends.
    pub(crate) sends: u64,
}

/// What sessions that say nothing keep in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Idle {
    pub(crate) sessions: u32,
    /// The target's resident memory when it had just started, KiB.
    pub(crate) rss_before_kib: u64,
    /// The kernel's memory for one end of one session, bytes; 0 when it does not say.
    pub(crate) kernel_bytes: u64,
}

/// One run of one candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) workload: String,
    pub(crate) candidate: String,
    /// From 1.
    pub(crate) round: u32,
    /// What the client reported.
    pub(crate) report: StormReport,
    /// What the target counted, if it counts.
    #[serde(default)]
    pub(crate) counted: Option<Counted>,
    /// Of idle sessions.
    #[serde(default)]
    pub(crate) idle: Option<Idle>,
    /// Of a boot storm.
    #[serde(default)]
    pub(crate) boots: Option<Boots>,
}

/// What became of the machines of a boot storm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Boots {
    pub(crate) clients: u32,
    /// From the begin to where the last machine was up, seconds.
    pub(crate) last_marker_seconds: f64,
    /// The slowest machine's time in those of the median one.
    pub(crate) slowest_over_median: f64,
}

/// Declares the figures once: the struct, their names, and how to reach one.
macro_rules! figures {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// The figures of a run or of several; `None` where there is none.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
        pub(crate) struct Figures { $($(#[doc = $doc])* pub(crate) $name: Option<f64>,)* }

        impl Figures {
            /// Combines several runs figure by figure.
            fn combine(runs: &[Figures], with: impl Fn(&mut Vec<f64>) -> f64) -> Self {
                Self { $($name: {
                    let mut values: Vec<f64> = runs.iter().filter_map(|run| run.$name).collect();
                    values.sort_by(f64::total_cmp);
                    (!values.is_empty()).then(|| with(&mut values))
                },)* }
            }
        }
    };
}

figures! {
    /// Operations per second.
    iops,
    /// Bytes of data per second.
    bytes_per_second,
    /// Mean latency, microseconds.
    mean_us,
    /// Median latency, microseconds.
    p50_us,
    /// 90th percentile of latency, microseconds.
    p90_us,
    /// 99th percentile of latency, microseconds.
    p99_us,
    /// 99.9th percentile of latency, microseconds.
    p99_9_us,
    /// The target's CPU time for 1,000 operations, milliseconds; so microseconds for one.
    target_cpu_ms,
    /// The client's CPU time for 1,000 operations, milliseconds.
    client_cpu_ms,
    /// CPU time of the whole machine for 1,000 operations, milliseconds.
    machine_cpu_ms,
    /// Operations for each time that a thread of the target went to sleep.
    per_wakeup,
    /// Commands for each time through the target's loop, by its own counters.
    per_turn,
    /// Commands for each vectored send, by the target's own counters.
    per_send,
    /// The target's resident memory, KiB.
    rss_kib,
    /// The share of a core that idle sessions cost the target, percent.
    idle_core_percent,
    /// Resident memory that each idle session costs the target, KiB.
    idle_rss_kib,
    /// The kernel's memory for the target's end of each idle session, KiB.
    idle_kernel_kib,
    /// The target's CPU time for each machine that boots, milliseconds.
    boot_cpu_ms,
    /// Until the last machine of a storm is up, seconds.
    boot_last_s,
    /// The slowest machine's time in those of the median one.
    boot_slowest,
}

impl Figures {
    /// Of one run.
    pub(crate) fn of(run: &Run) -> Self {
        let report = &run.report;
        let operations = report.all.operations as f64;
        let per_thousand = |seconds: f64| (operations > 0.0).then(|| seconds * 1e6 / operations);
        let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let latency = &report.all.latency_us;
        // A client that measures no latency reports zeros.
        let timed = |us: f64| (us > 0.0).then_some(us);
        let watched = report.watched.as_ref();
        let counted = run.counted;
        let per_session = |idle: Idle, kib: f64| kib / f64::from(idle.sessions.max(1));
        let more_kib =
            |idle: Idle| watched.map(|watched| watched.rss_kib.saturating_sub(idle.rss_before_kib) as f64);
        let busy = run.idle.is_none();
        Self {
            iops: busy.then_some(report.iops),
            bytes_per_second: busy.then_some(report.bytes_per_second),
            mean_us: timed(latency.mean),
            p50_us: timed(latency.p50),
            p90_us: timed(latency.p90),
            p99_us: timed(latency.p99),
            p99_9_us: timed(latency.p99_9),
            target_cpu_ms: watched.and_then(|watched| per_thousand(watched.cpu_seconds)),
            client_cpu_ms: per_thousand(report.client.cpu_seconds).filter(|ms| *ms > 0.0),
            machine_cpu_ms: per_thousand(report.machine_cpu_seconds),
            per_wakeup: watched.and_then(|watched| ratio(report.all.operations, watched.voluntary_switches)),
            per_turn: counted.and_then(|counted| ratio(counted.commands, counted.turns)),
            per_send: counted.and_then(|counted| ratio(counted.commands, counted.sends)),
            rss_kib: watched.map(|watched| watched.rss_kib as f64),
            idle_core_percent: run
                .idle
                .and(watched)
                .filter(|_| report.seconds > 0.0)
                .map(|watched| watched.cpu_seconds / report.seconds * 100.0),
            idle_rss_kib: run.idle.and_then(|idle| Some(per_session(idle, more_kib(idle)?))),
            boot_cpu_ms: run
                .boots
                .and_then(|boots| Some(watched?.cpu_seconds * 1e3 / f64::from(boots.clients.max(1)))),
            boot_last_s: run.boots.map(|boots| boots.last_marker_seconds).filter(|seconds| *seconds > 0.0),
            boot_slowest: run.boots.map(|boots| boots.slowest_over_median).filter(|times| *times > 0.0),
            idle_kernel_kib: run.idle.map(|idle| idle.kernel_bytes as f64 / 1024.0).filter(|kib| *kib > 0.0),
        }
    }
}

/// Several runs of one candidate, put together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) candidate: String,
    /// How many runs there were.
    pub(crate) rounds: usize,
    /// Operations that failed, in all runs.
    pub(crate) errors: u64,
    pub(crate) median: Figures,
    pub(crate) smallest: Figures,
    pub(crate) largest: Figures,
}

impl Summary {
    /// Of the runs of one candidate.
    pub(crate) fn of(candidate: &str, runs: &[&Run]) -> Self {
        let figures: Vec<Figures> = runs.iter().map(|run| Figures::of(run)).collect();
        Self {
            candidate: candidate.to_owned(),
            rounds: runs.len(),
            errors: runs.iter().map(|run| run.report.errors).sum(),
            median: Figures::combine(&figures, |sorted| median(sorted)),
            smallest: Figures::combine(&figures, |sorted| sorted[0]),
            largest: Figures::combine(&figures, |sorted| sorted[sorted.len() - 1]),
        }
    }
}

/// The middle of sorted values, at least one.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stampede_report::{Traffic, Watched};

    fn run(operations: u64, cpu_seconds: f64) -> Run {
        let all = Traffic { operations, ..Traffic::default() };
        let watched =
            Watched { cpu_seconds, voluntary_switches: operations / 8, rss_kib: 100, ..Watched::default() };
        let report =
            StormReport { iops: operations as f64, all, watched: Some(watched), ..StormReport::default() };
        let counted = Some(Counted { commands: operations, turns: operations / 4, sends: 0 });
        Run {
            workload: "w".into(),
            candidate: "c".into(),
            round: 1,
            report,
            counted,
            idle: None,
            boots: None,
        }
    }

    #[test]
    fn figures_are_per_operation() {
        let figures = Figures::of(&run(1000, 0.006));
        assert_eq!(figures.target_cpu_ms, Some(6.0));
        assert_eq!((figures.per_wakeup, figures.per_turn, figures.per_send), (Some(8.0), Some(4.0), None));
        assert_eq!((figures.p50_us, figures.client_cpu_ms), (None, None));
        assert_eq!(Figures::of(&run(0, 1.0)).target_cpu_ms, None);
    }

    #[test]
    fn idle_sessions_have_figures_of_their_own() {
        let mut run = run(0, 0.01);
        run.report.seconds = 5.0;
        run.idle = Some(Idle { sessions: 10, rss_before_kib: 60, kernel_bytes: 2048 });
        let figures = Figures::of(&run);
        assert_eq!(
            (figures.idle_rss_kib, figures.idle_kernel_kib, figures.iops),
            (Some(4.0), Some(2.0), None)
        );
        assert!((figures.idle_core_percent.unwrap() - 0.2).abs() < 1e-9);
    }

    #[test]
    fn a_storm_has_figures_for_each_machine() {
        let mut run = run(1000, 0.5);
        run.boots = Some(Boots { clients: 50, last_marker_seconds: 2.5, slowest_over_median: 0.0 });
        let figures = Figures::of(&run);
        assert_eq!(
            (figures.boot_cpu_ms, figures.boot_last_s, figures.boot_slowest),
            (Some(10.0), Some(2.5), None)
        );
    }

    #[test]
    fn several_runs_have_a_median_and_a_spread() {
        let runs = [run(1000, 0.006), run(3000, 0.009), run(2000, 0.008), run(1000, 0.1)];
        let summary = Summary::of("c", &runs.iter().collect::<Vec<_>>());
        assert_eq!(summary.median.iops, Some(1500.0));
        assert_eq!((summary.smallest.target_cpu_ms, summary.largest.target_cpu_ms), (Some(3.0), Some(100.0)));
        let odd = Summary::of("c", &runs[..3].iter().collect::<Vec<_>>());
        assert_eq!(odd.median.target_cpu_ms, Some(4.0));
    }
}
