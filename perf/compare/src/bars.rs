//! The bars: what must hold between candidates, judged from medians.

use crate::figures::{Figures, Summary};
use crate::outcome::Compared;
use crate::workload::{AGREEMENT, BOOTS};
use serde::{Deserialize, Serialize};

/// One bar, judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Judged {
    /// What must hold.
    pub(crate) rule: String,
    /// The figure found; `None` when it was not measured.
    pub(crate) value: Option<f64>,
    /// The figure that it is held to.
    pub(crate) limit: f64,
    /// Whether the bar is met; `None` when it was not measured.
    pub(crate) met: Option<bool>,
}

type Figure = fn(&Figures) -> Option<f64>;

/// How a bar's figure is found.
enum Value {
    /// A figure of one candidate divided by that of another.
    Ratio(Figure, &'static str, &'static str),
    /// A figure of one candidate.
    Of(Figure, &'static str),
    /// A figure of one candidate divided by the largest of several.
    OverLargest(Figure, &'static str, &'static [&'static str]),
    /// Sends for each turn of one candidate.
    SendsPerTurn(&'static str),
}

enum Limit {
    AtMost(f64),
    AtLeast(f64),
    /// Within this share of 1, either way.
    Near(f64),
}

struct Bar {
    workload: &'static str,
    rule: &'static str,
    value: Value,
    limit: Limit,
}

const CPU: Figure = |figures| figures.target_cpu_ms;
const IOPS: Figure = |figures| figures.iops;
const P50: Figure = |figures| figures.p50_us;
const BOOT_CPU: Figure = |figures| figures.boot_cpu_ms;
const PER_WAKEUP: Figure = |figures| figures.per_wakeup;

/// CPU of Stampede against the null target.
const fn against_null(workload: &'static str, limit: f64, rule: &'static str) -> Bar {
    Bar { workload, rule, value: Value::Ratio(CPU, "stampede", "null"), limit: Limit::AtMost(limit) }
}

const BARS: &[Bar] = &[
    against_null("rr4k_qd32", 1.5, "target CPU at most 1.5 times the null target's"),
    Bar {
        workload: "rr4k_qd32",
        rule: "target CPU at most 1/6 of tgt-rdwr's",
        value: Value::Ratio(CPU, "stampede", "tgt"),
        limit: Limit::AtMost(1.0 / 6.0),
    },
    against_null("rw4k_qd32", 1.7, "target CPU at most 1.7 times the null target's"),
    against_null("mix4k_64s", 1.6, "target CPU at most 1.6 times the null target's"),
    against_null("rr64k_qd16", 1.3, "target CPU at most 1.3 times the null target's"),
    against_null("sr256k_qd8", 1.3, "target CPU at most 1.3 times the null target's"),
    Bar {
        workload: "rr4k_qd32",
        rule: "the null target's CPU at most 2.5 times the floor's",
        value: Value::Ratio(CPU, "null", "floor"),
        limit: Limit::AtMost(2.5),
    },
    Bar {
        workload: "rr4k_qd1",
        rule: "median latency at most 1.2 times the null target's",
        value: Value::Ratio(P50, "stampede", "null"),
        limit: Limit::AtMost(1.2),
    },
    Bar {
        workload: "rr4k_qd32",
        rule: "at least 8 commands for each wake-up",
        value: Value::Of(PER_WAKEUP, "stampede"),
        limit: Limit::AtLeast(8.0),
    },
    Bar {
        workload: "rr4k_qd32",
        rule: "at most one vectored send for the one connection and turn",
        value: Value::SendsPerTurn("stampede"),
        limit: Limit::AtMost(1.0),
    },
    Bar {
        workload: "rr4k_qd32",
        rule: "storm drives the null target to at least 1.5 times any peer's IOPS",
        value: Value::OverLargest(IOPS, "null", &["tgt", "tgt-aio", "istgt"]),
        limit: Limit::AtLeast(1.5),
    },
    Bar {
        workload: "rw4k_qd32",
        rule: "storm drives the null target to at least 1.5 times any peer's IOPS",
        value: Value::OverLargest(IOPS, "null", &["tgt", "tgt-aio", "istgt"]),
        limit: Limit::AtLeast(1.5),
    },
    Bar {
        workload: "idle_1000s",
        rule: "1,000 idle sessions cost at most 0.2% of a core",
        value: Value::Of(|figures| figures.idle_core_percent, "stampede"),
        limit: Limit::AtMost(0.2),
    },
    Bar {
        workload: "idle_1000s",
        rule: "an idle session takes at most 24 KiB of RSS",
        value: Value::Of(|figures| figures.idle_rss_kib, "stampede"),
        limit: Limit::AtMost(24.0),
    },
    Bar {
        workload: BOOTS,
        rule: "target CPU for each machine at most 1/2.5 of tgt-aio's with one shared LUN",
        value: Value::Ratio(BOOT_CPU, "stampede-clone", "tgt-aio"),
        limit: Limit::AtMost(1.0 / 2.5),
    },
    Bar {
        workload: BOOTS,
        rule: "all machines up sooner than from tgt-aio",
        value: Value::Ratio(|figures| figures.boot_last_s, "stampede-clone", "tgt-aio"),
        limit: Limit::AtMost(1.0),
    },
    Bar {
        workload: BOOTS,
        rule: "target CPU for each machine at most 1.6 times the null target's",
        value: Value::Ratio(BOOT_CPU, "stampede-clone", "null"),
        limit: Limit::AtMost(1.6),
    },
    Bar {
        workload: AGREEMENT,
        rule: "storm agrees with iscsi-perf on tgt within 10%",
        value: Value::Ratio(IOPS, "tgt", "tgt (iscsi-perf)"),
        limit: Limit::Near(0.1),
    },
];

/// Judges every bar.
pub(crate) fn judge(compared: &[Compared]) -> Vec<Judged> {
    BARS.iter().map(|bar| bar.judge(compared)).collect()
}

impl Bar {
    fn judge(&self, compared: &[Compared]) -> Judged {
        let workload = compared.iter().find(|workload| workload.name == self.workload);
        let value = workload.and_then(|workload| self.value.find(&workload.summaries));
        let (limit, holds): (f64, &dyn Fn(f64) -> bool) = match self.limit {
            Limit::AtMost(limit) => (limit, &move |value| value <= limit),
            Limit::AtLeast(limit) => (limit, &move |value| value >= limit),
            Limit::Near(share) => (share, &move |value: f64| (value - 1.0).abs() <= share),
        };
        Judged { rule: format!("{}: {}", self.workload, self.rule), value, limit, met: value.map(holds) }
    }
}

impl Value {
    fn find(&self, summaries: &[Summary]) -> Option<f64> {
        let median = |name: &str| {
            summaries.iter().find(|summary| summary.candidate == name).map(|summary| summary.median)
        };
        let of = |figure: &Figure, name: &str| median(name).and_then(|figures| figure(&figures));
        match self {
            Value::Ratio(figure, one, other) => Some(of(figure, one)? / of(figure, other)?),
            Value::Of(figure, one) => of(figure, one),
            Value::OverLargest(figure, one, others) => {
                let largest = others.iter().filter_map(|other| of(figure, other)).reduce(f64::max)?;
                Some(of(figure, one)? / largest)
            }
            Value::SendsPerTurn(one) => {
                let figures = median(one)?;
                Some(figures.per_turn? / figures.per_send?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(candidate: &str, cpu: f64, iops: f64) -> Summary {
        let median = Figures {
            target_cpu_ms: Some(cpu),
            iops: Some(iops),
            per_turn: Some(8.0),
            per_send: Some(10.0),
            ..Figures::default()
        };
        Summary {
            candidate: candidate.into(),
            rounds: 1,
            errors: 0,
            median,
            smallest: median,
            largest: median,
        }
    }

    fn judged(workload: &str, summaries: Vec<Summary>) -> Vec<Judged> {
        judge(&[Compared { name: workload.into(), what: String::new(), summaries, left_out: Vec::new() }])
    }

    fn find<'a>(judged: &'a [Judged], words: &str) -> &'a Judged {
        judged.iter().find(|bar| bar.rule.contains(words)).expect("a bar with these words")
    }

    #[test]
    fn bars_are_met_missed_or_not_measured() {
        let good = judged(
            "rr4k_qd32",
            vec![summary("stampede", 4.0, 100.0), summary("null", 3.0, 100.0), summary("tgt", 30.0, 50.0)],
        );
        assert_eq!(find(&good, "at most 1.5 times the null").met, Some(true));
        assert_eq!(find(&good, "1/6").met, Some(true));
        assert_eq!(find(&good, "any peer's").value, Some(2.0));
        assert_eq!(find(&good, "one vectored send").value, Some(0.8));
        assert_eq!(find(&good, "the floor's").met, None);
        assert_eq!(find(&good, "rw4k_qd32: target CPU").met, None);
        let bad = judged(
            "rr4k_qd32",
            vec![summary("stampede", 6.0, 100.0), summary("null", 3.0, 60.0), summary("tgt", 30.0, 50.0)],
        );
        assert_eq!(find(&bad, "at most 1.5 times the null").met, Some(false));
        assert_eq!(find(&bad, "1/6").met, Some(false));
        assert_eq!(find(&bad, "any peer's").met, Some(false));
    }

    #[test]
    fn agreement_counts_either_way() {
        let with = |iops| {
            judged(AGREEMENT, vec![summary("tgt", 1.0, iops), summary("tgt (iscsi-perf)", 1.0, 100.0)])
        };
        let met = |iops| find(&with(iops), "agrees").met;
        assert_eq!(
            [met(95.0), met(109.0), met(89.0), met(111.0)],
            [Some(true), Some(true), Some(false), Some(false)]
        );
    }
}
