//! What a shard counts while it runs.

use stampede_initiator::{LoginTimes, Outcome};
use stampede_report::{Latency, Second, TrafficRecorder};

/// Seconds of a timeline; longer runs show their first ones.
const SECONDS_MAX: usize = 100_000;

/// Figures of one shard, or of all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) reads: TrafficRecorder,
    pub(crate) writes: TrafficRecorder,
    /// Operations before the window.
    pub(crate) warmup: Latency,
    pub(crate) logins: LoginFigures,
    pub(crate) timeline: Vec<Second>,
    /// By session number.
    pub(crate) sessions: Vec<(u32, Latency)>,
    pub(crate) errors: Errors,
}

/// Latencies of logins by their stages.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoginFigures {
    /// With a rate: from when a login was due to when it began.
    pub(crate) wait: Latency,
    pub(crate) connect: Latency,
    pub(crate) security: Latency,
    pub(crate) operational: Latency,
    pub(crate) login: Latency,
    pub(crate) logout: Latency,
}

impl LoginFigures {
    /// Counts a login; `waited_ns` of a login that was due at a time.
    pub(crate) fn record(&mut self, times: &LoginTimes, waited_ns: Option<u64>) {
        if let Some(waited_ns) = waited_ns {
            self.wait.record_ns(waited_ns);
        }
        self.connect.record_ns(times.connect_ns);
        self.security.record_ns(times.security_ns);
        self.operational.record_ns(times.operational_ns);
        self.login.record_ns(waited_ns.unwrap_or(0) + times.total_ns());
    }

    fn merge(&mut self, other: &Self) {
        self.wait.merge(&other.wait);
        self.connect.merge(&other.connect);
        self.security.merge(&other.security);
        self.operational.merge(&other.operational);
        self.login.merge(&other.login);
        self.logout.merge(&other.logout);
    }
}

/// What went wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Errors {
    pub(crate) count: u64,
    /// The first one, in words.
    pub(crate) first: Option<String>,
}

impl Errors {
    pub(crate) fn add(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(what());
        }
    }

    /// A command that did not end with GOOD.
    pub(crate) fn outcome(&mut self, outcome: Outcome, what: impl FnOnce() -> String) {
        self.add(|| format!("{}: {outcome}", what()));
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.first = self.first.take().or(other.first);
    }
}

impl Figures {
    /// Counts an operation of the window, `since_from_ns` after its begin.
    #[inline]
    pub(crate) fn operation(&mut self, is_read: bool, bytes: u64, latency_ns: u64, since_from_ns: u64) {
        let traffic = if is_read { &mut self.reads } else { &mut self.writes };
        traffic.record(bytes, latency_ns);
        self.second(since_from_ns, bytes);
    }

    /// Counts something in the timeline.
    #[inline]
    pub(crate) fn second(&mut self, since_from_ns: u64, bytes: u64) {
        let index = (since_from_ns / 1_000_000_000) as usize;
        if index >= self.timeline.len() {
            if index >= SECONDS_MAX {
                return;
            }
            self.extend_timeline(index);
        }
        let second = &mut self.timeline[index];
        second.operations += 1;
        second.bytes += bytes;
    }

    #[cold]
    fn extend_timeline(&mut self, index: usize) {
        while self.timeline.len() <= index {
            let second = self.timeline.len() as u64 + 1;
            self.timeline.push(Second { second, operations: 0, bytes: 0 });
        }
    }

    /// Adds another shard's figures.
    pub(crate) fn merge(&mut self, other: Self) {
        self.reads.merge(&other.reads);
        self.writes.merge(&other.writes);
        self.warmup.merge(&other.warmup);
        self.logins.merge(&other.logins);
        if let Some(last) = other.timeline.len().checked_sub(1)
            && last >= self.timeline.len()
        {
            self.extend_timeline(last);
        }
        for (mine, theirs) in self.timeline.iter_mut().zip(&other.timeline) {
            mine.operations += theirs.operations;
            mine.bytes += theirs.bytes;
        }
        self.sessions.extend(other.sessions);
        self.sessions.sort_by_key(|(session, _)| *session);
        self.errors.merge(other.errors);
    }
}
