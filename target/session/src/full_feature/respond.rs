//! The end of a command: Data-In, status, residual (RFC 7143 11.4, 11.7).

use stampede_wire::pdu::{CommandFlags, DataIn, Pdu, Residual, ScsiResponse, status};

use super::{
    FullFeature, Life,
    data_in::{Piece, pieces},
};
use crate::task::{Facts, State};
use crate::{CommandResult, OutData, Output, TaskKey, Transfer};

/// Sense data of a command, at most (SPC-5 4.4): the additional length is one byte.
const SENSE_MAX: usize = 252;

/// Status qualifier of BUSY and TASK SET FULL (RFC 7144 5.2, SAM-5 5.3.2): of the logical unit, one increment of
/// 100 ms after which the command may be sent again. What we were short of, memory, mostly comes back sooner.
const RETRY_IN_100_MS: u16 = 1;

impl FullFeature {
    /// See [`Connection::respond`](crate::Connection::respond).
    #[inline]
    pub(crate) fn respond(&mut self, key: TaskKey, result: &CommandResult<'_>, out: &mut impl Output) {
        let Some(task) = self.tasks.remove(key) else { return };
        if !task.immediate {
            self.numbers.window.vacate();
        }
        if task.state == State::Running && self.life != Life::Over {
            self.send_status(key, &task, result, out);
        }
    }

    /// Sends a command's data, if it has any, and its status: with the last Data-In where that may be (RFC 7143
    /// 11.7.3: no sense data), else as a SCSI Response.
    #[inline]
    pub(super) fn send_status(
        &mut self,
        key: TaskKey,
        task: &Facts,
        result: &CommandResult<'_>,
        out: &mut impl Output,
    ) {
        let (residual, readable) = outcome(task, result.transfer);
        let collapsed = (result.status == status::GOOD && result.sense.is_empty()).then_some(residual);
        let parameters = &self.info.parameters;
        let (segment, burst) = (parameters.initiator_recv_data_segment, parameters.max_burst);
        let mut sent = 0;
        if readable > 0 && readable <= segment.min(burst) {
            // Mostly all of it goes in one PDU.
            self.send_data_in(key, task.itt, &Piece::whole(readable), collapsed, out);
            sent = 1;
        } else {
            for piece in pieces(readable, segment, burst) {
                self.send_data_in(key, task.itt, &piece, collapsed.filter(|_| piece.last), out);
                sent = piece.data_sn.wrapping_add(1);
            }
        }
        if readable == 0 || collapsed.is_none() {
            self.send_response(task.itt, result, residual, sent.wrapping_add(task.r2ts), out);
        }
    }

    /// Sends one Data-In PDU; with status GOOD if a residual is given.
    #[inline]
    fn send_data_in(
        &mut self,
        key: TaskKey,
        itt: u32,
        piece: &Piece,
        good: Option<Residual>,
        out: &mut impl Output,
    ) {
        let sns = if good.is_some() { self.numbers.status() } else { self.numbers.current() };
        let mut pdu = DataIn::new(itt, piece.data_sn, piece.offset, piece.ends_sequence, sns);
        if let Some(residual) = good {
            pdu = pdu.with_status(status::GOOD, residual, sns.stat_sn);
        }
        pdu.set_data_segment_len(piece.len);
        self.send(&pdu, OutData::Task { task: key, offset: piece.offset, len: piece.len }, out);
    }

    #[inline]
    fn send_response(
        &mut self,
        itt: u32,
        result: &CommandResult<'_>,
        residual: Residual,
        exp_data_sn: u32,
        out: &mut impl Output,
    ) {
        let mut pdu = ScsiResponse::new(itt, result.status, residual, self.numbers.status());
        pdu.set_exp_data_sn(exp_data_sn);
        if matches!(result.status, status::BUSY | status::TASK_SET_FULL)
            && self.info.parameters.has_rfc_7144()
        {
            pdu.set_status_qualifier(RETRY_IN_100_MS);
        }
        let sense = &result.sense[..result.sense.len().min(SENSE_MAX)];
        if sense.is_empty() {
            return self.send(&pdu, OutData::None, out);
        }
        // SenseLength, then the sense data (RFC 7143 11.4.7).
        let mut segment = [0; 2 + SENSE_MAX];
        let len = 2 + sense.len();
        segment[1] = sense.len() as u8;
        segment[2..len].copy_from_slice(sense);
        pdu.set_data_segment_len(len as u32);
        self.send(&pdu, OutData::Bytes(&segment[..len]), out);
    }
}

/// The residual of a command, and how many bytes of read data there are to send (RFC 7143 11.4.5). A transfer in a
/// direction the initiator did not announce is all overflow.
#[inline]
fn outcome(task: &Facts, transfer: Transfer) -> (Residual, u32) {
    let expects = |flag| if task.flags.intersects(flag) { task.expected } else { 0 };
    match transfer {
        Transfer::None => (Residual::of(expects(CommandFlags::READ | CommandFlags::WRITE), 0), 0),
        Transfer::In { available } => {
            let expected = expects(CommandFlags::READ);
            let readable = u32::try_from(available).unwrap_or(u32::MAX).min(expected);
            (Residual::of(expected, available), readable)
        }
        Transfer::Out { wanted } => (Residual::of(expects(CommandFlags::WRITE), wanted), 0),
    }
}
