//! Giving the disk another size.
//!
//! A **fixed** image's footer is only at the file's end. So it grows by powers of two: whichever of its lengths a power cut leaves, the
//! last footer is at the end, or one power of two before it ([`crate::ends`] looks there). All footers on the way tell the old size; the
//! last one tells the new one when everything new is zeros.
//!
//! A **dynamic** image grows by its table: in place where there is room, else by a longer one behind the end. Then the header says so, which
//! is within one sector; then the footers. It gets smaller by the footers first, then blocks lose their places.
//!
//! A **differencing** image has its parent's size.

use alloc::{boxed::Box, format, vec, vec::Vec};

use stampede_plugin::{Fail, FailKind, FileId, Free, JobStep, Outcome, Pages, Step};

use super::{ENTRIES_A_STEP, Running, Stepped, invalid, plan, table_fields, too_many_blocks, unused_entries};
use crate::{
    Names,
    layout::{FOOTER_BYTES, Footer, SECTOR, header_at},
    open::{Image, footer_patch, patch},
    size::{self, Geometry},
    sparse::{ENTRIES_MAX, Sparse, blocks_of},
};

/// Another size to be given.
#[derive(Debug, Clone)]
pub(crate) struct Resize {
    old: Footer,
    new: Footer,
    old_size: u64,
    new_size: u64,
    /// The layout, in dynamic images; its header tells where the table will be.
    sparse: Option<Sparse>,
    /// Where the table is to go; `None` where it has room.
    moves: bool,
    stage: Stage,
}

/// What comes next.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Fixed, larger: the file gets longer by a power of two; the footer whose place is behind is to be zeroed.
    Longer {
        footer_at: u64,
    },
    /// Fixed, larger: the footer tells the new size.
    Tell,
    /// Fixed, smaller: the file is cut behind its new footer.
    Cut,
    /// Fixed, smaller: a footer where the new end will be.
    Shorter,
    /// Dynamic, larger: the rest of the last block is zeroed, and there is room for the table.
    Room,
    /// Dynamic: entries are copied to the new table from this one on.
    Copy(u32),
    /// Dynamic: entries get no place from this one on, as many as the larger of both sizes has.
    Unused(u32),
    /// Dynamic: the header tells of the table.
    Header,
    /// Dynamic: the footer's copy at the beginning tells the size; then the one at the end.
    Front,
    Tail,
}

impl Resize {
    pub(crate) fn of(image: &Image, new_size: u64, shrink: bool) -> Result<Self, Fail> {
        size::check(new_size)?;
        let old_size = image.virtual_size;
        if image.sparse.as_ref().is_some_and(|sparse| sparse.differencing) {
            let text = "a differencing VHD has its parent's size: convert it to a dynamic one first";
            return Err(Fail::new(FailKind::Unsupported, text));
        }
        if new_size < old_size && !shrink {
            let text = format!("the disk has {old_size} bytes; making it smaller gives up what lies behind");
            return Err(invalid(text));
        }
        let geometry = Geometry::for_size(new_size);
        let new = Footer {
            current_size: new_size.into(),
            cylinders: geometry.cylinders.into(),
            heads: geometry.heads,
            sectors_per_track: geometry.sectors_per_track,
            ..image.footer.clone()
        };
        let larger = new_size > old_size;
        let mut resize = Self {
            old: image.footer.clone(),
            new: new.sealed(),
            old_size,
            new_size,
            sparse: image.sparse.clone(),
            moves: false,
            stage: if larger { Stage::Room } else { Stage::Front },
        };
        match &image.sparse {
            Some(sparse) if larger => resize.moves = !has_room(sparse, image, new_size)?,
            Some(_) => {}
            None => {
                resize.stage = if larger { Stage::Longer { footer_at: u64::MAX } } else { Stage::Shorter }
            }
        }
        Ok(resize)
    }

    pub(crate) fn step(&self, pages: &mut dyn Pages, names: &mut Names) -> Stepped {
        if self.new_size == self.old_size {
            return Ok((JobStep::Done(stampede_plugin::Report::default()), None));
        }
        match &self.sparse {
            None => Ok(self.fixed(pages, names)),
            Some(sparse) => self.dynamic(sparse, pages, names),
        }
    }

