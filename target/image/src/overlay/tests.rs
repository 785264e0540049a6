//! The overlay against a model disk with one state per sector, and the cases that are easy to get wrong.

use std::collections::BTreeMap;

use proptest::prelude::*;

mod crash;

use super::*;

const SECTORS: u64 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sector {
    Golden,
    Zero,
    /// Written, with this stamp.
    Data(u32),
}

/// An overlay whose slots' memory is eight stamps each, beside a model of what the guest must see.
struct Twin {
    overlay: Overlay<usize>,
    memory: Vec<Option<[u32; 8]>>,
    /// Blocks of scratch space; never used again, so that a block that is read too late is seen.
    scratch: Vec<Option<[u32; 8]>>,
    /// Spills under way: their numbers, and slots with the copies that go to which blocks.
    spills: Vec<(u16, Vec<(u64, u32)>)>,
    next_spill: u16,
    hand: Hand,
    model: Vec<Sector>,
    stamp: u32,
}

impl Twin {
    fn new(tombstone_runs_max: u32) -> Self {
        let limits = OverlayLimits { tombstone_runs_max, size_bytes: SECTORS * SECTOR };
        Self::over(Overlay::new(limits))
    }

    fn over(overlay: Overlay<usize>) -> Self {
        let model = vec![Sector::Golden; SECTORS as usize];
        Self {
            overlay,
            memory: Vec::new(),
            scratch: Vec::new(),
            spills: Vec::new(),
            next_spill: 1,
            hand: Hand::default(),
            model,
            stamp: 0,
        }
    }

    /// A write as the engine does it: into the slot's memory, or into a fresh slot that takes the live sectors along; what
    /// is spilled and written in part is brought back before.
    fn write(&mut self, start: u64, sectors: u32, in_place: bool) {
        self.stamp += 1;
        let spilled: Vec<_> = self.overlay.spilled_in_part(start, sectors).collect();
        for (index, block) in spilled {
            self.memory.push(self.scratch[block as usize]);
            assert!(self.overlay.bring_back(index, block, self.memory.len() - 1));
            self.free(Place::Scratch(block));
        }
        assert_eq!(self.overlay.spilled_in_part(start, sectors).count(), 0);
        for part in slot_parts(start, sectors) {
            let was = match self.overlay.slot(part.slot_index) {
                Some((&Place::Memory(handle), mask)) => Some((handle, mask)),
                _ => None,
            };
            let mut bytes = was.and_then(|(handle, _)| self.memory[handle]).unwrap_or([0; 8]);
            bytes[part.first as usize..][..part.sectors as usize].fill(self.stamp);
            let slot = self.overlay.slot_mut(part.slot_index).filter(|_| in_place);
            if let Some((slot, handle)) =
                slot.and_then(|mut slot| slot.memory(part.mask()).copied().map(|handle| (slot, handle)))
            {
                self.memory[handle] = Some(bytes);
                slot.add(part.mask());
            } else {
                self.memory.push(Some(bytes));
                let mask = part.mask() | was.map_or(0, |(_, mask)| mask);
                if let Some(place) = self.overlay.install(part.slot_index, self.memory.len() - 1, mask) {
                    self.free(place);
                }
            }
        }
        let stamp = self.stamp;
        self.model[start as usize..][..sectors as usize].fill(Sector::Data(stamp));
    }

    fn free(&mut self, place: Place<usize>) {
        let freed = match place {
            Place::Memory(handle) => self.memory[handle].take(),
            Place::Scratch(block) => self.scratch[block as usize].take(),
        };
        assert!(freed.is_some(), "a place is freed once");
    }

