//! Where the blocks of a disk lie, as far as its plugin was asked.

use std::collections::BTreeMap;

use smallvec::SmallVec;
use stampede_plugin::{Extent, Place, Range};

/// Where blocks lie: extents that do not overlap, by their first byte. Neighbours whose bytes go on the same way are one extent, so a golden that
/// was written in one go costs a few entries, and a clone about one for each stretch of its own.
#[derive(Debug)]
pub struct ExtentMap {
    /// First byte to length and place.
    extents: BTreeMap<u64, (u64, Place)>,
    extents_max: usize,
}

/// A part of a range that was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// It lies so.
    Known(Extent),
    /// The plugin must be asked.
    Unknown(Range),
}

impl ExtentMap {
    /// A map that knows nothing yet and never knows more than so many extents: when it would, it forgets all and is asked anew.
    #[must_use]
    pub fn new(extents_max: usize) -> Self {
        Self { extents: BTreeMap::new(), extents_max: extents_max.max(1) }
    }

    /// How many extents it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.extents.len()
    }

    /// Whether it knows nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.extents.clear();
    }

    /// The range, piece by piece, with no gap.
    #[must_use]
    pub fn pieces(&self, range: Range) -> SmallVec<[Piece; 2]> {
        let mut pieces = SmallVec::new();
        let mut at = range.offset;
        for extent in self.touching(range) {
            if extent.range.offset > at {
                pieces.push(Piece::Unknown(Range::between(at, extent.range.offset)));
            }
            let part =
                Range::between(extent.range.offset.max(range.offset), extent.range.end().min(range.end()));
            pieces.push(Piece::Known(extent.cut(part)));
            at = part.end();
        }
        if at < range.end() {
            pieces.push(Piece::Unknown(Range::between(at, range.end())));
        }
        pieces
    }

    /// Learns an extent, in place of what it knew of its range.
    pub fn insert(&mut self, extent: Extent) {
        if extent.range.length == 0 {
            return;
        }
        if self.extents.len() >= self.extents_max {
            self.extents.clear();
        }
        self.forget(extent.range);
        let mut whole = extent;
        if let Some(before) = self.ending_at(extent.range.offset)
            && let Some(joined) = before.join(&whole)
        {
            self.extents.remove(&before.range.offset);
            whole = joined;
        }
        if let Some(&(length, place)) = self.extents.get(&extent.range.end()) {
            let next = Extent { range: Range { offset: extent.range.end(), length }, place };
            if let Some(joined) = whole.join(&next) {
                self.extents.remove(&next.range.offset);
                whole = joined;
            }
        }
        self.extents.insert(whole.range.offset, (whole.range.length, whole.place));
    }

    /// Forgets what it knew of a range.
    pub fn forget(&mut self, range: Range) {
        let touched: SmallVec<[Extent; 4]> = self.touching(range).collect();
        for extent in touched {
            self.extents.remove(&extent.range.offset);
            let before = Range::between(extent.range.offset, range.offset);
            let after = Range::between(range.end().max(extent.range.offset), extent.range.end());
            for part in [before, after].into_iter().filter(|part| part.length > 0) {
                let part = extent.cut(part);
                self.extents.insert(part.range.offset, (part.range.length, part.place));
            }
        }
    }

    /// The extents that a range touches, in order.
    fn touching(&self, range: Range) -> impl Iterator<Item = Extent> + '_ {
        let first = self
            .extents
            .range(..=range.offset)
            .next_back()
            .filter(|(at, (length, _))| *at + length > range.offset);
        let start = first.map_or(range.offset, |(at, _)| *at);
        // An empty range touches nothing, and a BTreeMap does not take a range that ends before it begins.
        let end = if range.length == 0 { start } else { range.end() };
        self.extents
            .range(start..end.max(start))
            .map(|(&offset, &(length, place))| Extent { range: Range { offset, length }, place })
    }

    /// The extent that ends just before a byte.
    fn ending_at(&self, at: u64) -> Option<Extent> {
        let (&offset, &(length, place)) = self.extents.range(..at).next_back()?;
        (offset + length == at).then_some(Extent { range: Range { offset, length }, place })
    }
}
