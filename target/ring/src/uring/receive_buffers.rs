//! The receive buffers: the slots of a pool, which the kernel takes from a shared ring of its own and which the caller
//! gives back.
//!
//! ```text
//!   offered (the only handle) ──kernel──► Chunk ──recycle──► unshared: offered again
//!                                           │                shared: kept, until nobody else has a handle
//!                                           └► handles to parts of it: a write's payload
//! ```
//!
//! So the kernel never writes to memory that somebody can still read: what it is offered, nobody has a handle to.

use super::config::SetupError;
use crate::memory::{Buffer, Pool, PoolConfig};
use crate::numa::{self, Pages};
use crate::seam::Chunk;
use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use memmap2::{MmapOptions, MmapRaw};
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// The number of the one buffer group.
pub(super) const GROUP: u16 = 0;

pub(super) struct ReceiveBuffers {
    ring: MmapRaw,
    pool: Arc<Pool>,
    /// By slot: the only handle to a buffer that the kernel may write; `None` while it is the caller's.
    offered: Box<[Option<Buffer>]>,
    /// Buffers that the caller gave back while parts of them are still shared.
    shared: Vec<Buffer>,
    tail: u16,
}

impl ReceiveBuffers {
    /// Maps the buffers and gives all of them to the kernel.
    pub(super) fn new(submitter: &Submitter<'_>, count: u16, len: u32) -> Result<Self, SetupError> {
        let resources = |step| move |source| SetupError::Resources { step, source };
        let ring = MmapOptions::new().len(usize::from(count) * size_of::<BufRingEntry>()).map_anon();
        let ring = ring.map(MmapRaw::from).map_err(resources("mapping the receive buffer ring"))?;
        let config = PoolConfig { slot_len: len, slots: u32::from(count) };
        let pool = Pool::new(config).map_err(resources("mapping the receive buffers"))?;
        let offered = (0..count).map(|_| None).collect();
        let shared = Vec::with_capacity(usize::from(count));
        let mut buffers = Self { ring, pool, offered, shared, tail: 0 };
        while let Some(buffer) = buffers.pool.take() {
            buffers.offer(buffer);
        }
        buffers.publish();
        buffers.register(submitter)?;
        Ok(buffers)
    }

    /// On which NUMA nodes they are, by sample.
    pub(super) fn pages(&self) -> io::Result<Pages> {
        let mut pages = self.pool.pages()?;
        if let Some(start) = NonNull::new(self.ring.as_mut_ptr()) {
            pages.add(&numa::pages_of(start, self.ring.len())?);
        }
        Ok(pages)
    }

    #[allow(unsafe_code, reason = "the kernel is given addresses")]
    fn register(&self, submitter: &Submitter<'_>) -> Result<(), SetupError> {
        let address = self.ring.as_mut_ptr() as u64;
        let count = self.offered.len() as u16;
        // SAFETY: the mapping holds `count` entries, and it and the handles to what they name are dropped only after the
        // ring's descriptor is closed or everything that uses them has ended (`UringRing::drop`).
        unsafe { submitter.register_buf_ring_with_flags(address, count, GROUP, 0) }.map_err(|source| {
            SetupError::Missing {
                feature: "rings of provided buffers (IORING_REGISTER_PBUF_RING)",
                since: "5.19",
                source,
            }
        })
    }

    /// Writes a buffer's entry at the ring's tail, which the kernel sees after [`Self::publish`]. The buffer is of this
    /// pool, and the handle its only one.
    #[allow(unsafe_code, reason = "the ring is memory shared with the kernel")]
    fn offer(&mut self, buffer: Buffer) {
        let index = usize::from(self.tail) & (self.offered.len() - 1);
        let slot = buffer.slot();
        // SAFETY: the index is below the number of entries in the mapping, a power of two, which page alignment suits;
        // the kernel does not read an entry at or beyond the tail, and we are on the only thread that writes.
        let entry = unsafe { &mut *self.ring.as_mut_ptr().cast::<BufRingEntry>().add(index) };
        entry.set_addr(buffer.as_ptr() as u64);
        entry.set_len(self.pool.slot_len());
        // The pool has at most 32,768 slots.
        entry.set_bid(slot as u16);
        self.tail = self.tail.wrapping_add(1);
        self.offered[slot as usize] = Some(buffer);
    }

    #[allow(unsafe_code, reason = "the ring is memory shared with the kernel")]
    fn publish(&mut self) {
        let ring = self.ring.as_mut_ptr().cast::<BufRingEntry>();
        // SAFETY: the pointer is the ring's first entry; its tail field is 2-aligned, inside the mapping, and from
        // the registration on only accessed atomically or by the kernel.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(ring).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// The kernel has put `len` bytes into a buffer, which is the caller's now. `None` for numbers that no kernel sends.
    pub(super) fn lend(&mut self, id: u16, len: u32) -> Option<Chunk> {
        if len == 0 || len > self.pool.slot_len() {
            return None;
        }
        let buffer = self.offered.get_mut(usize::from(id))?.take()?;
        Some(Chunk::new(buffer, len))
    }

    /// Gives a buffer back to the kernel: now, or, if somebody shares a part of it, with the first [`Self::reclaim`] after
    /// nobody does. One that is not of this ring is dropped.
    pub(super) fn recycle(&mut self, buffer: Buffer) {
        if !Arc::ptr_eq(buffer.pool(), &self.pool) {
            return;
        }
        if buffer.is_shared() {
            self.shared.push(buffer);
            return;
        }
        self.offer(buffer);
        self.publish();
    }

    /// Gives those shared buffers back to the kernel that nobody shares any more.
    #[inline]
    pub(super) fn reclaim(&mut self) {
        if !self.shared.is_empty() {
            self.reclaim_shared();
        }
    }

    fn reclaim_shared(&mut self) {
        let mut at = 0;
        while let Some(buffer) = self.shared.get(at) {
            if buffer.is_shared() {
                at += 1;
            } else {
                let buffer = self.shared.swap_remove(at);
                self.offer(buffer);
            }
        }
        self.publish();
    }

    /// Gives a buffer back that the kernel chose but put nothing into.
    pub(super) fn recycle_unused(&mut self, id: u16) {
        if let Some(chunk) = self.lend(id, 1) {
            self.recycle(chunk.into_buffer());
        }
    }
}
