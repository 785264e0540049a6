//! See `bodies::read`; run with `cargo fuzz run read` in `perf/trace`.
#![no_main]

#[path = "../bodies.rs"]
#[allow(dead_code, unused_imports, reason = "each target runs one body")]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::read(bytes));
