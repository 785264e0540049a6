//! Which block goes when memory is wanted: a block that was read once goes before one that was used again.
//!
//! Three queues (S3-FIFO, Yang and others, SOSP 2023). New blocks enter a small queue, a tenth of the memory; at its end those that
//! were used since go on to the main queue, the others go. So a scan of a whole image passes through the small queue and
//! leaves the main one alone. At the end of the main queue a block that was used goes round again, once for each use that
//! its heat counts. Keys of blocks that went from the small queue are remembered for as many blocks as there are: one
//! that comes back by then enters the main queue at once.

use super::{BlockKey, Heat};
use std::collections::{BTreeSet, VecDeque};

/// Uses after its reading that keep a block of the small queue: the one that asked for it is the first.
const USED_AGAIN: u8 = 2;

#[derive(Debug)]
pub(super) struct Eviction {
    small: VecDeque<(u32, BlockKey)>,
    main: VecDeque<(u32, BlockKey)>,
    ghosts: Ghosts,
    small_max: usize,
}

impl Eviction {
    /// For so many blocks.
    pub(super) fn new(blocks: u32) -> Self {
        let blocks = blocks as usize;
        Self {
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts: Ghosts::new(blocks),
            small_max: (blocks / 10).max(1),
        }
    }

    /// Blocks that could be chosen.
    pub(super) fn len(&self) -> usize {
        self.small.len() + self.main.len()
    }

    /// A block was read into a slot.
    pub(super) fn insert(&mut self, slot: u32, key: BlockKey) {
        if self.ghosts.take(key) {
            self.main.push_back((slot, key));
        } else {
            self.small.push_back((slot, key));
        }
    }

    /// Chooses a block and forgets it; `None` when there is none.
    pub(super) fn choose(&mut self, heat: &Heat) -> Option<(u32, BlockKey)> {
        loop {
            if self.small.len() > self.small_max || self.main.is_empty() {
                let (slot, key) = self.small.pop_front()?;
                if heat.get(slot) < USED_AGAIN {
                    self.ghosts.add(key);
                    return Some((slot, key));
                }
                heat.set(slot, 0);
                self.main.push_back((slot, key));
            } else {
                let (slot, key) = self.main.pop_front()?;
                let left = heat.get(slot);
                if left == 0 {
                    return Some((slot, key));
                }
                heat.set(slot, left - 1);
                self.main.push_back((slot, key));
            }
        }
    }

    /// The slots of a golden's blocks.
    pub(super) fn slots_of(&self, golden: u32) -> impl Iterator<Item = u32> + '_ {
        let all = self.small.iter().chain(&self.main);
        all.filter(move |(_, key)| key.golden == golden).map(|(slot, _)| *slot)
    }

    /// Takes out all blocks of a golden.
    pub(super) fn remove_golden(&mut self, golden: u32) -> Vec<(u32, BlockKey)> {
        let mut removed = Vec::new();
        for queue in [&mut self.small, &mut self.main] {
            removed.extend(queue.iter().filter(|(_, key)| key.golden == golden));
            queue.retain(|(_, key)| key.golden != golden);
        }
        self.ghosts.remove_golden(golden);
        removed
    }
}

/// Keys of blocks that have gone, the oldest first to be forgotten.
#[derive(Debug)]
struct Ghosts {
    order: VecDeque<BlockKey>,
    keys: BTreeSet<BlockKey>,
    max: usize,
}

impl Ghosts {
    fn new(max: usize) -> Self {
        Self { order: VecDeque::new(), keys: BTreeSet::new(), max }
    }

    fn add(&mut self, key: BlockKey) {
        if self.keys.insert(key) {
            self.order.push_back(key);
        }
        // Keys that came back are still in the order, so it may run ahead of the set: it is what is bounded.
        while self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }

    fn take(&mut self, key: BlockKey) -> bool {
        self.keys.remove(&key)
    }

    fn remove_golden(&mut self, golden: u32) {
        self.order.retain(|key| key.golden != golden);
        self.keys.retain(|key| key.golden != golden);
    }
}
