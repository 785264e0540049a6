//! A kept overlay that is killed between any two stores: what the next run finds.

use super::*;
use crate::ledger::tests::{FACTS, killed_after, small};
use crate::ledger::{Beneath, CloneNumber, Entry, Ledger, Spot};
use std::collections::BTreeSet;
use std::sync::Arc;

const SLOTS: usize = 4096;

struct Life {
    ledger: Arc<Ledger>,
    clone: CloneNumber,
    twin: Twin,
}

impl Life {
    fn new(runs_max: u32) -> Self {
        let ledger = Arc::new(small(2, SLOTS));
        // Number 0 is somebody else's, and number 1 is told from it.
        ledger.enter(&FACTS).unwrap();
        let clone = ledger.enter(&FACTS).unwrap();
        let twin = Twin::over(overlay(&ledger, clone, runs_max));
        Self { ledger, clone, twin }
    }

    fn step(&mut self, step: &Move) {
        match *step {
            Move::Plain(Step::Write { start, sectors, in_place }) => {
                self.twin.write(start, sectors, in_place)
            }
            Move::Plain(Step::Zero { start, sectors }) => drop(self.twin.zero(start, sectors)),
            Move::Plain(Step::BeginSpill { any }) => self.twin.begin_spill(any),
            Move::Plain(Step::EndSpill { which, works }) => self.twin.end_spill(which, works),
            Move::Plain(Step::Read { .. }) => {}
            Move::Whole { slot, slots } => self.twin.write_whole(slot, slots),
        }
    }

    /// The next run. `memory` is what the last left; nothing else of it is there.
    fn next(&self, runs_max: u32) -> Twin {
        let keep = BTreeSet::from([self.clone]);
        let contents = self.ledger.rebuild(&keep).remove(&self.clone).unwrap();
        assert_eq!(contents.beneath, Beneath::Golden);
        let mut twin = Twin::over(overlay(&self.ledger, self.clone, runs_max));
        twin.memory = vec![None; self.twin.memory.len()];
        twin.scratch = vec![None; self.twin.scratch.len()];
        for found in contents.slots {
            let place = match found.spot {
                Spot::Arena(slot) => {
                    let bytes = self.twin.memory[slot as usize];
                    assert!(bytes.is_some(), "a slot that was free counts");
                    twin.memory[slot as usize] = bytes;
                    Place::Memory(slot as usize)
                }
                Spot::Scratch(block) => {
                    let bytes = self.twin.scratch[block as usize];
                    assert!(bytes.is_some(), "a block that was free counts");
                    twin.scratch[block as usize] = bytes;
                    Place::Scratch(block)
                }
            };
            twin.overlay.put_found(found.slot_index, place, found.mask);
        }
        twin.model = twin.read(0, SECTORS as u32);
        twin
    }
}

impl Twin {
    /// An atomic write of whole slots.
    fn write_whole(&mut self, slot: u64, slots: u64) {
        self.stamp += 1;
        let first = self.memory.len();
        self.memory.extend((0..slots).map(|_| Some([self.stamp; 8])));
        let mut replaced = Vec::new();
        let handles = (0..slots as usize).map(|at| first + at).collect::<Vec<_>>();
        // What is replaced is free as soon as the overlay says so, which a kill must not make too early.
        let memory = &mut self.memory;
        let scratch = &mut self.scratch;
        self.overlay.install_whole(slot, handles.into_iter(), |place| {
            let freed = match place {
                Place::Memory(handle) => memory[handle].take(),
                Place::Scratch(block) => scratch[block as usize].take(),
            };
            replaced.push(freed.is_some());
        });
        assert!(replaced.iter().all(|was| *was), "a place is freed once");
        let range = (slot * 8) as usize..((slot + slots) * 8) as usize;
        self.model[range].fill(Sector::Data(self.stamp));
    }
}

