//! Answers about the unit's state, capacity and commands, and about the target's logical units.

mod capacity;
mod defects;
mod luns;
mod opcodes;
mod state;

pub(crate) use capacity::{read_capacity_10, read_capacity_16};
pub(crate) use defects::{read_defect_data_10, read_defect_data_12};
pub(crate) use luns::own_lun;
pub use luns::{no_such_lun, report_luns};
pub(crate) use opcodes::{operation_codes, task_management};
pub(crate) use state::{request_sense, test_unit_ready};
