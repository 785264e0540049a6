//! The parent's names: which there are, and how each is written ("Parent Locator Entry").
//!
//! | code | what it is | how it is written |
//! |---|---|---|
//! | `W2ru` | path from the image's folder | UTF-16, least significant byte first, `\` between parts |
//! | `W2ku` | path from the root | likewise |
//! | `Wi2r`, `Wi2k` | the same two, of old | bytes of an 8-bit character set |
//! | `MacX` | `file:` URL | UTF-8, `%` escapes |
//! | `Mac ` | alias record | binary; the file's name is in it |
//!
//! To the host names are given with `/` between their parts; it judges them.

use alloc::{format, string::String, vec::Vec};

use stampede_plugin::{Fail, FailKind, FileId, Outcome, Pages, PagesExt, ParentHint, ParentRef, Span};

use crate::{
    layout::{Header, Locator, SECTOR, header_at, timestamp, unix_time},
    sparse::Sparse,
    text,
};

/// The longest name that is accepted, in bytes: no system has longer paths.
const LENGTH_MAX: u32 = 64 << 10;

const RELATIVE: &str = "relative";
const ABSOLUTE: &str = "absolute";

/// A locator's number, and the range of the file that its name has: first byte, byte behind the last.
pub(crate) type Located = (u64, (u64, u64));
/// A locator's code and its name's bytes.
pub(crate) type Name = ([u8; 4], Vec<u8>);

/// Where the names are that locators point at: locator's number and range of the file, in bytes, each inside the file.
pub(crate) fn ranges(header: &Header, header_at: u64, file_length: u64) -> Result<Vec<Located>, Fail> {
    let mut ranges = Vec::new();
    for (index, locator) in (0..).zip(&header.locators) {
        let (offset, length) = (locator.data_offset.get(), locator.data_length.get());
        if locator.platform == [0; 4] || length == 0 {
            continue;
        }
        let at = header_at + header_at::LOCATORS + 24 * index;
        let wrong = |field, text| Err(Fail::corrupt(FileId::MAIN, at + field, text));
        // A number of sectors says the specification, and many writers put bytes.
        let space = u64::from(locator.data_space.get()) * 512;
        if length > LENGTH_MAX || u64::from(length) > space {
            return wrong(
                8,
                format!(
                    "parent locator {index}: data_length is {length}; its space has {space} bytes, and {LENGTH_MAX} is the limit"
                ),
            );
        }
        match offset.checked_add(length.into()) {
            Some(end) if end <= file_length => ranges.push((index, (offset, end.next_multiple_of(SECTOR)))),
            _ => {
                let text = format!(
                    "parent locator {index}: data_offset is {offset}, {length} bytes from there are beyond the file of {file_length}"
                );
                return wrong(16, text);
            }
        }
    }
    Ok(ranges)
}

/// What the header says of the parent.
pub(crate) fn parent(pages: &mut dyn Pages, sparse: &Sparse) -> Outcome<ParentRef> {
    let header = &sparse.header;
    let used =
        || header.locators.iter().filter(|locator| locator.platform != [0; 4] && locator.data_length > 0);
    let spans: Vec<Span> =
        used().map(|locator| Span::main(locator.data_offset.get(), locator.data_length.get())).collect();
    let mut hints: Vec<ParentHint> = Vec::new();
    for (locator, bytes) in used().zip(pages.all_bytes(&spans)?) {
        hints.extend(hint(locator.platform, &bytes));
    }
    hints.sort_by_key(|hint| hint.kind != RELATIVE);
    let name = text::from_utf16_be(&header.parent_name);
    let last = slashes(&name).rsplit('/').next().unwrap_or_default().into();
    hints.push(ParentHint { kind: RELATIVE.into(), name: last });
    let mut seen: Vec<ParentHint> = Vec::new();
    for hint in hints {
        if !hint.name.is_empty() && !seen.contains(&hint) {
            refuse_parts(&hint.name, sparse.header_at)?;
            seen.push(hint);
        }
    }
    let identity = stampede_plugin::Identity {
        id: header.parent_uuid,
        time: Some(unix_time(header.parent_timestamp.get())),
    };
    Ok(ParentRef {
        hints: seen,
        format: Some("vhd".into()),
        identity: Some(identity),
        virtual_size: Some(sparse.virtual_size),
    })
}

/// A split image's parts and undo disks are no parents that could be opened.
fn refuse_parts(name: &str, header_at: u64) -> Result<(), Fail> {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
    let part =
        ending.strip_prefix('v').is_some_and(|number| number.len() == 2 && number.parse::<u8>().is_ok());
    let what = match ending.as_str() {
        _ if part => "a part of a split image",
        "vud" => "an undo disk",
        _ => return Ok(()),
    };
    let text = format!("the parent {name} is {what}, which is not supported: merge it into one image first");
    Err(Fail { kind: FailKind::Unsupported, text, at: Some((FileId::MAIN, header_at + 64)) })
}