    /// Begins to spill some slots, as they are now.
    fn begin_spill(&mut self, any: bool) {
        let mut look = 40;
        let mut copied = Vec::new();
        while let Some(around) = self.overlay.next_cold(&mut self.hand, &mut look, any) {
            for index in around {
                let Some((&handle, mask)) = self.overlay.begin_spill(index, self.next_spill, any) else {
                    continue;
                };
                assert_ne!(mask, 0);
                self.scratch.push(self.memory[handle]);
                copied.push((index, self.scratch.len() as u32 - 1));
            }
        }
        if self.overlay.is_through(self.hand) {
            self.hand = Hand::default();
        }
        self.spills.push((self.next_spill, copied));
        self.next_spill += 1;
    }

    /// One of the spills under way is written, or has failed.
    fn end_spill(&mut self, which: usize, works: bool) {
        if self.spills.is_empty() {
            return;
        }
        let (number, copied) = self.spills.remove(which % self.spills.len());
        for (index, block) in copied {
            match works.then(|| self.overlay.end_spill(index, number, block)).flatten() {
                Some(handle) => self.free(Place::Memory(handle)),
                None => {
                    self.overlay.abandon_spill(index, number);
                    self.free(Place::Scratch(block));
                }
            }
        }
    }

    fn zero(&mut self, start: u64, sectors: u32) -> Result<(), OverlayFull> {
        let mut freed = Vec::new();
        let result = self.overlay.zero(start, sectors, |place| freed.push(place));
        for place in freed {
            self.free(place);
        }
        if result.is_ok() {
            self.model[start as usize..][..sectors as usize].fill(Sector::Zero);
        }
        result
    }

    fn read(&self, start: u64, sectors: u32) -> Vec<Sector> {
        let mut seen = Vec::new();
        let mut kind_before = None;
        self.overlay.resolve(start, sectors, |piece| {
            let at = start + seen.len() as u64;
            let kind = std::mem::discriminant(&piece);
            match piece {
                Piece::Slot { handle, offset_in_slot, start_sector, sectors } => {
                    assert_eq!(start_sector, at);
                    let first = (offset_in_slot / 512) as usize;
                    assert_eq!(start_sector % 8, first as u64);
                    let bytes = self.memory[*handle].expect("resolved memory is not freed");
                    seen.extend(bytes[first..][..sectors as usize].iter().map(|&stamp| Sector::Data(stamp)));
                }
                Piece::Spilled { block, offset_in_slot, start_sector, sectors } => {
                    assert_eq!((start_sector, start_sector % 8 * 512), (at, offset_in_slot.into()));
                    let bytes = self.scratch[block as usize].expect("a block in use is not freed");
                    let bytes = &bytes[(start_sector % 8) as usize..][..sectors as usize];
                    seen.extend(bytes.iter().map(|&stamp| Sector::Data(stamp)));
                }
                Piece::Golden { start_sector, sectors } => {
                    assert_eq!(start_sector, at);
                    assert_ne!(kind_before, Some(kind), "adjacent golden pieces are one");
                    seen.extend(vec![Sector::Golden; sectors as usize]);
                }
                Piece::Zero { start_sector, sectors } => {
                    assert_eq!(start_sector, at);
                    assert_ne!(kind_before, Some(kind), "adjacent zero pieces are one");
                    seen.extend(vec![Sector::Zero; sectors as usize]);
                }
            }
            assert!(at < start + seen.len() as u64, "no piece is empty");
            kind_before = Some(kind);
        });
        seen
    }

    fn check(&self) {
        assert_eq!(self.read(0, SECTORS as u32), self.model);
        let live = self.memory.iter().flatten().count();
        assert_eq!(self.overlay.slots_used(), live, "no slot's memory is lost");
        let copies: usize = self.spills.iter().map(|(_, copied)| copied.len()).sum();
        let blocks = self.scratch.iter().flatten().count();
        assert_eq!(self.overlay.slots_spilled() + copies, blocks, "no block of scratch space is lost");
    }
}

fn memory<H>(place: Place<H>) -> Option<H> {
    match place {
        Place::Memory(handle) => Some(handle),
        Place::Scratch(_) => None,
    }
}

