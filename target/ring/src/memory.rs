//! Memory that is lent to the kernel: pools of equal slots in one mapping, and owning handles to them.
//!
//! A [`Buffer`] is to its slot what `Arc<[u8]>` is to its bytes: cloning shares, and only an unshared handle
//! gives mutable access. A slot goes back to its pool when the last handle goes, on whichever thread that
//! happens. The free list is a stack, so that a warm slot is used again first and untouched slots stay
//! untouched (and cost no memory).

mod lanes;
mod lasting;
mod place;

pub use lasting::{LastingFile, Words};
pub(crate) use place::Lies;

use crate::numa::{self, Pages};
use memmap2::{Advice, MmapOptions, MmapRaw};
use place::Place;
use std::io;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// "No slot" in the free list.
const NONE: u32 = u32::MAX;

/// The shape of a pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolConfig {
    /// Bytes per slot: a multiple of 4,096.
    pub slot_len: u32,
    /// Number of slots.
    pub slots: u32,
}

/// A fixed number of equal, page-aligned slots in one mapping: anonymous, or of a file that outlives the process.
pub struct Pool {
    /// Keeps `base` mapped; its bytes are only ever reached through `base`.
    mapping: MmapRaw,
    base: NonNull<u8>,
    config: PoolConfig,
    references: Box<[AtomicU32]>,
    next: Box<[AtomicU32]>,
    /// Top of the free stack: a change counter in the high half (against ABA), the slot in the low half.
    free: AtomicU64,
    /// Slots below this have been handed out at least once.
    fresh: AtomicU32,
    in_use: AtomicU32,
    /// Rows of `references` besides the one of who fills, of a pool whose slots are pinned by number; 0 of any other.
    lanes: u16,
    /// Where the bytes of each slot lie, of a pool where they may lie elsewhere.
    places: Box<[Place]>,
}

// SAFETY: a slot's bytes are reached only through `Buffer` handles, whose reference count makes access
// exclusive or read-only; everything else in the pool is atomic or never changes.
#[allow(unsafe_code, reason = "the mapping is shared by design; see the SAFETY note")]
unsafe impl Send for Pool {}
// SAFETY: as above.
#[allow(unsafe_code, reason = "the mapping is shared by design; see the SAFETY note")]
unsafe impl Sync for Pool {}

impl Pool {
    /// Maps the pool's memory. It is taken from the system only as slots are first used.
    ///
    /// # Errors
    /// `InvalidInput` for a slot length that is 0 or no multiple of 4,096, or a total beyond the address
    /// space; otherwise whatever mmap says.
    pub fn new(config: PoolConfig) -> io::Result<Arc<Self>> {
        Self::unshared(config).map(Arc::new)
    }

    /// A pool for what is read: the bytes of its slots may lie in a file.
    fn with_places(config: PoolConfig) -> io::Result<Arc<Self>> {
        let mut pool = Self::unshared(config)?;
        pool.places = (0..config.slots).map(|_| Place::default()).collect();
        Ok(Arc::new(pool))
    }

    fn unshared(config: PoolConfig) -> io::Result<Self> {
        let invalid = |_| io::Error::new(io::ErrorKind::InvalidInput, "pool larger than the address space");
        Self::over(config, || {
            let bytes = u64::from(config.slot_len) * u64::from(config.slots);
            let bytes = usize::try_from(bytes).map_err(invalid)?;
            Ok(MmapRaw::from(MmapOptions::new().len(bytes.max(4096)).map_anon()?))
        })
    }

