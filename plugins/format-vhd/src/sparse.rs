//! Sparse images: the header, where blocks lie, and what else has a place in the file.

use alloc::{format, string::String, vec::Vec};

use stampede_plugin::{Fail, FailKind, FileId, Outcome, Pages, PagesExt, Span};
use zerocopy::FromBytes;

use crate::{
    ends::Ends,
    layout::{FOOTER_BYTES, HEADER_BYTES, Header, Kind, SECTOR, UNUSED, footer_at, header_at},
    locator, size,
};

/// The largest block that is accepted, in bytes; its bitmap has 64 KiB.
pub(crate) const BLOCK_BYTES_MAX: u32 = 256 << 20;
/// The longest table that is accepted: 2,040 GiB in blocks of 512 KiB. It is looked through as a whole when the image is opened.
pub(crate) const ENTRIES_MAX: u32 = 4 << 20;
/// So many wrong entries are looked at closely: a table may be nothing else.
const WRONG_MAX: usize = 10_000;
/// How many entries are read at once.
const ENTRIES_AT_ONCE: u32 = 8192;

/// The layout of a sparse image.
#[derive(Debug, Clone)]
pub(crate) struct Sparse {
    /// The header.
    pub(crate) header: Header,
    /// Where it is, in bytes.
    pub(crate) header_at: u64,
    /// Whether absent sectors are the parent's.
    pub(crate) differencing: bool,
    /// The size of the disk in bytes.
    pub(crate) virtual_size: u64,
    /// The ranges of the file (first byte, byte behind the last) that footer, header, table and locators have; in order.
    pub(crate) head: Vec<(u64, u64)>,
}

/// A block of the disk that has a place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Placed {
    /// Its entry: where its bitmap begins, in sectors.
    pub(crate) sector: u32,
    /// Its number on the disk.
    pub(crate) block: u32,
}

/// What the table says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Blocks {
    /// Blocks with a sound place, in the file's order.
    pub(crate) placed: Vec<Placed>,
    /// Entries that cannot be, with the reason, up to [`WRONG_MAX`] of them: those without a place first, then those on another block.
    pub(crate) wrong: Vec<(u32, Fail)>,
    /// How many of them there are.
    pub(crate) wrong_count: u64,
}

impl Blocks {
    fn wrong(&mut self, block: u32, fail: Fail) {
        self.wrong_count += 1;
        if self.wrong.len() < WRONG_MAX {
            self.wrong.push((block, fail));
        }
    }
}

impl Sparse {
    /// Reads the header of an image.
    pub(crate) fn read(pages: &mut dyn Pages, ends: &Ends) -> Outcome<Self> {
        let (header_at, header) = read_header(pages, ends)?;
        if header.checksum.get() != header.sum() {
            let text = format!(
                "the header's checksum is {:#010x}, its bytes make {:#010x}",
                header.checksum.get(),
                header.sum()
            );
            return Err(Fail::corrupt(FileId::MAIN, header_at + header_at::CHECKSUM, text).into());
        }
        Self::of(pages, ends, header_at, header)
    }

    /// As [`read`](Self::read), whatever the checksum is. For checks.
    pub(crate) fn of(pages: &dyn Pages, ends: &Ends, header_at: u64, header: Header) -> Outcome<Self> {
        let virtual_size = size::virtual_size(&ends.footer);
        let sparse = Self {
            header,
            header_at,
            differencing: ends.kind == Kind::Differencing,
            virtual_size,
            head: Vec::new(),
        };
        sparse.check_fields()?;
        let head = sparse.head_ranges(pages.file_length(FileId::MAIN))?;
        Ok(Self { head, ..sparse })
    }

    /// Bytes of the disk in a block.
    pub(crate) fn block_bytes(&self) -> u64 {
        self.header.block_size.get().into()
    }

    /// The bitmap before a block's data: a bit for each sector, in whole sectors.
    pub(crate) fn bitmap_bytes(&self) -> u32 {
        self.header.block_size.get().div_ceil(512 * 8).next_multiple_of(512)
    }

    /// How many blocks the disk has.
    pub(crate) fn blocks(&self) -> u32 {
        blocks_of(self.virtual_size, self.block_bytes())
    }

    /// Where a block's entry is, in bytes.
    pub(crate) fn entry_at(&self, block: u32) -> u64 {
        self.header.table_offset.get() + u64::from(block) * 4
    }

    /// Where a placed block's bitmap, its data and its end are, in bytes.
    pub(crate) fn place(&self, sector: u32) -> (u64, u64, u64) {
        let bitmap = u64::from(sector) * SECTOR;
        let data = bitmap + u64::from(self.bitmap_bytes());
        (bitmap, data, data + self.block_bytes())
    }

