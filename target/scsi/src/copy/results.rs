//! The RECEIVE COPY commands: what copies have done (SPC-4 6.16 to 6.23).

use super::limits::{
    CHUNK_BYTES, COPIES_MAX, DESCRIPTORS, LIST_BYTES_MAX, SEGMENT_LENGTH_MAX, SEGMENTS_MAX, TARGETS_MAX,
};
use super::rod::TOKEN_BYTES;
use super::rods::Rods;
use super::state::{Copies, Record, Standing};
use crate::cdb::be32;
use crate::sense::Sense;
use crate::{NexusId, Reply, Status};

/// TRANSFER COUNT UNITS (SPC-4 table 207).
const BYTES: u8 = 0x00;
const MEBIBYTES: u8 = 0x02;
const BLOCKS: u8 = 0xF1;

/// The ALLOCATION LENGTH of operation code 84h.
fn allocation_length(cdb: &[u8; 16]) -> usize {
    be32(cdb, 10) as usize
}

/// The list identifier that the initiator asks about, of one byte or of four, or the error for one that it does not have.
fn find<'a>(
    copies: &'a Copies,
    nexus: NexusId,
    cdb: &[u8; 16],
    long: bool,
) -> Result<(u32, &'a Record), Sense> {
    let list = if long { be32(cdb, 2) } else { u32::from(cdb[2]) };
    copies.find(nexus, list).map(|record| (list, record)).ok_or(Sense::invalid_cdb(2, None))
}

/// RECEIVE COPY STATUS(LID1) (SPC-4 6.23). What it tells of an ended copy is told once.
pub(super) fn status_lid1(copies: &mut Copies, nexus: NexusId, cdb: &[u8; 16]) -> Result<Reply, Sense> {
    let (list, record) = find(copies, nexus, cdb, false)?;
    let mut data = vec![0; 12];
    data[3] = 8;
    data[4] = match &record.standing {
        Standing::Running => 0x00,
        Standing::Ended(Status::Good, _) => 0x01,
        _ => 0x02,
    };
    data[5..7].copy_from_slice(&record.progress.segments.to_be_bytes());
    let bytes = record.progress.bytes;
    let (units, count) = match u32::try_from(bytes) {
        Ok(count) => (BYTES, count),
        Err(_) => (MEBIBYTES, (bytes >> 20) as u32),
    };
    data[7] = units;
    data[8..].copy_from_slice(&count.to_be_bytes());
    copies.forget(nexus, list);
    Ok(Reply::data(data, allocation_length(cdb)))
}

/// RECEIVE COPY DATA(LID1) (SPC-4 6.17). No segment descriptor that is understood holds data.
pub(super) fn data_lid1(copies: &Copies, nexus: NexusId, cdb: &[u8; 16]) -> Result<Reply, Sense> {
    let (_, record) = find(copies, nexus, cdb, false)?;
    if record.standing == Standing::Running {
        return Err(Sense::invalid_cdb(2, None));
    }
    Ok(Reply::data(vec![0; 4], allocation_length(cdb)))
}

/// RECEIVE COPY FAILURE DETAILS(LID1) (SPC-4 6.19): told once.
pub(super) fn failure_details(copies: &mut Copies, nexus: NexusId, cdb: &[u8; 16]) -> Result<Reply, Sense> {
    let (list, record) = find(copies, nexus, cdb, false)?;
    let data = match &record.standing {
        Standing::Running => return Err(Sense::invalid_cdb(2, None)),
        Standing::Ended(Status::Good, _) => vec![0; 4],
        Standing::Ended(status, sense) => details(*status, sense),
        Standing::Aborted => details(Status::TaskAborted, &[]),
    };
    copies.forget(nexus, list);
    Ok(Reply::data(data, allocation_length(cdb)))
}

fn details(status: Status, sense: &[u8]) -> Vec<u8> {
    let mut data = vec![0; 60];
    data[..4].copy_from_slice(&((56 + sense.len()) as u32).to_be_bytes());
    data[56] = status.code();
    data[58..60].copy_from_slice(&(sense.len() as u16).to_be_bytes());
    data.extend_from_slice(sense);
    data
}

