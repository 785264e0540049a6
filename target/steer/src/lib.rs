//! Where things run, and how each connection gets there.
//!
//! [`topology`] reads what the machine is made of, [`placement`] decides which core each shard gets and says why.

#![forbid(unsafe_code)]

pub mod placement;
pub mod topology;
