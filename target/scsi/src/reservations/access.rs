//! Who may do what under a reservation (SPC-4 tables 65 and 66).

use super::transport_id::TransportId;
use super::{Persistent, Reservations};
use crate::NexusId;
use crate::cdb::Access;

/// Type of a persistent reservation (SPC-4 table 84).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Type {
    WriteExclusive = 1,
    ExclusiveAccess = 3,
    WriteExclusiveRegistrantsOnly = 5,
    ExclusiveAccessRegistrantsOnly = 6,
    WriteExclusiveAllRegistrants = 7,
    ExclusiveAccessAllRegistrants = 8,
}

impl Type {
    /// All types as REPORT CAPABILITIES' PERSISTENT RESERVATION TYPE MASK says it (SPC-4 table 203).
    pub(super) const MASK: [u8; 2] = [0xEA, 0x01];

    pub(super) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::WriteExclusive),
            3 => Some(Self::ExclusiveAccess),
            5 => Some(Self::WriteExclusiveRegistrantsOnly),
            6 => Some(Self::ExclusiveAccessRegistrantsOnly),
            7 => Some(Self::WriteExclusiveAllRegistrants),
            8 => Some(Self::ExclusiveAccessAllRegistrants),
            _ => None,
        }
    }

    /// Every registrant is a holder.
    pub(super) const fn all_registrants(self) -> bool {
        matches!(self, Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants)
    }

    /// Registrants have the holder's access.
    pub(super) const fn shared_by_registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    /// Others may read.
    const fn lets_others_read(self) -> bool {
        matches!(
            self,
            Self::WriteExclusive | Self::WriteExclusiveRegistrantsOnly | Self::WriteExclusiveAllRegistrants
        )
    }
}

impl Reservations {
    /// Whether a command of `nexus` with this access gets RESERVATION CONFLICT.
    pub(crate) fn conflict(&self, nexus: NexusId, port: Option<&TransportId>, access: Access) -> bool {
        if access == Access::Always {
            return false;
        }
        if self.legacy.is_some_and(|owner| owner != nexus) {
            return true;
        }
        self.persistent.conflict(port, access)
    }
}

impl Persistent {
    /// Whether a command of `port` with this access gets RESERVATION CONFLICT.
    pub(crate) fn conflict(&self, port: Option<&TransportId>, access: Access) -> bool {
        let Some(holder) = &self.holder else { return false };
        let free = matches!(access, Access::Always | Access::Free);
        if free || (access == Access::Read && holder.kind.lets_others_read()) {
            return false;
        }
        let Some(port) = port else { return true };
        let shares = holder.kind.shared_by_registrants() && self.registration(port).is_some();
        !(shares || self.holds(port))
    }
}
