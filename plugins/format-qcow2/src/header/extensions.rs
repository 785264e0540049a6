//! Header extensions (spec: "Header extensions", "String header extensions", "Bitmaps extension").

use alloc::{format, string::String, vec::Vec};

use stampede_plugin::Outcome;

use super::{Header, wrong};
use crate::reader::{Reader, big_endian};

/// The most extensions that are read.
const COUNT_MAX: usize = 256;
/// The longest format's name, in bytes.
const FORMAT_NAME_MAX: u64 = 64;
/// The longest data file's name, in bytes.
const DATA_FILE_NAME_MAX: u64 = 4096;

/// The types of extensions.
pub(crate) mod kind {
    pub(crate) const END: u64 = 0;
    pub(crate) const BACKING_FORMAT: u64 = 0xe279_2aca;
    pub(crate) const FEATURE_NAMES: u64 = 0x6803_f857;
    pub(crate) const BITMAPS: u64 = 0x2385_2875;
    pub(crate) const DATA_FILE: u64 = 0x4441_5441;
}

/// An extension: its type, and where its data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extension {
    /// Its type.
    pub(crate) kind: u64,
    /// Where its data begins, in bytes.
    pub(crate) offset: u64,
    /// How many bytes it has, without padding.
    pub(crate) length: u64,
}

/// Where the directory of bitmaps is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BitmapsAt {
    /// How many there are.
    pub(crate) count: u64,
    /// The directory's first byte.
    pub(crate) offset: u64,
    /// Its length in bytes.
    pub(crate) length: u64,
}

/// The extensions from `start` up to the end mark, or to `limit`.
pub(super) fn list(reader: &mut Reader<'_>, start: u64, limit: u64) -> Outcome<Vec<Extension>> {
    let mut found = Vec::new();
    let mut at = start;
    while at + 8 <= limit {
        let (kind, length) = (reader.word(at, 4)?, reader.word(at + 4, 4)?);
        if kind == kind::END {
            break;
        }
        if length > limit - at - 8 {
            let text =
                format!("header extension {kind:#x} has {length} bytes, {} are left for it", limit - at - 8);
            return Err(wrong(at + 4, text).into());
        }
        if found.len() == COUNT_MAX {
            return Err(wrong(at, format!("there are more than {COUNT_MAX} header extensions")).into());
        }
        found.push(Extension { kind, offset: at + 8, length });
        at += 8 + length.next_multiple_of(8);
    }
    Ok(found)
}

/// Takes what is known from the extensions.
pub(super) fn apply(reader: &mut Reader<'_>, header: &mut Header) -> Outcome<()> {
    for extension in header.extensions.clone() {
        match extension.kind {
            kind::BACKING_FORMAT => {
                header.backing_format = Some(text(reader, extension, "backing format", FORMAT_NAME_MAX)?);
            }
            kind::DATA_FILE if header.layout.data_file() => {
                header.data_file = Some(text(reader, extension, "data file", DATA_FILE_NAME_MAX)?);
            }
            kind::BITMAPS => header.bitmaps = Some(bitmaps(reader, extension)?),
            _ => {}
        }
    }
    Ok(())
}

fn text(reader: &mut Reader<'_>, at: Extension, name: &str, max: u64) -> Outcome<String> {
    if at.length > max {
        return Err(wrong(
            at.offset - 4,
            format!("the {name}'s name has {} bytes, {max} at most", at.length),
        )
        .into());
    }
    let bytes = reader.bytes(at.offset, at.length)?;
    String::from_utf8(bytes)
        .map_err(|_| wrong(at.offset, format!("the {name}'s name is no UTF-8 text")).into())
}

fn bitmaps(reader: &mut Reader<'_>, at: Extension) -> Outcome<BitmapsAt> {
    if at.length < 24 {
        return Err(
            wrong(at.offset - 4, format!("the bitmaps extension has {} bytes, not 24", at.length)).into()
        );
    }
    let bytes = reader.bytes(at.offset, 24)?;
    Ok(BitmapsAt {
        count: big_endian(&bytes[..4]),
        length: big_endian(&bytes[8..16]),
        offset: big_endian(&bytes[16..24]),
    })
}
