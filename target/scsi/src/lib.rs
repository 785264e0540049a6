//! The SCSI device server of one disk logical unit (SAM-5, SPC-4/5, SBC-3/4), without I/O.
//!
//! ```text
//!             CDB, nexus                     Step::Done(Reply)   status, sense, data-in
//!  engine ───────────────▶ Device::start ──▶ Step::Media(Media)  engine does it, then
//!                                            │                   media_done / media_failed ──▶ Reply
//!                                            Step::Save(bytes)   engine stores them, then
//!                                            │                   saved ──▶ Step
//!                                            Step::Fence(Fence)  engine ends tasks, then sends its Reply
//!                                            Step::Sanitize      engine begins it, then says how far it is and how it ended
//!                                            Step::Wait          engine starts the command again after saved
//! ```
//!
//! The engine owns the medium. It asks [`cdb::data_direction_and_len`] how much data a CDB moves, gathers
//! parameter lists for the commands that have one, and hands the CDB to [`Device::start`]. Everything that needs no
//! medium is answered at once; the rest comes back as a [`Media`] value whose ranges are already checked against
//! the capacity, the limits, write protection, reservations and pending unit attentions.
//!
//! Nothing here reads a clock, allocates without a bound, or does I/O.

#![forbid(unsafe_code)]

mod alua;
mod bitmap;
mod block;
pub mod cdb;
mod config;
pub mod copy;
mod device;
mod draft;
mod inquiry;
mod log;
mod media;
mod medium;
mod mode;
mod report;
mod reservations;
mod sanitize;
mod saved;
pub mod sense;
mod status;
mod step;
mod thresholds;
mod unit_attention;

pub use alua::{AccessState, Alua};
pub use bitmap::Generation;
pub use config::{DeviceConfig, Identity};
pub use device::Device;
pub use media::{
    Blocks, LbaState, LbaStatusDescriptor, Media, MediaError, NotReady, Pattern, VerifyMode,
    lba_status_reply, media_done, media_failed,
};
pub use medium::RemovalPrevented;
pub use report::{no_such_lun, report_luns};
pub use reservations::{REGISTRATIONS_MAX, TransportId};
pub use sanitize::Sanitize;
pub use saved::{SavedState, SavedStateError};
pub use sense::{Sense, SenseFormat, SenseKey};
pub use status::Status;
pub use step::{Fence, Reply, Step};
pub use thresholds::Space;
pub use unit_attention::UnitAttention;

/// An I_T nexus: one initiator port's session with this target port, as the engine numbers them (SAM-5 4.7).
///
/// The value is the engine's own (a session index with its generation will do); it must be unique among the nexuses
/// attached to one [`Device`] at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NexusId(pub u64);
