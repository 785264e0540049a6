//! Waking a shard: from a peer's ring, or from a thread that has none.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Another shard's ring, to be woken by a message from ring to ring.
#[derive(Debug)]
pub struct PeerHandle {
    pub(super) ring: OwnedFd,
}

impl PeerHandle {
    /// A further handle.
    ///
    /// # Errors
    /// EMFILE or ENFILE.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { ring: self.ring.try_clone()? })
    }

    pub(super) fn raw(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

#[derive(Debug)]
struct Shared {
    eventfd: OwnedFd,
    /// A wake is on its way and not reaped yet: further ones would change nothing.
    pending: AtomicBool,
}

/// Wakes a shard from any thread: the shard reaps an [`crate::Event::Woken`]. Wakes that the shard has not
/// noticed yet count as one.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
}

impl Waker {
    pub(super) fn new() -> io::Result<Self> {
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let eventfd = rustix::event::eventfd(0, flags)?;
        Ok(Self { shared: Arc::new(Shared { eventfd, pending: AtomicBool::new(false) }) })
    }

    /// Wakes the shard. What this thread wrote before is visible to the shard after it reaps the event.
    pub fn wake(&self) {
        if self.shared.pending.swap(true, Ordering::AcqRel) {
            return;
        }
        // The counter cannot overflow: a ring that reads none of 2^64 - 2 wakes is gone.
        let _ = rustix::io::write(self.shared.eventfd.as_fd(), &1u64.to_ne_bytes());
    }

    /// The ring has noticed: from now on a wake is a new one.
    pub(super) fn noticed(&self) {
        self.shared.pending.swap(false, Ordering::AcqRel);
    }

    pub(super) fn raw(&self) -> RawFd {
        self.shared.eventfd.as_raw_fd()
    }
}
