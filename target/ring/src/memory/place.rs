//! Slots whose bytes lie elsewhere for now: in a mapped file. They are copied when somebody looks, and never if nobody does.
//!
//! ```text
//!  in the slot ──lie_at──► elsewhere ──settle──► being copied ─┬─► in the slot
//!       ▲                      │                               └─► lost (the file was shortened)
//!       └──── last handle goes ┴─────────────────────────────────────┘
//! ```

use super::{Buffer, Pool};
use crate::guard;
use std::ptr::{null_mut, without_provenance_mut};
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// The bytes are being copied into the slot. No mapping has this address, nor the next.
const BUSY: usize = 1;
/// They could not be: the slot's are worth nothing.
const LOST: usize = 2;

/// Where the bytes of a slot lie.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Null for the slot itself; or [`BUSY`], or [`LOST`].
    source: AtomicPtr<u8>,
    /// How many of them lie there, from the slot's first on.
    len: AtomicU32,
    /// The guard of that memory.
    guard: AtomicU32,
}

/// Where a part of a buffer lies.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lies {
    /// In its slot.
    InSlot(*const u8),
    /// In a file that this ring has mapped.
    InFile(*const u8),
    /// Nowhere any more: the file was shortened.
    Lost,
}

impl Pool {
    /// Whether a slot's bytes lie at `source`.
    pub(crate) fn lies_at(&self, slot: u32, source: *mut u8) -> bool {
        self.places.get(slot as usize).is_some_and(|place| place.source.load(Ordering::Acquire) == source)
    }

    /// Brings a slot's bytes into the slot, if they lie elsewhere; with `only`, if they lie just there.
    #[cold]
    pub(crate) fn settle(&self, slot: u32, only: Option<*mut u8>) {
        let Some(place) = self.places.get(slot as usize) else { return };
        loop {
            let source = place.source.load(Ordering::Acquire);
            match source.addr() {
                0 | LOST => return,
                // Another thread has the same in mind: it takes as long as a copy.
                BUSY => std::hint::spin_loop(),
                _ if only.is_some_and(|only| only != source) => return,
                _ => {
                    let busy = without_provenance_mut(BUSY);
                    let taken =
                        place.source.compare_exchange(source, busy, Ordering::AcqRel, Ordering::Relaxed);
                    if taken.is_ok() {
                        return self.bring(slot, place, source);
                    }
                }
            }
        }
    }

    fn bring(&self, slot: u32, place: &Place, source: *const u8) {
        let len = place.len.load(Ordering::Relaxed) as usize;
        // SAFETY: `lie_at` promised that the source is readable while the place names it, and whoever ends that waits for
        // this to be over. Who said BUSY is alone with the slot: nobody has a reference to its bytes, since `bytes` gives
        // one only of bytes that are in it, and its last handle waits too. No reference into the source is made.
        #[allow(unsafe_code, reason = "bytes of a shared mapping must not be referred to")]
        unsafe {
            std::ptr::copy_nonoverlapping(source, self.slot_ptr(slot).as_ptr(), len);
        }
        let lost = guard::is_damaged(place.guard.load(Ordering::Relaxed));
        let now = if lost { without_provenance_mut(LOST) } else { null_mut() };
        place.source.store(now, Ordering::Release);
    }

    /// A slot's last handle has gone: what lies elsewhere is not wanted any more.
    #[inline]
    pub(super) fn forget_place(&self, slot: u32) {
        let Some(place) = self.places.get(slot as usize) else { return };
        loop {
            let source = place.source.load(Ordering::Acquire);
            match source.addr() {
                0 => return,
                BUSY => std::hint::spin_loop(),
                _ => {
                    let gone = place.source.compare_exchange(
                        source,
                        null_mut(),
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    );
                    if gone.is_ok() {
                        return;
                    }
                }
            }
        }
    }
}

impl Buffer {
    /// Has the first `len` bytes of the buffer lie at `source`, in memory that a guard knows by `guard`; false, and nothing
    /// is done, when the buffer is shared or shorter, or of a pool whose bytes always lie in its slots.
    ///
    /// # Safety
    /// The memory is readable, and no Rust reference to it is mutable, until [`Pool::settle`] has returned, which the
    /// caller calls before it ends that; or until the last handle has gone.
    #[allow(unsafe_code, reason = "the caller knows about the memory")]
    pub(crate) unsafe fn lie_at(&mut self, source: *mut u8, len: u32, guard: u32) -> bool {
        if self.is_shared() || len as usize > self.len() {
            return false;
        }
        let Some(place) = self.pool.places.get(self.slot as usize) else { return false };
        if !place.source.load(Ordering::Acquire).is_null() {
            return false;
        }
        place.len.store(len, Ordering::Relaxed);
        place.guard.store(guard, Ordering::Relaxed);
        place.source.store(source, Ordering::Release);
        true
    }

    /// Brings the bytes into the slot, where they are to be looked at.
    #[inline]
    pub(super) fn settle(&self) {
        if let Some(place) = self.pool.places.get(self.slot as usize)
            && !place.source.load(Ordering::Acquire).is_null()
        {
            self.pool.settle(self.slot, None);
        }
    }

    /// Where a part of the buffer lies, for a send of a ring. What another ring has mapped is brought into the slot: only
    /// its own thread knows when the bytes may be read there.
    ///
    /// # Panics
    /// When the buffer has no such part.
    #[inline]
    pub(crate) fn lies(&self, start: u32, len: u32, ring: u32) -> Lies {
        if let Some(place) = self.pool.places.get(self.slot as usize)
            && !place.source.load(Ordering::Acquire).is_null()
        {
            return self.lies_elsewhere(place, (start, len), ring);
        }
        self.lies_in_slot(start, len)
    }

