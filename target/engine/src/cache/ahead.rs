//! Reading blocks of a golden ahead of its clients: what a recorded boot wants, or what the operator asked for.
//!
//! ```text
//!  route ─► own blocks ─► Home::prefetch ─┬─ there ────► next
//!           in its order                  ├─ slot ─────► a read; neighbours go to the kernel together
//!                                         └─ no room ──► the end
//! ```
//!
//! Demand comes first: the depth shrinks with the reads that clients wait for, and at [`DEMAND_MAX`] of them nothing is
//! read ahead. Memory is only taken that nobody needs ([`Home::prefetch`](stampede_image::cache::Home::prefetch)).
//!
//! A run that a login began is paced by the clients. It stays at most [`LEAD`] bytes ahead of what was used of it. It ends
//! when they do not follow: nobody used anything of its lead for [`PATIENCE_NS`], or more than half of the last reads that
//! clients had to wait for were of blocks that the recording does not have.

use crate::messages::WarmState;
use stampede_image::recording::Route;
use std::collections::VecDeque;

/// Blocks that are read ahead at once by all shards together, 1 MiB, but at least [`DEPTH_MIN`] by each.
const DEPTH: usize = 32;
/// One stride, whose blocks are neighbours.
const DEPTH_MIN: usize = 8;
/// Reads in flight that clients wait for, from which on nothing is read ahead.
const DEMAND_MAX: usize = 32;
/// Blocks that all shards together are ahead of what was used, 64 MiB.
const LEAD: usize = 2048;
/// How long a run waits for its lead to be used.
const PATIENCE_NS: u64 = 30_000_000_000;
/// Demand reads over which it is judged whether clients do what was recorded.
const JUDGED: u32 = 64;
/// Reads that may fail before a run is given up.
const FAILED_MAX: u32 = 8;

/// One golden's run on its way, or the last one.
#[derive(Debug)]
pub(super) struct Run {
    route: Route,
    /// The blocks that have their home here, in the route's order.
    own: Vec<u32>,
    next: usize,
    /// It follows clients; otherwise it reads on to its end.
    paced: bool,
    /// Blocks that were read and not used when last looked; kept while paced.
    lead: VecDeque<u32>,
    lead_max: usize,
    waiting_since_ns: Option<u64>,
    /// Demand reads since the begin, halved now and then, and those of them that were not recorded.
    judged: (u32, u32),
    failed: u32,
    pub(super) state: WarmState,
}

impl Run {
    /// A run over those blocks of a route that `is_own` says.
    pub(super) fn new(route: Route, paced: bool, shards: u16, is_own: impl Fn(u32) -> bool) -> Self {
        Self {
            own: route.order().iter().copied().filter(|block| is_own(*block)).collect(),
            route,
            next: 0,
            paced,
            lead: VecDeque::new(),
            lead_max: LEAD / usize::from(shards.max(1)),
            waiting_since_ns: None,
            judged: (0, 0),
            failed: 0,
            state: WarmState::Reading,
        }
    }

    /// The block to read next.
    pub(super) fn next(&self) -> Option<u32> {
        self.own.get(self.next).copied()
    }

    /// It was there, or its read has begun.
    pub(super) fn advance(&mut self, was_read: bool) {
        if self.paced && was_read {
            self.lead.extend(self.next());
        }
        self.next += 1;
    }

    /// Whether the clients have to follow first, or the run ends since they do not.
    pub(super) fn waits(&mut self, now_ns: u64, is_unused: impl Fn(u32) -> bool) -> bool {
        if self.lead.len() < self.lead_max {
            return false;
        }
        let before = self.lead.len();
        self.lead.retain(|block| is_unused(*block));
        if self.lead.len() < self.lead_max {
            (self.state, self.waiting_since_ns) = (WarmState::Reading, None);
            return false;
        }
        self.state = WarmState::Waiting;
        let since = self.waiting_since_ns.get_or_insert(now_ns);
        if self.lead.len() < before {
            *since = now_ns;
        }
        if now_ns.saturating_sub(*since) >= PATIENCE_NS {
            self.state = WarmState::Unused;
        }
        true
    }

