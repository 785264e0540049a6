//! What reading a capture may take.

/// iSCSI connections that are followed at once.
pub const CONNECTIONS_MAX: usize = 65_536;
/// Logins, commands and closes of all connections: those of a trace.
pub const FACTS_MAX: usize = stampede_trace::EVENTS_MAX;
/// Different initiator names.
pub const NAMES_MAX: usize = 65_536;
/// Segments of one direction that wait for one that is missing.
pub const HELD_SEGMENTS_MAX: usize = 256;
/// Bytes of all segments that wait, over all connections.
pub const HELD_BYTES_MAX: usize = 64 << 20;
/// Bytes of one connection's segments that wait in one direction.
pub const HELD_STREAM_MAX: usize = 4 << 20;
/// Commands of one connection that wait for their status.
pub const OUTSTANDING_MAX: usize = 4096;
/// Bytes of one login's text.
pub const TEXT_MAX: usize = 64 << 10;
/// Bytes of a block of a capture file.
pub const BLOCK_MAX: usize = 16 << 20;
/// Interfaces of a pcapng section.
pub const INTERFACES_MAX: usize = 4096;
