//! The engine: one shard's loop over any [`stampede_ring::Ring`].
//!
//! ```text
//!  connection/   front: bytes ─► PDUs ─► tasks, and answers ─► one vectored send per connection and turn
//!  lun/          back: commands ─► device server ─► jobs on the medium (a disk, or a clone's overlay)
//!  shard/        the loop that drives both, and messages to other shards and to the control thread
//! ```
//!
//! A session lives on one shard, and so does the state of a logical unit. When they are not the same shard, the
//! command travels to the unit's owner through a bounded queue and its answer travels back; nothing is locked.

#![forbid(unsafe_code)]

mod cache;
mod connection;
mod errno;
mod few;
mod latency;
mod links;
mod lun;
pub mod messages;
mod payload;
mod pusher;
mod request;
pub mod setup;
mod shard;
mod shares;
pub mod source;
pub mod stats;
mod token;

pub use links::{ControlLink, MeshEnd};
#[cfg(feature = "planted")]
pub use shard::Planted;
pub use shard::{Shard, Turn};
