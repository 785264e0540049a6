//! A run from the main thread's side: the shards log in, warm up, measure and end when it says so.
//!
//! ```text
//!   shards log in ──ready──► begin ──warm-up──► from ──window──► until ──► drain, log out, results
//! ```
//!
//! Shards look at the times at each turn; nobody waits for a lock.

use crate::cli::Common;
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::proc::{Snapshot, check_watched};
use crate::progress::Progress;
use crate::signals::Interrupt;
use stampede_ring::clock::monotonic_ns;
use stampede_ring::cpu;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// "Not yet" of a time.
pub(crate) const NEVER: u64 = u64::MAX;
/// Between two looks at the shards.
const TICK: Duration = Duration::from_millis(50);

/// What the main thread tells its shards, and they it.
#[derive(Debug)]
pub(crate) struct Control {
    /// When traffic begins, nanoseconds of the monotonic clock.
    begin_ns: AtomicU64,
    /// When the window begins.
    from_ns: AtomicU64,
    /// When it ends.
    until_ns: AtomicU64,
    /// Shards whose sessions are all ready.
    ready: AtomicU32,
    /// Shards that have done all operations they were to do.
    done: AtomicU32,
    /// A shard has failed, or the user has had enough: end without results.
    cancelled: AtomicBool,
    /// Sessions that are logged in.
    pub(crate) logged_in: AtomicU64,
    /// Operations so far.
    pub(crate) operations: AtomicU64,
    /// Bytes so far.
    pub(crate) bytes: AtomicU64,
    /// Machines that are up, and that have come to their end.
    pub(crate) machines: [AtomicU64; 2],
}

impl Control {
    pub(crate) fn new() -> Arc<Self> {
        let never = || AtomicU64::new(NEVER);
        Arc::new(Self {
            begin_ns: never(),
            from_ns: never(),
            until_ns: never(),
            ready: AtomicU32::new(0),
            done: AtomicU32::new(0),
            cancelled: AtomicBool::new(false),
            logged_in: AtomicU64::new(0),
            operations: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            machines: Default::default(),
        })
    }

