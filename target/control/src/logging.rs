//! Bounds on how much one peer can make us log.

use std::collections::BTreeMap;

/// Peers that are counted at once; beyond it the one whose window began first is forgotten.
const PEERS_MAX: usize = 1024;

/// Lets each peer, known by a `K` (its address, or a name), cause so many log lines per window, and counts what was
/// left out.
#[derive(Debug)]
pub struct RateLimit<K> {
    /// Lines per window.
    burst: u32,
    /// Length of a window, in nanoseconds.
    window_ns: u64,
    peers: BTreeMap<K, Window>,
}

#[derive(Debug)]
struct Window {
    began_ns: u64,
    lines: u32,
    left_out: u64,
}

/// Whether to write a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// Write it.
    Write {
        /// So many lines of this peer were left out since the last that was written.
        left_out: u64,
    },
    /// Leave it out.
    LeaveOut,
}

impl<K: Ord + Clone> RateLimit<K> {
    /// `burst` lines of each peer per `window_ns` nanoseconds.
    #[must_use]
    pub fn new(burst: u32, window_ns: u64) -> Self {
        Self { burst, window_ns, peers: BTreeMap::new() }
    }

    /// Whether an event of this peer may be logged now.
    pub fn check(&mut self, peer: K, now_ns: u64) -> Allowance {
        if !self.peers.contains_key(&peer) && self.peers.len() >= PEERS_MAX {
            let oldest =
                self.peers.iter().min_by_key(|(_, window)| window.began_ns).map(|(peer, _)| peer.clone());
            if let Some(oldest) = oldest {
                self.peers.remove(&oldest);
            }
        }
        let window = self.peers.entry(peer).or_insert(Window { began_ns: now_ns, lines: 0, left_out: 0 });
        if now_ns.saturating_sub(window.began_ns) >= self.window_ns {
            *window = Window { began_ns: now_ns, lines: 0, left_out: window.left_out };
        }
        if window.lines >= self.burst {
            window.left_out = window.left_out.saturating_add(1);
            return Allowance::LeaveOut;
        }
        window.lines += 1;
        Allowance::Write { left_out: std::mem::take(&mut window.left_out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn peer(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(n))
    }

    #[test]
    fn a_noisy_peer_is_cut_and_accounted_for() {
        let mut limit = RateLimit::new(2, 100);
        assert_eq!(limit.check(peer(1), 0), Allowance::Write { left_out: 0 });
        assert_eq!(limit.check(peer(1), 1), Allowance::Write { left_out: 0 });
        assert_eq!(limit.check(peer(1), 2), Allowance::LeaveOut);
        assert_eq!(limit.check(peer(1), 3), Allowance::LeaveOut);
        assert_eq!(limit.check(peer(2), 3), Allowance::Write { left_out: 0 }, "others are not disturbed");
        assert_eq!(limit.check(peer(1), 100), Allowance::Write { left_out: 2 });
        assert_eq!(limit.check(peer(1), 101), Allowance::Write { left_out: 0 });
    }

    #[test]
    fn memory_is_bounded() {
        let mut limit = RateLimit::new(1, 100);
        for n in 0..10_000 {
            limit.check(peer(n), u64::from(n));
        }
        assert_eq!(limit.peers.len(), PEERS_MAX);
    }
}
