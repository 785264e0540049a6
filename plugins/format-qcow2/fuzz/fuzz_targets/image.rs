//! See `bodies::image`; run with `cargo fuzz run image` in `plugins/format-qcow2`.
#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::image(bytes));
