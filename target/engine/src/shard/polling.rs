//! Adaptive busy polling: for a short while before it sleeps, a shard looks for news by itself, which saves the way
//! through the scheduler when the next command is close behind.
//!
//! How long is learnt from how long waits last. A wait that was no longer than the limit would have been worth
//! polling through, so the span grows towards the limit; one that was longer shows that polling is waste, and ends it
//! until waits get short again. So a shard never polls longer than the limit after its last completion, and an idle one
//! does not poll at all.

use super::Shard;
use stampede_ring::{Errno, Ring, Wait};

/// How many times the shortest span fits into the limit.
const STEPS: u64 = 8;

/// What one shard has learnt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Polling {
    /// The longest span in nanoseconds; 0 switches polling off.
    limit_ns: u64,
    span_ns: u64,
}

impl Polling {
    pub(super) fn new(limit_ns: u64) -> Self {
        Self { limit_ns, span_ns: 0 }
    }

    pub(super) fn is_on(self) -> bool {
        self.limit_ns > 0
    }

    /// How long to poll before the next sleep, in nanoseconds.
    pub(super) fn span_ns(self) -> u64 {
        self.span_ns
    }

    /// A wait for news, polling included, lasted so long; `found` when it ended with news, not with a deadline.
    pub(super) fn waited(&mut self, ns: u64, found: bool) {
        self.span_ns = if !found || ns > self.limit_ns {
            0
        } else if ns > self.span_ns {
            (self.span_ns * 2).clamp((self.limit_ns / STEPS).max(1), self.limit_ns)
        } else {
            self.span_ns
        };
    }
}

impl<R: Ring> Shard<R> {
    /// Hands over what is queued, and waits in the ring: polling first, where that is switched on and pays.
    pub(super) fn wait(&mut self, wait: Wait, clock: impl Fn() -> u64) -> Result<(), Errno> {
        let deadline_ns = match wait {
            Wait::Until(deadline_ns) => deadline_ns,
            Wait::No | Wait::Forever => u64::MAX,
        };
        if wait == Wait::No || !self.polling.is_on() {
            return self.pusher.ring_mut().submit(wait);
        }
        // What is done at once, such as a send, says nothing about how long the next command takes to come.
        self.pusher.ring_mut().submit(Wait::No)?;
        if self.pusher.ring_mut().has_news() {
            return Ok(());
        }
        let begun_ns = clock();
        let found = self.poll(begun_ns, deadline_ns, &clock);
        if !found {
            self.pusher.ring_mut().submit(wait)?;
        }
        let found = found || self.pusher.ring_mut().has_news();
        self.polling.waited(clock().saturating_sub(begun_ns), found);
        // Deferred work runs, and becomes completions, in a submit.
        self.pusher.ring_mut().submit(Wait::No)
    }

    /// Looks for news until the span or the deadline is over; true when there are some.
    fn poll(&mut self, begun_ns: u64, deadline_ns: u64, clock: impl Fn() -> u64) -> bool {
        /// Looks between two readings of the clock, some nanoseconds each.
        const LOOKS: u32 = 16;
        let end_ns = begun_ns.saturating_add(self.polling.span_ns()).min(deadline_ns);
        if end_ns <= begun_ns {
            return false;
        }
        self.counters.busy_polls += 1;
        loop {
            let ring = self.pusher.ring_mut();
            let found = (0..LOOKS).any(|_| {
                std::hint::spin_loop();
                ring.has_news()
            });
            let now_ns = clock();
            if found || now_ns >= end_ns {
                self.counters.busy_poll_ns += now_ns.saturating_sub(begun_ns);
                self.counters.busy_poll_hits += u64::from(found);
                return found;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 50_000;

    /// Time polled and time slept over these gaps between completions.
    fn live(polling: &mut Polling, gaps: impl Iterator<Item = u64>) -> (u64, u64) {
        let (mut polled, mut slept) = (0, 0);
        for gap in gaps {
            polled += gap.min(polling.span_ns());
            slept += gap.saturating_sub(polling.span_ns());
            polling.waited(gap, true);
        }
        (polled, slept)
    }

    #[test]
    fn short_gaps_are_polled_through() {
        let mut polling = Polling::new(LIMIT);
        let (polled, slept) = live(&mut polling, std::iter::repeat_n(30_000, 1000));
        assert!(polling.span_ns() >= 30_000 && polling.span_ns() <= LIMIT);
        assert!(slept < 4 * 30_000 && polled > 990 * 30_000, "{polled} {slept}");
    }

    #[test]
    fn long_gaps_end_it() {
        let mut polling = Polling::new(LIMIT);
        live(&mut polling, std::iter::repeat_n(30_000, 10));
        let (polled, _) = live(&mut polling, std::iter::repeat_n(LIMIT + 1, 1000));
        assert!(polled <= LIMIT, "one span, then no more: {polled}");
        assert_eq!(polling.span_ns(), 0);
    }

    #[test]
    fn deadlines_are_no_news() {
        let mut polling = Polling::new(LIMIT);
        live(&mut polling, std::iter::repeat_n(30_000, 10));
        polling.waited(10_000, false);
        assert_eq!(polling.span_ns(), 0);
    }

    #[test]
    fn never_beyond_the_limit_and_off_means_off() {
        for limit in [1, 7, 1000] {
            let mut polling = Polling::new(limit);
            live(&mut polling, (0..100).map(|n| n % (limit + 3)));
            assert!(polling.span_ns() <= limit);
        }
        let mut off = Polling::new(0);
        assert!(!off.is_on());
        live(&mut off, 0..100);
        assert_eq!(off.span_ns(), 0);
    }
}