/// RECEIVE COPY OPERATING PARAMETERS (SPC-4 6.18).
pub(super) fn operating_parameters(cdb: &[u8; 16]) -> Reply {
    let mut data = vec![0; 44];
    data[..4].copy_from_slice(&((40 + DESCRIPTORS.len()) as u32).to_be_bytes());
    // SNLID: LIST ID USAGE 11b is supported.
    data[4] = 0x01;
    data[8..10].copy_from_slice(&(TARGETS_MAX as u16).to_be_bytes());
    data[10..12].copy_from_slice(&(SEGMENTS_MAX as u16).to_be_bytes());
    data[12..16].copy_from_slice(&(LIST_BYTES_MAX as u32).to_be_bytes());
    data[16..20].copy_from_slice(&SEGMENT_LENGTH_MAX.to_be_bytes());
    data[34..36].copy_from_slice(&(COPIES_MAX as u16).to_be_bytes());
    data[36] = COPIES_MAX as u8;
    // DATA SEGMENT GRANULARITY, as a power of two.
    data[37] = 9;
    data[43] = DESCRIPTORS.len() as u8;
    data.extend_from_slice(&DESCRIPTORS);
    Reply::data(data, allocation_length(cdb))
}

/// What RECEIVE COPY STATUS(LID4) and RECEIVE ROD TOKEN INFORMATION have in common (SPC-4 tables 206 and 211).
fn long_status(record: &Record) -> Vec<u8> {
    let mut data = vec![0; 32];
    data[4] = record.action;
    let (standing, status, sense): (u8, u8, &[u8]) = match &record.standing {
        Standing::Running => (0x11, 0, &[]),
        Standing::Ended(Status::Good, _) => (0x01, 0, &[]),
        Standing::Ended(status, sense) => (0x02, status.code(), sense),
        Standing::Aborted => (0x60, Status::TaskAborted.code(), &[]),
    };
    let progress = record.progress;
    data[5] = standing;
    // OPERATION COUNTER: it changes as the copy comes on.
    data[6..8].copy_from_slice(&((progress.bytes / CHUNK_BYTES) as u16).to_be_bytes());
    // ESTIMATED STATUS UPDATE DELAY, in milliseconds: of a copy that has ended there is none.
    let delay = if record.standing == Standing::Running { 100 } else { u32::MAX - 1 };
    data[8..12].copy_from_slice(&delay.to_be_bytes());
    data[12] = status;
    (data[13], data[14]) = (sense.len() as u8, sense.len() as u8);
    let offloads = matches!(record.action, 0x10 | 0x11);
    data[15] = if offloads { BLOCKS } else { BYTES };
    let count = if offloads { progress.blocks } else { progress.bytes };
    data[16..24].copy_from_slice(&count.to_be_bytes());
    data[24..26].copy_from_slice(&progress.segments.to_be_bytes());
    data.extend_from_slice(sense);
    data
}

/// Fills in AVAILABLE DATA: what follows that field.
fn available(mut data: Vec<u8>, cdb: &[u8; 16]) -> Reply {
    let length = (data.len() - 4) as u32;
    data[..4].copy_from_slice(&length.to_be_bytes());
    Reply::data(data, allocation_length(cdb))
}

/// RECEIVE COPY STATUS(LID4) (SPC-4 6.24).
pub(super) fn status_lid4(copies: &Copies, nexus: NexusId, cdb: &[u8; 16]) -> Result<Reply, Sense> {
    let (_, record) = find(copies, nexus, cdb, true)?;
    Ok(available(long_status(record), cdb))
}

/// RECEIVE ROD TOKEN INFORMATION (SPC-4 6.25): the token that POPULATE TOKEN made, and how it or WRITE USING TOKEN went.
pub(super) fn token_information(copies: &Copies, nexus: NexusId, cdb: &[u8; 16]) -> Result<Reply, Sense> {
    let (_, record) = find(copies, nexus, cdb, true)?;
    let mut data = long_status(record);
    match &record.token {
        Some(token) => {
            // ROD TOKEN DESCRIPTORS LENGTH, and ID FOR CREATING ROD CSCD DESCRIPTOR, which is zero.
            data.extend_from_slice(&(2 + TOKEN_BYTES as u32).to_be_bytes());
            data.extend_from_slice(&[0; 2]);
            data.extend_from_slice(&token[..]);
        }
        None => data.extend_from_slice(&[0; 4]),
    }
    Ok(available(data, cdb))
}

/// REPORT ALL ROD TOKENS (SPC-4 6.29): what manages each token, without its secret.
pub(super) fn all_tokens(rods: &Rods, cdb: &[u8; 16]) -> Reply {
    let mut data = vec![0; 8];
    rods.headers().for_each(|header| data.extend_from_slice(header));
    available(data, cdb)
}
