//! What this process, the watched one and the machine have used, at one moment of a run.

use crate::failure::Failure;
use rustix::time::{ClockId, clock_gettime};
use stampede_report::watch::{Sample, machine_cpu_seconds};
use std::fs;

/// What was used up to one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// CPU time of this process, seconds.
    pub(crate) client_cpu_seconds: f64,
    /// CPU time of the whole machine, seconds.
    pub(crate) machine_cpu_seconds: f64,
    /// The watched process; none when it is gone.
    pub(crate) watched: Option<Sample>,
    /// Memory of all TCP sockets of this network namespace, KiB.
    pub(crate) tcp_memory_kib: u64,
    /// Memory of the kernel's own structures, KiB.
    pub(crate) slab_kib: u64,
}

impl Snapshot {
    /// Now. What /proc does not tell counts as nothing: a run goes on without it.
    pub(crate) fn take(watch: Option<u32>) -> Self {
        Self {
            client_cpu_seconds: own_cpu_seconds(),
            machine_cpu_seconds: machine_cpu_seconds().unwrap_or_default(),
            watched: watch.and_then(|pid| Sample::of(pid).ok()),
            tcp_memory_kib: tcp_memory_kib(),
            slab_kib: slab_kib(),
        }
    }
}

/// Refuses a process that cannot be watched, before the run begins.
///
/// # Errors
/// Usage.
pub(crate) fn check_watched(watch: Option<u32>) -> Result<(), Failure> {
    let sampled = watch.map_or(Ok(()), |pid| Sample::of(pid).map(drop));
    sampled.map_err(|error| Failure::Usage(format!("--watch-pid: {error}")))
}

/// All threads of this process, those among them that have ended.
fn own_cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The `mem` of TCP in /proc/net/sockstat, which counts pages.
fn tcp_memory_kib() -> u64 {
    let sockstat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = sockstat.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    let pages = number(line.split_whitespace().skip_while(|word| *word != "mem").nth(1));
    pages * (rustix::param::page_size() as u64) / 1024
}

fn slab_kib() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let rest = meminfo.lines().find_map(|line| line.strip_prefix("Slab:"));
    number(rest.and_then(|rest| rest.split_whitespace().next()))
}

fn number(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let before = Snapshot::take(Some(std::process::id()));
        let watched = before.watched.unwrap();
        assert!(watched.rss_kib > 100, "{watched:?}");
        let mut sum = 0u64;
        for number in 0..200_000_000u64 {
            sum = std::hint::black_box(sum.wrapping_add(number));
        }
        let after = Snapshot::take(Some(std::process::id()));
        assert!(after.client_cpu_seconds > before.client_cpu_seconds, "{sum}");
        assert!(after.machine_cpu_seconds >= before.machine_cpu_seconds);
        assert!(check_watched(Some(u32::MAX)).is_err());
    }
}
