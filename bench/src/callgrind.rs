//! Reads what callgrind wrote: instructions by function, and from them by stage of a command.
//!
//! The format is valgrind's "Callgrind Format Specification": `fn=(id) name` opens a function, lines of numbers are
//! its own cost, and the one line after `calls=` is what a call cost in the callee, which is counted there.

use std::collections::BTreeMap;

/// The stages of a command, and the paths whose functions belong to each; the first that fits counts.
const STAGES: &[(&str, &[&str])] = &[
    ("replay (not ours)", &["stampede_bench::"]),
    ("parse", &["stampede_wire::frame", "stampede_engine::connection::receive", "stampede_wire::bhs"]),
    ("order", &["stampede_session::"]),
    ("decode", &["stampede_scsi::"]),
    ("map", &["stampede_image::", "stampede_engine::lun::"]),
    ("build", &["stampede_wire::", "stampede_engine::connection::side", "stampede_engine::payload"]),
    ("send", &["stampede_engine::connection::outbox", "stampede_ring::seam"]),
    ("memory", &["stampede_ring::memory"]),
    ("loop", &["stampede_engine::", "hdrhistogram::", "stampede_ring::"]),
];

/// What belongs to no path above: copies, the standard library, libc.
pub const REST: &str = "library";

/// Names of functions that take a lock, or wait for one.
const LOCKS: &[&str] =
    &["pthread_mutex", "pthread_rwlock", "sync::mutex", "sync::rwlock", "futex", "parking_lot"];
/// Names of functions that take or give back memory of the heap.
const HEAP: &[&str] = &["malloc", "calloc", "realloc", "__rust_alloc", "_int_free"];

/// Instructions of each function, by its demangled name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    functions: BTreeMap<String, u64>,
}

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// A sentence that says which line is not as the format says.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut names: BTreeMap<&str, &str> = BTreeMap::new();
        let mut profile = Self::default();
        let mut current = String::new();
        let mut callee = false;
        for (number, line) in text.lines().enumerate() {
            if let Some(rest) = line.strip_prefix("fn=") {
                let (id, name) = rest.split_once(' ').unwrap_or((rest, ""));
                if !name.is_empty() {
                    names.insert(id, name);
                }
                let name = names.get(id).ok_or(format!("line {}: function {id} has no name", number + 1))?;
                current = format!("{:#}", rustc_demangle::demangle(name));
            } else if let Some(rest) = line.strip_prefix("cfn=") {
                if let Some((id, name)) = rest.split_once(' ') {
                    names.insert(id, name);
                }
            } else if line.starts_with("calls=") {
                callee = true;
            } else if line.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '*')) {
                let cost = line.split(' ').nth(1).and_then(|cost| cost.parse::<u64>().ok());
                let cost = cost.ok_or(format!("line {}: `{line}` has no cost", number + 1))?;
                if !std::mem::take(&mut callee) {
                    *profile.functions.entry(current.clone()).or_default() += cost;
                }
            }
        }
        Ok(profile)
    }

    /// All instructions.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.functions.values().sum()
    }

    /// All instructions but those of the replaying ring.
    #[must_use]
    pub fn total(&self) -> u64 {
        let ours = |(name, _): &(&String, &u64)| stage_of(name) != STAGES[0].0;
        self.functions.iter().filter(ours).map(|(_, cost)| cost).sum()
    }

    /// Instructions by stage, in a command's order.
    #[must_use]
    pub fn stages(&self) -> Vec<(&'static str, u64)> {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, cost) in &self.functions {
            *sums.entry(stage_of(name)).or_default() += cost;
        }
        let order = STAGES.iter().map(|(stage, _)| *stage).chain([REST]);
        order.filter_map(|stage| Some((stage, *sums.get(stage)?))).collect()
    }

    /// The dearest functions.
    #[must_use]
    pub fn dearest(&self, count: usize) -> Vec<(&str, u64)> {
        let mut all: Vec<(&str, u64)> =
            self.functions.iter().map(|(name, cost)| (&name[..], *cost)).collect();
        all.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        all.truncate(count);
        all
    }

    /// Functions that take locks.
    #[must_use]
    pub fn locks(&self) -> Vec<&str> {
        self.named(LOCKS)
    }

    /// Functions that take memory from the heap, or give it back.
    #[must_use]
    pub fn heap(&self) -> Vec<&str> {
        self.named(HEAP)
    }

    fn named(&self, parts: &[&str]) -> Vec<&str> {
        let fits = |name: &&String| parts.iter().any(|part| name.contains(part));
        self.functions.keys().filter(fits).map(String::as_str).collect()
    }
}

/// The stage whose path stands first in a function's name: `<A as B>::f` belongs to `A`.
fn stage_of(function: &str) -> &'static str {
    let place = |path: &&str| function.find(*path);
    let stages = STAGES.iter().filter_map(|(stage, paths)| {
        let at = paths.iter().filter_map(place).min()?;
        Some((at, *stage))
    });
    stages.min_by_key(|(at, _)| *at).map_or(REST, |(_, stage)| stage)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "events: Ir\n\nfn=(1) stampede_wire::frame::Framer::next\n12 30\n+1 4\ncfn=(2) memcpy\n\
                          calls=3 0\n14 900\n* 6\n\nfn=(2)\n7 900\n\nfn=(3) pthread_mutex_lock\n1 5\n";

    #[test]
    fn a_callees_cost_is_counted_once() {
        let profile = Profile::parse(SAMPLE).unwrap();
        assert_eq!(profile.total(), 945);
        assert_eq!(profile.stages(), [("parse", 40), (REST, 905)]);
        assert_eq!(profile.dearest(1), [("memcpy", 900)]);
        assert_eq!(profile.locks(), ["pthread_mutex_lock"]);
    }

    #[test]
    fn what_is_no_profile_is_said_so() {
        assert!(Profile::parse("fn=(1)\n").unwrap_err().contains("line 1"));
        assert!(Profile::parse("fn=(1) f\n12\n").unwrap_err().contains("line 2"));
    }

    #[test]
    fn the_first_path_in_a_name_decides() {
        let name = "<stampede_bench::replay::ReplayRing as stampede_ring::seam::Ring>::push";
        assert_eq!(stage_of(name), "replay (not ours)");
        let name = "stampede_engine::shard::Shard<stampede_bench::replay::ReplayRing>::turn";
        assert_eq!(stage_of(name), "loop");
    }
}
