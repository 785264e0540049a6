//! The full-feature phase.

use super::login::{Agreed, WINDOW};
use super::scsi::{self, Answer, BLOCK, Geometry, Transfer};
use super::writes::{Write, Writes};
use super::{Dropped, TARGET_NAME};
use crate::outbox::{Memory, Outbox};
use stampede_wire::encode::{PADDING, data_digest, header_digest};
use stampede_wire::pdu::{
    CommandFlags, DataIn, DataOut, LogoutRequest, LogoutResponse, LogoutResponseCode, NopIn, NopOut, Pdu,
    ReadyToTransfer, Request, Residual, ScsiCommand, ScsiResponse, TargetSns, TaskManagementRequest,
    TaskManagementResponse, TaskManagementResponseCode, TextRequest, TextResponse, status,
};
use stampede_wire::text::Builder;
use stampede_wire::{Bhs, Sn, pad4};
use std::net::SocketAddr;
use std::sync::Arc;

/// A session in its full-feature phase: numbers, and what was agreed on.
#[derive(Debug)]
pub(super) struct Session {
    agreed: Agreed,
    geometry: Arc<Geometry>,
    exp_cmd_sn: Sn,
    stat_sn: Sn,
    writes: Writes,
    local: SocketAddr,
    discovery: bool,
}

/// Where answers go.
type Out<'a> = (&'a mut Outbox, &'a Memory);

impl Session {
    pub(super) fn new(
        agreed: Agreed,
        exp_cmd_sn: Sn,
        stat_sn: Sn,
        geometry: Arc<Geometry>,
        local: SocketAddr,
        discovery: bool,
    ) -> Self {
        Self { agreed, geometry, exp_cmd_sn, stat_sn, writes: Writes::default(), local, discovery }
    }

    pub(super) fn agreed(&self) -> Agreed {
        self.agreed
    }

    /// A complete PDU; true when the session is over with it.
    #[inline]
    pub(super) fn pdu(
        &mut self,
        bhs: &Bhs,
        data: &[u8],
        mut out: Out<'_>,
        commands: &mut u64,
    ) -> Result<bool, Dropped> {
        let request = bhs.request().ok_or(Dropped::Unexpected(*bhs))?;
        match request {
            Request::ScsiCommand(command) if !self.discovery => {
                *commands += 1;
                self.take_number(command.immediate(), command.cmd_sn());
                self.command(command, &mut out)?;
            }
            Request::DataOut(pdu) => self.data_out(pdu, &mut out)?,
            Request::NopOut(ping) => self.nop_out(ping, data, &mut out)?,
            Request::TextRequest(request) => self.text(request, &mut out)?,
            Request::TaskManagementRequest(request) => self.manage(request, &mut out)?,
            Request::LogoutRequest(request) => {
                self.logout(request, &mut out)?;
                return Ok(true);
            }
            _ => return Err(Dropped::Unexpected(*bhs)),
        }
        Ok(false)
    }

    fn take_number(&mut self, immediate: bool, cmd_sn: Sn) {
        if !immediate {
            self.exp_cmd_sn = cmd_sn.next();
        }
    }

    fn sns(&self) -> TargetSns {
        let exp_cmd_sn = self.exp_cmd_sn;
        TargetSns { stat_sn: self.stat_sn, exp_cmd_sn, max_cmd_sn: exp_cmd_sn.add(WINDOW - 1) }
    }

    /// The numbers of an answer that uses up its StatSN.
    fn status_sns(&mut self) -> TargetSns {
        let sns = self.sns();
        self.stat_sn = self.stat_sn.next();
        sns
    }

    #[inline]
    fn command(&mut self, command: &ScsiCommand, out: &mut Out<'_>) -> Result<(), Dropped> {
        match scsi::transfer(command.cdb()) {
            Some(transfer) if command.lun().decode() == Some(0) && self.geometry.holds(transfer) => {
                if transfer.write {
                    self.write(command, transfer, out)
                } else {
                    self.read(command, transfer, out)
                }
            }
            Some(_) => self.finish(command, scsi::RANGE, out),
            None => {
                let answer = self.geometry.answer(command.cdb(), command.lun());
                if answer == Answer::Good && command.flags().contains(CommandFlags::WRITE) {
                    // Its parameters are taken, like data, and have no effect.
                    return self.gather(command, command.expected_data_transfer_length(), out);
                }
                self.finish(command, answer, out)
            }
        }
    }

