//! compare.

#![forbid(unsafe_code)]
fn main() {}
