//! PERSISTENT RESERVE OUT (SPC-4 6.16 and 5.13).
//!
//! ```text
//!               REGISTER                     RESERVE
//! unregistered ──────────▶ registered ─────────────────▶ holder
//!      ▲                       │  ▲      RELEASE           │
//!      └───────────────────────┘  └────────────────────────┘
//!   key 0, CLEAR, PREEMPT by another     PREEMPT by another: unregistered
//! ```
//!
//! Each service action works on a [`Draft`]: with APTPL it takes effect once it is durable, else at once.

mod parameters;
mod preempt;
mod register;

use super::access::Type;
use super::transport_id::TransportId;
use super::{Holder, Persistent};
use crate::device::{Device, Request};
use crate::draft::{Audience, Draft};
use crate::sense::{self, Sense};
use crate::unit_attention::UnitAttention;
use crate::{Reply, Status, Step};
use parameters::Parameters;

/// What came of a service action.
enum Verdict {
    /// The draft is to take effect.
    Good,
    /// RESERVATION CONFLICT: nothing changes.
    Conflict,
}

type Outcome = Result<Verdict, Sense>;

/// PERSISTENT RESERVE OUT, all service actions.
pub(crate) fn persistent_reserve_out(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    if device.is_saving() {
        return Ok(Step::Wait);
    }
    let mut draft = Draft::new(device);
    let verdict = match request.cdb[1] & 0x1F {
        0x00 | 0x06 => register::register(device, &mut draft, request),
        0x01 => persistent_reserve(device, &mut draft, request),
        0x02 => persistent_release(device, &mut draft, request),
        0x03 => preempt::clear(device, &mut draft, request),
        0x04 | 0x05 => preempt::preempt(device, &mut draft, request),
        0x07 => register::register_and_move(device, &mut draft, request),
        _ => Err(Sense::invalid_cdb(1, Some(4))),
    }?;
    Ok(match verdict {
        Verdict::Conflict => Step::Done(Reply::status(Status::ReservationConflict)),
        Verdict::Good => device.commit(draft, request.nexus, Step::Done(Reply::good())),
    })
}

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

/// Whether `port` is registered with `key` and no RESERVE stands in the way: what every service action but the
/// registering ones asks for (SPC-4 5.13.7).
fn may_change(device: &Device, port: &TransportId, key: u64) -> bool {
    let registration = device.reservations.persistent.registration(port);
    device.reservations.legacy.is_none() && registration.is_some_and(|registration| registration.key == key)
}

/// RESERVE (SPC-4 5.13.9).
fn persistent_reserve(device: &Device, draft: &mut Draft, request: &Request<'_>) -> Outcome {
    let kind = type_of(request)?;
    let parameters = Parameters::basic(request)?;
    let port = port_of(device, request)?;
    if !may_change(device, &port, parameters.key) {
        return Ok(Verdict::Conflict);
    }
    let persistent = &mut draft.persistent;
    Ok(match &persistent.holder {
        None => {
            persistent.holder = Some(Holder { kind, port });
            Verdict::Good
        }
        Some(holder) if holder.kind == kind && persistent.holds(&port) => Verdict::Good,
        Some(_) => Verdict::Conflict,
    })
}

/// RELEASE (SPC-4 5.13.11.2): without a reservation of one's own it is no error.
fn persistent_release(device: &Device, draft: &mut Draft, request: &Request<'_>) -> Outcome {
    let kind = type_of(request)?;
    let parameters = Parameters::basic(request)?;
    let port = port_of(device, request)?;
    if !may_change(device, &port, parameters.key) {
        return Ok(Verdict::Conflict);
    }
    if !draft.persistent.holds(&port) {
        return Ok(Verdict::Good);
    }
    let Some(holder) = draft.persistent.holder.take_if(|holder| holder.kind == kind) else {
        return Err(sense::INVALID_RELEASE);
    };
    if holder.kind.shared_by_registrants() {
        draft.tell(Audience::Ports(draft.persistent.ports()), UnitAttention::ReservationsReleased);
    }
    Ok(Verdict::Good)
}

impl Persistent {
    fn ports(&self) -> Vec<TransportId> {
        self.registrations.iter().map(|registration| registration.port.clone()).collect()
    }

    fn count_change(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }
}
