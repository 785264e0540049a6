//! REGISTER, REGISTER AND IGNORE EXISTING KEY and REGISTER AND MOVE (SPC-4 5.13.7 and 5.13.8).

use super::parameters::{MoveParameters, Parameters};
use super::{Outcome, Verdict, may_change, port_of};
use crate::device::{Device, Request};
use crate::draft::{Audience, Draft, OnFailure};
use crate::reservations::transport_id::TransportId;
use crate::reservations::{Holder, Persistent, REGISTRATIONS_MAX, Registration};
use crate::sense::{INSUFFICIENT_REGISTRATION_RESOURCES, Sense};
use crate::unit_attention::UnitAttention;

/// REGISTER (service action 00h) and REGISTER AND IGNORE EXISTING KEY (06h).
pub(super) fn register(device: &Device, draft: &mut Draft, request: &Request<'_>) -> Outcome {
    let parameters = Parameters::registering(request, device.config.durable)?;
    let port = port_of(device, request)?;
    let ignore_key = request.cdb[1] & 0x1F == 0x06;
    let existing = draft.persistent.registration(&port).map(|registration| registration.key);
    if device.reservations.legacy.is_some() || !(ignore_key || parameters.key == existing.unwrap_or(0)) {
        return Ok(Verdict::Conflict);
    }
    draft.on_failure = OnFailure::InsufficientRegistrationResources;
    draft.persistent.aptpl = parameters.aptpl;
    if let Some(ports) = &parameters.ports {
        return register_ports(draft, port, ports, &parameters);
    }
    match (existing, parameters.service_key) {
        (None, 0) => {}
        (Some(_), 0) => unregister(draft, &port),
        (_, key) => draft.persistent.set_key(port, key)?,
    }
    draft.persistent.count_change();
    Ok(Verdict::Good)
}

/// REGISTER with SPEC_I_PT: the sender and all named ports, or none. A registered sender may not name others.
fn register_ports(
    draft: &mut Draft,
    own: TransportId,
    named: &[TransportId],
    parameters: &Parameters,
) -> Outcome {
    let persistent = &mut draft.persistent;
    if persistent.registration(&own).is_some() {
        return Err(Sense::invalid_parameter(20, Some(3)));
    }
    if parameters.service_key == 0 {
        return Err(Sense::invalid_parameter(8, None));
    }
    if named.iter().any(|port| persistent.registration(port).is_some()) {
        return Ok(Verdict::Conflict);
    }
    let others = named.iter().filter(|port| **port != own);
    let ports: Vec<&TransportId> = std::iter::once(&own).chain(others).collect();
    if persistent.registrations.len() + ports.len() > REGISTRATIONS_MAX {
        return Err(INSUFFICIENT_REGISTRATION_RESOURCES);
    }
    for port in ports {
        persistent.set_key(port.clone(), parameters.service_key)?;
    }
    persistent.count_change();
    Ok(Verdict::Good)
}

/// Ends a registration; a reservation that it alone held ends with it (SPC-4 5.13.11.3).
fn unregister(draft: &mut Draft, port: &TransportId) {
    let persistent = &mut draft.persistent;
    persistent.registrations.retain(|registration| registration.port != *port);
    let last = persistent.registrations.is_empty();
    let ended = persistent
        .holder
        .take_if(|holder| if holder.kind.all_registrants() { last } else { holder.port == *port });
    if ended.is_some_and(|holder| holder.kind.shared_by_registrants()) {
        draft.tell(Audience::Ports(draft.persistent.ports()), UnitAttention::ReservationsReleased);
    }
}

/// REGISTER AND MOVE (service action 07h).
pub(super) fn register_and_move(device: &Device, draft: &mut Draft, request: &Request<'_>) -> Outcome {
    let parameters = MoveParameters::read(request, device.config.durable)?;
    let port = port_of(device, request)?;
    if !may_change(device, &port, parameters.key) {
        return Ok(Verdict::Conflict);
    }
    let persistent = &mut draft.persistent;
    let Some(holder) = persistent.holder.clone().filter(|holder| !holder.kind.all_registrants()) else {
        return Ok(Verdict::Conflict);
    };
    if holder.port != port {
        return Ok(Verdict::Conflict);
    }
    if parameters.service_key == 0 {
        return Err(Sense::invalid_parameter(8, None));
    }
    if parameters.relative_port != device.config.identity.relative_port {
        return Err(Sense::invalid_parameter(18, None));
    }
    if parameters.port == port {
        return Err(Sense::invalid_parameter(24, None));
    }
    if parameters.unregister {
        persistent.registrations.retain(|registration| registration.port != port);
    }
    persistent.set_key(parameters.port.clone(), parameters.service_key)?;
    persistent.holder = Some(Holder { kind: holder.kind, port: parameters.port });
    persistent.aptpl = parameters.aptpl;
    persistent.count_change();
    draft.on_failure = OnFailure::InsufficientRegistrationResources;
    Ok(Verdict::Good)
}

impl Persistent {
    /// Registers `port` with `key`, or changes its key.
    fn set_key(&mut self, port: TransportId, key: u64) -> Result<(), Sense> {
        if let Some(registration) =
            self.registrations.iter_mut().find(|registration| registration.port == port)
        {
            registration.key = key;
            return Ok(());
        }
        if self.registrations.len() >= REGISTRATIONS_MAX {
            return Err(INSUFFICIENT_REGISTRATION_RESOURCES);
        }
        self.registrations.push(Registration { port, key });
        Ok(())
    }
}
