//! How changes are made.

use alloc::{format, vec, vec::Vec};

use stampede_plugin::{
    Change, Extent, Fail, FailKind, FileId, Outcome, Pages, Patch, PatchId, Plan, Range, Step,
};

use crate::{
    Names,
    layout::{Footer, SECTOR, UNUSED},
    open::{Image, footer_patch, metadata, patch},
    resolve::{Missing, fixed, outside, push},
    sparse::Sparse,
};

/// A plan is for so many blocks at most; the host's own limits on a command's length come long before.
const BLOCKS_MAX: u32 = 16_384;
/// Data of new blocks begins at multiples of this, in bytes.
const ALIGN: u64 = 4096;

/// Plans a change of these ranges.
pub(crate) fn plan(
    image: &Image,
    pages: &mut dyn Pages,
    names: &mut Names,
    ranges: &[Range],
    change: Change,
) -> Outcome<Plan> {
    if !image.writable {
        return Err(Fail::new(FailKind::ReadOnly, "the image was opened read-only").into());
    }
    if let Some(&range) = ranges.iter().find(|range| range.length == 0 || range.end() > image.virtual_size) {
        return Err(outside(range, image.virtual_size).into());
    }
    match &image.sparse {
        None => Ok(plan_fixed(names, ranges, change)),
        Some(sparse) => plan_sparse(sparse, &image.footer, pages, names, ranges, change),
    }
}

fn plan_fixed(names: &mut Names, ranges: &[Range], change: Change) -> Plan {
    let steps = ranges.iter().map(|range| step(*range, range.offset, change));
    Plan {
        token: names.token(),
        now: steps.collect(),
        map: ranges.iter().copied().map(fixed).collect(),
        ..Plan::default()
    }
}

/// What brings a range's new bytes to where they belong.
fn step(range: Range, offset: u64, change: Change) -> Step {
    let (file, length) = (FileId::MAIN, range.length);
    match change {
        Change::Data => Step::Put { guest: range.offset, length, file, offset },
        // An unmapped range stays its block's: zeros, which the host may make by a hole.
        Change::Zero | Change::Unmap => Step::Fill { file, offset, length },
    }
}

/// The parts of a change that fall into one block.
struct Parts {
    block: u32,
    ranges: Vec<Range>,
    /// The table's entry.
    entry: u32,
}

fn plan_sparse(
    sparse: &Sparse,
    footer: &Footer,
    pages: &mut dyn Pages,
    names: &mut Names,
    ranges: &[Range],
    change: Change,
) -> Outcome<Plan> {
    let mut parts = split(sparse, ranges)?;
    fill_entries(sparse, pages, &mut parts)?;
    let mut plan = Plan { token: names.token(), ..Plan::default() };
    let mut missing = Missing::default();
    let mut new = Vec::new();
    for part in &parts {
        let placed = sparse.placed(part.block, part.entry, pages.file_length(FileId::MAIN))?;
        match placed {
            Some(sector) => {
                let Some(bitmap) = missing.read(pages, sparse.bitmap_span(sector)) else {
                    if missing.is_full() { break } else { continue }
                };
                old_block(sparse, names, &mut plan, part, sector, bitmap, change);
            }
            None if change == Change::Data || (sparse.differencing && change == Change::Zero) => {
                new.push(part)
            }
            None => push(&mut plan.map, absent(sparse, part.block)),
        }
    }
    missing.none()?;
    new_blocks(sparse, footer, pages, names, &mut plan, &new, change)?;
    plan.map.sort_by_key(|extent| extent.range.offset);
    Ok(plan)
}

fn absent(sparse: &Sparse, block: u32) -> Extent {
    Extent { range: sparse.range_of(block), place: sparse.absent_place() }
}

/// Cuts ranges at the borders of blocks.
fn split(sparse: &Sparse, ranges: &[Range]) -> Result<Vec<Parts>, Fail> {
    let mut parts: Vec<Parts> = Vec::new();
    for &range in ranges {
        let mut at = range.offset;
        while at < range.end() {
            let block = sparse.block_of(at);
            let part = Range::between(at, range.end().min(sparse.range_of(block).end()));
            at = part.end();
            let count = parts.len();
            match parts.last_mut() {
                Some(last) if last.block == block => last.ranges.push(part),
                _ if count >= BLOCKS_MAX as usize => {
                    let text = format!("a change of more than {BLOCKS_MAX} blocks at once: make it in parts");
                    return Err(Fail::new(FailKind::Invalid, text));
                }
                _ => parts.push(Parts { block, ranges: vec![part], entry: UNUSED }),
            }
        }
    }
    Ok(parts)
}

/// Reads the table's entries of all parts.
fn fill_entries(sparse: &Sparse, pages: &mut dyn Pages, parts: &mut [Parts]) -> Outcome<()> {
    let mut missing = Missing::default();
    for run in parts.chunk_by_mut(|one, next| one.block + 1 == next.block && !next.block.is_multiple_of(1024))
    {
        let first = run.first().map_or(0, |part| part.block);
        let length = u32::try_from(run.len()).unwrap_or(u32::MAX).saturating_mul(4);
        let span = stampede_plugin::Span::main(sparse.entry_at(first), length);
        if let Some(bytes) = missing.read(pages, span) {
            for (part, entry) in run.iter_mut().zip(bytes.as_chunks().0) {
                part.entry = u32::from_be_bytes(*entry);
            }
        }
    }
    missing.none()
}

