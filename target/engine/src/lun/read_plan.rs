//! Which stretches of a file to read, in whole device blocks and few operations, for a list of wanted pieces.

use super::Io;
use super::job::{Direction, Job, Source};
use crate::few::Few;
use crate::payload::{Piece, zero_pieces};
use crate::token::Key;
use stampede_image::align::Alignment;
use stampede_image::scratch::Hold;
use stampede_ring::{Buffer, FileId, IoMemory, Ring};

/// Wanted pieces this near to each other are read by one operation: reading the bytes between costs less than a
/// second operation.
const GAP_MAX: u64 = 16 * 1024;

/// A file that pieces are read from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Store {
    /// The file.
    pub(super) file: FileId,
    /// What direct I/O on it needs.
    pub(super) alignment: Alignment,
    /// Bytes between two wanted pieces that may be read along.
    gap_max: u64,
    /// A byte of the unit's disk, less where it is in the file; modulo 2^64.
    shift: u64,
}

impl Store {
    /// A file that has what the disk has, at the same place.
    pub(super) fn image(file: FileId, alignment: Alignment) -> Self {
        Self { file, alignment, gap_max: GAP_MAX, shift: 0 }
    }

    /// A file that has one disk's pieces among those of others, of which nothing is read along. The piece at byte `start` is
    /// what the disk has at byte `disk`.
    pub(super) fn scratch(file: FileId, start: u64, disk: u64) -> Self {
        let alignment = Alignment { memory: 4096, offset: 4096 };
        Self { file, alignment, gap_max: 0, shift: disk.wrapping_sub(start) }
    }
}

/// One operation: `start..start + len` of a file, of which the first `need` bytes are wanted.
#[derive(Debug, PartialEq, Eq)]
struct Extent {
    file: FileId,
    shift: u64,
    start: u64,
    len: u32,
    need: u32,
}

/// Pieces in the order of the answer, and the reads that bring them.
#[derive(Debug, Default)]
pub(super) struct ReadPlan {
    extents: Few<Extent>,
    sources: Few<Source>,
    /// Keeps blocks of scratch space from being used again until they are read.
    holds: Vec<Hold>,
    /// One of those has too many readers.
    crowded: bool,
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

    /// Keeps a block of scratch space for as long as it is read, if it has not too many readers.
    pub(super) fn hold(&mut self, hold: Option<Hold>) {
        self.crowded |= hold.is_none();
        self.holds.extend(hold);
    }

    /// Adds bytes `start..end` of a file.
    pub(super) fn file(&mut self, store: &Store, start: u64, end: u64) {
        let block = u64::from(store.alignment.offset);
        let most = u64::from(IoMemory::BUFFER_MAX);
        let mut at = start;
        while at < end {
            let of_store = |extent: &Extent| (extent.file, extent.shift) == (store.file, store.shift);
            let joins = self.extents.iter().rposition(of_store).filter(|index| {
                let extent = &self.extents[*index];
                let extent_end = extent.start + u64::from(extent.len);
                at >= extent.start && at < extent.start + most && at <= extent_end + store.gap_max
            });
            let index = joins.unwrap_or_else(|| {
                let (file, shift) = (store.file, store.shift);
                self.extents.push(Extent { file, shift, start: at - at % block, len: 0, need: 0 });
                self.extents.len() - 1
            });
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
    pub(super) fn begin<R: Ring>(self, job: &mut Job, key: Key, io: &mut Io<'_, R>) -> Option<()> {
        if self.crowded {
            return None;
        }
        // Mostly there is one stretch, of which all is wanted.
        if let Few::One(extent) = self.extents {
            let buffer = io.memory.take(extent.len)?;
            extent.read(job, key, buffer, io);
            job.hold(self.holds, io);
            job.sources = self.sources;
            return Some(());
        }
        let buffers: Option<Few<Buffer>> =
            self.extents.iter().map(|extent| io.memory.take(extent.len)).collect();
        for (extent, buffer) in self.extents.iter().zip(buffers?) {
            extent.read(job, key, buffer, io);
        }
        job.hold(self.holds, io);
        job.sources = self.sources;
        Some(())
    }
}

impl Extent {
    fn read<R: Ring>(&self, job: &mut Job, key: Key, buffer: Buffer, io: &mut Io<'_, R>) {
        let place = (Direction::Read, self.file, self.start);
        let index = job.transfer(key, place, (buffer, 0, self.len), self.need, io);
        job.transfers[usize::from(index)].shift = self.shift;
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
            let store = Store::image(FileId(0), Alignment { memory: 1, offset: block });
            let mut plan = ReadPlan::default();
            let mut wanted = Vec::new();
            let mut at = 0;
            for (sectors, gap) in pieces {
                at += gap * 512;
                plan.file(&store, at, at + sectors * 512);
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

    #[test]
    fn of_scratch_space_only_what_is_wanted_is_read_and_what_lies_in_a_row_at_once() {
        let mut plan = ReadPlan::default();
        let image = Store::image(FileId(0), Alignment { memory: 512, offset: 512 });
        // The disk's slots 10 to 12 are blocks 4 to 6, slot 13 is of the image, slot 14 is block 8, slot 15 is block 7.
        for (slot, block) in
            [(10, Some(4)), (11, Some(5)), (12, Some(6)), (13, None), (14, Some(8)), (15, Some(7))]
        {
            let (disk, block) = (slot * 4096, block.map(|block: u64| block * 4096));
            match block {
                Some(start) => plan.file(&Store::scratch(FileId(1), start, disk), start, start + 4096),
                None => plan.file(&image, disk, disk + 4096),
            }
        }
        let found: Vec<_> = plan
            .extents
            .iter()
            .map(|extent| (extent.file.0, extent.start / 4096, extent.len / 4096))
            .collect();
        assert_eq!(found, [(1, 4, 3), (0, 13, 1), (1, 8, 1), (1, 7, 1)]);
        for extent in plan.extents.iter().filter(|extent| extent.file == FileId(1)) {
            let disk = extent.start.wrapping_add(extent.shift) / 4096;
            assert!([(4, 10), (8, 14), (7, 15)].contains(&(extent.start / 4096, disk)));
        }
    }
}
