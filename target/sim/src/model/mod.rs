//! A model of one LUN: what each sector may read as, given what was asked and answered.
//!
//! The test tells the model when an initiator's command begins and how it ends; the model judges what reads
//! return. A sector is a register with these rules:
//!
//! ```text
//!   write begun ----------> its value may be read
//!   write GOOD -----------> values that ended before it began may not be read any more
//!   write abandoned ------> done or not; it must not take effect later (no zombies)
//!   value read -----------> older values may not come back
//!   flush GOOD -----------> as GOOD, for what a power loss may leave
//!   crash ----------------> any value that was not overwritten by a flushed one; then it stays that one
//! ```
//!
//! Only whole sectors of 512 bytes count: one that is torn inside is rubbish and never right.

mod sector;

use crate::stamp::{SECTOR, Stamp, Value};
use sector::{Sector, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

/// A write, zeroing or unmap that the model knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId(u64);

/// A read that the model knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadId(u64);

/// A flush that the model knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlushId(u64);

/// What a sector turned out to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A value that belongs at this LBA.
    Value(Value),
    /// A whole sector that belongs elsewhere.
    Foreign(Stamp),
    /// Neither zeros nor any whole sector.
    Rubbish,
}

impl Found {
    /// What 512 bytes at this LBA hold.
    pub fn parse(lba: u64, sector: &[u8]) -> Self {
        if sector.iter().all(|byte| *byte == 0) {
            return Self::Value(Value::Zero);
        }
        match Stamp::parse(sector) {
            Some(Stamp { lba: place, writer, generation }) if place == lba => {
                Self::Value(Value::Written { writer, generation })
            }
            Some(stamp) => Self::Foreign(stamp),
            None => Self::Rubbish,
        }
    }
}

/// A read returned what it must not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Divergence {
    /// The 512-byte sector.
    pub lba: u64,
    /// What it held.
    pub found: Found,
    /// What it might have held.
    pub allowed: Vec<Value>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sector {} held {:?}, but may only hold one of {:?}", self.lba, self.found, self.allowed)
    }
}

/// A read returned data of another length than asked, or past the LUN's end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// A sector's content is wrong.
    #[error(transparent)]
    Divergence(#[from] Divergence),
    /// Bytes that are not the sectors asked for.
    #[error("{found} bytes where {asked} were asked for")]
    Length {
        /// Bytes returned.
        found: usize,
        /// Bytes asked for.
        asked: usize,
    },
}

struct Write {
    sectors: Range<u64>,
    /// Whether GOOD does not promise that it was done (UNMAP may leave sectors as they are).
    advisory: bool,
}

struct Read {
    sectors: Range<u64>,
    begun: u64,
}

/// The model of one LUN.
pub struct ModelDisk {
    sectors: u64,
    initial: Value,
    touched: BTreeMap<u64, Sector>,
    /// Sectors with a value that no flush has covered yet.
    dirty: BTreeSet<u64>,
    writes: BTreeMap<WriteId, Write>,
    reads: BTreeMap<ReadId, Read>,
    flushes: BTreeSet<FlushId>,
    /// Counts what the model is told; the only time it knows.
    clock: u64,
}

impl ModelDisk {
    /// A LUN of so many 512-byte sectors that all hold `initial`, durably: zeros, or a golden image's stamps.
    pub fn new(sectors: u64, initial: Value) -> Self {
        Self {
            sectors,
            initial,
            touched: BTreeMap::new(),
            dirty: BTreeSet::new(),
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            flushes: BTreeSet::new(),
            clock: 0,
        }
    }

    /// 512-byte sectors of the LUN.
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// A write of one value to sectors `lba..lba + sectors` (stamped [`Value::Written`], or [`Value::Zero`] for
    /// WRITE SAME of zeros) was sent.
    pub fn begin_write(&mut self, lba: u64, sectors: u64, value: Value) -> WriteId {
        self.begin(lba..lba + sectors, value, false)
    }

    /// An UNMAP was sent: GOOD means that each sector reads as zeros or as before.
    pub fn begin_unmap(&mut self, lba: u64, sectors: u64) -> WriteId {
        self.begin(lba..lba + sectors, Value::Zero, true)
    }

    fn begin(&mut self, sectors: Range<u64>, value: Value, advisory: bool) -> WriteId {
        let now = self.tick();
        for lba in sectors.clone() {
            self.sector(lba).versions.push(Version::begun(value, now));
            self.dirty.insert(lba);
        }
        self.writes.insert(WriteId(now), Write { sectors, advisory });
        WriteId(now)
    }

    fn sector(&mut self, lba: u64) -> &mut Sector {
        let initial = self.initial;
        self.touched.entry(lba).or_insert_with(|| Sector::new(initial))
    }

    /// The write was answered GOOD; `fua` says that this promised durability.
    pub fn finish_write(&mut self, write: WriteId, fua: bool) {
        let now = self.tick();
        let Some(Write { sectors, advisory }) = self.writes.remove(&write) else { return };
        let horizon = self.horizon();
        for lba in sectors {
            let sector = self.sector(lba);
            if advisory {
                sector.abandon(write.0, now);
            } else {
                sector.finish(write.0, now, fua);
            }
            sector.prune(horizon);
        }
    }