    /// When traffic, the window and the window's end are, or [`NEVER`].
    pub(crate) fn times(&self) -> Times {
        Times {
            begin_ns: self.begin_ns.load(Ordering::Acquire),
            from_ns: self.from_ns.load(Ordering::Acquire),
            until_ns: self.until_ns.load(Ordering::Acquire),
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// A shard's sessions are all ready.
    pub(crate) fn shard_ready(&self) {
        self.ready.fetch_add(1, Ordering::AcqRel);
    }

    /// A shard has done all it was to do.
    pub(crate) fn shard_done(&self) {
        self.done.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts for the progress bar.
    pub(crate) fn publish(&self, operations: u64, bytes: u64) {
        self.operations.fetch_add(operations, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// See [`Control::times`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) begin_ns: u64,
    pub(crate) from_ns: u64,
    pub(crate) until_ns: u64,
}

/// How long a run is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// Seconds before the window.
    pub(crate) warmup: f64,
    /// Seconds of the window, or as long as the shards take.
    pub(crate) secs: Option<f64>,
    /// Operations that the shards do, for the progress bar.
    pub(crate) operations: Option<u64>,
    /// Machines that boot, for a progress bar of their own.
    pub(crate) machines: Option<u64>,
    /// What they do after the window, for the progress bar.
    pub(crate) afterwards: &'static str,
}

/// The measuring window.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) before: Snapshot,
    pub(crate) after: Snapshot,
    pub(crate) seconds: f64,
    /// The user ended it early.
    pub(crate) interrupted: bool,
}

/// A run that is prepared: the command line was checked, and the user may end it early.
#[derive(Debug)]
pub(crate) struct Course<'a> {
    common: &'a Common,
    interrupt: Interrupt,
    /// Where its sessions go.
    pub(crate) endpoint: Endpoint,
    /// For its shards.
    pub(crate) control: Arc<Control>,
}

impl<'a> Course<'a> {
    /// Checks what all modes have; no connection is made yet.
    ///
    /// # Errors
    /// Usage, a signal that cannot be heard, or an address that is not found.
    pub(crate) fn prepare(common: &'a Common) -> Result<Self, Failure> {
        check_watched(common.watch_pid)?;
        check_cores(common.cores())?;
        let interrupt = Interrupt::listen()?;
        Ok(Self { common, interrupt, endpoint: Endpoint::new(common)?, control: Control::new() })
    }

    /// Starts a shard for each body, leads them through the run, and waits for their results.
    ///
    /// # Errors
    /// No thread to be had, a shard's failure, or the user ended it before there was anything to report.
    pub(crate) fn run<T, F>(&self, schedule: &Schedule, bodies: Vec<F>) -> Result<(Window, Vec<T>), Failure>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Failure> + Send + 'static,
    {
        let tenths = schedule.secs.map(|secs| (secs * 10.0) as u64);
        let progress = Progress::new(self.common.quiet, schedule.operations.or(tenths), schedule.machines);
        let shards = Shards::start(self.common.cores(), &self.control, bodies)?;
        let window = shards.conduct(schedule, self.common.watch_pid, &progress, &self.interrupt);
        let results = shards.join();
        drop(progress);
        // Without a window a shard has failed, and that failure is what the user wants to know.
        let (window, results) = (window?, results?);
        let window = window.ok_or_else(|| Failure::runtime("the run did not come to its end"))?;
        Ok((window, results))
    }
}

/// Threads, each with a shard, and their results.
#[derive(Debug)]
struct Shards<T> {
    threads: Vec<JoinHandle<Result<T, Failure>>>,
    control: Arc<Control>,
}

impl<T: Send + 'static> Shards<T> {
    /// One thread per body, pinned to its core if there are any. This thread goes to the first of them too, so that it
    /// does not disturb the target.
    ///
    /// # Errors
    /// No thread to be had.
    fn start<F>(cores: &[usize], control: &Arc<Control>, bodies: Vec<F>) -> Result<Self, Failure>
    where
        F: FnOnce() -> Result<T, Failure> + Send + 'static,
    {
        let mut threads = Vec::new();
        for (index, body) in bodies.into_iter().enumerate() {
            let core = cores.get(index).copied();
            let control = Arc::clone(control);
            let run = move || {
                let result = core.map_or(Ok(()), cpu::pin_current_thread).map_err(Failure::runtime);
                let result = result.and_then(|()| body());
                if result.is_err() {
                    control.cancelled.store(true, Ordering::Release);
                }
                result
            };
            let thread = std::thread::Builder::new().name(format!("storm-{index}")).spawn(run);
            threads.push(thread.map_err(Failure::runtime)?);
        }
        if let Some(core) = cores.first() {
            cpu::pin_current_thread(*core).map_err(Failure::runtime)?;
        }
        Ok(Self { threads, control: Arc::clone(control) })
    }

    /// Waits for all shards; the first failure counts.
    ///
    /// # Errors
    /// A shard's.
    fn join(self) -> Result<Vec<T>, Failure> {
        let mut results = Vec::new();
        let mut failure = None;
        for thread in self.threads {
            match thread.join() {
                Ok(Ok(result)) => results.push(result),
                Ok(Err(error)) => failure = failure.or(Some(error)),
                Err(_) => failure = failure.or_else(|| Some(Failure::runtime("a client thread panicked"))),
            }
        }
        failure.map_or(Ok(results), Err)
    }

    fn count(&self) -> u32 {
        // As many as there are cores.
        self.threads.len() as u32
    }

    /// Leads the shards through the run up to the window's end; `None` when a shard has failed, which [`Shards::join`]
    /// then tells.
    ///
    /// # Errors
    /// The user ended it before there was anything to report.
    fn conduct(
        &self,
        schedule: &Schedule,
        watch: Option<u32>,
        progress: &Progress,
        interrupt: &Interrupt,
    ) -> Result<Option<Window>, Failure> {
        progress.phase("log in");
        while self.control.ready.load(Ordering::Acquire) < self.count() {
            if !self.goes_on(interrupt)? {
                return Ok(None);
            }
            progress.count(format!("{} sessions", self.control.logged_in.load(Ordering::Relaxed)));
            std::thread::sleep(TICK.min(Duration::from_millis(5)));
        }
        let begin_ns = monotonic_ns() + 1_000_000;
        let from_ns = begin_ns + nanoseconds(schedule.warmup);
        if let Some(secs) = schedule.secs {
            self.control.until_ns.store(from_ns + nanoseconds(secs), Ordering::Release);
        }
        self.control.from_ns.store(from_ns, Ordering::Release);
        self.control.begin_ns.store(begin_ns, Ordering::Release);
        progress.phase("warm up");
        while let left @ 1.. = from_ns.saturating_sub(monotonic_ns()) {
            if !self.goes_on(interrupt)? {
                return Ok(None);
            }
            std::thread::sleep(TICK.min(Duration::from_nanos(left)));
        }
        let before = Snapshot::take(watch);
        progress.phase("measure");
        let interrupted = self.measure(schedule, from_ns, progress, interrupt);
        let after = Snapshot::take(watch);
        if self.control.is_cancelled() && !interrupted {
            return Ok(None);
        }
        let until_ns = self.control.until_ns.load(Ordering::Acquire).min(monotonic_ns());
        self.control.until_ns.store(until_ns, Ordering::Release);
        progress.phase(schedule.afterwards);
        let seconds = until_ns.saturating_sub(from_ns) as f64 / 1e9;
        Ok(Some(Window { before, after, seconds, interrupted }))
    }

    /// Waits for the window's end; whether the user ended it.
    fn measure(&self, schedule: &Schedule, from_ns: u64, progress: &Progress, interrupt: &Interrupt) -> bool {
        let control = &self.control;
        let (operations, bytes) =
            (control.operations.load(Ordering::Relaxed), control.bytes.load(Ordering::Relaxed));
        loop {
            let now_ns = monotonic_ns();
            let until_ns = control.until_ns.load(Ordering::Acquire);
            let is_over = now_ns >= until_ns || control.done.load(Ordering::Acquire) >= self.count();
            if is_over || control.is_cancelled() {
                return false;
            }
            if interrupt.is_asked() {
                control.until_ns.store(now_ns, Ordering::Release);
                return true;
            }
            let elapsed = Duration::from_nanos(now_ns.saturating_sub(from_ns));
            let done = control.operations.load(Ordering::Relaxed) - operations;
            let moved = control.bytes.load(Ordering::Relaxed) - bytes;
            let position =
                if schedule.operations.is_some() { done } else { elapsed.as_millis() as u64 / 100 };
            progress.show(position, done as f64, moved as f64, elapsed);
            let [up, over] = &control.machines;
            progress.machines(up.load(Ordering::Relaxed), over.load(Ordering::Relaxed));
            std::thread::sleep(TICK.min(Duration::from_nanos(until_ns - now_ns)));
        }
    }

    /// False when a shard has failed.
    fn goes_on(&self, interrupt: &Interrupt) -> Result<bool, Failure> {
        if interrupt.is_asked() {
            self.control.cancelled.store(true, Ordering::Release);
            return Err(Failure::runtime(
                "interrupted before the measuring window began: there is no report",
            ));
        }
        Ok(!self.control.is_cancelled())
    }
}

/// Refuses cores that this process may not use.
///
/// # Errors
/// Usage.
fn check_cores(cores: &[usize]) -> Result<(), Failure> {
    let allowed = cpu::allowed().map_err(Failure::runtime)?;
    match cores.iter().find(|core| !allowed.contains(core)) {
        Some(core) => Err(Failure::Usage(format!(
            "--cores: core {core} is not available; this process may use {}",
            cpu::ranges(&allowed)
        ))),
        None => Ok(()),
    }
}

/// Seconds as nanoseconds.
pub(crate) fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// Cuts `total` into `parts` shares as equal as can be; share number `part`.
pub(crate) fn share(total: u64, parts: u64, part: u64) -> u64 {
    total / parts + u64::from(part < total % parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        let shares: Vec<u64> = (0..4).map(|part| share(10, 4, part)).collect();
        assert_eq!(shares, [3, 3, 2, 2]);
    }
}
