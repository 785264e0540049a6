//! One shard's ring into the world.

use crate::disk::DiskId;
use crate::fault::FaultKind;
use crate::state::{Occurrence, RingKey};
use crate::world::SimWorld;
use stampede_ring::{
    Buffer, Chunk, Completion, Errno, Event, FileId, LooseFile, LooseSocket, Operation, Ring, SocketId,
    Token, Wait,
};
use std::net::SocketAddr;

/// A shard's [`Ring`] into a [`SimWorld`].
pub struct SimRing {
    world: SimWorld,
    key: RingKey,
    /// Operations pushed and not yet submitted.
    queue: Vec<(Token, Operation)>,
    /// Operations that fit until the next submit.
    room: usize,
    /// Receive buffers of the ring.
    buffers: usize,
    /// Those that the shard gave back while parts of them are shared.
    shared: Vec<Buffer>,
    blocking: bool,
}

impl SimRing {
    pub(crate) fn new(world: SimWorld, key: RingKey, buffers: u16) -> Self {
        let room = world.state().config.ring.queue_len as usize;
        let (queue, shared, buffers) = (Vec::new(), Vec::new(), usize::from(buffers));
        Self { world, key, queue, room, buffers, shared, blocking: false }
    }

    /// Makes [`Ring::submit`] really wait, by advancing the world: for scripts with one ring that know nothing of
    /// the world.
    pub fn set_blocking(&mut self, blocking: bool) {
        self.blocking = blocking;
    }

    /// The world it belongs to.
    pub fn world(&self) -> &SimWorld {
        &self.world
    }

    /// The shard's number.
    pub fn shard(&self) -> u16 {
        self.key.shard
    }

    /// Opens a disk in this ring.
    ///
    /// # Panics
    /// When the ring died with the process.
    pub fn open(&mut self, disk: DiskId) -> FileId {
        let mut state = self.world.state();
        let files = &mut state.ring(self.key).expect("a living ring").files;
        files.push(Some(disk));
        FileId(files.len() as u32 - 1)
    }

    /// Listens at an address; several shards may share one.
    ///
    /// # Panics
    /// When the ring died with the process.
    pub fn listen(&mut self, address: SocketAddr) -> SocketId {
        self.world.state().listen(self.key, address).expect("a living ring")
    }

    /// Receive buffers that the shard holds or is about to reap.
    pub fn buffers_in_use(&self) -> usize {
        let mut state = self.world.state();
        self.buffers - state.ring(self.key).map_or(self.buffers, |ring| ring.free_buffers.len())
    }

    /// Receive buffers that were given back, and of which somebody had a part when the shard last submitted.
    pub fn buffers_shared(&self) -> usize {
        self.shared.len()
    }

    /// Gives those receive buffers back that nobody shares.
    fn reclaim(&mut self) {
        let mut state = self.world.state();
        let Some(ring) = state.ring(self.key) else { return };
        for mut buffer in self.shared.extract_if(.., |buffer| !buffer.is_shared()) {
            // It is the world's, to write to whenever it likes.
            if let Some(bytes) = buffer.bytes_mut() {
                bytes.fill(0xdb);
            }
            ring.free_buffers.push(buffer);
        }
    }

    fn wait_for_completion(&self, wait: Wait) -> Result<(), Errno> {
        let deadline = match wait {
            Wait::No => return Ok(()),
            Wait::Until(deadline) => deadline,
            Wait::Forever => u64::MAX,
        };
        let mut state = self.world.state();
        while state.ring(self.key).is_some_and(|ring| ring.posted.is_empty()) {
            if !state.step(deadline) {
                if wait == Wait::Forever {
                    return Err(Errno(libc::EDEADLK));
                }
                state.now = state.now.max(deadline);
                break;
            }
        }
        Ok(())
    }
}

impl Ring for SimRing {
    fn push(&mut self, token: Token, operation: Operation) -> Result<(), Operation> {
        if self.queue.len() >= self.room {
            self.world.state().faults.hit(FaultKind::QueueFull);
            return Err(operation);
        }
        self.queue.push((token, operation));
        Ok(())
    }

    fn at_once(&mut self, operation: Operation) -> Result<Event, Operation> {
        self.world.state().at_once(self.key, operation)
    }

    fn submit(&mut self, wait: Wait) -> Result<(), Errno> {
        self.reclaim();
        {
            let mut state = self.world.state();
            let Some(ring) = state.ring(self.key) else { return Err(Errno(libc::ENXIO)) };
            ring.wait = wait;
            for (token, operation) in self.queue.drain(..) {
                state.start(self.key, token, operation);
            }
            self.room = state.config.ring.queue_len as usize;
            if state.chance(FaultKind::QueueFull) {
                self.room = self.room.min(state.rng.usize(1..4));
            }
            if state.strikes(FaultKind::SpuriousWake) {
                let delay = state.short_latency();
                let woken = Occurrence::Post { ring: self.key, token: Token(0), event: Event::Woken };
                state.schedule_in(delay, woken);
            }
        }
        if self.blocking { self.wait_for_completion(wait) } else { Ok(()) }
    }

    fn has_news(&mut self) -> bool {
        self.world.state().ring(self.key).is_some_and(|ring| !ring.posted.is_empty())
    }

    fn reap(&mut self, batch: &mut Vec<Completion>) -> usize {
        let mut state = self.world.state();
        let Some(ring) = state.ring(self.key) else { return 0 };
        let count = ring.posted.len().min(batch.capacity() - batch.len());
        batch.extend(ring.posted.drain(..count));
        count
    }

    fn recycle(&mut self, chunk: Chunk) {
        self.shared.push(chunk.into_buffer());
        self.reclaim();
    }

    fn adopt(&mut self, socket: LooseSocket) -> Result<SocketId, (Errno, LooseSocket)> {
        self.world.state().adopt(self.key, socket)
    }

    fn take_file(&mut self, file: LooseFile) -> Result<FileId, Errno> {
        let disk: DiskId = file.into_holder().map_err(|_| Errno(libc::EINVAL))?;
        self.world.state().ring(self.key).ok_or(Errno(libc::ENXIO))?;
        Ok(self.open(disk))
    }

    fn drop_file(&mut self, file: FileId) {
        self.world.state().drop_file(self.key, file);
    }
}
