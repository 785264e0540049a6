//! SYNCHRONIZE CACHE and PRE-FETCH.

use super::range::{NOTHING, check_capacity};
use crate::cdb::BlockCdb;
use crate::device::{Device, Request};
use crate::sense::Sense;
use crate::{Blocks, Media, Step};

/// SYNCHRONIZE CACHE(10) and (16) (SBC-3 5.31 and 5.32): a length of zero means all blocks from the address on.
pub(crate) fn synchronize_cache(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let BlockCdb { lba, count } = checked(device, request)?;
    if device.config.read_only {
        return Ok(NOTHING);
    }
    // To the end from anywhere is rare: everything is flushed, which includes it.
    let range = (count > 0).then_some(Blocks { lba, count });
    Ok(Step::Media(Media::Flush { range, immediate: immediate(request) }))
}

/// PRE-FETCH(10) and (16) (SBC-3 5.8 and 5.9). It is a hint: what is over MAXIMUM PREFETCH LENGTH is left out.
pub(crate) fn prefetch(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let BlockCdb { lba, count } = checked(device, request)?;
    let to_end = u32::try_from(device.config.blocks - lba).unwrap_or(u32::MAX);
    let wanted = if count == 0 { to_end } else { count };
    let limit = device.config.max_transfer_blocks;
    let count = if limit == 0 { wanted } else { wanted.min(limit) };
    if count == 0 {
        return Ok(NOTHING);
    }
    Ok(Step::Media(Media::Prefetch { range: Blocks { lba, count }, immediate: immediate(request) }))
}

fn checked(device: &Device, request: &Request<'_>) -> Result<BlockCdb, Sense> {
    let layout = request.layout();
    let blocks = layout.decode(request.cdb);
    check_capacity(device, blocks.lba, u64::from(blocks.count))
        .map_err(|sense| sense.with_cdb_field(layout.lba_byte(), None))?;
    Ok(blocks)
}

/// IMMED.
fn immediate(request: &Request<'_>) -> bool {
    request.cdb[1] & 0x02 != 0
}
