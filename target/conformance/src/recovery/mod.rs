//! Errors, and what is left after them at ErrorRecoveryLevel 0 (RFC 7143 7).

mod digests;

use crate::registry::Test;

/// The tests of this group, by file.
pub(crate) const FILES: &[&[Test]] = &[digests::TESTS];