    /// Sectors of the disk in a block: fewer in the last one of a disk that ends within it.
    pub(crate) fn sectors_in(&self, block: u32) -> u64 {
        let start = u64::from(block) * self.block_bytes();
        self.virtual_size.saturating_sub(start).min(self.block_bytes()) / SECTOR
    }

    fn check_fields(&self) -> Result<(), Fail> {
        let (at, header) = (self.header_at, &self.header);
        let version = header.version.get();
        if version >> 16 != 1 {
            let text =
                format!("header_version is {}.{}; 1.0 is what there is", version >> 16, version & 0xFFFF);
            return Err(at_field(FailKind::Unsupported, at + header_at::VERSION, text));
        }
        let block_size = header.block_size.get();
        if !block_size.is_power_of_two() || block_size < 512 {
            let text = format!("block_size is {block_size}, which is no power of two from 512 on");
            return Err(at_field(FailKind::Corrupt, at + header_at::BLOCK_SIZE, text));
        }
        if block_size > BLOCK_BYTES_MAX {
            let text = format!("block_size is {block_size}; up to {BLOCK_BYTES_MAX} is supported");
            return Err(at_field(FailKind::Unsupported, at + header_at::BLOCK_SIZE, text));
        }
        let (blocks, entries) =
            (self.virtual_size.div_ceil(self.block_bytes()), header.max_table_entries.get());
        if blocks > entries.into() {
            let text = format!(
                "max_table_entries is {entries}, the disk of {} bytes has {blocks} blocks",
                self.virtual_size
            );
            return Err(at_field(FailKind::Corrupt, at + header_at::MAX_TABLE_ENTRIES, text));
        }
        if blocks > ENTRIES_MAX.into() {
            let text = format!(
                "the disk has {blocks} blocks of {block_size} bytes; up to {ENTRIES_MAX} are supported"
            );
            return Err(at_field(FailKind::Unsupported, at + header_at::BLOCK_SIZE, text));
        }
        Ok(())
    }

    /// What the head of the image takes of the file, each part inside it and on no other.
    fn head_ranges(&self, file_length: u64) -> Result<Vec<(u64, u64)>, Fail> {
        let (at, table) = (self.header_at, self.header.table_offset.get());
        let field = at + header_at::TABLE_OFFSET;
        if !table.is_multiple_of(SECTOR) {
            let text = format!("table_offset is {table}, which is no multiple of 512");
            return Err(at_field(FailKind::Corrupt, field, text));
        }
        let table_bytes = u64::from(self.header.max_table_entries.get()) * 4;
        let table_end = table.checked_add(table_bytes).filter(|end| *end <= file_length).ok_or_else(|| {
            let text = format!(
                "max_table_entries is {}: the table of {table_bytes} bytes at byte {table} ends beyond the file, which has {file_length}",
                self.header.max_table_entries.get()
            );
            at_field(FailKind::Corrupt, at + header_at::MAX_TABLE_ENTRIES, text)
        })?;
        let table_end = table_end.next_multiple_of(SECTOR);
        let mut head = Vec::from([(0, FOOTER_BYTES.into()), (at, at + u64::from(HEADER_BYTES))]);
        let mut add = |range: (u64, u64), field: u64, name: &str| {
            if head.iter().any(|other| range.0 < other.1 && other.0 < range.1) {
                let text = format!("{name} (bytes {} to {}) is on other metadata", range.0, range.1);
                return Err(at_field(FailKind::Corrupt, field, text));
            }
            head.push(range);
            Ok(())
        };
        add((table, table_end), field, "the block allocation table")?;
        if self.differencing {
            for (index, range) in locator::ranges(&self.header, at, file_length)? {
                let field = at + header_at::LOCATORS + 24 * index + 16;
                add(range, field, &format!("parent locator {index}"))?;
            }
        }
        head.sort_unstable();
        Ok(head)
    }

    /// The table's entries from `first` on: up to [`ENTRIES_AT_ONCE`] of them.
    pub(crate) fn entries(&self, pages: &mut dyn Pages, first: u32, count: u32) -> Outcome<Vec<u32>> {
        let span = Span::main(self.entry_at(first), count.min(ENTRIES_AT_ONCE) * 4);
        let bytes = pages.bytes(span)?;
        Ok(bytes.as_chunks().0.iter().map(|entry| u32::from_be_bytes(*entry)).collect())
    }

