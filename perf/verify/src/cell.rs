//! What each logical block of the region may hold.

use std::collections::BTreeMap;

use crate::{Op, OpKind, Stamp, StampKind};

/// Versions of one block whose outcome is unknown at once; a block with so many is not changed until it was read.
const DOUBTS_MAX: usize = 3;
/// The longest WRITE SAME that a [`Version`] has room for, logical blocks.
pub(crate) const SAME_BLOCKS_MAX: u32 = 1 << 12;
/// Operations are numbered below this.
pub(crate) const GENERATION_MAX: u64 = (1 << 37) - 1;

const SEEN: u64 = 1 << 61;

/// What one operation made of one block, in 8 bytes, since there are millions of them:
/// kind (2 bits), seen (1), offset within its WRITE SAME (12), length of that less one (12), generation (37).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Version(u64);

/// A [`Version`]'s kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// Nobody wrote it in this run.
    Untouched,
    /// Unmapped, and the unit does not say how that reads.
    Unspecified,
    /// It was accused already; nothing is expected until it is written again.
    Accused,
    /// Zeros.
    Zeros,
    /// Stamped by a WRITE.
    Own,
    /// Stamped by a WRITE SAME that began `offset` blocks before and has `blocks` blocks.
    Same { offset: u32, blocks: u32 },
}

impl Version {
    pub(crate) const UNTOUCHED: Version = Version(0);

    fn new(shape: Shape, generation: u64) -> Version {
        let (kind, detail): (u64, u64) = match shape {
            Shape::Untouched => (0, 0),
            Shape::Unspecified => (0, 1),
            Shape::Accused => (0, 2),
            Shape::Zeros => (1, 0),
            Shape::Own => (2, 0),
            Shape::Same { offset, blocks } => (3, u64::from(offset) << 12 | u64::from(blocks - 1)),
        };
        Version(kind << 62 | detail << 37 | generation)
    }

    /// What `op` makes of the block `index` blocks after its first.
    pub(crate) fn of(op: &Op, index: u32, unmapped_is_zero: bool) -> Version {
        let shape = match op.kind {
            OpKind::Write => Shape::Own,
            OpKind::WriteSame => Shape::Same { offset: index, blocks: op.blocks },
            OpKind::WriteZeros | OpKind::UnmapZeros => Shape::Zeros,
            OpKind::Unmap if unmapped_is_zero => Shape::Zeros,
            OpKind::Unmap | OpKind::Read | OpKind::Sync => Shape::Unspecified,
        };
        Version::new(shape, op.id)
    }

    pub(crate) fn shape(self) -> Shape {
        let detail = (self.0 >> 37 & 0xff_ffff) as u32;
        match (self.0 >> 62, detail) {
            (0, 0) => Shape::Untouched,
            (0, 1) => Shape::Unspecified,
            (0, _) => Shape::Accused,
            (1, _) => Shape::Zeros,
            (2, _) => Shape::Own,
            _ => Shape::Same { offset: detail >> 12, blocks: (detail & 0xfff) + 1 },
        }
    }

    pub(crate) fn generation(self) -> u64 {
        self.0 & GENERATION_MAX
    }

    /// Whether the block was read with this version.
    pub(crate) fn is_seen(self) -> bool {
        self.0 & SEEN != 0
    }

    /// Whether no content in particular is expected.
    pub(crate) fn is_open(self) -> bool {
        self.0 >> 62 == 0
    }

    /// The stamp that sector `sector` of the block `lba` has with this version; `like` gives run, seed and client.
    pub(crate) fn stamp(self, like: &Stamp, lba: u64, sector: usize) -> Option<Stamp> {
        let stamp = Stamp { generation: self.generation(), sector: sector as u16, ..*like };
        match self.shape() {
            Shape::Own => Some(Stamp { lba, blocks: 1, kind: StampKind::Own, ..stamp }),
            Shape::Same { offset, blocks } => {
                Some(Stamp { lba: lba - u64::from(offset), blocks, kind: StampKind::Same, ..stamp })
            }
            _ => None,
        }
    }
}

/// The versions of one block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell<'a> {
    /// What it holds for certain, unless one of `doubts` was done.
    pub(crate) now: Version,
    /// What it held before.
    pub(crate) before: Version,
    /// Operations whose outcome is unknown, oldest first.
    pub(crate) doubts: &'a [Version],
}

impl Cell<'_> {
    /// All that is right, the newest first.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = Version> {
        self.doubts.iter().rev().copied().chain([self.now])
    }
}

/// The versions of all blocks of a region. Blocks are named by their distance from its first.
#[derive(Clone, Debug)]
pub(crate) struct Cells {
    known: Vec<[Version; 2]>,
    doubts: BTreeMap<usize, Vec<Version>>,
}

impl Cells {
    pub(crate) fn new(blocks: usize) -> Self {
        Cells { known: vec![[Version::UNTOUCHED; 2]; blocks], doubts: BTreeMap::new() }
    }

    pub(crate) fn cell(&self, index: usize) -> Cell<'_> {
        let [now, before] = self.known[index];
        let doubts = if self.doubts.is_empty() { None } else { self.doubts.get(&index) };
        Cell { now, before, doubts: doubts.map_or(&[], Vec::as_slice) }
    }

    /// Whether none of the blocks has as many unknown versions as can be told apart.
    pub(crate) fn may_change(&self, mut indices: std::ops::Range<usize>) -> bool {
        self.doubts.is_empty() || indices.all(|index| self.cell(index).doubts.len() < DOUBTS_MAX)
    }

    /// The block holds `version` for certain.
    pub(crate) fn acknowledge(&mut self, index: usize, version: Version) {
        self.doubts.remove(&index);
        let [now, before] = &mut self.known[index];
        *before = *now;
        *now = version;
    }

    /// The block holds what it held, or `version`.
    pub(crate) fn doubt(&mut self, index: usize, version: Version) {
        self.doubts.entry(index).or_default().push(version);
    }

    /// The block was read and holds `version`, one of its candidates.
    pub(crate) fn see(&mut self, index: usize, version: Version) {
        let [now, before] = &mut self.known[index];
        if version != *now {
            *before = *now;
        }
        *now = Version(version.0 | SEEN);
        if !self.doubts.is_empty() {
            self.doubts.remove(&index);
        }
    }

    /// The block is wrong: nothing is expected of it until it is written again.
    pub(crate) fn accuse(&mut self, index: usize) {
        self.doubts.remove(&index);
        let [now, before] = &mut self.known[index];
        (*now, *before) = (Version::new(Shape::Accused, now.generation()), Version::new(Shape::Accused, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_holds_what_was_put_in() {
        let shapes = [
            Shape::Untouched,
            Shape::Unspecified,
            Shape::Accused,
            Shape::Zeros,
            Shape::Own,
            Shape::Same { offset: 4095, blocks: 4096 },
            Shape::Same { offset: 0, blocks: 1 },
        ];
        for shape in shapes {
            for generation in [0, 1, GENERATION_MAX] {
                let version = Version::new(shape, generation);
                assert_eq!(
                    (version.shape(), version.generation(), version.is_seen()),
                    (shape, generation, false)
                );
                let seen = Version(version.0 | SEEN);
                assert_eq!((seen.shape(), seen.generation(), seen.is_seen()), (shape, generation, true));
            }
        }
        assert_eq!(Version::new(Shape::Untouched, 0), Version::UNTOUCHED);
    }
}
