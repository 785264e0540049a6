//! Connecting without waiting.
//!
//! The socket is set to non-blocking only for `connect`. Back in blocking mode, as the ring wants it, its first send
//! waits in the ring until the connection stands, and fails with the reason when it cannot be made.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// Why connecting could not even begin.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A system call failed.
    #[error("cannot connect to {portal}: {call} failed: {source}")]
    System {
        /// Where to.
        portal: SocketAddr,
        /// The system call.
        call: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// The ring has no place for a further socket.
    #[error("no place is left for a further connection: {0}")]
    Ring(#[from] stampede_ring::uring::AddError),
}

/// A socket on its way to `portal`.
///
/// # Errors
/// See [`ConnectError::System`]: no descriptors, no route, no local port.
pub(crate) fn start(portal: SocketAddr) -> Result<OwnedFd, ConnectError> {
    let failed =
        |call: &'static str| move |errno: Errno| ConnectError::System { portal, call, source: errno.into() };
    let family = if portal.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))
        .map_err(failed("socket"))?;
    sockopt::set_tcp_nodelay(&socket, true).map_err(failed("setsockopt(TCP_NODELAY)"))?;
    match rustix::net::connect(&socket, &portal) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(errno) => return Err(failed("connect")(errno)),
    }
    rustix::io::ioctl_fionbio(&socket, false).map_err(failed("ioctl(FIONBIO)"))?;
    Ok(socket)
}
