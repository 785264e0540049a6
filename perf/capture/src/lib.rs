//! Traces from what was recorded elsewhere: from the packets of a capture, and from a target's recording of a boot.
//!
//! ```text
//!   pcap, pcapng ─► packets ─► segment ─► stream ─► pdus ─► connection ─┐
//!   link types,      Ethernet, VLAN,   TCP in order,  iSCSI    logins,  ├─► machine ─► Trace
//!   clocks           IPv4, IPv6, TCP   gaps are told  headers  commands ┘
//!   a target's STAMPREC file ─► recording ─────────────────────────────────────────► Trace
//! ```
//!
//! Nothing of what is read is trusted: every table has a bound ([`limits`]), what is missing is counted in the
//! [`Report`] and never made up, and data segments are skipped, not kept. A capture that was cut short (`tcpdump -s 200`)
//! will do, as long as each PDU's header is in it.

#![forbid(unsafe_code)]

mod connection;
pub mod limits;
mod machine;
mod packets;
mod pdus;
pub mod recording;
mod report;
mod segment;
mod stream;
mod table;

pub use machine::{Details, build};
pub use report::Report;
pub use table::Capture;

use stampede_trace::Trace;
use std::io::Read;

/// Why there is no trace.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file is no capture, or is damaged.
    #[error("{0}")]
    File(String),
    /// More of something than is kept.
    #[error("{0}: cut the capture into parts, or filter it to one machine's connections")]
    Limit(String),
    /// The capture holds no boot that could be told.
    #[error("{0}")]
    Nothing(String),
}

/// Reads a capture, classic pcap or pcapng, and makes the trace of one machine of it.
///
/// # Errors
/// [`CaptureError`]; what was left out without being an error is in the report.
pub fn read<'a>(input: impl Read + Send + 'a, details: &Details) -> Result<(Trace, Report), CaptureError> {
    let mut capture = Capture::default();
    packets::each(input, &mut capture)?;
    capture.finish()?;
    build(capture, details)
}
