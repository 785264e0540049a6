//! Random bytes for challenges: the kernel's.

use rustix::rand::{GetRandomFlags, getrandom};
use stampede_session::{Entropy, NoEntropy};

/// The kernel's random numbers. It waits for nothing: early after the machine's start there may be none.
#[derive(Clone, Copy, Debug)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        // A request of at most 256 bytes is never cut short by a signal; a challenge is shorter.
        let filled = getrandom(&mut *bytes, GetRandomFlags::NONBLOCK).map_err(|_| NoEntropy)?;
        if filled == bytes.len() { Ok(()) } else { Err(NoEntropy) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_alike() {
        let [mut a, mut b] = [[0; 33]; 2];
        SystemEntropy.fill(&mut a).unwrap();
        SystemEntropy.fill(&mut b).unwrap();
        assert_ne!(a, b);
    }
}
