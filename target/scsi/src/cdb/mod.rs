//! Command descriptor blocks: the one table of supported commands, and what a CDB says about its data.

mod commands;
mod field;
mod layout;
mod long;
mod table;

pub(crate) use commands::COMMANDS;
pub(crate) use field::{be16, be32, be64};
pub(crate) use layout::{BlockCdb, BlockLayout};
pub use long::{LONG, condensed, generations};
pub(crate) use long::{Unknown, bitmap_fields, unknown};
pub(crate) use table::{Access, Command, Needs, find, opcode_is_known};

use table::Data;

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
/// VERIFY with BYTCHK zero and WRITE SAME with NDOB move nothing; COMPARE AND WRITE moves twice its block count. The
/// value is the CDB's claim alone: it may exceed every limit, and [`Device::start`](crate::Device::start) then
/// refuses the command.
pub fn data_direction_and_len(cdb: &[u8; 16], block_size: u32) -> Transfer {
    let Some(command) = find(cdb) else { return Transfer::Unknown };
    let blocks = |times: u64| {
        let count = command.layout().map_or(0, |layout| layout.decode(cdb).count);
        u64::from(count) * u64::from(block_size) * times
    };
    match command.data {
        Data::None => Transfer::None,
        Data::Fixed(bytes) => Transfer::In(u64::from(bytes)),
        Data::Allocation(field) => Transfer::In(u64::from(field.read(cdb))),
        Data::Parameters(field) => Transfer::Out(u64::from(field.read(cdb))),
        Data::ReadBlocks => Transfer::In(blocks(1)),
        Data::WriteBlocks => Transfer::Out(blocks(1)),
        Data::CompareBlocks => Transfer::Out(blocks(2)),
        Data::OneBlock { ndob } if ndob && command.flags(cdb) & 0x01 != 0 => Transfer::None,
        Data::OneBlock { .. } => Transfer::Out(u64::from(block_size)),
        Data::CheckBlocks => match (cdb[1] >> 1) & 0x03 {
            0b01 => Transfer::Out(blocks(1)),
            0b11 => Transfer::Out(if blocks(1) == 0 { 0 } else { u64::from(block_size) }),
            _ => Transfer::None,
        },
    }
}

/// Whether the data-out of `cdb` is a parameter list, to be gathered whole and passed as `param` to
/// [`Device::start`](crate::Device::start) (UNMAP, MODE SELECT, PERSISTENT RESERVE OUT), rather than blocks.
///
/// The lists are small: nothing past [`PARAMETER_LIST_BYTES_MAX`] is ever used.
pub fn takes_parameter_list(cdb: &[u8; 16]) -> bool {
    find(cdb).is_some_and(|command| matches!(command.data, Data::Parameters(_)))
}

/// The largest parameter list in bytes (a 16-bit PARAMETER LIST LENGTH; PERSISTENT RESERVE OUT's is refused above it).
pub const PARAMETER_LIST_BYTES_MAX: u32 = 0xFFFF;

/// The name of the command in `cdb` ("READ(10)"), for logs and counters; `None` for an unknown one.
pub fn name(cdb: &[u8; 16]) -> Option<&'static str> {
    find(cdb).map(|command| command.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cdb(bytes: &[u8]) -> [u8; 16] {
        let mut cdb = [0; 16];
        cdb[..bytes.len()].copy_from_slice(bytes);
        cdb
    }

    #[test]
    fn block_commands_count_blocks() {
        let read10 = cdb(&[0x28, 0, 0, 0, 0, 1, 0, 0, 8, 0]);
        assert_eq!(data_direction_and_len(&read10, 512), Transfer::In(4096));
        assert_eq!(data_direction_and_len(&read10, 4096), Transfer::In(32768));
        let read6_of_zero_is_256 = cdb(&[0x08, 0, 0, 0, 0, 0]);
        assert_eq!(data_direction_and_len(&read6_of_zero_is_256, 512), Transfer::In(256 * 512));
        let write16 = cdb(&[0x8A, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0]);
        assert_eq!(data_direction_and_len(&write16, 4096), Transfer::Out(0xFFFF_FFFF * 4096));
        let compare = cdb(&[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0]);
        assert_eq!(data_direction_and_len(&compare, 512), Transfer::Out(6 * 512));
    }

    #[test]
    fn flags_decide_about_data_out() {
        let verify = |bytchk: u8| cdb(&[0x2F, bytchk << 1, 0, 0, 0, 0, 0, 0, 4, 0]);
        assert_eq!(data_direction_and_len(&verify(0), 512), Transfer::None);
        assert_eq!(data_direction_and_len(&verify(1), 512), Transfer::Out(2048));
        assert_eq!(data_direction_and_len(&verify(3), 512), Transfer::Out(512));
        let same = |flags: u8| cdb(&[0x93, flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0]);
        assert_eq!(data_direction_and_len(&same(0), 512), Transfer::Out(512));
        assert_eq!(data_direction_and_len(&same(1), 512), Transfer::None);
    }

    #[test]
    fn parameter_lists_are_told_from_blocks() {
        let unmap = cdb(&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0]);
        assert!(takes_parameter_list(&unmap));
        assert_eq!(data_direction_and_len(&unmap, 512), Transfer::Out(24));
        assert!(!takes_parameter_list(&cdb(&[0x2A])));
        assert!(!takes_parameter_list(&cdb(&[0x93])));
        assert_eq!(data_direction_and_len(&cdb(&[0xFF]), 512), Transfer::Unknown);
        assert_eq!(name(&cdb(&[0x28])), Some("READ(10)"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_defined(bytes in any::<[u8; 16]>(), shift in 9u32..=12) {
            let transfer = data_direction_and_len(&bytes, 1 << shift);
            prop_assert_eq!(transfer == Transfer::Unknown, find(&bytes).is_none());
        }
    }
}
