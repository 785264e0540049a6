//! VERIFY and WRITE AND VERIFY.

use super::range::NOTHING;
use crate::device::{Device, Request};
use crate::sense::Sense;
use crate::{Media, Step, VerifyMode};

/// VERIFY(10), (12) and (16) (SBC-3 5.34 to 5.36).
pub(crate) fn verify(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    request.check_protection()?;
    let mode = byte_check(request)?;
    let range = request.limited_range(device)?;
    let range = match mode {
        VerifyMode::MediumOnly => range,
        VerifyMode::Compare => request.on_hand(range, device),
        VerifyMode::CompareOneBlock => {
            range.map(|_| request.exactly(u64::from(device.config.block_size))).transpose()?;
            range
        }
    };
    Ok(range.map_or(NOTHING, |range| Step::Media(Media::Verify { range, mode })))
}

/// WRITE AND VERIFY(10), (12) and (16) (SBC-3 5.43 to 5.45).
pub(crate) fn write_and_verify(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    request.check_protection()?;
    let mode = byte_check(request)?;
    if mode == VerifyMode::CompareOneBlock {
        return Err(invalid_byte_check());
    }
    let range = request.limited_range(device)?;
    Ok(request
        .on_hand(range, device)
        .map_or(NOTHING, |range| Step::Media(Media::WriteVerify { range, mode })))
}

/// BYTCHK; 10b is reserved.
fn byte_check(request: &Request<'_>) -> Result<VerifyMode, Sense> {
    match (request.cdb[1] >> 1) & 0x03 {
        0b00 => Ok(VerifyMode::MediumOnly),
        0b01 => Ok(VerifyMode::Compare),
        0b11 => Ok(VerifyMode::CompareOneBlock),
        _ => Err(invalid_byte_check()),
    }
}

fn invalid_byte_check() -> Sense {
    Sense::invalid_cdb(1, Some(2))
}
