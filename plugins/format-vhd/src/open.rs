//! Opening an image, and putting its ends right.

use alloc::{format, string::String, vec, vec::Vec};

use stampede_plugin::{FileId, Identity, MetadataRange, Mode, Opened, Outcome, Pages, Patch, Plan, Step};
use zerocopy::IntoBytes;

use crate::{
    Names,
    ends::{self, Ends},
    layout::{Footer, Kind, SECTOR, unix_time},
    locator, size,
    sparse::{Blocks, Sparse},
};

/// More blocks than this, and their bitmaps are not listed as metadata: what the host is told stays small.
const BITMAPS_LISTED_MAX: usize = 16_384;
/// The unit in which file systems make holes.
const HOLE_BYTES: u32 = 4096;

/// An image that was opened.
#[derive(Debug)]
pub(crate) struct Image {
    /// The footer that counts.
    pub(crate) footer: Footer,
    /// The size of the disk in bytes.
    pub(crate) virtual_size: u64,
    /// How a sparse image lies; `None` for a fixed one.
    pub(crate) sparse: Option<Sparse>,
    /// Where the first block begins, in bytes, if there is one.
    pub(crate) first_block: Option<u64>,
    /// Whether it may be written.
    pub(crate) writable: bool,
    /// What is to be put right before it is written.
    repair: Option<Repair>,
}

/// What is to be put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repair {
    /// The footer is to be written at the beginning too, or not, and at the end, which is there, in bytes.
    Footers { front: bool, tail: u64 },
    /// A fixed image's growth is to be taken back: the file gets this length.
    Cut(u64),
}

impl Image {
    pub(crate) fn kind(&self) -> Kind {
        self.footer.kind().unwrap_or(Kind::Fixed)
    }
}

/// Reads what an image says about itself.
pub(crate) fn open(pages: &mut dyn Pages, mode: Mode) -> Outcome<(Image, Opened)> {
    let ends = ends::look(pages)?;
    match ends.kind {
        Kind::Fixed => fixed(pages, mode, &ends),
        Kind::Dynamic | Kind::Differencing => sparse(pages, mode, &ends),
    }
}

fn fixed(pages: &dyn Pages, mode: Mode, ends: &Ends) -> Outcome<(Image, Opened)> {
    let virtual_size = size::virtual_size(&ends.footer);
    size::check(virtual_size)?;
    let repair = ends.cut_growth.filter(|_| mode == Mode::ReadWrite).map(Repair::Cut);
    let end = pages.file_length(FileId::MAIN);
    let opened = Opened {
        virtual_size,
        block_size: 512,
        allocation_unit: 512,
        unmap_unit: HOLE_BYTES,
        files: Vec::new(),
        parent: None,
        identity: Some(identity(&ends.footer)),
        metadata: ends.tail_at.map(|at| metadata(at, end)).into_iter().collect(),
        needs_recovery: repair.is_some(),
        warnings: warnings(ends, virtual_size),
    };
    let writable = mode == Mode::ReadWrite;
    let footer = ends.footer.clone();
    Ok((Image { footer, virtual_size, sparse: None, first_block: None, writable, repair }, opened))
}

fn sparse(pages: &mut dyn Pages, mode: Mode, ends: &Ends) -> Outcome<(Image, Opened)> {
    let sparse = Sparse::read(pages, ends)?;
    size::check(sparse.virtual_size)?;
    let length = pages.file_length(FileId::MAIN);
    let blocks = sparse.all_blocks(pages, ends.tail_at.unwrap_or(length))?;
    if let Some((_, fail)) = blocks.wrong.first() {
        return Err(fail.clone().into());
    }
    let parent = sparse.differencing.then(|| locator::parent(pages, &sparse)).transpose()?;
    let repair = footer_repair(ends, length, sparse.used_end(&blocks)).filter(|_| mode == Mode::ReadWrite);
    let opened = Opened {
        virtual_size: sparse.virtual_size,
        block_size: 512,
        allocation_unit: sparse.header.block_size.get(),
        unmap_unit: if sparse.differencing { 0 } else { HOLE_BYTES },
        files: Vec::new(),
        parent,
        identity: Some(identity(&ends.footer)),
        metadata: all_metadata(&sparse, &blocks, ends.tail_at),
        needs_recovery: repair.is_some(),
        warnings: warnings(ends, sparse.virtual_size),
    };
    let image = Image {
        footer: ends.footer.clone(),
        virtual_size: sparse.virtual_size,
        first_block: blocks.placed.first().map(|first| sparse.place(first.sector).0),
        sparse: Some(sparse),
        writable: mode == Mode::ReadWrite,
        repair,
    };
    Ok((image, opened))
}

