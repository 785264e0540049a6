//! The engine: one shard's loop over any [`stampede_ring::Ring`].

#![forbid(unsafe_code)]

pub mod messages;
pub mod stats;
