//! TEST UNIT READY, REQUEST SENSE, START STOP UNIT and PREVENT ALLOW MEDIUM REMOVAL.

use crate::device::{Device, Request};
use crate::sense::{self, Sense, SenseFormat};
use crate::{Media, Reply, Step};

/// TEST UNIT READY (SPC-4 6.47): a unit that is being served is ready.
pub(crate) fn test_unit_ready(_: &mut Device, _: &Request<'_>) -> Result<Step, Sense> {
    Ok(Step::Done(Reply::good()))
}

/// REQUEST SENSE (SPC-4 6.39): a pending unit attention as data, which clears it; else NO SENSE. DESC selects the
/// format, whatever D_SENSE says.
pub(crate) fn request_sense(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let pending = device.nexuses.get_mut(&request.nexus).and_then(|nexus| nexus.attentions.take());
    let format = if request.cdb[1] & 0x01 != 0 { SenseFormat::Descriptor } else { SenseFormat::Fixed };
    let sense = pending.map_or(sense::NO_SENSE, |attention| attention.sense()).with_format(format);
    Ok(Step::Done(Reply::data(sense.encode().to_vec(), usize::from(request.cdb[4]))))
}

/// START STOP UNIT (SBC-3 5.25).
///
/// There is nothing to spin down: stopping makes earlier writes durable, and the unit stays ready, so that an
/// initiator that never sends START (a boot ROM after a warm reset) still finds its disk. LOEJ is refused, since the
/// medium is not removable.
pub(crate) fn start_stop_unit(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let flags = request.cdb[4];
    let (power_condition, no_flush, loej, start) =
        (flags >> 4, flags & 4 != 0, flags & 2 != 0, flags & 1 != 0);
    match power_condition {
        0x0 if loej => return Err(Sense::invalid_cdb(4, Some(1))),
        0x0 | 0x1 | 0x2 | 0x3 | 0x7 | 0xA | 0xB => {}
        _ => return Err(Sense::invalid_cdb(4, Some(7))),
    }
    let stops = matches!(power_condition, 0x0 | 0x2 | 0x3) && !start;
    if stops && !no_flush && !device.config.read_only {
        let immediate = request.cdb[1] & 0x01 != 0;
        return Ok(Step::Media(Media::Flush { range: None, immediate }));
    }
    Ok(Step::Done(Reply::good()))
}

/// PREVENT ALLOW MEDIUM REMOVAL (SBC-3 5.10): nothing can be removed, so preventing it is no work.
pub(crate) fn prevent_allow(_: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    if request.cdb[4] & 0x02 != 0 {
        // The media changer forms are obsolete.
        return Err(Sense::invalid_cdb(4, Some(1)));
    }
    Ok(Step::Done(Reply::good()))
}
