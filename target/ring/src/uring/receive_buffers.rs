//! The receive buffers: one mapping, cut into equal buffers, which the kernel takes from a shared ring of its own
//! and which the caller gives back.

use super::config::SetupError;
use crate::numa::{self, Pages};
use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use memmap2::{MmapOptions, MmapRaw};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// The number of the one buffer group.
pub(super) const GROUP: u16 = 0;

pub(super) struct ReceiveBuffers {
    ring: MmapRaw,
    memory: MmapRaw,
    count: u16,
    len: u32,
    tail: u16,
    /// By buffer: the bytes in it while it is the caller's, 0 while it is the kernel's. So a forged or stale chunk
    /// never reaches memory that the kernel writes.
    lent: Box<[u32]>,
}

impl ReceiveBuffers {
    /// Maps the buffers and gives all of them to the kernel.
    pub(super) fn new(submitter: &Submitter<'_>, count: u16, len: u32) -> Result<Self, SetupError> {
        let map = |step: &'static str, bytes: usize| {
            let mapping = MmapOptions::new().len(bytes).map_anon();
            mapping.map(MmapRaw::from).map_err(|source| SetupError::Resources { step, source })
        };
        let ring = map("mapping the receive buffer ring", usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = map("mapping the receive buffers", usize::from(count) * len as usize)?;
        let lent = vec![0; usize::from(count)].into_boxed_slice();
        let mut buffers = Self { ring, memory, count, len, tail: 0, lent };
        for id in 0..count {
            buffers.offer(id);
        }
        buffers.publish();
        buffers.register(submitter)?;
        Ok(buffers)
    }

    /// On which NUMA nodes they are, by sample.
    pub(super) fn pages(&self) -> io::Result<Pages> {
        let memory = |mapping: &MmapRaw| match NonNull::new(mapping.as_mut_ptr()) {
            Some(start) => numa::pages_of(start, mapping.len()),
            None => Ok(Pages::default()),
        };
        let mut pages = memory(&self.memory)?;
        pages.add(&memory(&self.ring)?);
        Ok(pages)
    }

    #[allow(unsafe_code, reason = "the kernel is given addresses")]
    fn register(&self, submitter: &Submitter<'_>) -> Result<(), SetupError> {
        let address = self.ring.as_mut_ptr() as u64;
        // SAFETY: the mapping holds `count` entries, and both mappings are dropped only after the ring's descriptor is
        // closed or everything that uses them has ended (`UringRing::drop`).
        unsafe { submitter.register_buf_ring_with_flags(address, self.count, GROUP, 0) }.map_err(|source| {
            SetupError::Missing {
                feature: "rings of provided buffers (IORING_REGISTER_PBUF_RING)",
                since: "5.19",
                source,
            }
        })
    }

    /// Writes a buffer's entry at the ring's tail, which the kernel sees after [`Self::publish`].
    #[allow(unsafe_code, reason = "the ring is memory shared with the kernel")]
    fn offer(&mut self, id: u16) {
        let index = self.tail & (self.count - 1);
        let address = self.memory.as_mut_ptr() as u64 + u64::from(id) * u64::from(self.len);
        // SAFETY: the index is below `count`, the number of entries in the mapping, which page alignment suits;
        // the kernel does not read an entry at or beyond the tail, and we are on the only thread that writes.
        let entry = unsafe { &mut *self.ring.as_mut_ptr().cast::<BufRingEntry>().add(usize::from(index)) };
        entry.set_addr(address);
        entry.set_len(self.len);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    #[allow(unsafe_code, reason = "the ring is memory shared with the kernel")]
    fn publish(&mut self) {
        let ring = self.ring.as_mut_ptr().cast::<BufRingEntry>();
        // SAFETY: the pointer is the ring's first entry; its tail field is 2-aligned, inside the mapping, and from
        // the registration on only accessed atomically or by the kernel.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(ring).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// The kernel has put `len` bytes into a buffer, which is the caller's now. False for numbers that no kernel sends.
    pub(super) fn lend(&mut self, id: u16, len: u32) -> bool {
        match self.lent.get_mut(usize::from(id)) {
            Some(lent) if *lent == 0 && len > 0 && len <= self.len => {
                *lent = len;
                true
            }
            _ => false,
        }
    }

    /// Gives a buffer back to the kernel. One that is the kernel's already stays so.
    pub(super) fn recycle(&mut self, id: u16) {
        if let Some(lent) = self.lent.get_mut(usize::from(id))
            && *lent != 0
        {
            *lent = 0;
            self.offer(id);
            self.publish();
        }
    }

    /// Gives a buffer back that the kernel chose but put nothing into.
    pub(super) fn recycle_unused(&mut self, id: u16) {
        if self.lend(id, 1) {
            self.recycle(id);
        }
    }

    /// The bytes of a lent buffer; empty for any other.
    #[allow(unsafe_code, reason = "the buffers are memory shared with the kernel")]
    pub(super) fn bytes(&self, id: u16, len: u32) -> &[u8] {
        let Some(&lent) = self.lent.get(usize::from(id)) else {
            return &[];
        };
        let start = usize::from(id) * self.len as usize;
        // SAFETY: the range is inside the mapping (`id` is below `count`, and `lent` at most `len`). While a buffer is
        // lent the kernel does not write to it, and giving it back takes `&mut self`, so not while this slice lives.
        unsafe { std::slice::from_raw_parts(self.memory.as_mut_ptr().add(start), len.min(lent) as usize) }
    }
}
