//! CLEAR, PREEMPT and PREEMPT AND ABORT (SPC-4 5.13.11.4 to 5.13.11.6).

use super::parameters::Parameters;
use super::{CONFLICT, GOOD, port_of, type_of};
use crate::device::{Device, Request};
use crate::reservations::access::Type;
use crate::reservations::transport_id::TransportId;
use crate::reservations::{Holder, Reservations};
use crate::sense::Sense;
use crate::unit_attention::UnitAttention;
use crate::{Abort, Reply, Step};

/// CLEAR: every registration and the reservation end.
pub(crate) fn clear(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let parameters = Parameters::basic(request)?;
    let port = port_of(device, request)?;
    if !device.reservations.may_change(&port, parameters.key) {
        return Ok(CONFLICT);
    }
    let ports = device.reservations.ports();
    device.reservations.registrations.clear();
    device.reservations.holder = None;
    device.reservations.count_change();
    device.raise_ports(&ports, request.nexus, UnitAttention::ReservationsPreempted);
    Ok(GOOD)
}

/// PREEMPT (service action 04h) and PREEMPT AND ABORT (05h).
pub(crate) fn preempt(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let kind = type_of(request)?;
    let parameters = Parameters::basic(request)?;
    let port = port_of(device, request)?;
    if !device.reservations.may_change(&port, parameters.key) {
        return Ok(CONFLICT);
    }
    let victim_key = parameters.service_key;
    let takes_over = device.reservations.taken_over_by(victim_key)?;
    let removed = device.reservations.remove(&port, victim_key);
    if removed.is_empty() && !takes_over {
        return Ok(CONFLICT);
    }
    let old = device.reservations.holder.as_ref().map(|holder| holder.kind);
    if takes_over {
        device.reservations.holder = Some(Holder { kind, port });
    }
    device.reservations.count_change();
    tell(device, request, &removed, takes_over && old.is_some_and(|old| old != kind), old);
    Ok(finish(device, request, &removed))
}

/// Unit attentions: the preempted hear 2Ah/05h; the remaining registrants 2Ah/04h if the type changed.
fn tell(
    device: &mut Device,
    request: &Request<'_>,
    removed: &[TransportId],
    changed: bool,
    old: Option<Type>,
) {
    device.raise_ports(removed, request.nexus, UnitAttention::RegistrationsPreempted);
    if changed && old.is_some_and(Type::shared_by_registrants) {
        let ports = device.reservations.ports();
        device.raise_ports(&ports, request.nexus, UnitAttention::ReservationsReleased);
    }
}

/// PREEMPT ends here; PREEMPT AND ABORT has the tasks of the preempted nexuses ended first.
fn finish(device: &Device, request: &Request<'_>, removed: &[TransportId]) -> Step {
    if request.cdb[1] & 0x1F != 0x05 {
        return GOOD;
    }
    let victims = device
        .nexuses
        .iter()
        .filter(|(id, nexus)| **id != request.nexus && removed.contains(&nexus.transport));
    Step::Abort(Abort { nexuses: victims.map(|(id, _)| *id).collect(), reply: Reply::good() })
}

impl Reservations {
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
