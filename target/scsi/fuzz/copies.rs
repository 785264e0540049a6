//! Third-party copies from any bytes: lists that are mostly right, tokens, writes meanwhile, and commands that fail.

use stampede_scsi::copy::{Answered, Ask, Copier, CopyStep, Moment, Next, TokenKey};
use stampede_scsi::{Blocks, Device, DeviceConfig, Identity, Media, NexusId, Reply, Status, Step};

use super::{attach_all, check};

const SECTOR: usize = 512;
const SECTORS: usize = 2048;
/// Commands that one copy may need here: three segments of a whole unit in chunks of 8 KiB, each tried often.
const ASKS_MAX: u32 = 30_000;

/// What a read gave: a number for each sector.
type Tags = Vec<u32>;

/// A logical unit and what its sectors hold.
struct Unit {
    device: Device,
    medium: Tags,
}

/// A token, the unit that made it, and what that unit's ranges held then.
struct Token {
    bytes: Vec<u8>,
    block: usize,
    held: Tags,
}

/// What goes wrong in a copy: the command of this number ends so; before the command of this number somebody writes.
#[derive(Clone, Copy)]
struct Trouble {
    fails: u8,
    how: u8,
    writes: u8,
    lba: u8,
}

impl Trouble {
    fn lies(self) -> bool {
        self.fails > 0 && self.how % 5 == 4
    }
}

/// Three units, two of them alike, that every nexus sees.
struct Desk {
    units: Vec<Unit>,
    tokens: Vec<Token>,
    now_ns: u64,
    written: u32,
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    /// The next byte; zero when there is none left.
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn long(&mut self) -> u64 {
        u64::from(u16::from_be_bytes([self.next() & 0x0F, self.next()]))
    }

    fn trouble(&mut self) -> Trouble {
        Trouble { fails: self.next(), how: self.next(), writes: self.next(), lba: self.next() }
    }

    /// Changes a byte of a list, seldom. Whether it did.
    fn spoil(&mut self, list: &mut [u8]) -> bool {
        let spoils = self.next() % 4 == 3;
        if spoils {
            let at = self.long() as usize % list.len();
            list[at] = self.next();
        }
        spoils
    }
}

fn naa(n: usize) -> [u8; 16] {
    let mut naa = [0x11; 16];
    (naa[0], naa[15]) = (0x60, n as u8);
    naa
}

impl Desk {
    fn new() -> Self {
        let unit = |(n, block): (usize, u32)| {
            let identity = Identity { naa: naa(n), ..Identity::default() };
            let blocks = (SECTORS * SECTOR) as u64 / u64::from(block);
            let config = DeviceConfig::with_block_size(identity, block, 4096, blocks);
            let mut device = Device::new(DeviceConfig { max_transfer_blocks: 16, ..config });
            attach_all(&mut device);
            for nexus in 0..super::NEXUSES {
                // The unit attention of the power on, which is told once.
                let _ = device.start(NexusId(nexus), &[0; 16], 0, &[]);
            }
            let medium = (0..SECTORS).map(|at| (n * SECTORS + at + 1) as u32).collect();
            Unit { device, medium }
        };
        let units = [512, 512, 4096].into_iter().enumerate().map(unit).collect();
        Self { units, tokens: Vec::new(), now_ns: 0, written: 1 << 30 }
    }

    fn block(&self, unit: usize) -> usize {
        self.units[unit].device.config().block_size as usize
    }

    /// The sectors of a range of a unit's blocks.
    fn sectors(&self, unit: usize, range: Blocks) -> std::ops::Range<usize> {
        let per_block = self.block(unit) / SECTOR;
        let first = range.lba as usize * per_block;
        first..first + range.count as usize * per_block
    }

    /// An initiator's write of one block, if the unit takes it.
    fn write(&mut self, unit: usize, lba: u64) {
        let mut cdb = [0; 16];
        (cdb[0], cdb[13]) = (0x8A, 1);
        cdb[2..10].copy_from_slice(&lba.to_be_bytes());
        let block = self.block(unit) as u32;
        if let Step::Media(Media::Write { range, .. }) =
            self.units[unit].device.start(NexusId(3), &cdb, block, &[])
        {
            self.written += 1;
            let sectors = self.sectors(unit, range);
            self.units[unit].medium[sectors].fill(self.written);
        }
    }