#[test]
fn a_fresh_overlay_is_one_golden_piece() {
    let twin = Twin::new(4);
    let mut pieces = Vec::new();
    twin.overlay.resolve(3, 200, |piece| pieces.push(format!("{piece:?}")));
    assert_eq!(pieces, ["Golden { start_sector: 3, sectors: 200 }"]);
    assert!(twin.overlay.is_empty());
}

#[test]
fn a_small_write_makes_one_sector_live_and_leaves_the_rest_golden() {
    let mut twin = Twin::new(4);
    twin.write(11, 1, false);
    twin.check();
    let mut pieces = Vec::new();
    twin.overlay.resolve(8, 8, |piece| pieces.push(format!("{piece:?}")));
    assert_eq!(
        pieces,
        [
            "Golden { start_sector: 8, sectors: 3 }",
            "Slot { handle: 0, offset_in_slot: 1536, start_sector: 11, sectors: 1 }",
            "Golden { start_sector: 12, sectors: 4 }",
        ]
    );
}

#[test]
fn two_concurrent_writes_into_one_slot_both_live() {
    // Both looked before either was there: the first to complete installs, the second finds the slot and joins.
    let mut overlay = Overlay::new(OverlayLimits { tombstone_runs_max: 4, size_bytes: 1 << 20 });
    assert!(overlay.slot(5).is_none());
    assert_eq!(overlay.install(5, 'a', 0b0000_0001), None);
    let mut slot = overlay.slot_mut(5).unwrap();
    assert_eq!(slot.memory(0b0000_0010), Some(&mut 'a'));
    assert_eq!(slot.live(), 1);
    slot.add(0b0000_0010);
    let mut live = 0;
    overlay.resolve(40, 8, |piece| {
        if let Piece::Slot { sectors, start_sector, .. } = piece {
            assert_eq!((start_sector, sectors), (40, 2));
            live += sectors;
        }
    });
    assert_eq!(live, 2);
}

#[test]
fn a_zeroed_range_never_shows_the_golden_again() {
    let mut twin = Twin::new(4);
    twin.zero(0, 64).unwrap();
    twin.check();
    twin.write(9, 2, false);
    twin.check();
    assert_eq!(twin.overlay.tombstone_runs(), 1, "a write splits no run");
    twin.zero(8, 8).unwrap();
    twin.check();
    assert_eq!(twin.overlay.slots_used(), 0, "the emptied slot was freed");
    assert_eq!(twin.overlay.tombstone_runs(), 1);
}

#[test]
fn zeroing_part_of_a_slot_keeps_its_other_sectors() {
    let mut twin = Twin::new(4);
    twin.write(8, 6, false);
    twin.zero(10, 5).unwrap();
    twin.check();
    assert_eq!(twin.overlay.slots_used(), 1);
    let expected = [8, 9].map(|_| Sector::Data(1));
    assert_eq!(twin.read(8, 2), expected);
    assert_eq!(twin.read(10, 5), [Sector::Zero; 5]);
    assert_eq!(twin.read(15, 1), [Sector::Golden]);
}

#[test]
fn over_budget_nothing_changes_and_merging_still_works() {
    let mut twin = Twin::new(2);
    twin.zero(0, 8).unwrap();
    twin.zero(16, 8).unwrap();
    twin.write(33, 3, false);
    assert_eq!(twin.zero(32, 8), Err(OverlayFull { runs_max: 2 }));
    twin.check();
    twin.zero(8, 4).unwrap();
    twin.check();
    assert_eq!(twin.overlay.tombstone_runs(), 2, "it joined the run before");
    twin.zero(12, 4).unwrap();
    assert_eq!(twin.overlay.tombstone_runs(), 1, "it joined both");
    twin.zero(32, 8).unwrap();
    twin.check();
}