    #[inline]
    fn lies_in_slot(&self, start: u32, len: u32) -> Lies {
        Lies::InSlot(self.bytes()[start as usize..][..len as usize].as_ptr())
    }

    fn lies_elsewhere(&self, place: &Place, (start, len): (u32, u32), ring: u32) -> Lies {
        let source = place.source.load(Ordering::Acquire);
        let number = place.guard.load(Ordering::Relaxed);
        let inside = u64::from(start) + u64::from(len) <= u64::from(place.len.load(Ordering::Relaxed));
        let here = guard::ring_of(number) == Some(ring) && !guard::is_damaged(number);
        if source.addr() > LOST && inside && here {
            return Lies::InFile(source.wrapping_add(start as usize));
        }
        self.settle();
        match place.source.load(Ordering::Acquire).addr() {
            LOST => Lies::Lost,
            _ => self.lies_in_slot(start, len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{IoMemory, PoolConfig};
    use std::sync::Arc;

    const LEN: usize = 64 << 10;

    fn late(memory: &IoMemory, source: &mut [u8], guard: &guard::Guarded) -> Buffer {
        let mut buffer = memory.take(LEN as u32).unwrap();
        // SAFETY: the source outlives the buffer and is only written after `settle`, in each test.
        #[allow(unsafe_code, reason = "memory of the test's own")]
        unsafe {
            assert!(buffer.lie_at(source.as_mut_ptr(), source.len() as u32, guard.number()));
        }
        buffer
    }

    fn guarded(ring: u32, source: &mut [u8]) -> guard::Guarded {
        guard::Guarded::new(ring, source.as_mut_ptr() as usize, source.len()).unwrap()
    }

    #[test]
    fn bytes_are_copied_when_somebody_looks() {
        let memory = IoMemory::new(4 << 20).unwrap();
        let mut source = vec![7; LEN];
        let guard = guarded(1, &mut source);
        let buffer = late(&memory, &mut source, &guard);
        let elsewhere = source.as_ptr().wrapping_add(100);
        assert_eq!(buffer.lies(100, 50, 1), Lies::InFile(elsewhere));
        assert!(buffer.clone().bytes() == source);
        assert_eq!(buffer.lies(100, 50, 1), Lies::InSlot(buffer.bytes()[100..].as_ptr()));
    }

    #[test]
    fn another_rings_file_is_not_sent_from() {
        let memory = IoMemory::new(4 << 20).unwrap();
        let mut source = vec![7; LEN];
        let guard = guarded(1, &mut source);
        let buffer = late(&memory, &mut source, &guard);
        assert!(matches!(buffer.lies(0, 50, 2), Lies::InSlot(_)));
        assert!(buffer.bytes() == source);
    }

    #[test]
    fn a_slot_that_is_used_again_has_its_own_bytes() {
        let memory = IoMemory::new(4 << 20).unwrap();
        let mut source = vec![7; LEN];
        let guard = guarded(1, &mut source);
        let buffer = late(&memory, &mut source, &guard);
        let (pool, slot) = (Arc::clone(buffer.pool()), buffer.slot());
        drop(buffer);
        assert!(!pool.lies_at(slot, source.as_mut_ptr()));
        let mut buffers = vec![late(&memory, &mut source, &guard), late(&memory, &mut source, &guard)];
        let slots: Vec<u32> = buffers.iter().map(Buffer::slot).collect();
        Buffer::drop_all(&mut buffers);
        assert!(slots.iter().all(|slot| !pool.lies_at(*slot, source.as_mut_ptr())));
        let mut again = memory.take(LEN as u32).unwrap();
        again.bytes_mut().unwrap().fill(1);
        pool.settle(again.slot(), Some(source.as_mut_ptr()));
        assert!(again.bytes().iter().all(|byte| *byte == 1));
    }

    #[test]
    fn only_an_unshared_buffer_that_is_long_enough_can_lie_elsewhere() {
        let memory = IoMemory::new(4 << 20).unwrap();
        let mut source = vec![7u8; LEN];
        let guard = guarded(1, &mut source);
        let small = Pool::new(PoolConfig { slot_len: LEN as u32, slots: 4 }).unwrap();
        let mut shared = memory.take(LEN as u32).unwrap();
        let _other = shared.clone();
        // SAFETY: nothing is done.
        #[allow(unsafe_code, reason = "memory of the test's own")]
        unsafe {
            let (at, number) = (source.as_mut_ptr(), guard.number());
            assert!(!shared.lie_at(at, 1, number));
            assert!(!memory.take(LEN as u32).unwrap().lie_at(at, LEN as u32 + 1, number));
            assert!(!small.take().unwrap().lie_at(at, 1, number), "a pool without places");
        }
    }

    #[test]
    fn threads_that_look_see_whole_copies() {
        let memory = IoMemory::new(4 << 20).unwrap();
        let mut source = vec![7; LEN];
        let guard = guarded(1, &mut source);
        for _ in 0..200 {
            let buffer = late(&memory, &mut source, &guard);
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    let buffer = buffer.clone();
                    scope.spawn(move || assert!(buffer.bytes().iter().all(|byte| *byte == 7)));
                }
            });
        }
    }
}
