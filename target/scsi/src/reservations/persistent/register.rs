//! REGISTER, REGISTER AND IGNORE EXISTING KEY and REGISTER AND MOVE (SPC-4 5.13.7 and 5.13.8).

use super::parameters::{MoveParameters, Parameters};
use super::{CONFLICT, GOOD, port_of};
use crate::Step;
use crate::device::{Device, Request};
use crate::reservations::transport_id::TransportId;
use crate::reservations::{Holder, REGISTRATIONS_MAX, Registration, Reservations};
use crate::sense::{INSUFFICIENT_REGISTRATION_RESOURCES, Sense};
use crate::unit_attention::UnitAttention;

/// REGISTER (service action 00h) and REGISTER AND IGNORE EXISTING KEY (06h).
pub(crate) fn register(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let parameters = Parameters::registering(request)?;
    let port = port_of(device, request)?;
    let ignore_key = request.cdb[1] & 0x1F == 0x06;
    let reservations = &mut device.reservations;
    let existing = reservations.registration(&port).map(|registration| registration.key);
    if reservations.legacy.is_some() || !(ignore_key || parameters.key == existing.unwrap_or(0)) {
        return Ok(CONFLICT);
    }
    if !parameters.ports.is_empty() {
        return register_ports(reservations, port, &parameters);
    }
    match (existing, parameters.service_key) {
        (None, 0) => {}
        (Some(_), 0) => unregister(device, request, &port),
        (_, key) => device.reservations.set_key(port, key)?,
    }
    device.reservations.count_change();
    Ok(GOOD)
}

/// REGISTER with SPEC_I_PT: the sender and all named ports, or none.
fn register_ports(
    reservations: &mut Reservations,
    own: TransportId,
    parameters: &Parameters,
) -> Result<Step, Sense> {
    let known = |port: &TransportId| reservations.registration(port).is_some();
    if known(&own) || parameters.ports.iter().any(known) {
        return Ok(CONFLICT);
    }
    if parameters.service_key == 0 {
        return Err(Sense::invalid_parameter(8, None));
    }
    let mut ports = parameters.ports.clone();
    if !ports.contains(&own) {
        ports.insert(0, own);
    }
    if reservations.registrations.len() + ports.len() > REGISTRATIONS_MAX {
        return Err(INSUFFICIENT_REGISTRATION_RESOURCES);
    }
    for port in ports {
        reservations.set_key(port, parameters.service_key)?;
    }
    reservations.count_change();
    Ok(GOOD)
}

/// Ends a registration; a reservation that it alone held ends with it (SPC-4 5.13.11.3).
fn unregister(device: &mut Device, request: &Request<'_>, port: &TransportId) {
    let reservations = &mut device.reservations;
    reservations.registrations.retain(|registration| registration.port != *port);
    let last = reservations.registrations.is_empty();
    let ended = reservations
        .holder
        .take_if(|holder| if holder.kind.all_registrants() { last } else { holder.port == *port });
    if ended.is_some_and(|holder| holder.kind.shared_by_registrants()) {
        let ports = device.reservations.ports();
        device.raise_ports(&ports, request.nexus, UnitAttention::ReservationsReleased);
    }
}

/// REGISTER AND MOVE (service action 07h).
pub(crate) fn register_and_move(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let parameters = MoveParameters::read(request)?;
    let port = port_of(device, request)?;
    let reservations = &mut device.reservations;
    if !reservations.may_change(&port, parameters.key) {
        return Ok(CONFLICT);
    }
    let Some(holder) = reservations.holder.clone().filter(|holder| !holder.kind.all_registrants()) else {
        return Ok(CONFLICT);
    };
    if holder.port != port {
        return Ok(CONFLICT);
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
    reservations.set_key(parameters.port.clone(), parameters.service_key)?;
    reservations.holder = Some(Holder { kind: holder.kind, port: parameters.port });
    if parameters.unregister {
        reservations.registrations.retain(|registration| registration.port != port);
    }
    reservations.count_change();
    Ok(GOOD)
}

impl Reservations {
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