/// Where footers must be written again. The one at the end comes last in the file, behind all that is used, and takes nothing away.
fn footer_repair(ends: &Ends, length: u64, used_end: u64) -> Option<Repair> {
    match ends.tail_at {
        Some(_) if ends.front_sound => None,
        Some(tail) => Some(Repair::Footers { front: true, tail }),
        None => {
            let last_sector = length.saturating_sub(SECTOR).next_multiple_of(SECTOR);
            Some(Repair::Footers { front: !ends.front_sound, tail: last_sector.max(used_end) })
        }
    }
}

/// Puts right what opening found.
pub(crate) fn recover(image: &Image, pages: &dyn Pages, names: &mut Names) -> Plan {
    let mut plan = Plan { token: names.token(), ..Plan::default() };
    let file = FileId::MAIN;
    match image.repair {
        None => {}
        Some(Repair::Cut(length)) => plan.now.push(Step::SetLength { file, length }),
        Some(Repair::Footers { front, tail }) => {
            if pages.file_length(file) != tail + SECTOR {
                plan.now.push(Step::SetLength { file, length: tail + SECTOR });
            }
            plan.meta.push(footer_patch(names, &image.footer, tail));
            if front {
                plan.meta.push(footer_patch(names, &image.footer, 0));
            }
        }
    }
    plan
}

/// Writes a footer, after nothing.
pub(crate) fn footer_patch(names: &mut Names, footer: &Footer, at: u64) -> Patch {
    patch(names, at, footer.as_bytes().to_vec())
}

/// Writes bytes, after nothing.
pub(crate) fn patch(names: &mut Names, offset: u64, bytes: Vec<u8>) -> Patch {
    let (id, file) = (names.patch(), FileId::MAIN);
    Patch { id, file, offset, bytes, after: Vec::new(), after_data: false, lazy: false }
}

pub(crate) fn metadata(from: u64, to: u64) -> MetadataRange {
    MetadataRange { file: FileId::MAIN, offset: from, length: to.saturating_sub(from) }
}

fn all_metadata(sparse: &Sparse, blocks: &Blocks, tail_at: Option<u64>) -> Vec<MetadataRange> {
    let mut ranges: Vec<_> = sparse.head.iter().map(|part| metadata(part.0, part.1)).collect();
    ranges.extend(tail_at.map(|at| metadata(at, at + SECTOR)));
    if blocks.placed.len() <= BITMAPS_LISTED_MAX {
        ranges.extend(blocks.placed.iter().map(|placed| {
            let (bitmap, data, _) = sparse.place(placed.sector);
            metadata(bitmap, data)
        }));
    }
    ranges
}

/// The image's own identity.
pub(crate) fn identity(footer: &Footer) -> Identity {
    Identity { id: footer.uuid, time: Some(unix_time(footer.timestamp.get())) }
}

fn warnings(ends: &Ends, virtual_size: u64) -> Vec<String> {
    let mut warnings = vec![];
    if ends.footer.saved_state != 0 {
        warnings.push(String::from(
            "The image goes with a machine's saved state, which does not fit any more once the image is written.",
        ));
    }
    if ends.footer.current_size.get() != virtual_size {
        let creator = ends.footer.creator_app.escape_ascii();
        let size = ends.footer.current_size.get();
        warnings.push(format!(
            "The disk has {virtual_size} bytes by its geometry, as its creator ({creator}) means it; its size field says {size}."
        ));
    }
    if !ends.front_sound {
        warnings.push(String::from(
            "The footer's copy at the beginning of the file is damaged; the one at the end is used.",
        ));
    }
    match (ends.tail_at, ends.cut_growth) {
        (_, Some(_)) => warnings.push(String::from("A power cut ended its growth, which is taken back.")),
        (None, None) => warnings.push(String::from(
            "The footer at the end of the file is missing or differs; the copy at the beginning is used.",
        )),
        _ => {}
    }
    warnings
}
