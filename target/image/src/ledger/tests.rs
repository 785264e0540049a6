//! The ledger alone: clones, records that are no records, and a process that is killed between two stores.

use super::*;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

thread_local! {
    /// Stores that this thread may still make before it is killed.
    static FUSE: Cell<Option<u32>> = const { Cell::new(None) };
}

/// What unwinds when a process of the tests is killed.
struct Killed;

/// A store is about to be made.
pub(crate) fn burn() {
    match FUSE.get() {
        Some(0) => resume_unwind(Box::new(Killed)),
        Some(left) => FUSE.set(Some(left - 1)),
        None => {}
    }
}

/// Runs `life` until it has made `stores` stores to a ledger, then kills it; `None` then.
pub(crate) fn killed_after<T>(stores: u32, life: impl FnOnce() -> T) -> Option<T> {
    FUSE.set(Some(stores));
    let end = catch_unwind(AssertUnwindSafe(life));
    FUSE.set(None);
    match end {
        Ok(value) => Some(value),
        Err(payload) if payload.is::<Killed>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

fn words(count: usize) -> Box<dyn Words> {
    let words: Box<[AtomicU64]> = (0..count).map(|_| AtomicU64::new(0)).collect();
    Box::new(words)
}

/// A ledger of few clones.
pub(crate) fn small(clones: usize, slots: usize) -> Ledger {
    Ledger::new(Parts {
        clones: words(clones * CLONE_WORDS),
        arena: words(slots),
        scratch: words(slots),
        runs: words(clones * RUNS_MAX as usize * 2),
    })
}

pub(crate) const FACTS: CloneFacts = CloneFacts { epoch: 7, owner: 8, lun: 9, golden: [10, 11] };

fn keep(clones: &[CloneNumber]) -> BTreeSet<CloneNumber> {
    clones.iter().copied().collect()
}

#[test]
fn a_clone_is_there_from_its_last_store_to_its_giving_up() {
    for stores in 0..20 {
        let ledger = small(4, 4);
        let made = killed_after(stores, || ledger.enter(&FACTS).unwrap());
        assert_eq!(ledger.clones().into_values().collect::<Vec<_>>(), Vec::from_iter(made.map(|_| FACTS)));
    }
    let ledger = small(2, 4);
    let first = ledger.enter(&FACTS).unwrap();
    let second = ledger.enter(&CloneFacts { epoch: 1, ..FACTS }).unwrap();
    assert_eq!(ledger.enter(&FACTS), None, "there is no room for a third");
    ledger.give_up(first);
    assert_eq!(ledger.clones().into_keys().collect::<Vec<_>>(), [second]);
    assert_eq!(ledger.enter(&FACTS), None, "its records may still be there");
    ledger.leave(first);
    assert_eq!(ledger.enter(&FACTS), Some(first));
}

#[test]
fn what_nobody_keeps_is_taken_off_and_its_place_is_free() {
    let ledger = Arc::new(small(4, 8));
    let clones: Vec<CloneNumber> = (0..3).map(|_| ledger.enter(&FACTS).unwrap()).collect();
    for (clone, slot) in clones.iter().zip(0..) {
        let entry = Entry::new(Arc::clone(&ledger), *clone);
        entry.live(Spot::Arena(slot), 5, 1);
        entry.live(Spot::Scratch(slot), 6, 2);
    }
    ledger.give_up(clones[0]);
    assert_eq!(ledger.spilled_beyond(1), keep(&clones[1..]));
    let found = ledger.rebuild(&keep(&clones[1..2]));
    let slots = vec![
        Found { slot_index: 5, mask: 1, spot: Spot::Arena(1) },
        Found { slot_index: 6, mask: 2, spot: Spot::Scratch(1) },
    ];
    let contents = Contents { slots, ..Contents::default() };
    assert_eq!(found, ByClone::from([(clones[1], contents.clone())]));
    assert_eq!(ledger.enter(&FACTS), Some(clones[0]));
    assert_eq!(ledger.enter(&FACTS), Some(clones[2]));
    // Those two have nothing of what was there before.
    let found = ledger.rebuild(&keep(&clones));
    assert_eq!((&found[&clones[0]], &found[&clones[2]]), (&Contents::default(), &Contents::default()));
    assert_eq!(found[&clones[1]], contents);
}

#[test]
fn words_that_are_no_records_are_freed() {
    let ledger = small(2, 8);
    let clone = ledger.enter(&FACTS).unwrap();
    for (slot, word) in [(0, 3), (1, u64::MAX), (2, 1), (3, 1 | 1 << 2 | 1 << 10)] {
        ledger.put(Spot::Arena(slot), word);
    }
    assert!(ledger.rebuild(&keep(&[clone]))[&clone].slots.is_empty());
    assert!((0..8).all(|slot| ledger.record(Spot::Arena(slot)).unwrap().load(Ordering::Relaxed) == 0));
}

/// Whenever a sanitize operation is cut off, nothing of what was there before is seen, and a pattern only with its slot.
#[test]
fn what_lies_beneath_is_never_the_golden_again() {
    for stores in 0..12 {
        let ledger = Arc::new(small(2, 8));
        let clone = ledger.enter(&FACTS).unwrap();
        let entry = Entry::new(Arc::clone(&ledger), clone);
        entry.live(Spot::Arena(1), 5, 1);
        let ended = killed_after(stores, || {
            entry.set_beneath(Beneath::Zeros, None);
            entry.gone(Spot::Arena(1));
            entry.set_beneath(Beneath::Pattern, Some(3));
        });
        let found = ledger.rebuild(&keep(&[clone])).remove(&clone).unwrap();
        match stores {
            0 => assert_eq!((found.beneath, found.slots.len()), (Beneath::Golden, 1)),
            _ if ended.is_some() => assert_eq!((found.beneath, found.pattern), (Beneath::Pattern, Some(3))),
            _ => assert_eq!((found.beneath, found.pattern), (Beneath::Zeros, None)),
        }
    }
}

#[test]
fn a_disk_beyond_what_a_record_can_name_is_not_taken() {
    assert!(Ledger::takes(1 << 47) && !Ledger::takes(1 << 48));
}

#[test]
fn the_parts_do_not_overlap() {
    use layout::*;
    let most = 8_u64 << 32;
    assert!(HEADER + 8 * HEADER_WORDS as u64 <= CLONES && CLONES + 8 * CLONES_WORDS as u64 <= ARENA);
    assert!(ARENA + most <= SCRATCH && SCRATCH + most <= RUNS && RUNS + 8 * RUNS_WORDS as u64 <= SLOTS);
    assert!(u64::from(CLONES_MAX) <= 1 << 18);
}
