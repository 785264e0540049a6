//! A small initiator that may be as rude as a test wants: it sends what it is told to.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// SCSI Command flags (RFC 7143 11.3.1).
pub(crate) const FINAL: u8 = 0x80;
/// Data-in is expected.
pub(crate) const READ: u8 = 0x40;
/// Data-out follows.
pub(crate) const WRITE: u8 = 0x20;

/// Opcodes of the target (RFC 7143 11.2.1.2).
pub(crate) mod opcode {
    pub(crate) const NOP_IN: u8 = 0x20;
    pub(crate) const RESPONSE: u8 = 0x21;
    pub(crate) const LOGIN: u8 = 0x23;
    pub(crate) const DATA_IN: u8 = 0x25;
    pub(crate) const R2T: u8 = 0x31;
    pub(crate) const REJECT: u8 = 0x3f;
}

/// How a conversation went on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A PDU with this opcode.
    Pdu(u8),
    /// Nothing within the time limit.
    Silence,
    /// The target closed the connection.
    Closed,
}

/// A connection to the target.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    pub(crate) cmd_sn: u32,
    /// The LUN that commands are for.
    pub(crate) lun: u8,
    tag: u32,
    /// The PDU heard last.
    pub(crate) header: [u8; 48],
    pub(crate) data: Vec<u8>,
}

/// READ (10) or WRITE (10), SBC-3 5.10 and 5.32.
pub(crate) fn transfer_10(operation: u8, lba: u32, blocks: u16) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = operation;
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// A Login Request into the full-feature phase, with these keys.
pub(crate) fn login_request(isid: u8, text: &[u8]) -> Vec<u8> {
    let mut header = [0; 48];
    header[..2].copy_from_slice(&[0x43, 0x87]);
    header[8..14].copy_from_slice(&[0, 2, 0x3d, 0, 0, isid]);
    header[24..28].copy_from_slice(&1u32.to_be_bytes());
    pdu(header, text)
}

/// The keys that name an initiator and a target.
pub(crate) fn names(initiator: &str, target: &str) -> Vec<u8> {
    let iqn = format!("iqn.2026-11.io.stampede:{target}");
    format!("InitiatorName={initiator}\0TargetName={iqn}\0SessionType=Normal\0").into_bytes()
}

