//! The end of a command: Data-In, status, residual (RFC 7143 11.4, 11.7).

use stampede_wire::pdu::{DataIn, Pdu, Residual, ScsiResponse, status};

use super::{FullFeature, Life, data_in::pieces};
use crate::task::{Facts, State};
use crate::{CommandResult, OutData, Output, TaskKey, Transfer};

/// Sense data of a command, at most (SPC-5 4.4): the additional length is one byte.
const SENSE_MAX: usize = 252;

impl FullFeature {
    /// See [`Connection::respond`](crate::Connection::respond).
    pub(crate) fn respond(&mut self, key: TaskKey, result: &CommandResult<'_>, out: &mut impl Output) {
        if !matches!(self.tasks.at(key).map(|task| &task.state), Some(State::Running)) {
            return self.forget(key);
        }
        let Some(task) = self.tasks.remove(key) else { return };
        if !task.immediate {
            self.numbers.window.vacate();
        }
        if self.life != Life::Over {
            self.send_status(key, task, result, out);
        }
    }

    /// Sends a command's data, if it has any, and its status: with the last Data-In where that may be (RFC 7143
    /// 11.7.3: no sense data), else as a SCSI Response.
    pub(super) fn send_status(
        &mut self,
        key: TaskKey,
        task: Facts,
        result: &CommandResult<'_>,
        out: &mut impl Output,
    ) {
        let (residual, readable) = outcome(task, result.transfer);
        let collapse = result.status == status::GOOD && result.sense.is_empty();
        let parameters = &self.info.parameters;
        let mut sent = 0;
        for piece in pieces(readable, parameters.initiator_recv_data_segment, parameters.max_burst) {
            let carries_status = piece.last && collapse;
            let sns = if carries_status { self.numbers.status() } else { self.numbers.current() };
            let mut pdu = DataIn::new(task.itt, piece.data_sn, piece.offset, piece.ends_sequence, sns);
            if carries_status {
                pdu = pdu.with_status(result.status, residual, sns.stat_sn);
            }
            let pdu = pdu.with_data_segment_len(piece.len);
            self.send(&pdu, OutData::Task { task: key, offset: piece.offset, len: piece.len }, out);
            sent = piece.data_sn.wrapping_add(1);
        }
        if readable == 0 || !collapse {
            self.send_response(task.itt, result, residual, sent.wrapping_add(task.r2ts), out);
        }
    }

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
fn outcome(task: Facts, transfer: Transfer) -> (Residual, u32) {
    let expected_in = if task.read { task.expected } else { 0 };
    match transfer {
        Transfer::None => (Residual::of(if task.read || task.write { task.expected } else { 0 }, 0), 0),
        Transfer::In { available } => {
            let readable = u32::try_from(available).unwrap_or(u32::MAX).min(expected_in);
            (Residual::of(expected_in, available), readable)
        }
        Transfer::Out { wanted } => (Residual::of(if task.write { task.expected } else { 0 }, wanted), 0),
    }
}
