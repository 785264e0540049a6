//! The listening sockets: one per address and shard, and which of an address's sockets gets a connection.

use stampede_control::config::SteeringMode;
use stampede_ring::net::{ListenConfig, ListenError, listen as open};
use stampede_steer::reuseport::{Portal, SteerError, Steering};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};

/// All listening sockets.
pub(crate) struct Listeners {
    /// By shard.
    pub(crate) by_shard: Vec<Vec<TcpListener>>,
    /// The addresses, with real ports where 0 was asked for.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// Opens them all.
///
/// # Errors
/// An address cannot be listened on.
pub(crate) fn listen(addresses: &[SocketAddr], shards: usize) -> Result<Listeners, ListenError> {
    let mut listeners =
        Listeners { by_shard: (0..shards).map(|_| Vec::new()).collect(), addresses: Vec::new() };
    for address in addresses {
        let alone = open(*address, &ListenConfig::default())?;
        let local = alone.local_addr().map_err(|source| ListenError::Other {
            address: *address,
            call: "getsockname",
            source,
        })?;
        listeners.addresses.push(local);
        if let [only] = listeners.by_shard.as_mut_slice() {
            only.push(alone);
            continue;
        }
        // Sockets that share a port would also share it with another stampede: only the one opened alone, and closed
        // just now, tells that nobody else has it.
        drop(alone);
        for shard in &mut listeners.by_shard {
            shard.push(open(local, &ListenConfig { reuse_port: true, ..ListenConfig::default() })?);
        }
    }
    Ok(listeners)
}

impl Listeners {
    /// Sets up which shard gets a connection. `cores` are the shards'.
    ///
    /// # Errors
    /// Only when it must be by CPU, and cannot.
    pub(crate) fn steer(&self, mode: SteeringMode, cores: &[u16]) -> Result<Steering, SteerError> {
        if self.by_shard.len() == 1 {
            return Ok(Steering::one_shard());
        }
        if mode == SteeringMode::Plain {
            return Ok(Steering::plain("it was asked for"));
        }
        let sockets: Vec<Vec<BorrowedFd<'_>>> = (0..self.addresses.len())
            .map(|at| self.by_shard.iter().filter_map(|shard| shard.get(at)).map(AsFd::as_fd).collect())
            .collect();
        let portals = self.addresses.iter().zip(&sockets);
        let portals: Vec<Portal<'_>> =
            portals.map(|(address, listeners)| Portal { address: *address, listeners }).collect();
        match Steering::by_cpu(cores, &portals) {
            Err(error) if mode == SteeringMode::Auto => Ok(Steering::plain(error.to_string())),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_listens_on_every_address_and_nobody_else_may() {
        for shards in [1, 3] {
            let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
            let listeners = listen(&[any, any], shards).unwrap();
            assert_eq!(listeners.by_shard.len(), shards);
            assert!(listeners.by_shard.iter().all(|of_shard| of_shard.len() == 2));
            assert!(listeners.addresses.iter().all(|address| address.port() != 0));
            assert!(matches!(listen(&listeners.addresses, 1), Err(ListenError::InUse { .. })));
            assert!(matches!(listen(&listeners.addresses, 2), Err(ListenError::InUse { .. })));
        }
    }
}
