//! Busy polling pays while commands come, costs nothing when none do; and where a shard's memory is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod common;
#[path = "common/raw.rs"]
mod raw;

use common::Target;
use raw::{Raw, transfer_10};
use std::time::{Duration, Instant};

const READ_10: u8 = 0x28;
const TARGET: &str = "data";

/// Polls, hits and nanoseconds spent polling, so far.
fn polls(target: &Target) -> (u64, u64, u64) {
    let status = target.status_value();
    let counter = |name: &str| status["shards"][0]["counters"][name].as_u64().unwrap();
    (counter("busy_polls"), counter("busy_poll_hits"), counter("busy_poll_ns"))
}

fn log_in(target: &Target) -> Raw {
    let mut session = Raw::login(target.address(), "iqn.2026-11.test:polling", TARGET, 1).unwrap();
    // A new session's first command reports the unit's power on (SAM-5 5.14).
    session.run(transfer_10(READ_10, 7, 1), &[], 512);
    session
}

/// Reads one block after the other for a while.
fn read(session: &mut Raw, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        let (status, data) = session.run(transfer_10(READ_10, 7, 1), &[], 512);
        assert_eq!((status, data.len()), (0, 512));
    }
}

#[test]
fn polling_finds_commands_and_ends_when_none_come() {
    const LIMIT_NS: u64 = 200_000;
    let target = Target::start_with(&["data=disk.img"], &["--busy-poll", "200"]);
    let mut session = log_in(&target);
    read(&mut session, Duration::from_millis(1500));
    let (tries, hits, spent_ns) = polls(&target);
    assert!(hits > 100 && hits <= tries, "{hits} of {tries} polls found something");
    assert!(spent_ns > 0 && spent_ns <= 10_000_000_000, "{spent_ns}");
    // Idle, with a session: asking for status wakes the shard, and each of these may begin and end one round of polls.
    std::thread::sleep(Duration::from_secs(1));
    let before = polls(&target);
    std::thread::sleep(Duration::from_secs(2));
    let after = polls(&target);
    let (tries, spent_ns) = (after.0 - before.0, after.2 - before.2);
    assert!(tries <= 20, "{tries} polls in two idle seconds");
    assert!(spent_ns <= 20 * LIMIT_NS * 10, "{spent_ns} ns of polls in two idle seconds");
    let shown = String::from_utf8(target.ask(&["status"]).stdout).unwrap();
    assert!(shown.contains("POLLING SHARD"), "{shown}");
    drop(session);
    target.stop();
}

#[test]
fn without_the_flag_nothing_polls_and_memory_is_on_the_shards_node() {
    let target = Target::start(&["data=disk.img"]);
    let mut session = log_in(&target);
    read(&mut session, Duration::from_millis(200));
    assert_eq!(polls(&target), (0, 0, 0));
    let status = target.status_value();
    let home = &status["shards"][0]["home"];
    let node = home["node"].as_u64().unwrap().to_string();
    let pages = home["pages"].as_object().unwrap();
    let here = pages.get(&node).map_or(0, |count| count.as_u64().unwrap());
    let all: u64 = pages.values().map(|count| count.as_u64().unwrap()).sum();
    assert!(here * 100 >= all * 99, "{home}");
    assert_eq!(home["note"], "", "{home}");
    drop(session);
    target.stop();
}
