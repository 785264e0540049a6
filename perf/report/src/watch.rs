//! What processes and the machine have used, from `/proc`: taken at both ends of a measuring window.
//!
//! CPU time is that of each thread's `schedstat`, to the nanosecond. Where the kernel has none it is that of
//! `stat`, in hundredths of a second.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::Watched;

/// Clock ticks per second in `/proc` (USER_HZ), the same on every Linux architecture that we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Why a process or the machine cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// There is no such process, or it has ended.
    #[error("there is no process {pid}: it has ended, or the number is wrong")]
    Gone {
        /// The process.
        pid: u32,
    },
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file in `/proc`.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file does not look as it should.
    #[error("{} has no {what}: is /proc mounted?", path.display())]
    Form {
        /// The file in `/proc`.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
}

/// What a process had used when the sample was taken.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// The process.
    pub pid: u32,
    /// CPU time of all its threads, seconds. Of threads that have ended only where there is no `schedstat`.
    pub cpu_seconds: f64,
    /// How often its threads had gone to sleep.
    pub voluntary_switches: u64,
    /// How often its threads had been taken off a CPU.
    pub involuntary_switches: u64,
    /// Resident memory, KiB.
    pub rss_kib: u64,
}

impl Sample {
    /// Samples the process `pid`.
    ///
    /// # Errors
    /// See [`WatchError`].
    pub fn of(pid: u32) -> Result<Self, WatchError> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let tasks = folder.join("task");
        let threads = fs::read_dir(&tasks).map_err(|error| failed(pid, &tasks, error))?;
        let mut sample =
            Self { pid, cpu_seconds: 0.0, voluntary_switches: 0, involuntary_switches: 0, rss_kib: 0 };
        let mut nanoseconds = Some(0u64);
        for thread in threads.flatten() {
            // A thread may end while we look.
            let Ok(status) = fs::read_to_string(thread.path().join("status")) else { continue };
            sample.voluntary_switches += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            sample.involuntary_switches += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
            let on_cpu = fs::read_to_string(thread.path().join("schedstat")).ok();
            let on_cpu = on_cpu.as_deref().and_then(first_number);
            nanoseconds = nanoseconds.zip(on_cpu).map(|(sum, ns)| sum + ns);
        }
        let path = folder.join("status");
        let status = fs::read_to_string(&path).map_err(|error| failed(pid, &path, error))?;
        sample.rss_kib = field(&status, "VmRSS:").unwrap_or(0);
        sample.cpu_seconds = match nanoseconds {
            Some(ns) => ns as f64 / 1e9,
            None => coarse_cpu_seconds(pid, &folder.join("stat"))?,
        };
        Ok(sample)
    }

    /// What the process used between this sample and a later one.
    #[must_use]
    pub fn until(&self, later: &Self) -> Watched {
        Watched {
            pid: self.pid,
            cpu_seconds: (later.cpu_seconds - self.cpu_seconds).max(0.0),
            voluntary_switches: later.voluntary_switches.saturating_sub(self.voluntary_switches),
            involuntary_switches: later.involuntary_switches.saturating_sub(self.involuntary_switches),
            rss_kib: later.rss_kib,
        }
    }
}

/// CPU time that the whole machine has used since it started, all CPUs together, seconds. Waiting for disks, and time
/// that a hypervisor gave to other machines, do not count.
///
/// # Errors
/// See [`WatchError`].
pub fn machine_cpu_seconds() -> Result<f64, WatchError> {
    let path = Path::new("/proc/stat");
    let text = fs::read_to_string(path).map_err(|source| WatchError::File { path: path.into(), source })?;
    machine_ticks(&text)
        .map(|ticks| ticks as f64 / TICKS_PER_SECOND)
        .ok_or(WatchError::Form { path: path.into(), what: "line `cpu` with seven numbers" })
}

/// user, nice, system, irq and softirq of the line of all CPUs.
fn machine_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let numbers: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = numbers[..] else { return None };
    Some(user + nice + system + irq + softirq)
}

fn coarse_cpu_seconds(pid: u32, path: &Path) -> Result<f64, WatchError> {
    let stat = fs::read_to_string(path).map_err(|error| failed(pid, path, error))?;
    // The name in parentheses may hold anything; utime and stime are the 12th and 13th words behind it.
    let words = stat.rsplit_once(") ").map(|(_, rest)| rest.split_whitespace().skip(11));
    let ticks: Option<Vec<u64>> =
        words.map(|words| words.take(2).filter_map(|word| word.parse().ok()).collect());
    match ticks.as_deref() {
        Some([user, system]) => Ok((user + system) as f64 / TICKS_PER_SECOND),
        _ => Err(WatchError::Form { path: path.into(), what: "CPU times" }),
    }
}

fn failed(pid: u32, path: &Path, source: io::Error) -> WatchError {
    match source.kind() {
        io::ErrorKind::NotFound => WatchError::Gone { pid },
        _ => WatchError::File { path: path.into(), source },
    }
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)).and_then(first_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_work_is_seen() {
        let pid = std::process::id();
        let (before, machine) = (Sample::of(pid).unwrap(), machine_cpu_seconds().unwrap());
        let mut sum = 0u64;
        while Sample::of(pid).unwrap().cpu_seconds < before.cpu_seconds + 0.03 {
            sum = (0..100_000).fold(sum, |sum, n| std::hint::black_box(sum.wrapping_mul(31).wrapping_add(n)));
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
        let used = before.until(&Sample::of(pid).unwrap());
        assert!(used.cpu_seconds >= 0.03 && used.cpu_seconds < 60.0, "{used:?}");
        assert!(used.voluntary_switches > 0 && used.rss_kib > 100, "{used:?}");
        assert!(machine_cpu_seconds().unwrap() > machine);
    }

    #[test]
    fn a_process_that_is_gone_is_said_so() {
        let error = Sample::of(u32::MAX).unwrap_err();
        assert!(error.to_string().contains("no process 4294967295"), "{error}");
    }

    #[test]
    fn idle_and_stolen_time_do_not_count() {
        let stat = "cpu  10 20 30 1000 2000 40 50 6000 7 8\ncpu0 1 2 3 4 5 6 7 8\n";
        assert_eq!(machine_ticks(stat), Some(150));
        assert_eq!(machine_ticks("cpu  1 2 3\n"), None);
    }
}
