//! READ CAPACITY.

use crate::cdb::be32;
use crate::device::{Device, Request};
use crate::sense::Sense;
use crate::{Reply, Step};

/// READ CAPACITY(10) (SBC-3 5.15): all ones tell the initiator to use the 16-byte command.
pub(crate) fn read_capacity_10(device: &mut Device, _: &Request<'_>) -> Result<Step, Sense> {
    let last = u32::try_from(last_block(device)).unwrap_or(u32::MAX);
    let mut data = last.to_be_bytes().to_vec();
    data.extend_from_slice(&device.config.block_size.to_be_bytes());
    Ok(Step::Done(Reply::data(data, 8)))
}

/// READ CAPACITY(16) (SBC-3 5.16).
pub(crate) fn read_capacity_16(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let mut data = vec![0; 32];
    data[..8].copy_from_slice(&last_block(device).to_be_bytes());
    data[8..12].copy_from_slice(&device.config.block_size.to_be_bytes());
    data[13] = device.config.physical_exponent & 0x0F;
    if device.config.thin {
        // LBPME and LBPRZ. The lowest aligned logical block is 0.
        data[14] = 0xC0;
    }
    Ok(Step::Done(Reply::data(data, be32(request.cdb, 10) as usize)))
}

fn last_block(device: &Device) -> u64 {
    device.config.blocks.saturating_sub(1)
}
