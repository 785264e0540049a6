//! stampede-null-target.

#![forbid(unsafe_code)]