#[test]
fn a_budget_of_none_refuses_every_tombstone() {
    let mut twin = Twin::new(0);
    assert!(twin.zero(0, 8).is_err());
    twin.check();
}

#[test]
fn ranges_beyond_the_end_are_left_out() {
    let limits = OverlayLimits { tombstone_runs_max: 4, size_bytes: 8 * SECTOR + 100 };
    let mut overlay: Overlay<u32> = Overlay::new(limits);
    assert_eq!(overlay.size_sectors(), 8);
    let mut pieces = Vec::new();
    overlay.resolve(6, 10, |piece| pieces.push(format!("{piece:?}")));
    overlay.resolve(u64::MAX, u32::MAX, |piece| pieces.push(format!("{piece:?}")));
    assert_eq!(pieces, ["Golden { start_sector: 6, sectors: 2 }"]);
    overlay.zero(100, 10, |_| ()).unwrap();
    overlay.zero(u64::MAX - 1, u32::MAX, |_| ()).unwrap();
    assert!(overlay.is_empty());
}

#[test]
fn discarding_a_huge_disk_looks_only_at_what_is_there() {
    let mut overlay = Overlay::new(OverlayLimits { tombstone_runs_max: 4, size_bytes: 1 << 50 });
    for index in [0, 1, 1000, 400_000_000] {
        overlay.install(index, index, 0xff);
    }
    let mut freed = Vec::new();
    overlay.zero(4, u32::MAX, |place| freed.push(place)).unwrap();
    freed.sort_unstable_by_key(|place| memory(*place));
    assert_eq!(freed, [1, 1000, 400_000_000].map(Place::Memory));
    assert_eq!(overlay.slot(0), Some((&Place::Memory(0), 0x0f)));
}

#[test]
fn clearing_hands_every_slot_back() {
    let mut twin = Twin::new(4);
    twin.write(0, 100, false);
    twin.zero(200, 10).unwrap();
    let mut freed: Vec<usize> = twin.overlay.take_all().filter_map(memory).collect();
    freed.sort_unstable();
    assert_eq!(freed, (0..13).collect::<Vec<_>>());
    assert!(twin.overlay.is_empty());
}

#[test]
fn an_entry_is_small() {
    // 32 bytes of entry for a handle as the engine has it: see table.rs.
    assert_eq!(table::entry_size::<(&u8, u32, u32)>(), 32);
}

#[test]
fn many_slots_are_found_again() {
    let mut overlay = Overlay::new(OverlayLimits { tombstone_runs_max: 4, size_bytes: u64::MAX });
    let mut model = BTreeMap::new();
    let mut random = fastrand::Rng::with_seed(7);
    for handle in 0..50_000_u32 {
        // Strides that share low bits, as filesystems make them, and places all over.
        let index = match handle % 3 {
            0 => u64::from(handle) << 15,
            1 => random.u64(..1 << 40),
            _ => u64::from(handle),
        };
        let mask = random.u8(1..) | model.get(&index).map_or(0, |&(_, mask)| mask);
        let replaced = overlay.install(index, handle, mask);
        assert_eq!(replaced, model.insert(index, (handle, mask)).map(|(handle, _)| Place::Memory(handle)));
    }
    assert_eq!(overlay.slots_used(), model.len());
    for (&index, (handle, mask)) in &model {
        assert_eq!(overlay.slot(index), Some((&Place::Memory(*handle), *mask)));
    }
}

#[test]
fn what_was_written_since_the_last_look_stays() {
    let mut twin = Twin::new(4);
    twin.write(0, 64, false);
    twin.begin_spill(false);
    assert!(twin.spills.remove(0).1.is_empty(), "all was just written");
    twin.write(16, 8, true);
    twin.begin_spill(false);
    assert_eq!(twin.spills[0].1.len(), 7);
    twin.end_spill(0, true);
    assert_eq!((twin.overlay.slots_used(), twin.overlay.slots_spilled()), (1, 7));
    twin.check();
}

