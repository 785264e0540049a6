//! The limits of third-party copy, as VPD page 8Fh and RECEIVE COPY OPERATING PARAMETERS tell them.

/// MAXIMUM CSCD DESCRIPTOR COUNT.
pub(super) const TARGETS_MAX: usize = 16;

/// MAXIMUM SEGMENT DESCRIPTOR COUNT.
pub(super) const SEGMENTS_MAX: usize = 64;

/// Bytes of a CSCD descriptor (SPC-4 6.4.5.1).
pub(super) const TARGET_BYTES: usize = 32;

/// Bytes of a block device to block device segment descriptor (SPC-4 6.4.6.4).
pub(super) const SEGMENT_BYTES: usize = 28;

/// MAXIMUM DESCRIPTOR LIST LENGTH: as many descriptors of each kind as there may be.
pub(super) const LIST_BYTES_MAX: usize = TARGETS_MAX * TARGET_BYTES + SEGMENTS_MAX * SEGMENT_BYTES;

/// MAXIMUM SEGMENT LENGTH in bytes: more than a segment descriptor can ask for with blocks of 4,096 bytes.
pub(super) const SEGMENT_LENGTH_MAX: u32 = 256 << 20;

/// TOTAL CONCURRENT COPIES of one unit.
pub(super) const COPIES_MAX: usize = 16;

/// Copies of one unit that are remembered, running ones among them.
pub(super) const RECORDS_MAX: usize = 64;

/// MAXIMUM RANGE DESCRIPTORS of POPULATE TOKEN and WRITE USING TOKEN.
pub(super) const RANGES_MAX: usize = 64;

/// MAXIMUM TOKEN TRANSFER SIZE in bytes, over all ranges of one command.
pub(super) const TOKEN_BYTES_MAX: u64 = 256 << 20;

/// OPTIMAL TRANSFER COUNT in bytes.
pub(super) const TOKEN_BYTES_OPTIMAL: u64 = 64 << 20;

/// ROD tokens that one unit keeps. A further one takes the place of the oldest.
pub(super) const TOKENS_MAX: usize = 64;

/// MAXIMUM INACTIVITY TIMEOUT in seconds.
pub(super) const INACTIVITY_S_MAX: u32 = 600;

/// DEFAULT INACTIVITY TIMEOUT in seconds.
pub(super) const INACTIVITY_S: u32 = 60;

/// Bytes that one command of a copy moves at most: what a copy holds of its shard's buffers.
pub(super) const CHUNK_BYTES: u64 = 1 << 20;

/// Descriptor type codes that are understood, ascending: block to block, verify; and the identification descriptor.
pub(super) const DESCRIPTORS: [u8; 3] =
    [super::list::BLOCK_TO_BLOCK, super::list::VERIFY_CSCD, super::target::IDENTIFICATION];
