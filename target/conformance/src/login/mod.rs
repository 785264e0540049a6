//! The login phase, without authentication (RFC 7143 6, 11.12, 11.13, 13).

mod headers;
mod identity;
mod keys;
mod numbers;
mod stages;
mod text;

use crate::registry::Test;

/// The tests of this group, by file.
pub(crate) const FILES: &[&[Test]] =
    &[stages::TESTS, headers::TESTS, numbers::TESTS, identity::TESTS, text::TESTS, keys::TESTS, keys::MORE];
