//! Holds the repository's own checks: `tests/tidy.rs` fails when the tree drifts from its layout and style.

#![forbid(unsafe_code)]
