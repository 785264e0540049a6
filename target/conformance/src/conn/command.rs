//! SCSI commands, run as any initiator would, and what became of them.

use super::{Conn, lun};
use crate::failure::{Failure, Outcome, fail};
use crate::pdu::{Raw, set_word};
use crate::site::BLOCK;
use crate::{ensure, ensure_eq};
use stampede_wire::pdu::{
    DataFlags, DataIn, DataOut, ReadyToTransfer, Residual, ScsiCommand, ScsiResponse, TaskAttribute,
};
use stampede_wire::{Bhs, Lun, Opcode, Sn, opcode};

/// CDBs.
pub mod cdb {
    /// The head of a CDB, filled up with zeros.
    pub fn of(head: &[u8]) -> [u8; 16] {
        let mut cdb = [0; 16];
        cdb[..head.len()].copy_from_slice(head);
        cdb
    }

    /// TEST UNIT READY.
    pub const TEST_UNIT_READY: [u8; 16] = [0; 16];

    /// INQUIRY, standard data.
    pub fn inquiry(allocation: u16) -> [u8; 16] {
        let [high, low] = allocation.to_be_bytes();
        of(&[0x12, 0, 0, high, low])
    }

    /// INQUIRY of a vital product data page.
    pub fn inquiry_page(page: u8, allocation: u16) -> [u8; 16] {
        let [high, low] = allocation.to_be_bytes();
        of(&[0x12, 1, page, high, low])
    }

    /// REPORT LUNS.
    pub fn report_luns(allocation: u32) -> [u8; 16] {
        let len = allocation.to_be_bytes();
        of(&[0xa0, 0, 0, 0, 0, 0, len[0], len[1], len[2], len[3]])
    }

    /// MODE SENSE (6) of all pages.
    pub fn mode_sense_6(allocation: u8) -> [u8; 16] {
        of(&[0x1a, 0, 0x3f, 0, allocation])
    }

    /// READ (10).
    pub fn read_10(lba: u32, blocks: u16) -> [u8; 16] {
        ten(0x28, lba, blocks)
    }

    /// WRITE (10).
    pub fn write_10(lba: u32, blocks: u16) -> [u8; 16] {
        ten(0x2a, lba, blocks)
    }

    fn ten(operation: u8, lba: u32, blocks: u16) -> [u8; 16] {
        let (lba, blocks) = (lba.to_be_bytes(), blocks.to_be_bytes());
        of(&[operation, 0, lba[0], lba[1], lba[2], lba[3], 0, blocks[0], blocks[1]])
    }
}

/// A command to run.
#[derive(Clone, Debug)]
pub struct Cmd {
    /// The LUN field.
    pub lun: Lun,
    /// The CDB.
    pub cdb: [u8; 16],
    /// Expected Data Transfer Length of a read, bytes.
    pub read: Option<u32>,
    /// Data of a write; its length is the Expected Data Transfer Length.
    pub write: Option<Vec<u8>>,
    /// Bytes of it that go with the command.
    pub immediate_data: usize,
    /// Marked for immediate delivery.
    pub immediate: bool,
    /// Task attribute.
    pub attribute: TaskAttribute,
}

impl Cmd {
    /// A command that moves nothing.
    pub fn new(cdb: [u8; 16]) -> Self {
        Self {
            lun: lun(0),
            cdb,
            read: None,
            write: None,
            immediate_data: 0,
            immediate: false,
            attribute: TaskAttribute::Simple,
        }
    }

    /// One that reads this many bytes.
    pub fn reading(cdb: [u8; 16], len: u32) -> Self {
        Self { read: Some(len), ..Self::new(cdb) }
    }

    /// One that writes these bytes, all of them solicited.
    pub fn writing(cdb: [u8; 16], data: &[u8]) -> Self {
        Self { write: Some(data.to_vec()), ..Self::new(cdb) }
    }

    /// READ (10).
    pub fn read(lba: u32, blocks: u16) -> Self {
        Self::reading(cdb::read_10(lba, blocks), u32::from(blocks) * BLOCK as u32)
    }

    /// WRITE (10) of these whole blocks.
    pub fn write(lba: u32, data: &[u8]) -> Self {
        Self::writing(cdb::write_10(lba, (data.len() / BLOCK) as u16), data)
    }

    /// TEST UNIT READY.
    pub fn test_unit_ready() -> Self {
        Self::new(cdb::TEST_UNIT_READY)
    }

    /// For another logical unit.
    #[must_use]
    pub fn at(self, number: u16) -> Self {
        Self { lun: lun(number), ..self }
    }

