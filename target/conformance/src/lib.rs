//! The conformance suite: an initiator that sends whatever PDU a test wants, and a test for each thing that RFC 7143
//! and RFC 7144 ask of a target and that is known to go wrong.
//!
//! Every test is written once, against [`site::Target`] and [`link::Link`], and runs on both sides:
//!
//! ```text
//!                 ┌─ tcp::Process    a real `stampede` on loopback, one process a test
//!   Test ─► Lab ──┤
//!                 └─ twin::Twin      engine and registrar on the seeded twin, in this thread
//!                     │
//!   Conn ◄── Stream ◄─┘ Middle: a man in the middle who breaks a rule on purpose, to see its test fail
//! ```
//!
//! Tests live in folders by group, after the groups of the University of New Hampshire's procedures; each is declared
//! with the section it tests, the rule in words of our own, and the code that keeps the rule. `docs/conformance.md` is
//! made from these declarations.

#![forbid(unsafe_code)]

pub mod chap;
pub mod conn;
pub mod failure;
pub mod full_feature;
pub mod lab;
pub mod link;
pub mod login;
pub mod must_dos;
pub mod mutation;
pub mod pdu;
pub mod recovery;
pub mod registry;
pub mod run;
pub mod site;
pub mod stream;
pub mod table;
pub mod tcp;
pub mod twin;
