//! Interrupts of network cards' queues: which CPUs they should go to, and taking them there and back.
//!
//! A packet is cheapest when the CPU that the card interrupts is the one whose shard owns the connection. [`plan`]
//! says which interrupts would have to move for that; [`Moved::apply`] moves them, after what was before is
//! in a file; [`Moved::restore`] undoes it, also for a process that was killed: its successor finds the file.

mod apply;
mod plan;
mod saved;

pub use apply::{Moved, Undone};
pub use plan::{Step, StepState, balancer, plan};
pub use saved::{IrqError, SAVED_FILE};
