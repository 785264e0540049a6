//! What each logical block of the region may hold.

use std::collections::BTreeMap;

use crate::{Op, OpKind, Stamp, StampKind};

/// Versions of one block whose outcome is unknown at once; a block with so many is not changed until it was read.
const DOUBTS_MAX: usize = 3;
/// The longest WRITE SAME that a [`Version`] has room for, logical blocks.
pub(crate) const SAME_BLOCKS_MAX: u32 = 1 << 11;
/// Operations are numbered below this.
pub(crate) const GENERATION_MAX: u64 = (1 << 37) - 1;

const SEEN: u64 = 1 << 61;
const UNMAPPED: u64 = 1 << 60;

/// What one operation made of one block, in 8 bytes, since there are millions of them: kind (2 bits), seen (1),
/// unmapped since (1), unused (1), offset within its WRITE SAME (11), length of that less one (11), generation (37).
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
    /// Zeros, of an UNMAP after the operation that the generation names.
    Unmapped,
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
            Shape::Unmapped => (1, 1),
            Shape::Own => (2, 0),
            Shape::Same { offset, blocks } => (3, u64::from(offset) << 11 | u64::from(blocks - 1)),
        };
        Version(kind << 62 | detail << 37 | generation)
    }

    /// What `op` makes of the block `index` blocks after its first.
    pub(crate) fn of(op: &Op, index: u32) -> Version {
        let shape = match op.kind {
            OpKind::Write => Shape::Own,
            OpKind::WriteSame => Shape::Same { offset: index, blocks: op.blocks },
            OpKind::WriteZeros | OpKind::UnmapZeros => Shape::Zeros,
            OpKind::Unmap | OpKind::Read | OpKind::Sync => Shape::Unspecified,
        };
        Version::new(shape, op.id)
    }

    pub(crate) fn shape(self) -> Shape {
        let detail = (self.0 >> 37 & 0x3f_ffff) as u32;
        match (self.0 >> 62, detail) {
            (0, 0) => Shape::Untouched,
            (0, 1) => Shape::Unspecified,
            (0, _) => Shape::Accused,
            (1, 0) => Shape::Zeros,
            (1, _) => Shape::Unmapped,
            (2, _) => Shape::Own,
            _ => Shape::Same { offset: detail >> 11, blocks: (detail & 0x7ff) + 1 },
        }
    }

    pub(crate) fn generation(self) -> u64 {
        self.0 & GENERATION_MAX
    }

    /// Whether the block was read with this version.
    pub(crate) fn is_seen(self) -> bool {
        self.0 & SEEN != 0
    }

    /// Whether the block was unmapped since, so that it holds this version or zeros.
    pub(crate) fn is_unmapped(self) -> bool {
        self.0 & UNMAPPED != 0
    }

    /// This version after an UNMAP of a unit whose unmapped blocks read as zeros: the target may have done it or not
    /// (SBC-4, UNMAP command). Zeros stay zeros, and where nothing was expected nothing is.
    fn unmapped(self) -> Version {
        match self.shape() {
            Shape::Own | Shape::Same { .. } => Version(self.0 | UNMAPPED),
            Shape::Untouched | Shape::Unspecified | Shape::Accused | Shape::Zeros | Shape::Unmapped => self,
        }
    }

    /// The one or two contents that a block of this version may have, each as a version that has but one.
    pub(crate) fn contents(self) -> impl Iterator<Item = Version> {
        let zeros = self.is_unmapped().then(|| Version::new(Shape::Unmapped, self.generation()));
        zeros.into_iter().chain([Version(self.0 & !UNMAPPED)])
    }

    /// Whether both are of the same operation, with the same content.
    fn is_same(self, other: Version) -> bool {
        (self.0 ^ other.0) & !(SEEN | UNMAPPED) == 0
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
        self.doubts.iter().rev().copied().chain([self.now]).flat_map(Version::contents)
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

    /// The block was unmapped, or not, on a unit whose unmapped blocks read as zeros: it holds what it held, or zeros.
    pub(crate) fn unmap(&mut self, index: usize) {
        let [now, _] = &mut self.known[index];
        *now = now.unmapped();
        if let Some(doubts) = self.doubts.get_mut(&index) {
            doubts.iter_mut().for_each(|doubt| *doubt = doubt.unmapped());
        }
    }

    /// The block was read and holds `version`, one of its candidates.
    pub(crate) fn see(&mut self, index: usize, version: Version) {
        let [now, before] = &mut self.known[index];
        if !version.is_same(*now) {
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
            Shape::Unmapped,
            Shape::Own,
            Shape::Same { offset: SAME_BLOCKS_MAX - 1, blocks: SAME_BLOCKS_MAX },
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

    #[test]
    fn an_unmap_leaves_what_was_or_zeros() {
        for shape in [Shape::Own, Shape::Same { offset: 3, blocks: SAME_BLOCKS_MAX }] {
            let version = Version(Version::new(shape, 9).0 | SEEN);
            let contents: Vec<Version> = version.unmapped().contents().collect();
            assert_eq!(contents, [Version::new(Shape::Unmapped, 9), version]);
            assert!(version.unmapped().is_unmapped() && version.unmapped().is_same(version));
        }
        for shape in [Shape::Untouched, Shape::Unspecified, Shape::Accused, Shape::Zeros, Shape::Unmapped] {
            let version = Version::new(shape, 9);
            assert_eq!(version.unmapped(), version, "{shape:?}");
        }
    }
}
