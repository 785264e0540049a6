//! The ledger: what of all overlays outlives the process, as words in memory that a killed process leaves as they are.
//!
//! ```text
//!   header │ clones: 16 words each │ arena: a record a slot │ scratch: a record a block │ zeroed runs: 2 words each
//!                    ▲                        │                        │                        │
//!                    └──────── clone number ──┴────────────────────────┴──── by place ──────────┘
//! ```
//! The bytes themselves are in the arena's slots and in scratch space; a *record* says of one slot or block which 4 KiB of
//! which clone's disk it holds, and which of its sectors count. A record is one word, so each store makes a valid state from
//! a valid state, and a process may be killed between any two:
//!
//! - A slot that is new is recorded when its bytes are in it. What it replaces is taken off the record then, and freed only
//!   after that. Whoever finds two records of one place of a disk may take either: no write that came between was answered.
//! - An atomic write of many slots first records them as *pending*; one store (the clone's `COMMIT`) makes them count, and
//!   those that they replace void.
//! - A run of zeroed sectors is recorded before the sectors that it hides lose their bits, and only ever grows while they do.
//! - A clone is *going* before anything of it is given up: then nothing of it is looked at any more.
//!
//! The words are stored to by the shards that own the clones, and by the control thread, which makes and ends clones. Nobody
//! reads them but a start ([`Ledger::rebuild`]). It can be killed as well: what it does is of the same kind.

mod header;
mod rebuild;
mod record;
#[cfg(test)]
pub(crate) mod tests;

pub use header::{Header, Mismatch, Stamp};
pub use rebuild::{Contents, Found};

use record::{Record, State};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Where the parts of the ledger, and the arena's slots, lie in one file: bytes from its begin. What is between them takes no
/// memory, so each part can grow.
pub mod layout {
    /// The header: one page.
    pub const HEADER: u64 = 0;
    /// Words of the header.
    pub const HEADER_WORDS: usize = 512;
    /// The clones.
    pub const CLONES: u64 = 1 << 20;
    /// Words of all clones.
    pub const CLONES_WORDS: usize = super::CLONES_MAX as usize * super::CLONE_WORDS;
    /// The records of the arena's slots, a word each.
    pub const ARENA: u64 = 1 << 30;
    /// The records of the scratch space's blocks, a word each.
    pub const SCRATCH: u64 = 64 << 30;
    /// The runs of zeroed sectors.
    pub const RUNS: u64 = 128 << 30;
    /// Words of the runs of all clones.
    pub const RUNS_WORDS: usize = super::CLONES_MAX as usize * super::RUNS_MAX as usize * 2;
    /// The arena's slots.
    pub const SLOTS: u64 = 256 << 30;
}

/// Clones that a ledger has room for.
pub const CLONES_MAX: u32 = 1 << 16;
/// Runs of zeroed sectors of one clone.
pub const RUNS_MAX: u32 = 16_384;
/// Words of one clone.
const CLONE_WORDS: usize = 16;

/// The words of a clone.
mod clone_word {
    pub(super) const STATE: usize = 0;
    pub(super) const EPOCH: usize = 1;
    pub(super) const OWNER: usize = 2;
    pub(super) const LUN: usize = 3;
    pub(super) const GOLDEN: usize = 4;
    pub(super) const BASE: usize = 6;
    /// Runs of zeroed sectors that were ever in use.
    pub(super) const RUNS: usize = 7;
    /// Not 0: its pending records count.
    pub(super) const COMMIT: usize = 8;
}

/// A clone's state.
const FREE: u64 = 0;
const ALIVE: u64 = 1;
const GOING: u64 = 2;

/// Words that outlive the process.
pub trait Words: fmt::Debug + Send + Sync {
    /// All of them.
    fn all(&self) -> &[AtomicU64];

    /// Those that may be other than 0, in runs.
    fn used(&self) -> Vec<Range<usize>>;

    /// Sees to it that a store to this word, and to those on the same page of 512, cannot fail; false when that is not
    /// possible.
    fn take_memory(&self, word: usize) -> bool;
}

impl Words for Box<[AtomicU64]> {
    fn all(&self) -> &[AtomicU64] {
        self
    }

    fn used(&self) -> Vec<Range<usize>> {
        std::iter::once(0..self.len()).collect()
    }

    fn take_memory(&self, word: usize) -> bool {
        word < self.len()
    }
}