    /// With this much immediate data.
    #[must_use]
    pub fn with_immediate_data(self, bytes: usize) -> Self {
        Self { immediate_data: bytes, ..self }
    }

    /// Marked for immediate delivery.
    #[must_use]
    pub fn immediately(self) -> Self {
        Self { immediate: true, ..self }
    }

    /// With a task attribute.
    #[must_use]
    pub fn ordered(self) -> Self {
        Self { attribute: TaskAttribute::Ordered, ..self }
    }
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Done {
    /// SCSI status.
    pub status: u8,
    /// Sense data, without its length.
    pub sense: Vec<u8>,
    /// Data that was read.
    pub data: Vec<u8>,
    /// The residual.
    pub residual: Residual,
    /// The PDU that carried the status.
    pub last: Raw,
    /// R2Ts that were answered.
    pub r2ts: u32,
    /// Data-In PDUs.
    pub data_ins: Vec<Raw>,
}

impl Done {
    /// Sense key, additional sense code and its qualifier; zeros where there is none.
    pub fn sense_code(&self) -> (u8, u8, u8) {
        let at = |place: usize| self.sense.get(place).copied().unwrap_or(0);
        match at(0) & 0x7f {
            0x72 | 0x73 => (at(1) & 15, at(2), at(3)),
            _ => (at(2) & 15, at(12), at(13)),
        }
    }

    /// It ended with GOOD.
    ///
    /// # Errors
    /// It did not.
    pub fn good(self) -> Outcome<Self> {
        let (key, asc, ascq) = self.sense_code();
        ensure!(self.status == 0, "status {:02x}, sense {key:x}/{asc:02x}/{ascq:02x}", self.status);
        Ok(self)
    }

    /// It ended with CHECK CONDITION and this sense.
    ///
    /// # Errors
    /// It did not.
    pub fn check_condition(self, code: (u8, u8, u8)) -> Outcome<Self> {
        ensure_eq!(self.status, 2, "the status");
        ensure_eq!(self.sense_code(), code, "the sense");
        Ok(self)
    }
}

impl Conn {
    /// The header of a command, which takes a tag and, unless it is immediate, a CmdSN.
    pub fn header(&mut self, cmd: &Cmd) -> ScsiCommand {
        let tag = self.new_tag();
        let sns = if cmd.immediate { self.sns() } else { self.next_sns() };
        let mut header = ScsiCommand::new(tag, cmd.lun, cmd.attribute, &cmd.cdb, sns);
        if let Some(len) = cmd.read {
            header = header.reading(len);
        }
        if let Some(data) = &cmd.write {
            header = header.writing(data.len() as u32, false);
        }
        if cmd.immediate { header.into_immediate() } else { header }
    }

    /// Sends a command with its immediate data, if any; returns its header.
    pub fn start(&mut self, cmd: &Cmd) -> ScsiCommand {
        let header = self.header(cmd);
        let data = cmd.write.as_deref().unwrap_or_default();
        self.send(header, &data[..cmd.immediate_data.min(data.len())]);
        header
    }

    /// Runs a command to its end. Data-In and R2T are judged on the way.
    ///
    /// # Errors
    /// Something else comes than what belongs to it.
    pub fn run(&mut self, cmd: &Cmd) -> Outcome<Done> {
        let header = self.start(cmd);
        self.finish(&header, cmd.write.as_deref().unwrap_or_default())
    }

    /// Takes a command that was sent to its end.
    ///
    /// # Errors
    /// As [`Conn::run`].
    pub fn finish(&mut self, header: &ScsiCommand, out: &[u8]) -> Outcome<Done> {
        let tag = header.initiator_task_tag();
        let (mut data, mut data_ins, mut r2ts) = (Vec::new(), Vec::new(), 0);
        loop {
            let pdu = self.hear()?;
            ensure!(
                pdu.word(16) == tag,
                "{pdu:?} came, which does not belong to the task with tag {tag:08x}"
            );
            match pdu.opcode() {
                Some(Opcode::ReadyToTransfer) => {
                    let r2t = pdu.view::<ReadyToTransfer>().ok_or_else(|| Failure("no R2T".into()))?;
                    ensure_eq!(r2t.r2t_sn(), r2ts, "R2TSN (RFC 7143 11.8.3)");
                    r2ts += 1;
                    self.answer_r2t(r2t, out)?;
                }
                Some(Opcode::DataIn) => {
                    let view = pdu.view::<DataIn>().ok_or_else(|| Failure("no Data-In".into()))?;
                    ensure_eq!(view.data_sn() as usize, data_ins.len(), "DataSN (RFC 7143 4.2.2.3)");
                    ensure_eq!(view.buffer_offset() as usize, data.len(), "Buffer Offset of a Data-In");
                    data.extend_from_slice(&pdu.data);
                    let done = view.status().map(|status| (status, view.residual()));
                    data_ins.push(pdu.clone());
                    if let Some((status, residual)) = done {
                        ensure!(
                            view_flags(&pdu).contains(DataFlags::FINAL),
                            "a Data-In with status that is not final (RFC 7143 11.7.1)"
                        );
                        return Ok(Done {
                            status,
                            sense: Vec::new(),
                            data,
                            residual,
                            last: pdu,
                            r2ts,
                            data_ins,
                        });
                    }
                }
                Some(Opcode::ScsiResponse) => {
                    let view = pdu.view::<ScsiResponse>().ok_or_else(|| Failure("no response".into()))?;
                    ensure_eq!(pdu.byte(2), 0, "the Response byte (RFC 7143 11.4.3)");
                    let (status, residual) = (view.status(), view.residual());
                    let sense = sense_of(&pdu)?;
                    return Ok(Done { status, sense, data, residual, last: pdu, r2ts, data_ins });
                }
                _ => return fail(format!("{pdu:?} came while a command ran")),
            }
        }
    }

