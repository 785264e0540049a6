//! The golden cache, by one thread and by several.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

const GOLDEN: u32 = 7;

struct House {
    grace: Arc<Grace>,
    heat: Arc<Heat>,
    published: Arc<Published>,
    home: Home<u32>,
}

fn house(slots: u32, blocks: u32, shards: u16) -> House {
    let (grace, heat) = (Arc::new(Grace::new(shards)), Arc::new(Heat::new(slots)));
    let published = Arc::new(Published::new(blocks));
    let mut home = Home::new(0..slots, Arc::clone(&heat), Arc::clone(&grace));
    home.add_golden(GOLDEN, Arc::clone(&published));
    House { grace, heat, published, home }
}

fn key(block: u32) -> BlockKey {
    BlockKey { golden: GOLDEN, block }
}

impl House {
    /// Reads a block as a shard would that finds it, or has it read.
    fn load(&mut self, block: u32) {
        if let Some(slot) = self.published.get(block) {
            return self.heat.touch(slot);
        }
        self.home.tend(|_| false);
        self.home.tend(|_| false);
        assert!(matches!(self.home.ask(key(block), 0), Ask::Read { .. }), "no free slot");
        self.home.done(key(block), true).unwrap();
        // Whoever asked for it uses it.
        self.heat.touch(self.published.get(block).unwrap());
    }
}

#[test]
fn a_block_is_read_once_for_all_who_want_it() {
    let House { published, mut home, .. } = house(8, 100, 1);
    let Ask::Read { slot } = home.ask(key(5), 1) else { panic!() };
    assert_eq!(home.ask(key(5), 2), Ask::Waits);
    assert_eq!(home.ask(key(5), 3), Ask::Waits);
    assert_eq!(published.get(5), None);
    assert_eq!(home.done(key(5), true), Some(vec![1, 2, 3]));
    assert_eq!(published.get(5), Some(slot));
    assert_eq!(home.ask(key(5), 4), Ask::Published);
    assert_eq!(home.done(key(5), true), None);
}

#[test]
fn a_failed_read_leaves_nothing() {
    let House { published, mut home, .. } = house(8, 100, 1);
    assert!(matches!(home.ask(key(5), 1), Ask::Read { .. }));
    assert_eq!(home.done(key(5), false), Some(vec![1]));
    assert_eq!((published.get(5), home.free()), (None, 8));
    assert!(matches!(home.ask(key(5), 1), Ask::Read { .. }), "it may be tried again");
}

#[test]
fn blocks_and_goldens_that_do_not_exist_are_not_cached() {
    let House { mut home, .. } = house(8, 100, 1);
    assert_eq!(home.ask(key(100), 1), Ask::Full(1));
    assert_eq!(home.ask(BlockKey { golden: 1, block: 0 }, 2), Ask::Full(2));
    assert_eq!(home.prefetch(key(100)), Prefetch::Unknown);
}

#[test]
fn a_slot_waits_for_turns_and_then_for_pins() {
    let House { grace, published, mut home, .. } = house(4, 100, 2);
    for block in 0..4 {
        assert!(matches!(home.ask(key(block), 0), Ask::Read { .. }));
        home.done(key(block), true).unwrap();
    }
    grace.enter(1);
    assert!(home.tend(|_| false), "two are unpublished, since none is free");
    assert_eq!((0..4).filter(|block| published.get(*block).is_none()).count(), 2);
    home.tend(|_| false);
    assert_eq!(home.free(), 0, "shard 1 may have looked them up");
    grace.leave(1);
    home.tend(|_| true);
    assert_eq!(home.free(), 0, "and it has pinned them");
    grace.enter(1);
    home.tend(|slot| slot == 0);
    assert_eq!(home.free(), 1, "a turn that began later does not matter");
}

#[test]
fn a_scan_leaves_what_is_used_alone() {
    let mut house = house(100, 10_000, 1);
    for _ in 0..3 {
        (0..50).for_each(|block| house.load(block));
    }
    (1000..6000).for_each(|block| house.load(block));
    let kept = (0..50).filter(|block| house.published.get(*block).is_some()).count();
    assert_eq!(kept, 50);
}

#[test]
fn a_golden_that_goes_leaves_no_block() {
    let House { published, mut home, .. } = house(8, 100, 1);
    for block in 0..4 {
        assert!(matches!(home.ask(key(block), 0), Ask::Read { .. }));
        home.done(key(block), true).unwrap();
    }
    assert!(matches!(home.ask(key(9), 3), Ask::Read { .. }));
    home.remove_golden(GOLDEN);
    assert!((0..100).all(|block| published.get(block).is_none()));
    assert_eq!(home.done(key(9), true), Some(vec![3]), "who waits is told");
    assert_eq!(published.get(9), None);
    home.tend(|_| false);
    assert_eq!((home.free(), home.resident()), (8, 0));
}

