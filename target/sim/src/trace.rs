//! A running hash of everything that crossed the seam.

/// A running 64-bit hash: two runs with equal hashes crossed the seam with the same operations and completions in
/// the same order at the same times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceHash(u64);

impl Default for TraceHash {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl TraceHash {
    /// The hash so far.
    pub fn value(self) -> u64 {
        self.0
    }

    /// Mixes a number in.
    pub fn mix(&mut self, value: u64) {
        let mut x = self.0.rotate_left(23) ^ value;
        x = x.wrapping_mul(0x9fb2_1c65_1e98_df25);
        self.0 = x ^ (x >> 29);
    }

    /// Mixes bytes in.
    pub fn mix_bytes(&mut self, bytes: &[u8]) {
        self.mix(bytes.len() as u64);
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.mix(u64::from_le_bytes(word.try_into().expect("a chunk of 8 bytes")));
        }
        for byte in words.remainder() {
            self.mix(u64::from(*byte));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_content_matter() {
        let hash = |parts: &[&[u8]]| {
            let mut hash = TraceHash::default();
            parts.iter().for_each(|part| hash.mix_bytes(part));
            hash.value()
        };
        assert_eq!(hash(&[b"one", b"two"]), hash(&[b"one", b"two"]));
        assert_ne!(hash(&[b"one", b"two"]), hash(&[b"two", b"one"]));
        assert_ne!(hash(&[b"one", b"two"]), hash(&[b"onet", b"wo"]));
    }
}