/// A change of a block that has a place: the data, then, when that is durable, the bits of its sectors.
fn old_block(
    sparse: &Sparse,
    names: &mut Names,
    plan: &mut Plan,
    part: &Parts,
    sector: u32,
    mut bitmap: Vec<u8>,
    change: Change,
) {
    // A differencing image's sector cannot be given back: it would be the parent's again.
    let ignored = change == Change::Unmap && sparse.differencing;
    // A dynamic image's absent sectors are zeros already; they are zeroed nevertheless, for readers that do not look at bitmaps.
    let marks = change == Change::Data || (change == Change::Zero && sparse.differencing);
    let (bitmap_at, data_at, _) = sparse.place(sector);
    let start = sparse.range_of(part.block).offset;
    for &range in part.ranges.iter().filter(|_| !ignored) {
        plan.now.push(step(range, data_at + (range.offset - start), change));
        if marks && let Some((at, bytes)) = set_bits(&mut bitmap, range.offset - start, range.length) {
            let patch = patch(names, bitmap_at + at, bytes);
            plan.meta.push(Patch { after_data: true, ..patch });
        }
    }
    plan.map.push(sparse.placed_extent(part.block, sector, &bitmap));
}

/// Sets the bits of a range of a block, in bytes from its beginning. What changed: the first byte's place, and the bytes.
fn set_bits(bitmap: &mut [u8], offset: u64, length: u64) -> Option<(u64, Vec<u8>)> {
    let mut changed: Option<(usize, usize)> = None;
    for number in offset / SECTOR..(offset + length) / SECTOR {
        let index = usize::try_from(number / 8).ok()?;
        let byte = bitmap.get_mut(index)?;
        let with = *byte | 0x80 >> (number % 8);
        if *byte != with {
            *byte = with;
            changed = Some((changed.map_or(index, |(first, _)| first), index));
        }
    }
    let (first, last) = changed?;
    Some((first as u64, bitmap[first..=last].to_vec()))
}

/// Gives blocks their places, behind the end of the file as it is.
fn new_blocks(
    sparse: &Sparse,
    footer: &Footer,
    pages: &dyn Pages,
    names: &mut Names,
    plan: &mut Plan,
    parts: &[&Parts],
    change: Change,
) -> Result<(), Fail> {
    if parts.is_empty() {
        return Ok(());
    }
    // The old footer stays where it is: whichever length of the file a power cut leaves, a footer is at its end, or zeros.
    let mut end = pages.file_length(FileId::MAIN).next_multiple_of(SECTOR);
    let mut placed = Vec::new();
    for part in parts {
        let data = (end + u64::from(sparse.bitmap_bytes())).next_multiple_of(ALIGN);
        let bitmap_at = data - u64::from(sparse.bitmap_bytes());
        let sector = sector_of(bitmap_at)?;
        end = data + sparse.block_bytes();
        let bitmap = new_bitmap(sparse, part);
        if change == Change::Data {
            let start = sparse.range_of(part.block).offset;
            plan.now
                .extend(part.ranges.iter().map(|range| step(*range, data + (range.offset - start), change)));
        }
        plan.map.push(sparse.placed_extent(part.block, sector, &bitmap));
        plan.protect.push(metadata(bitmap_at, data));
        let patch = patch(names, bitmap_at, bitmap);
        placed.push((part.block, sector, patch.id));
        plan.meta.push(patch);
    }
    plan.now.insert(0, Step::SetLength { file: FileId::MAIN, length: end + SECTOR });
    plan.protect.push(metadata(end, end + SECTOR));
    let patch = footer_patch(names, footer, end);
    let footer_id = patch.id;
    plan.meta.push(patch);
    for (block, sector, bitmap_id) in placed {
        plan.meta.push(entry_patch(sparse, names, block, sector, [bitmap_id, footer_id]));
    }
    Ok(())
}

/// The bitmap of a new block: all sectors in a dynamic image, since they are the zeros that the file's new length made.
fn new_bitmap(sparse: &Sparse, part: &Parts) -> Vec<u8> {
    let length = sparse.bitmap_bytes() as usize;
    if !sparse.differencing {
        return vec![0xFF; length];
    }
    let mut bitmap = vec![0; length];
    let start = sparse.range_of(part.block).offset;
    for range in &part.ranges {
        set_bits(&mut bitmap, range.offset - start, range.length);
    }
    bitmap
}

/// Publishes a block, when all that it rests on is durable.
fn entry_patch(sparse: &Sparse, names: &mut Names, block: u32, sector: u32, after: [PatchId; 2]) -> Patch {
    let patch = patch(names, sparse.entry_at(block), sector.to_be_bytes().to_vec());
    Patch { after: after.to_vec(), after_data: true, ..patch }
}

/// A place in the file as the table has it.
fn sector_of(offset: u64) -> Result<u32, Fail> {
    u32::try_from(offset / SECTOR).ok().filter(|sector| *sector != UNUSED).ok_or_else(|| {
        let text =
            format!("a block at byte {offset} is beyond what the block allocation table can say (2 TiB)");
        Fail::new(FailKind::NoSpace, text)
    })
}