    /// A client has to wait for a block.
    pub(super) fn missed(&mut self, block: u32) {
        if !self.paced || !self.state.is_active() {
            return;
        }
        self.judged.0 += 1;
        self.judged.1 += u32::from(!self.route.foresees(block));
        if self.judged.0 >= JUDGED {
            if self.judged.1 > self.judged.0 / 2 {
                self.state = WarmState::Diverged;
            }
            self.judged = (self.judged.0 / 2, self.judged.1 / 2);
        }
    }

    /// A block could not be read.
    pub(super) fn failed(&mut self) {
        self.failed += 1;
        if self.failed >= FAILED_MAX && self.state.is_active() {
            self.state = WarmState::Failed;
        }
    }

    /// Whether a new run has something to do that this one has not.
    pub(super) fn gives_way(&self, paced: bool) -> bool {
        !self.state.is_active() || (self.paced && !paced)
    }

    /// Blocks in all, done with, and failed.
    pub(super) fn progress(&self) -> (u64, u64, u64) {
        (self.own.len() as u64, self.next as u64, self.failed.into())
    }
}

/// Blocks that may be read ahead at once, while clients wait for so many reads.
pub(super) fn depth(shards: u16, demand: usize) -> usize {
    let depth = (DEPTH / usize::from(shards.max(1))).max(DEPTH_MIN);
    if demand >= DEMAND_MAX { 0 } else { (depth * 8 / (8 + demand)).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stampede_image::cache::BLOCK;

    fn run(blocks: u64, paced: bool) -> Run {
        Run::new(Route::whole(blocks * BLOCK), paced, 1, |_| true)
    }

    fn read(run: &mut Run, blocks: usize) {
        (0..blocks).for_each(|_| run.advance(true));
    }

    #[test]
    fn a_paced_run_stays_a_lead_ahead_and_then_gives_up() {
        let mut run = run(10_000, true);
        read(&mut run, LEAD - 1);
        assert!(!run.waits(0, |_| true));
        read(&mut run, 1);
        assert!(run.waits(5, |_| true));
        assert_eq!(run.state, WarmState::Waiting);
        assert!(!run.waits(6, |block| block >= 100), "somebody followed");
        assert_eq!((run.state, run.next()), (WarmState::Reading, Some(LEAD as u32)));
        read(&mut run, 100);
        assert!(run.waits(1000, |block| block >= 100));
        assert!(run.waits(999 + PATIENCE_NS, |block| block >= 100));
        assert_eq!(run.state, WarmState::Waiting);
        assert!(run.waits(1000 + PATIENCE_NS, |block| block >= 100));
        assert_eq!(run.state, WarmState::Unused);
    }

    #[test]
    fn what_the_operator_asked_for_waits_for_nobody() {
        let mut run = run(10_000, false);
        read(&mut run, 9_999);
        assert!(!run.waits(u64::MAX, |_| true));
        (0..1000).for_each(|_| run.missed(20_000));
        assert_eq!(run.state, WarmState::Reading);
    }

    #[test]
    fn a_run_ends_when_clients_read_something_else() {
        let mut same = run(100, true);
        (0..10_000).for_each(|miss| same.missed(if miss % 2 == 0 { 5 } else { 500 }));
        assert_eq!(same.state, WarmState::Reading, "half of it was foreseen");
        let mut other = run(100, true);
        (0..JUDGED).for_each(|miss| other.missed(if miss % 3 == 0 { 5 } else { 500 }));
        assert_eq!(other.state, WarmState::Diverged);
    }

    #[test]
    fn demand_comes_first() {
        assert_eq!((depth(1, 0), depth(2, 0), depth(64, 0)), (32, 16, 8));
        assert_eq!((depth(1, 8), depth(1, 24), depth(1, 31)), (16, 8, 6));
        assert_eq!(depth(1, 32), 0);
        assert!((0..DEMAND_MAX).all(|demand| depth(64, demand) >= 1));
    }

    #[test]
    fn failed_reads_end_it() {
        let mut run = run(100, false);
        (1..FAILED_MAX).for_each(|_| run.failed());
        assert!(run.state.is_active());
        run.failed();
        assert_eq!(run.state, WarmState::Failed);
        assert!(run.gives_way(true));
    }
}
