//! One shard's part of the cache: the blocks that have their home there.

use super::eviction::Eviction;
use super::{BlockKey, Grace, Heat, Published, Snapshot};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// The answer to [`Home::ask`].
#[derive(Debug, PartialEq, Eq)]
pub enum Ask<W> {
    /// It has been published meanwhile: look it up.
    Published,
    /// It is being read; [`Home::done`] names the waiter.
    Waits,
    /// Read it into this slot, then call [`Home::done`], which names the waiter.
    Read {
        /// A slot that nobody uses.
        slot: u32,
    },
    /// There is no memory for it, or no such golden or block: read it for yourself, past the cache.
    Full(W),
}

/// The answer to [`Home::prefetch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefetch {
    /// Read it into this slot, then call [`Home::done`].
    Read {
        /// A slot that nobody uses.
        slot: u32,
    },
    /// It is there, or on its way.
    There,
    /// All memory that is not for those who wait is in use.
    Full,
    /// There is no such golden, or no such block of it.
    Unknown,
}

/// What was read ahead of a golden, in blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// Read ahead, in all.
    pub read: u64,
    /// Of these, not used yet, and in memory.
    pub unused: u64,
    /// Of these, gone without having been used.
    pub wasted: u64,
}

/// A golden whose blocks have their home here.
#[derive(Debug)]
struct Golden {
    published: Arc<Published>,
    /// Of these figures [`Ahead::unused`] is counted when somebody asks.
    ahead: Ahead,
}

/// A read under way.
#[derive(Debug)]
struct Fetch<W> {
    slot: u32,
    waiters: Vec<W>,
    /// Nobody had asked for it.
    ahead: bool,
    /// Its golden went away meanwhile.
    orphaned: bool,
}

/// A slot whose block is not published any more.
#[derive(Debug)]
struct Retiring {
    slot: u32,
    since: Snapshot,
    quiet: bool,
}

/// See the module. `W` is whoever waits for a block: a job of some shard.
#[derive(Debug)]
pub struct Home<W> {
    grace: Arc<Grace>,
    heat: Arc<Heat>,
    goldens: BTreeMap<u32, Golden>,
    free: Vec<u32>,
    fetching: BTreeMap<BlockKey, Fetch<W>>,
    eviction: Eviction,
    retiring: VecDeque<Retiring>,
    /// Slots that are kept free, or are on their way to be, so that a miss seldom waits for an eviction.
    reserve: usize,
}

impl<W> Home<W> {
    /// A home that has these slots of the cache's memory.
    #[must_use]
    pub fn new(slots: Range<u32>, heat: Arc<Heat>, grace: Arc<Grace>) -> Self {
        let count = slots.end.saturating_sub(slots.start);
        Self {
            grace,
            heat,
            goldens: BTreeMap::new(),
            // Taken from the end: low slots first, so that memory is touched in order.
            free: slots.rev().collect(),
            fetching: BTreeMap::new(),
            eviction: Eviction::new(count),
            retiring: VecDeque::new(),
            reserve: (count as usize / 16).max(2).min(count as usize / 2),
        }
    }

    /// Makes a golden known.
    pub fn add_golden(&mut self, golden: u32, published: Arc<Published>) {
        self.goldens.insert(golden, Golden { published, ahead: Ahead::default() });
    }

    /// A golden is not used any more: all its blocks go.
    pub fn remove_golden(&mut self, golden: u32) {
        let Some(Golden { published, .. }) = self.goldens.remove(&golden) else { return };
        for (slot, key) in self.eviction.remove_golden(golden) {
            published.set(key.block, None);
            self.retire(slot);
        }
        let reads = self.fetching.iter_mut().filter(|(key, _)| key.golden == golden);
        reads.for_each(|(_, fetch)| fetch.orphaned = true);
    }

    /// Somebody wants a block that he did not find.
    pub fn ask(&mut self, key: BlockKey, waiter: W) -> Ask<W> {
        let Some(published) = self.known(key) else { return Ask::Full(waiter) };
        if published.get(key.block).is_some() {
            return Ask::Published;
        }
        if let Some(fetch) = self.fetching.get_mut(&key) {
            fetch.waiters.push(waiter);
            return Ask::Waits;
        }
        match self.free.pop() {
            Some(slot) => {
                self.fetching
                    .insert(key, Fetch { slot, waiters: vec![waiter], ahead: false, orphaned: false });
                Ask::Read { slot }
            }
            None => Ask::Full(waiter),
        }
    }

