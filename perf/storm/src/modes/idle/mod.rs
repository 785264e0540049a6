//! idle: sessions that do nothing, and what they cost the target.

mod shard;

use crate::cli::IdleArguments;
use crate::failure::Failure;
use crate::finish::{self, Parameters};
use crate::modes::io::sessions_by_shard;
use crate::modes::record::Figures;
use crate::probe::probe_login;
use crate::proc::Snapshot;
use crate::run::{Course, Schedule, Window};
use serde::Serialize;
use shard::IdleShard;
use stampede_report::rate;
use std::sync::Arc;

/// What idle sessions cost; beside the report's other fields in its JSON form.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct IdleSummary {
    /// Sessions that were held.
    pub(crate) sessions: u32,
    /// Sessions that were lost and logged in again.
    pub(crate) lost: u64,
    /// Pings (NOP-In) of the target that were answered, logins and all.
    pub(crate) pings_answered: u64,
    /// CPU of the watched process in the window, percent of one core.
    pub(crate) watched_cpu_percent: Option<f64>,
    /// Resident memory of the watched process before the sessions, KiB.
    pub(crate) watched_rss_kib_before: Option<u64>,
    /// The same with the sessions, KiB.
    pub(crate) watched_rss_kib_with: Option<u64>,
    /// What it has more with the sessions, bytes for each.
    pub(crate) watched_rss_bytes_per_session: Option<f64>,
    /// What the machine's TCP sockets hold in buffers more with the sessions (`/proc/net/sockstat`), bytes for each; on
    /// one machine of both ends.
    pub(crate) tcp_memory_bytes_per_session: f64,
    /// What the kernel's own structures take more (`Slab` of `/proc/meminfo`), bytes for each; on one machine of both
    /// ends.
    pub(crate) kernel_slab_bytes_per_session: f64,
}

/// Runs and reports.
///
/// # Errors
/// Why there is no run or no report; and, after the report, that sessions were lost.
pub(crate) fn run(arguments: &IdleArguments) -> Result<(), Failure> {
    let IdleArguments { common, length, settle } = arguments;
    if common.plot.is_some() {
        return Err(Failure::usage("idle has no latencies to draw: leave --plot out"));
    }
    let course = Course::prepare(common)?;
    // The first session of all, so that what the target takes once is not counted as the sessions'.
    probe_login(&course.endpoint)?;
    let before = Snapshot::take(common.watch_pid);
    let bodies = sessions_by_shard(common).into_iter().map(|numbers| {
        let (endpoint, control) = (course.endpoint.clone(), Arc::clone(&course.control));
        move || IdleShard::new(&endpoint, numbers, &control)?.run()
    });
    let schedule = Schedule {
        warmup: *settle,
        secs: Some(length.secs),
        operations: None,
        machines: None,
        afterwards: "log out",
    };
    let (window, results) = course.run(&schedule, bodies.collect())?;
    let mut figures = Figures::default();
    let (mut lost, mut pings_answered) = (0, 0);
    for result in results {
        lost += result.lost;
        pings_answered += result.pings_answered;
        figures.merge(result.figures);
    }
    let mut summary = summary(common.sessions, &before, &window);
    (summary.lost, summary.pings_answered) = (lost, pings_answered);
    let mut parameters = Parameters::of(common);
    parameters.set("secs", length.secs);
    parameters.set("settle", *settle);
    finish::idle(common, parameters, &window, &figures, summary)
}

fn summary(sessions: u32, before: &Snapshot, window: &Window) -> IdleSummary {
    let with = &window.after;
    let each =
        |before_kib: u64, with_kib: u64| (with_kib as f64 - before_kib as f64) * 1024.0 / f64::from(sessions);
    let process = before.watched.zip(with.watched);
    let cpu = window.before.watched.zip(with.watched);
    IdleSummary {
        sessions,
        lost: 0,
        pings_answered: 0,
        watched_cpu_percent: cpu
            .map(|(start, end)| rate(start.until(&end).cpu_seconds * 100.0, window.seconds)),
        watched_rss_kib_before: process.map(|(before, _)| before.rss_kib),
        watched_rss_kib_with: process.map(|(_, with)| with.rss_kib),
        watched_rss_bytes_per_session: process.map(|(before, with)| each(before.rss_kib, with.rss_kib)),
        tcp_memory_bytes_per_session: each(before.tcp_memory_kib, with.tcp_memory_kib),
        kernel_slab_bytes_per_session: each(before.slab_kib, with.slab_kib),
    }
}
