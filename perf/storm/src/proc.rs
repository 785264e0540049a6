//! What /proc says of this process, of the watched one, and of the machine.

use crate::failure::Failure;
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::path::Path;

/// Ticks per second of /proc/stat: USER_HZ, which is 100 on every Linux since 2.6.
const TICKS_PER_SECOND: f64 = 100.0;

/// What was used up to one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// CPU time of this process, seconds.
    pub(crate) client_cpu_seconds: f64,
    /// CPU time of the whole machine, seconds.
    pub(crate) machine_cpu_seconds: f64,
    /// The watched process.
    pub(crate) watched: Option<Process>,
    /// Memory of all TCP sockets of this network namespace, KiB.
    pub(crate) tcp_memory_kib: u64,
    /// Memory of the kernel's own structures, KiB.
    pub(crate) slab_kib: u64,
}

/// A process up to one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) cpu_seconds: f64,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
    pub(crate) rss_kib: u64,
}

impl Snapshot {
    /// Now.
    pub(crate) fn take(watch: Option<u32>) -> Self {
        Self {
            client_cpu_seconds: own_cpu_seconds(),
            machine_cpu_seconds: machine_cpu_seconds(),
            watched: watch.and_then(process),
            tcp_memory_kib: tcp_memory_kib(),
            slab_kib: field(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "Slab:"),
        }
    }
}

/// Refuses a process that is not there, before the run begins.
///
/// # Errors
/// Usage.
pub(crate) fn check_watched(watch: Option<u32>) -> Result<(), Failure> {
    match watch {
        Some(pid) if process(pid).is_none() => Err(Failure::Usage(format!(
            "--watch-pid {pid}: there is no such process, or /proc/{pid} cannot be read"
        ))),
        _ => Ok(()),
    }
}

/// A process with all its threads; `None` when it is gone.
pub(crate) fn process(pid: u32) -> Option<Process> {
    let folder = Path::new("/proc").join(pid.to_string());
    let status = fs::read_to_string(folder.join("status")).ok()?;
    let mut process = Process { pid, rss_kib: field(&status, "VmRSS:"), ..Process::default() };
    let mut cpu_ns = 0;
    for thread in fs::read_dir(folder.join("task")).ok()?.flatten() {
        // A thread that ends meanwhile is not there any more.
        let Ok(schedstat) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
        cpu_ns += number(schedstat.split_whitespace().next());
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        process.voluntary_switches += field(&status, "voluntary_ctxt_switches:");
        process.involuntary_switches += field(&status, "nonvoluntary_ctxt_switches:");
    }
    process.cpu_seconds = cpu_ns as f64 / 1e9;
    Some(process)
}

/// All threads of this process, those among them that have ended.
fn own_cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// All CPUs, all processes and interrupts: user, nice, system, irq and softirq.
fn machine_cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).map(|tick| number(Some(tick))).collect();
    let busy = [0, 1, 2, 5, 6].iter().filter_map(|index| ticks.get(*index)).sum::<u64>();
    busy as f64 / TICKS_PER_SECOND
}

/// The `mem` of TCP in /proc/net/sockstat, which counts pages.
fn tcp_memory_kib() -> u64 {
    let sockstat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = sockstat.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    let pages = number(line.split_whitespace().skip_while(|word| *word != "mem").nth(1));
    pages * (rustix::param::page_size() as u64) / 1024
}

/// The number behind a name at a line's start.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    number(line.and_then(|rest| rest.split_whitespace().next()))
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
