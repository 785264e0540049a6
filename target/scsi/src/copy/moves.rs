//! Moving one run of bytes from unit to unit: chunk by chunk, each read before it is written.

use super::copier::Ask;
use super::resolve::Place;

/// A run of bytes that goes from one unit to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    from: Place,
    to: Place,
    from_lba: u64,
    to_lba: u64,
    bytes: u64,
    done: u64,
    chunk: u64,
    /// From its end to its start: source and destination overlap, and what is still to be read must not be overwritten.
    backwards: bool,
}

impl Run {
    /// `bytes` is a whole number of blocks of both units, `chunk` too; the ranges are inside the capacities.
    pub(super) fn new(
        (from, from_lba): (Place, u64),
        (to, to_lba): (Place, u64),
        bytes: u64,
        chunk: u64,
    ) -> Self {
        let backwards = from.unit == to.unit && from_lba < to_lba;
        Self { from, to, from_lba, to_lba, bytes, done: 0, chunk, backwards }
    }

    /// Whether all is written.
    pub(super) fn is_over(&self) -> bool {
        self.done >= self.bytes
    }

    /// Offset and length in bytes of the chunk at hand.
    fn at(&self) -> (u64, u64) {
        let left = self.bytes - self.done;
        let len = left.min(self.chunk);
        (if self.backwards { left - len } else { self.done }, len)
    }

    /// Bytes of the chunk at hand.
    pub(super) fn chunk_bytes(&self) -> u64 {
        self.at().1
    }

    /// READ(16) of the chunk at hand.
    pub(super) fn read(&self) -> Ask {
        let (offset, len) = self.at();
        Ask::of(self.from.unit, block_command(0x88, 0, &self.from, self.from_lba, offset, len))
    }

    /// WRITE(16) of what was read.
    pub(super) fn write(&self) -> Ask {
        let (offset, len) = self.at();
        let ask = Ask::of(self.to.unit, block_command(0x8A, 0, &self.to, self.to_lba, offset, len));
        Ask { writes_read_data: true, ..ask }
    }

    /// WRITE SAME(16) with zeros over the chunk at hand. With `unmap` the blocks may be deallocated.
    pub(super) fn zero(&self, unmap: bool) -> Ask {
        /// NDOB: there is no data-out, and the pattern is zeros.
        const NDOB: u8 = 0x01;
        const UNMAP: u8 = 0x08;
        let (offset, len) = self.at();
        let flags = NDOB | if unmap { UNMAP } else { 0 };
        Ask::of(self.to.unit, block_command(0x93, flags, &self.to, self.to_lba, offset, len))
    }

    /// The chunk at hand is written: on to the next.
    pub(super) fn wrote(&mut self) {
        self.done += self.at().1;
    }
}

fn block_command(opcode: u8, flags: u8, place: &Place, lba: u64, offset: u64, len: u64) -> [u8; 16] {
    let block = u64::from(place.block_size);
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (opcode, flags);
    cdb[2..10].copy_from_slice(&(lba + offset / block).to_be_bytes());
    cdb[10..14].copy_from_slice(&((len / block) as u32).to_be_bytes());
    cdb
}
