//! The world as a test holds it.

use crate::config::{DiskConfig, FaultPlan, SimConfig};
use crate::disk::{Disk, DiskId};
use crate::fault::{FaultCounts, FaultKind};
use crate::ring::SimRing;
use crate::state::{Occurrence, State};
use crate::trace::TraceHash;
use stampede_ring::{Event, Token, Wait};
use std::cell::{RefCell, RefMut};
use std::ops::Range;
use std::rc::Rc;

/// A simulated world. Clones are handles to the same world.
#[derive(Clone)]
pub struct SimWorld(Rc<RefCell<State>>);

impl SimWorld {
    /// A world without disks, rings or clients, at time 0.
    pub fn new(config: SimConfig) -> Self {
        Self(Rc::new(RefCell::new(State::new(config))))
    }

    pub(crate) fn state(&self) -> RefMut<'_, State> {
        let mut state = self.0.borrow_mut();
        state.close_abandoned();
        state
    }

    /// The monotonic clock, in nanoseconds.
    pub fn now(&self) -> u64 {
        self.state().now
    }

    /// A generator for the test's own choices, drawn from the world's seed and `label` alone: using it does not
    /// disturb the world.
    pub fn fork_rng(&self, label: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(
            self.state().config.seed ^ label.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xf04c,
        )
    }

    /// How often each fault was injected.
    pub fn faults(&self) -> FaultCounts {
        self.state().faults.clone()
    }

    /// Changes how often faults strike from now on; returns how often they did.
    pub fn set_faults(&self, plan: FaultPlan) -> FaultPlan {
        std::mem::replace(&mut self.state().config.faults, plan)
    }

    /// The hash of everything that crossed the seam so far.
    pub fn trace(&self) -> TraceHash {
        self.state().trace
    }

    /// How the rings' users broke the seam's contract, in words. A test asserts that there are none.
    pub fn misuses(&self) -> Vec<String> {
        self.state().misuses.clone()
    }

    // ---- time ----

    /// Goes on to the next thing that is scheduled, or to the end of a shard's sleep, whichever is first. `false`
    /// when there is neither: without a client's doing nothing will ever happen.
    pub fn advance(&self) -> bool {
        let mut state = self.state();
        let (event, deadline) = (state.next_event(), state.next_deadline());
        match (event, deadline) {
            (None, None) => false,
            (Some(event), deadline) if deadline.is_none_or(|deadline| event <= deadline) => state.step(event),
            (_, Some(deadline)) => {
                state.now = deadline;
                true
            }
            (Some(event), None) => state.step(event),
        }
    }

    /// Lets everything happen that is due until `time`, and sets the clock to it.
    pub fn advance_to(&self, time: u64) {
        let mut state = self.state();
        while state.step(time) {}
        state.now = state.now.max(time);
    }

    /// [`SimWorld::advance_to`] the time in `nanoseconds` from now.
    pub fn advance_by(&self, nanoseconds: u64) {
        let time = self.now() + nanoseconds;
        self.advance_to(time);
    }

    /// Time of the next thing that is scheduled, in nanoseconds.
    pub fn next_event(&self) -> Option<u64> {
        self.state().next_event()
    }

    /// Whether a turn of this shard is due: it has completions to reap, or its sleep is over.
    pub fn is_ready(&self, shard: u16) -> bool {
        let state = self.state();
        state.rings.get(&shard).is_some_and(|ring| {
            let over = match ring.wait {
                Wait::No => true,
                Wait::Until(deadline) => deadline <= state.now,
                Wait::Forever => false,
            };
            over || !ring.posted.is_empty()
        })
    }

    /// How long the shard was ready to sleep when it last submitted.
    pub fn wait_of(&self, shard: u16) -> Option<Wait> {
        self.state().rings.get(&shard).map(|ring| ring.wait)
    }

    // ---- rings ----

    /// Makes the ring of a shard.
    pub fn ring(&self, shard: u16) -> SimRing {
        let (key, len) = {
            let mut state = self.state();
            (state.add_ring(shard), state.config.ring.receive_buffers)
        };
        SimRing::new(self.clone(), key, len)
    }

    /// Wakes a shard from outside, as the control thread does.
    pub fn wake(&self, shard: u16) {
        let mut state = self.state();
        if let Some(ring) = state.rings.get(&shard).map(|ring| ring.key) {
            let delay = state.short_latency();
            state.schedule_in(delay, Occurrence::Post { ring, token: Token(0), event: Event::Woken });
        }
    }

    /// Operations that a shard has in flight at disks and on connections (accepts, receives and sends too).
    pub fn in_flight(&self, shard: u16) -> usize {
        self.state().operations.values().filter(|pending| pending.ring.shard == shard).count()
    }

    /// kill -9 of the target: its rings die, its connections are reset, its disk operations in flight land in part.
    /// What had landed stays, for the kernel's and the disks' caches live on.
    pub fn kill(&self) {
        let mut state = self.state();
        for disk in 0..state.disks.len() {
            state.interrupt(DiskId(disk as u32));
        }
        state.drop_sockets();
        state.forget_rings();
    }

    /// Power loss of the target's host: [`SimWorld::kill`], and every disk loses what it likes of what was not
    /// flushed.
    pub fn crash(&self) {
        let mut state = self.state();
        for disk in 0..state.disks.len() {
            state.crash_disk(DiskId(disk as u32));
        }
        state.drop_sockets();
        state.forget_rings();
    }

    // ---- disks ----

    /// Adds a disk of `len` bytes that reads as zeros.
    pub fn disk(&self, name: &str, len: u64, config: DiskConfig) -> DiskId {
        let mut state = self.state();
        state.disks.push(Disk::new(name, len, config));
        DiskId(state.disks.len() as u32 - 1)
    }

    /// The disk of this name.
    pub fn find_disk(&self, name: &str) -> Option<DiskId> {
        let state = self.state();
        state.disks.iter().position(|disk| disk.name == name).map(|index| DiskId(index as u32))
    }

    /// Bytes of a disk.
    pub fn disk_len(&self, disk: DiskId) -> u64 {
        self.state().disks[disk.0 as usize].media.len()
    }

    /// Bytes of a disk that are allocated.
    pub fn disk_allocated(&self, disk: DiskId) -> u64 {
        self.state().disks[disk.0 as usize].media.allocated()
    }

    /// Puts content on a disk, durable at once: how a test prepares it. `offset` in bytes.
    pub fn fill_disk(&self, disk: DiskId, offset: u64, bytes: &[u8]) {
        self.state().disks[disk.0 as usize].media.fill(offset, bytes);
    }

    /// What a read of `len` bytes at byte `offset` would see now.
    pub fn peek_disk(&self, disk: DiskId, offset: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        self.state().disks[disk.0 as usize].media.read(offset, &mut out);
        out
    }

    /// What is on stable storage of `len` bytes at byte `offset`.
    pub fn peek_durable(&self, disk: DiskId, offset: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        self.state().disks[disk.0 as usize].media.read_durable(offset, &mut out);
        out
    }

    /// Makes reads that touch this byte range fail with EIO until it is written.
    pub fn break_reads(&self, disk: DiskId, range: Range<u64>) {
        let mut state = self.state();
        state.faults.hit(FaultKind::BadRange);
        state.disks[disk.0 as usize].bad_reads.push(range);
    }

    /// Makes writes that touch this byte range fail with EIO for ever.
    pub fn break_writes(&self, disk: DiskId, range: Range<u64>) {
        self.state().disks[disk.0 as usize].bad_writes.push(range);
    }

    /// Mends what [`SimWorld::break_reads`], [`SimWorld::break_writes`] and the fault plan broke.
    pub fn mend_disk(&self, disk: DiskId) {
        let mut state = self.state();
        let disk = &mut state.disks[disk.0 as usize];
        disk.bad_reads.clear();
        disk.bad_writes.clear();
    }

    /// Power loss at one disk alone: its operations in flight fail with EIO, perhaps in part done.
    pub fn crash_disk(&self, disk: DiskId) {
        self.state().crash_disk(disk);
    }
}
