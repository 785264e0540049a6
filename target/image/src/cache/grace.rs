//! When nobody can still be about to use what is not published any more.

use smallvec::SmallVec;
use std::sync::atomic::{AtomicU64, Ordering};

/// A cache line of its own for each shard.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Turns(AtomicU64);

/// Each shard counts its turns here: odd while it is in one, even between two. What was unpublished before a shard's turn
/// began is not found in that turn; so once every shard has left the turn that it was in, whoever found it before has
/// pinned it or has forgotten it.
#[derive(Debug)]
pub struct Grace {
    turns: Box<[Turns]>,
}

/// Where the shards were at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(SmallVec<[u64; 8]>);

impl Grace {
    /// For so many shards, none of them in a turn.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        Self { turns: (0..shards).map(|_| Turns::default()).collect() }
    }

    /// A shard begins a turn: from here on it may look up. One that is in a turn begins the next one, which must not
    /// rely on what it looked up before.
    #[inline]
    pub fn enter(&self, shard: u16) {
        self.step(shard, 1);
    }

    /// A shard ends its turn: what it looked up and still wants, it has pinned.
    #[inline]
    pub fn leave(&self, shard: u16) {
        self.step(shard, 0);
    }

    fn step(&self, shard: u16, odd: u64) {
        if let Some(Turns(count)) = self.turns.get(usize::from(shard)) {
            let now = count.load(Ordering::Relaxed);
            // A swap and not a store: on x86 too no later load of this thread may come before it.
            count.swap(now + 1 + u64::from(now & 1 == odd), Ordering::SeqCst);
        }
    }

    /// Where the shards are now. Take it after unpublishing.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.turns.iter().map(|Turns(count)| count.load(Ordering::SeqCst)).collect())
    }

    /// Whether every shard has left the turn that it was in then.
    #[must_use]
    pub fn is_over(&self, since: &Snapshot) -> bool {
        let turns = self.turns.iter().zip(&since.0);
        turns.into_iter().all(|(Turns(count), then)| then & 1 == 0 || count.load(Ordering::SeqCst) != *then)
    }
}
