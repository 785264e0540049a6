//! Making an image.

use alloc::{boxed::Box, format, string::String, vec::Vec};

use stampede_plugin::{Created, Fail, FailKind, FileId, JobStep, Step};
use zerocopy::IntoBytes;

use super::{Running, invalid, plan, too_many_blocks, unused_entries};
use crate::{
    Names, kind_of,
    layout::{FOOTER_BYTES, Footer, HEADER_BYTES, Header, Kind, SECTOR, new_footer, timestamp},
    locator::Written,
    open::{footer_patch, patch},
    size::{self, Geometry},
    sparse::{BLOCK_BYTES_MAX, ENTRIES_MAX, blocks_of},
};

const BLOCK_BYTES_MIN: u32 = 4096;
const BLOCK_BYTES_DEFAULT: u32 = 2 << 20;
/// The table is behind footer and header.
const TABLE_AT: u64 = FOOTER_BYTES as u64 + HEADER_BYTES as u64;

/// A name of the parent with its place in the file.
type PlacedName = (u64, Vec<u8>);

/// An image to be made.
#[derive(Debug, Clone)]
pub(crate) struct Create {
    footer: Footer,
    /// A sparse image's header and the bytes of its locators, each with its place.
    sparse: Option<(Header, Vec<PlacedName>)>,
    /// Where the footer at the end is.
    tail_at: u64,
    /// Table entries written so far.
    entries: u32,
    begun: bool,
}

impl Create {
    pub(crate) fn of(created: Created) -> Result<Self, Fail> {
        let size = created.virtual_size;
        size::check(size)?;
        let options = Options::of(&created)?;
        let time = created.identity.time.map_or(0, timestamp);
        let footer = new_footer(options.kind, created.identity.id, time, size, Geometry::for_size(size));
        if options.kind == Kind::Fixed {
            return Ok(Self { footer, sparse: None, tail_at: size, entries: 0, begun: false });
        }
        let blocks = blocks_of(size, options.block_size.into());
        if blocks > ENTRIES_MAX {
            return Err(too_many_blocks(blocks.into(), options.block_size.into()));
        }
        let mut header = Header::empty();
        header.table_offset = TABLE_AT.into();
        header.max_table_entries = blocks.into();
        header.block_size = options.block_size.into();
        let mut at = (TABLE_AT + u64::from(blocks) * 4).next_multiple_of(SECTOR);
        let mut names = Vec::new();
        if let Some(parent) = &created.parent {
            if parent.virtual_size.is_some_and(|parent| parent != size) {
                return Err(invalid("a differencing VHD has just its parent's size"));
            }
            if parent.identity.is_none() {
                return Err(invalid("a differencing VHD records its parent's UUID, and none is given"));
            }
            let written = Written::of(parent)?;
            written.put(&mut header, at);
            for (_, name) in written.names {
                let end = at + (name.len() as u64).next_multiple_of(SECTOR);
                names.push((at, name));
                at = end;
            }
        }
        Ok(Self { footer, sparse: Some((header.sealed(), names)), tail_at: at, entries: 0, begun: false })
    }

    pub(crate) fn step(&self, names: &mut Names) -> (JobStep, Option<Running>) {
        let mut plan = plan(names);
        let mut next = Self { begun: true, ..self.clone() };
        let entries = self.sparse.as_ref().map_or(0, |(header, _)| header.max_table_entries.get());
        if !self.begun {
            plan.now.push(Step::SetLength { file: FileId::MAIN, length: self.tail_at + SECTOR });
        }
        if self.entries < entries {
            next.entries = unused_entries(names, &mut plan, TABLE_AT, self.entries, entries);
            return (JobStep::Plan(plan), Some(Running::Create(Box::new(next))));
        }
        if let Some((header, locators)) = &self.sparse {
            plan.meta.push(footer_patch(names, &self.footer, 0));
            plan.meta.push(patch(names, SECTOR, header.as_bytes().to_vec()));
            plan.meta.extend(locators.iter().map(|(at, name)| patch(names, *at, name.clone())));
        }
        plan.meta.push(footer_patch(names, &self.footer, self.tail_at));
        (JobStep::Plan(plan), Running::finished())
    }
}

/// What the options say.
struct Options {
    kind: Kind,
    block_size: u32,
}

impl Options {
    fn of(created: &Created) -> Result<Self, Fail> {
        let parent = created.parent.is_some();
        let mut kind = if parent { Kind::Differencing } else { Kind::Dynamic };
        let mut block_size = None;
        for (name, value) in &created.options {
            match name.as_str() {
                "type" => {
                    kind = kind_of(value).ok_or_else(|| {
                        invalid(format!("option type={value}: it is fixed, dynamic or differencing"))
                    })?;
                }
                "block_size" => block_size = Some(bytes_of(value)?),
                _ => return Err(invalid(format!("option {name}: a VHD has type and block_size"))),
            }
        }
        match (kind, parent) {
            (Kind::Differencing, false) => {
                return Err(invalid("option type=differencing: it needs a parent"));
            }
            (Kind::Fixed | Kind::Dynamic, true) => {
                let text = format!("option type={}: an image with a parent is differencing", kind.name());
                return Err(invalid(text));
            }
            (Kind::Fixed, _) if block_size.is_some() => {
                return Err(Fail::new(FailKind::Invalid, "option block_size: a fixed VHD has no blocks"));
            }
            _ => {}
        }
        Ok(Self { kind, block_size: block_size.unwrap_or(BLOCK_BYTES_DEFAULT) })
    }
}

/// A block size: bytes, or with K or M.
fn bytes_of(value: &str) -> Result<u32, Fail> {
    let upper: String = value.to_ascii_uppercase();
    let (digits, unit) = match upper.strip_suffix('K') {
        Some(digits) => (digits, 1 << 10),
        None => upper.strip_suffix('M').map_or((upper.as_str(), 1), |digits| (digits, 1 << 20)),
    };
    let bytes = digits.parse::<u32>().ok().and_then(|number| number.checked_mul(unit));
    bytes
        .filter(|bytes| bytes.is_power_of_two() && (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(bytes))
        .ok_or_else(|| invalid(format!("option block_size={value}: it is a power of two from 4K to 256M")))
}
