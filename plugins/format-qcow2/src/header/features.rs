//! Incompatible features: the known ones, and the names that an image gives to others (spec: "Feature name table").

use alloc::{format, string::String, vec::Vec};

use stampede_plugin::{Fail, FailKind, FileId, Outcome};

use crate::{
    header::extensions::{self, kind},
    layout::{INCOMPATIBLE_KNOWN, field},
    reader::{Reader, small},
};

const ENTRY: usize = 48;

/// The features' names, as images that are made here carry them: type, bit, name.
const NAMES: [(u8, u8, &str); 8] = [
    (0, 0, "dirty bit"),
    (0, 1, "corrupt bit"),
    (0, 2, "external data file"),
    (0, 3, "compression type"),
    (0, 4, "extended L2 entries"),
    (1, 0, "lazy refcounts"),
    (2, 0, "bitmaps"),
    (2, 1, "raw external data"),
];

/// The feature name table of a new image.
pub(crate) fn name_table() -> Vec<u8> {
    let mut table = Vec::with_capacity(NAMES.len() * ENTRY);
    for (kind, bit, name) in NAMES {
        let start = table.len();
        table.extend_from_slice(&[kind, bit]);
        table.extend_from_slice(name.as_bytes());
        table.resize(start + ENTRY, 0);
    }
    table
}

/// Refuses incompatible features that nobody here knows, by name where the image names them.
pub(super) fn check(
    reader: &mut Reader<'_>,
    header_length: u64,
    cluster: u64,
    features: u64,
) -> Outcome<u64> {
    let unknown = features & !INCOMPATIBLE_KNOWN;
    if unknown == 0 {
        return Ok(features);
    }
    let limit = cluster.min(reader.file_length(FileId::MAIN));
    let names = table_of(reader, header_length, limit)?;
    let named: Vec<String> =
        (0..64_u8).filter(|bit| unknown >> bit & 1 == 1).map(|bit| name_of(&names, bit)).collect();
    let text = format!("the image uses what is not known here: {}", named.join(", "));
    Err(Fail { kind: FailKind::Unsupported, text, at: Some((FileId::MAIN, field::INCOMPATIBLE)) }.into())
}

/// The bytes of the image's own table, if it has one that can be read.
fn table_of(reader: &mut Reader<'_>, header_length: u64, limit: u64) -> Outcome<Vec<u8>> {
    let found = match extensions::list(reader, header_length, limit) {
        Ok(found) => found,
        Err(stampede_plugin::Halt::Fail(_)) => return Ok(Vec::new()),
        Err(need) => return Err(need),
    };
    match found.iter().find(|extension| extension.kind == kind::FEATURE_NAMES) {
        Some(table) => reader.bytes(table.offset, table.length),
        None => Ok(Vec::new()),
    }
}

fn name_of(table: &[u8], bit: u8) -> String {
    let found = table.chunks_exact(ENTRY).find(|entry| entry[0] == 0 && entry[1] == bit);
    let Some(entry) = found else { return format!("incompatible feature bit {bit}") };
    let name = &entry[2..];
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(small(46));
    let clean: String = String::from_utf8_lossy(&name[..end]).chars().filter(|c| !c.is_control()).collect();
    format!("{clean} (incompatible feature bit {bit})")
}