/// A clone's place in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CloneNumber(u32);

/// What a clone is found again by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloneFacts {
    /// Its boot epoch.
    pub epoch: u64,
    /// A digest of its target's and its initiator's names.
    pub owner: u64,
    /// The LUN number.
    pub lun: u16,
    /// A digest of which golden is beneath, and of its state.
    pub golden: [u64; 2],
}

/// What is where an overlay has nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beneath {
    /// The golden.
    #[default]
    Golden,
    /// Zeros.
    Zeros,
    /// The pattern of a slot: [`Contents::pattern`].
    Pattern,
}

/// A slot of the arena or a block of scratch space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spot {
    /// A slot of the arena.
    Arena(u32),
    /// A block of scratch space.
    Scratch(u32),
}

/// The parts of a ledger; see [`layout`].
#[derive(Debug)]
pub struct Parts {
    /// The clones.
    pub clones: Box<dyn Words>,
    /// The records of the arena's slots.
    pub arena: Box<dyn Words>,
    /// The records of the scratch space's blocks.
    pub scratch: Box<dyn Words>,
    /// The runs of zeroed sectors.
    pub runs: Box<dyn Words>,
}

/// What of all overlays outlives the process.
#[derive(Debug)]
pub struct Ledger {
    parts: Parts,
    places: Mutex<Places>,
}

/// Which places for clones are free. Only who makes and ends clones asks.
#[derive(Debug, Default)]
struct Places {
    free: Vec<u32>,
    /// Places from here on were never used.
    fresh: u32,
}

impl Ledger {
    /// A ledger over words that are all 0, or were a ledger's: then [`Ledger::rebuild`] comes next.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts, places: Mutex::default() }
    }

    /// Whether it can say where each 4 KiB of a disk of so many bytes are.
    #[must_use]
    pub fn takes(size_bytes: u64) -> bool {
        size_bytes.div_ceil(crate::overlay::SLOT) < Record::BLOCKS
    }

    /// Enters a clone that has nothing yet; `None` when there is no room for it.
    pub fn enter(&self, facts: &CloneFacts) -> Option<CloneNumber> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let number = match places.free.pop() {
            Some(number) => number,
            None if places.fresh < self.room() => {
                places.fresh += 1;
                places.fresh - 1
            }
            None => return None,
        };
        if !self.parts.clones.take_memory(number as usize * CLONE_WORDS) {
            places.free.push(number);
            return None;
        }
        let words = [
            (clone_word::EPOCH, facts.epoch),
            (clone_word::OWNER, facts.owner),
            (clone_word::LUN, u64::from(facts.lun)),
            (clone_word::GOLDEN, facts.golden[0]),
            (clone_word::GOLDEN + 1, facts.golden[1]),
            (clone_word::BASE, 0),
            (clone_word::RUNS, 0),
            (clone_word::COMMIT, 0),
            // Last: from now on it is there.
            (clone_word::STATE, ALIVE),
        ];
        for (word, value) in words {
            self.set(number, word, value);
        }
        Some(CloneNumber(number))
    }

    /// Nothing of a clone counts any more, though its records are still there.
    pub fn give_up(&self, clone: CloneNumber) {
        self.set(clone.0, clone_word::STATE, GOING);
    }

    /// A clone that was given up has no records any more.
    pub fn leave(&self, clone: CloneNumber) {
        self.set(clone.0, clone_word::STATE, FREE);
        self.places.lock().unwrap_or_else(PoisonError::into_inner).free.push(clone.0);
    }

    /// Clones that there is room for.
    fn room(&self) -> u32 {
        (self.parts.clones.all().len() / CLONE_WORDS) as u32
    }

    fn word(&self, clone: u32, word: usize) -> Option<&AtomicU64> {
        self.parts.clones.all().get(clone as usize * CLONE_WORDS + word)
    }

    fn set(&self, clone: u32, word: usize, value: u64) {
        if let Some(word) = self.word(clone, word) {
            store(word, value);
        }
    }

    fn value(&self, clone: u32, word: usize) -> u64 {
        self.word(clone, word).map_or(0, |word| word.load(Ordering::Acquire))
    }

    #[inline]
    fn record(&self, spot: Spot) -> Option<&AtomicU64> {
        match spot {
            Spot::Arena(slot) => self.parts.arena.all().get(slot as usize),
            Spot::Scratch(block) => self.parts.scratch.all().get(block as usize),
        }
    }

    #[inline]
    fn put(&self, spot: Spot, record: u64) {
        debug_assert!(self.record(spot).is_some(), "each slot and block has a record");
        if let Some(word) = self.record(spot) {
            store(word, record);
        }
    }
}