    /// A pool over a mapping that has room for all of its slots.
    fn over(config: PoolConfig, map: impl FnOnce() -> io::Result<MmapRaw>) -> io::Result<Self> {
        if config.slot_len == 0 || !config.slot_len.is_multiple_of(4096) || config.slots == NONE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a pool's slots are multiples of 4096 bytes",
            ));
        }
        let mapping = map()?;
        let base = NonNull::new(mapping.as_mut_ptr())
            .ok_or_else(|| io::Error::new(io::ErrorKind::OutOfMemory, "mmap gave a null mapping"))?;
        let zeros = |_| AtomicU32::new(0);
        Ok(Self {
            mapping,
            base,
            config,
            references: (0..config.slots).map(zeros).collect(),
            next: (0..config.slots).map(zeros).collect(),
            free: AtomicU64::new(u64::from(NONE)),
            fresh: AtomicU32::new(0),
            in_use: AtomicU32::new(0),
            lanes: 0,
            places: Box::default(),
        })
    }

    /// Lets the kernel give the pool huge pages: for one that fills up, since it grows by them. A first use of a slot
    /// then seldom waits for a page fault. Nothing but speed depends on it, so a refusal is no error.
    pub fn prefer_huge_pages(&self) {
        let _ = self.mapping.advise(Advice::HugePage);
    }

    /// Takes a free slot, or `None` when all are in use. Its bytes are whatever was in it last.
    pub fn take(self: &Arc<Self>) -> Option<Buffer> {
        let slot = self.pop().or_else(|| self.take_fresh())?;
        self.references[slot as usize].store(1, Ordering::Relaxed);
        let pool = ManuallyDrop::new(if self.in_use.fetch_add(1, Ordering::Relaxed) == 0 {
            Arc::clone(self)
        } else {
            self.uncounted()
        });
        Some(Buffer { pool, slot, count: slot })
    }

    /// The same pointer, not counted. It must not be dropped, unless in place of the one that is counted for all
    /// slots in use.
    fn uncounted(self: &Arc<Self>) -> Arc<Self> {
        // SAFETY: the pointer is from an `Arc` that is alive, and this copy of it is only ever dropped by the handle
        // that takes `in_use` to 0, which by that owns the one count that the step from 0 took.
        #[allow(unsafe_code, reason = "one count of the pool for all its slots instead of one per handle")]
        unsafe {
            Arc::from_raw(Arc::as_ptr(self))
        }
    }

    fn pop(&self) -> Option<u32> {
        let mut top = self.free.load(Ordering::Acquire);
        loop {
            let slot = top as u32;
            if slot == NONE {
                return None;
            }
            let next = self.next[slot as usize].load(Ordering::Relaxed);
            let count = (top >> 32).wrapping_add(1) & 0xffff_ffff;
            let new = count << 32 | u64::from(next);
            match self.free.compare_exchange_weak(top, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(slot),
                Err(now) => top = now,
            }
        }
    }

    /// Puts slots on the free list that are chained by their `next` already, from `first` to `last`.
    fn push(&self, first: u32, last: u32) {
        let mut top = self.free.load(Ordering::Relaxed);
        loop {
            self.next[last as usize].store(top as u32, Ordering::Relaxed);
            let count = (top >> 32).wrapping_add(1) & 0xffff_ffff;
            let new = count << 32 | u64::from(first);
            match self.free.compare_exchange_weak(top, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    fn take_fresh(&self) -> Option<u32> {
        self.fresh
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |fresh| {
                (fresh < self.config.slots).then(|| fresh + 1)
            })
            .ok()
    }

    /// Bytes per slot.
    #[inline]
    pub fn slot_len(&self) -> u32 {
        self.config.slot_len
    }

    /// Number of slots, free or not.
    #[inline]
    pub fn slots(&self) -> u32 {
        self.config.slots
    }

    /// Number of slots in use now.
    pub fn in_use(&self) -> u32 {
        self.in_use.load(Ordering::Relaxed)
    }

    /// On which NUMA nodes its memory is, by sample.
    ///
    /// # Errors
    /// As the kernel answers; see [`crate::numa`].
    pub fn pages(&self) -> io::Result<Pages> {
        let (start, len) = self.extent();
        numa::pages_of(start, len)
    }

    /// Start and length in bytes of the whole mapping, for registering it with the kernel.
    pub(crate) fn extent(&self) -> (NonNull<u8>, usize) {
        (self.base, self.config.slot_len as usize * self.config.slots as usize)
    }

    fn slot_ptr(&self, slot: u32) -> NonNull<u8> {
        debug_assert!(slot < self.config.slots);
        // SAFETY: a handle's slot is below `slots`, so the offset is inside the mapping.
        #[allow(unsafe_code, reason = "address arithmetic in the pool's own mapping")]
        unsafe {
            self.base.add(slot as usize * self.config.slot_len as usize)
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("config", &self.config).field("in_use", &self.in_use()).finish()
    }
}

/// An owning handle to one slot of a [`Pool`]. `clone` shares the slot read-only.
pub struct Buffer {
    /// All slots in use hold one strong count of the pool together: who takes the first takes it, and who gives the
    /// last one back gives it back. So a handle costs no count of its own.
    pool: ManuallyDrop<Arc<Pool>>,
    slot: u32,
    /// Where the handles to the slot are counted.
    count: u32,
}

impl Buffer {
    /// The slot's bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.settle();
        // SAFETY: the slot is inside the mapping, which lives as long as the pool; its bytes are in it; while this handle
        // exists, writers need `bytes_mut` on the only handle, or an operation that owns the only handle.
        #[allow(unsafe_code, reason = "a slot is a part of the pool's mapping")]
        unsafe {
            std::slice::from_raw_parts(self.pool.slot_ptr(self.slot).as_ptr(), self.len())
        }
    }

    /// The slot's bytes to write, or `None` when the slot is shared.
    #[inline]
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        if self.is_shared() {
            return None;
        }
        self.settle();
        // SAFETY: this is the only handle, and it is borrowed mutably: nobody else can reach the bytes, and no
        // new handle can be made meanwhile.
        #[allow(unsafe_code, reason = "a slot is a part of the pool's mapping")]
        unsafe {
            Some(std::slice::from_raw_parts_mut(self.pool.slot_ptr(self.slot).as_ptr(), self.len()))
        }
    }

    /// Bytes in the slot.
    #[allow(clippy::len_without_is_empty, reason = "a slot is never empty")]
    #[inline]
    pub fn len(&self) -> usize {
        self.pool.config.slot_len as usize
    }

    /// Whether another handle to this slot exists, or, of a pool with lanes, may come to exist.
    #[inline]
    pub fn is_shared(&self) -> bool {
        match self.pool.lanes {
            0 => self.pool.references[self.count as usize].load(Ordering::Acquire) != 1,
            _ => !self.fills(),
        }
    }

    /// The pool it is from.
    #[inline]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Its slot's number in the pool.
    #[inline]
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Address of the slot's first byte, for the kernel.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.settle();
        self.pool.slot_ptr(self.slot).as_ptr()
    }
}

