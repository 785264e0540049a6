//! TEST UNIT READY and REQUEST SENSE.

use crate::device::{Device, Request};
use crate::sense::{self, Sense, SenseFormat};
use crate::unit_attention::UnitAttention;
use crate::{Reply, Step};

/// TEST UNIT READY (SPC-4 6.47): a unit that is being served is ready, if it has its medium.
pub(crate) fn test_unit_ready(_: &mut Device, _: &Request<'_>) -> Result<Step, Sense> {
    Ok(Step::Done(Reply::good()))
}

/// REQUEST SENSE (SPC-4 6.39): a pending unit attention as data, which clears it; else why the unit is not ready;
/// else NO SENSE. DESC selects the format, whatever D_SENSE says.
pub(crate) fn request_sense(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let pending = device.nexuses.get_mut(&request.nexus).and_then(|nexus| nexus.attentions.take());
    let format = if request.cdb[1] & 0x01 != 0 { SenseFormat::Descriptor } else { SenseFormat::Fixed };
    let sense = pending.map(UnitAttention::sense).or_else(|| device.medium.why_not());
    let sense = sense.unwrap_or(sense::NO_SENSE).with_format(format);
    Ok(Step::Done(Reply::data(sense.encode().to_vec(), usize::from(request.cdb[4]))))
}
