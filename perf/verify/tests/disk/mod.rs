//! A disk in memory that is right, or has one planted bug.

use stampede_verify::{Op, OpKind, VerifyConfig};

/// What is wrong with the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    None,
    /// A write is acknowledged and not done.
    Lost,
    /// Of one sector only the front is written.
    TornInSector,
    /// Of a block of several sectors only the front is written.
    TornInBlock,
    /// The last block of a write is not written.
    DroppedTail,
    /// A write is undone a while later.
    Returns,
    /// A write lands one block beside.
    Misplaced,
    /// A read gives the blocks one further on.
    ReadsNeighbour,
    /// A write lands in the other client's region too.
    OtherClient,
    /// A bit of a written block is wrong.
    Flipped,
    /// No bug: UNMAP does nothing, or not for every block.
    UnmapIgnored,
    /// Unmapped blocks have the data again that was there before their last.
    UnmapReverts,
    /// UNMAP does one block too many.
    UnmapTooLong,
    /// Unmapped blocks are zeros, and have their data again a while later.
    UnmapUndone,
    /// WRITE SAME with the UNMAP bit leaves what it cannot unmap as it was.
    UnmapSameKeeps,
    /// WRITE SAME does one block too few.
    SameTooShort,
    /// WRITE SAME does one block too many.
    SameTooLong,
    /// A write is done once more, a while after.
    Zombie,
    /// A read gives fewer bytes than asked for.
    ShortRead,
}

impl Bug {
    /// Whether such a disk can be wrong at all.
    pub(crate) fn can_strike(self, block_size: u32, lbprz: bool) -> bool {
        match self {
            Bug::TornInBlock => block_size > 512,
            Bug::UnmapReverts | Bug::UnmapTooLong | Bug::UnmapUndone | Bug::UnmapSameKeeps => lbprz,
            _ => true,
        }
    }
}

pub(crate) struct Disk {
    bytes: Vec<u8>,
    /// What each block held before what it holds.
    older: Vec<u8>,
    size: usize,
    lbprz: bool,
    bug: Bug,
    rng: fastrand::Rng,
    /// What happens later: at which write, where, and the bytes.
    later: Vec<(u64, usize, Vec<u8>)>,
    writes: u64,
    /// Blocks from one client's region to the other's.
    apart: usize,
}

impl Disk {
    pub(crate) fn new(config: &VerifyConfig, bug: Bug, seed: u64) -> Self {
        let size = config.block_size as usize;
        let mut bytes = vec![0; config.blocks as usize * size];
        let mut rng = fastrand::Rng::with_seed(seed ^ 0xbad);
        // What lies there already is zeros, or anything.
        if seed.is_multiple_of(2) {
            rng.fill(&mut bytes);
        }
        let apart = (config.blocks as usize - 2000) / 2;
        let (older, lbprz) = (bytes.clone(), config.unmapped_is_zero);
        Disk { bytes, older, size, lbprz, bug, rng, later: Vec::new(), writes: 0, apart }
    }

    pub(crate) fn execute(&mut self, op: &Op, data: &[u8]) -> Vec<u8> {
        let (start, end) = (op.lba as usize * self.size, (op.lba as usize + op.blocks as usize) * self.size);
        match op.kind {
            OpKind::Read => return self.read(start, end),
            OpKind::Sync => {}
            OpKind::Write => self.write(start, data),
            OpKind::Unmap => self.unmap(start, end),
            OpKind::UnmapZeros if self.bug == Bug::UnmapSameKeeps => {}
            OpKind::WriteSame | OpKind::WriteZeros | OpKind::UnmapZeros => self.write_same(start, end, data),
        }
        Vec::new()
    }

    /// Now and then.
    fn strikes(&mut self) -> bool {
        self.rng.u32(0..25) == 0
    }

    fn read(&mut self, start: usize, end: usize) -> Vec<u8> {
        let shift = if self.bug == Bug::ReadsNeighbour && self.strikes() { self.size } else { 0 };
        let mut data = self.bytes[start + shift..end + shift].to_vec();
        if self.bug == Bug::ShortRead && self.strikes() {
            data.truncate(data.len() - self.size);
        }
        data
    }

    fn write(&mut self, start: usize, data: &[u8]) {
        self.writes += 1;
        let due: Vec<_> = self.later.extract_if(.., |(at, ..)| *at <= self.writes).collect();
        for (_, start, old) in due {
            self.bytes[start..start + old.len()].copy_from_slice(&old);
        }
        let size = self.size;
        let mut data = data.to_vec();
        let mut place = start;
        if self.strikes() {
            match self.bug {
                Bug::Lost => return,
                Bug::TornInSector => data.truncate(data.len() - 256),
                Bug::TornInBlock => data.truncate(data.len() - 512 * (size / 1024)),
                Bug::DroppedTail => data.truncate(data.len() - size),
                Bug::Returns => {
                    let old = self.bytes[start..start + data.len()].to_vec();
                    self.later.push((self.writes + 20, start, old));
                }
                Bug::Misplaced => place += size,
                Bug::OtherClient => {
                    let far = self.apart * size;
                    let low = 1000 * size;
                    let there = if start >= low + far { start - far } else { start + far };
                    self.bytes[there..there + data.len()].copy_from_slice(&data);
                }
                Bug::Flipped => {
                    let at = self.rng.usize(0..data.len());
                    data[at] ^= 0x20;
                }
                Bug::Zombie => self.later.push((self.writes + 20, start, data.clone())),
                _ => {}
            }
        }
        let range = place..place + data.len();
        self.older[range.clone()].copy_from_slice(&self.bytes[range.clone()]);
        self.bytes[range].copy_from_slice(&data);
    }

    fn unmap(&mut self, start: usize, end: usize) {
        if self.lbprz {
            match self.bug {
                Bug::UnmapIgnored => {
                    for block in self.bytes[start..end].chunks_mut(self.size) {
                        if self.rng.u32(0..3) == 0 {
                            block.fill(0);
                        }
                    }
                }
                Bug::UnmapReverts => self.bytes[start..end].copy_from_slice(&self.older[start..end]),
                Bug::UnmapTooLong => self.bytes[start..end + self.size].fill(0),
                Bug::UnmapUndone => {
                    let old = self.bytes[start..end].to_vec();
                    self.later.push((self.writes + 20, start, old));
                    self.bytes[start..end].fill(0);
                }
                _ => self.bytes[start..end].fill(0),
            }
            return;
        }
        // Each block keeps its data, reads as zeros, or as anything.
        for block in self.bytes[start..end].chunks_mut(self.size) {
            match self.rng.u32(0..3) {
                0 => {}
                1 => block.fill(0),
                _ => self.rng.fill(block),
            }
        }
    }

    fn write_same(&mut self, start: usize, end: usize, block: &[u8]) {
        let end = match self.bug {
            Bug::SameTooShort => end - self.size,
            Bug::SameTooLong => end + self.size,
            _ => end,
        };
        for place in self.bytes[start..end].chunks_mut(self.size) {
            place.copy_from_slice(block);
        }
    }
}
