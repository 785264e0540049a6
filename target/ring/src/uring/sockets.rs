//! The ring's sockets: taking them in, and letting go of them.

use super::UringRing;
use super::config::AddError;
use super::table::Target;
use crate::net;
use crate::seam::{Accepted, Errno, SocketId};
use std::os::fd::{AsRawFd, OwnedFd};

pub(super) struct Socket {
    fd: OwnedFd,
    target: Target,
}

impl UringRing {
    /// Takes a listening socket in, for [`crate::Operation::Accept`].
    ///
    /// # Errors
    /// See [`AddError`].
    pub fn add_listener(&mut self, listener: impl Into<OwnedFd>) -> Result<SocketId, AddError> {
        self.add_socket(listener)
    }

    /// Takes a connected socket in. It must be a blocking one: a socket with O_NONBLOCK makes io_uring fail with
    /// EAGAIN where it should wait.
    ///
    /// # Errors
    /// See [`AddError`].
    pub fn add_socket(&mut self, socket: impl Into<OwnedFd>) -> Result<SocketId, AddError> {
        let fd = socket.into();
        let full = AddError::Full { table: "sockets", limit: self.sockets.max() };
        let Some(index) = self.sockets.next_index() else {
            return Err(full);
        };
        let target = self.register_descriptor(index, fd.as_raw_fd());
        self.sockets.insert(Socket { fd, target }).map(SocketId).ok_or(full)
    }

    /// Lets go of a socket without closing it, to move it to another ring. The caller has reaped the last
    /// completion of its operations.
    pub fn remove_socket(&mut self, socket: SocketId) -> Option<OwnedFd> {
        let (index, Socket { fd, target }) = self.sockets.remove(socket.0)?;
        self.unregister_descriptor(index, target);
        Some(fd)
    }

    pub(super) fn socket_target(&self, socket: SocketId) -> Option<Target> {
        self.sockets.get(socket.0).map(|socket| socket.target)
    }

    /// Shuts down and closes, without waiting: SO_LINGER is not set, so the kernel sends what is left by itself.
    pub(super) fn close_socket(&mut self, socket: SocketId) -> Result<(), Errno> {
        let fd = self.remove_socket(socket).ok_or(Errno(libc::EBADF))?;
        // A connection that the peer has reset is not connected any more, which is no failure of closing it.
        let _ = rustix::net::shutdown(&fd, rustix::net::Shutdown::Both);
        Ok(())
    }

    /// Takes in what an accept brought. A peer that is gone already, or a full table, costs that connection only.
    pub(super) fn take_accepted(&mut self, fd: OwnedFd) -> Result<Accepted, Errno> {
        let (peer, local) = net::addresses(&fd).map_err(|_| Errno(libc::ECONNABORTED))?;
        let socket = self.add_socket(fd).map_err(|_| Errno(libc::ENFILE))?;
        Ok(Accepted { socket, peer, local })
    }

    /// Puts a descriptor into the registered table where there is one and it takes it.
    pub(super) fn register_descriptor(&self, index: u32, fd: i32) -> Target {
        if self.has_file_table && self.ring.submitter().register_files_update(index, &[fd]).is_ok() {
            Target::Registered(index)
        } else {
            Target::Plain(fd)
        }
    }

    pub(super) fn unregister_descriptor(&self, index: u32, target: Target) {
        if matches!(target, Target::Registered(_)) {
            // It can only fail for an index beyond the table.
            let _ = self.ring.submitter().register_files_update(index, &[-1]);
        }
    }
}
