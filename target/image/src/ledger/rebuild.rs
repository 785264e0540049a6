//! What a start finds in the ledger of the run before.

use super::record::{Record, State};
use super::{
    ALIVE, Beneath, ByClone, CLONE_WORDS, CloneFacts, CloneNumber, FREE, GOING, Ledger, Places, Spot, Words,
    clone_word,
};
use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// One 4 KiB of a clone's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which: slot `slot_index` of the disk.
    pub slot_index: u64,
    /// Its live sectors, bit n is sector n.
    pub mask: u8,
    /// Where their bytes are.
    pub spot: Spot,
}

/// All that is known of a clone's overlay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// By slot of the disk, ascending, each once.
    pub slots: Vec<Found>,
    /// What is where the overlay has nothing.
    pub beneath: Beneath,
    /// The slot of the arena that has the pattern, if that is a pattern.
    pub pattern: Option<u32>,
}

/// A record on its way to the contents.
struct Met {
    found: Found,
    pending: bool,
}

impl Ledger {
    /// The clones that were entered and not given up, by their place. To be called before any clone is entered.
    #[must_use]
    pub fn clones(&self) -> ByClone<CloneFacts> {
        let alive = |clone: &u32| self.value(*clone, clone_word::STATE) == ALIVE;
        self.places_used()
            .into_iter()
            .filter(alive)
            .map(|clone| (CloneNumber(clone), self.facts(clone)))
            .collect()
    }

    fn facts(&self, clone: u32) -> CloneFacts {
        CloneFacts {
            epoch: self.value(clone, clone_word::EPOCH),
            owner: self.value(clone, clone_word::OWNER),
            lun: self.value(clone, clone_word::LUN) as u16,
            golden: [0, 1].map(|word| self.value(clone, clone_word::GOLDEN + word)),
        }
    }

    /// Places that may have been used.
    fn places_used(&self) -> Vec<u32> {
        let runs = self.parts.clones.used();
        let places = runs.into_iter().flat_map(|run| run.start / CLONE_WORDS..run.end.div_ceil(CLONE_WORDS));
        let places: BTreeSet<u32> =
            places.map(|place| place as u32).filter(|place| *place < self.room()).collect();
        places.into_iter().collect()
    }

    /// The clones that have something in a block of scratch space from block `blocks` on: in another space than the run
    /// before had they have lost that.
    #[must_use]
    pub fn spilled_beyond(&self, blocks: u32) -> BTreeSet<CloneNumber> {
        let mut clones = BTreeSet::new();
        visit(&*self.parts.scratch, |block, word| {
            if let Some(record) = Record::of(word).filter(|_| block >= blocks) {
                clones.insert(CloneNumber(record.clone));
            }
        });
        clones
    }

    /// Finds what these clones have, and takes all else off the records, so that its slots and blocks are free. To be called
    /// before any clone is entered. What it was killed in the middle of, the next call does again.
    #[must_use]
    pub fn rebuild(&self, keep: &BTreeSet<CloneNumber>) -> ByClone<Contents> {
        let mut met: ByClone<Vec<Met>> = keep.iter().map(|clone| (*clone, Vec::new())).collect();
        let mut contents: ByClone<Contents> =
            keep.iter().map(|clone| (*clone, self.nothing_yet(*clone))).collect();
        for clone in self.places_used() {
            if !keep.contains(&CloneNumber(clone)) && self.value(clone, clone_word::STATE) != FREE {
                self.set(clone, clone_word::STATE, GOING);
            }
        }
        let mut meet = |spot: Spot, word: u64| {
            if word != 0 && !self.meet(spot, word, &mut met, &mut contents) {
                self.put(spot, 0);
            }
        };
        visit(&*self.parts.arena, |slot, word| meet(Spot::Arena(slot), word));
        visit(&*self.parts.scratch, |block, word| meet(Spot::Scratch(block), word));
        for (clone, met) in met {
            let Some(contents) = contents.get_mut(&clone) else { continue };
            contents.slots = self.settle(clone, met);
        }
        self.free_places(keep);
        contents
    }

