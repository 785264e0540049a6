//! How long commands took, recorded for next to nothing where many take equally long: commands that come and are
//! answered together have one and the same latency, since a turn has one time.

use hdrhistogram::Histogram;

/// Shortest and longest latency that are told apart, in nanoseconds.
const BOUNDS_NS: (u64, u64) = (100, 60_000_000_000);

/// A latency histogram, and the run of equal values that is not in it yet.
#[derive(Debug)]
pub(crate) struct Latency {
    histogram: Histogram<u64>,
    /// The value of the run, in nanoseconds.
    latest_ns: u64,
    /// How often it came.
    count: u64,
}

impl Latency {
    /// Nothing recorded yet; `None` when there is no memory for it.
    pub(crate) fn new() -> Option<Self> {
        let histogram = Histogram::new_with_bounds(BOUNDS_NS.0, BOUNDS_NS.1, 3).ok()?;
        Some(Self { histogram, latest_ns: 0, count: 0 })
    }

    /// Records one latency, in nanoseconds.
    #[inline]
    pub(crate) fn record(&mut self, latency_ns: u64) {
        if latency_ns != self.latest_ns {
            self.end_run(latency_ns);
        }
        self.count += 1;
    }

    #[inline(never)]
    fn end_run(&mut self, next_ns: u64) {
        self.histogram.saturating_record_n(self.latest_ns, self.count);
        (self.latest_ns, self.count) = (next_ns, 0);
    }

    /// Everything that was recorded.
    pub(crate) fn total(&self) -> Histogram<u64> {
        let mut total = self.histogram.clone();
        total.saturating_record_n(self.latest_ns, self.count);
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_count_as_often_as_they_came(runs in proptest::collection::vec((0u64..70_000_000_000, 1u64..9), 0..40)) {
            let mut latency = Latency::new().unwrap();
            let mut model = Histogram::<u64>::new_with_bounds(BOUNDS_NS.0, BOUNDS_NS.1, 3).unwrap();
            for (value, count) in runs {
                for _ in 0..count {
                    latency.record(value);
                    model.saturating_record(value);
                }
                prop_assert_eq!(&latency.total(), &model);
            }
        }
    }
}
