//! READ, WRITE and COMPARE AND WRITE.

use super::range::NOTHING;
use crate::cdb::be16;
use crate::device::{Device, Request};
use crate::sense::Sense;
use crate::{Media, Step};

/// READ(6), (10), (12) and (16) (SBC-3 5.10 to 5.13). DPO and FUA are hints to a cache that is never stale.
pub(crate) fn read(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    request.check_protection()?;
    let range = request.limited_range(device)?;
    Ok(range.map_or(NOTHING, |range| Step::Media(Media::Read { range })))
}

/// WRITE(6), (10), (12) and (16) (SBC-3 5.39 to 5.42).
pub(crate) fn write(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    request.check_protection()?;
    let range = request.limited_range(device)?;
    let fua = durable(device, request);
    Ok(request.on_hand(range, device).map_or(NOTHING, |range| Step::Media(Media::Write { range, fua })))
}

/// COMPARE AND WRITE (SBC-3 5.2).
pub(crate) fn compare_and_write(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    request.check_protection()?;
    let range = request.range(device)?;
    request.check_limit(range, u32::from(device.config.max_compare_write_blocks))?;
    request.check_limit(range, device.config.max_transfer_blocks)?;
    let Some(range) = range else {
        // 256 blocks wrap to none in the one-byte field. GOOD would have such an initiator believe that it compared and
        // wrote what it sent, and took a lock by that.
        return if request.data_out_len == 0 { Ok(NOTHING) } else { Err(Sense::invalid_cdb(13, None)) };
    };
    request.exactly(2 * u64::from(range.count) * u64::from(device.config.block_size))?;
    Ok(Step::Media(Media::CompareWrite { range, fua: durable(device, request) }))
}

/// WRITE ATOMIC(16) (SBC-4 5.48). There is no atomic boundary.
pub(crate) fn write_atomic(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    request.check_protection()?;
    if be16(request.cdb, 10) != 0 {
        return Err(Sense::invalid_cdb(10, None));
    }
    let range = request.limited_range(device)?;
    request.check_limit(range, device.config.max_atomic_blocks)?;
    let Some(range) = range else { return Ok(NOTHING) };
    let granularity = device.config.atomic_granularity_blocks.max(1);
    if !range.lba.is_multiple_of(u64::from(granularity)) {
        return Err(Sense::invalid_cdb(2, None));
    }
    if !range.count.is_multiple_of(granularity) {
        return Err(Sense::invalid_cdb(12, None));
    }
    request.exactly(u64::from(range.count) * u64::from(device.config.block_size))?;
    Ok(Step::Media(Media::WriteAtomic { range, fua: durable(device, request) }))
}

/// Whether a write must be durable before its status: FUA, or no write cache in use.
fn durable(device: &Device, request: &Request<'_>) -> bool {
    request.fua() || !device.mode.write_cache()
}
