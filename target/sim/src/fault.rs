//! The kinds of fault that the world injects, and how often each was.

use std::fmt;

macro_rules! fault_kinds {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A kind of fault (or of rare but legal behaviour) that the world can inject.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum FaultKind {
            $($(#[$doc])* $name,)*
        }

        impl FaultKind {
            /// All kinds, in order.
            pub const ALL: &[FaultKind] = &[$(FaultKind::$name,)*];

            /// The kind's name, for reports.
            pub fn name(self) -> &'static str {
                match self { $(FaultKind::$name => stringify!($name),)* }
            }
        }
    };
}

fault_kinds! {
    /// A read moved fewer bytes than asked; the rest of the buffer is rubbish.
    ShortRead,
    /// A write moved fewer bytes than asked.
    ShortWrite,
    /// A read failed once with EIO.
    ReadError,
    /// A write failed once with EIO, perhaps after it changed some atoms.
    WriteError,
    /// A flush failed with EIO; nothing is promised durable.
    FlushError,
    /// A discard or zero failed with EIO.
    DiscardError,
    /// A range of the disk cannot be read until it is written again.
    BadRange,
    /// A write or zero failed with ENOSPC.
    NoSpace,
    /// A disk operation took very long.
    SlowDisk,
    /// A read or write was done at once, without a completion: as of a file in memory, but not every time.
    AtOnce,
    /// Disk operations completed in another order than they were submitted.
    Reordered,
    /// A read met a write in flight, and saw some of its atoms new and some old.
    TornRead,
    /// A crash lost a whole write that was not flushed.
    CrashLost,
    /// A crash kept some atoms of a write that was not flushed.
    CrashTorn,
    /// A crash met a disk operation in flight.
    CrashInFlight,
    /// A receive brought fewer bytes than had arrived.
    SplitReceive,
    /// A receive ended for want of receive buffers.
    Starved,
    /// A multishot receive ended by itself.
    ReceiveEnded,
    /// A multishot accept ended by itself.
    AcceptEnded,
    /// An accept failed with EMFILE.
    AcceptError,
    /// A send took fewer bytes than offered.
    ShortSend,
    /// A send waited because the socket's buffer was full.
    BlockedSend,
    /// Data arrived late.
    SlowNetwork,
    /// The network reset a connection.
    ConnectionReset,
    /// A cancel ended its target.
    CancelWon,
    /// A cancel's target completed first.
    CancelLost,
    /// A shard was woken for nothing.
    SpuriousWake,
    /// The submission queue was full.
    QueueFull,
    /// Releasing a connection took very long.
    SlowRelease,
    /// A ring had no room for a connection that it was to adopt.
    AdoptFull,
    /// Bytes arrived while no ring had the connection.
    LooseArrival,
    /// A connection ended or was reset while no ring had it.
    LooseEnd,
}

impl FaultKind {
    /// Number of kinds.
    pub const COUNT: usize = Self::ALL.len();

    /// The kinds that only a target meets which moves connections between its rings.
    pub const OF_MOVES: &[FaultKind] =
        &[Self::SlowRelease, Self::AdoptFull, Self::LooseArrival, Self::LooseEnd];

    /// Position in [`FaultKind::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

/// How often each kind of fault was injected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultCounts([u64; FaultKind::COUNT]);

impl Default for FaultCounts {
    fn default() -> Self {
        Self([0; FaultKind::COUNT])
    }
}

impl FaultCounts {
    /// How often this kind was injected.
    pub fn count(&self, kind: FaultKind) -> u64 {
        self.0[kind.index()]
    }

    pub(crate) fn hit(&mut self, kind: FaultKind) {
        self.0[kind.index()] += 1;
    }

    /// Adds another run's counts.
    pub fn add(&mut self, other: &FaultCounts) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// The kinds that were never injected.
    pub fn missing(&self) -> Vec<FaultKind> {
        FaultKind::ALL.iter().copied().filter(|kind| self.count(*kind) == 0).collect()
    }

    /// Every kind with its count.
    pub fn iter(&self) -> impl Iterator<Item = (FaultKind, u64)> {
        FaultKind::ALL.iter().map(|kind| (*kind, self.count(*kind)))
    }
}

impl fmt::Display for FaultCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, count) in self.iter() {
            writeln!(f, "{:>16}  {count}", kind.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_kind() {
        let mut counts = FaultCounts::default();
        assert_eq!(counts.missing().len(), FaultKind::COUNT);
        counts.hit(FaultKind::Starved);
        let mut sum = counts.clone();
        sum.add(&counts);
        assert_eq!(sum.count(FaultKind::Starved), 2);
        assert_eq!(sum.missing().len(), FaultKind::COUNT - 1);
        assert!(sum.to_string().contains("Starved  2"));
    }

    #[test]
    fn order_and_index_agree() {
        for (index, kind) in FaultKind::ALL.iter().enumerate() {
            assert_eq!(kind.index(), index);
        }
    }
}