#[test]
fn prefetch_leaves_room_for_those_who_wait() {
    let House { mut home, .. } = house(256, 1000, 1);
    let mut prefetched = 0;
    while let Prefetch::Read { .. } = home.prefetch(key(prefetched)) {
        prefetched += 1;
    }
    assert_eq!((prefetched, home.prefetch(key(prefetched))), (256 - 16, Prefetch::Full));
    (0..prefetched).for_each(|block| drop(home.done(key(block), true)));
    assert!(!home.is_due(), "nothing has to go for it");
    assert!(matches!(home.ask(key(900), 0), Ask::Read { .. }));
    assert_eq!(home.prefetch(key(3)), Prefetch::There);
}

#[test]
fn what_was_read_ahead_is_unused_until_somebody_uses_it() {
    let House { heat, published, mut home, .. } = house(32, 1000, 1);
    let unused = |home: &Home<u32>| (0..8).filter(|block| home.is_unused(key(*block))).count();
    for block in 0..4 {
        assert!(matches!(home.prefetch(key(block)), Prefetch::Read { .. }));
    }
    assert_eq!(home.ask(key(3), 0), Ask::Waits, "for what is read ahead");
    (0..4).for_each(|block| drop(home.done(key(block), true)));
    assert_eq!(unused(&home), 3, "one was waited for");
    assert!(matches!(home.ask(key(4), 0), Ask::Read { .. }));
    home.done(key(4), true).unwrap();
    heat.touch(published.get(0).unwrap());
    assert_eq!(home.figures(GOLDEN), (5, Ahead { read: 4, unused: 2, wasted: 0 }));
    for block in 100..200 {
        home.ask(key(block), 0);
        home.done(key(block), true);
        home.tend(|_| false);
        home.tend(|_| false);
    }
    let (_, figures) = home.figures(GOLDEN);
    assert_eq!(figures, Ahead { read: 4, unused: 0, wasted: 2 });
}

#[test]
fn a_block_that_could_not_be_read_ahead_may_be_asked_for() {
    let House { mut home, .. } = house(32, 1000, 1);
    assert!(matches!(home.prefetch(key(3)), Prefetch::Read { .. }));
    assert_eq!(home.done(key(3), false), Some(Vec::new()));
    assert_eq!(home.figures(GOLDEN), (0, Ahead::default()));
    assert!(matches!(home.ask(key(3), 0), Ask::Read { .. }));
}

#[test]
fn homes_share_the_blocks_in_strides() {
    let homes: Vec<u16> = (0..64).map(|block| key(block).home(4)).collect();
    for stride in homes.chunks(8) {
        assert!(stride.iter().all(|home| home == &stride[0]));
    }
    assert!((0..4).all(|shard| homes.iter().filter(|home| **home == shard).count() == 16));
    assert_eq!(key(9).home(1), 0);
}

#[derive(Clone, Debug)]
enum Act {
    Enter(u16),
    Leave(u16),
    Look(u16, u32),
    Unpin(usize),
    Ask(u32),
    Done(usize),
    Tend,
}

fn act() -> impl Strategy<Value = Act> {
    let (shard, block) = (0..3u16, 0..24u32);
    prop_oneof![
        shard.clone().prop_map(Act::Enter),
        shard.clone().prop_map(Act::Leave),
        (shard, block.clone()).prop_map(|(shard, block)| Act::Look(shard, block)),
        any::<usize>().prop_map(Act::Unpin),
        block.prop_map(Act::Ask),
        any::<usize>().prop_map(Act::Done),
        Just(Act::Tend),
    ]
}

proptest! {
    /// Whatever shards and home do, in whatever order: what a shard looked up in this turn, or has pinned, is what it
    /// asked for, and stays it.
    #[test]
    fn nobody_sees_another_block(acts in prop::collection::vec(act(), 1..400)) {
        let House { grace, published, mut home, heat } = house(6, 24, 3);
        let mut bytes: BTreeMap<u32, u32> = BTreeMap::new();
        let mut in_turn = [false; 3];
        // What each shard looked up in its turn and has not pinned yet; what is pinned.
        let mut seen: [Vec<(u32, u32)>; 3] = Default::default();
        let mut pins: Vec<(u32, u32)> = Vec::new();
        let mut reading: Vec<(u32, u32)> = Vec::new();
        for act in acts {
            match act {
                Act::Enter(shard) => {
                    grace.enter(shard);
                    // A turn begun anew: what was looked up before has to be pinned.
                    pins.append(&mut seen[usize::from(shard)]);
                    in_turn[usize::from(shard)] = true;
                }
                Act::Leave(shard) => {
                    pins.append(&mut seen[usize::from(shard)]);
                    grace.leave(shard);
                    in_turn[usize::from(shard)] = false;
                }
                Act::Look(shard, block) if in_turn[usize::from(shard)] => {
                    if let Some(slot) = published.get(block) {
                        heat.touch(slot);
                        seen[usize::from(shard)].push((slot, block));
                    }
                }
                Act::Look(..) => {}
                Act::Unpin(which) => {
                    if !pins.is_empty() {
                        pins.swap_remove(which % pins.len());
                    }
                }
                Act::Ask(block) => match home.ask(key(block), block) {
                    Ask::Read { slot } => {
                        // The read begins to overwrite the slot at once.
                        bytes.insert(slot, block);
                        reading.push((slot, block));
                    }
                    Ask::Waits => prop_assert!(reading.iter().any(|(_, read)| *read == block)),
                    Ask::Published => prop_assert!(published.get(block).is_some()),
                    Ask::Full(_) => {}
                },
                Act::Done(which) => {
                    if !reading.is_empty() {
                        let (_, block) = reading.swap_remove(which % reading.len());
                        let waiters = home.done(key(block), true).unwrap();
                        prop_assert!(waiters.iter().all(|waiter| *waiter == block));
                    }
                }
                Act::Tend => {
                    home.tend(|slot| pins.iter().any(|(pinned, _)| *pinned == slot));
                }
            }
            for (slot, block) in pins.iter().chain(seen.iter().flatten()) {
                prop_assert_eq!(bytes.get(slot), Some(block));
            }
        }
        // Nothing is lost: with all at rest every slot is free, holds a block, or is being read.
        (0..3).for_each(|shard| grace.leave(shard));
        home.tend(|_| false);
        home.tend(|_| false);
        home.tend(|_| false);
        prop_assert_eq!(home.free() + home.resident() + reading.len(), 6);
    }
}