    /// Nobody waits for a block, but somebody will. It gets memory only as long as that lets no other block go: what is
    /// kept free is for those who wait.
    pub fn prefetch(&mut self, key: BlockKey) -> Prefetch {
        let Some(published) = self.known(key) else { return Prefetch::Unknown };
        if published.get(key.block).is_some() || self.fetching.contains_key(&key) {
            return Prefetch::There;
        }
        if self.free.len() <= self.reserve {
            return Prefetch::Full;
        }
        let Some(slot) = self.free.pop() else { return Prefetch::Full };
        self.fetching.insert(key, Fetch { slot, waiters: Vec::new(), ahead: true, orphaned: false });
        Prefetch::Read { slot }
    }

    fn known(&self, key: BlockKey) -> Option<&Arc<Published>> {
        let golden = self.goldens.get(&key.golden)?;
        Some(&golden.published).filter(|published| key.block < published.blocks())
    }

    /// A block was read (`ok`), or could not be. Whoever waits for it: all of them look it up, or hear of the error.
    /// `None` for one that was not asked to be read.
    pub fn done(&mut self, key: BlockKey, ok: bool) -> Option<Vec<W>> {
        let Fetch { slot, waiters, ahead, orphaned } = self.fetching.remove(&key)?;
        match self.goldens.get_mut(&key.golden).filter(|_| ok && !orphaned) {
            Some(golden) => {
                match ahead && waiters.is_empty() {
                    true => self.heat.set_unused(slot),
                    false => self.heat.set(slot, 0),
                }
                golden.ahead.read += u64::from(ahead);
                golden.published.set(key.block, Some(slot));
                self.eviction.insert(slot, key);
            }
            // It was never published: nobody can have it.
            None => self.free.push(slot),
        }
        Some(waiters)
    }

    /// Frees what nobody uses any more, and unpublishes more when free slots are few. `is_pinned` says of a slot whether
    /// some shard has a pin on it. Call it now and then; true when there is more to free that others still hold.
    pub fn tend(&mut self, is_pinned: impl Fn(u32) -> bool) -> bool {
        for _ in 0..self.retiring.len() {
            let Some(mut next) = self.retiring.pop_front() else { break };
            next.quiet = next.quiet || self.grace.is_over(&next.since);
            // In this order: after the grace no new pin can come.
            if next.quiet && !is_pinned(next.slot) {
                self.free.push(next.slot);
            } else {
                self.retiring.push_back(next);
            }
        }
        while self.free.len() + self.retiring.len() < self.reserve && self.eviction.len() > 0 {
            let Some((slot, key)) = self.eviction.choose(&self.heat) else { break };
            if let Some(golden) = self.goldens.get_mut(&key.golden) {
                golden.ahead.wasted += u64::from(self.heat.is_unused(slot));
                golden.published.set(key.block, None);
            }
            self.retire(slot);
        }
        !self.retiring.is_empty()
    }

    /// Whether [`Home::tend`] has something to do.
    #[must_use]
    #[inline]
    pub fn is_due(&self) -> bool {
        !self.retiring.is_empty() || (self.free.len() < self.reserve && self.eviction.len() > 0)
    }

    fn retire(&mut self, slot: u32) {
        self.retiring.push_back(Retiring { slot, since: self.grace.snapshot(), quiet: false });
    }

    /// Whether a block was read ahead, or is being read, and nobody has used it.
    #[must_use]
    pub fn is_unused(&self, key: BlockKey) -> bool {
        if self.fetching.get(&key).is_some_and(|fetch| fetch.ahead && fetch.waiters.is_empty()) {
            return true;
        }
        let slot = self.known(key).and_then(|published| published.get(key.block));
        slot.is_some_and(|slot| self.heat.is_unused(slot))
    }

    /// A golden's blocks in memory, and what was read ahead of it. Looks at all of them.
    #[must_use]
    pub fn figures(&self, golden: u32) -> (u64, Ahead) {
        let ahead = self.goldens.get(&golden).map_or(Ahead::default(), |golden| golden.ahead);
        let (mut resident, mut unused) = (0, 0);
        for slot in self.eviction.slots_of(golden) {
            resident += 1;
            unused += u64::from(self.heat.is_unused(slot));
        }
        (resident, Ahead { unused, ..ahead })
    }

    /// Blocks that are published.
    #[must_use]
    pub fn resident(&self) -> usize {
        self.eviction.len()
    }

    /// Slots that can be read into now.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.len()
    }
}
