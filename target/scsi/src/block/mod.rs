//! Block commands: checked ranges for the engine (SBC-3 5).

mod cache;
mod provisioning;
mod range;
mod sanitize;
mod transfer;
mod verify;

pub(crate) use cache::{prefetch, synchronize_cache};
pub(crate) use provisioning::{lba_status, unmap, write_same};
pub(crate) use range::NOTHING;
pub(crate) use sanitize::{block_erase, cryptographic_erase, exit_failure_mode, overwrite};
pub(crate) use transfer::{compare_and_write, read, write, write_atomic};
pub(crate) use verify::{verify, write_and_verify};
