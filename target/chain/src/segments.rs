//! A map of a disk: which stretch lies where in which image of its chain.

use stampede_plugin::{Absent, Extent, Place, Range, View};

use crate::ChainError;
use crate::chain::{Chain, byte_of_metadata, file_of};
use crate::layer::Layer;

/// A stretch of a disk that lies in one way.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Segment {
    /// Its first byte on the disk.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
    /// In which image of the chain: 0 is the uppermost.
    pub depth: usize,
    /// What is there.
    pub kind: SegmentKind,
    /// The file that has its bytes.
    pub file: Option<String>,
    /// Where in the file they begin, if they lie one after the other.
    pub offset: Option<u64>,
}

/// What a stretch of a disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SegmentKind {
    /// Bytes in a file.
    Data,
    /// Compressed bytes in a file.
    Compressed,
    /// Zeros, by what the images say: nothing was read to find out.
    Zero,
}

impl Chain {
    /// Which stretch of a range lies where, in order, with no gap; neighbours that go on the same way are one.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn segments(&mut self, range: Range) -> Result<Vec<Segment>, ChainError> {
        let mut found = Segments::default();
        let range = Range::between(range.offset, range.end().min(self.virtual_size()));
        walk(&mut self.layers, 0, range, &mut found)?;
        Ok(found.0)
    }
}

#[derive(Default)]
struct Segments(Vec<Segment>);

impl Segments {
    fn push(&mut self, next: Segment) {
        if next.length == 0 {
            return;
        }
        if let Some(last) = self.0.last_mut() {
            let goes_on = last.start + last.length == next.start
                && (last.depth, last.kind, &last.file) == (next.depth, next.kind, &next.file)
                && last.offset.map(|offset| offset + last.length) == next.offset
                && last.kind != SegmentKind::Compressed;
            if goes_on {
                last.length += next.length;
                return;
            }
        }
        self.0.push(next);
    }

    fn zero(&mut self, range: Range, depth: usize) {
        let kind = SegmentKind::Zero;
        self.push(Segment {
            start: range.offset,
            length: range.length,
            depth,
            kind,
            file: None,
            offset: None,
        });
    }
}

fn walk(layers: &mut [Layer], depth: usize, range: Range, found: &mut Segments) -> Result<(), ChainError> {
    let Some((layer, parents)) = layers.split_first_mut() else {
        found.zero(range, depth.saturating_sub(1));
        return Ok(());
    };
    let inside = Range::between(range.offset, range.end().min(layer.opened.virtual_size.max(range.offset)));
    if inside.length > 0 {
        for extent in layer.resolve(View::Active, inside)? {
            walk_extent(layer, parents, depth, &extent, found)?;
        }
    }
    // A disk that grew beyond its parent's end has zeros there.
    found.zero(Range::between(inside.end(), range.end()), depth);
    Ok(())
}

fn walk_extent(
    layer: &mut Layer,
    parents: &mut [Layer],
    depth: usize,
    extent: &Extent,
    found: &mut Segments,
) -> Result<(), ChainError> {
    let Range { offset: start, length } = extent.range;
    match extent.place {
        Place::Zero => found.zero(extent.range, depth),
        Place::Parent => walk(parents, depth + 1, extent.range, found)?,
        Place::Data { file, offset, .. } => {
            let file = Some(file_of(layer, file)?.path.display().to_string());
            found.push(Segment { start, length, depth, kind: SegmentKind::Data, file, offset: Some(offset) });
        }
        Place::Packed { file, .. } => {
            let file = Some(file_of(layer, file)?.path.display().to_string());
            found.push(Segment { start, length, depth, kind: SegmentKind::Compressed, file, offset: None });
        }
        Place::Sparse { file, offset, bitmap, absent } => {
            let name = file_of(layer, file)?.path.display().to_string();
            let unit = u64::from(bitmap.unit.max(512));
            for number in 0..length.div_ceil(unit) {
                let before = number * unit;
                let part = Range { offset: start + before, length: unit.min(length - before) };
                let (at, mask) = bitmap.bit(number);
                if byte_of_metadata(layer, bitmap.file, at)? & mask != 0 {
                    found.push(Segment {
                        start: part.offset,
                        length: part.length,
                        depth,
                        kind: SegmentKind::Data,
                        file: Some(name.clone()),
                        offset: Some(offset + before),
                    });
                } else if absent == Absent::Parent {
                    walk(parents, depth + 1, part, found)?;
                } else {
                    found.zero(part, depth);
                }
            }
        }
    }
    Ok(())
}
