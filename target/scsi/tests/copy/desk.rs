//! Two units that a nexus sees, with media in memory, and somebody who carries out what copiers ask for.

#![allow(clippy::panic, reason = "a helper of tests fails like a test")]

use crate::common::*;
use stampede_scsi::copy::{Answered, Ask, CopyStep, Moment, Next, TokenKey};
use stampede_scsi::{Blocks, Device, DeviceConfig, Identity, Media, NexusId, Reply, Status, Step};

pub(crate) const BLOCK: usize = 512;

pub(crate) struct Desk {
    pub(crate) units: Vec<(Device, Vec<u8>)>,
    pub(crate) now_ns: u64,
    /// Blocks of the first unit that a command is changing.
    pub(crate) changing: Option<Blocks>,
    /// Commands that copiers asked for: unit and CDB.
    pub(crate) asked: Vec<(u16, [u8; 16])>,
    /// Commands end with BUSY so many times before they are carried out.
    pub(crate) busy: u32,
    /// Is told of each command before it is carried out.
    pub(crate) meanwhile: Option<fn(&mut Desk, &Ask)>,
}

pub(crate) fn naa(n: u8) -> [u8; 16] {
    let mut naa = [0x11; 16];
    (naa[0], naa[15]) = (0x60, n);
    naa
}

impl Desk {
    pub(crate) fn new(blocks: &[u64]) -> Self {
        let unit = |(n, blocks): (usize, &u64)| {
            let identity = Identity { naa: naa(n as u8), serial: format!("S{n}"), ..Identity::default() };
            let device = unit_of(DeviceConfig::new(identity, *blocks));
            let medium = (0..*blocks as usize * BLOCK).map(|at| (at / BLOCK * 7 + at + n * 101) as u8);
            (device, medium.collect())
        };
        let units = blocks.iter().enumerate().map(unit).collect();
        Self { units, now_ns: 0, changing: None, asked: Vec::new(), busy: 0, meanwhile: None }
    }

    pub(crate) fn bytes(&self, unit: usize, lba: u64, count: u64) -> Vec<u8> {
        self.units[unit].1[lba as usize * BLOCK..(lba + count) as usize * BLOCK].to_vec()
    }

    /// A third-party copy command to a unit, carried out to its end.
    pub(crate) fn send(&mut self, unit: usize, nexus: NexusId, cdb: &[u8], param: &[u8]) -> Reply {
        let cdb = padded(cdb);
        match self.units[unit].0.start(nexus, &cdb, param.len() as u32, param) {
            Step::Copy => {}
            step => return done(step),
        }
        match self.third_party(unit, nexus, &cdb, param) {
            CopyStep::Done(reply) => reply,
            CopyStep::Copy(mut copier) => self.carry_out(unit, nexus, &mut copier),
            CopyStep::Abort(..) => panic!("nothing runs"),
        }
    }

    pub(crate) fn third_party(
        &mut self,
        unit: usize,
        nexus: NexusId,
        cdb: &[u8; 16],
        param: &[u8],
    ) -> CopyStep {
        let key = TokenKey::new([7; 32]);
        let busy = self.changing;
        let changing = |range: Blocks| busy == Some(range);
        let others = self.units.len() as u16 - 1;
        let moment = Moment { now_ns: self.now_ns, key: &key, others, changing: &changing };
        self.units[unit].0.third_party(nexus, cdb, param, &moment)
    }

    /// Unit 0 is the copier's own, others count from 1.
    fn carry_out(&mut self, own: usize, nexus: NexusId, copier: &mut stampede_scsi::copy::Copier) -> Reply {
        let mut last: Option<Reply> = None;
        let mut read = Vec::new();
        loop {
            let next = match &last {
                None => copier.next(None),
                Some(reply) => copier.next(Some(Answered {
                    status: Some(reply.status),
                    data: &reply.data,
                    len: if reply.data.is_empty() { read.len() as u64 } else { reply.data.len() as u64 },
                })),
            };
            let (device, _) = &mut self.units[own];
            device.copy_progressed(copier);
            let reply = match next {
                Next::Ask(ask) => {
                    let unit = if ask.unit == 0 {
                        own
                    } else {
                        let others = (0..self.units.len()).filter(|unit| *unit != own);
                        others.clone().nth(usize::from(ask.unit) - 1).expect("a unit that is there")
                    };
                    self.asked.push((ask.unit, ask.cdb));
                    if let Some(meanwhile) = self.meanwhile {
                        meanwhile(self, &ask);
                    }
                    last = Some(self.carry_out_one(unit, nexus, &ask, &mut read));
                    continue;
                }
                Next::Done(reply) => device.copy_reply(reply),
                Next::Forward => last.take().expect("a last command"),
            };
            let sense = reply.sense.map(|sense| sense.encode()).unwrap_or_default();
            device.copy_ended(copier, Some(reply.status), &sense);
            return reply;
        }
    }

