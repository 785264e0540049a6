//! What a trace may hold: whoever replays one takes memory and time as it says.

/// Bytes of a trace file.
pub const BYTES_MAX: usize = 128 << 20;
/// Events of a trace.
pub const EVENTS_MAX: usize = 4 << 20;
/// Bytes of a line.
pub const LINE_MAX: usize = 200;
/// Bytes of a trace's or a marker's name.
pub const NAME_MAX: usize = 64;
/// The highest number of a session.
pub const SESSION_MAX: u8 = 15;
/// Blocks of one READ or WRITE: 16 MiB.
pub const BLOCKS_MAX: u32 = 32_768;
/// The highest block.
pub const LBA_MAX: u64 = (1 << 48) - 1;
/// Commands outstanding.
pub const DEPTH_MAX: u16 = 1024;
/// Bytes that any other command reads.
pub const TRANSFER_MAX: u32 = 1 << 20;
/// Think time between two commands, microseconds: a day.
pub(crate) const THINK_US_MAX: u64 = 86_400_000_000;
