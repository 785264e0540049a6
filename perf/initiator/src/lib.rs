//! stampede-initiator.

#![forbid(unsafe_code)]
