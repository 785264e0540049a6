//! Everything about a target that is not the data path: configuration, the state store, who may log in and which
//! clone a login gets, status, and the control socket. One thread, off the shards' cores.

#![forbid(unsafe_code)]

pub mod config;
pub mod directory;
pub mod entropy;
pub mod goldens;
pub mod identity;
pub mod images;
pub mod journals;
pub mod kept;
pub mod keys;
pub mod logging;
pub mod plan;
pub mod registrar;
pub mod scratch;
pub mod socket;
pub mod status;
pub mod store;
pub mod thread;
