//! CLEAR, PREEMPT and PREEMPT AND ABORT (SPC-4 5.13.11.4 to 5.13.11.6).

use super::parameters::Parameters;
use super::{Outcome, Verdict, may_change, port_of, type_of};
use crate::device::{Device, Request};
use crate::draft::{Audience, Draft};
use crate::reservations::transport_id::TransportId;
use crate::reservations::{Holder, Persistent};
use crate::sense::Sense;
use crate::unit_attention::UnitAttention;

/// The service action that also ends tasks.
const PREEMPT_AND_ABORT: u8 = 0x05;

/// CLEAR: every registration and the reservation end.
pub(super) fn clear(device: &Device, draft: &mut Draft, request: &Request<'_>) -> Outcome {
    let parameters = Parameters::basic(request)?;
    let port = port_of(device, request)?;
    if !may_change(device, &port, parameters.key) {
        return Ok(Verdict::Conflict);
    }
    draft.tell(Audience::Ports(draft.persistent.ports()), UnitAttention::ReservationsPreempted);
    draft.persistent.registrations.clear();
    draft.persistent.holder = None;
    draft.persistent.count_change();
    Ok(Verdict::Good)
}

/// PREEMPT (service action 04h) and PREEMPT AND ABORT (05h).
///
/// The preempted hear 2Ah/05h; if a reservation's type changed, the remaining registrants hear 2Ah/04h. With PREEMPT
/// AND ABORT the tasks of the preempted nexuses end first.
pub(super) fn preempt(device: &Device, draft: &mut Draft, request: &Request<'_>) -> Outcome {
    let kind = type_of(request)?;
    let parameters = Parameters::basic(request)?;
    let port = port_of(device, request)?;
    if !may_change(device, &port, parameters.key) {
        return Ok(Verdict::Conflict);
    }
    let victim_key = parameters.service_key;
    let persistent = &mut draft.persistent;
    let takes_over = persistent.taken_over_by(victim_key)?;
    let removed = persistent.remove(&port, victim_key);
    if removed.is_empty() && !takes_over {
        return Ok(Verdict::Conflict);
    }
    if request.cdb[1] & 0x1F == PREEMPT_AND_ABORT {
        let victims = device.nexuses.iter().filter(|(_, nexus)| removed.contains(&nexus.transport));
        draft.abort(victims.map(|(id, _)| *id).filter(|id| *id != request.nexus));
    }
    let persistent = &mut draft.persistent;
    let old = persistent.holder.as_ref().map(|holder| holder.kind);
    if takes_over {
        persistent.holder = Some(Holder { kind, port });
    }
    persistent.count_change();
    draft.tell(Audience::Ports(removed), UnitAttention::RegistrationsPreempted);
    if takes_over && old.is_some_and(|old| old != kind) {
        draft.tell(Audience::Ports(draft.persistent.ports()), UnitAttention::ReservationsReleased);
    }
    Ok(Verdict::Good)
}

impl Persistent {
    /// Whether preempting `key` takes the reservation over: it is the holder's key, or it is zero and all
    /// registrants hold it. Zero is an error otherwise (SPC-4 5.13.11.4.3).
    fn taken_over_by(&self, key: u64) -> Result<bool, Sense> {
        match &self.holder {
            Some(holder) if holder.kind.all_registrants() => Ok(key == 0),
            _ if key == 0 => Err(Sense::invalid_parameter(8, None)),
            Some(holder) => Ok(self.registration(&holder.port).is_some_and(|holder| holder.key == key)),
            None => Ok(false),
        }
    }

    /// Ends the registrations with `key` (zero: all), except that of `own`; says whose they were.
    fn remove(&mut self, own: &TransportId, key: u64) -> Vec<TransportId> {
        let mut removed = Vec::new();
        self.registrations.retain(|registration| {
            let ends = registration.port != *own && (key == 0 || registration.key == key);
            if ends {
                removed.push(registration.port.clone());
            }
            !ends
        });
        removed
    }
}
