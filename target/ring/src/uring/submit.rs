//! Handing submissions to the kernel, and waiting.

use super::UringRing;
use super::setup::errno;
use crate::clock;
use crate::seam::{Errno, Wait};
use io_uring::{EnterFlags, types};

/// How long, in microseconds, a wait may go on although sends that were submitted with it have completed. Those mostly
/// complete at once, and to be told so is no reason to wake up: the next request tells it too.
const SENT_WAIT_US: u32 = 100;

impl UringRing {
    /// See [`crate::Ring::submit`]. May return early: after a signal (so that the shard's loop sees its flags), and when
    /// the kernel wants completions reaped or memory freed before it takes more.
    pub(super) fn submit_and_wait(&mut self, wait: Wait) -> Result<(), Errno> {
        for peer in self.peers.values_mut() {
            peer.queued = false;
        }
        while !self.deferred.is_empty() {
            self.flush_deferred();
            if self.deferred.is_empty() {
                break;
            }
            // The queue is full of the caller's operations: they go first.
            if !self.enter(Wait::No)? {
                return Ok(());
            }
        }
        let has_completions = !self.ready.is_empty() || !self.ring.completion().is_empty();
        self.enter(if has_completions { Wait::No } else { wait }).map(drop)
    }

    fn flush_deferred(&mut self) {
        while let Some(entry) = self.deferred.pop_front() {
            if self.ring.submission().is_full() {
                self.deferred.push_front(entry);
                return;
            }
            self.enqueue(entry);
        }
    }

    /// Enters the kernel, as often as it takes to hand everything over. False when it takes no more for now.
    fn enter(&mut self, wait: Wait) -> Result<bool, Errno> {
        self.address_late_sends();
        loop {
            let queue = self.ring.submission();
            let queued = queue.len();
            let kernel_has_news = queue.taskrun() || queue.cq_overflow();
            drop(queue);
            let timeout = match wait {
                Wait::No if queued == 0 && !kernel_has_news => return Ok(true),
                Wait::No | Wait::Forever => None,
                Wait::Until(deadline_ns) => Some(deadline_ns.saturating_sub(clock::monotonic_ns())),
            };
            let waits = wait != Wait::No && timeout != Some(0);
            let sends = if self.has_min_wait { std::mem::take(&mut self.sends_queued) } else { 0 };
            let min_complete = if waits { 1 + sends } else { 0 };
            match self.enter_once(queued, min_complete, timeout) {
                Ok(taken) if taken >= queued => return Ok(true),
                // Some were taken: the rest goes next. None: the kernel has no memory for requests.
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(error) => {
                    return match error.raw_os_error() {
                        Some(libc::ETIME) => Ok(true),
                        Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(false),
                        _ => Err(errno(&error)),
                    };
                }
            }
        }
    }

    fn enter_once(
        &self,
        queued: usize,
        min_complete: u32,
        timeout_ns: Option<u64>,
    ) -> std::io::Result<usize> {
        const NS_PER_S: u64 = 1_000_000_000;
        // Deferred work runs only in calls that ask for completions.
        let mut flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        if self.no_iowait {
            // A shard that waits for the network is idle, not waiting for a disk.
            flags |= EnterFlags::NO_IOWAIT;
        }
        // At most the queue's entries, so it fits.
        let to_submit = u32::try_from(queued).unwrap_or(u32::MAX);
        let timeout = timeout_ns.filter(|&ns| ns > 0);
        let timespec =
            timeout.map(|ns| types::Timespec::new().sec(ns / NS_PER_S).nsec((ns % NS_PER_S) as u32));
        let args = types::SubmitArgs::new();
        let args = if min_complete > 1 { args.min_wait_usec(SENT_WAIT_US) } else { args };
        let args = match &timespec {
            Some(timespec) => args.timespec(timespec),
            None => args,
        };
        // SAFETY: with EXT_ARG the kernel expects a `SubmitArgs`, which outlives the call together with the time it
        // points to; the entries are valid by the promise of `enqueue`.
        #[allow(unsafe_code, reason = "the safe calls set no NO_IOWAIT, and GETEVENTS only when they wait")]
        unsafe {
            self.ring.submitter().enter(to_submit, min_complete, flags.bits(), Some(&args))
        }
    }
}