/// The same with real threads: each pin is counted in a counter of its own shard, as the engine does it.
#[test]
fn threads_never_see_another_block() {
    const SHARDS: u16 = 3;
    const SLOTS: u32 = 24;
    const BLOCKS: u32 = 96;
    let House { grace, published, mut home, heat } = house(SLOTS, BLOCKS, SHARDS);
    let bytes: Arc<Vec<AtomicU64>> = Arc::new((0..SLOTS).map(|_| AtomicU64::new(u64::MAX)).collect());
    let pins: Arc<Vec<AtomicU32>> =
        Arc::new((0..u32::from(SHARDS) * SLOTS).map(|_| AtomicU32::new(0)).collect());
    let stop = Arc::new(AtomicBool::new(false));
    let wrong = Arc::new(AtomicU32::new(0));
    let hits = Arc::new(AtomicU32::new(0));
    std::thread::scope(|scope| {
        for shard in 0..SHARDS {
            let (grace, published, heat, bytes) =
                (Arc::clone(&grace), Arc::clone(&published), Arc::clone(&heat), Arc::clone(&bytes));
            let (pins, stop, wrong, hits) =
                (Arc::clone(&pins), Arc::clone(&stop), Arc::clone(&wrong), Arc::clone(&hits));
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(u64::from(shard));
                let mut held: Vec<(u32, u32)> = Vec::new();
                let check = |slot: u32, block: u32| {
                    if bytes[slot as usize].load(Ordering::Relaxed) != u64::from(block) {
                        wrong.fetch_add(1, Ordering::Relaxed);
                    }
                };
                while !stop.load(Ordering::Relaxed) {
                    grace.enter(shard);
                    for _ in 0..random.u32(1..8) {
                        let block = random.u32(0..BLOCKS);
                        let Some(slot) = published.get(block) else { continue };
                        heat.touch(slot);
                        pins[(u32::from(shard) * SLOTS + slot) as usize].fetch_add(1, Ordering::AcqRel);
                        check(slot, block);
                        held.push((slot, block));
                        hits.fetch_add(1, Ordering::Relaxed);
                    }
                    grace.leave(shard);
                    while held.len() > random.usize(0..6) {
                        let (slot, block) = held.swap_remove(random.usize(0..held.len()));
                        check(slot, block);
                        pins[(u32::from(shard) * SLOTS + slot) as usize].fetch_sub(1, Ordering::AcqRel);
                    }
                    if random.u8(..) == 0 {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let mut random = fastrand::Rng::with_seed(99);
        let mut reads = 0;
        let started = std::time::Instant::now();
        while reads < 20_000 && started.elapsed().as_secs() < 20 {
            let block = random.u32(0..BLOCKS);
            match home.ask(key(block), 0) {
                Ask::Read { slot } => {
                    bytes[slot as usize].store(u64::MAX - 1, Ordering::Relaxed);
                    std::hint::spin_loop();
                    bytes[slot as usize].store(u64::from(block), Ordering::Relaxed);
                    home.done(key(block), true).unwrap();
                    reads += 1;
                }
                _ => std::thread::yield_now(),
            }
            home.tend(|slot| {
                (0..u32::from(SHARDS))
                    .any(|shard| pins[(shard * SLOTS + slot) as usize].load(Ordering::Acquire) > 0)
            });
        }
        stop.store(true, Ordering::Relaxed);
        assert!(reads > 1000, "{reads} reads");
    });
    assert_eq!(wrong.load(Ordering::Relaxed), 0);
    assert!(hits.load(Ordering::Relaxed) > 100);
}
