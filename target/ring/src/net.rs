//! Listening sockets, and what every connection is set up with.
//!
//! Keepalive and the user timeout are set on the listener: Linux copies them to each accepted socket, as a test
//! here verifies. That saves four calls per connection.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// TCP keepalive: a peer that does not answer is dropped after `idle + count * interval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe; whole seconds, at least 1.
    pub idle: Duration,
    /// Between probes; whole seconds, at least 1.
    pub interval: Duration,
    /// Probes without an answer until the connection is dropped.
    pub count: u32,
}

impl Default for Keepalive {
    /// Dead peers are found after about 40 seconds.
    fn default() -> Self {
        Self { idle: Duration::from_secs(20), interval: Duration::from_secs(5), count: 4 }
    }
}

/// How to listen, and what accepted connections inherit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenConfig {
    /// Connections that wait for their accept; the kernel caps it at net.core.somaxconn.
    pub backlog: u16,
    /// Several listeners on one address, one per shard (SO_REUSEPORT).
    pub reuse_port: bool,
    /// Keepalive of accepted connections.
    pub keepalive: Keepalive,
    /// How long sent bytes may stay unacknowledged (TCP_USER_TIMEOUT); milliseconds count, zero means the
    /// system's default.
    pub user_timeout: Duration,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            backlog: 4096,
            reuse_port: false,
            keepalive: Keepalive::default(),
            user_timeout: Duration::from_secs(40),
        }
    }
}

/// Why listening failed, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another socket has the address.
    #[error(
        "cannot listen on {address}: the port is in use. Stop the other program (`ss -ltnp` names it) or \
             choose another port"
    )]
    InUse {
        /// Where.
        address: SocketAddr,
    },
    /// No interface has the address.
    #[error(
        "cannot listen on {address}: this machine has no such address. Use one that `ip address` shows, or \
             0.0.0.0 or [::] for all"
    )]
    NotAvailable {
        /// Where.
        address: SocketAddr,
    },
    /// The port is privileged.
    #[error(
        "cannot listen on {address}: no permission. Ports below 1024 need CAP_NET_BIND_SERVICE; otherwise a \
             security policy forbids it"
    )]
    NoPermission {
        /// Where.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {address}: {call} failed: {source}")]
    Other {
        /// Where.
        address: SocketAddr,
        /// The system call.
        call: &'static str,
        /// Its answer.
        source: io::Error,
    },
}

/// Opens a listening socket.
///
/// # Errors
/// See [`ListenError`].
pub fn listen(address: SocketAddr, config: &ListenConfig) -> Result<TcpListener, ListenError> {
    let failed = |call: &'static str| move |errno: Errno| listen_error(address, call, errno);
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))
        .map_err(failed("socket"))?;
    sockopt::set_socket_reuseaddr(&socket, true).map_err(failed("setsockopt(SO_REUSEADDR)"))?;
    if config.reuse_port {
        sockopt::set_socket_reuseport(&socket, true).map_err(failed("setsockopt(SO_REUSEPORT)"))?;
    }
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true).map_err(failed("setsockopt(IPV6_V6ONLY)"))?;
    }
    set_inherited(socket.as_fd(), config).map_err(failed("setsockopt(TCP keepalive)"))?;
    rustix::net::bind(&socket, &address).map_err(failed("bind"))?;
    rustix::net::listen(&socket, i32::from(config.backlog)).map_err(failed("listen"))?;
    Ok(TcpListener::from(socket))
}

/// What an accepted socket inherits from its listener.
fn set_inherited(socket: BorrowedFd<'_>, config: &ListenConfig) -> Result<(), Errno> {
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, config.keepalive.idle)?;
    sockopt::set_tcp_keepintvl(socket, config.keepalive.interval)?;
    sockopt::set_tcp_keepcnt(socket, config.keepalive.count)?;
    let timeout_ms = u32::try_from(config.user_timeout.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(socket, timeout_ms)
}

fn listen_error(address: SocketAddr, call: &'static str, errno: Errno) -> ListenError {
    match errno {
        Errno::ADDRINUSE => ListenError::InUse { address },
        Errno::ADDRNOTAVAIL => ListenError::NotAvailable { address },
        Errno::ACCESS | Errno::PERM => ListenError::NoPermission { address },
        other => ListenError::Other { address, call, source: other.into() },
    }
}

/// The peer's and our own address of a freshly accepted connection.
pub(crate) fn addresses(socket: &OwnedFd) -> Result<(SocketAddr, SocketAddr), Errno> {
    let peer = rustix::net::getpeername(socket)?.ok_or(Errno::NOTCONN)?;
    let local = rustix::net::getsockname(socket)?;
    let convert = |any: rustix::net::SocketAddrAny| SocketAddr::try_from(any).map_err(|_| Errno::AFNOSUPPORT);
    Ok((convert(peer)?, convert(local)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn loopback() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn accepted_sockets_inherit_the_set_up() {
        let config = ListenConfig { user_timeout: Duration::from_millis(12_345), ..ListenConfig::default() };
        let listener = listen(loopback(), &config).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(sockopt::tcp_nodelay(&accepted).unwrap());
        assert!(sockopt::socket_keepalive(&accepted).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&accepted).unwrap(), config.keepalive.idle);
        assert_eq!(sockopt::tcp_keepintvl(&accepted).unwrap(), config.keepalive.interval);
        assert_eq!(sockopt::tcp_keepcnt(&accepted).unwrap(), config.keepalive.count);
        assert_eq!(sockopt::tcp_user_timeout(&accepted).unwrap(), 12_345);
    }

    #[test]
    fn addresses_are_both_ends() {
        let listener = listen(loopback(), &ListenConfig::default()).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let (peer, local) = addresses(&OwnedFd::from(accepted)).unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert_eq!(local, listener.local_addr().unwrap());
    }

    #[test]
    fn an_address_in_use_is_said_so() {
        let first = listen(loopback(), &ListenConfig::default()).unwrap();
        let error = listen(first.local_addr().unwrap(), &ListenConfig::default()).unwrap_err();
        assert!(matches!(error, ListenError::InUse { .. }), "{error}");
        assert!(error.to_string().contains("in use"), "{error}");
    }

    #[test]
    fn reuse_port_shares_an_address() {
        let config = ListenConfig { reuse_port: true, ..ListenConfig::default() };
        let first = listen(loopback(), &config).unwrap();
        listen(first.local_addr().unwrap(), &config).unwrap();
    }

    #[test]
    fn an_address_of_another_machine_is_said_so() {
        let error = listen("192.0.2.1:0".parse().unwrap(), &ListenConfig::default()).unwrap_err();
        assert!(matches!(error, ListenError::NotAvailable { .. }), "{error}");
    }
}