    /// Data-In from the canned payload, the status in the last one (RFC 7143 11.7.3).
    #[inline]
    fn read(&mut self, command: &ScsiCommand, transfer: Transfer, out: &mut Out<'_>) -> Result<(), Dropped> {
        let expected = command.expected_data_transfer_length();
        let actual = u64::from(transfer.blocks) * u64::from(BLOCK);
        // At most `expected`, so it fits.
        let bytes = actual.min(u64::from(expected)) as u32;
        let residual = Residual::of(expected, actual);
        let tag = command.initiator_task_tag();
        if bytes == 0 {
            return self.respond(tag, status::GOOD, residual, out);
        }
        let (mut offset, mut left_in_burst, mut data_sn) = (0, self.agreed.max_burst, 0);
        while offset < bytes {
            let len = (bytes - offset).min(self.agreed.segment).min(left_in_burst).min(Memory::PIECE_MAX);
            let (last, ends_burst) = (offset + len == bytes, len == left_in_burst);
            let sns = self.sns();
            let mut pdu =
                DataIn::new(tag, data_sn, offset, last || ends_burst, sns).with_data_segment_len(len);
            if last {
                pdu = pdu.with_status(status::GOOD, residual, sns.stat_sn);
                self.stat_sn = self.stat_sn.next();
            }
            let start = transfer.lba * u64::from(BLOCK) + u64::from(offset);
            self.send_canned(&pdu, start, len, out)?;
            left_in_burst = if ends_burst { self.agreed.max_burst } else { left_in_burst - len };
            offset += len;
            data_sn += 1;
        }
        Ok(())
    }

    #[inline]
    fn send_canned(&self, pdu: &DataIn, start: u64, len: u32, out: &mut Out<'_>) -> Result<(), Dropped> {
        let (outbox, memory) = (&mut *out.0, out.1);
        outbox.copy(pdu.as_ref(), memory)?;
        if self.agreed.header_digest {
            outbox.copy(&header_digest(pdu.bhs()), memory)?;
        }
        outbox.canned(start, len, memory);
        let padding = pad4(len as usize);
        if padding != 0 {
            outbox.copy(&PADDING[..padding], memory)?;
        }
        if self.agreed.data_digest {
            let digest = data_digest(memory.canned(start, len));
            outbox.copy(&digest, memory)?;
        }
        Ok(())
    }

    #[inline]
    fn write(&mut self, command: &ScsiCommand, transfer: Transfer, out: &mut Out<'_>) -> Result<(), Dropped> {
        let actual = u64::from(transfer.blocks) * u64::from(BLOCK);
        let expected = command.expected_data_transfer_length();
        self.gather(command, actual.min(u64::from(expected)) as u32, out)
    }

    /// Answers when `bytes` of data have come, and asks for what does not come by itself.
    #[inline]
    fn gather(&mut self, command: &ScsiCommand, bytes: u32, out: &mut Out<'_>) -> Result<(), Dropped> {
        let expected = command.expected_data_transfer_length();
        let immediate = command.data_segment_len();
        let unsolicited = !command.flags().contains(CommandFlags::FINAL);
        let tag = command.initiator_task_tag();
        if immediate >= bytes && !unsolicited {
            return self.respond(tag, status::GOOD, Residual::of(expected, u64::from(bytes)), out);
        }
        let lun = command.lun();
        let write = Write { tag, lun, bytes, asked: immediate, unsolicited, outstanding: 0, r2t_sn: 0 };
        let ttt = self.writes.insert(write)?;
        self.ask(ttt, out)
    }

    fn data_out(&mut self, pdu: &DataOut, out: &mut Out<'_>) -> Result<(), Dropped> {
        let Some(ttt) = self.writes.data(pdu, pdu.data_segment_len()) else { return Ok(()) };
        if let Some(write) = self.writes.take_complete(ttt) {
            return self.respond(write.tag, status::GOOD, Residual::None, out);
        }
        self.ask(ttt, out)
    }

    fn ask(&mut self, ttt: u32, out: &mut Out<'_>) -> Result<(), Dropped> {
        let sns = self.sns();
        let Some(write) = self.writes.get_mut(ttt) else { return Ok(()) };
        while let Some(ask) = write.ask(&self.agreed) {
            let pdu = ReadyToTransfer::new(write.tag, write.lun, ttt, ask.r2t_sn, ask.offset, ask.len, sns);
            send_header(&self.agreed, &pdu, out)?;
        }
        Ok(())
    }

