//! The seam over io_uring.
//!
//! ```text
//!   push ---> submission queue --submit--> kernel --> completion queue ---> reap
//!     |                                                                      ^
//!     `--- done inline: files in memory, close, bad requests ---> ready -----'
//! ```
//!
//! Each operation in the kernel has an entry in a slab that owns its buffers; the entry's index and a generation
//! are the operation's user data. The ring belongs to the thread that made it (SINGLE_ISSUER), and the kernel finishes
//! work only while that thread is in `submit` (DEFER_TASKRUN), so nothing interrupts a shard's turn.
//!
//! Four choices worth knowing:
//! - Files in memory are read and written inline, in `push` or `at_once`: the kernel's memory file systems have no non-blocking
//!   path, and io_uring would hand each transfer to a worker thread, which costs ten times the copy. They are mapped,
//!   and what is known to be there is copied from the mapping; holes, and what is not mapped, go by pread and pwrite.
//! - What is read of them to be sent is sent from the mapping, if it is long ([`late`]).
//! - Close and release are done inline: shutdown and close of a TCP socket without SO_LINGER do not wait, and the ring
//!   owns a plain descriptor of each socket.
//! - A wake is a message from ring to ring that completes silently, so a shard that wakes others is not woken by it.

mod complete;
mod config;
mod files;
mod inflight;
mod late;
mod mapped;
mod mapping;
mod push;
mod receive_buffers;
mod send_state;
mod sending;
mod setup;
mod sockets;
mod submit;
mod survey;
mod table;
mod teardown;
mod wake;

pub use config::{AddError, SetupError, SetupReport, UringConfig};
pub use wake::{PeerHandle, Waker};

use crate::loose::{LooseFile, LooseSocket};
use crate::memory::{Buffer, Pool};
use crate::numa::Pages;
use crate::seam::{Chunk, Completion, Errno, Event, FileId, Operation, PeerId, Ring, SocketId, Token, Wait};
use files::OpenFile;
use inflight::InFlight;
use io_uring::{IoUring, squeue};
use receive_buffers::ReceiveBuffers;
use send_state::SendState;
use sockets::Socket;
use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use survey::Surveyor;
use table::Table;

/// User data of the ring's own operations and messages: bit 63, then the kind, then a number.
mod internal {
    pub(super) const BIT: u64 = 1 << 63;
    /// The poll of the waker's event descriptor.
    pub(super) const WAKER: u64 = BIT | 1 << 32;
    /// A message from another ring: wake up.
    pub(super) const WOKEN: u64 = BIT | 2 << 32;
    /// A wake of ours that failed; the low bits are the peer.
    pub(super) const WAKE: u64 = BIT | 3 << 32;
    pub(super) const KIND_MASK: u64 = !0xffff_ffff;
}

/// One shard's ring over io_uring. It is made on, used by, and dropped on the shard's thread.
///
/// Dropping it cancels what is in flight and waits (seconds at most) for the kernel to let go of the memory it was
/// lent; memory that it does not let go of is leaked rather than reused.
pub struct UringRing {
    ring: ManuallyDrop<IoUring>,
    inflight: ManuallyDrop<InFlight>,
    receive: ManuallyDrop<ReceiveBuffers>,
    registered: ManuallyDrop<Vec<RegisteredPool>>,
    /// Completions of operations that were done inline.
    ready: VecDeque<Completion>,
    ready_max: usize,
    /// The ring's own submissions that found the queue full.
    deferred: VecDeque<squeue::Entry>,
    idle_sends: Vec<SendState>,
    sockets: Table<Socket>,
    files: Table<OpenFile>,
    /// Whether the table of registered descriptors exists: sockets first, then files.
    has_file_table: bool,
    peers: BTreeMap<PeerId, Peer>,
    waker: Waker,
    report: SetupReport,
    /// Who looks for holes.
    surveyor: Surveyor,
    no_iowait: bool,
    /// The kernel can wait for several completions for a while, and then for one.
    has_min_wait: bool,
    /// Sends in the submission queue.
    sends_queued: u32,
    /// Tells this ring's files from another's.
    number: u32,
    /// Sends in flight that may send from files.
    late_sends: Vec<u64>,
    _not_send: PhantomData<*mut ()>,
}