impl Clone for Buffer {
    #[inline]
    fn clone(&self) -> Self {
        let handles = self.pool.references[self.count as usize].fetch_add(1, Ordering::Relaxed);
        if handles > u32::MAX / 2 {
            // Two thousand million leaked handles: as with `Arc`, better no process than a count that wraps.
            std::process::abort();
        }
        Self { pool: ManuallyDrop::new(self.pool.uncounted()), slot: self.slot, count: self.count }
    }
}

impl Buffer {
    /// Drops many handles. Slots that are free by that go back together, run by run of one pool, so that most of them
    /// cost no atomic change of what all of the pool's users share.
    pub(crate) fn drop_all(buffers: &mut Vec<Self>) {
        let mut run: Option<Run> = None;
        for buffer in buffers.drain(..) {
            let buffer = ManuallyDrop::new(buffer);
            if !buffer.leave() {
                continue;
            }
            match &mut run {
                Some(run) if Arc::ptr_eq(&run.newest.pool, &buffer.pool) => run.add(buffer),
                _ => {
                    if let Some(run) = run.replace(Run { oldest: buffer.slot, slots: 1, newest: buffer }) {
                        run.end();
                    }
                }
            }
        }
        if let Some(run) = run {
            run.end();
        }
    }

    /// Counts this handle out; whether it was the slot's last, so that the slot is to go back.
    fn leave(&self) -> bool {
        let references = &self.pool.references[self.count as usize];
        if self.pool.lanes > 0 {
            references.fetch_sub(1, Ordering::AcqRel);
            return false;
        }
        // Nobody can share a slot whose only handle is this one, so then there is nothing to count down.
        let is_last =
            references.load(Ordering::Acquire) == 1 || references.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last {
            self.pool.forget_place(self.slot);
        }
        is_last
    }