    /// A clone without what its records say.
    fn nothing_yet(&self, clone: CloneNumber) -> Contents {
        let golden = self.value(clone.0, clone_word::BASE) == Beneath::Golden as u64;
        // A pattern is there if its slot is.
        let beneath = if golden { Beneath::Golden } else { Beneath::Zeros };
        Contents { beneath, ..Contents::default() }
    }

    /// Takes one record in; false when it is nobody's.
    fn meet(
        &self,
        spot: Spot,
        word: u64,
        met: &mut ByClone<Vec<Met>>,
        contents: &mut ByClone<Contents>,
    ) -> bool {
        let Some(Record { state, mask, clone, block }) = Record::of(word) else { return false };
        let (Some(met), Some(contents)) =
            (met.get_mut(&CloneNumber(clone)), contents.get_mut(&CloneNumber(clone)))
        else {
            return false;
        };
        if block == Record::PATTERN {
            let Spot::Arena(slot) = spot else { return false };
            let counts = self.value(clone, clone_word::BASE) == Beneath::Pattern as u64;
            if counts && contents.pattern.is_none() {
                (contents.pattern, contents.beneath) = (Some(slot), Beneath::Pattern);
            }
            return contents.pattern == Some(slot);
        }
        let pending = state == State::Pending;
        if pending && self.value(clone, clone_word::COMMIT) == 0 {
            return false;
        }
        met.push(Met { found: Found { slot_index: block, mask, spot }, pending });
        true
    }

    /// Leaves one record of each slot of a clone's disk: the pending one if there is, else any.
    fn settle(&self, clone: CloneNumber, mut met: Vec<Met>) -> Vec<Found> {
        met.sort_unstable_by_key(|met| (met.found.slot_index, !met.pending, met.found.spot));
        let mut slots: Vec<Found> = Vec::with_capacity(met.len());
        // Those that are void go first: were it killed after the pending ones had become live, either would count.
        for Met { found, .. } in &met {
            if slots.last().is_some_and(|last| last.slot_index == found.slot_index) {
                self.put(found.spot, 0);
            } else {
                slots.push(*found);
            }
        }
        for Met { found: Found { slot_index, mask, spot }, .. } in met.iter().filter(|met| met.pending) {
            // Of two pending ones of a slot, which there never are, one was taken off.
            if slots
                .binary_search_by_key(slot_index, |kept| kept.slot_index)
                .is_ok_and(|at| slots[at].spot == *spot)
            {
                let record = Record { state: State::Live, mask: *mask, clone: clone.0, block: *slot_index };
                self.put(*spot, record.word());
            }
        }
        self.set(clone.0, clone_word::COMMIT, 0);
        slots
    }

    /// Frees the places of clones that are not kept: none of them has a record any more.
    fn free_places(&self, keep: &BTreeSet<CloneNumber>) {
        let used = self.places_used();
        for clone in used.iter().filter(|clone| !keep.contains(&CloneNumber(**clone))) {
            if self.value(*clone, clone_word::STATE) != FREE {
                self.set(*clone, clone_word::STATE, FREE);
            }
        }
        let fresh = keep.last().map_or(0, |clone| clone.0 + 1);
        let free = (0..fresh).rev().filter(|clone| !keep.contains(&CloneNumber(*clone))).collect();
        *self.places.lock().unwrap_or_else(PoisonError::into_inner) = Places { free, fresh };
    }
}

/// Looks at all words that are not 0.
fn visit(words: &dyn Words, mut see: impl FnMut(u32, u64)) {
    let all = words.all();
    for at in words.used().into_iter().flatten() {
        let word = all.get(at).map_or(0, |word| word.load(Ordering::Acquire));
        if word != 0 {
            // There are at most 2^32 slots, and blocks.
            see(at as u32, word);
        }
    }
}
