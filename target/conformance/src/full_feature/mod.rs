//! The full-feature phase (RFC 7143 4, 11).

mod cmd_sn;
mod nop;

use crate::registry::Test;

/// The tests of this group, by file.
pub(crate) const FILES: &[&[Test]] = &[cmd_sn::TESTS, nop::TESTS];