    /// Answers an R2T with what it asks for.
    ///
    /// # Errors
    /// It asks for more than there is.
    pub fn answer_r2t(&mut self, r2t: &ReadyToTransfer, out: &[u8]) -> Outcome {
        let (start, len) = (r2t.buffer_offset() as usize, r2t.desired_data_transfer_length() as usize);
        ensure!(len > 0, "an R2T for no data (RFC 7143 11.8.4)");
        ensure!(r2t.target_transfer_tag() != u32::MAX, "an R2T with tag ffffffff (RFC 7143 11.8.5)");
        let Some(wanted) = out.get(start..start + len) else {
            return fail(format!("an R2T for bytes {start} to {}, of {}", start + len, out.len()));
        };
        let segment = self.target_segment as usize;
        let mut offset = 0;
        for (data_sn, piece) in wanted.chunks(segment).enumerate() {
            let last = offset + piece.len() == len;
            let pdu = DataOut::solicited(
                r2t.initiator_task_tag(),
                r2t.lun(),
                r2t.target_transfer_tag(),
                Sn(self.exp_stat_sn()),
            );
            self.send(pdu.at(data_sn as u32, (start + offset) as u32, last), piece);
            offset += piece.len();
        }
        Ok(())
    }

    /// Runs TEST UNIT READY until the unit has no more to say of what happened before.
    ///
    /// # Errors
    /// It never becomes ready.
    pub fn clear_attentions(&mut self, number: u16) -> Outcome {
        for _ in 0..8 {
            let done = self.run(&Cmd::test_unit_ready().at(number))?;
            if done.status == 0 {
                return Ok(());
            }
            ensure_eq!(done.sense_code().0, 6, "the sense key of a unit that is not ready");
        }
        fail("unit attentions without end")
    }
}

/// The flags of a Data-In.
pub fn view_flags(pdu: &Raw) -> DataFlags {
    pdu.view::<DataIn>().map_or(DataFlags::empty(), DataIn::flags)
}

/// Sense data of a SCSI Response, by its length field (RFC 7143 11.4.7).
fn sense_of(pdu: &Raw) -> Outcome<Vec<u8>> {
    let Some(length) = pdu.data.first_chunk::<2>() else {
        ensure!(pdu.data.is_empty(), "a data segment too short for a sense length");
        return Ok(Vec::new());
    };
    let len = usize::from(u16::from_be_bytes(*length));
    match pdu.data.get(2..2 + len) {
        Some(sense) => Ok(sense.to_vec()),
        None => fail(format!("SenseLength {len} in a data segment of {} bytes", pdu.data.len())),
    }
}

/// A header with another opcode, I bit included.
#[must_use]
pub fn with_opcode(header: impl Into<Bhs>, code: u8) -> Bhs {
    let mut bhs = header.into();
    bhs.0[0] = bhs.0[0] & opcode::IMMEDIATE | code;
    bhs
}

/// A header with another 32-bit field at a byte offset.
#[must_use]
pub fn with_word(header: impl Into<Bhs>, at: usize, value: u32) -> Bhs {
    let mut bhs = header.into();
    set_word(&mut bhs, at, value);
    bhs
}

/// A header with another byte.
#[must_use]
pub fn with_byte(header: impl Into<Bhs>, at: usize, value: u8) -> Bhs {
    let mut bhs = header.into();
    bhs.0[at] = value;
    bhs
}
