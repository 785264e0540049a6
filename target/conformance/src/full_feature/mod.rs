//! The full-feature phase (RFC 7143 4, 11), and what of SCSI goes across sessions.

mod blocks;
mod cmd_sn;
mod data_in;
mod logout;
mod luns;
mod management;
mod nop;
mod resets;
mod residual;
mod rfc_7144;
mod sanitize;
mod sense;
mod stat_sn;
mod text;
mod thresholds;
mod writes;

use crate::registry::Test;

/// The tests of this group, by file.
pub(crate) const FILES: &[&[Test]] = &[
    cmd_sn::TESTS,
    stat_sn::TESTS,
    data_in::TESTS,
    writes::TESTS,
    residual::TESTS,
    sense::TESTS,
    management::TESTS,
    luns::TESTS,
    sanitize::TESTS,
    thresholds::TESTS,
    resets::TESTS,
    rfc_7144::TESTS,
    nop::TESTS,
    text::TESTS,
    logout::TESTS,
    blocks::TESTS,
];
