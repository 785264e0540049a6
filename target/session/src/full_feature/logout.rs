//! Logout, and the request to log out (RFC 7143 11.9.1, 11.14, 11.15).

use stampede_wire::pdu::{
    LogoutReason, LogoutRequest, LogoutResponse, LogoutResponseCode, Pdu, RejectReason,
};

use super::{FullFeature, Killer, Life, management::Waiting};
use crate::{Close, ManagementRequest, OutData, Output};

impl FullFeature {
    pub(super) fn logout_request(&mut self, pdu: &LogoutRequest, out: &mut impl Output) {
        let itt = pdu.initiator_task_tag();
        match pdu.reason() {
            Ok(LogoutReason::CloseSession) => self.log_out(itt, out),
            Ok(LogoutReason::CloseConnection) if pdu.cid() == self.info.cid => self.log_out(itt, out),
            Ok(LogoutReason::CloseConnection) => {
                self.answer_logout(itt, LogoutResponseCode::CidNotFound, out)
            }
            Ok(LogoutReason::RemoveConnectionForRecovery) => {
                self.answer_logout(itt, LogoutResponseCode::RecoveryNotSupported, out);
            }
            Err(_) => self.reject(pdu.bhs(), RejectReason::InvalidPduField, out),
        }
    }

    /// All outstanding tasks end before the response (RFC 7143 11.14): none of their statuses is sent, and none of
    /// their writes lands later.
    fn log_out(&mut self, itt: u32, out: &mut impl Output) {
        let busy = !self.managements.is_empty();
        self.life = Life::LoggingOut;
        self.logout_deadline_ns = None;
        self.kill(None, Killer::End, out);
        self.managements.clear();
        if !busy && self.tasks.len() == 0 {
            return self.finish_logout(itt, out);
        }
        match self.managements.add(Waiting::Logout { itt }, false) {
            Some(id) => out.manage(ManagementRequest::Drain { id }),
            None => self.finish_logout(itt, out),
        }
    }

    pub(super) fn finish_logout(&mut self, itt: u32, out: &mut impl Output) {
        self.answer_logout(itt, LogoutResponseCode::Success, out);
        self.close(Close::LoggedOut, out);
    }

    fn answer_logout(&mut self, itt: u32, code: LogoutResponseCode, out: &mut impl Output) {
        let parameters = &self.info.parameters;
        let (wait, retain) = (parameters.time2wait, parameters.time2retain);
        let pdu = LogoutResponse::new(itt, code, wait, retain, self.numbers.status());
        self.send(&pdu, OutData::None, out);
    }
}
