//! The seam over io_uring.
//!
//! ```text
//!   push ---> submission queue --submit--> kernel --> completion queue ---> reap
//!     |                                                                      ^
//!     `--- done inline: files in memory, close, bad requests ---> ready -----'
//! ```
//!
//! Each operation in the kernel has an entry in a slab that owns its buffers; the entry's index and a generation
//! are the operation's user data. The ring belongs to the thread that made it.

mod config;
mod wake;

pub use config::{AddError, SetupError, SetupReport, UringConfig};
pub use wake::{PeerHandle, Waker};

use crate::file::{FileTraits, OpenedFile};
use crate::memory::Pool;
use crate::seam::{Chunk, Completion, Errno, FileId, Operation, PeerId, Ring, SocketId, Token, Wait};
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// One shard's ring over io_uring. It is made on, used by, and dropped on the shard's thread.
pub struct UringRing {
    _not_send: PhantomData<*mut ()>,
}

impl UringRing {
    /// Sets a ring up for the calling thread, and registers the pools' memory with it.
    ///
    /// # Errors
    /// See [`SetupError`]. Not being able to register memory or files is none: [`UringRing::report`] tells.
    pub fn new(config: &UringConfig, pools: &[Arc<Pool>]) -> Result<Self, SetupError> {
        let _ = (config, pools);
        Err(SetupError::Config { setting: "implementation", value: 0, rule: "finished" })
    }

    /// What the ring could and could not have.
    pub fn report(&self) -> &SetupReport {
        unfinished()
    }

    /// A handle by which other shards wake this one; see [`UringRing::connect_peer`].
    ///
    /// # Errors
    /// EMFILE or ENFILE.
    pub fn peer_handle(&self) -> std::io::Result<PeerHandle> {
        unfinished()
    }

    /// Makes another shard's ring known, for [`Operation::Wake`].
    pub fn connect_peer(&mut self, peer: PeerId, handle: PeerHandle) {
        let _ = (peer, handle);
    }

    /// Wakes this shard from any thread.
    pub fn waker(&self) -> Waker {
        unfinished()
    }

    /// Takes a file in.
    ///
    /// # Errors
    /// See [`AddError`].
    pub fn add_file(&mut self, file: OpenedFile) -> Result<FileId, AddError> {
        let _ = file;
        unfinished()
    }

    /// What the file is; `None` for an id that is not (or no longer) valid.
    pub fn file_traits(&self, file: FileId) -> Option<&FileTraits> {
        let _ = file;
        None
    }

    /// Lets go of a file and hands it back. The caller has reaped the last completion of its operations.
    pub fn remove_file(&mut self, file: FileId) -> Option<OpenedFile> {
        let _ = file;
        None
    }

    /// Takes a listening socket in, for [`Operation::Accept`].
    ///
    /// # Errors
    /// See [`AddError`].
    pub fn add_listener(&mut self, listener: OwnedFd) -> Result<SocketId, AddError> {
        self.add_socket(listener)
    }

    /// Takes a connected socket in.
    ///
    /// # Errors
    /// See [`AddError`].
    pub fn add_socket(&mut self, socket: OwnedFd) -> Result<SocketId, AddError> {
        let _ = socket;
        unfinished()
    }

    /// Lets go of a socket without closing it, to move it to another ring. The caller has reaped the last
    /// completion of its operations.
    pub fn remove_socket(&mut self, socket: SocketId) -> Option<OwnedFd> {
        let _ = socket;
        None
    }
}

#[allow(clippy::panic, reason = "a placeholder of the first hour")]
fn unfinished<T>() -> T {
    panic!("unfinished")
}

impl Ring for UringRing {
    fn push(&mut self, _token: Token, operation: Operation) -> Result<(), Operation> {
        Err(operation)
    }

    fn submit(&mut self, _wait: Wait) -> Result<(), Errno> {
        unfinished()
    }

    fn reap(&mut self, _batch: &mut Vec<Completion>) -> usize {
        0
    }

    fn chunk(&self, _chunk: &Chunk) -> &[u8] {
        &[]
    }

    fn recycle(&mut self, _chunk: Chunk) {}
}
