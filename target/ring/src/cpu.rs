//! Cores: which ones this process may use, and pinning a thread to one.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;

/// Why a thread could not be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The core is not among those that the process may use.
    #[error(
        "core {core} is not available: this process may use cores {allowed}. Choose among them, or widen \
             the cpuset, container or affinity that limits the process"
    )]
    NotAllowed {
        /// The core asked for.
        core: usize,
        /// The allowed cores as a list of ranges, such as `0-3,8`.
        allowed: String,
    },
    /// The kernel refused.
    #[error("cannot pin a thread to core {core}: {source}")]
    Kernel {
        /// The core asked for.
        core: usize,
        /// Its answer.
        source: io::Error,
    },
}

/// The cores that the calling thread may run on, ascending.
///
/// # Errors
/// Whatever sched_getaffinity says.
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}

/// The cores that the process's first thread may run on, ascending: what the process was given, as long as that
/// thread is not pinned itself.
///
/// # Errors
/// Whatever sched_getaffinity says.
pub fn allowed_to_process() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Some(rustix::process::getpid()))?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}

/// Whether the kernel keeps a core free of everything that does not ask for it (isolcpus=). Such a core is in no
/// process's affinity until the process puts it there.
fn is_isolated(core: usize) -> bool {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/isolated").unwrap_or_default();
    list.trim().split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        matches!((first.parse(), last.parse()), (Ok(first), Ok(last)) if (first..=last).contains(&core))
    })
}

/// Has the calling thread run on what the process was given, but for these cores; on all of it if nothing else is left.
///
/// # Errors
/// Whatever the kernel says.
pub fn keep_off(cores: &[usize]) -> io::Result<()> {
    let given = allowed_to_process()?;
    let others: Vec<usize> = given.iter().copied().filter(|core| !cores.contains(core)).collect();
    let mut set = CpuSet::new();
    let chosen = if others.is_empty() { given } else { others };
    chosen.into_iter().for_each(|core| set.set(core));
    Ok(sched_setaffinity(None, &set)?)
}

/// Pins the calling thread to one core: one of those that it may run on, or one that the kernel keeps isolated.
///
/// # Errors
/// [`PinError::NotAllowed`] names the allowed cores.
pub fn pin_current_thread(core: usize) -> Result<(), PinError> {
    let allowed = allowed().map_err(|source| PinError::Kernel { core, source })?;
    if !allowed.contains(&core) && !is_isolated(core) {
        return Err(PinError::NotAllowed { core, allowed: ranges(&allowed) });
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|source| PinError::Kernel { core, source: source.into() })
}

/// Cores as ranges: `[0, 1, 2, 5]` is `0-2,5`. The cores must ascend.
pub fn ranges(cores: &[usize]) -> String {
    let mut text = String::new();
    let mut rest = cores;
    while let Some(&first) = rest.first() {
        let run = rest.iter().zip(first..).take_while(|&(&core, expected)| core == expected).count();
        let last = first + run - 1;
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&if run == 1 { first.to_string() } else { format!("{first}-{last}") });
        rest = &rest[run..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_compact() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[3]), "3");
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
    }

    #[test]
    fn pins_to_an_allowed_core_only() {
        std::thread::spawn(|| {
            let cores = allowed().unwrap();
            let core = *cores.last().unwrap();
            pin_current_thread(core).unwrap();
            assert_eq!(allowed().unwrap(), [core]);
            let error = pin_current_thread(1000).unwrap_err();
            assert!(error.to_string().contains("core 1000"), "{error}");
            assert!(error.to_string().contains(&format!("cores {core}")), "{error}");
        })
        .join()
        .unwrap();
    }
}
