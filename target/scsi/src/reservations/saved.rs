//! Registrations and reservation as bytes.
//!
//! ```text
//!  count (2) | { key (8) | ISID (6) | length (1) | name } ... | type (1, 0: none) | holder's place (2)
//! ```

use super::access::Type;
use super::transport_id::TransportId;
use super::{Holder, Persistent, REGISTRATIONS_MAX, Registration};

impl Persistent {
    /// What survives power loss: nothing unless APTPL is one.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if !self.aptpl || self.registrations.is_empty() {
            return bytes;
        }
        bytes.extend_from_slice(&(self.registrations.len() as u16).to_be_bytes());
        for Registration { port, key } in &self.registrations {
            bytes.extend_from_slice(&key.to_be_bytes());
            bytes.extend_from_slice(&port.isid);
            bytes.push(port.initiator_name.len() as u8);
            bytes.extend_from_slice(port.initiator_name.as_bytes());
        }
        let holder = self.holder.as_ref().and_then(|holder| {
            let place = self.registrations.iter().position(|r| r.port == holder.port);
            // An all registrants reservation stays when whoever made it is gone: any registrant stands for it.
            Some((holder.kind, place.or(holder.kind.all_registrants().then_some(0))?))
        });
        let (kind, place) = holder.map_or((0, 0), |(kind, place)| (kind as u8, place as u16));
        bytes.push(kind);
        bytes.extend_from_slice(&place.to_be_bytes());
        bytes
    }

    /// Reads what [`encode`](Self::encode) gave.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (count, mut rest) = bytes.split_first_chunk::<2>()?;
        let count = usize::from(u16::from_be_bytes(*count));
        let mut registrations: Vec<Registration> = Vec::new();
        for _ in 0..count {
            let (key, after) = rest.split_first_chunk::<8>()?;
            let (isid, after) = after.split_first_chunk::<6>()?;
            let (length, after) = after.split_first()?;
            let (name, after) = after.split_at_checked(usize::from(*length))?;
            let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty())?;
            let port = TransportId { initiator_name: name.to_owned(), isid: *isid };
            if registrations.len() >= REGISTRATIONS_MAX || registrations.iter().any(|r| r.port == port) {
                return None;
            }
            registrations.push(Registration { port, key: u64::from_be_bytes(*key) });
            rest = after;
        }
        let &[kind, high, low] = rest else { return None };
        let holder = if kind == 0 {
            None
        } else {
            let holder = registrations.get(usize::from(u16::from_be_bytes([high, low])))?;
            Some(Holder { kind: Type::from_code(kind)?, port: holder.port.clone() })
        };
        (!registrations.is_empty()).then_some(Self { registrations, holder, generation: 0, aptpl: true })
    }
}
