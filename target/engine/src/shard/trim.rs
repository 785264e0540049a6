//! Memory of connections that have become idle: tables that grew with use go back.

use super::Shard;
use stampede_ring::Ring;

/// How long after commands the connections are looked through. One that had none since the last look is idle.
const LOOK_NS: u64 = 5_000_000_000;

/// When connections are looked through next. Nothing is due while all of them are idle and have been trimmed.
#[derive(Debug, Default)]
pub(super) struct Trim {
    at_ns: Option<u64>,
    /// Commands of the shard at the last look.
    commands: u64,
}

impl Trim {
    /// A connection came that grew elsewhere: it is looked at too, whether or not it does anything here.
    pub(super) fn look(&mut self, now_ns: u64) {
        self.at_ns.get_or_insert(now_ns + LOOK_NS);
    }
}

impl<R: Ring> Shard<R> {
    /// Gives back what connections hold that have been idle since the last look.
    pub(super) fn run_trim(&mut self) {
        let Some(at_ns) = self.trim.at_ns else {
            if self.counters.commands != self.trim.commands {
                self.trim.at_ns = Some(self.now_ns + LOOK_NS);
            }
            return;
        };
        if at_ns > self.now_ns {
            return;
        }
        self.trim.commands = self.counters.commands;
        let mut any_active = false;
        for conn in self.conns.values_mut() {
            any_active |= !conn.trim();
        }
        self.trim.at_ns = any_active.then_some(self.now_ns + LOOK_NS);
    }

    pub(super) fn trim_deadline(&self) -> Option<u64> {
        self.trim.at_ns
    }
}
