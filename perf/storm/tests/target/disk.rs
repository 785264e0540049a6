//! The target's one unit: SCSI commands on bytes in memory.

use super::{Bug, Config};

/// One in so many writes is struck by the bug.
const STRIKE_EVERY: u64 = 50;
/// How many writes later a stale one is undone.
const UNDO_AFTER: u64 = 20;

/// What a command comes to.
#[derive(Debug)]
pub(crate) enum Answer {
    /// GOOD, with data.
    Good(Vec<u8>),
    /// CHECK CONDITION with sense key, code and qualifier.
    Check(u8, u8, u8),
    /// RESERVATION CONFLICT.
    Conflict,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Disk {
    config: Config,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    reads: u64,
    writes: u64,
    /// Old bytes to put back: at which write, where, what.
    undo: Vec<(u64, usize, Vec<u8>)>,
}

impl Disk {
    pub(crate) fn new(config: &Config) -> Self {
        let bytes = vec![0; (config.blocks * u64::from(config.block_size)) as usize];
        Self { config: config.clone(), bytes, reads: 0, writes: 0, undo: Vec::new() }
    }

    /// Executes a command with the data it brought.
    pub(crate) fn execute(&mut self, lun: u16, cdb: &[u8; 16], data: &[u8]) -> Answer {
        match cdb[0] {
            0x12 => return self.inquiry(lun, cdb),
            0xa0 => return Answer::Good([&[0, 0, 0, 8, 0, 0, 0, 0][..], &[0; 8]].concat()),
            _ if lun != 0 => return Answer::Check(5, 0x25, 0),
            _ if self.config.is_reserved => return Answer::Conflict,
            _ => {}
        }
        let has_extras = self.config.has_extras;
        match cdb[0] {
            0x00 => Answer::Good(Vec::new()),
            0x25 => {
                let last = (self.config.blocks - 1) as u32;
                Answer::Good([last.to_be_bytes(), self.config.block_size.to_be_bytes()].concat())
            }
            0x9e if cdb[1] & 0x1f == 0x10 => self.capacity(),
            0x1a => Answer::Good(vec![3, 0, if self.config.is_read_only { 0x80 } else { 0 }, 0]),
            0x5e => {
                let mut data = vec![0, 0, 0, 1];
                data.extend((self.config.keys * 8).to_be_bytes());
                data.resize(8 + self.config.keys as usize * 8, 7);
                Answer::Good(data)
            }
            0xa3 => Answer::Good(vec![0, if has_extras { 3 } else { 1 }, 0, 0]),
            0x28 | 0x88 if self.config.reads_fail => Answer::Check(3, 0x11, 0),
            0x28 | 0x88 => match self.range(cdb) {
                Some((start, end)) => self.read(start, end),
                None => Answer::Check(5, 0x21, 0),
            },
            0x2a | 0x8a => match self.range(cdb) {
                Some((start, end)) if end - start == data.len() => self.write(start, data),
                _ => Answer::Check(5, 0x21, 0),
            },
            0x42 if has_extras => self.unmap(data),
            0x93 if has_extras => self.write_same(cdb, data),
            0x35 | 0x91 if has_extras => Answer::Good(Vec::new()),
            _ => Answer::Check(5, 0x20, 0),
        }
    }

    fn inquiry(&self, lun: u16, cdb: &[u8; 16]) -> Answer {
        let device = if lun == 0 { 0 } else { 0x7f };
        let mut data = vec![0; 64];
        data[0] = device;
        if cdb[1] & 1 == 0 {
            data[2..5].copy_from_slice(&[6, 2, 59]);
            data[8..32].copy_from_slice(b"STAMPEDETEST DISK       ");
            return Answer::Good(data);
        }
        data[1] = cdb[2];
        data[3] = 60;
        match cdb[2] {
            0xb0 => {
                data[20..24].copy_from_slice(&1024u32.to_be_bytes());
                data[24..28].copy_from_slice(&1u32.to_be_bytes());
                data[36..44].copy_from_slice(&1024u64.to_be_bytes());
            }
            0xb2 if self.config.has_extras => data[5] = 0xe4,
            _ => return Answer::Check(5, 0x24, 0),
        }
        Answer::Good(data)
    }

    fn capacity(&self) -> Answer {
        let mut data = vec![0; 32];
        data[..8].copy_from_slice(&(self.config.blocks - 1).to_be_bytes());
        data[8..12].copy_from_slice(&self.config.block_size.to_be_bytes());
        data[14] = if self.config.has_extras { 0xc0 } else { 0 };
        Answer::Good(data)
    }

