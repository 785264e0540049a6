//! Traces of boots: what one machine's initiators do from power-on on, for `storm boot` to do again.
//!
//! ```text
//!   CSV of a recording ─► csv::read ─┐
//!   a Windows boot's figures ─► windows::model ─┼─► Trace ─► text::write ─► FILE.trace ─► text::read ─► Trace
//!   packets of a capture ─► stampede-capture ───┘
//! ```
//!
//! # The file
//! Text, one event a line, so that a trace can be read, compared and mended like any source; neighbouring commands are
//! written relative to each other, so that 4,500 commands take about 60 KiB (a binary form would take half of it, which
//! is nothing that a repository or a reader would notice). `text` describes it.
//!
//! # What a trace means
//! Commands are done in the order of the file. One that was sent while none was outstanding (`depth` 0) is sent `think_us`
//! after the last completion; one that was sent while others were outstanding is sent as soon as no more than those are.

#![forbid(unsafe_code)]

pub mod csv;
pub mod text;
pub mod windows;

mod limits;
mod trace;

pub use csv::writes_other_data;
pub use limits::{
    BLOCKS_MAX, BYTES_MAX, DEPTH_MAX, EVENTS_MAX, LBA_MAX, LINE_MAX, NAME_MAX, SESSION_MAX, TRANSFER_MAX,
};
pub use trace::{Command, Event, Gatherer, Op, Origin, Stage, Totals, Trace, TraceError};

/// Bytes of a block of a trace.
pub const BLOCK: u64 = 512;

/// Reads a trace in either form: the text of this crate, or the CSV of a recording, which begins with its column names.
///
/// # Errors
/// [`TraceError`], with the line.
pub fn read(bytes: &[u8]) -> Result<Trace, TraceError> {
    if bytes.starts_with(csv::FIRST_COLUMN.as_bytes()) {
        csv::read(bytes, &csv::Details::default())
    } else {
        text::read(bytes)
    }
}
