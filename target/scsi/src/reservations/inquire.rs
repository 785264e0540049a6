//! PERSISTENT RESERVE IN (SPC-4 6.15).

use super::access::Type;
use crate::cdb::be16;
use crate::device::{Device, Request};
use crate::sense::Sense;
use crate::{Reply, Step};

/// READ KEYS.
pub(crate) fn read_keys(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let body = device
        .reservations
        .persistent
        .registrations
        .iter()
        .flat_map(|registration| registration.key.to_be_bytes());
    Ok(done(listing(device, body.collect()), request))
}

/// READ RESERVATION.
pub(crate) fn read_reservation(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let mut body = Vec::new();
    if let Some(holder) = &device.reservations.persistent.holder {
        let own = device
            .reservations
            .persistent
            .registration(&holder.port)
            .map_or(0, |registration| registration.key);
        // An all registrants reservation has no key of its own (SPC-4 6.15.3.2).
        let key = if holder.kind.all_registrants() { 0 } else { own };
        body.extend_from_slice(&key.to_be_bytes());
        body.extend_from_slice(&[0, 0, 0, 0, 0, holder.kind as u8, 0, 0]);
    }
    Ok(done(listing(device, body), request))
}

/// REPORT CAPABILITIES.
pub(crate) fn report_capabilities(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    // CRH, SIP_C, ATP_C, and PTPL_C where there is a store.
    let capable = 0x1C | u8::from(device.config.durable);
    // TMV; ALLOW COMMANDS 001b: TEST UNIT READY is always allowed, of other commands nothing is said; PTPL_A.
    let active = 0x90 | u8::from(device.reservations.persistent.aptpl);
    let [high, low] = Type::MASK;
    Ok(done(vec![0, 8, capable, active, high, low, 0, 0], request))
}

/// READ FULL STATUS.
pub(crate) fn read_full_status(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let reservations = &device.reservations.persistent;
    let mut body = Vec::new();
    for registration in &reservations.registrations {
        let holds = reservations.holds(&registration.port);
        let kind = reservations.holder.as_ref().filter(|_| holds).map_or(0, |holder| holder.kind as u8);
        body.extend_from_slice(&registration.key.to_be_bytes());
        body.extend_from_slice(&[0, 0, 0, 0, u8::from(holds), kind, 0, 0, 0, 0]);
        body.extend_from_slice(&device.config.identity.relative_port.to_be_bytes());
        let transport_id = registration.port.encode();
        body.extend_from_slice(&(transport_id.len() as u32).to_be_bytes());
        body.extend_from_slice(&transport_id);
    }
    Ok(done(listing(device, body), request))
}

/// PRGENERATION, ADDITIONAL LENGTH and `body`.
fn listing(device: &Device, body: Vec<u8>) -> Vec<u8> {
    let mut data = device.reservations.persistent.generation.to_be_bytes().to_vec();
    data.extend_from_slice(&(body.len() as u32).to_be_bytes());
    data.extend_from_slice(&body);
    data
}

fn done(data: Vec<u8>, request: &Request<'_>) -> Step {
    Step::Done(Reply::data(data, usize::from(be16(request.cdb, 7))))
}
