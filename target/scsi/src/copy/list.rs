//! The parameter lists of EXTENDED COPY(LID1) and EXTENDED COPY(LID4) (SPC-4 6.4.3 and 6.5.2).

use super::limits::{LIST_BYTES_MAX, SEGMENT_BYTES, SEGMENTS_MAX, TARGET_BYTES, TARGETS_MAX};
use super::parameters::parameter_list;
use super::target::Target;
use crate::cdb::{be16, be32, be64};
use crate::sense::{self, PARAMETER_LIST_LENGTH_ERROR, Sense};

/// Block device to block device (SPC-4 6.4.6.4).
pub(super) const BLOCK_TO_BLOCK: u8 = 0x02;

/// Verify CSCD (SPC-4 6.4.6.8).
pub(super) const VERIFY_CSCD: u8 = 0x07;

/// Bytes of the header of EXTENDED COPY(LID1).
const HEADER_LID1: usize = 16;

/// Bytes of the header of EXTENDED COPY(LID4).
const HEADER_LID4: usize = 48;

/// What an EXTENDED COPY shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CopyList {
    /// By which name the copy can be asked for, unless LIST ID USAGE says by none.
    pub(super) id: Option<u32>,
    /// Who takes part.
    pub(super) targets: Vec<Target>,
    /// What is copied, in order.
    pub(super) segments: Vec<Segment>,
}

/// One segment descriptor. Sources and destinations are CSCD descriptor identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Segment {
    /// Blocks of one unit go to another.
    Copy {
        /// Copy source.
        from: u16,
        /// Copy destination.
        to: u16,
        /// DC: `count` is in blocks of the destination, not of the source.
        in_destination_blocks: bool,
        /// NUMBER OF LOGICAL BLOCKS.
        count: u16,
        /// First block of the source.
        from_lba: u64,
        /// First block of the destination.
        to_lba: u64,
    },
    /// The unit is there, and ready if `test` says so.
    Verify {
        /// Which.
        target: u16,
        /// TUR: it also answers TEST UNIT READY with GOOD.
        test: bool,
    },
}

/// Where the lists are, as a header says.
struct Header {
    id: Option<u32>,
    bytes: usize,
    targets: usize,
    segments: usize,
    inline: usize,
    /// Where the header says how long the lists are, targets first.
    lengths_at: [u16; 3],
}

/// Reads the parameter list of EXTENDED COPY; `None` when it is empty, which is no error.
pub(super) fn parse(cdb: &[u8; 16], param: &[u8]) -> Result<Option<CopyList>, Sense> {
    let list = parameter_list(cdb, param, u16::MAX.into())?;
    if list.is_empty() {
        return Ok(None);
    }
    let header = if cdb[1] & 0x1F == 0 { header_lid1(list)? } else { header_lid4(list)? };
    if header.targets + header.segments > LIST_BYTES_MAX {
        return Err(PARAMETER_LIST_LENGTH_ERROR);
    }
    if header.targets > TARGETS_MAX * TARGET_BYTES {
        return Err(sense::TOO_MANY_TARGET_DESCRIPTORS.with_parameter_field(header.lengths_at[0], None));
    }
    if header.segments > SEGMENTS_MAX * SEGMENT_BYTES {
        return Err(sense::TOO_MANY_SEGMENT_DESCRIPTORS.with_parameter_field(header.lengths_at[1], None));
    }
    if header.inline > 0 {
        return Err(sense::INLINE_DATA_LENGTH_EXCEEDED.with_parameter_field(header.lengths_at[2], None));
    }
    let segments_at = header.bytes + header.targets;
    let targets = list.get(header.bytes..segments_at).ok_or(PARAMETER_LIST_LENGTH_ERROR)?;
    let segments = list.get(segments_at..segments_at + header.segments).ok_or(PARAMETER_LIST_LENGTH_ERROR)?;
    if !targets.len().is_multiple_of(TARGET_BYTES) {
        return Err(PARAMETER_LIST_LENGTH_ERROR);
    }
    let targets = targets
        .chunks_exact(TARGET_BYTES)
        .enumerate()
        .map(|(index, bytes)| Target::parse(bytes, header.bytes + index * TARGET_BYTES))
        .collect::<Result<_, _>>()?;
    Ok(Some(CopyList { id: header.id, targets, segments: parse_segments(segments, segments_at)? }))
}

