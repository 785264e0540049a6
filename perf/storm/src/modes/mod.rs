//! One module per kind of run.

pub(crate) mod boot;
pub(crate) mod idle;
pub(crate) mod io;
pub(crate) mod login;
mod record;
pub(crate) mod record_trace;

mod seats;
pub(crate) mod trace;
pub(crate) mod verify;

pub(crate) use record::Figures;
