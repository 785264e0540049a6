//! Fair shares of what is on its way to clients.
//!
//! A client that reads a lot at once would fill the disk's queue, the socket buffers and each of the shard's turns, and a
//! machine that boots, with one small read after the other, would wait behind all of that each time. So the bytes that a
//! client has asked for and not yet taken are bounded, and the more clients read, the less each may have on its way. What
//! is beyond that waits at its connection, in order. Where all have the same on their way, all get the same done; who wants less
//! than a share never waits.
//!
//! Who has read a moment ago counts as one who reads: a machine that boots thinks between its reads.

/// How long a reader counts after it last read, in nanoseconds; up to twice that.
const PERIOD_NS: u64 = 10_000_000;

/// What a client may always have on its way, in bytes: it keeps a disk busy, and takes a shard some tens of microseconds.
const SHARE_MIN: u64 = 256 << 10;

/// The share of one client. A shard has one such rule; each connection keeps the number of the period in which it read last.
#[derive(Debug)]
pub(crate) struct Shares {
    /// Bytes of a client that is alone.
    most: u64,
    /// Number of the period, from 1 on.
    period: u32,
    ends_ns: u64,
    /// Connections that read in this period, and in the one before.
    readers: u32,
    readers_before: u32,
    share: u64,
}

impl Shares {
    /// `most` is what a client may have on its way that is the only one, in bytes.
    pub(crate) fn new(most: u64) -> Self {
        Self { most, period: 1, ends_ns: 0, readers: 0, readers_before: 0, share: most }
    }

    /// A turn begins.
    #[inline]
    pub(crate) fn tick(&mut self, now_ns: u64) {
        if now_ns >= self.ends_ns {
            self.next_period(now_ns);
        }
    }

    fn next_period(&mut self, now_ns: u64) {
        let idle = now_ns.saturating_sub(self.ends_ns) >= PERIOD_NS;
        self.readers_before = if idle { 0 } else { self.readers };
        self.readers = 0;
        self.period = self.period.wrapping_add(1).max(1);
        self.ends_ns = now_ns.saturating_add(PERIOD_NS);
        self.divide();
    }

    /// Bytes that a connection which is about to read may have on its way. `counted` is in which period it read last, 0 at
    /// first.
    #[inline]
    pub(crate) fn of_reader(&mut self, counted: &mut u32) -> u64 {
        if *counted != self.period {
            *counted = self.period;
            self.readers += 1;
            self.divide();
        }
        self.share
    }

    fn divide(&mut self) {
        // Clients that share get a quarter of what a single one gets: what is on its way is what others wait behind.
        self.share = match self.readers.max(self.readers_before) {
            0 | 1 => self.most,
            readers => (self.most / 4 / u64::from(readers)).max(SHARE_MIN).min(self.most),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn one_client_has_all_and_many_have_equal_shares() {
        let mut shares = Shares::new(16 * MIB);
        shares.tick(1);
        let (mut first, mut second, mut third) = (0, 0, 0);
        assert_eq!((shares.of_reader(&mut first), shares.of_reader(&mut first)), (16 * MIB, 16 * MIB));
        assert_eq!((shares.of_reader(&mut second), shares.of_reader(&mut first)), (2 * MIB, 2 * MIB));
        assert_eq!(shares.of_reader(&mut third), 4 * MIB / 3);
        for _ in 0..100 {
            assert!(shares.of_reader(&mut 0) >= SHARE_MIN);
        }
        assert_eq!(shares.of_reader(&mut first), SHARE_MIN);
    }

    #[test]
    fn who_thinks_between_reads_counts_and_who_has_left_does_not() {
        let mut shares = Shares::new(16 * MIB);
        let (mut bulk, mut boots) = (0, 0);
        shares.tick(0);
        shares.of_reader(&mut boots);
        assert_eq!(shares.of_reader(&mut bulk), 2 * MIB);
        shares.tick(PERIOD_NS);
        assert_eq!(shares.of_reader(&mut bulk), 2 * MIB, "the other one read a moment ago");
        shares.tick(2 * PERIOD_NS);
        assert_eq!(shares.of_reader(&mut bulk), 16 * MIB);
        shares.of_reader(&mut boots);
        shares.tick(9 * PERIOD_NS);
        assert_eq!(shares.of_reader(&mut bulk), 16 * MIB, "nobody read for a while");
    }

    #[test]
    fn a_small_memory_is_never_exceeded() {
        let mut shares = Shares::new(SHARE_MIN / 2);
        shares.tick(0);
        shares.of_reader(&mut 0);
        assert_eq!(shares.of_reader(&mut 0), SHARE_MIN / 2);
    }
}
