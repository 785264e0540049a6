//! Dropping a ring without ever giving back memory that the kernel may still write.

use super::UringRing;
use crate::clock;
use crate::seam::{Completion, Wait};
use io_uring::types::CancelBuilder;
use std::mem::ManuallyDrop;

/// How long to wait for the kernel to let go.
const PATIENCE_NS: u64 = 5_000_000_000;

impl UringRing {
    /// Cancels everything and reaps until nothing is in flight. False when the kernel does not let go of memory.
    fn drain(&mut self) -> bool {
        let deadline = clock::monotonic_ns().saturating_add(PATIENCE_NS);
        let mut batch: Vec<Completion> = Vec::with_capacity(64);
        let mut cancelled = false;
        loop {
            while self.reap_into(&mut batch) > 0 {
                batch.clear();
            }
            if self.inflight.is_empty() {
                return true;
            }
            let now = clock::monotonic_ns();
            if now >= deadline {
                return !self.inflight.lends_memory();
            }
            // Submits what was pushed and not yet submitted, so that it can be cancelled.
            let wait = if cancelled { Wait::Until(now + 50_000_000) } else { Wait::No };
            if self.submit_and_wait(wait).is_err() {
                return false;
            }
            // Nothing to cancel is an error too, and no matter.
            let timeout = io_uring::types::Timespec::new().nsec(1_000_000);
            let _ = self.ring.submitter().register_sync_cancel(Some(timeout), CancelBuilder::any());
            cancelled = true;
        }
    }
}

impl Drop for UringRing {
    #[allow(unsafe_code, reason = "the fields' end depends on whether the kernel has let go")]
    fn drop(&mut self) {
        let drained = self.drain();
        if drained {
            // Otherwise the kernel holds the sockets, and their ports, until it has taken the ring apart, which
            // it does some time later.
            let _ = self.ring.submitter().unregister_files();
        }
        // SAFETY: each field is dropped at most once, here, and not used after. What the kernel may still write to
        // (in-flight buffers, receive buffers, registered pools) is dropped only if it has let go of all of them, and
        // after the ring is closed; otherwise it stays allocated for the rest of the process.
        unsafe {
            ManuallyDrop::drop(&mut self.ring);
            if drained {
                ManuallyDrop::drop(&mut self.inflight);
                ManuallyDrop::drop(&mut self.receive);
                ManuallyDrop::drop(&mut self.registered);
            }
        }
    }
}
