//! What was seen in a capture, and what is missing in its trace.

use std::fmt;

/// Counts of one capture.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Packets of the file.
    pub packets: u64,
    /// Packets that are no TCP segment, or of a link type that is not known.
    pub other_packets: u64,
    /// Fragments of IP packets, which are not put together.
    pub fragments: u64,
    /// iSCSI connections with a login.
    pub connections: u64,
    /// Segments with data of connections whose beginning is not in the capture.
    pub headless_segments: u64,
    /// Connections that were followed and then not understood: bytes that are no PDU, or a gap over a header.
    pub lost_connections: u64,
    /// Why the first of these was lost.
    pub first_loss: Option<String>,
    /// Bytes that came again.
    pub repeated_bytes: u64,
    /// Bytes that the capture has not: cut off by its snap length.
    pub cut_bytes: u64,
    /// Gaps: segments that the receiver got and the capture did not.
    pub gaps: u64,
    /// Bytes of these.
    pub gap_bytes: u64,
    /// The file ends within a packet.
    pub is_cut_off: bool,
    /// Commands of the trace's machine that never got a status.
    pub unanswered: u64,
    /// READs, WRITEs and flushes that ended in another status than GOOD: whoever replays sends again by itself.
    pub failed: u64,
    /// Commands that write data whose content is not in a trace (UNMAP, PERSISTENT RESERVE OUT, ...).
    pub writing_others: u64,
    /// READs and WRITEs of other units than the one whose trace it is.
    pub other_units: u64,
    /// READs and WRITEs that a trace cannot hold: no blocks, too many, or a block length that is no power of two of 512.
    pub odd: u64,
    /// Initiator names in the capture.
    pub initiators: Vec<String>,
}

impl fmt::Display for Report {
    /// A line for what was read, and one for each thing that is missing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} packets, {} iSCSI connections", self.packets, self.connections)?;
        for (count, what) in [
            (self.repeated_bytes, "bytes came again, and count once"),
            (self.cut_bytes, "bytes were cut off by the snap length"),
            (self.gaps, "gaps: segments that the capture missed"),
            (self.gap_bytes, "bytes are missing in them"),
            (self.lost_connections, "connections could not be followed to their end"),
            (self.headless_segments, "segments of connections that began before the capture are left out"),
            (self.fragments, "fragments of IP packets are left out"),
            (self.unanswered, "commands without a status are left out"),
            (self.failed, "reads, writes and flushes that failed are left out"),
            (self.writing_others, "commands that write other data are left out"),
            (self.other_units, "reads and writes of other units are left out"),
            (self.odd, "reads and writes that no trace can hold are left out"),
        ] {
            if count > 0 {
                write!(f, "\n  {count} {what}")?;
            }
        }
        if let Some(loss) = &self.first_loss {
            write!(f, "\n  the first connection that was lost: {loss}")?;
        }
        if self.is_cut_off {
            f.write_str("\n  the file ends within a packet")?;
        }
        Ok(())
    }
}
