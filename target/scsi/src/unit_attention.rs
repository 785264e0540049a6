//! Unit attention conditions, queued for each I_T nexus (SAM-5 5.14).

use crate::sense::{Sense, SenseKey};

/// Something an initiator must hear about before its next command is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnitAttention {
    /// 28h/00h NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED.
    MediumChanged,
    /// 29h/00h POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
    PowerOnOrReset,
    /// 29h/01h POWER ON OCCURRED.
    PowerOn,
    /// 29h/02h SCSI BUS RESET OCCURRED: a target reset.
    BusReset,
    /// 29h/03h BUS DEVICE RESET FUNCTION OCCURRED: a logical unit reset.
    DeviceReset,
    /// 29h/07h I_T NEXUS LOSS OCCURRED.
    NexusLoss,
    /// 2Ah/01h MODE PARAMETERS CHANGED.
    ModeParametersChanged,
    /// 2Ah/03h RESERVATIONS PREEMPTED.
    ReservationsPreempted,
    /// 2Ah/04h RESERVATIONS RELEASED.
    ReservationsReleased,
    /// 2Ah/05h REGISTRATIONS PREEMPTED.
    RegistrationsPreempted,
    /// 2Ah/06h ASYMMETRIC ACCESS STATE CHANGED.
    AccessStateChanged,
    /// 2Ah/09h CAPACITY DATA HAS CHANGED.
    CapacityChanged,
    /// 2Fh/00h COMMANDS CLEARED BY ANOTHER INITIATOR.
    CommandsCleared,
    /// 3Fh/0Eh REPORTED LUNS DATA HAS CHANGED.
    LunsChanged,
    /// 38h/07h THIN PROVISIONING SOFT THRESHOLD REACHED, of the threshold on available space.
    SpaceRunsLow,
    /// 38h/07h THIN PROVISIONING SOFT THRESHOLD REACHED, of the threshold on used space.
    MuchSpaceUsed,
}

impl UnitAttention {
    /// Its sense data, in fixed format.
    pub const fn sense(self) -> Sense {
        let (asc, ascq) = match self {
            Self::MediumChanged => (0x28, 0x00),
            Self::PowerOnOrReset => (0x29, 0x00),
            Self::PowerOn => (0x29, 0x01),
            Self::BusReset => (0x29, 0x02),
            Self::DeviceReset => (0x29, 0x03),
            Self::NexusLoss => (0x29, 0x07),
            Self::ModeParametersChanged => (0x2A, 0x01),
            Self::ReservationsPreempted => (0x2A, 0x03),
            Self::ReservationsReleased => (0x2A, 0x04),
            Self::RegistrationsPreempted => (0x2A, 0x05),
            Self::AccessStateChanged => (0x2A, 0x06),
            Self::CapacityChanged => (0x2A, 0x09),
            Self::CommandsCleared => (0x2F, 0x00),
            Self::LunsChanged => (0x3F, 0x0E),
            Self::SpaceRunsLow | Self::MuchSpaceUsed => (0x38, 0x07),
        };
        let sense = Sense::new(SenseKey::UnitAttention, asc, ascq);
        // Where the threshold's descriptor is in its mode page (SBC-4 4.7.3.7.6).
        match self {
            Self::SpaceRunsLow => sense.with_information(16),
            Self::MuchSpaceUsed => sense.with_information(24),
            _ => sense,
        }
    }
}

impl UnitAttention {
    /// All of them, the most urgent first.
    const ALL: [Self; 16] = [
        Self::PowerOnOrReset,
        Self::PowerOn,
        Self::BusReset,
        Self::DeviceReset,
        Self::NexusLoss,
        Self::MediumChanged,
        Self::CommandsCleared,
        Self::LunsChanged,
        Self::AccessStateChanged,
        Self::CapacityChanged,
        Self::ModeParametersChanged,
        Self::ReservationsPreempted,
        Self::ReservationsReleased,
        Self::RegistrationsPreempted,
        Self::SpaceRunsLow,
        Self::MuchSpaceUsed,
    ];

    /// The reset family: after one of them the initiator takes nothing it knew for granted.
    const RESETS: u16 = Self::PowerOnOrReset.bit()
        | Self::PowerOn.bit()
        | Self::BusReset.bit()
        | Self::DeviceReset.bit()
        | Self::NexusLoss.bit();

    /// What a reset says anyway, so that it need not be said again.
    const SAID_BY_RESET: u16 = Self::RESETS | Self::CommandsCleared.bit() | Self::ModeParametersChanged.bit();

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// The unit attentions pending for one nexus: each kind at most once, so the queue has a bound by construction.
/// The most urgent is reported first (SAM-5 5.14.2 leaves the order to the device server).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Attentions(u16);

impl Attentions {
    /// Establishes a unit attention. One of the reset family replaces what it implies; a pending power on stays the
    /// only one of its family.
    pub(crate) fn raise(&mut self, attention: UnitAttention) {
        if attention.bit() & UnitAttention::RESETS != 0 {
            let power_on = self.0 & UnitAttention::PowerOnOrReset.bit();
            self.0 &= !UnitAttention::SAID_BY_RESET;
            self.0 |= if power_on == 0 { attention.bit() } else { power_on };
        } else {
            self.0 |= attention.bit();
        }
    }

    /// Takes the most urgent one.
    pub(crate) fn take(&mut self) -> Option<UnitAttention> {
        if self.0 == 0 {
            return None;
        }
        let (first, _) = self.first()?;
        self.drop_one(first);
        Some(first)
    }

    /// The most urgent one, which stays pending, and whether there are others.
    pub(crate) fn first(self) -> Option<(UnitAttention, bool)> {
        let first = UnitAttention::ALL.into_iter().find(|attention| self.0 & attention.bit() != 0)?;
        Some((first, self.0.count_ones() > 1))
    }

    /// Drops one kind.
    pub(crate) fn drop_one(&mut self, attention: UnitAttention) {
        self.0 &= !attention.bit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_every_kind_once() {
        let mut seen = 0u16;
        for attention in UnitAttention::ALL {
            assert_eq!(seen & attention.bit(), 0);
            seen |= attention.bit();
        }
        assert_eq!(seen, 0xFFFF);
    }

    #[test]
    fn the_most_urgent_comes_first_and_each_once() {
        let mut pending = Attentions::default();
        pending.raise(UnitAttention::ReservationsReleased);
        pending.raise(UnitAttention::CapacityChanged);
        pending.raise(UnitAttention::CapacityChanged);
        assert_eq!(pending.take(), Some(UnitAttention::CapacityChanged));
        assert_eq!(pending.take(), Some(UnitAttention::ReservationsReleased));
        assert_eq!(pending.take(), None);
    }

    #[test]
    fn a_reset_replaces_what_it_implies() {
        let mut pending = Attentions::default();
        pending.raise(UnitAttention::ModeParametersChanged);
        pending.raise(UnitAttention::CapacityChanged);
        pending.raise(UnitAttention::NexusLoss);
        pending.raise(UnitAttention::DeviceReset);
        assert_eq!(pending.take(), Some(UnitAttention::DeviceReset));
        assert_eq!(pending.take(), Some(UnitAttention::CapacityChanged));
        assert_eq!(pending.take(), None);
    }

    #[test]
    fn a_pending_power_on_swallows_later_resets() {
        let mut pending = Attentions::default();
        pending.raise(UnitAttention::PowerOnOrReset);
        pending.raise(UnitAttention::DeviceReset);
        assert_eq!(pending.take(), Some(UnitAttention::PowerOnOrReset));
        assert_eq!(pending.take(), None);
    }
}
