//! Another name or format of the backing file (spec: "Header", "Header extensions").

use alloc::{format, string::String, vec::Vec};

use stampede_plugin::{Fail, FailKind, Outcome, ParentRef};

use crate::{
    create::push_extension,
    draft::Draft,
    header::{BACKING_NAME_MAX, Header, kind},
    job::invalid,
    layout::field,
    reader::small,
};

/// What the header is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    name: String,
    format: Option<String>,
}

/// What a new parent means for the header.
///
/// # Errors
/// When the image has no parent (another would change what it reads as), or the name is too long.
pub(crate) fn link(header: &Header, parent: &ParentRef) -> Result<Link, Fail> {
    if header.backing.is_none() {
        return Err(invalid("the image has no parent; with one it would read otherwise"));
    }
    let name = parent.hints.first().map(|hint| hint.name.clone()).unwrap_or_default();
    if name.is_empty() || name.len() as u64 > BACKING_NAME_MAX || name.contains('\0') {
        return Err(invalid(format!("a parent's name has 1 to {BACKING_NAME_MAX} bytes")));
    }
    Ok(Link { name, format: parent.format.clone() })
}

/// Writes the name where nothing is, and then the header and its extensions, which name it. Everything that is not known is kept.
///
/// Header and extensions are one patch; where they are longer than a sector (many extensions) a power cut may tear it.
pub(crate) fn apply(draft: &mut Draft<'_>, header: &Header, link: &Link) -> Outcome<()> {
    let extensions = extensions(draft, header, link)?;
    let end = header.length + extensions.len() as u64;
    let old_at = draft.reader.word(field::BACKING_OFFSET, 8)?;
    let old_end = old_at + draft.reader.word(field::BACKING_OFFSET + 8, 4)?;
    let (length, cluster) = (link.name.len() as u64, draft.layout.cluster());
    let behind = if end + length <= old_at { end } else { end.max(old_end) };
    let name_at = if behind + length <= cluster { behind } else { end };
    if name_at + length > cluster {
        let text = format!("a name of {length} bytes does not fit into the first cluster of {cluster} bytes");
        return Err(Fail::new(FailKind::NoSpace, text).into());
    }
    if name_at == behind {
        draft.prepare(name_at, link.name.as_bytes().to_vec())?;
    } else {
        draft.refer(name_at, link.name.as_bytes().to_vec())?;
    }
    let mut bytes = draft.reader.bytes(0, header.length)?;
    let place = small(field::BACKING_OFFSET);
    bytes[place..place + 8].copy_from_slice(&name_at.to_be_bytes());
    bytes[place + 8..place + 12].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(&extensions);
    draft.refer(0, bytes)
}

/// The extensions, with the new format.
fn extensions(draft: &mut Draft<'_>, header: &Header, link: &Link) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(format) = &link.format {
        push_extension(&mut bytes, kind::BACKING_FORMAT, format.as_bytes());
    }
    for extension in &header.extensions {
        if extension.kind != kind::BACKING_FORMAT {
            let data = draft.reader.bytes(extension.offset, extension.length)?;
            push_extension(&mut bytes, extension.kind, &data);
        }
    }
    push_extension(&mut bytes, kind::END, &[]);
    Ok(bytes)
}
