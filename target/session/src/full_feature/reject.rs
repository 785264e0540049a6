//! Reject (RFC 7143 11.17).

use stampede_wire::{
    Bhs,
    pdu::{Reject, RejectReason},
};

use super::FullFeature;
use crate::{OutData, Output};

impl FullFeature {
    /// Tells the initiator that a PDU was not taken, and which.
    pub(super) fn reject(&mut self, bad: &Bhs, reason: RejectReason, out: &mut impl Output) {
        let pdu = Reject::new(reason, self.numbers.status());
        self.send(&pdu, OutData::Bytes(&bad.0), out);
    }
}
