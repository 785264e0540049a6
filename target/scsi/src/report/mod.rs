//! Answers about the target and its logical units: REPORT LUNS, and commands to a LUN that is not there.

use crate::{Reply, sense};

/// The reply to a command for a logical unit that does not exist (SAM-5 4.6.5.2, SPC-4 6.4.2).
///
/// INQUIRY says peripheral qualifier 011b, REQUEST SENSE returns 05h/25h/00h as data, everything else gets CHECK
/// CONDITION 05h/25h/00h. REPORT LUNS is answered by [`report_luns`] for any LUN.
pub fn no_such_lun(cdb: &[u8; 16]) -> Reply {
    let _ = cdb;
    Reply::check(sense::LUN_NOT_SUPPORTED)
}

/// The reply to REPORT LUNS (SPC-4 6.33) for a target with `luns`, in ascending order.
pub fn report_luns(cdb: &[u8; 16], luns: &[u16]) -> Reply {
    let _ = (cdb, luns);
    Reply::check(sense::INVALID_OPERATION_CODE)
}
