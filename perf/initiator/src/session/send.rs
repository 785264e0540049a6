//! Commands, their data, the answers to pings, and the logout.

use super::{LOGOUT_TAG, Phase, Session};
use crate::command::{Command, Task, Transfer};
use crate::outbox::{Data, NoHeaders, Outbox};
use crate::reason::Reason;
use stampede_ring::Buffer;
use stampede_wire::pdu::{DataOut, LogoutRequest, NopOut, ReadyToTransfer, ScsiCommand, TaskAttribute};
use stampede_wire::{Lun, RESERVED_TAG, Sn};

/// A run of Data-Out PDUs: one answer to an R2T, or the unsolicited data of a command.
struct Burst {
    itt: u32,
    lun: Lun,
    target_transfer_tag: u32,
    /// Bytes from the start of the command's data.
    offset: u32,
    len: u32,
}

impl Session {
    /// Sends a command; it comes back when there is no room for it (see [`Session::has_room`]).
    ///
    /// # Errors
    /// `Err(Ok(command))` when there is no room, `Err(Err(reason))` when the session cannot go on.
    #[inline]
    pub(crate) fn submit(&mut self, command: Command, now_ns: u64) -> Result<(), Result<Command, Reason>> {
        if !self.has_room() {
            return Err(Ok(command));
        }
        let (lun, cdb) = (command.lun, command.cdb);
        let (expected_in, out_len) = match command.transfer {
            Transfer::None => (0, 0),
            Transfer::Count { len } | Transfer::Stream { len } | Transfer::In { len, .. } => (len, 0),
            Transfer::Out { len, .. } => (0, len),
        };
        let itt = self.tasks.insert(command, now_ns).map_err(Ok)?;
        let mut pdu = ScsiCommand::new(itt, lun, TaskAttribute::Simple, &cdb, self.sns());
        self.cmd_sn = self.cmd_sn.next();
        if out_len > 0 {
            return self.send_write(pdu, itt, out_len).map_err(|error| Err(error.into()));
        }
        if expected_in > 0 {
            pdu = pdu.reading(expected_in);
        }
        self.outbox.push(pdu.into(), Data::None).map_err(|error| Err(error.into()))
    }

    fn send_write(&mut self, pdu: ScsiCommand, itt: u32, len: u32) -> Result<(), NoHeaders> {
        let Some(Task { lun, buffer: Some(buffer), out_start, .. }) = self.tasks.get(itt) else {
            return Ok(());
        };
        let (immediate, unsolicited) =
            (self.negotiated.immediate_len(len), self.negotiated.unsolicited_len(len));
        let pdu = pdu.writing(len, unsolicited > immediate);
        let data = if immediate == 0 {
            Data::None
        } else {
            Data::Pinned { buffer, start: *out_start, len: immediate }
        };
        self.outbox.push(pdu.into(), data)?;
        let burst = Burst {
            itt,
            lun: *lun,
            target_transfer_tag: RESERVED_TAG,
            offset: immediate,
            len: unsolicited - immediate,
        };
        let max = self.negotiated.target_data_segment_length;
        send_burst(&mut self.outbox, buffer, *out_start, &burst, max, self.exp_stat_sn)
    }

    /// Sends the data that an R2T asks for (RFC 7143 11.8).
    pub(super) fn answer_r2t(&mut self, r2t: &ReadyToTransfer) -> Result<(), Reason> {
        let Some(Task { lun, buffer, out_start, out_len, .. }) = self.tasks.get(r2t.initiator_task_tag())
        else {
            return Err(Reason::Protocol("an R2T for no command"));
        };
        let (offset, len) = (r2t.buffer_offset(), r2t.desired_data_transfer_length());
        let inside = offset.checked_add(len).is_some_and(|end| end <= *out_len);
        let (Some(buffer), true) = (buffer, inside && len > 0 && len <= self.negotiated.max_burst_length)
        else {
            return Err(Reason::Protocol("an R2T for data that the command does not have"));
        };
        let burst = Burst {
            itt: r2t.initiator_task_tag(),
            lun: *lun,
            target_transfer_tag: r2t.target_transfer_tag(),
            offset,
            len,
        };
        let max = self.negotiated.target_data_segment_length;
        Ok(send_burst(&mut self.outbox, buffer, *out_start, &burst, max, self.exp_stat_sn)?)
    }

    /// Answers the target's ping, with its data (RFC 7143 11.18).
    pub(super) fn answer_ping(&mut self, target_transfer_tag: u32, lun: Lun) -> Result<(), Reason> {
        let pdu = NopOut::reply(target_transfer_tag, lun, self.sns());
        self.pings += 1;
        let len = self.segment.len().min(self.negotiated.target_data_segment_length as usize);
        Ok(self.outbox.push(pdu.into(), Data::Copied(&self.segment[..len]))?)
    }

    /// Asks for the end of the session once its commands are over. Nothing happens unless it stands.
    pub(crate) fn logout(&mut self) -> Result<(), Reason> {
        if !self.stands() {
            return Ok(());
        }
        self.phase = Phase::Draining;
        self.drained()
    }

    /// Sends a logout that waits for the last command.
    #[inline]
    pub(super) fn drained(&mut self) -> Result<(), Reason> {
        if !matches!(self.phase, Phase::Draining) || self.tasks.len() > 0 {
            return Ok(());
        }
        self.phase = Phase::LoggingOut;
        let pdu = LogoutRequest::close_session(LOGOUT_TAG, self.sns()).into_immediate();
        Ok(self.outbox.push(pdu.into(), Data::None)?)
    }
}

fn send_burst(
    outbox: &mut Outbox,
    buffer: &Buffer,
    start: u32,
    burst: &Burst,
    segment_max: u32,
    exp_stat_sn: Sn,
) -> Result<(), NoHeaders> {
    let Burst { itt, lun, target_transfer_tag, offset, len } = *burst;
    let (mut done, mut data_sn) = (0, 0);
    while done < len {
        let piece = (len - done).min(segment_max);
        let last = done + piece == len;
        let pdu = DataOut::solicited(itt, lun, target_transfer_tag, exp_stat_sn);
        let data = Data::Pinned { buffer, start: start + offset + done, len: piece };
        outbox.push(pdu.at(data_sn, offset + done, last).into(), data)?;
        done += piece;
        data_sn += 1;
    }
    Ok(())
}
