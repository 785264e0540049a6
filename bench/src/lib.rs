//! stampede-bench.

#![forbid(unsafe_code)]
