//! The ring's sockets: taking them in, and letting go of them.

use super::UringRing;
use super::config::AddError;
use super::table::Target;
use crate::loose::LooseSocket;
use crate::net;
use crate::seam::{Accepted, Errno, SocketId};
use rustix::net::sockopt;
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
        let limit = self.sockets.max();
        self.insert_socket(socket.into()).map_err(|_| AddError::Full { table: "sockets", limit })
    }

    /// Lets go of a socket without closing it.
    fn remove_socket(&mut self, socket: SocketId) -> Option<OwnedFd> {
        let (index, Socket { fd, target }) = self.sockets.remove(socket.0)?;
        self.unregister_descriptor(index, target);
        Some(fd)
    }

    /// See [`crate::Operation::Release`]. The ring owns a descriptor of each socket beside its entry in the
    /// registered table, so nothing has to be asked of the kernel to get one.
    pub(super) fn release_socket(&mut self, socket: SocketId) -> Result<LooseSocket, Errno> {
        let held = self.sockets.get(socket.0).ok_or(Errno(libc::EBADF))?;
        if sockopt::socket_acceptconn(&held.fd).map_err(|errno| Errno(errno.raw_os_error()))? {
            return Err(Errno(libc::EINVAL));
        }
        self.remove_socket(socket).map(LooseSocket::new).ok_or(Errno(libc::EBADF))
    }

    /// See [`crate::Ring::adopt`].
    pub(super) fn adopt_socket(&mut self, socket: LooseSocket) -> Result<SocketId, (Errno, LooseSocket)> {
        let fd = socket.into_holder().map_err(|other| (Errno(libc::EINVAL), other))?;
        self.insert_socket(fd).map_err(|fd| (Errno(libc::ENFILE), LooseSocket::new(fd)))
    }

    /// Puts a descriptor into the table; a full one hands it back.
    fn insert_socket(&mut self, fd: OwnedFd) -> Result<SocketId, OwnedFd> {
        let Some(index) = self.sockets.next_index() else { return Err(fd) };
        let target = self.register_descriptor(index, fd.as_raw_fd());
        self.sockets.insert(Socket { fd, target }).map(SocketId).map_err(|socket| socket.fd)
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
