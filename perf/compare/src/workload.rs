//! The workloads, by name.

use crate::client::Kind;

/// What a client does to a unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// In words, for people.
    pub(crate) what: &'static str,
    pub(crate) pattern: Pattern,
    /// Block sizes as storm takes them.
    pub(crate) bs: &'static str,
    pub(crate) depth: u32,
    pub(crate) sessions: u32,
    /// Percent of reads.
    pub(crate) read: u32,
    /// Part of `--quick`.
    pub(crate) quick: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    Random,
    Sequential,
    /// Sessions that say nothing.
    Idle,
    /// Machines that do what a recorded boot did, at think time 0.
    Boot,
}

impl Workload {
    const fn random(name: &'static str, what: &'static str, bs: &'static str, depth: u32) -> Self {
        Self { name, what, pattern: Pattern::Random, bs, depth, sessions: 1, read: 100, quick: false }
    }

    const fn sequential(name: &'static str, what: &'static str, bs: &'static str, depth: u32) -> Self {
        Self { pattern: Pattern::Sequential, ..Self::random(name, what, bs, depth) }
    }

    const fn writing(self) -> Self {
        Self { read: 0, ..self }
    }

    const fn quick(self) -> Self {
        Self { quick: true, ..self }
    }

    const fn sessions(self, sessions: u32) -> Self {
        Self { sessions, ..self }
    }

    /// Whether it changes the unit.
    pub(crate) fn writes(&self) -> bool {
        self.read < 100
    }

    /// The one block size, bytes; `None` for a mixture.
    pub(crate) fn block_bytes(&self) -> Option<u64> {
        self.bs.strip_suffix('k')?.parse::<u64>().ok().map(|kib| kib << 10)
    }

    /// Why a kind of client cannot do this work, if it cannot.
    pub(crate) fn not_for(&self, client: Kind) -> Option<&'static str> {
        let pure = self.read == 0 || self.read == 100;
        if self.pattern == Pattern::Idle && client != Kind::Storm {
            return Some("only storm has idle sessions");
        }
        if self.pattern == Pattern::Boot && client != Kind::Storm {
            return Some("only storm boots machines");
        }
        match client {
            Kind::Storm | Kind::Fio => None,
            Kind::Floor if self.block_bytes().is_none() || !pure => {
                Some("the floor has one size and one direction")
            }
            Kind::Floor => None,
            Kind::IscsiPerf if self.writes() || self.sessions > 1 || self.block_bytes().is_none() => {
                Some("iscsi-perf only reads, one size, one session")
            }
            // Most of its 4 KiB reads touch two pages of what lies behind the unit, storm's touch one.
            Kind::IscsiPerf if self.pattern == Pattern::Random => {
                Some("iscsi-perf's random reads begin at any logical block, not at multiples of their size")
            }
            Kind::IscsiPerf => None,
        }
    }
}

/// The workload that storm and iscsi-perf both can do: the same commands for the same blocks.
pub(crate) const AGREEMENT: &str = "sr4k_qd32";

/// The boot storm. Who has clones serves one to each machine; of the others all machines share one unit, and write nothing.
pub(crate) const BOOTS: &str = "boot_64c";

/// The disk that the recorded machine booted from, bytes.
pub(crate) const BOOTS_DISK: u64 = 2560 << 20;

/// All workloads, in the order in which they run.
pub(crate) const ALL: &[Workload] = &[
    Workload::random("rr4k_qd1", "4 KiB random reads, depth 1", "4k", 1).quick(),
    Workload::random("rr4k_qd32", "4 KiB random reads, depth 32", "4k", 32).quick(),
    Workload::random("rw4k_qd1", "4 KiB random writes, depth 1", "4k", 1).writing(),
    Workload::random("rw4k_qd32", "4 KiB random writes, depth 32", "4k", 32).writing().quick(),
    Workload::random("rr64k_qd16", "64 KiB random reads, depth 16", "64k", 16).quick(),
    Workload::sequential(AGREEMENT, "4 KiB sequential reads, depth 32", "4k", 32).quick(),
    Workload::sequential("sr256k_qd8", "256 KiB sequential reads, depth 8", "256k", 8).quick(),
    Workload::sequential("sw256k_qd8", "256 KiB sequential writes, depth 8", "256k", 8).writing(),
    Workload { read: 70, ..Workload::random("mix4k_8s", "4 KiB, 70% reads, 8 sessions, depth 8", "4k", 8) }
        .sessions(8),
    Workload { read: 70, ..Workload::random("mix4k_64s", "4 KiB, 70% reads, 64 sessions, depth 4", "4k", 4) }
        .sessions(64)
        .quick(),
    Workload::random("boot_64s", "16 to 64 KiB random reads, 64 sessions, depth 2", "16k:2,32k:1,64k:1", 2)
        .sessions(64),
    Workload {
        pattern: Pattern::Boot,
        ..Workload::random(BOOTS, "a recorded Debian boot by 64 machines", "-", 0)
    }
    .sessions(64),
    Workload {
        pattern: Pattern::Idle,
        ..Workload::random("idle_1000s", "1,000 sessions that say nothing", "-", 0)
    }
    .sessions(1000)
    .quick(),
];

/// The workload of this name.
pub(crate) fn named(name: &str) -> Result<Workload, String> {
    ALL.iter().find(|workload| workload.name == name).copied().ok_or_else(|| {
        let names: Vec<&str> = ALL.iter().map(|workload| workload.name).collect();
        format!("there is no workload {name:?}; there are {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_unique() {
        for workload in ALL {
            assert_eq!(named(workload.name).unwrap().what, workload.what);
            assert_eq!(ALL.iter().filter(|other| other.name == workload.name).count(), 1);
        }
        assert!(named("rr5k").unwrap_err().contains("rr4k_qd32"));
    }

    #[test]
    fn clients_that_cannot_do_a_work_say_so() {
        let of = |name: &str, client| named(name).unwrap().not_for(client).is_some();
        assert!(!of(AGREEMENT, Kind::IscsiPerf) && !of("rw4k_qd32", Kind::Floor));
        assert!(of("rr4k_qd32", Kind::IscsiPerf) && of("sw256k_qd8", Kind::IscsiPerf));
        assert!(
            of("rw4k_qd32", Kind::IscsiPerf) && of("mix4k_8s", Kind::Floor) && of("boot_64s", Kind::Floor)
        );
        assert!(!of(BOOTS, Kind::Storm) && of(BOOTS, Kind::Fio) && of(BOOTS, Kind::Floor));
        assert!(
            !of("boot_64s", Kind::Storm) && !of("idle_1000s", Kind::Storm) && of("idle_1000s", Kind::Floor)
        );
    }
}
