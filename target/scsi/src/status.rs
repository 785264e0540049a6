//! SCSI status codes (SAM-5 5.3.1).

/// The status byte that ends a command (SAM-5 table 44).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// The command completed without error.
    Good = 0x00,
    /// Sense data says what happened.
    CheckCondition = 0x02,
    /// PRE-FETCH: everything fits in the cache.
    ConditionMet = 0x04,
    /// The logical unit cannot accept the command now; the initiator retries.
    Busy = 0x08,
    /// A reservation of another I_T nexus forbids the command.
    ReservationConflict = 0x18,
    /// The task set has no room; the initiator retries when one of its commands has ended.
    TaskSetFull = 0x28,
    /// An ACA condition of another I_T nexus is active.
    AcaActive = 0x30,
    /// The command was aborted by another I_T nexus and TAS is one.
    TaskAborted = 0x40,
}

impl Status {
    /// The status byte as it goes on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }
}
