//! Reads of a mapped file whose bytes have not been copied: a send takes them from where they lie, so that the kernel's
//! copy is the only one.
//!
//! ```text
//!  read for sending ─► a free buffer that says where its bytes lie ─► send ─► the kernel copies from the file
//!        the range is about to be written ─┬─► they are copied into the buffer, and sent from there
//!        somebody looks at the bytes       ─┘
//! ```
//!
//! So a read has the bytes of the moment when it was done, as if it had copied them, and no order of commands and no lock
//! has to know of it. Two things make that true:
//! - *All changes of the file come through here*, since one ring alone has it for writing: [`LateReads::settle`] goes
//!   before each.
//! - *The kernel reads a mapping only in the middle of a submit* of the ring's own thread, so between two changes. A send
//!   from a file does not wait inside the kernel: what finds no room in the socket comes back, the ring waits for room, and
//!   sends again from wherever the bytes lie then. Addresses are written down last, when the kernel is entered. The kernel
//!   copies into its own memory (no MSG_ZEROCOPY), so what TCP sends again later is what it sent at first.
//!
//! Each read has a buffer of its own from the beginning, though it may never be filled. So the memory for the copy is
//! there when it is needed, and what a client may leave unread is bounded by the same buffers as ever.

use crate::memory::{Buffer, Pool};
use std::sync::Arc;

/// Reads that are looked through before those that are over are forgotten, at least.
const FORGET_MIN: usize = 64;

/// Where the bytes of a read lie. It is over when its slot does not say the same any more: nobody tells.
struct LateRead {
    /// Index into `pools`.
    pool: usize,
    slot: u32,
    source: *mut u8,
    len: u32,
}

/// See the module.
#[derive(Default)]
pub(super) struct LateReads {
    reads: Vec<LateRead>,
    /// Pools that the buffers are from: a few.
    pools: Vec<Arc<Pool>>,
    /// So many reads are looked through next.
    forget_at: usize,
}

impl LateReads {
    /// Whether no read is known. One that is known may be over.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.reads.is_empty()
    }

    /// Has the first `len` bytes of a buffer lie at `source`; false, and nothing is done, for a buffer that cannot say so.
    ///
    /// # Safety
    /// As of [`Buffer::lie_at`]; [`LateReads::settle`] of the bytes is what ends it.
    #[allow(unsafe_code, reason = "the caller knows about the memory")]
    pub(super) unsafe fn add(&mut self, buffer: &mut Buffer, source: *mut u8, len: u32, guard: u32) -> bool {
        // SAFETY: as promised by the caller.
        if !unsafe { buffer.lie_at(source, len, guard) } {
            return false;
        }
        if self.reads.len() >= self.forget_at {
            self.forget();
        }
        let known = self.pools.iter().position(|pool| Arc::ptr_eq(pool, buffer.pool()));
        let pool = known.unwrap_or_else(|| {
            self.pools.push(Arc::clone(buffer.pool()));
            self.pools.len() - 1
        });
        self.reads.push(LateRead { pool, slot: buffer.slot(), source, len });
        true
    }

    /// Forgets reads that are over. The next time is when there are twice as many as are not: that is a constant share of
    /// the work of each read.
    #[cold]
    fn forget(&mut self) {
        let Self { reads, pools, .. } = self;
        reads.retain(|read| pools[read.pool].lies_at(read.slot, read.source));
        self.forget_at = (reads.len() * 2).max(FORGET_MIN);
    }

    /// Copies what lies at addresses from `start` up to `end` and is still wanted.
    pub(super) fn settle(&mut self, start: usize, end: usize) {
        let Self { reads, pools, .. } = self;
        reads.retain(|read| {
            let pool = &pools[read.pool];
            let first = read.source as usize;
            let meets = first < end && start < first + read.len as usize;
            if meets {
                pool.settle(read.slot, Some(read.source));
            }
            !meets && pool.lies_at(read.slot, read.source)
        });
    }
}
