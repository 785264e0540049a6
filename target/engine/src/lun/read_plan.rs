//! Which stretches of a file to read, in whole device blocks and few operations, for a list of wanted pieces.

use super::Io;
use super::job::{Direction, Job, Source};
use crate::few::Few;
use crate::payload::{Piece, zero_pieces};
use crate::token::Key;
use stampede_image::align::Alignment;
use stampede_ring::{Buffer, FileId, IoMemory, Ring};

/// Wanted pieces this near to each other are read by one operation: reading the bytes between costs less than a
/// second operation.
const GAP_MAX: u64 = 16 * 1024;

/// One operation: `start..start + len` of the file, of which the first `need` bytes are wanted.
#[derive(Debug, PartialEq, Eq)]
struct Extent {
    start: u64,
    len: u32,
    need: u32,
}

/// Pieces in the order of the answer, and the reads that bring them.
#[derive(Debug, Default)]
pub(super) struct ReadPlan {
    extents: Few<Extent>,
    sources: Few<Source>,
}

impl ReadPlan {
    /// Adds bytes that are in memory.
    pub(super) fn ready(&mut self, buffer: Buffer, start: u32, len: u32) {
        self.sources.push(Source::Ready(Piece { buffer, start, len }));
    }

    /// Adds `len` zero bytes.
    pub(super) fn zeros(&mut self, zeros: &Buffer, len: u64) {
        zero_pieces(zeros, len).for_each(|piece| self.sources.push(Source::Ready(piece)));
    }

    /// Adds bytes `start..end` of the file.
    pub(super) fn file(&mut self, alignment: Alignment, start: u64, end: u64) {
        let block = u64::from(alignment.offset);
        let most = u64::from(IoMemory::BUFFER_MAX);
        let mut at = start;
        while at < end {
            let joins = self.extents.last().is_some_and(|extent| {
                let extent_end = extent.start + u64::from(extent.len);
                at >= extent.start && at < extent.start + most && at <= extent_end + GAP_MAX
            });
            if !joins {
                self.extents.push(Extent { start: at - at % block, len: 0, need: 0 });
            }
            let index = self.extents.len() - 1;
            let extent = &mut self.extents[index];
            let until = end.min(extent.start + most);
            let need = (until - extent.start) as u32;
            extent.need = extent.need.max(need);
            let len = u64::from(need).next_multiple_of(block).min(most) as u32;
            extent.len = extent.len.max(len);
            self.sources.push(Source::Transfer {
                index: index as u16,
                start: (at - extent.start) as u32,
                len: (until - at) as u32,
            });
            at = until;
        }
    }

    /// Begins the reads; `None`, and nothing is begun, when buffers are missing.
    pub(super) fn begin<R: Ring>(
        self,
        job: &mut Job,
        key: Key,
        file: FileId,
        io: &mut Io<'_, R>,
    ) -> Option<()> {
        // Mostly there is one stretch, of which all is wanted.
        if let Few::One(extent) = self.extents {
            let buffer = io.memory.take(extent.len)?;
            let place = (Direction::Read, file, extent.start);
            job.transfer(key, place, (buffer, 0, extent.len), extent.need, io);
            job.sources = self.sources;
            return Some(());
        }
        let buffers: Option<Few<Buffer>> =
            self.extents.iter().map(|extent| io.memory.take(extent.len)).collect();
        for (extent, buffer) in self.extents.iter().zip(buffers?) {
            let place = (Direction::Read, file, extent.start);
            job.transfer(key, place, (buffer, 0, extent.len), extent.need, io);
        }
        job.sources = self.sources;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Every wanted byte is in an extent at the place its source says; extents are whole blocks and fit a buffer.
        #[test]
        fn every_wanted_byte_is_read_once_and_found(
            pieces in proptest::collection::vec((1u64..900, 0u64..60), 1..40),
            block in prop_oneof![Just(1u32), Just(512), Just(4096)],
        ) {
            let alignment = Alignment { memory: 1, offset: block };
            let mut plan = ReadPlan::default();
            let mut wanted = Vec::new();
            let mut at = 0;
            for (sectors, gap) in pieces {
                at += gap * 512;
                plan.file(alignment, at, at + sectors * 512);
                wanted.push((at, at + sectors * 512));
                at += sectors * 512;
            }
            let mut found = Vec::new();
            for source in plan.sources.iter() {
                let Source::Transfer { index, start, len } = source else { unreachable!() };
                let extent = &plan.extents[usize::from(*index)];
                prop_assert!(start + len <= extent.need);
                found.push((extent.start + u64::from(*start), extent.start + u64::from(start + len)));
            }
            found.dedup_by(|next, last| last.1 == next.0 && { last.1 = next.1; true });
            wanted.dedup_by(|next, last| last.1 == next.0 && { last.1 = next.1; true });
            prop_assert_eq!(found, wanted);
            for extent in plan.extents.iter() {
                prop_assert!(extent.len <= IoMemory::BUFFER_MAX && extent.need <= extent.len);
                prop_assert_eq!(extent.start % u64::from(block), 0);
                prop_assert_eq!(extent.len % block, 0);
            }
        }
    }
}
