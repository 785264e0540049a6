//! A plain logical unit: a file or block device of its own.

use super::Io;
use super::job::{Direction, Job};
use super::journal::Journal;
use super::read_plan::{ReadPlan, Store};
use crate::payload::Payload;
use crate::token::Key;
use stampede_image::align::Alignment;
use stampede_image::cipher::Cipher;
use stampede_image::range_lock::ByteRange;
use stampede_ring::{FileId, Ring};
use std::sync::Arc;

/// The file, and what direct I/O on it needs.
pub(crate) struct Disk {
    pub(super) file: FileId,
    pub(super) alignment: Alignment,
    /// The ring does its transfers at once, and they need no more than that.
    pub(super) in_memory: bool,
    /// Where atomic writes are announced.
    pub(super) journal: Option<Box<Journal>>,
    /// There was an atomic write: reads take locks, so that they see all of one or nothing.
    pub(super) isolates: bool,
    /// An atomic write cannot be withdrawn from the journal: nothing may be written any more.
    pub(super) broken: bool,
    /// What its blocks are encrypted with.
    pub(super) cipher: Option<Arc<Cipher>>,
}

impl Disk {
    /// Begins to read a range; `None` when buffers are missing.
    pub(super) fn read<R: Ring>(
        &self,
        job: &mut Job,
        key: Key,
        range: ByteRange,
        io: &mut Io<'_, R>,
    ) -> Option<()> {
        let mut plan = ReadPlan::default();
        plan.file(&Store::image(self.file, self.alignment), range.start, range.end());
        plan.begin(job, key, io)
    }

    /// The whole blocks around a write that direct I/O would not take as it is; `None` for one that it would.
    pub(super) fn around(&self, start: u64, payload: &Payload) -> Option<ByteRange> {
        let range = ByteRange { start, len: payload.len() };
        let memory = self.alignment.memory.min(4096);
        let pieces_fit = payload.0.iter().all(|piece| {
            piece.start.is_multiple_of(memory) && piece.len.is_multiple_of(self.alignment.offset)
        });
        let widened = self.alignment.widen(range)?;
        if widened.is_aligned() && pieces_fit { None } else { Some(widened.block) }
    }

    /// Begins to write what the job has to write.
    pub(super) fn write<R: Ring>(&self, job: &mut Job, key: Key, io: &mut Io<'_, R>) {
        let mut offset = job.write_start;
        for piece in std::mem::take(&mut job.write).0 {
            let len = piece.len;
            let place = (Direction::Write, self.file, offset);
            job.transfer(key, place, (piece.buffer, piece.start, len), len, io);
            offset += u64::from(len);
        }
    }
}
