//! SANITIZE (SBC-4 5.30).

use crate::cdb::be16;
use crate::device::{Device, Request};
use crate::draft::Draft;
use crate::sanitize::{Ordered, Sanitization, Sanitize};
use crate::sense::{self, Sense};
use crate::{Reply, Step};

/// Bytes before the initialization pattern of the overwrite parameter list.
const HEADER: usize = 4;

/// IMMED, ZNR and AUSE in byte 1 of the CDB.
const IMMED: u8 = 0x80;
const ZNR: u8 = 0x40;
const AUSE: u8 = 0x20;

/// OVERWRITE (SBC-4 5.30.2.2).
pub(crate) fn overwrite(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    check_reserved(request)?;
    let block = device.config.block_size as usize;
    let length = usize::from(be16(request.cdb, 7));
    if length <= HEADER || length > block + HEADER {
        return Err(Sense::invalid_cdb(7, None));
    }
    let list = request.param.get(..length).ok_or(sense::PARAMETER_LIST_LENGTH_ERROR)?;
    let (inverts, test, passes) = (list[0] & 0x80 != 0, list[0] & 0x60, list[0] & 0x1F);
    if passes == 0 {
        return Err(Sense::invalid_parameter(0, Some(4)));
    }
    if test != 0 {
        // What TEST asks for is the vendor's to say, and there is nothing.
        return Err(Sense::invalid_parameter(0, Some(6)));
    }
    let pattern_len = usize::from(be16(list, 2));
    if pattern_len == 0 || pattern_len > block {
        return Err(Sense::invalid_parameter(2, None));
    }
    let pattern = list.get(HEADER..HEADER + pattern_len).ok_or(sense::PARAMETER_LIST_LENGTH_ERROR)?;
    start(device, request, Sanitize::Overwrite { passes, inverts, pattern: pattern.into() })
}

/// BLOCK ERASE (SBC-4 5.30.2.3): every block is given back.
pub(crate) fn block_erase(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    check_reserved(request)?;
    check_no_parameters(request)?;
    start(device, request, Sanitize::BlockErase)
}

/// CRYPTOGRAPHIC ERASE (SBC-4 5.30.2.4): the key of the medium is destroyed.
pub(crate) fn cryptographic_erase(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    check_reserved(request)?;
    check_no_parameters(request)?;
    start(device, request, Sanitize::CryptographicErase)
}

/// EXIT FAILURE MODE (SBC-4 5.30.2.5). Where nothing has failed it is no work.
pub(crate) fn exit_failure_mode(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    check_reserved(request)?;
    check_no_parameters(request)?;
    match device.sanitization {
        Sanitization::Failed { unrestricted_exit: false } => Err(Sense::invalid_cdb(1, Some(4))),
        Sanitization::Failed { .. } if device.is_saving() => Ok(Step::Wait),
        Sanitization::Failed { .. } => {
            let mut draft = Draft::new(device);
            draft.sanitization = Sanitization::None;
            Ok(device.commit(draft, request.nexus, Step::Done(Reply::good())))
        }
        _ => Ok(Step::Done(Reply::good())),
    }
}

fn start(device: &mut Device, request: &Request<'_>, how: Sanitize) -> Result<Step, Sense> {
    let immediate = request.cdb[1] & IMMED != 0;
    let unrestricted_exit = request.cdb[1] & AUSE != 0;
    // Restricted completion mode is left by success alone, and not by asking for the other mode (SBC-4 4.11.1).
    if unrestricted_exit && device.sanitization == (Sanitization::Failed { unrestricted_exit: false }) {
        return Err(Sense::invalid_cdb(1, Some(5)));
    }
    if device.is_saving() {
        return Ok(Step::Wait);
    }
    let mut draft = Draft::new(device);
    draft.sanitization = Sanitization::Underway(Box::new(Ordered { how, unrestricted_exit }));
    Ok(device.commit(draft, request.nexus, Step::Sanitize { immediate }))
}

/// ZNR is for zoned units; bytes 2 to 6 are reserved. A command that destroys everything must be meant as it is
/// written.
fn check_reserved(request: &Request<'_>) -> Result<(), Sense> {
    if request.cdb[1] & ZNR != 0 {
        return Err(Sense::invalid_cdb(1, Some(6)));
    }
    match (2..7u16).find(|byte| request.cdb[usize::from(*byte)] != 0) {
        Some(byte) => Err(Sense::invalid_cdb(byte, Some(7))),
        None => Ok(()),
    }
}

fn check_no_parameters(request: &Request<'_>) -> Result<(), Sense> {
    if be16(request.cdb, 7) == 0 { Ok(()) } else { Err(Sense::invalid_cdb(7, None)) }
}
