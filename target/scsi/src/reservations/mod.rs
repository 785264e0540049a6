//! Reservations: RESERVE/RELEASE (SPC-2 7.21) and persistent reservations (SPC-4 5.13).

mod access;
mod inquire;
mod legacy;
mod persistent;
mod saved;
mod transport_id;

pub(crate) use inquire::{read_full_status, read_keys, read_reservation, report_capabilities};
pub(crate) use legacy::{release, reserve};
pub(crate) use persistent::persistent_reserve_out;
pub use transport_id::TransportId;

use crate::NexusId;
use access::Type;

/// The most persistent registrations a unit holds; one more gets 05h/55h/04h.
pub const REGISTRATIONS_MAX: usize = 256;

/// One registered I_T nexus: an initiator port and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Registration {
    port: TransportId,
    key: u64,
}

/// A persistent reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Holder {
    kind: Type,
    /// Who holds it; with an all registrants type every registrant holds it and this says who made it.
    port: TransportId,
}

/// The reservations of one unit. Persistent ones survive resets and lost nexuses; with APTPL also power loss.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    /// Who has it by RESERVE.
    legacy: Option<NexusId>,
    /// What PERSISTENT RESERVE OUT made.
    pub(crate) persistent: Persistent,
}

/// Registrations and the reservation among them (SPC-4 5.13.5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Persistent {
    /// Registrants, in order of registration.
    registrations: Vec<Registration>,
    holder: Option<Holder>,
    /// PRGENERATION; it starts anew at power on whatever APTPL is.
    generation: u32,
    /// The last APTPL bit taken: registrations and reservation survive power loss (SPC-4 5.13.5.2).
    aptpl: bool,
}

impl Reservations {
    /// After power on, with what survived it.
    pub(crate) fn restored(persistent: Persistent) -> Self {
        Self { legacy: None, persistent }
    }

    /// Whether no reservation of any kind stands: the usual case, kept quick.
    #[inline]
    pub(crate) fn are_none(&self) -> bool {
        self.legacy.is_none() && self.persistent.holder.is_none()
    }

    /// A nexus is gone or was lost: its RESERVE ends.
    pub(crate) fn nexus_gone(&mut self, nexus: NexusId) {
        if self.legacy == Some(nexus) {
            self.legacy = None;
        }
    }

    /// A reset of the unit: RESERVE ends, persistent reservations stay (SPC-4 5.13.1).
    pub(crate) fn reset(&mut self) {
        self.legacy = None;
    }
}

impl Persistent {
    fn registration(&self, port: &TransportId) -> Option<&Registration> {
        self.registrations.iter().find(|registration| registration.port == *port)
    }

    /// Whether `port` holds the persistent reservation (SPC-4 5.13.10: an all registrants one is every registrant's).
    fn holds(&self, port: &TransportId) -> bool {
        self.holder.as_ref().is_some_and(|holder| {
            if holder.kind.all_registrants() {
                self.registration(port).is_some()
            } else {
                holder.port == *port
            }
        })
    }
}
