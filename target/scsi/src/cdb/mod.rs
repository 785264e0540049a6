//! Command descriptor blocks: the one table of supported commands, and what a CDB says about its data.

/// How much data a CDB itself asks to move, and which way (its "transfer length" in bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transfer {
    /// No data.
    None,
    /// Data-in, at most so many bytes (transfer length times block length, or allocation length).
    In(u64),
    /// Data-out, so many bytes (transfer length times block length, or parameter list length).
    Out(u64),
    /// The operation code is not one of ours: [`Device::start`](crate::Device::start) refuses it.
    Unknown,
}

/// What `cdb` says it moves, with logical blocks of `block_size` bytes. Pure, cheap, and defined for any bytes.
///
/// VERIFY with BYTCHK zero and WRITE SAME with NDOB move nothing; COMPARE AND WRITE moves twice its block count.
pub fn data_direction_and_len(cdb: &[u8; 16], block_size: u32) -> Transfer {
    let _ = (cdb, block_size);
    Transfer::Unknown
}

/// Whether the data-out of `cdb` is a parameter list, to be gathered whole and passed as `param` to
/// [`Device::start`](crate::Device::start) (UNMAP, MODE SELECT, PERSISTENT RESERVE OUT), rather than blocks.
pub fn takes_parameter_list(cdb: &[u8; 16]) -> bool {
    let _ = cdb;
    false
}
