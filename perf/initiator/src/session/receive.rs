//! Received bytes into PDUs, and what each PDU means.

use super::{Incoming, LOGOUT_TAG, Phase, Session, Signal};
use crate::command::Outcome;
use crate::reason::Reason;
use crate::sense::Sense;
use stampede_ring::Buffer;
use stampede_wire::frame::Frame;
use stampede_wire::pdu::{AsyncEvent, DataIn, Response, ResponseCode, ScsiResponse, TargetSns};
use stampede_wire::{Bhs, RESERVED_TAG, Sn};

/// The longest data segment that is gathered, bytes: texts, sense data, ping data.
const SEGMENT_MAX: usize = 64 * 1024;
/// Where a Reject has its reason, as a bare number since targets use reserved ones too (RFC 7143 11.17.1).
const REJECT_REASON: usize = 2;

impl Session {
    /// Takes all of a chunk in.
    ///
    /// # Errors
    /// Why the session cannot go on.
    pub(crate) fn receive(
        &mut self,
        mut chunk: &[u8],
        now_ns: u64,
        sink: &mut impl FnMut(Signal<'_>),
    ) -> Result<(), Reason> {
        while let Some(frame) = self.framer.next(&mut chunk)? {
            match frame {
                Frame::Header => self.header()?,
                Frame::Data(piece) => self.data(piece, sink)?,
                Frame::End { data_digest_ok: false } => return Err(Reason::DataDigest),
                Frame::End { .. } => match self.incoming {
                    Incoming::ReadData { itt } => self.read_data_end(itt, now_ns, sink)?,
                    Incoming::Gathered => self.pdu(now_ns, sink)?,
                },
            }
        }
        Ok(())
    }

    #[inline]
    fn header(&mut self) -> Result<(), Reason> {
        let bhs = self.framer.header().bhs();
        let Some(pdu) = bhs.try_view::<DataIn>() else {
            self.incoming = Incoming::Gathered;
            self.segment.clear();
            return Ok(());
        };
        let (itt, offset) = (pdu.initiator_task_tag(), pdu.buffer_offset());
        let len = bhs.data_segment_len();
        let Some(task) = self.tasks.get(itt) else {
            return Err(Reason::Protocol("Data-In for no command"));
        };
        if offset != task.received {
            return Err(Reason::Protocol("Data-In out of its place (DataPDUInOrder=Yes holds)"));
        }
        if len > task.expected_in - task.received {
            return Err(Reason::Protocol("more Data-In than the command expects"));
        }
        self.incoming = Incoming::ReadData { itt };
        Ok(())
    }

    #[inline]
    fn data(&mut self, piece: &[u8], sink: &mut impl FnMut(Signal<'_>)) -> Result<(), Reason> {
        let Incoming::ReadData { itt } = self.incoming else {
            if self.segment.len() + piece.len() > SEGMENT_MAX {
                return Err(Reason::Protocol("a data segment that is longer than any answer's"));
            }
            self.segment.extend_from_slice(piece);
            return Ok(());
        };
        let Some(task) = self.tasks.get(itt) else {
            return Err(Reason::Protocol("Data-In for no command"));
        };
        if let Some(target) = task.buffer.as_mut().and_then(Buffer::bytes_mut) {
            let start = task.received as usize;
            let Some(place) = target.get_mut(start..start + piece.len()) else {
                return Err(Reason::Protocol("more Data-In than the command's buffer holds"));
            };
            place.copy_from_slice(piece);
        }
        if task.streams {
            sink(Signal::Data { tag: task.tag, offset: task.received, bytes: piece });
        }
        // A piece is a part of a received chunk: it fits.
        task.received += piece.len() as u32;
        Ok(())
    }

    /// The end of a Data-In PDU, which may carry the command's status (RFC 7143 11.7.3).
    #[inline]
    fn read_data_end(
        &mut self,
        itt: u32,
        now_ns: u64,
        sink: &mut impl FnMut(Signal<'_>),
    ) -> Result<(), Reason> {
        let pdu: &DataIn = self.framer.header().bhs().view();
        let (sns, status) = (pdu.sns(), pdu.status());
        self.open_window(sns);
        let Some(status) = status else { return Ok(()) };
        self.status_number(sns.stat_sn)?;
        self.finish(itt, Outcome::Status { status, sense: None }, now_ns, sink)
    }

    /// Any PDU but Data-In, complete.
    fn pdu(&mut self, now_ns: u64, sink: &mut impl FnMut(Signal<'_>)) -> Result<(), Reason> {
        // 48 bytes, so that what follows may change the session.
        let bhs: Bhs = *self.framer.header().bhs();
        if let Phase::Login(_) = self.phase {
            let Some(Response::LoginResponse(response)) = bhs.response() else {
                return Err(Reason::Protocol("another answer to a login than a Login Response"));
            };
            return self.login_response(response, sink);
        }
        match bhs.response() {
            Some(Response::ScsiResponse(response)) => self.scsi_response(response, now_ns, sink),
            Some(Response::ReadyToTransfer(r2t)) => {
                self.open_window(r2t.sns());
                self.answer_r2t(r2t)
            }
            Some(Response::NopIn(nop)) => {
                self.open_window(nop.sns());
                if nop.initiator_task_tag() != RESERVED_TAG {
                    return Err(Reason::Protocol("an answer to a ping that was not sent"));
                }
                if nop.wants_reply() && self.config.answers_pings {
                    self.answer_ping(nop.target_transfer_tag(), nop.lun())?;
                }
                Ok(())
            }
            Some(Response::LogoutResponse(response)) => {
                if response.initiator_task_tag() != LOGOUT_TAG {
                    return Err(Reason::Protocol("an answer to a logout that was not sent"));
                }
                sink(Signal::LoggedOut);
                Ok(())
            }
            Some(Response::AsyncMessage(message)) => {
                self.open_window(message.sns());
                self.exp_stat_sn = message.stat_sn().next();
                if message.event() == Ok(AsyncEvent::LogoutRequest) {
                    sink(Signal::LogoutRequested);
                }
                Ok(())
            }
            Some(Response::Reject(_)) => Err(Reason::Rejected(bhs.0[REJECT_REASON])),
            _ => Err(Reason::Protocol("a PDU that answers nothing")),
        }
    }

    fn scsi_response(
        &mut self,
        response: &ScsiResponse,
        now_ns: u64,
        sink: &mut impl FnMut(Signal<'_>),
    ) -> Result<(), Reason> {
        let sns = response.sns();
        self.open_window(sns);
        self.status_number(sns.stat_sn)?;
        let outcome = match response.response() {
            Ok(ResponseCode::CompletedAtTarget) => {
                Outcome::Status { status: response.status(), sense: self.sense() }
            }
            _ => Outcome::TargetFailure,
        };
        self.finish(response.initiator_task_tag(), outcome, now_ns, sink)
    }

    /// The sense data of a response's data segment: two bytes of length, then the data (RFC 7143 11.4.7).
    fn sense(&self) -> Option<Sense> {
        let (length, rest) = self.segment.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        Sense::parse(&rest[..length.min(rest.len())])
    }

    #[inline]
    fn finish(
        &mut self,
        itt: u32,
        outcome: Outcome,
        now_ns: u64,
        sink: &mut impl FnMut(Signal<'_>),
    ) -> Result<(), Reason> {
        match self.tasks.finish(itt, self.id, outcome, now_ns) {
            Some(completed) => {
                sink(Signal::Completed(completed));
                self.drained()
            }
            None => Err(Reason::Protocol("a status for no command")),
        }
    }

    /// Statuses come in their order, each once (RFC 7143 4.2.2.2, with ErrorRecoveryLevel 0).
    #[inline]
    fn status_number(&mut self, stat_sn: Sn) -> Result<(), Reason> {
        if stat_sn != self.exp_stat_sn {
            return Err(Reason::Protocol("a StatSN that is not the next one"));
        }
        self.exp_stat_sn = stat_sn.next();
        Ok(())
    }

    /// The window never shrinks (RFC 7143 4.2.2.1): an older MaxCmdSN is ignored.
    #[inline]
    pub(super) fn open_window(&mut self, sns: TargetSns) {
        if self.max_cmd_sn.lt(sns.max_cmd_sn) {
            self.max_cmd_sn = sns.max_cmd_sn;
        }
    }
}
