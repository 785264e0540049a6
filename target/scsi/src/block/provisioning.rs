//! UNMAP, WRITE SAME and GET LBA STATUS.

use super::range::{NOTHING, Range, check_capacity};
use crate::cdb::{BlockLayout, be16, be32, be64};
use crate::device::{Device, Request};
use crate::sense::{self, Sense};
use crate::{Blocks, Media, Pattern, Step};
use smallvec::SmallVec;

/// Bytes of the UNMAP parameter list header, and of each block descriptor.
const UNMAP_HEADER: usize = 8;
const UNMAP_DESCRIPTOR: usize = 16;

/// UNMAP (SBC-3 5.33).
pub(crate) fn unmap(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    if request.cdb[1] & 0x01 != 0 {
        // ANCHOR: ANC_SUP is zero.
        return Err(Sense::invalid_cdb(1, Some(0)));
    }
    let Some(list) = parameter_list(request)? else { return Ok(NOTHING) };
    let descriptors = unmap_descriptors(list)?;
    if descriptors.len() / UNMAP_DESCRIPTOR > device.config.max_unmap_descriptors as usize {
        return Err(Sense::invalid_parameter(2, None));
    }
    let mut ranges = SmallVec::new();
    let mut total = 0u64;
    for (index, descriptor) in descriptors.chunks_exact(UNMAP_DESCRIPTOR).enumerate() {
        let at = (UNMAP_HEADER + index * UNMAP_DESCRIPTOR) as u16;
        let range = Blocks { lba: be64(descriptor, 0), count: be32(descriptor, 8) };
        check_capacity(device, range.lba, u64::from(range.count))
            .map_err(|sense| sense.with_parameter_field(at, None))?;
        total += u64::from(range.count);
        if total > u64::from(device.config.max_unmap_blocks) {
            return Err(Sense::invalid_parameter(at + 8, None));
        }
        if range.count > 0 {
            ranges.push(range);
        }
    }
    Ok(if ranges.is_empty() { NOTHING } else { Step::Media(Media::Unmap { ranges }) })
}

/// The parameter list cut to the CDB's PARAMETER LIST LENGTH; `None` if that is zero, which is no error.
fn parameter_list<'a>(request: &Request<'a>) -> Result<Option<&'a [u8]>, Sense> {
    let length = usize::from(be16(request.cdb, 7));
    match request.param.get(..length) {
        Some([]) => Ok(None),
        Some(list) if list.len() >= UNMAP_HEADER => Ok(Some(list)),
        _ => Err(sense::PARAMETER_LIST_LENGTH_ERROR),
    }
}

/// The descriptors: an incomplete last one is left out (SBC-3 5.33.2).
fn unmap_descriptors(list: &[u8]) -> Result<&[u8], Sense> {
    let length = usize::from(be16(list, 2));
    let whole = length - length % UNMAP_DESCRIPTOR;
    list.get(UNMAP_HEADER..UNMAP_HEADER + whole).ok_or(sense::PARAMETER_LIST_LENGTH_ERROR)
}

/// WRITE SAME(10), (16) and (32) (SBC-3 5.46 to 5.48); what (32) says of protection information is ignored. A length of zero means all blocks from the address on, as
/// far as MAXIMUM WRITE SAME LENGTH allows; for a thin unit WSNZ is one, and it is refused.
pub(crate) fn write_same(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let flags = request.command.flags(request.cdb);
    let unmap = flags & 0x08 != 0;
    check_write_same_flags(device, flags, request.layout().flags_byte())?;
    let range = match request.range(device)? {
        None if device.config.thin => {
            return Err(Sense::invalid_cdb(request.layout().count_byte(), None));
        }
        None => to_end(device, request)?,
        range => range,
    };
    request.check_limit(range, device.config.max_write_same_blocks)?;
    let Some(range) = range else { return Ok(NOTHING) };
    let zero = matches!(request.layout(), BlockLayout::Sixteen | BlockLayout::Long) && flags & 0x01 != 0;
    if !zero {
        request.exactly(u64::from(device.config.block_size))?;
    }
    let pattern = if zero { Pattern::Zero } else { Pattern::DataOut };
    Ok(Step::Media(Media::WriteSame { range, unmap, pattern, fua: !device.mode.write_cache() }))
}

/// All blocks from the CDB's address on.
fn to_end(device: &Device, request: &Request<'_>) -> Result<Range, Sense> {
    let layout = request.layout();
    let lba = layout.decode(request.cdb).lba;
    let count = u32::try_from(device.config.blocks - lba)
        .map_err(|_| Sense::invalid_cdb(layout.count_byte(), None))?;
    Ok((count > 0).then_some(Blocks { lba, count }))
}

/// WRPROTECT needs protection information; ANCHOR needs ANC_SUP; UNMAP needs thin provisioning; PBDATA and LBDATA are
/// obsolete.
fn check_write_same_flags(device: &Device, flags: u8, byte: u16) -> Result<(), Sense> {
    let thin = device.config.thin;
    let wrong = [(0xE0, 7, true), (0x10, 4, true), (0x08, 3, !thin), (0x04, 2, true), (0x02, 1, true)];
    match wrong.iter().find(|(mask, _, refused)| *refused && flags & mask != 0) {
        Some((_, bit, _)) => Err(Sense::invalid_cdb(byte, Some(*bit))),
        None => Ok(()),
    }
}

/// GET LBA STATUS (SBC-3 5.5).
pub(crate) fn lba_status(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let lba = be64(request.cdb, 2);
    check_capacity(device, lba, 1).map_err(|sense| sense.with_cdb_field(2, None))?;
    Ok(Step::Media(Media::LbaStatus { lba, allocation_length: be32(request.cdb, 10) }))
}
