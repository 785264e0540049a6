//! READ DEFECT DATA: a medium without defects has empty lists.

use crate::cdb::{be16, be32};
use crate::device::{Device, Request};
use crate::sense::Sense;
use crate::{Reply, Step};

/// READ DEFECT DATA(10) (SBC-3 5.17).
pub(crate) fn read_defect_data_10(_: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let wanted = checked(request.cdb, 2)?;
    Ok(Step::Done(Reply::data(vec![0, wanted, 0, 0], usize::from(be16(request.cdb, 7)))))
}

/// READ DEFECT DATA(12) (SBC-3 5.18): there is no descriptor at an index but the first.
pub(crate) fn read_defect_data_12(_: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let wanted = checked(request.cdb, 1)?;
    Ok(Step::Done(Reply::data(vec![0, wanted, 0, 0, 0, 0, 0, 0], be32(request.cdb, 6) as usize)))
}

/// REQ_PLIST, REQ_GLIST and DEFECT LIST FORMAT, which come back as PLISTV, GLISTV and the format: block formats, bytes
/// from index, physical sector (SBC-3 table 51).
fn checked(cdb: &[u8; 16], byte: u8) -> Result<u8, Sense> {
    let wanted = cdb[usize::from(byte)] & 0x1F;
    match wanted & 0x07 {
        0b000 | 0b011 | 0b100 | 0b101 => Ok(wanted),
        _ => Err(Sense::invalid_cdb(u16::from(byte), Some(2))),
    }
}
