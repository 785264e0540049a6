//! Asynchronous Messages (RFC 7143 11.9): what an initiator is told without having asked.

use stampede_wire::pdu::AsyncMessage;

use super::{FullFeature, Life};
use crate::{Announcement, Close, OutData, Output, settings::SECOND_NS};

impl FullFeature {
    /// The target is reset: the session is told its end (RFC 7143 11.5.1).
    pub(super) fn end_by_reset(&mut self, out: &mut impl Output) {
        if self.life == Life::Active {
            let pdu = AsyncMessage::drop_session(self.info.parameters.time2wait, 0, self.numbers.status());
            self.send(&pdu, OutData::None, out);
            self.close(Close::TargetReset, out);
        }
    }

    /// See [`Connection::announce`](crate::Connection::announce).
    pub(crate) fn announce(&mut self, what: Announcement, now_ns: u64, out: &mut impl Output) {
        if self.life != Life::Active {
            return;
        }
        let (cid, time2wait, sns) = (self.info.cid, self.info.parameters.time2wait, self.numbers.status());
        let pdu = match what {
            Announcement::Logout { seconds } => AsyncMessage::logout_request(seconds, sns),
            // Nothing is retained at ErrorRecoveryLevel 0.
            Announcement::DropConnection => AsyncMessage::drop_connection(cid, time2wait, 0, sns),
            Announcement::DropSession => AsyncMessage::drop_session(time2wait, 0, sns),
            Announcement::Renegotiate { seconds } => AsyncMessage::negotiation_request(seconds, sns),
        };
        self.send(&pdu, OutData::None, out);
        let by = |seconds: u16, earlier: Option<u64>| {
            let deadline = now_ns.saturating_add(u64::from(seconds).saturating_mul(SECOND_NS));
            Some(earlier.map_or(deadline, |earlier| earlier.min(deadline)))
        };
        match what {
            Announcement::Logout { seconds } => {
                self.logout_deadline_ns = by(seconds, self.logout_deadline_ns);
            }
            Announcement::Renegotiate { seconds } => {
                self.renegotiation_deadline_ns = by(seconds, self.renegotiation_deadline_ns);
            }
            Announcement::DropConnection | Announcement::DropSession => self.close(Close::Dropped, out),
        }
    }
}