/// A PDU with its lengths and padding right.
pub(crate) fn pdu(mut header: [u8; 48], data: &[u8]) -> Vec<u8> {
    header[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
    let padding = data.len().wrapping_neg() % 4;
    [&header[..], data, &[0; 3][..padding]].concat()
}

impl Raw {
    /// Connects, and says nothing.
    pub(crate) fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { stream, cmd_sn: 1, lun: 0, tag: 0, header: [0; 48], data: Vec::new() }
    }

    /// Logs in; the status class and detail when it is refused.
    pub(crate) fn login(address: &str, initiator: &str, target: &str, isid: u8) -> Result<Self, u16> {
        let keys =
            b"InitialR2T=Yes\0ImmediateData=Yes\0MaxBurstLength=262144\0MaxRecvDataSegmentLength=262144\0";
        let mut raw = Self::connect(address);
        raw.send(&login_request(isid, &[&names(initiator, target)[..], keys].concat()));
        match raw.hear() {
            Heard::Pdu(opcode::LOGIN) => match u16::from_be_bytes([raw.header[36], raw.header[37]]) {
                0 => Ok(raw),
                status => Err(status),
            },
            heard => panic!("{heard:?} instead of a Login Response"),
        }
    }

    /// Sends bytes; a target that has closed is no failure here.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The header of a SCSI command with the next CmdSN; its tag is in bytes 16 to 19.
    pub(crate) fn command(&mut self, cdb: [u8; 16], flags: u8, expected: u32) -> [u8; 48] {
        self.tag += 1;
        let mut header = [0; 48];
        header[0] = 0x01;
        header[1] = flags;
        header[9] = self.lun;
        header[16..20].copy_from_slice(&self.tag.to_be_bytes());
        header[20..24].copy_from_slice(&expected.to_be_bytes());
        header[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        header[32..].copy_from_slice(&cdb);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        header
    }

    /// The next PDU, kept in `header` and `data`.
    pub(crate) fn hear(&mut self) -> Heard {
        if let Err(heard) = self.fill(0) {
            return heard;
        }
        let length = u32::from_be_bytes([0, self.header[5], self.header[6], self.header[7]]);
        self.data = vec![0; (length as usize).next_multiple_of(4)];
        if let Err(heard) = self.fill(1) {
            return heard;
        }
        self.data.truncate(length as usize);
        Heard::Pdu(self.header[0] & 0x3f)
    }

    fn fill(&mut self, part: usize) -> Result<(), Heard> {
        let buffer = if part == 0 { &mut self.header[..] } else { &mut self.data[..] };
        self.stream.read_exact(buffer).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Heard::Silence,
            _ => Heard::Closed,
        })
    }

    /// Whether the target closes within this time, whatever it says before.
    pub(crate) fn is_closed_within(&mut self, limit: Duration) -> bool {
        self.stream.set_read_timeout(Some(limit)).unwrap();
        loop {
            match self.hear() {
                Heard::Pdu(_) => {}
                heard => return heard == Heard::Closed,
            }
        }
    }

    /// One command, all its data as the target wants it: its status and data.
    pub(crate) fn run(&mut self, cdb: [u8; 16], data_out: &[u8], expected_in: u32) -> (u8, Vec<u8>) {
        let flags = if data_out.is_empty() { FINAL | READ } else { FINAL | WRITE };
        let expected = expected_in.max(data_out.len() as u32);
        let header = self.command(cdb, flags, expected);
        self.send(&pdu(header, &[]));
        let mut data_in = vec![0; expected_in as usize];
        loop {
            match self.hear() {
                Heard::Pdu(opcode::DATA_IN) => {
                    let at = self.field(40) as usize;
                    data_in[at..at + self.data.len()].copy_from_slice(&self.data);
                    if self.header[1] & 1 != 0 {
                        return (self.header[3], data_in);
                    }
                }
                Heard::Pdu(opcode::R2T) => self.answer_r2t(data_out),
                Heard::Pdu(opcode::RESPONSE) => return (self.header[3], data_in),
                Heard::Pdu(opcode::NOP_IN) => {}
                heard => panic!("{heard:?} instead of an answer"),
            }
        }
    }

    /// A 32-bit field of the header heard last.
    pub(crate) fn field(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.header[at], self.header[at + 1], self.header[at + 2], self.header[at + 3]])
    }

    /// A Data-Out for the R2T heard last: `len` bytes at `offset` of the command's data.
    pub(crate) fn data_out(&self, offset: u32) -> [u8; 48] {
        let mut header = [0; 48];
        header[..2].copy_from_slice(&[0x05, FINAL]);
        header[16..24].copy_from_slice(&self.header[16..24]);
        header[40..44].copy_from_slice(&offset.to_be_bytes());
        header
    }

    fn answer_r2t(&mut self, data: &[u8]) {
        let (offset, len) = (self.field(40), self.field(44));
        let answer = pdu(self.data_out(offset), &data[offset as usize..(offset + len) as usize]);
        self.send(&answer);
    }

    /// Writes a pattern and reads it back.
    pub(crate) fn verify(&mut self, lba: u32, blocks: u16, seed: u8) {
        let bytes: Vec<u8> = (0..u32::from(blocks) * 512).map(|n| (n / 3) as u8 ^ seed).collect();
        self.until_good(transfer_10(0x2a, lba, blocks), &bytes, 0);
        let found = self.until_good(transfer_10(0x28, lba, blocks), &[], bytes.len() as u32);
        assert!(found == bytes, "other bytes at {lba}");
    }

    /// Runs a command until it succeeds, as an operating system does: a new nexus is told of the power-on first
    /// (SPC-4 5.14), and BUSY and TASK SET FULL mean later.
    pub(crate) fn until_good(&mut self, cdb: [u8; 16], data_out: &[u8], expected_in: u32) -> Vec<u8> {
        const CHECK_CONDITION: u8 = 2;
        for _ in 0..50 {
            match self.run(cdb, data_out, expected_in) {
                (0, data_in) => return data_in,
                (CHECK_CONDITION, _) => {}
                (0x08 | 0x28, _) => std::thread::sleep(Duration::from_millis(100)),
                (status, _) => panic!("status {status:02x}"),
            }
        }
        panic!("{cdb:x?} never succeeds");
    }

    /// Ends with a RST, as a machine does that lost its memory.
    pub(crate) fn vanish(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