#[test]
fn a_slot_that_is_written_while_it_is_spilled_stays_whatever_follows() {
    let mut twin = Twin::new(4);
    twin.write(0, 8, false);
    twin.begin_spill(true);
    twin.write(0, 1, true);
    // The same slot, copied anew by another spill, while the first is still under way.
    twin.begin_spill(true);
    assert_eq!((twin.spills[0].1.len(), twin.spills[1].1.len()), (1, 1));
    twin.end_spill(0, true);
    assert_eq!(twin.overlay.slots_spilled(), 0);
    twin.end_spill(0, true);
    assert_eq!(twin.overlay.slots_spilled(), 1);
    twin.check();
}

#[test]
fn of_what_is_spilled_a_write_brings_back_only_what_it_does_not_replace() {
    let mut twin = Twin::new(4);
    twin.write(0, 40, false);
    twin.begin_spill(true);
    twin.end_spill(0, true);
    let in_part = |start, sectors| {
        twin.overlay.spilled_in_part(start, sectors).map(|(slot, _)| slot).collect::<Vec<_>>()
    };
    assert_eq!(in_part(0, 40), []);
    assert_eq!(in_part(8, 8), []);
    assert_eq!(in_part(4, 20), [0]);
    assert_eq!(in_part(8, 20), [3]);
    assert_eq!(in_part(4, 34), [0, 4]);
    assert_eq!(in_part(9, 2), [1]);
    assert_eq!(in_part(39, 20), [4]);
    twin.zero(10, 6).unwrap();
    let live: Vec<_> = twin.overlay.spilled_in_part(8, 2).collect();
    assert_eq!(live, [], "of it only what is written anew was live");
    twin.check();
}

#[derive(Clone, Debug)]
enum Step {
    Write { start: u64, sectors: u32, in_place: bool },
    Zero { start: u64, sectors: u32 },
    Read { start: u64, sectors: u32 },
    BeginSpill { any: bool },
    EndSpill { which: usize, works: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Mostly short ranges: that is where the masks are.
    let range = prop_oneof![
        4 => (0..SECTORS, 1_u32..12),
        1 => (0..SECTORS, 1_u32..SECTORS as u32),
    ]
    .prop_map(|(start, sectors)| (start, sectors.min((SECTORS - start) as u32)));
    let step = prop_oneof![
        4 => (range.clone(), any::<bool>())
            .prop_map(|((start, sectors), in_place)| Step::Write { start, sectors, in_place }),
        3 => range.clone().prop_map(|(start, sectors)| Step::Zero { start, sectors }),
        1 => range.prop_map(|(start, sectors)| Step::Read { start, sectors }),
        2 => any::<bool>().prop_map(|any| Step::BeginSpill { any }),
        2 => (0..4_usize, prop::bool::weighted(0.8)).prop_map(|(which, works)| Step::EndSpill { which, works }),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_guest_sees_what_the_model_has(steps in steps(), runs_max in 0_u32..12) {
        let mut twin = Twin::new(runs_max);
        for step in steps {
            match step {
                Step::Write { start, sectors, in_place } => twin.write(start, sectors, in_place),
                Step::Zero { start, sectors } => {
                    // At the budget it may be refused; then nothing has changed, which check() sees.
                    let refused = twin.zero(start, sectors).is_err();
                    prop_assert!(!refused || twin.overlay.tombstone_runs() == runs_max as usize);
                }
                Step::BeginSpill { any } => twin.begin_spill(any),
                Step::EndSpill { which, works } => twin.end_spill(which, works),
                Step::Read { start, sectors } => {
                    let seen = twin.read(start, sectors);
                    prop_assert_eq!(&seen[..], &twin.model[start as usize..][..sectors as usize]);
                }
            }
            prop_assert!(twin.overlay.tombstone_runs() <= runs_max as usize);
            twin.check();
        }
    }
}
