//! See `bodies::capture`; run with `cargo fuzz run capture` in `perf/capture`.
#![no_main]

#[path = "../bodies.rs"]
#[allow(dead_code, unused_imports, reason = "each target runs one body")]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::capture(bytes));