    /// A third-party copy command, to its end.
    fn send(&mut self, own: usize, nexus: NexusId, cdb: &[u8; 16], param: &[u8], trouble: Trouble) -> Reply {
        let step = self.units[own].device.start(nexus, cdb, param.len() as u32, param);
        match step {
            Step::Copy => {}
            Step::Done(reply) => return reply,
            other => panic!("{other:?}"),
        }
        let key = TokenKey::new([7; 32]);
        let busy = |range: Blocks| trouble.how == 0xFF && range.lba % 2 == 1;
        let moment = Moment { now_ns: self.now_ns, key: &key, others: 2, changing: &busy };
        match self.units[own].device.third_party(nexus, cdb, param, &moment) {
            CopyStep::Done(reply) => reply,
            CopyStep::Copy(mut copier) => self.carry_out(own, nexus, &mut copier, trouble),
            CopyStep::Abort(..) => panic!("no copy runs"),
        }
    }

    fn carry_out(&mut self, own: usize, nexus: NexusId, copier: &mut Copier, trouble: Trouble) -> Reply {
        let (mut last, mut read): (Option<(Option<Status>, Reply)>, Tags) = (None, Tags::new());
        for number in 1..ASKS_MAX {
            let next = match &last {
                None => copier.next(None),
                Some((status, reply)) => {
                    let len = if reply.data.is_empty() { read.len() * SECTOR } else { reply.data.len() };
                    copier.next(Some(Answered { status: *status, data: &reply.data, len: len as u64 }))
                }
            };
            self.units[own].device.copy_progressed(copier);
            let reply = match next {
                Next::Ask(ask) => {
                    if number == u32::from(trouble.writes) {
                        self.write(usize::from(trouble.lba % 3), u64::from(trouble.lba));
                    }
                    let fails = number == u32::from(trouble.fails);
                    last = Some(self.one(own, nexus, &ask, &mut read, fails.then_some(trouble.how)));
                    continue;
                }
                Next::Done(reply) => self.units[own].device.copy_reply(reply),
                Next::Forward => last.take().expect("a last command").1,
            };
            let sense = reply.sense.map(|sense| sense.encode_fixed().to_vec()).unwrap_or_default();
            self.units[own].device.copy_ended(copier, Some(reply.status), &sense);
            return reply;
        }
        panic!("a copy goes on for ever");
    }

    /// One command of a copier: how it ended.
    fn one(
        &mut self,
        own: usize,
        nexus: NexusId,
        ask: &Ask,
        read: &mut Tags,
        fails: Option<u8>,
    ) -> (Option<Status>, Reply) {
        if let Some(how) = fails {
            let lie = Reply { data: vec![how; usize::from(how)], ..Reply::good() };
            return match how % 5 {
                0 => (None, Reply::status(Status::Busy)),
                1 => (Some(Status::Busy), Reply::status(Status::Busy)),
                2 => (Some(Status::TaskSetFull), Reply::status(Status::TaskSetFull)),
                3 => (Some(Status::ReservationConflict), Reply::status(Status::ReservationConflict)),
                _ => (Some(Status::Good), lie),
            };
        }
        let mut others = (0..self.units.len()).filter(|unit| *unit != own);
        let unit = match ask.unit.checked_sub(1) {
            None => own,
            Some(other) => others.nth(usize::from(other)).expect("a unit that is there"),
        };
        let out = if ask.writes_read_data { (read.len() * SECTOR) as u32 } else { 0 };
        let reply = match self.units[unit].device.start_for_copy(nexus, &ask.cdb, out, self.now_ns) {
            Step::Done(reply) => reply,
            Step::Media(Media::Read { range }) => {
                *read = self.units[unit].medium[self.sectors(unit, range)].to_vec();
                Reply::good()
            }
            Step::Media(Media::Write { range, .. }) => {
                let sectors = self.sectors(unit, range);
                self.units[unit].medium[sectors].copy_from_slice(&std::mem::take(read));
                Reply::good()
            }
            Step::Media(Media::WriteSame { range, .. }) => {
                let sectors = self.sectors(unit, range);
                self.units[unit].medium[sectors].fill(0);
                Reply::good()
            }
            step => panic!("a copier does not ask for {step:?}"),
        };
        (Some(reply.status), reply)
    }

