//! Where the blocks of the disk lie.

use alloc::{vec, vec::Vec};

use stampede_plugin::{
    Absent, BitOrder, Bitmap, Extent, Fail, FailKind, FileId, Halt, Outcome, Pages, Place, Range, Span,
};

use crate::{layout::UNUSED, open::Image, sparse::Sparse};

/// Extents from the range's first byte on: whole blocks, and runs of blocks without a place.
pub(crate) fn resolve(
    image: &Image,
    pages: &mut dyn Pages,
    range: Range,
    extents_max: u32,
) -> Outcome<Vec<Extent>> {
    if range.length == 0 || range.end() > image.virtual_size {
        return Err(outside(range, image.virtual_size).into());
    }
    let Some(sparse) = &image.sparse else {
        return Ok(vec![fixed(Range { offset: 0, length: image.virtual_size })]);
    };
    let first = sparse.block_of(range.offset);
    let last = sparse.block_of(range.end() - 1);
    let entries = sparse.entries(pages, first, last - first + 1)?;
    let mut extents: Vec<Extent> = Vec::new();
    let mut missing = Missing::default();
    for (block, entry) in (first..).zip(entries) {
        let absent_too = extents.last().is_some_and(|last| last.place == sparse.absent_place());
        if extents.len() >= extents_max.max(1) as usize && !(entry == UNUSED && absent_too) {
            break;
        }
        match extent(sparse, pages, &mut missing, block, entry)? {
            Some(found) => push(&mut extents, found),
            None if missing.is_full() => break,
            // The place holder keeps the count; the call answers with what is missing.
            None => extents.push(fixed(sparse.range_of(block))),
        }
    }
    missing.none()?;
    Ok(extents)
}

/// An extent of a fixed image.
pub(crate) fn fixed(range: Range) -> Extent {
    Extent { range, place: Place::Data { file: FileId::MAIN, offset: range.offset, in_place: true } }
}

/// A range that is not inside the disk.
pub(crate) fn outside(range: Range, virtual_size: u64) -> Fail {
    let (from, to) = (range.offset, range.end());
    let text = alloc::format!("bytes {from} to {to} are not inside the disk of {virtual_size} bytes");
    Fail::new(FailKind::Invalid, text)
}

/// Adds an extent, to the one before where they are of one kind and have no place.
pub(crate) fn push(extents: &mut Vec<Extent>, extent: Extent) {
    match extents.last_mut() {
        Some(last)
            if last.place == extent.place
                && last.range.end() == extent.range.offset
                && matches!(extent.place, Place::Zero | Place::Parent) =>
        {
            last.range.length += extent.range.length;
        }
        _ => extents.push(extent),
    }
}

/// Pages that were not at hand.
#[derive(Default)]
pub(crate) struct Missing(Vec<Span>);

impl Missing {
    /// Bytes, or `None` when they are to be asked for.
    pub(crate) fn read(&mut self, pages: &mut dyn Pages, span: Span) -> Option<Vec<u8>> {
        let bytes = pages.read(span);
        if bytes.is_none() {
            self.0.push(span);
        }
        bytes
    }

    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= Span::COUNT_MAX
    }

    /// Asks for what is missing, if anything is.
    pub(crate) fn none(mut self) -> Outcome<()> {
        self.0.truncate(Span::COUNT_MAX);
        if self.0.is_empty() { Ok(()) } else { Err(Halt::Need(self.0)) }
    }
}

/// A block's extent, or `None` while its bitmap is missing.
pub(crate) fn extent(
    sparse: &Sparse,
    pages: &mut dyn Pages,
    missing: &mut Missing,
    block: u32,
    entry: u32,
) -> Outcome<Option<Extent>> {
    match sparse.placed(block, entry, pages.file_length(FileId::MAIN))? {
        None => Ok(Some(Extent { range: sparse.range_of(block), place: sparse.absent_place() })),
        Some(sector) => {
            let bitmap = missing.read(pages, sparse.bitmap_span(sector));
            Ok(bitmap.map(|bitmap| sparse.placed_extent(block, sector, &bitmap)))
        }
    }
}

impl Sparse {
    /// The block that has a byte of the disk.
    pub(crate) fn block_of(&self, offset: u64) -> u32 {
        u32::try_from(offset / self.block_bytes()).unwrap_or(u32::MAX)
    }

    /// A block's range of the disk.
    pub(crate) fn range_of(&self, block: u32) -> Range {
        Range { offset: u64::from(block) * self.block_bytes(), length: self.sectors_in(block) * 512 }
    }

    /// Where a block's bytes are that has no place.
    pub(crate) fn absent_place(&self) -> Place {
        if self.differencing { Place::Parent } else { Place::Zero }
    }

    pub(crate) fn bitmap_span(&self, sector: u32) -> Span {
        Span::main(self.place(sector).0, self.bitmap_bytes())
    }

    /// The extent of a block with a place: as a whole in place when all of its sectors are there.
    pub(crate) fn placed_extent(&self, block: u32, sector: u32, bitmap: &[u8]) -> Extent {
        let (bitmap_at, offset, _) = self.place(sector);
        let (file, range) = (FileId::MAIN, self.range_of(block));
        if all_set(bitmap, self.sectors_in(block)) {
            return Extent { range, place: Place::Data { file, offset, in_place: true } };
        }
        let order = BitOrder::MsbFirst;
        let bitmap = Bitmap { file, offset: bitmap_at, first_bit: 0, order, unit: 512 };
        let absent = if self.differencing { Absent::Parent } else { Absent::Zero };
        Extent { range, place: Place::Sparse { file, offset, bitmap, absent } }
    }
}

/// Whether the first `count` bits are set, most significant bit first.
fn all_set(bitmap: &[u8], count: u64) -> bool {
    let whole = usize::try_from(count / 8).unwrap_or(usize::MAX);
    let rest = 0xFF00_u16 >> (count % 8) & 0xFF;
    let Some((bytes, tail)) = bitmap.split_at_checked(whole) else { return false };
    let tail = u16::from(tail.first().copied().unwrap_or(0));
    bytes.iter().all(|&byte| byte == 0xFF) && tail & rest == rest
}
