//! An iSCSI initiator for load generators: one thread, one ring, many sessions, many commands per system call.
//!
//! ```text
//!   caller --submit(session, Command)--> Client --one vectored send per session and turn--> ring
//!   caller <--Event::Completed---------- Client <--many answers per received chunk--------- ring
//!                                          |
//!                                       Session: login, CmdSN window, tasks, R2T, Data-In (sans-IO)
//! ```
//!
//! A [`Client`] is a shard: it belongs to one thread and shares nothing. [`Client::turn`] sends what was submitted,
//! waits, and turns what was received into [`Event`]s; commands and completions carry the caller's tag. Nothing is
//! allocated per command: tasks, headers and events have their places, and read data is only counted unless the
//! command brings a buffer for it.
//!
//! It speaks RFC 7143 with ErrorRecoveryLevel=0 and one connection per session; a lost connection ends the session,
//! whose commands complete as [`Outcome::Lost`]: the caller logs in again.

#![forbid(unsafe_code)]

pub mod cdb;
mod client;
mod command;
mod config;
mod connect;
mod connection;
mod outbox;
mod reason;
mod sense;
mod session;

pub use client::{Client, ClientConfig, ClientError, Event, SessionId};
pub use command::{Command, Completed, Outcome, ReadSink, Transfer};
pub use config::{Negotiated, SessionConfig};
pub use connect::ConnectError;
pub use connection::LoginTimes;
pub use reason::{Ending, LoginRefused, Reason};
pub use sense::Sense;