    /// EXTENDED COPY: done with GOOD, what its segments say is so.
    fn extended(&mut self, own: usize, nexus: NexusId, bytes: &mut Bytes<'_>) {
        let lid4 = bytes.next() & 1 != 0;
        let (mut segments, mut wanted) = (Vec::new(), Vec::new());
        for _ in 0..1 + bytes.next() % 3 {
            let shape = bytes.next();
            let (from, to, count) =
                (usize::from(shape & 3), usize::from(shape >> 2 & 3), bytes.long() as u16 / 4);
            let (from_lba, to_lba, dc) = (bytes.long() / 2, bytes.long() / 2, shape >> 4 & 2);
            segments.extend_from_slice(&[0x02, dc, 0, 24]);
            for field in [id(from), id(to), 0, count] {
                segments.extend_from_slice(&field.to_be_bytes());
            }
            segments.extend_from_slice(&from_lba.to_be_bytes());
            segments.extend_from_slice(&to_lba.to_be_bytes());
            let unit = |n| if n == 3 { own } else { n };
            wanted.push((unit(from), unit(to), dc != 0, count, from_lba, to_lba));
        }
        let mut list = vec![0; if lid4 { 48 } else { 16 }];
        let (targets, length) = (3 * 32, segments.len() as u8);
        if lid4 {
            (list[0], list[43], list[45]) = (1, targets, length);
        } else {
            (list[3], list[11]) = (targets, length);
        }
        (0..3).for_each(|n| list.extend_from_slice(&target(n)));
        list.extend_from_slice(&segments);
        let spoilt = bytes.spoil(&mut list);
        let trouble = bytes.trouble();
        let mut model: Vec<Tags> = self.units.iter().map(|unit| unit.medium.clone()).collect();
        let reply = self.send(own, nexus, &cdb(0x83, u8::from(lid4), 0, list.len()), &list, trouble);
        check(&reply);
        if reply.status != Status::Good || spoilt || trouble.writes > 0 || trouble.lies() {
            return;
        }
        for (from, to, dc, count, from_lba, to_lba) in wanted {
            let sectors = usize::from(count) * self.block(if dc { to } else { from }) / SECTOR;
            let first = from_lba as usize * self.block(from) / SECTOR;
            let data = model[from][first..first + sectors].to_vec();
            let first = to_lba as usize * self.block(to) / SECTOR;
            model[to][first..first + sectors].copy_from_slice(&data);
        }
        assert!(
            self.units.iter().zip(&model).all(|(unit, model)| unit.medium == *model),
            "the copies are there"
        );
    }

    /// POPULATE TOKEN, and the token.
    fn populate(&mut self, own: usize, nexus: NexusId, bytes: &mut Bytes<'_>) {
        let mut list = vec![0; 14];
        list[7] = bytes.next() % 64;
        let of = ranges(&mut list, bytes);
        let _ = bytes.spoil(&mut list);
        let trouble = bytes.trouble();
        let reply = self.send(own, nexus, &cdb(0x83, 0x10, 77, list.len()), &list, trouble);
        check(&reply);
        let mut ask = [0; 16];
        (ask[0], ask[1], ask[5], ask[12]) = (0x84, 0x07, 77, 16);
        let told = self.send(own, nexus, &ask, &[], Trouble { fails: 0, how: 0, writes: 0, lba: 0 });
        if reply.status != Status::Good || told.data.len() != 32 + 4 + 2 + 512 {
            return;
        }
        // What the token stands for, even if the list was spoilt and still was taken.
        let of: Vec<Blocks> = read_ranges(&list).unwrap_or(of);
        let held = of.iter().flat_map(|range| self.units[own].medium[self.sectors(own, *range)].to_vec());
        self.tokens.push(Token {
            bytes: told.data[38..].to_vec(),
            block: self.block(own),
            held: held.collect(),
        });
    }

