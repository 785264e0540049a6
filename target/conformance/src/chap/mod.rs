//! Authentication by CHAP (RFC 7143 12.1.3, 9.2.1, RFC 1994).

mod exchange;
mod refusals;
mod responses;

use crate::registry::Test;

/// The tests of this group, by file.
pub(crate) const FILES: &[&[Test]] = &[responses::TESTS, refusals::TESTS];
