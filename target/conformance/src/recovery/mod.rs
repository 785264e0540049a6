//! Errors, and what is left after them at ErrorRecoveryLevel 0 (RFC 7143 7).

mod data_out;
mod digests;
mod rejects;

use crate::registry::Test;

/// The tests of this group, by file.
pub(crate) const FILES: &[&[Test]] = &[rejects::TESTS, data_out::TESTS, digests::TESTS];