fn overlay(ledger: &Arc<Ledger>, clone: CloneNumber, tombstone_runs_max: u32) -> Overlay<usize> {
    let limits = OverlayLimits { tombstone_runs_max, size_bytes: SECTORS * SECTOR };
    let entry = Entry::new(Arc::clone(ledger), clone);
    Overlay::kept(limits, Keeping::new(entry, |handle| *handle as u32))
}

#[derive(Clone, Debug)]
enum Move {
    Plain(Step),
    Whole { slot: u64, slots: u64 },
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let whole = (0..SECTORS / 8, 1_u64..6)
        .prop_map(|(slot, slots)| Move::Whole { slot, slots: slots.min(SECTORS / 8 - slot) });
    (steps(), prop::collection::vec((any::<prop::sample::Index>(), whole), 0..8)).prop_map(
        |(steps, wholes)| {
            let mut moves: Vec<Move> = steps.into_iter().map(Move::Plain).collect();
            wholes.into_iter().for_each(|(at, whole)| moves.insert(at.index(moves.len() + 1), whole));
            moves
        },
    )
}

/// The life of these moves, killed at the `stores`th store of the last. Whether it was.
fn life(moves: &[Move], runs_max: u32, stores: u32) -> (Life, Vec<Sector>, bool) {
    let mut life = Life::new(runs_max);
    let (last, before) = moves.split_last().unwrap();
    before.iter().for_each(|step| life.step(step));
    let was = life.twin.model.clone();
    let killed = killed_after(stores, || life.step(last)).is_none();
    (life, was, killed)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn killed_at_any_store_all_is_there_that_was_answered(moves in moves(), runs_max in 0_u32..12) {
        // What the last move leads to, when nobody kills it.
        let (done, was, _) = life(&moves, runs_max, u32::MAX);
        let after = done.next(runs_max).model;
        prop_assert_eq!(&after, &done.twin.model, "an end without a kill");
        for stores in 0.. {
            let (life, _, killed) = life(&moves, runs_max, stores);
            // The start after it is killed too, as often as it can be.
            for stores in 0.. {
                if killed_after(stores, || life.next(runs_max)).is_some() {
                    break;
                }
            }
            let mut next = life.next(runs_max);
            for (at, sector) in next.model.iter().enumerate() {
                prop_assert!(*sector == was[at] || *sector == after[at], "sector {} has {:?}", at, sector);
            }
            if let Some(Move::Whole { .. }) = moves.last() {
                prop_assert!(next.model == was || next.model == after, "an atomic write is half done");
            }
            next.check();
            // It can be gone on with.
            next.stamp = 1000;
            next.write(3, 20, true);
            let _ = next.zero(12, 30);
            next.check();
            if !killed {
                break;
            }
        }
    }
}

/// A run that began with what another left is found by a third.
#[test]
fn runs_follow_each_other() {
    let mut life = Life::new(6);
    life.twin.write(0, 30, false);
    life.twin.zero(8, 20).unwrap();
    life.twin.zero(100, 20).unwrap();
    life.twin.begin_spill(true);
    life.twin.end_spill(0, true);
    for round in 0..5 {
        let mut next = life.next(6);
        assert_eq!(next.model, life.twin.model);
        next.stamp = 100 * (round + 1);
        next.write(u64::from(round) * 7, 12, round % 2 == 0);
        next.zero(200 + u64::from(round) * 3, 3).unwrap();
        next.begin_spill(true);
        next.end_spill(0, true);
        next.check();
        life.twin = next;
    }
}

/// Bytes that count are never written over: a kill in the middle of that would leave a sector with something of both.
#[test]
fn live_sectors_of_a_kept_overlay_are_not_written_in_place() {
    let mut life = Life::new(6);
    life.twin.write(0, 2, false);
    let mut slot = life.twin.overlay.slot_mut(0).unwrap();
    assert_eq!(slot.memory(0b0000_0110), None);
    assert_eq!(slot.memory(0b0000_0100), Some(&mut 0));
}