    fn then(&self, stage: Stage) -> Option<Running> {
        Some(Running::Resize(Box::new(Self { stage, ..self.clone() })))
    }

    fn fixed(&self, pages: &dyn Pages, names: &mut Names) -> (JobStep, Option<Running>) {
        let mut plan = plan(names);
        let (file, length) = (FileId::MAIN, pages.file_length(FileId::MAIN));
        let next = match self.stage {
            Stage::Longer { footer_at } => {
                if footer_at != u64::MAX {
                    plan.meta.push(patch(names, footer_at, vec![0; FOOTER_BYTES as usize]));
                }
                let tail_at = length.next_multiple_of(SECTOR) - SECTOR;
                if footer_at == u64::MAX && tail_at > self.old_size {
                    // Between disk and footer may be anything.
                    let length = tail_at - self.old_size;
                    plan.now.push(Step::Fill { file, offset: self.old_size, length });
                }
                match self.new_size.checked_sub(tail_at).and_then(u64::checked_ilog2) {
                    Some(power) => {
                        let end = tail_at + (1 << power);
                        plan.now.push(Step::SetLength { file, length: end + SECTOR });
                        plan.meta.push(footer_patch(names, &self.old, end));
                        self.then(Stage::Longer { footer_at: tail_at })
                    }
                    None => self.then(Stage::Tell),
                }
            }
            Stage::Tell => {
                plan.meta.push(footer_patch(names, &self.new, length.next_multiple_of(SECTOR) - SECTOR));
                Running::finished()
            }
            Stage::Shorter => {
                plan.meta.push(footer_patch(names, &self.new, self.new_size));
                self.then(Stage::Cut)
            }
            _ => {
                plan.now.push(Step::SetLength { file, length: self.new_size + SECTOR });
                Running::finished()
            }
        };
        (JobStep::Plan(plan), next)
    }

    fn dynamic(&self, sparse: &Sparse, pages: &mut dyn Pages, names: &mut Names) -> Stepped {
        let mut plan = plan(names);
        let (old, new) = (sparse.blocks(), blocks_of(self.new_size, sparse.block_bytes()));
        let larger = new > old || self.new_size > self.old_size;
        let next = match self.stage {
            Stage::Room => {
                plan.now.extend(self.rest_of_last_block(sparse, pages)?);
                if !self.moves {
                    return Ok((JobStep::Plan(plan), self.then(Stage::Unused(old))));
                }
                let table_at = pages.file_length(FileId::MAIN).next_multiple_of(4096);
                let end = (table_at + u64::from(new) * 4).next_multiple_of(SECTOR);
                plan.now.insert(0, Step::SetLength { file: FileId::MAIN, length: end + SECTOR });
                plan.meta.push(footer_patch(names, &self.old, end));
                let mut moved = self.clone();
                if let Some(sparse) = &mut moved.sparse {
                    sparse.header.table_offset = table_at.into();
                }
                moved.then(Stage::Copy(0))
            }
            Stage::Copy(from) => {
                let count = (old - from).min(ENTRIES_A_STEP);
                let mut bytes = Vec::new();
                let table_at = self.old_table_at(pages)?;
                let mut at = from;
                while at < from + count {
                    let length = (from + count - at).min(8192) * 4;
                    let span = stampede_plugin::Span::main(table_at + u64::from(at) * 4, length);
                    bytes.extend(stampede_plugin::PagesExt::bytes(pages, span)?);
                    at += length / 4;
                }
                if !bytes.is_empty() {
                    plan.meta.push(patch(names, sparse.entry_at(from), bytes));
                }
                self.then(if at < old { Stage::Copy(at) } else { Stage::Unused(old) })
            }
            Stage::Unused(from) => {
                let end = old.max(new);
                let at = unused_entries(names, &mut plan, sparse.header.table_offset.get(), from, end);
                if !larger {
                    self.free_blocks(sparse, pages, &mut plan, from, at)?;
                }
                match at < end {
                    true => self.then(Stage::Unused(at)),
                    false if larger => self.then(Stage::Header),
                    false => Running::finished(),
                }
            }
            Stage::Header => {
                let mut header = sparse.header.clone();
                header.max_table_entries = header.max_table_entries.get().max(new).into();
                if self.moves {
                    header.max_table_entries = new.into();
                }
                let fields = table_fields(&header.sealed());
                plan.meta.push(patch(names, sparse.header_at + header_at::TABLE_OFFSET, fields));
                self.then(Stage::Front)
            }
            Stage::Front => {
                plan.meta.push(footer_patch(names, &self.new, 0));
                self.then(Stage::Tail)
            }
            _ => {
                let tail_at = pages.file_length(FileId::MAIN).next_multiple_of(SECTOR) - SECTOR;
                plan.meta.push(footer_patch(names, &self.new, tail_at));
                if larger || new == old { Running::finished() } else { self.then(Stage::Unused(new)) }
            }
        };
        Ok((JobStep::Plan(plan), next))
    }

