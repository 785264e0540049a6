//! The one I/O seam of Stampede.
//!
//! Everything that a shard wants from the outside world goes through [`Ring`]: it pushes operations, submits
//! them, and reaps completions. There are no callbacks and nothing awaits. [`uring`] implements the seam over
//! io_uring; the crate `stampede-sim` implements it over a seeded simulator, and the same scripts run on both.
//!
//! ```text
//!   Shard --push(token, operation)--> Ring --submit--> kernel (or simulator)
//!   Shard <--reap(batch)------------- Ring <---------- completions, each with the token of its operation
//! ```
//!
//! Memory is lent by ownership: an operation owns the buffers that the kernel reads or writes, and its
//! completion hands them back. So no safe caller can touch memory that the kernel is writing.
//!
//! This is the one crate of the product that may use `unsafe`.

pub mod clock;
mod cold_copy;
pub mod cpu;
pub mod file;
mod guard;
pub mod limits;
mod loose;
pub mod memory;
pub mod net;
pub mod numa;
pub mod probe;
#[doc(hidden)]
#[allow(clippy::panic, reason = "scripts are tests that other crates run too")]
pub mod script;
pub mod seam;
mod send_list;
pub mod uring;

pub use cold_copy::copy_to_cold;
pub use loose::{LooseFile, LooseSocket};
pub use memory::{Buffer, IoMemory, LastingFile, Pool, PoolConfig, Words};
pub use seam::{
    Accepted, Chunk, Completion, Errno, Event, FileId, Operation, PeerId, Received, Ring, SocketId, Stretch,
    Token, Wait,
};
pub use send_list::{Segment, SendList};
