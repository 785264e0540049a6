//! REPORT SUPPORTED OPERATION CODES and REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS.

use crate::cdb::{self, COMMANDS, Command, be16, be32};
use crate::device::{Device, Request};
use crate::sense::Sense;
use crate::{Reply, Step};

/// SUPPORT: not supported; supported as the standard says.
const UNSUPPORTED: u8 = 0b001;
const SUPPORTED: u8 = 0b011;

/// Bytes that SANITIZE gets through in a second on slow storage.
const SANITIZE_BYTES_S: u64 = 16 << 20;

/// REPORT SUPPORTED OPERATION CODES (SPC-4 6.35): the table of commands, as the initiator wants it.
pub(crate) fn operation_codes(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let timeouts = request.cdb[2] & 0x80 != 0;
    let opcode = request.cdb[3];
    let service_action = be16(request.cdb, 4);
    let has_services = COMMANDS.iter().any(|c| c.opcode() == opcode && c.service_action.is_some());
    let data = match request.cdb[2] & 0x07 {
        0b000 => all(device, timeouts),
        0b001 if has_services => return Err(Sense::invalid_cdb(2, Some(2))),
        0b010 if !has_services && cdb::opcode_is_known(opcode) => return Err(Sense::invalid_cdb(2, Some(2))),
        0b001 => one(device, opcode, 0, timeouts),
        0b010 | 0b011 => one(device, opcode, service_action, timeouts),
        _ => return Err(Sense::invalid_cdb(2, Some(2))),
    };
    Ok(Step::Done(Reply::data(data, be32(request.cdb, 6) as usize)))
}

/// The all_commands parameter data (SPC-4 6.35.2). It leaves out what has CDBs of 32 bytes, which initiators know by
/// asking for it: libiscsi has room for 16 bytes of usage data, and takes a longer answer for an empty one.
fn all(device: &Device, timeouts: bool) -> Vec<u8> {
    let mut data = vec![0; 4];
    let listed = |command: &&Command| device.offers(command) && command.opcode() != cdb::LONG;
    for command in COMMANDS.iter().filter(listed) {
        let service = command.service_action.is_some();
        let flags = u8::from(timeouts) << 1 | u8::from(service);
        let service_action = command.service_action.unwrap_or(0);
        data.extend_from_slice(&[
            command.opcode(),
            0,
            0,
            service_action,
            0,
            flags,
            0,
            command.usage.len() as u8,
        ]);
        if timeouts {
            data.extend_from_slice(&timeouts_descriptor(device, command));
        }
    }
    let length = (data.len() - 4) as u32;
    data[..4].copy_from_slice(&length.to_be_bytes());
    data
}

/// The one_command parameter data (SPC-4 6.35.3).
fn one(device: &Device, opcode: u8, service_action: u16, timeouts: bool) -> Vec<u8> {
    let found = COMMANDS.iter().find(|command| {
        command.opcode() == opcode
            && u16::from(command.service_action.unwrap_or(0)) == service_action
            && device.offers(command)
    });
    let Some(command) = found else { return vec![0, UNSUPPORTED, 0, 0] };
    let mut data = vec![0, SUPPORTED | u8::from(timeouts) << 7, 0, command.usage.len() as u8];
    data.extend_from_slice(command.usage);
    if timeouts {
        data.extend_from_slice(&timeouts_descriptor(device, command));
    }
    data
}

/// The command timeouts descriptor (SPC-4 6.35.4), in seconds.
fn timeouts_descriptor(device: &Device, command: &Command) -> [u8; 12] {
    let (nominal, mut recommended) = command.timeouts_s();
    if command.sanitizes() {
        // One pass over the medium; each further one takes as long again.
        let bytes = device.config.blocks.saturating_mul(u64::from(device.config.block_size));
        let rate = match device.config.sanitize_bytes_s {
            0 => SANITIZE_BYTES_S,
            limit => limit.min(SANITIZE_BYTES_S),
        };
        let pass_s = u32::try_from(bytes / rate).unwrap_or(u32::MAX);
        recommended = recommended.saturating_add(pass_s);
    }
    let mut descriptor = [0; 12];
    descriptor[1] = 0x0A;
    descriptor[4..8].copy_from_slice(&nominal.to_be_bytes());
    descriptor[8..12].copy_from_slice(&recommended.to_be_bytes());
    descriptor
}

/// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-4 6.36): ABORT TASK, ABORT TASK SET, CLEAR TASK SET and LOGICAL
/// UNIT RESET; QUERY TASK, QUERY TASK SET, I_T NEXUS RESET and QUERY ASYNCHRONOUS EVENT where the transport has them.
pub(crate) fn task_management(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let allocation_length = be32(request.cdb, 6);
    if allocation_length < 4 {
        return Err(Sense::invalid_cdb(6, None));
    }
    const SUPPORTED_FUNCTIONS: u8 = 0x80 | 0x40 | 0x10 | 0x08;
    /// QTS of byte 0; QAES, QTSS and ITNRS of byte 1.
    const QUERIES: [u8; 2] = [0x04, 0x04 | 0x02 | 0x01];
    let queries = device.nexuses.get(&request.nexus).is_some_and(|nexus| nexus.queries);
    let queries = if queries { QUERIES } else { [0; 2] };
    let mut data = vec![SUPPORTED_FUNCTIONS | queries[0], queries[1], 0, 0];
    if request.cdb[2] & 0x80 != 0 {
        // REPD: 12 more bytes, and no timeouts are told.
        data[3] = 12;
        data.resize(16, 0);
    }
    Ok(Step::Done(Reply::data(data, allocation_length as usize)))
}