    /// Where the table is as long as the header was not changed.
    fn old_table_at(&self, pages: &mut dyn Pages) -> Outcome<u64> {
        let header_at = self.sparse.as_ref().map_or(0, |sparse| sparse.header_at);
        stampede_plugin::PagesExt::be64(pages, FileId::MAIN, header_at + header_at::TABLE_OFFSET)
    }

    /// Zeros for what becomes visible of a block that the disk ended in.
    fn rest_of_last_block(&self, sparse: &Sparse, pages: &mut dyn Pages) -> Outcome<Option<Step>> {
        let within = self.old_size % sparse.block_bytes();
        let Some(last) = sparse.blocks().checked_sub(1).filter(|_| within > 0) else { return Ok(None) };
        let entry = sparse.entries(pages, last, 1)?.first().copied().unwrap_or(crate::layout::UNUSED);
        let placed = sparse.placed(last, entry, pages.file_length(FileId::MAIN))?;
        Ok(placed.map(|sector| {
            let (_, data, end) = sparse.place(sector);
            Step::Fill { file: FileId::MAIN, offset: data + within, length: end - (data + within) }
        }))
    }

    /// Gives the space of blocks back that lose their places.
    fn free_blocks(
        &self,
        sparse: &Sparse,
        pages: &mut dyn Pages,
        plan: &mut stampede_plugin::Plan,
        from: u32,
        to: u32,
    ) -> Outcome<()> {
        let after: Vec<_> = plan.meta.iter().map(|patch| patch.id).collect();
        let mut block = from;
        while block < to {
            for entry in sparse.entries(pages, block, to - block)? {
                let placed = sparse.placed(block, entry, pages.file_length(FileId::MAIN))?;
                plan.free.extend(placed.map(|sector| {
                    let (offset, _, end) = sparse.place(sector);
                    let (file, length) = (FileId::MAIN, end - offset);
                    Free { file, offset, length, after: after.clone(), punch: true }
                }));
                block += 1;
            }
        }
        Ok(())
    }
}

/// Whether the table can get as long as the new size wants where it is.
fn has_room(sparse: &Sparse, image: &Image, new_size: u64) -> Result<bool, Fail> {
    let blocks = blocks_of(new_size, sparse.block_bytes());
    if blocks > ENTRIES_MAX {
        return Err(too_many_blocks(blocks.into(), sparse.block_bytes()));
    }
    let table_at = sparse.header.table_offset.get();
    let end = table_at + u64::from(blocks) * 4;
    let sector_end =
        (table_at + u64::from(sparse.header.max_table_entries.get()) * 4).next_multiple_of(SECTOR);
    // Without blocks the footer is next behind the head, or something that nobody knows is.
    let next =
        sparse.head.iter().map(|part| part.0).filter(|start| *start > table_at).chain(image.first_block);
    let last_in_file = image.first_block.is_none_or(|first| first < table_at);
    let room = if last_in_file {
        sector_end
    } else {
        next.filter(|start| *start > table_at).min().unwrap_or(sector_end)
    };
    Ok(end <= room.max(sector_end))
}
