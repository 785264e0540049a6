//! Latencies: recorded in nanoseconds into an HDR histogram, reported in microseconds.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest time that a histogram tells apart, nanoseconds: one hour. Longer ones count as this long in the
/// percentiles; `max` and `mean` are exact all the same.
const LONGEST_NS: u64 = 3_600_000_000_000;
/// Times below this many nanoseconds are not told apart: no network round trip is that short.
const SHORTEST_NS: u64 = 64;

/// Where a distribution curve is sampled: dense where the tail is.
const CURVE_QUANTILES: [f64; 26] = [
    0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.98, 0.99, 0.995,
    0.9975, 0.999, 0.9995, 0.99975, 0.9999, 0.99999, 0.999999, 1.0,
];

/// A recorder of latencies. Its memory is taken when it is made, recording neither allocates nor fails.
#[derive(Clone, Debug)]
pub struct Latency {
    histogram: Histogram<u64>,
    sum_ns: u128,
    min_ns: u64,
    max_ns: u64,
}

impl Latency {
    /// A recorder whose percentiles are right to 3 significant digits; it takes about 230 KiB.
    #[must_use]
    pub fn new() -> Self {
        Self::with_digits(3)
    }

    /// A recorder whose percentiles are right to 2 significant digits; it takes about 30 KiB. For one per session.
    #[must_use]
    pub fn compact() -> Self {
        Self::with_digits(2)
    }

    /// A recorder whose percentiles are right to 1 significant digit; it takes about 5 KiB. For one per machine of a
    /// thousand.
    #[must_use]
    pub fn coarse() -> Self {
        Self::with_digits(1)
    }

    fn with_digits(digits: u8) -> Self {
        let histogram = Histogram::new_with_bounds(SHORTEST_NS, LONGEST_NS, digits)
            .expect("the bounds are constants that the library takes");
        Latency { histogram, sum_ns: 0, min_ns: u64::MAX, max_ns: 0 }
    }

