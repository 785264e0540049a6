//! What plugins did, counted for each plugin and each image.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// A call of a format plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names of the WIT world")]
pub enum Call {
    Describe,
    Probe,
    Open,
    Recover,
    Resolve,
    PlanWrite,
    Done,
    Released,
    JobStart,
    JobStep,
}

impl Call {
    /// All there are.
    pub const ALL: [Self; 10] = [
        Self::Describe,
        Self::Probe,
        Self::Open,
        Self::Recover,
        Self::Resolve,
        Self::PlanWrite,
        Self::Done,
        Self::Released,
        Self::JobStart,
        Self::JobStep,
    ];

    /// Its name in the WIT world.
    pub fn name(self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::Probe => "probe",
            Self::Open => "open",
            Self::Recover => "recover",
            Self::Resolve => "resolve",
            Self::PlanWrite => "plan-write",
            Self::Done => "done",
            Self::Released => "released",
            Self::JobStart => "job-start",
            Self::JobStep => "job-step",
        }
    }

    /// Whether a guest waits for it.
    pub(crate) fn quick(self) -> bool {
        !matches!(self, Self::Open | Self::Recover | Self::JobStart | Self::JobStep)
    }
}

/// Counters that any thread may add to and read.
#[derive(Debug, Default)]
pub struct Counters {
    calls: [AtomicU64; Call::ALL.len()],
    nanos: AtomicU64,
    epochs: AtomicU64,
    need_rounds: AtomicU64,
    traps: AtomicU64,
    instances: AtomicU64,
}

/// What counters said at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls, in the order of [`Call::ALL`].
    pub calls: [u64; Call::ALL.len()],
    /// How long they took together.
    pub time: Duration,
    /// How many ticks of the clock found a call running.
    pub epochs: u64,
    /// How many calls answered that they need pages.
    pub need_rounds: u64,
    /// How many instances ended by a trap or an overrun.
    pub traps: u64,
    /// How many instances were made.
    pub instances: u64,
}

impl Counts {
    /// All calls together.
    pub fn calls_total(&self) -> u64 {
        self.calls.iter().sum()
    }
}

impl Counters {
    /// What they say now.
    pub fn read(&self) -> Counts {
        let mut calls = [0; Call::ALL.len()];
        for (count, counter) in calls.iter_mut().zip(&self.calls) {
            *count = counter.load(Relaxed);
        }
        Counts {
            calls,
            time: Duration::from_nanos(self.nanos.load(Relaxed)),
            epochs: self.epochs.load(Relaxed),
            need_rounds: self.need_rounds.load(Relaxed),
            traps: self.traps.load(Relaxed),
            instances: self.instances.load(Relaxed),
        }
    }

    pub(crate) fn called(&self, call: Call, time: Duration, epochs: u64) {
        self.calls[call as usize].fetch_add(1, Relaxed);
        self.nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        if epochs > 0 {
            self.epochs.fetch_add(epochs, Relaxed);
        }
    }

    pub(crate) fn needed(&self) {
        self.need_rounds.fetch_add(1, Relaxed);
    }

    pub(crate) fn trapped(&self) {
        self.traps.fetch_add(1, Relaxed);
    }

    pub(crate) fn made(&self) {
        self.instances.fetch_add(1, Relaxed);
    }
}