    #[inline]
    fn respond(
        &mut self,
        tag: u32,
        status: u8,
        residual: Residual,
        out: &mut Out<'_>,
    ) -> Result<(), Dropped> {
        let pdu = ScsiResponse::new(tag, status, residual, self.status_sns());
        send_header(&self.agreed, &pdu, out)
    }

    /// Ends a command that is not a transfer.
    fn finish(&mut self, command: &ScsiCommand, answer: Answer, out: &mut Out<'_>) -> Result<(), Dropped> {
        let tag = command.initiator_task_tag();
        let expected = command.expected_data_transfer_length();
        match answer {
            Answer::Good => self.respond(tag, status::GOOD, Residual::of(expected, 0), out),
            Answer::Check(key, code, qualifier) => {
                let sense = scsi::sense(key, code, qualifier);
                let mut data = (sense.len() as u16).to_be_bytes().to_vec();
                data.extend_from_slice(&sense);
                let residual = Residual::of(expected, 0);
                let pdu = ScsiResponse::new(tag, status::CHECK_CONDITION, residual, self.status_sns());
                send(&self.agreed, pdu, &data, out)
            }
            Answer::Data(mut data) => {
                let residual = Residual::of(expected, data.len() as u64);
                data.truncate(expected.min(self.agreed.segment) as usize);
                if data.is_empty() {
                    return self.respond(tag, status::GOOD, residual, out);
                }
                let sns = self.status_sns();
                let pdu = DataIn::new(tag, 0, 0, true, sns).with_status(status::GOOD, residual, sns.stat_sn);
                send(&self.agreed, pdu, &data, out)
            }
        }
    }

    fn nop_out(&mut self, ping: &NopOut, data: &[u8], out: &mut Out<'_>) -> Result<(), Dropped> {
        self.take_number(ping.immediate(), ping.cmd_sn());
        if !ping.wants_reply() {
            return Ok(());
        }
        let data = &data[..data.len().min(self.agreed.segment as usize)];
        let pdu = NopIn::reply(ping.initiator_task_tag(), self.status_sns());
        send(&self.agreed, pdu, data, out)
    }

    /// SendTargets, whatever was asked.
    fn text(&mut self, request: &TextRequest, out: &mut Out<'_>) -> Result<(), Dropped> {
        self.take_number(request.immediate(), request.cmd_sn());
        let mut text = Builder::new();
        text.push("TargetName", TARGET_NAME);
        text.push("TargetAddress", format_args!("{},1", self.local));
        let pdu = TextResponse::last(request.initiator_task_tag(), self.status_sns());
        send(&self.agreed, pdu, text.as_bytes(), out)
    }

    fn manage(&mut self, request: &TaskManagementRequest, out: &mut Out<'_>) -> Result<(), Dropped> {
        self.take_number(request.immediate(), request.cmd_sn());
        // Every command is over but for writes that wait for data, which are forgotten whomever it means.
        self.writes.clear();
        let tag = request.initiator_task_tag();
        let complete = TaskManagementResponseCode::FunctionComplete;
        let pdu = TaskManagementResponse::new(tag, complete, self.status_sns());
        send_header(&self.agreed, &pdu, out)
    }

    fn logout(&mut self, request: &LogoutRequest, out: &mut Out<'_>) -> Result<(), Dropped> {
        self.take_number(request.immediate(), request.cmd_sn());
        let tag = request.initiator_task_tag();
        let pdu = LogoutResponse::new(tag, LogoutResponseCode::Success, 0, 0, self.status_sns());
        send_header(&self.agreed, &pdu, out)
    }
}

/// Sends a PDU without data.
#[inline]
fn send_header(agreed: &Agreed, pdu: &impl Pdu, out: &mut Out<'_>) -> Result<(), Dropped> {
    let (outbox, memory) = (&mut *out.0, out.1);
    outbox.copy(pdu.bhs().as_ref(), memory)?;
    if agreed.header_digest {
        outbox.copy(&header_digest(pdu.bhs()), memory)?;
    }
    Ok(())
}

/// Sends a PDU with data that is copied.
fn send(agreed: &Agreed, pdu: impl Pdu, data: &[u8], out: &mut Out<'_>) -> Result<(), Dropped> {
    send_header(agreed, &pdu.with_data_segment_len(data.len() as u32), out)?;
    let (outbox, memory) = (&mut *out.0, out.1);
    outbox.copy(data, memory)?;
    outbox.copy(&PADDING[..pad4(data.len())], memory)?;
    if agreed.data_digest && !data.is_empty() {
        outbox.copy(&data_digest(data), memory)?;
    }
    Ok(())
}