    /// The place that an entry gives, checked: where its bitmap begins, or `None` for a block without one. `data_end` is where blocks must
    /// end, in bytes.
    pub(crate) fn placed(&self, block: u32, entry: u32, data_end: u64) -> Result<Option<u32>, Fail> {
        if entry == UNUSED {
            return Ok(None);
        }
        let (start, _, end) = self.place(entry);
        let wrong = |text| Err(Fail::corrupt(FileId::MAIN, self.entry_at(block), text));
        if end > data_end {
            return wrong(format!(
                "block {block} is at sector {entry} and would end at byte {end}, but blocks end at byte {data_end}: \
                 the file was cut short, or is the first part of a split image (.v01, .v02, ... belong to it)"
            ));
        }
        match self.head.iter().find(|part| start < part.1 && part.0 < end) {
            Some((from, to)) => {
                wrong(format!("block {block} is at sector {entry}, on the metadata at bytes {from} to {to}"))
            }
            None => Ok(Some(entry)),
        }
    }

    /// Looks through the whole table.
    pub(crate) fn all_blocks(&self, pages: &mut dyn Pages, data_end: u64) -> Outcome<Blocks> {
        self.ask_for_table(pages)?;
        let mut found = Blocks::default();
        let mut block = 0;
        while block < self.blocks() {
            for entry in self.entries(pages, block, self.blocks() - block)? {
                match self.placed(block, entry, data_end) {
                    Ok(Some(sector)) => found.placed.push(Placed { sector, block }),
                    Ok(None) => {}
                    Err(fail) => found.wrong(block, fail),
                }
                block += 1;
            }
        }
        found.placed.sort_unstable();
        self.take_out_overlaps(&mut found);
        Ok(found)
    }

    /// Asks for all pieces of the table at once.
    fn ask_for_table(&self, pages: &mut dyn Pages) -> Outcome<()> {
        let spans: Vec<Span> = (0..self.blocks())
            .step_by(ENTRIES_AT_ONCE as usize)
            .map(|first| Span::main(self.entry_at(first), (self.blocks() - first).min(ENTRIES_AT_ONCE) * 4))
            .collect();
        for some in spans.chunks(Span::COUNT_MAX) {
            pages.all_bytes(some)?;
        }
        Ok(())
    }

    /// Of blocks that overlap, the one that comes first in the file keeps its place.
    fn take_out_overlaps(&self, found: &mut Blocks) {
        let mut last: Option<Placed> = None;
        for placed in core::mem::take(&mut found.placed) {
            match last.filter(|last| self.place(last.sector).2 > self.place(placed.sector).0) {
                Some(before) => {
                    let text = format!(
                        "block {} is at sector {}, on block {} at sector {}",
                        placed.block, placed.sector, before.block, before.sector
                    );
                    found.wrong(placed.block, Fail::corrupt(FileId::MAIN, self.entry_at(placed.block), text));
                }
                None => {
                    last = Some(placed);
                    found.placed.push(placed);
                }
            }
        }
    }

    /// Where the last of what the image has ends, in bytes.
    pub(crate) fn used_end(&self, blocks: &Blocks) -> u64 {
        let head = self.head.last().map_or(0, |(_, end)| *end);
        blocks.placed.last().map_or(head, |last| head.max(self.place(last.sector).2))
    }
}

/// How many blocks a disk of so many bytes has; all ones when they are more than can be.
pub(crate) fn blocks_of(virtual_size: u64, block_bytes: u64) -> u32 {
    u32::try_from(virtual_size.div_ceil(block_bytes)).unwrap_or(u32::MAX)
}

/// The header's place and bytes; its cookie is right.
pub(crate) fn read_header(pages: &mut dyn Pages, ends: &Ends) -> Outcome<(u64, Header)> {
    let (at, length) = (ends.footer.data_offset.get(), pages.file_length(FileId::MAIN));
    let field = footer_at::DATA_OFFSET;
    let inside = at.checked_add(HEADER_BYTES.into()).is_some_and(|end| end <= length);
    if !at.is_multiple_of(SECTOR) || at < SECTOR || !inside {
        let text =
            format!("data_offset is {at}, which is no multiple of 512 within the file of {length} bytes");
        return Err(at_field(FailKind::Corrupt, field, text).into());
    }
    let bytes = pages.bytes(Span::main(at, HEADER_BYTES))?;
    match Header::read_from_bytes(&bytes) {
        Ok(header) if header.cookie == Header::COOKIE => Ok((at, header)),
        _ => Err(at_field(
            FailKind::Corrupt,
            at,
            String::from("there is no header (cookie \"cxsparse\"), as data_offset says"),
        )
        .into()),
    }
}

fn at_field(kind: FailKind, at: u64, text: String) -> Fail {
    Fail { kind, text, at: Some((FileId::MAIN, at)) }
}
