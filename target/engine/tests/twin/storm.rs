//! A thousand lives, and planted bugs that a few of them must find.
//!
//! `STORM_SEEDS=5000+200` lives those 200 seeds instead; `STORM_EXPLAIN=1` prints what a life that failed was made from
//! and where it stood.

use crate::life::{Bug, LifeConfig, MutantConfigKey, Outcome, live};
use stampede_engine::Planted;
use stampede_sim::Mutation;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Lives to live.
const SEEDS: u64 = 1000;
/// Commands of each.
const COMMANDS: u64 = 500;

fn life(seed: u64, commands: u64, bug: Option<Bug>) -> LifeConfig {
    // Half of the lives have one shard, the others two or three, between which sessions move.
    let shards = if matches!(bug, Some(Bug::Moving(_))) { 2 } else { [1, 2, 1, 3][(seed % 4) as usize] };
    LifeConfig { seed, shards, commands, bug }
}

/// Lives lives on all cores; the sum of what came of them, or the first failure of each seed.
fn live_all(seeds: std::ops::Range<u64>, commands: u64) -> (Outcome, Vec<(u64, String)>) {
    let next = AtomicU64::new(seeds.start);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores)
            .map(|_| {
                scope.spawn(|| {
                    let (mut sum, mut failures) = (Outcome::default(), Vec::new());
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            return (sum, failures);
                        }
                        match live(life(seed, commands, None)) {
                            Ok(outcome) => add(&mut sum, &outcome),
                            Err(failure) => failures.push((seed, failure)),
                        }
                    }
                })
            })
            .collect();
        let (mut sum, mut failures) = (Outcome::default(), Vec::new());
        for worker in workers {
            let (outcome, failed) = worker.join().expect("a worker does not panic");
            add(&mut sum, &outcome);
            failures.extend(failed);
        }
        failures.sort();
        (sum, failures)
    })
}

fn add(sum: &mut Outcome, other: &Outcome) {
    sum.faults.add(&other.faults);
    sum.counts.add(&other.counts);
    sum.events.add(&other.events);
}

#[test]
fn a_thousand_lives_do_not_diverge_and_meet_every_fault() {
    let (from, seeds) = match std::env::var("STORM_SEEDS").ok().as_deref().map(|text| text.split_once('+')) {
        Some(Some((from, count))) => (from.parse().unwrap_or(0), count.parse().unwrap_or(SEEDS)),
        _ => (0, SEEDS),
    };
    let begun = Instant::now();
    let (sum, failures) = live_all(from..from + seeds, COMMANDS);
    println!("{seeds} seeds, {:.1} s\n{:?}\n{}", begun.elapsed().as_secs_f64(), sum.counts, sum.faults);
    for (name, count) in sum.events.each() {
        println!("{name:>18}  {count}");
    }
    for (seed, failure) in failures.iter().take(40) {
        println!("seed {seed}: {failure}");
    }
    assert!(failures.is_empty(), "{} seeds failed", failures.len());
    assert!(sum.counts.sent >= seeds * COMMANDS);
    assert!(sum.counts.good > sum.counts.sent / 2, "most commands should succeed: {:?}", sum.counts);
    if seeds == SEEDS {
        assert_eq!(sum.faults.missing(), [], "faults that never struck\n{}", sum.faults);
        for (name, count) in sum.events.each().chain(sum.counts.each()) {
            // Initiators of the twin never break the protocol.
            assert_eq!(count == 0, name == "violations", "{name}: {count}");
        }
    }
}

#[test]
fn a_seed_replays_its_life() {
    for seed in [2, 3, 11] {
        let one = live(life(seed, 200, None)).unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        assert_eq!(Ok(&one), live(life(seed, 200, None)).as_ref());
    }
    let trace = |seed| live(life(seed, 50, None)).map(|outcome| outcome.trace);
    assert_ne!(trace(1), trace(5));
}

/// The planted bugs.
fn planted() -> Vec<(&'static str, Bug)> {
    let seam = |what, mutation| (what, Bug::Seam(MutantConfigKey { mutation, one_in: 3 }));
    vec![
        seam("SYNCHRONIZE CACHE is a no-op", Mutation::FlushNoop),
        seam("SYNCHRONIZE CACHE is answered before it is done", Mutation::FlushEarly),
        seam("a write is answered before its completion", Mutation::WriteEarly),
        seam("a write is answered and never done", Mutation::WriteDropped),
        seam("half of a write is done", Mutation::WriteTorn),
        seam("a write lands elsewhere", Mutation::WriteMisplaced),
        seam("a read returns what was there before", Mutation::ReadStale),
        seam("a read returns another place", Mutation::ReadMisplaced),
        seam("a failed transfer counts as done", Mutation::ErrorAsSuccess),
        seam("a short transfer counts as complete", Mutation::ShortAsComplete),
        seam("UNMAP and WRITE SAME change nothing", Mutation::ZeroNoop),
        seam("the tail of a short send is lost", Mutation::SendTailLost),
        seam("the tail of a send is sent twice", Mutation::SendTailRepeated),
        seam("an overlay slot that is being sent is reused too early", Mutation::SendSlotReused),
        seam("a cancel is lost", Mutation::CancelLost),
        seam("a completion is lost", Mutation::CompletionLost),
        seam("completions carry each other's token", Mutation::TokensSwapped),
        seam("a received chunk is lost", Mutation::ChunkLost),
        seam("received chunks change places", Mutation::ChunksSwapped),
        seam("the end of a connection is not noticed", Mutation::EndLost),
        seam("a shard is not woken for its messages", Mutation::WakeLost),
        ("a new login is admitted while the old session's writes go on", Bug::HastyReinstatement),
        ("a disk has two owners", Bug::TwoOwners),
        ("bytes that came while a session moved are lost", Bug::Moving(Planted::LeftoversLost)),
        ("bytes that came while a session moved are taken in twice", Bug::Moving(Planted::LeftoversTwice)),
        ("the window stays closed after a move", Bug::Moving(Planted::WindowStaysClosed)),
        ("a session moves while one of its tasks runs", Bug::Moving(Planted::MovesWithTask)),
        ("a clone does not move with its session", Bug::Moving(Planted::CloneLeftBehind)),
    ]
}

/// Every planted bug is found, most within a few seeds, though the engine itself is right.
#[test]
fn planted_bugs_are_found() {
    const SEEDS_EACH: u64 = 240;
    let bugs = planted();
    let missed: Vec<&str> = std::thread::scope(|scope| {
        let workers: Vec<_> = bugs
            .chunks(bugs.len().div_ceil(2))
            .map(|bugs| {
                scope.spawn(move || {
                    let mut missed = Vec::new();
                    for (what, bug) in bugs {
                        let found = (0..SEEDS_EACH).find_map(|seed| {
                            live(life(seed, 300, Some(*bug))).err().map(|failure| (seed, failure))
                        });
                        match found {
                            Some((seed, failure)) => println!("{what}: seed {seed}: {failure}"),
                            None => missed.push(*what),
                        }
                    }
                    missed
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    assert!(missed.is_empty(), "planted bugs that nobody noticed: {missed:?}");
}
