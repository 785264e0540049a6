//! In-process benchmarks: what one command costs, in instructions, without sockets and disks.
//!
//! ```text
//!   stages.rs     one stage alone: parse, order, decode, map, build, send
//!   one_shard.rs  a whole shard with one session over a replaying ring: commands in, answers out
//!   login.rs      what both need before the first command: the one target and the login to it
//!   replay.rs     the ring: operations complete at once, at next to no cost
//!   callgrind.rs  instructions by function and by stage, from a profile
//! ```
//!
//! Used by the `instructions` tool (counted by callgrind, gated by `scripts/bench`), by `benches/` (wall time) and by
//! `tests/` (the hit path allocates nothing).

#![forbid(unsafe_code)]

pub mod callgrind;
mod login;
pub mod one_shard;
pub mod replay;
pub mod stages;
