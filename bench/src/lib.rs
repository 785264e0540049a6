//! In-process benchmarks: what one command costs, in instructions, without sockets and disks.
//!
//! ```text
//!   stages.rs     one stage alone: parse, order, decode, map, build, send
//!   one_shard.rs  a whole shard with one session over a replaying ring: commands in, answers out
//!   login.rs      what both need before the first command: the one target and the login to it
//!   replay.rs     the ring: operations complete at next to no cost, those of files in memory before they are pushed
//!   callgrind.rs  instructions by function and by stage, from a profile
//! ```
//!
//! `shard-disk` is a file in memory, which the product's ring reads and writes in `Ring::at_once`, so the command makes
//! no job and has no completion. `shard-device` is what a file on a device costs: a job, a token and a completion. Until
//! the ring had `at_once`, `shard-disk` was the one and meant the other.
//!
//! Used by the `instructions` tool (counted by callgrind, gated by `scripts/bench`), by `benches/` (wall time) and by
//! `tests/` (the hit path allocates nothing).

#![forbid(unsafe_code)]

pub mod callgrind;
mod login;
pub mod one_shard;
pub mod replay;
pub mod stages;
