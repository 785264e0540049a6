//! What `storm boot` reports beside a storm's usual figures.

use crate::{CurvePoint, Latency, LatencySummary, MismatchEntry, StormReport};
use serde::{Deserialize, Serialize};

/// The report of a boot storm.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BootReport {
    /// The usual figures; its sessions are the machines.
    #[serde(flatten)]
    pub report: StormReport,
    /// The boots'.
    pub boot: BootSummary,
}

/// What became of the machines.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct BootSummary {
    /// What each machine did.
    pub trace: TraceSummary,
    /// Machines.
    pub clients: u32,
    /// Machines that came to the trace's marker.
    pub up: u32,
    /// Machines that came to the trace's end.
    pub done: u32,
    /// Machines that gave up.
    pub gave_up: u32,
    /// From a machine's switching on to its marker, seconds.
    pub marker_seconds: Spread,
    /// From a machine's switching on to its end, seconds.
    pub end_seconds: Spread,
    /// From the begin to the last marker, seconds; 0 unless all machines came to it.
    pub last_marker_seconds: f64,
    /// The slowest machine's time to the marker, in those of the median machine; 0 if there is none.
    pub slowest_over_median: f64,
    /// Logins that succeeded.
    pub logins: u64,
    /// Logins that did not, and were tried again.
    pub logins_put_off: u64,
    /// Sessions that ended and should not have.
    pub sessions_lost: u64,
    /// Sessions that the target ended for another one of the same machine, which had gone on to it.
    pub sessions_replaced: u64,
    /// Sessions at once, at most.
    pub sessions_max: u64,
    /// Commands that were sent again.
    pub retries: Retries,
    /// Commands other than READ and WRITE that the unit does not know.
    pub refused: u64,
    /// Small writes that were mixed in.
    pub small_writes: u64,
    /// What reads were compared with: `stamped`, `file` or `none`.
    pub golden: String,
    /// Bytes that were compared.
    pub checked_bytes: u64,
    /// Reads that gave wrong data.
    pub mismatches: u64,
    /// The first of them.
    pub first_mismatches: Vec<MismatchEntry>,
    /// What storm itself had in memory at most, bytes.
    pub client_rss_bytes: u64,
    /// Latencies by phase: `firmware`, `os`.
    pub phases: Vec<PhaseCurve>,
    /// By machine.
    pub machines: Vec<MachineSummary>,
}

/// A trace in figures.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct TraceSummary {
    /// Its name.
    pub name: String,
    /// `recorded`, or `model`.
    pub origin: String,
    /// Commands.
    pub commands: u64,
    /// Logins.
    pub logins: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Different bytes read.
    pub unique_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Think time, seconds.
    pub think_seconds: f64,
    /// What the marker is called.
    pub marker: String,
}

/// Commands that were sent again, by why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Retries {
    /// UNIT ATTENTION.
    pub unit_attention: u64,
    /// BUSY.
    pub busy: u64,
    /// TASK SET FULL.
    pub task_set_full: u64,
    /// A lost session, an aborted command, a unit not ready.
    pub other: u64,
}

/// Times of all machines, seconds.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Spread {
    /// How many machines.
    pub count: u64,
    /// The first.
    pub min: f64,
    /// The median.
    pub p50: f64,
    /// 90 in 100.
    pub p90: f64,
    /// 99 in 100.
    pub p99: f64,
    /// The last.
    pub max: f64,
}

impl Spread {
    /// Of these seconds.
    #[must_use]
    pub fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let Some(last) = seconds.len().checked_sub(1) else { return Self::default() };
        // The smallest time that the share of machines did not exceed.
        let at = |share: f64| {
            let rank = (share * seconds.len() as f64).ceil() as usize;
            seconds[rank.clamp(1, seconds.len()) - 1]
        };
        Self {
            count: seconds.len() as u64,
            min: seconds[0],
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: seconds[last],
        }
    }
}

/// Latencies of one phase of the boots.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PhaseCurve {
    /// Its name.
    pub name: String,
    /// Commands.
    pub operations: u64,
    /// Their latencies, microseconds.
    pub latency_us: LatencySummary,
    /// Their distribution.
    pub curve: Vec<CurvePoint>,
}

impl PhaseCurve {
    /// Of these latencies.
    #[must_use]
    pub fn new(name: &str, latency: &Latency) -> Self {
        Self {
            name: name.to_owned(),
            operations: latency.count(),
            latency_us: latency.summary(),
            curve: latency.curve(),
        }
    }
}

/// One machine's boot. Seconds are from the storm's begin.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct MachineSummary {
    /// Its number.
    pub machine: u32,
    /// When it was switched on.
    pub on_seconds: f64,
    /// When it came to its marker.
    pub marker_seconds: Option<f64>,
    /// When it came to its end.
    pub end_seconds: Option<f64>,
    /// Commands.
    pub operations: u64,
    /// Their median and longest latency, to one digit, microseconds.
    pub p50_us: f64,
    /// See `p50_us`.
    pub max_us: f64,
    /// Commands that were sent again.
    pub retries: u64,
    /// Logins that were tried again.
    pub logins_put_off: u64,
    /// Sessions that it lost.
    pub sessions_lost: u64,
    /// Reads that gave wrong data.
    pub mismatches: u64,
    /// Why it gave up.
    pub failure: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_names_times_that_there_were() {
        let spread = Spread::of((1..=10).rev().map(f64::from).collect());
        assert_eq!((spread.min, spread.p50, spread.p90, spread.p99, spread.max), (1.0, 5.0, 9.0, 10.0, 10.0));
        assert_eq!(Spread::of(vec![2.0]).p50, 2.0);
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }
}