    /// Counts `slots` slots out that are on the free list already. This handle's was one of them, and it is not used
    /// after.
    fn uncount(&mut self, slots: u32) {
        if self.pool.in_use.fetch_sub(slots, Ordering::AcqRel) == slots {
            // SAFETY: these were the last slots in use, so the strong count of all of them is this handle's; `pool` is
            // not used after.
            #[allow(unsafe_code, reason = "one count of the pool for all slots, not one per handle")]
            unsafe {
                ManuallyDrop::drop(&mut self.pool);
            }
        }
    }
}

/// Slots of one pool on their way back to its free list, each chained to the one before.
struct Run {
    oldest: u32,
    slots: u32,
    /// The last handle of the last of them, which has left: it keeps the pool.
    newest: ManuallyDrop<Buffer>,
}

impl Run {
    fn add(&mut self, buffer: ManuallyDrop<Buffer>) {
        buffer.pool.next[buffer.slot as usize].store(self.newest.slot, Ordering::Relaxed);
        self.newest = buffer;
        self.slots += 1;
    }

    fn end(mut self) {
        // Before the count: whoever takes that to 0 may free the pool.
        self.newest.pool.push(self.newest.slot, self.oldest);
        self.newest.uncount(self.slots);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.leave() {
            // Before the count: whoever takes that to 0 may free the pool.
            self.pool.push(self.slot, self.slot);
            self.uncount(1);
        }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} of {} bytes)", self.slot, self.len())
    }
}

/// A shard's I/O buffers: a few pools of different slot lengths.
#[derive(Clone, Debug)]
pub struct IoMemory {
    /// By ascending slot length.
    pools: Vec<Arc<Pool>>,
    /// Bytes of all slots.
    bytes: u64,
}

impl IoMemory {
    /// The largest buffer, in bytes. Longer transfers use several buffers.
    pub const BUFFER_MAX: u32 = 256 * 1024;

    /// Shares `bytes` among slots of 4, 16, 64 and 256 KiB.
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub fn new(bytes: u64) -> io::Result<Self> {
        // An eighth each to the small ones, a quarter to 64 KiB, the rest to 256 KiB.
        let shares = [(4096, 8), (16 * 1024, 8), (64 * 1024, 4), (Self::BUFFER_MAX, 2)];
        let pools: Vec<Arc<Pool>> = shares
            .into_iter()
            .map(|(slot_len, share)| {
                let slots = u32::try_from((bytes / share / u64::from(slot_len)).max(4)).unwrap_or(NONE - 1);
                // The smallest reads are copied at once.
                let new = if slot_len > 4096 { Pool::with_places } else { Pool::new };
                new(PoolConfig { slot_len, slots })
            })
            .collect::<io::Result<_>>()?;
        let bytes = pools.iter().map(|pool| u64::from(pool.slot_len()) * u64::from(pool.slots())).sum();
        Ok(Self { pools, bytes })
    }

    /// Takes the smallest free buffer with at least `len` bytes; `None` when none is free or `len` is beyond
    /// [`IoMemory::BUFFER_MAX`].
    pub fn take(&self, len: u32) -> Option<Buffer> {
        self.pools.iter().filter(|pool| pool.slot_len() >= len).find_map(|pool| pool.take())
    }

    /// Bytes of all buffers.
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The pools, by ascending slot length.
    pub fn pools(&self) -> &[Arc<Pool>] {
        &self.pools
    }
}
