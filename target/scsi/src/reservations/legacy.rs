//! RESERVE and RELEASE, 6 and 10 bytes (SPC-2 7.16 to 7.21), with the exceptions of SPC-3 5.6.3 where persistent
//! registrations exist (CRH is one).

use crate::device::{Device, Request};
use crate::sense::Sense;
use crate::{Reply, Status, Step};

/// RESERVE of the whole unit. (A RESERVE of another nexus is a conflict that the dispatcher already told.)
pub(crate) fn reserve(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    check_whole_unit(request)?;
    if device.is_saving() {
        return Ok(Step::Wait);
    }
    match registrants_answer(device, request) {
        Some(reply) => Ok(Step::Done(reply)),
        None => {
            device.reservations.legacy = Some(request.nexus);
            Ok(Step::Done(Reply::good()))
        }
    }
}

/// RELEASE: of somebody else's reservation it is no error and does nothing.
pub(crate) fn release(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    check_whole_unit(request)?;
    if let Some(reply) = registrants_answer(device, request) {
        return Ok(Step::Done(reply));
    }
    device.reservations.nexus_gone(request.nexus);
    Ok(Step::Done(Reply::good()))
}

/// Third party (byte 1 bit 4) and extent (bit 0) reservations are obsolete.
fn check_whole_unit(request: &Request<'_>) -> Result<(), Sense> {
    if request.cdb[1] & 0x10 != 0 {
        return Err(Sense::invalid_cdb(1, Some(4)));
    }
    if request.cdb[1] & 0x01 != 0 {
        return Err(Sense::invalid_cdb(1, Some(0)));
    }
    Ok(())
}

/// While persistent registrations exist, a registrant's command does nothing and succeeds, another's conflicts.
fn registrants_answer(device: &Device, request: &Request<'_>) -> Option<Reply> {
    let reservations = &device.reservations.persistent;
    if reservations.registrations.is_empty() {
        return None;
    }
    let port = device.nexuses.get(&request.nexus).map(|nexus| &nexus.transport);
    let registered = port.is_some_and(|port| reservations.registration(port).is_some());
    Some(if registered { Reply::good() } else { Reply::status(Status::ReservationConflict) })
}
