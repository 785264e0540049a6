//! Reservations: RESERVE/RELEASE (SPC-2 7.21) and persistent reservations (SPC-4 5.13).

mod access;
mod inquire;
mod legacy;
mod persistent;
mod transport_id;

pub(crate) use inquire::{read_full_status, read_keys, read_reservation, report_capabilities};
pub(crate) use legacy::{release, reserve};
pub(crate) use persistent::{
    clear, persistent_release, persistent_reserve, preempt, register, register_and_move,
};
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

/// The reservations of one unit. Persistent ones survive resets and lost nexuses, not power loss (PTPL_C is zero).
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    /// Who has it by RESERVE.
    legacy: Option<NexusId>,
    /// Registrants, in order of registration.
    registrations: Vec<Registration>,
    holder: Option<Holder>,
    /// PRGENERATION.
    generation: u32,
}

impl Reservations {
    /// Whether no reservation of any kind stands: the usual case, kept quick.
    #[inline]
    pub(crate) fn are_none(&self) -> bool {
        self.legacy.is_none() && self.holder.is_none()
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
