//! The parameter lists of PERSISTENT RESERVE OUT (SPC-4 6.16.3 and 6.16.4).

use crate::cdb::{be16, be32, be64};
use crate::device::Request;
use crate::reservations::REGISTRATIONS_MAX;
use crate::reservations::transport_id::TransportId;
use crate::sense::{PARAMETER_LIST_LENGTH_ERROR, Sense};

/// Bytes of the basic parameter list.
const BASIC: usize = 24;

/// The parameter list of every service action but REGISTER AND MOVE.
pub(super) struct Parameters {
    /// RESERVATION KEY.
    pub(super) key: u64,
    /// SERVICE ACTION RESERVATION KEY.
    pub(super) service_key: u64,
    /// APTPL: keep registrations and reservation through power loss.
    pub(super) aptpl: bool,
    /// Further initiator ports to register, if SPEC_I_PT is one.
    pub(super) ports: Option<Vec<TransportId>>,
}

impl Parameters {
    /// The basic list: exactly 24 bytes.
    pub(super) fn basic(request: &Request<'_>) -> Result<Self, Sense> {
        let list = list(request)?;
        if list.len() != BASIC {
            return Err(PARAMETER_LIST_LENGTH_ERROR);
        }
        Ok(Self { key: be64(list, 0), service_key: be64(list, 8), aptpl: false, ports: None })
    }

    /// The list of REGISTER and REGISTER AND IGNORE EXISTING KEY: basic, or with TransportIDs behind it. ALL_TG_PT
    /// asks for what is always so (there is one target port); APTPL is refused where PTPL_C is zero.
    pub(super) fn registering(request: &Request<'_>, ptpl_capable: bool) -> Result<Self, Sense> {
        let list = list(request)?;
        if list.len() < BASIC {
            return Err(PARAMETER_LIST_LENGTH_ERROR);
        }
        let flags = list[20];
        let aptpl = flags & 0x01 != 0;
        if aptpl && !ptpl_capable {
            return Err(Sense::invalid_parameter(20, Some(0)));
        }
        let spec_i_pt = flags & 0x08 != 0;
        if !spec_i_pt && list.len() != BASIC {
            return Err(PARAMETER_LIST_LENGTH_ERROR);
        }
        if spec_i_pt && request.cdb[1] & 0x1F != 0 {
            // Only REGISTER takes them.
            return Err(Sense::invalid_parameter(20, Some(3)));
        }
        let ports = if spec_i_pt { Some(transport_ids(list)?) } else { None };
        Ok(Self { key: be64(list, 0), service_key: be64(list, 8), aptpl, ports })
    }
}

/// The parameter list of REGISTER AND MOVE.
pub(super) struct MoveParameters {
    /// RESERVATION KEY.
    pub(super) key: u64,
    /// SERVICE ACTION RESERVATION KEY: the new holder's.
    pub(super) service_key: u64,
    /// APTPL: keep registrations and reservation through power loss.
    pub(super) aptpl: bool,
    /// The mover's registration ends.
    pub(super) unregister: bool,
    /// RELATIVE TARGET PORT IDENTIFIER of the new holder's nexus.
    pub(super) relative_port: u16,
    /// The new holder's initiator port.
    pub(super) port: TransportId,
}

impl MoveParameters {
    pub(super) fn read(request: &Request<'_>, ptpl_capable: bool) -> Result<Self, Sense> {
        let list = list(request)?;
        if list.len() < BASIC {
            return Err(PARAMETER_LIST_LENGTH_ERROR);
        }
        let aptpl = list[17] & 0x01 != 0;
        if aptpl && !ptpl_capable {
            return Err(Sense::invalid_parameter(17, Some(0)));
        }
        let length = be32(list, 20) as usize;
        let id = list.get(BASIC..).filter(|rest| rest.len() == length).ok_or(PARAMETER_LIST_LENGTH_ERROR)?;
        let port = TransportId::decode(id).map_err(|at| Sense::invalid_parameter(BASIC as u16 + at, None))?;
        Ok(Self {
            key: be64(list, 0),
            service_key: be64(list, 8),
            aptpl,
            unregister: list[17] & 0x02 != 0,
            relative_port: be16(list, 18),
            port,
        })
    }
}

/// The gathered list, cut to the CDB's PARAMETER LIST LENGTH.
fn list<'a>(request: &Request<'a>) -> Result<&'a [u8], Sense> {
    let length = usize::try_from(be32(request.cdb, 5)).unwrap_or(usize::MAX);
    request.param.get(..length).ok_or(PARAMETER_LIST_LENGTH_ERROR)
}

/// The TransportIDs behind a basic list, each told once.
fn transport_ids(list: &[u8]) -> Result<Vec<TransportId>, Sense> {
    let length = list.get(24..28).map(|field| be32(field, 0) as usize).ok_or(PARAMETER_LIST_LENGTH_ERROR)?;
    let mut rest = list.get(28..).filter(|rest| rest.len() == length).ok_or(PARAMETER_LIST_LENGTH_ERROR)?;
    let mut ports = Vec::new();
    while !rest.is_empty() {
        let at = (list.len() - rest.len()) as u16;
        let invalid = Sense::invalid_parameter(at, None);
        let port = TransportId::decode(rest).map_err(|field| Sense::invalid_parameter(at + field, None))?;
        let bytes = 4 + usize::from(be16(rest, 2));
        if ports.contains(&port) || ports.len() >= REGISTRATIONS_MAX {
            return Err(invalid);
        }
        ports.push(port);
        rest = &rest[bytes..];
    }
    Ok(ports)
}
