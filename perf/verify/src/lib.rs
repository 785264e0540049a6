//! The pure core of `storm verify`: it says which commands to send, what to write, and whether what was read is right.
//!
//! No I/O, no clock, no threads: the caller sends the [`Op`]s that [`Plan::next`] gives, up to the plan's depth at once, and
//! tells how each ended, in any order. A seed replays the same operations as long as the outcomes come in the same order.
//!
//! ```text
//!   Plan::next() ─► Op ─► Plan::fill(op, data) ─► the target ─► Outcome ─► Plan::complete(id, outcome)
//!                                                                             │ blocks read
//!                                               cells: what each block may hold ▼
//!                                               Stamp::parse ─► judge ─► Ok, or a Mismatch
//! ```
//!
//! `storm boot` uses [`Machine`] instead: a golden, known byte by byte, below what one machine wrote.
//!
//! # What is right
//! Each 512-byte sector that is written carries a [`Stamp`]. For each logical block the plan knows the version that was
//! acknowledged last, the one before it, and those whose outcome is unknown. Only these are right:
//! - the version acknowledged last; whole, as a logical block is the unit that a device writes at once;
//! - one whose outcome is unknown, since the connection was lost or the command failed. Once one of them was read, it is
//!   the block's version, and the others must not appear any more: a session's end ends its tasks;
//! - after an UNMAP, if the unit says that unmapped blocks read as zeros (LBPRZ): zeros, or what was right before, since a
//!   target may ignore an UNMAP (SBC-4, UNMAP command), though not a WRITE SAME with the UNMAP bit. What was read first
//!   stays. Without LBPRZ anything but data from elsewhere;
//! - anything in a block that was not written yet, but not a stamp of this run: nobody put one there.
//!
//! Operations in flight never overlap, but for reads with reads: the outcome would be undefined. They do meet in the same
//! 4 KiB, on purpose.

#![forbid(unsafe_code)]

mod cell;
mod config;
mod judge;
mod machine;
mod mismatch;
mod op;
mod overlay;
mod pick;
mod plan;
mod stamp;

pub use config::{ConfigError, REGION_BLOCKS_MAX, VerifyConfig};
pub use machine::{Golden, Machine, Wrong};
pub use mismatch::{Content, Kind, Mismatch};
pub use op::{Op, OpKind, Outcome};
pub use overlay::Overlay;
pub use plan::{Counts, Plan, UnknownOp};
pub use stamp::{SECTOR, Stamp, StampError, StampKind};
