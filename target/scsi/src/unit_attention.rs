//! Unit attention conditions, queued for each I_T nexus (SAM-5 5.14).

use crate::sense::{Sense, SenseKey};

/// Something an initiator must hear about before its next command is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnitAttention {
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
    /// 2Ah/09h CAPACITY DATA HAS CHANGED.
    CapacityChanged,
    /// 2Fh/00h COMMANDS CLEARED BY ANOTHER INITIATOR.
    CommandsCleared,
    /// 3Fh/0Eh REPORTED LUNS DATA HAS CHANGED.
    LunsChanged,
}

impl UnitAttention {
    /// Its sense data, in fixed format.
    pub const fn sense(self) -> Sense {
        let (asc, ascq) = match self {
            Self::PowerOnOrReset => (0x29, 0x00),
            Self::PowerOn => (0x29, 0x01),
            Self::BusReset => (0x29, 0x02),
            Self::DeviceReset => (0x29, 0x03),
            Self::NexusLoss => (0x29, 0x07),
            Self::ModeParametersChanged => (0x2A, 0x01),
            Self::ReservationsPreempted => (0x2A, 0x03),
            Self::ReservationsReleased => (0x2A, 0x04),
            Self::RegistrationsPreempted => (0x2A, 0x05),
            Self::CapacityChanged => (0x2A, 0x09),
            Self::CommandsCleared => (0x2F, 0x00),
            Self::LunsChanged => (0x3F, 0x0E),
        };
        Sense::new(SenseKey::UnitAttention, asc, ascq)
    }
}
