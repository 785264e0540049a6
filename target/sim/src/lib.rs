//! The seam's seeded twin: a simulated outside world for shards.
//!
//! A [`SimWorld`] owns the clock, the disks, the network and the state of every shard's ring; a [`SimRing`] is
//! one shard's [`stampede_ring::Ring`] into it. Everything that happens is drawn from one seed, so the same seed
//! replays the same run ([`SimWorld::trace`] proves it).
//!
//! ```text
//!   Initiator --client_send/recv--> SimWorld <--push/submit/reap-- SimRing <-- Shard<SimRing>
//!       |                            | clock, events in time order
//!       v                            | disks: volatile caches, atoms, crashes
//!    reports, violations             | network: buffers, splits, resets
//!       |                            v
//!       +--> model::ModelDisk     FaultCounts (each fault that was injected)
//! ```
//!
//! A test holds the world, its shards and a [`workload::Workload`] (or its own [`initiator::Initiator`]s), and steps
//! them in an order drawn from
//! [`SimWorld::fork_rng`]: a shard's turn, an initiator's poll, or [`SimWorld::advance`]. Nothing blocks:
//! [`stampede_ring::Ring::submit`] only records how long the shard would have slept, which
//! [`SimWorld::is_ready`] evaluates.
//!
//! Between a shard and its ring a test may put a [`Mutant`], which breaks one promise of the seam on purpose: a test
//! that does not notice is no test.
//!
//! This crate is for tests only; no product crate depends on it.

#![forbid(unsafe_code)]

mod client;
mod config;
mod disk;
mod fault;
pub mod initiator;
pub mod model;
mod mutant;
mod network;
mod ring;
mod stamp;
mod state;
mod trace;
pub mod workload;
mod world;

pub use client::{ClientId, ClientStatus};
pub use config::{DiskConfig, FaultPlan, NetworkConfig, RingConfig, SimConfig};
pub use disk::DiskId;
pub use fault::{FaultCounts, FaultKind};
pub use mutant::{Mutant, MutantConfig, Mutation};
pub use ring::SimRing;
pub use stamp::{SECTOR, Stamp, Value};
pub use trace::TraceHash;
pub use world::SimWorld;
