//! PERSISTENT RESERVE OUT (SPC-4 6.16 and 5.13).
//!
//! ```text
//!               REGISTER                     RESERVE
//! unregistered ──────────▶ registered ─────────────────▶ holder
//!      ▲                       │  ▲      RELEASE           │
//!      └───────────────────────┘  └────────────────────────┘
//!   key 0, CLEAR, PREEMPT by another     PREEMPT by another: unregistered
//! ```

mod parameters;
mod preempt;
mod register;

pub(crate) use preempt::{clear, preempt};
pub(crate) use register::{register, register_and_move};

use super::access::Type;
use super::transport_id::TransportId;
use super::{Holder, Reservations};
use crate::device::{Device, Request};
use crate::sense::{self, Sense};
use crate::unit_attention::UnitAttention;
use crate::{Reply, Status, Step};
use parameters::Parameters;

const GOOD: Step = Step::Done(Reply::good());
const CONFLICT: Step = Step::Done(Reply::status(Status::ReservationConflict));

/// The initiator port of the nexus that sent the command. The engine attaches a nexus before it starts commands;
/// one that is not attached cannot be told from others, so it gets no reservations.
fn port_of(device: &Device, request: &Request<'_>) -> Result<TransportId, Sense> {
    device
        .nexuses
        .get(&request.nexus)
        .map(|nexus| nexus.transport.clone())
        .ok_or(sense::INTERNAL_TARGET_FAILURE)
}

/// Type and scope of the CDB: the scope must be the logical unit (SPC-4 6.16.2).
fn type_of(request: &Request<'_>) -> Result<Type, Sense> {
    if request.cdb[2] & 0xF0 != 0 {
        return Err(Sense::invalid_cdb(2, Some(7)));
    }
    Type::from_code(request.cdb[2] & 0x0F).ok_or(Sense::invalid_cdb(2, Some(3)))
}

/// RESERVE (SPC-4 5.13.9).
pub(crate) fn persistent_reserve(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let kind = type_of(request)?;
    let parameters = Parameters::basic(request)?;
    let port = port_of(device, request)?;
    let reservations = &mut device.reservations;
    if !reservations.may_change(&port, parameters.key) {
        return Ok(CONFLICT);
    }
    match &reservations.holder {
        None => {
            reservations.holder = Some(Holder { kind, port });
            Ok(GOOD)
        }
        Some(holder) if holder.kind == kind && reservations.holds(&port) => Ok(GOOD),
        Some(_) => Ok(CONFLICT),
    }
}

/// RELEASE (SPC-4 5.13.11.2): without a reservation of one's own it is no error.
pub(crate) fn persistent_release(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let kind = type_of(request)?;
    let parameters = Parameters::basic(request)?;
    let port = port_of(device, request)?;
    if !device.reservations.may_change(&port, parameters.key) {
        return Ok(CONFLICT);
    }
    if !device.reservations.holds(&port) {
        return Ok(GOOD);
    }
    let Some(holder) = device.reservations.holder.take_if(|holder| holder.kind == kind) else {
        return Err(sense::INVALID_RELEASE);
    };
    if holder.kind.shared_by_registrants() {
        let ports = device.reservations.ports();
        device.raise_ports(&ports, request.nexus, UnitAttention::ReservationsReleased);
    }
    Ok(GOOD)
}

impl Reservations {
    /// Whether `port` is registered with `key` and no RESERVE stands in the way: what every service action but the
    /// registering ones asks for (SPC-4 5.13.7).
    fn may_change(&self, port: &TransportId, key: u64) -> bool {
        self.legacy.is_none() && self.registration(port).is_some_and(|registration| registration.key == key)
    }

    fn ports(&self) -> Vec<TransportId> {
        self.registrations.iter().map(|registration| registration.port.clone()).collect()
    }

    fn count_change(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }
}
