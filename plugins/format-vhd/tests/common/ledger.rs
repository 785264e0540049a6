//! A plain model of the disk: what each sector has, and what it may have after a power cut.

use super::{Draw, Shape, sector_bytes};

/// What a sector has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// What the new image's disk has.
    First,
    Zeros,
    /// That of a write, by its number.
    Written(u64),
}

/// The disk as it should be.
#[derive(Clone)]
pub(crate) struct Ledger {
    first: Vec<u8>,
    now: Vec<Content>,
    /// What it had at the last flush, and since: one of these is there after a power cut.
    may_be: Vec<Vec<Content>>,
    writes: u64,
}

impl Ledger {
    pub(crate) fn new(shape: &Shape) -> Self {
        let sectors = usize::try_from(shape.size / 512).unwrap();
        let now = vec![Content::First; sectors];
        let may_be = now.iter().map(|content| vec![*content]).collect();
        Self { first: shape.first_disk(), now, may_be, writes: 0 }
    }

    pub(crate) fn size(&self) -> u64 {
        self.now.len() as u64 * 512
    }

    fn bytes(&self, sector: usize, content: Content) -> Vec<u8> {
        match content {
            Content::Zeros => vec![0; 512],
            Content::First => self.first[sector * 512..][..512].to_vec(),
            Content::Written(number) => sector_bytes(sector as u64, number).to_vec(),
        }
    }

    fn put(&mut self, sector: usize, content: Content) {
        self.now[sector] = content;
        self.may_be[sector].push(content);
    }

    /// A write of sectors: gives the data.
    pub(crate) fn write(&mut self, sector: usize, count: usize) -> Vec<u8> {
        self.writes += 1;
        let content = Content::Written(self.writes);
        (sector..sector + count)
            .flat_map(|sector| {
                self.put(sector, content);
                self.bytes(sector, content)
            })
            .collect()
    }

    pub(crate) fn zero(&mut self, sector: usize, count: usize) {
        (sector..sector + count).for_each(|sector| self.put(sector, Content::Zeros));
    }

    /// All that was done is durable.
    pub(crate) fn flushed(&mut self) {
        for (may_be, now) in self.may_be.iter_mut().zip(&self.now) {
            *may_be = vec![*now];
        }
    }

    pub(crate) fn resize(&mut self, size: u64) {
        let sectors = usize::try_from(size / 512).unwrap();
        self.now.resize(sectors, Content::Zeros);
        self.may_be.resize(sectors, vec![Content::Zeros]);
        self.flushed();
    }

    /// The disk as it is.
    pub(crate) fn disk(&self) -> Vec<u8> {
        self.now.iter().enumerate().flat_map(|(sector, content)| self.bytes(sector, *content)).collect()
    }

    /// Whether a disk found after a power cut is one that may be; what it has is what it is from now on.
    pub(crate) fn adopt(&mut self, disk: &[u8]) -> Result<(), String> {
        if disk.len() as u64 != self.size() {
            return Err(format!("the disk has {} bytes instead of {}", disk.len(), self.size()));
        }
        for (sector, found) in disk.chunks(512).enumerate() {
            let may_be = self.may_be[sector].clone();
            match may_be.iter().rev().find(|content| self.bytes(sector, **content) == found) {
                Some(content) => self.now[sector] = *content,
                None => {
                    return Err(format!("sector {sector} has {:?}..., it may be {may_be:?}", &found[..16]));
                }
            }
        }
        self.flushed();
        Ok(())
    }
}

/// A range of sectors of a disk: often short, sometimes over several blocks, in units of `unit` sectors.
pub(crate) fn draw_range(draw: &mut Draw, sectors: u64, unit: u64) -> (usize, usize) {
    let units = sectors / unit;
    let start = draw.below(units);
    let length = match draw.below(4) {
        0 => 1,
        1 => 1 + draw.below(8),
        2 => 1 + draw.below(64),
        _ => 1 + draw.below(200),
    };
    let length = length.min(units - start);
    (usize::try_from(start * unit).unwrap(), usize::try_from(length * unit).unwrap())
}
