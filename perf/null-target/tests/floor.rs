//! The floor's two sides on loopback.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

mod common;

use common::Serving;
use stampede_null_target::drive::{Load, drive};
use stampede_null_target::floor::{Connection, Sizes};

#[test]
fn every_request_is_answered_and_what_it_cost_is_reported() {
    for sizes in [Sizes { request: 48, answer: 4144 }, Sizes { request: 4144, answer: 48 }] {
        let mut server = Serving::start::<Connection>(sizes);
        let report = drive(&Load {
            address: server.address,
            sizes,
            data: 4096,
            depth: 8,
            connections: 3,
            warmup_ns: 10_000_000,
            window_ns: 200_000_000,
            watch_pid: Some(std::process::id()),
        })
        .unwrap();
        server.stop();
        let counters = server.watch.counters.read();
        assert!(report.all.operations > 0 && report.all.operations <= counters.commands);
        assert_eq!(report.all.bytes, report.all.operations * 4096);
        assert_eq!(report.reads.operations > 0, sizes.answer > sizes.request);
        assert!(report.all.latency_us.p50 > 0.0 && report.seconds >= 0.2);
        let watched = report.watched.unwrap();
        assert!(watched.cpu_seconds > 0.0 && watched.rss_kib > 0);
        assert_eq!(counters.connections, 3);
    }
}

#[test]
fn a_server_that_is_not_there_is_said_so() {
    let load = Load {
        address: "127.0.0.1:1".parse().unwrap(),
        sizes: Sizes { request: 48, answer: 48 },
        data: 0,
        depth: 1,
        connections: 1,
        warmup_ns: 0,
        window_ns: 1,
        watch_pid: None,
    };
    let error = drive(&load).unwrap_err();
    assert!(error.to_string().contains("is `floor serve` running there"), "{error:#}");
}
