//! The session layer from outside: PDUs in, events out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod chap;
mod commands;
mod login;
mod management;
mod order;
mod others;
mod properties;
mod support;
mod writes;
