//! Two limits to measure an iSCSI target against, on the same ring as the product.
//!
//! - The *null target* ([`iscsi`], bin `null-target`) speaks iSCSI and nothing more: a login, then canned data and
//!   status from memory. No session rules, no logical unit: what a target costs under a given client when it has
//!   nothing to do.
//! - The *floor* ([`floor`], bin `floor`) moves request and answer bytes of the same sizes with no protocol at all.
//!
//! ```text
//!   server::Shard<P> ── one thread, one ring ── P = iscsi::Connection | floor::Connection
//!        │ chunk                                       │ what to send
//!        └──────► P::receive(bytes, &mut Outbox) ──────┘──► one vectored send per connection and turn
//! ```
//!
//! Both use the ring, the receive buffers and the vectored sends that the product's engine uses. Nothing is
//! allocated per command.

#![forbid(unsafe_code)]

pub mod arguments;
pub mod drive;
pub mod floor;
pub mod iscsi;
mod outbox;
pub mod processes;
pub mod server;
pub mod stats;

pub use outbox::{Memory, Outbox, Overload};
