//! Reservations: RESERVE/RELEASE (SPC-2) and persistent reservations (SPC-4 5.13).

/// Who an initiator port is across sessions: iSCSI name and ISID (SPC-4 7.6.4.6, RFC 7143 4.4.3).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransportId {
    /// iSCSI name of the initiator.
    pub initiator_name: String,
    /// ISID of its session.
    pub isid: [u8; 6],
}