    fn carry_out_one(&mut self, unit: usize, nexus: NexusId, ask: &Ask, read: &mut Vec<u8>) -> Reply {
        if self.busy > 0 {
            self.busy -= 1;
            return Reply::status(Status::Busy);
        }
        let out = if ask.writes_read_data { read.len() as u32 } else { 0 };
        let (device, medium) = &mut self.units[unit];
        let place = |range: Blocks| {
            let start = range.lba as usize * BLOCK;
            start..start + range.count as usize * BLOCK
        };
        match device.start_for_copy(nexus, &ask.cdb, out, self.now_ns) {
            Step::Done(reply) => reply,
            Step::Media(Media::Read { range }) => {
                *read = medium[place(range)].to_vec();
                Reply::good()
            }
            Step::Media(Media::Write { range, .. }) => {
                medium[place(range)].copy_from_slice(&std::mem::take(read));
                Reply::good()
            }
            Step::Media(Media::WriteSame { range, .. }) => {
                medium[place(range)].fill(0);
                Reply::good()
            }
            step => panic!("a copier does not ask for {step:?}"),
        }
    }

    /// An initiator's write.
    pub(crate) fn write(&mut self, unit: usize, lba: u8, count: u8) {
        let cdb = padded(&[0x2A, 0, 0, 0, 0, lba, 0, 0, count]);
        let (device, medium) = &mut self.units[unit];
        media(device.start(B, &cdb, u32::from(count) * 512, &[]));
        let start = usize::from(lba) * BLOCK;
        medium[start..start + usize::from(count) * BLOCK].fill(0xEE);
    }
}

/// An identification descriptor for a unit's NAA designator.
pub(crate) fn target(n: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    (bytes[0], bytes[4], bytes[5], bytes[7]) = (0xE4, 1, 3, 16);
    bytes[8..24].copy_from_slice(&naa(n));
    bytes[30] = 2;
    bytes
}

/// A block to block segment descriptor.
pub(crate) fn segment(from: u16, to: u16, count: u16, from_lba: u64, to_lba: u64) -> Vec<u8> {
    let mut bytes = vec![0x02, 0, 0, 24];
    for field in [from, to, 0, count] {
        bytes.extend_from_slice(&field.to_be_bytes());
    }
    bytes.extend_from_slice(&from_lba.to_be_bytes());
    bytes.extend_from_slice(&to_lba.to_be_bytes());
    bytes
}

/// The parameter list of EXTENDED COPY(LID1).
pub(crate) fn list(id: u8, usage: u8, targets: &[[u8; 32]], segments: &[Vec<u8>]) -> Vec<u8> {
    let segments = segments.concat();
    let mut bytes = vec![id, usage << 3];
    bytes.extend_from_slice(&(targets.len() as u16 * 32).to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(segments.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&targets.concat());
    bytes.extend_from_slice(&segments);
    bytes
}

/// A CDB of operation code 83h or 84h with a list identifier of four bytes at `at`.
pub(crate) fn cdb(opcode: u8, action: u8, (at, id): (usize, u32), length: usize) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (opcode, action);
    cdb[at..at + 4].copy_from_slice(&id.to_be_bytes());
    cdb[10..14].copy_from_slice(&(length as u32).to_be_bytes());
    cdb
}

/// The CDB of EXTENDED COPY(LID1) with this parameter list.
pub(crate) fn extended_copy(list: &[u8]) -> [u8; 16] {
    cdb(0x83, 0x00, (2, 0), list.len())
}
