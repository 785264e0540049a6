//! Numbers drawn by a seed (splitmix64).

pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        // Half of them easy to compress; never zeros.
        let byte = (self.next() % 255) as u8 + 1;
        if self.below(2) == 0 {
            return vec![byte; length];
        }
        (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(length).collect()
    }
}

/// The seeds of a test: `short` of them, or what `QCOW2_SEEDS` says.
pub fn seeds(short: u64) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("QCOW2_SEEDS") else { return 0..short };
    match text.split_once('+') {
        Some((from, count)) => {
            let from = from.parse::<u64>().unwrap();
            from..from + count.parse::<u64>().unwrap()
        }
        None => 0..text.parse().unwrap(),
    }
}