    /// First byte and end of the blocks that a CDB of 10 or 16 bytes names.
    fn range(&self, cdb: &[u8; 16]) -> Option<(usize, usize)> {
        let (lba, blocks) = if cdb[0] >= 0x80 {
            let lba = u64::from_be_bytes(cdb[2..10].try_into().unwrap());
            (lba, u64::from(u32::from_be_bytes(cdb[10..14].try_into().unwrap())))
        } else {
            let lba = u64::from(u32::from_be_bytes(cdb[2..6].try_into().unwrap()));
            (lba, u64::from(u16::from_be_bytes([cdb[7], cdb[8]])))
        };
        self.blocks(lba, blocks)
    }

    fn blocks(&self, lba: u64, blocks: u64) -> Option<(usize, usize)> {
        let end = lba.checked_add(blocks).filter(|end| *end <= self.config.blocks)?;
        let size = u64::from(self.config.block_size);
        Some(((lba * size) as usize, (end * size) as usize))
    }

    fn read(&mut self, start: usize, end: usize) -> Answer {
        self.reads += 1;
        let size = self.config.block_size as usize;
        let strikes = self.reads.is_multiple_of(STRIKE_EVERY);
        let range = match self.config.bug {
            Bug::ReadsNeighbour if strikes && end + size <= self.bytes.len() => start + size..end + size,
            Bug::ShortRead if strikes => start..end - size,
            _ => start..end,
        };
        Answer::Good(self.bytes[range].to_vec())
    }

    fn write(&mut self, start: usize, data: &[u8]) -> Answer {
        if self.config.is_read_only {
            return Answer::Check(7, 0x27, 0);
        }
        self.writes += 1;
        let writes = self.writes;
        let due: Vec<_> = self.undo.extract_if(.., |(at, ..)| *at <= writes).collect();
        for (_, start, old) in due {
            self.bytes[start..start + old.len()].copy_from_slice(&old);
        }
        let size = self.config.block_size as usize;
        let mut data = data.to_vec();
        let mut place = start;
        if self.writes.is_multiple_of(STRIKE_EVERY) {
            match self.config.bug {
                Bug::Lost => return Answer::Good(Vec::new()),
                Bug::Torn => data.truncate(data.len() - size / 2),
                Bug::Stale => {
                    let old = self.bytes[start..start + data.len()].to_vec();
                    self.undo.push((writes + UNDO_AFTER, start, old));
                }
                Bug::Misplaced => place = if start >= size { start - size } else { start + size },
                Bug::Flipped => data[size / 2] ^= 0x40,
                Bug::DroppedTail if data.len() > size => data.truncate(data.len() - size),
                Bug::OtherSession => {
                    let half = self.bytes.len() / 2;
                    let other = if start < half { start + half } else { start - half };
                    let end = (other + data.len()).min(self.bytes.len());
                    self.bytes[other..end].copy_from_slice(&data[..end - other]);
                }
                _ => {}
            }
        }
        let place = place.min(self.bytes.len() - data.len());
        self.bytes[place..place + data.len()].copy_from_slice(&data);
        Answer::Good(Vec::new())
    }

    fn unmap(&mut self, list: &[u8]) -> Answer {
        for descriptor in list.get(8..).unwrap_or_default().as_chunks::<16>().0 {
            let lba = u64::from_be_bytes(descriptor[..8].try_into().unwrap());
            let blocks = u32::from_be_bytes(descriptor[8..12].try_into().unwrap());
            let Some((start, end)) = self.blocks(lba, u64::from(blocks)) else {
                return Answer::Check(5, 0x21, 0);
            };
            match self.config.bug {
                Bug::UnmapIgnored => {}
                Bug::UnmapUncovers => self.bytes[start..end].fill(0xe5),
                _ => self.bytes[start..end].fill(0),
            }
        }
        Answer::Good(Vec::new())
    }

    fn write_same(&mut self, cdb: &[u8; 16], data: &[u8]) -> Answer {
        let size = self.config.block_size as usize;
        let Some((start, end)) = self.range(cdb).filter(|_| data.len() == size) else {
            return Answer::Check(5, 0x21, 0);
        };
        let end = match self.config.bug {
            Bug::ShortWriteSame => start + size,
            Bug::UnmapSameKeeps if cdb[1] & 0x08 != 0 => start,
            Bug::LongWriteSame => (end + size).min(self.bytes.len()),
            _ => end,
        };
        for block in self.bytes[start..end].chunks_mut(size) {
            block.copy_from_slice(data);
        }
        Answer::Good(Vec::new())
    }
}