    /// The write ended without GOOD (an error, an abort, a lost connection whose tasks are known to be dead): it was
    /// done, in part done, or not done, but from now on it does nothing more.
    pub fn abandon_write(&mut self, write: WriteId) {
        let now = self.tick();
        let Some(Write { sectors, .. }) = self.writes.remove(&write) else { return };
        for lba in sectors {
            self.sector(lba).abandon(write.0, now);
        }
    }

    /// The write was refused before it could do anything (BUSY, TASK SET FULL, a unit attention, a check of its
    /// arguments): it did and does nothing.
    pub fn refuse_write(&mut self, write: WriteId) {
        let Some(Write { sectors, .. }) = self.writes.remove(&write) else { return };
        for lba in sectors {
            self.sector(lba).versions.retain(|version| version.begun != write.0);
        }
    }

    /// A read was sent.
    pub fn begin_read(&mut self, lba: u64, sectors: u64) -> ReadId {
        let begun = self.tick();
        self.reads.insert(ReadId(begun), Read { sectors: lba..lba + sectors, begun });
        ReadId(begun)
    }

    /// The read was answered GOOD with this data.
    ///
    /// # Errors
    /// The data is none that the read may return.
    pub fn finish_read(&mut self, read: ReadId, data: &[u8]) -> Result<(), CheckError> {
        let now = self.tick();
        let Some(Read { sectors, begun }) = self.reads.remove(&read) else { return Ok(()) };
        let asked = (sectors.end - sectors.start) as usize * SECTOR;
        if data.len() != asked {
            return Err(CheckError::Length { found: data.len(), asked });
        }
        let horizon = self.horizon();
        for (lba, bytes) in sectors.zip(data.chunks_exact(SECTOR)) {
            self.judge(lba, Found::parse(lba, bytes), begun, now)?;
            if let Some(sector) = self.touched.get_mut(&lba) {
                sector.prune(horizon);
            }
        }
        Ok(())
    }

    fn judge(&mut self, lba: u64, found: Found, begun: u64, now: u64) -> Result<(), Divergence> {
        let Some(sector) = self.touched.get_mut(&lba) else {
            if found == Found::Value(self.initial) {
                return Ok(());
            }
            return Err(Divergence { lba, found, allowed: vec![self.initial] });
        };
        let allowed = sector.allowed(begun);
        match found {
            Found::Value(value) if allowed.contains(&value) => {
                sector.observe(value, begun, now);
                Ok(())
            }
            _ => Err(Divergence { lba, found, allowed }),
        }
    }

    /// The read ended without data.
    pub fn abandon_read(&mut self, read: ReadId) {
        self.reads.remove(&read);
    }

    /// A SYNCHRONIZE CACHE of the whole LUN was sent.
    pub fn begin_flush(&mut self) -> FlushId {
        let flush = FlushId(self.tick());
        self.flushes.insert(flush);
        flush
    }

    /// The flush was answered GOOD: what was answered before it was sent is durable.
    pub fn finish_flush(&mut self, flush: FlushId) {
        if !self.flushes.remove(&flush) {
            return;
        }
        let horizon = self.horizon();
        let touched = &mut self.touched;
        self.dirty.retain(|lba| {
            touched.get_mut(lba).is_some_and(|sector| {
                sector.flush(flush.0);
                sector.prune(horizon);
                sector.is_dirty()
            })
        });
    }

    /// The flush ended without GOOD: it promises nothing.
    pub fn abandon_flush(&mut self, flush: FlushId) {
        self.flushes.remove(&flush);
    }

    /// The target was killed, and is known to be dead: everything in flight ended. Nothing that was answered may be
    /// lost.
    pub fn kill(&mut self) {
        let writes: Vec<WriteId> = self.writes.keys().copied().collect();
        for write in writes {
            self.abandon_write(write);
        }
        self.reads.clear();
        self.flushes.clear();
    }

    /// The target's host lost its power: what was answered may be lost unless a flush or FUA covered it.
    pub fn crash(&mut self) {
        self.kill();
        let now = self.tick();
        for sector in self.touched.values_mut() {
            sector.crash(now);
        }
        let touched = &self.touched;
        self.dirty.retain(|lba| touched.get(lba).is_some_and(Sector::is_dirty));
    }

    /// Every value that sector `lba` may read as now.
    pub fn allowed(&self, lba: u64) -> Vec<Value> {
        self.touched.get(&lba).map_or_else(|| vec![self.initial], |sector| sector.allowed(self.clock + 1))
    }

    /// Judges the whole LUN's content, as [`ModelDisk::finish_read`] of all sectors would; nothing may be in flight
    /// that overlaps.
    ///
    /// # Errors
    /// The first sector that is wrong.
    pub fn check_all(&mut self, data: &[u8]) -> Result<(), CheckError> {
        let read = self.begin_read(0, self.sectors);
        self.finish_read(read, data)
    }

    /// Commands in flight.
    pub fn in_flight(&self) -> usize {
        self.writes.len() + self.reads.len() + self.flushes.len()
    }

    /// The time before which no read in flight began.
    fn horizon(&self) -> u64 {
        self.reads.values().map(|read| read.begun).min().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
