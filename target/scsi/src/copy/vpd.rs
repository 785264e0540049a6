//! Third-party Copy (VPD page 8Fh, SPC-4 7.8.17): what can be copied, and within which limits.

use super::limits::{
    CHUNK_BYTES, COPIES_MAX, DESCRIPTORS, INACTIVITY_S, INACTIVITY_S_MAX, LIST_BYTES_MAX, RANGES_MAX,
    SEGMENT_LENGTH_MAX, SEGMENTS_MAX, TARGETS_MAX, TOKEN_BYTES_MAX, TOKEN_BYTES_OPTIMAL,
};
use super::rod::{CHANGE_VULNERABLE, POINT_IN_TIME_ANY, ZERO};
use super::target::SELF;
use crate::DeviceConfig;
use crate::cdb::COMMANDS;

/// The page, behind its header: descriptors in ascending order.
pub(crate) fn third_party_copy(config: &DeviceConfig) -> Vec<u8> {
    let mut page = Vec::new();
    descriptor(&mut page, 0x0000, token_limits(config));
    descriptor(&mut page, 0x0001, supported_commands());
    descriptor(&mut page, 0x0004, parameter_data());
    descriptor(&mut page, 0x0008, counted_short(&DESCRIPTORS));
    descriptor(&mut page, 0x000C, counted_long(&SELF.to_be_bytes()));
    descriptor(&mut page, 0x0106, token_features());
    descriptor(&mut page, 0x0108, token_types());
    descriptor(&mut page, 0x8001, general_operations());
    page
}

/// Appends a descriptor: type, length, and the rest padded to four bytes.
fn descriptor(page: &mut Vec<u8>, kind: u16, mut body: Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
    page.extend_from_slice(&kind.to_be_bytes());
    page.extend_from_slice(&(body.len() as u16).to_be_bytes());
    page.extend_from_slice(&body);
}

/// A list behind its length in one byte.
fn counted_short(list: &[u8]) -> Vec<u8> {
    let mut body = vec![list.len() as u8];
    body.extend_from_slice(list);
    body
}

/// A list behind its length in two bytes.
fn counted_long(list: &[u8]) -> Vec<u8> {
    let mut body = (list.len() as u16).to_be_bytes().to_vec();
    body.extend_from_slice(list);
    body
}

/// Block Device ROD Token Limits (SBC-3 6.5.7.3), which is what Windows reads.
fn token_limits(config: &DeviceConfig) -> Vec<u8> {
    let block = u64::from(config.block_size.max(1));
    let mut body = vec![0; 32];
    body[6..8].copy_from_slice(&(RANGES_MAX as u16).to_be_bytes());
    body[8..12].copy_from_slice(&INACTIVITY_S_MAX.to_be_bytes());
    body[12..16].copy_from_slice(&INACTIVITY_S.to_be_bytes());
    body[16..24].copy_from_slice(&(TOKEN_BYTES_MAX / block).to_be_bytes());
    body[24..32].copy_from_slice(&(TOKEN_BYTES_OPTIMAL / block).to_be_bytes());
    body
}

/// Supported Commands (SPC-4 7.8.17.4): the service actions of both operation codes, as the command table has them.
fn supported_commands() -> Vec<u8> {
    let mut list = Vec::new();
    for opcode in [0x83, 0x84] {
        let actions = COMMANDS.iter().filter(|command| command.opcode() == opcode);
        let actions: Vec<u8> = actions.filter_map(|command| command.service_action).collect();
        list.push(opcode);
        list.extend_from_slice(&counted_short(&actions));
    }
    counted_short(&list)
}

/// Parameter Data (SPC-4 7.8.17.5).
fn parameter_data() -> Vec<u8> {
    let mut body = vec![0; 28];
    body[4..6].copy_from_slice(&(TARGETS_MAX as u16).to_be_bytes());
    body[6..8].copy_from_slice(&(SEGMENTS_MAX as u16).to_be_bytes());
    body[8..12].copy_from_slice(&(LIST_BYTES_MAX as u32).to_be_bytes());
    body
}

/// ROD Token Features (SPC-4 7.8.17.8), with the block device's own (SBC-3 6.5.7.4). No token of another copy manager is
/// taken.
fn token_features() -> Vec<u8> {
    const BLOCK_DEVICE: u16 = 48;
    let mut body = vec![0; 44];
    body[12..16].copy_from_slice(&0u32.to_be_bytes());
    body[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
    body[20..24].copy_from_slice(&INACTIVITY_S_MAX.to_be_bytes());
    body[42..44].copy_from_slice(&BLOCK_DEVICE.to_be_bytes());
    let mut block = vec![0; usize::from(BLOCK_DEVICE)];
    block[2..4].copy_from_slice(&(BLOCK_DEVICE - 4).to_be_bytes());
    block[8..16].copy_from_slice(&TOKEN_BYTES_MAX.to_be_bytes());
    block[16..24].copy_from_slice(&TOKEN_BYTES_OPTIMAL.to_be_bytes());
    block[24..32].copy_from_slice(&TOKEN_BYTES_OPTIMAL.to_be_bytes());
    block[32..40].copy_from_slice(&CHUNK_BYTES.to_be_bytes());
    body.extend_from_slice(&block);
    body
}

/// Supported ROD Token and ROD Types (SPC-4 7.8.17.9).
fn token_types() -> Vec<u8> {
    /// A token of the type can be made, and used.
    const OUT: u8 = 0x01;
    const IN: u8 = 0x02;
    let types = [(CHANGE_VULNERABLE, IN | OUT), (POINT_IN_TIME_ANY, OUT), (ZERO, IN)];
    let mut body = vec![0; 4];
    body[2..4].copy_from_slice(&(64 * types.len() as u16).to_be_bytes());
    for (kind, flags) in types {
        let mut one = [0; 64];
        one[..4].copy_from_slice(&kind.to_be_bytes());
        one[4] = flags;
        body.extend_from_slice(&one);
    }
    body
}

/// General Copy Operations (SPC-4 7.8.17.12).
fn general_operations() -> Vec<u8> {
    let mut body = vec![0; 32];
    body[..4].copy_from_slice(&(COPIES_MAX as u32).to_be_bytes());
    body[4..8].copy_from_slice(&(COPIES_MAX as u32).to_be_bytes());
    body[8..12].copy_from_slice(&SEGMENT_LENGTH_MAX.to_be_bytes());
    // DATA SEGMENT GRANULARITY, as a power of two.
    body[12] = 9;
    body
}
