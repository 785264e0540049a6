//! What lies between a guest's disk and the bytes behind it: which sector of an ephemeral clone is where
//! ([`overlay`]), who may touch which range of a file right now ([`range_lock`], [`align`]), which files are goldens
//! ([`golden`]), which of their blocks are in memory ([`cache`]) and which a boot wants ([`recording`]), which of an overlay's
//! are in scratch space ([`scratch`]), what of it all outlives the process ([`ledger`]), which overlay a login gets
//! ([`epoch`]), what an atomic write is about to do ([`intent`]), how an image is encrypted ([`cipher`]), and what the host
//! keeps of an image whose format a plugin knows ([`mapped`]).
//!
//! Everything here is pure: no files, no memory pools, no clock. It maps; the engine moves the bytes. Time comes in
//! as an argument, decisions and effects go out as values.
#![forbid(unsafe_code)]

pub mod align;
pub mod cache;
pub mod cipher;
pub mod epoch;
pub mod golden;
pub mod intent;
pub mod ledger;
pub mod mapped;
pub mod overlay;
pub mod range_lock;
pub mod recording;
pub mod scratch;