/// The one way in which the ledger changes.
#[inline]
fn store(word: &AtomicU64, value: u64) {
    #[cfg(test)]
    tests::burn();
    word.store(value, Ordering::Release);
}

/// One clone's part of a ledger, in its owner's hands.
#[derive(Clone, Debug)]
pub struct Entry {
    ledger: Arc<Ledger>,
    clone: u32,
}

impl Entry {
    /// The part of a clone that was entered or found.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, clone: CloneNumber) -> Self {
        Self { ledger, clone: clone.0 }
    }

    /// This spot has the live sectors `mask` of slot `slot_index` of the clone's disk: their bytes are in it.
    #[inline]
    pub fn live(&self, spot: Spot, slot_index: u64, mask: u8) {
        self.ledger
            .put(spot, Record { state: State::Live, mask, clone: self.clone, block: slot_index }.word());
    }

    /// The same, once it is committed.
    pub fn pending(&self, spot: Spot, slot_index: u64, mask: u8) {
        self.ledger
            .put(spot, Record { state: State::Pending, mask, clone: self.clone, block: slot_index }.word());
    }

    /// Nothing of this spot counts any more; it may be used for something else.
    #[inline]
    pub fn gone(&self, spot: Spot) {
        self.ledger.put(spot, 0);
    }

    /// What is pending counts, and with `false` does not any more.
    pub fn commit(&self, counts: bool) {
        self.ledger.set(self.clone, clone_word::COMMIT, counts.into());
    }

    /// What is where the overlay has nothing; `pattern` is the slot of a pattern, whose bytes are in it.
    pub fn set_beneath(&self, beneath: Beneath, pattern: Option<u32>) {
        if let Some(slot) = pattern {
            self.live(Spot::Arena(slot), Record::PATTERN, u8::MAX);
        }
        self.ledger.set(self.clone, clone_word::BASE, beneath as u64);
    }

    /// Records a run of zeroed sectors, in place of what entry `run` had, which the new one contains: `start` to `end`, not
    /// included. False, and nothing is recorded, when there is no memory for it.
    #[must_use]
    pub fn put_run(&self, run: u32, start: u64, end: u64) -> bool {
        let high = self.ledger.value(self.clone, clone_word::RUNS);
        let Some(at) = self.run_at(run) else { return false };
        let is_new = u64::from(run) >= high;
        if is_new && (run == 0 || at.is_multiple_of(512)) && !self.ledger.parts.runs.take_memory(at) {
            return false;
        }
        let words = self.ledger.parts.runs.all();
        store(&words[at], start);
        store(&words[at + 1], end);
        if is_new {
            self.ledger.set(self.clone, clone_word::RUNS, u64::from(run) + 1);
        }
        true
    }

    /// Entry `run` is free.
    pub fn clear_run(&self, run: u32) {
        if let Some(at) = self.run_at(run) {
            store(&self.ledger.parts.runs.all()[at + 1], 0);
        }
    }

    /// All runs are gone at once.
    pub fn clear_runs(&self) {
        self.ledger.set(self.clone, clone_word::RUNS, 0);
    }

    /// All entries of runs that were ever used, as `(start, end)`; a free one has an end of 0.
    #[must_use]
    pub fn runs(&self) -> Vec<(u64, u64)> {
        let high = self.ledger.value(self.clone, clone_word::RUNS).min(u64::from(RUNS_MAX)) as u32;
        let words = self.ledger.parts.runs.all();
        let read = |at: usize| words[at].load(Ordering::Acquire);
        (0..high).filter_map(|run| self.run_at(run)).map(|at| (read(at), read(at + 1))).collect()
    }

    /// Where an entry's two words are.
    fn run_at(&self, run: u32) -> Option<usize> {
        let at = (self.clone as usize * RUNS_MAX as usize + run as usize) * 2;
        (run < RUNS_MAX && at + 1 < self.ledger.parts.runs.all().len()).then_some(at)
    }
}

/// By clone.
pub type ByClone<T> = BTreeMap<CloneNumber, T>;