/// The hint that a locator gives; `None` for codes that nobody knows.
fn hint(platform: [u8; 4], bytes: &[u8]) -> Option<ParentHint> {
    let (kind, name) = match &platform {
        b"W2ru" => (RELATIVE, slashes(&text::from_utf16_le(bytes))),
        b"W2ku" => (ABSOLUTE, slashes(&text::from_utf16_le(bytes))),
        b"Wi2r" => (RELATIVE, slashes(&text::from_narrow(bytes))),
        b"Wi2k" => (ABSOLUTE, slashes(&text::from_narrow(bytes))),
        b"MacX" => (ABSOLUTE, text::from_file_url(&text::from_narrow(bytes))?),
        b"Mac " => (RELATIVE, text::from_alias(bytes)?),
        _ => return None,
    };
    let name = if kind == RELATIVE { name.trim_start_matches("./") } else { &name };
    Some(ParentHint { kind: kind.into(), name: name.into() })
}

fn slashes(name: &str) -> String {
    name.replace('\\', "/")
}

/// A parent as a header records it: locators, their bytes in the order in which they follow each other in whole sectors, and the fields.
pub(crate) struct Written {
    /// Each locator's code and bytes.
    pub(crate) names: Vec<Name>,
    parent_name: [u8; 512],
    identity: Option<stampede_plugin::Identity>,
}

impl Written {
    /// How a parent is written down.
    ///
    /// # Errors
    /// When a differencing VHD cannot have this parent.
    pub(crate) fn of(parent: &ParentRef) -> Result<Self, Fail> {
        if let Some(format) = parent.format.as_deref().filter(|format| *format != "vhd") {
            let text = format!(
                "a differencing VHD has a VHD as its parent, whose UUID it records; this one is {format}"
            );
            return Err(Fail::new(FailKind::Unsupported, text));
        }
        let mut names: Vec<Name> = Vec::new();
        for hint in &parent.hints {
            refuse_parts(&hint.name, 0)?;
            for (platform, bytes) in written(hint)? {
                if bytes.len() > LENGTH_MAX as usize {
                    let text = format!("the parent's name of {} characters is too long", hint.name.len());
                    return Err(Fail::new(FailKind::Invalid, text));
                }
                if names.len() < 8 && names.iter().all(|(other, _)| *other != platform) {
                    names.push((platform, bytes));
                }
            }
        }
        if names.is_empty() {
            return Err(Fail::new(FailKind::Invalid, "a differencing VHD needs its parent's name"));
        }
        let name = parent.hints.first().map(|hint| slashes(&hint.name)).unwrap_or_default();
        let parent_name = text::to_utf16_be(name.rsplit('/').next().unwrap_or_default());
        Ok(Self { names, parent_name, identity: parent.identity })
    }

    /// How many bytes of the file the names need.
    pub(crate) fn bytes(&self) -> u64 {
        self.names.iter().map(|(_, name)| (name.len() as u64).next_multiple_of(SECTOR)).sum()
    }

    /// Puts it into a header, for names that begin at `at` bytes.
    pub(crate) fn put(&self, header: &mut Header, mut at: u64) {
        header.locators = [Locator::UNUSED; 8];
        for (locator, (platform, name)) in header.locators.iter_mut().zip(&self.names) {
            *locator = Locator::new(*platform, at, u32::try_from(name.len()).unwrap_or(0));
            at += (name.len() as u64).next_multiple_of(SECTOR);
        }
        header.parent_name = self.parent_name;
        if let Some(identity) = self.identity {
            header.parent_uuid = identity.id;
            header.parent_timestamp = identity.time.map_or(0, timestamp).into();
        }
    }
}

/// The locators that a hint becomes.
fn written(hint: &ParentHint) -> Result<Vec<Name>, Fail> {
    let backslashes = hint.name.replace('/', "\\");
    Ok(match hint.kind.as_str() {
        RELATIVE | "W2ru" => {
            let plain = backslashes.strip_prefix(".\\").unwrap_or(&backslashes);
            let from_here = if plain.starts_with("..\\") { plain.into() } else { format!(".\\{plain}") };
            Vec::from([(*b"W2ru", text::to_utf16_le(&from_here))])
        }
        ABSOLUTE => Vec::from([
            (*b"W2ku", text::to_utf16_le(&backslashes)),
            (*b"MacX", text::to_file_url(&hint.name).into_bytes()),
        ]),
        "W2ku" => Vec::from([(*b"W2ku", text::to_utf16_le(&backslashes))]),
        "Wi2r" => Vec::from([(*b"Wi2r", backslashes.into_bytes())]),
        "Wi2k" => Vec::from([(*b"Wi2k", backslashes.into_bytes())]),
        "MacX" => Vec::from([(*b"MacX", text::to_file_url(&hint.name).into_bytes())]),
        other => {
            let text = format!("a parent's name of kind {other} cannot be written: use relative or absolute");
            return Err(Fail::new(FailKind::Invalid, text));
        }
    })
}