struct Peer {
    handle: PeerHandle,
    /// Of the latest wake.
    token: Token,
    /// A wake is in the submission queue already.
    queued: bool,
}

/// A pool whose mapping is registered with the ring, in pieces of up to a GiB, the most that one registered buffer
/// may have.
struct RegisteredPool {
    pool: Arc<Pool>,
    first_index: u16,
    slots_per_index: u32,
}

impl UringRing {
    /// What the ring could and could not have.
    pub fn report(&self) -> &SetupReport {
        &self.report
    }

    /// On which NUMA nodes its receive buffers and registered memory are, by sample.
    ///
    /// # Errors
    /// As the kernel answers; see [`crate::numa`].
    pub fn pages(&self) -> std::io::Result<Pages> {
        let mut pages = self.receive.pages()?;
        for registered in self.registered.iter() {
            pages.add(&registered.pool.pages()?);
        }
        Ok(pages)
    }

    /// A handle by which other shards wake this one; see [`UringRing::connect_peer`].
    ///
    /// # Errors
    /// EMFILE or ENFILE.
    #[allow(unsafe_code, reason = "the io-uring crate gives a bare descriptor number")]
    pub fn peer_handle(&self) -> std::io::Result<PeerHandle> {
        // SAFETY: the descriptor is open as long as the ring, which is borrowed during the call.
        let ring = unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) };
        Ok(PeerHandle { ring: ring.try_clone_to_owned()? })
    }

    /// Makes another shard's ring known, for [`Operation::Wake`].
    pub fn connect_peer(&mut self, peer: PeerId, handle: PeerHandle) {
        self.peers.insert(peer, Peer { handle, token: Token(0), queued: false });
    }

    /// Wakes this shard from any thread.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The registered index of a buffer, if its pool is registered with this ring.
    fn registered_index(&self, buffer: &Buffer) -> Option<u16> {
        let pool = self.registered.iter().find(|registered| Arc::ptr_eq(&registered.pool, buffer.pool()))?;
        u16::try_from(u32::from(pool.first_index) + buffer.slot() / pool.slots_per_index).ok()
    }

    /// Queues the completion of something that was done inline.
    fn finish_inline(&mut self, token: Token, event: Event) {
        self.ready.push_back(Completion { token, event });
    }
}

impl Ring for UringRing {
    fn push(&mut self, token: Token, operation: Operation) -> Result<(), Operation> {
        self.push_operation(token, operation)
    }

    fn at_once(&mut self, operation: Operation) -> Result<Event, Operation> {
        self.do_at_once(operation)
    }

    fn read_for_sending(&mut self, operation: Operation) -> Result<Event, Operation> {
        self.do_read_for_sending(operation)
    }

    fn submit(&mut self, wait: Wait) -> Result<(), Errno> {
        self.receive.reclaim();
        self.submit_and_wait(wait)
    }

    fn has_news(&mut self) -> bool {
        if !self.ready.is_empty() || !self.ring.completion().is_empty() {
            return true;
        }
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    fn reap(&mut self, batch: &mut Vec<Completion>) -> usize {
        self.reap_into(batch)
    }

    fn recycle(&mut self, chunk: Chunk) {
        self.receive.recycle(chunk.into_buffer());
    }

    fn adopt(&mut self, socket: LooseSocket) -> Result<SocketId, (Errno, LooseSocket)> {
        self.adopt_socket(socket)
    }

    fn take_file(&mut self, file: LooseFile) -> Result<FileId, Errno> {
        let file = file.into_holder().map_err(|_| Errno(libc::EINVAL))?;
        self.add_file(file).map_err(|_| Errno(libc::ENFILE))
    }

    fn drop_file(&mut self, file: FileId) {
        drop(self.remove_file(file));
    }
}

impl std::fmt::Debug for UringRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UringRing").field("fd", &self.ring.as_raw_fd()).field("report", &self.report).finish()
    }
}