    /// WRITE USING TOKEN: done with GOOD, the destination holds what the source held when the token was made.
    fn use_token(&mut self, own: usize, nexus: NexusId, bytes: &mut Bytes<'_>) {
        let which = usize::from(bytes.next());
        let zero = which >= self.tokens.len();
        let mut token = vec![0; 512];
        if zero {
            token[..8].copy_from_slice(&[0xFF, 0xFF, 0, 1, 0, 0, 1, 0xF8]);
        } else {
            token.copy_from_slice(&self.tokens[which].bytes);
        }
        let (flags, offset) = (bytes.next() & 0x02, bytes.long() / 4);
        let mut list = vec![0, 0, flags, 0, 0, 0, 0, 0];
        list.extend_from_slice(&offset.to_be_bytes());
        list.extend_from_slice(&token);
        list.extend_from_slice(&[0; 6]);
        let to = ranges(&mut list, bytes);
        let spoilt = bytes.spoil(&mut list);
        let trouble = bytes.trouble();
        let reply = self.send(own, nexus, &cdb(0x83, 0x11, 78, list.len()), &list, trouble);
        check(&reply);
        let written_over = trouble.writes > 0 && usize::from(trouble.lba % 3) == own;
        if reply.status != Status::Good || spoilt || trouble.lies() || written_over {
            return;
        }
        let wrote: Tags =
            to.iter().flat_map(|range| self.units[own].medium[self.sectors(own, *range)].to_vec()).collect();
        if zero {
            assert!(wrote.iter().all(|tag| *tag == 0), "zeros");
            return;
        }
        let token = &self.tokens[which];
        let first = offset as usize * token.block / SECTOR;
        // A token may be of blocks that it is written over: then only its first use shows what it held.
        assert_eq!(wrote, token.held[first..first + wrote.len()], "what the token stands for");
    }
}

/// The CSCD descriptor identifier of unit `n`; 3 is the one that gets the command.
fn id(n: usize) -> u16 {
    if n == 3 { 0xFFFF } else { n as u16 }
}

/// An identification descriptor of a unit.
fn target(n: usize) -> [u8; 32] {
    let mut bytes = [0; 32];
    (bytes[0], bytes[4], bytes[5], bytes[7]) = (0xE4, 1, 3, 16);
    bytes[8..24].copy_from_slice(&naa(n));
    bytes
}

fn cdb(opcode: u8, action: u8, list: u32, length: usize) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (opcode, action);
    cdb[6..10].copy_from_slice(&list.to_be_bytes());
    cdb[10..14].copy_from_slice(&(length as u32).to_be_bytes());
    cdb
}

/// Puts one range or two into a list of token commands, and the lengths.
fn ranges(list: &mut Vec<u8>, bytes: &mut Bytes<'_>) -> Vec<Blocks> {
    let count = 1 + bytes.next() % 2;
    list.extend_from_slice(&[0, count * 16]);
    let mut ranges = Vec::new();
    for _ in 0..count {
        let range = Blocks { lba: bytes.long() / 2, count: bytes.long() as u32 / 4 };
        list.extend_from_slice(&range.lba.to_be_bytes());
        list.extend_from_slice(&range.count.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
        ranges.push(range);
    }
    let length = (list.len() as u16 - 2).to_be_bytes();
    list[..2].copy_from_slice(&length);
    ranges
}

/// The ranges of a list of POPULATE TOKEN.
fn read_ranges(list: &[u8]) -> Option<Vec<Blocks>> {
    let length = usize::from(u16::from_be_bytes([list[14], list[15]]));
    let range = |bytes: &[u8]| {
        let (lba, rest) = bytes.split_first_chunk::<8>()?;
        let (count, _) = rest.split_first_chunk::<4>()?;
        Some(Blocks { lba: u64::from_be_bytes(*lba), count: u32::from_be_bytes(*count) })
    };
    list.get(16..16 + length)?.chunks_exact(16).map(range).collect()
}

/// Third-party copies between three units: see [`Desk`].
pub(crate) fn copies(bytes: &[u8]) {
    let (mut desk, mut bytes) = (Desk::new(), Bytes(bytes));
    while !bytes.0.is_empty() {
        let (what, who) = (bytes.next(), bytes.next());
        let (own, nexus) = (usize::from(who % 3), NexusId(u64::from(who >> 2 & 1)));
        match what % 8 {
            0 | 1 => desk.extended(own, nexus, &mut bytes),
            2 | 3 => desk.populate(own, nexus, &mut bytes),
            4 | 5 => desk.use_token(own, nexus, &mut bytes),
            6 => {
                let lba = bytes.long();
                desk.write(own, lba);
            }
            _ => {
                let mut cdb = [0; 16];
                cdb.iter_mut().for_each(|byte| *byte = bytes.next());
                cdb[0] = 0x84;
                desk.now_ns += u64::from(what) << 28;
                check(&desk.send(own, nexus, &cdb, &[], Trouble { fails: 0, how: 0, writes: 0, lba: 0 }));
            }
        }
    }
}