    /// Records one latency of `ns` nanoseconds.
    pub fn record_ns(&mut self, ns: u64) {
        self.histogram.saturating_record(ns);
        self.sum_ns += u128::from(ns);
        self.min_ns = self.min_ns.min(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// Adds what `other` recorded. The two may differ in their digits.
    pub fn merge(&mut self, other: &Latency) {
        self.histogram.add(&other.histogram).expect("all recorders have the same bounds");
        self.sum_ns += other.sum_ns;
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// Forgets everything and keeps the memory: for the end of a warm-up.
    pub fn clear(&mut self) {
        self.histogram.reset();
        (self.sum_ns, self.min_ns, self.max_ns) = (0, u64::MAX, 0);
    }

    /// How many latencies were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The latency that the share `quantile` (0.0 to 1.0) of the recorded ones did not exceed, microseconds; 0 if
    /// none was recorded.
    #[must_use]
    pub fn quantile_us(&self, quantile: f64) -> f64 {
        if self.count() == 0 {
            return 0.0;
        }
        // A histogram's slot has a width: what lies beyond the exact ends was never measured.
        let ns = if quantile >= 1.0 {
            self.max_ns
        } else {
            self.histogram.value_at_quantile(quantile).clamp(self.min_ns, self.max_ns)
        };
        micros(ns)
    }

    /// What a report says of these latencies. All zeros if none was recorded.
    #[must_use]
    pub fn summary(&self) -> LatencySummary {
        let count = self.count();
        if count == 0 {
            return LatencySummary::default();
        }
        LatencySummary {
            mean: self.sum_ns as f64 / count as f64 / 1e3,
            min: micros(self.min_ns),
            p50: self.quantile_us(0.5),
            p90: self.quantile_us(0.9),
            p99: self.quantile_us(0.99),
            p99_9: self.quantile_us(0.999),
            max: micros(self.max_ns),
        }
    }

    /// The whole distribution in a few dozen points, for [`crate::plot::latency_cdf`]. Empty if none was recorded;
    /// quantiles finer than the number of recorded latencies are left out.
    #[must_use]
    pub fn curve(&self) -> Vec<CurvePoint> {
        let count = self.count();
        if count == 0 {
            return Vec::new();
        }
        let known = |quantile: &f64| *quantile >= 1.0 || (1.0 - quantile) * count as f64 >= 1.0 - 1e-9;
        let point = |quantile: f64| CurvePoint { quantile, us: self.quantile_us(quantile) };
        CURVE_QUANTILES.into_iter().filter(known).map(point).collect()
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

/// Latencies in microseconds, as a report gives them.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct LatencySummary {
    /// The exact mean.
    pub mean: f64,
    /// The exact shortest.
    pub min: f64,
    /// The median.
    pub p50: f64,
    /// 90 in 100 took at most this long.
    pub p90: f64,
    /// 99 in 100 took at most this long.
    pub p99: f64,
    /// 999 in 1,000 took at most this long.
    pub p99_9: f64,
    /// The exact longest.
    pub max: f64,
}

/// One point of a latency distribution.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Share of the operations, 0.0 to 1.0 ..
    pub quantile: f64,
    /// .. that took at most this many microseconds.
    pub us: f64,
}

fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_latencies_give_known_percentiles() {
        let mut latency = Latency::new();
        for us in 1..=1000_u64 {
            latency.record_ns(us * 1000);
        }
        let summary = latency.summary();
        assert_eq!((summary.min, summary.max, summary.mean), (1.0, 1000.0, 500.5));
        for (found, wanted) in [(summary.p50, 500.0), (summary.p90, 900.0), (summary.p99, 990.0)] {
            assert!((found - wanted).abs() / wanted < 0.002, "{found} for {wanted}");
        }
        assert!((summary.p99_9 - 999.0).abs() < 2.0, "{}", summary.p99_9);
    }

    #[test]
    fn nothing_recorded_is_zeros_and_no_curve() {
        assert_eq!(Latency::new().summary(), LatencySummary::default());
        assert!(Latency::compact().curve().is_empty());
    }

    #[test]
    fn what_is_beyond_the_histogram_is_kept_in_the_exact_ends() {
        let mut latency = Latency::compact();
        latency.record_ns(0);
        latency.record_ns(2 * LONGEST_NS);
        let summary = latency.summary();
        assert_eq!((summary.min, summary.max), (0.0, 7.2e9));
        assert_eq!(latency.count(), 2);
    }

    #[test]
    fn merged_recorders_say_what_one_would() {
        let (mut one, mut low, mut high) = (Latency::new(), Latency::new(), Latency::compact());
        for ns in (1_000..2_000_000).step_by(1_777) {
            one.record_ns(ns);
            if ns < 900_000 { low.record_ns(ns) } else { high.record_ns(ns) }
        }
        low.merge(&high);
        let (merged, whole) = (low.summary(), one.summary());
        assert_eq!((merged.min, merged.max, low.count()), (whole.min, whole.max, one.count()));
        assert!((merged.mean - whole.mean).abs() < 1e-9);
        // The compact one's 2 digits decide how near the percentiles are.
        assert!((merged.p99 - whole.p99).abs() / whole.p99 < 0.02);
        low.clear();
        assert_eq!(low.summary(), LatencySummary::default());
    }

    #[test]
    fn a_curve_rises_and_knows_no_more_than_was_recorded() {
        let mut latency = Latency::new();
        for ns in 1..=1000_u64 {
            latency.record_ns(ns * 500);
        }
        let curve = latency.curve();
        assert!(curve.windows(2).all(|pair| pair[0].us <= pair[1].us && pair[0].quantile < pair[1].quantile));
        assert!(curve.iter().all(|point| point.quantile <= 0.999 || point.quantile == 1.0));
        assert!(curve.iter().any(|point| point.quantile == 0.999));
        assert_eq!(curve.last().map(|point| point.us), Some(500.0));
    }
}