/// The header of EXTENDED COPY(LID1) (SPC-4 table 98).
fn header_lid1(list: &[u8]) -> Result<Header, Sense> {
    if list.len() < HEADER_LID1 {
        return Err(PARAMETER_LIST_LENGTH_ERROR);
    }
    Ok(Header {
        id: list_id(list[1], u32::from(list[0]), 0)?,
        bytes: HEADER_LID1,
        targets: usize::from(be16(list, 2)),
        segments: be32(list, 8) as usize,
        inline: be32(list, 12) as usize,
        lengths_at: [2, 8, 12],
    })
}

/// The header of EXTENDED COPY(LID4) (SPC-4 table 131). Its own CSCD descriptor has nothing that a block device uses.
fn header_lid4(list: &[u8]) -> Result<Header, Sense> {
    if list.len() < HEADER_LID4 {
        return Err(PARAMETER_LIST_LENGTH_ERROR);
    }
    // PARAMETER LIST FORMAT.
    if list[0] != 0x01 {
        return Err(Sense::invalid_parameter(0, None));
    }
    Ok(Header {
        id: list_id(list[1], be32(list, 20), 20)?,
        bytes: HEADER_LID4,
        targets: usize::from(be16(list, 42)),
        segments: usize::from(be16(list, 44)),
        inline: usize::from(be16(list, 46)),
        lengths_at: [42, 44, 46],
    })
}

/// LIST ID USAGE (SPC-4 table 99): 00b and 10b name the copy, 11b does not and wants the identifier to be zero.
fn list_id(flags: u8, id: u32, at: u16) -> Result<Option<u32>, Sense> {
    match (flags >> 3) & 0x03 {
        0b00 | 0b10 => Ok(Some(id)),
        0b11 if id == 0 => Ok(None),
        0b11 => Err(Sense::invalid_parameter(at, None)),
        _ => Err(Sense::invalid_parameter(1, Some(4))),
    }
}

fn parse_segments(bytes: &[u8], at: usize) -> Result<Vec<Segment>, Sense> {
    let mut segments = Vec::new();
    let (mut rest, mut at) = (bytes, at);
    while !rest.is_empty() {
        if segments.len() == SEGMENTS_MAX {
            return Err(sense::TOO_MANY_SEGMENT_DESCRIPTORS.with_parameter_field(at as u16, None));
        }
        if !matches!(rest[0], BLOCK_TO_BLOCK | VERIFY_CSCD) {
            return Err(sense::UNSUPPORTED_SEGMENT_DESCRIPTOR.with_parameter_field(at as u16, None));
        }
        if rest.len() < 4 {
            return Err(PARAMETER_LIST_LENGTH_ERROR);
        }
        let length = 4 + usize::from(be16(rest, 2));
        let (descriptor, behind) = rest.split_at_checked(length).ok_or(PARAMETER_LIST_LENGTH_ERROR)?;
        segments.push(parse_segment(descriptor, at)?);
        (rest, at) = (behind, at + length);
    }
    Ok(segments)
}

fn parse_segment(bytes: &[u8], at: usize) -> Result<Segment, Sense> {
    let least = if bytes[0] == BLOCK_TO_BLOCK { SEGMENT_BYTES } else { 12 };
    if bytes.len() < least {
        return Err(Sense::invalid_parameter((at + 2) as u16, None));
    }
    Ok(if bytes[0] == BLOCK_TO_BLOCK {
        Segment::Copy {
            from: be16(bytes, 4),
            to: be16(bytes, 6),
            in_destination_blocks: bytes[1] & 0x02 != 0,
            count: be16(bytes, 10),
            from_lba: be64(bytes, 12),
            to_lba: be64(bytes, 20),
        }
    } else {
        Segment::Verify { target: be16(bytes, 4), test: bytes[8] & 0x01 != 0 }
    })
}
