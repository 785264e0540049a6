//! stampede-steer.

#![forbid(unsafe_code)]
