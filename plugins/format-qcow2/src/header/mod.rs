//! The header: reading it, and refusing what is not legal (spec: "Header", "Additional fields").

mod extensions;
mod features;

use alloc::{format, string::String, vec::Vec};

use stampede_plugin::{Codec, Fail, FailKind, FileId, Outcome};

pub(crate) use extensions::{BitmapsAt, Extension, kind};
pub(crate) use features::name_table;

use crate::{
    layout::{
        COMPRESSION, CORRUPT, DATA_FILE, DATA_FILE_RAW, L1_BYTES_MAX, L1Table, Layout, REFTABLE_BYTES_MAX,
        field,
    },
    reader::{Reader, big_endian, small},
};

/// `QFI\xfb`.
pub(crate) const MAGIC: u64 = 0x5146_49fb;
/// A version 2 header's length in bytes.
pub(crate) const V2_LENGTH: u64 = 72;
/// The shortest version 3 header, in bytes.
pub(crate) const V3_LENGTH: u64 = 104;
/// The longest name of a backing file, in bytes.
pub(crate) const BACKING_NAME_MAX: u64 = 1023;
/// The most snapshots an image can have.
pub(crate) const SNAPSHOTS_MAX: u64 = 65_536;

/// A header with its extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// Its numbers.
    pub(crate) layout: Layout,
    /// Its length in bytes, without extensions.
    pub(crate) length: u64,
    /// The backing file's name.
    pub(crate) backing: Option<String>,
    /// The backing file's format.
    pub(crate) backing_format: Option<String>,
    /// The data file's name.
    pub(crate) data_file: Option<String>,
    /// Where the bitmaps' directory is.
    pub(crate) bitmaps: Option<BitmapsAt>,
    /// Every extension, known or not, in order.
    pub(crate) extensions: Vec<Extension>,
}

/// A field that is wrong.
pub(crate) fn wrong(offset: u64, text: impl Into<String>) -> Fail {
    Fail::corrupt(FileId::MAIN, offset, text)
}

fn unsupported(offset: u64, text: String) -> Fail {
    Fail { kind: FailKind::Unsupported, text, at: Some((FileId::MAIN, offset)) }
}

/// Reads and judges a header.
pub(crate) fn read(reader: &mut Reader<'_>) -> Outcome<Header> {
    let file = reader.file_length(FileId::MAIN);
    if file < V2_LENGTH || reader.word(0, 4)? != MAGIC {
        return Err(Fail::new(
            FailKind::NotThisFormat,
            "this is no qcow2 image: it does not begin with QFI\\xfb",
        )
        .into());
    }
    let bytes = reader.bytes(0, V3_LENGTH + 8)?;
    let raw = Raw { bytes };
    let version = match raw.u32(4) {
        2 => 2,
        3 => 3,
        other => return Err(unsupported(4, format!("version is {other}; 2 and 3 are known")).into()),
    };
    let cluster_bits = raw.u32(field::CLUSTER_BITS);
    if !(9..=21).contains(&cluster_bits) {
        return Err(
            wrong(field::CLUSTER_BITS, format!("cluster_bits is {cluster_bits}; 9 to 21 are legal")).into()
        );
    }
    let length = header_length(&raw, version, cluster_bits, file)?;
    let incompatible = if version == 3 {
        features::check(reader, length, 1 << cluster_bits, raw.u64(field::INCOMPATIBLE))?
    } else {
        0
    };
    let backing_offset = raw.u64(field::BACKING_OFFSET);
    let layout = Layout {
        version,
        size: raw.u64(field::SIZE),
        cluster_bits,
        refcount_order: if version == 3 { raw.u32(field::REFCOUNT_ORDER) } else { 4 },
        l1: L1Table { offset: raw.u64(field::L1_OFFSET), entries: raw.u32(field::L1_SIZE).into() },
        reftable_offset: raw.u64(field::REFTABLE_OFFSET),
        reftable_clusters: raw.u32(field::REFTABLE_CLUSTERS).into(),
        snapshots: raw.u32(field::SNAPSHOTS),
        snapshots_offset: raw.u64(field::SNAPSHOTS_OFFSET),
        incompatible,
        compatible: if version == 3 { raw.u64(80) } else { 0 },
        autoclear: if version == 3 { raw.u64(field::AUTOCLEAR) } else { 0 },
        codec: codec(&raw, version, length, incompatible)?,
        backing: backing_offset != 0,
    };
    check_features(&raw, &layout)?;
    check_tables(&layout, file)?;
    let backing = backing_name(reader, &raw, backing_offset, length, layout.cluster())?;
    let limit = if backing.is_some() { backing_offset } else { layout.cluster() };
    let mut header = Header {
        layout,
        length,
        backing,
        backing_format: None,
        data_file: None,
        bitmaps: None,
        extensions: extensions::list(reader, length, limit.min(file))?,
    };
    extensions::apply(reader, &mut header)?;
    Ok(header)
}

/// A header's bytes.
struct Raw {
    bytes: Vec<u8>,
}

impl Raw {
    fn u32(&self, offset: u64) -> u32 {
        u32::try_from(big_endian(&self.bytes[small(offset)..small(offset) + 4])).unwrap_or(u32::MAX)
    }

    fn u64(&self, offset: u64) -> u64 {
        big_endian(&self.bytes[small(offset)..small(offset) + 8])
    }
}

fn header_length(raw: &Raw, version: u32, cluster_bits: u32, file: u64) -> Result<u64, Fail> {
    if version == 2 {
        return Ok(V2_LENGTH);
    }
    let length = u64::from(raw.u32(field::HEADER_LENGTH));
    if length < V3_LENGTH || !length.is_multiple_of(8) || length > (1 << cluster_bits) || length > file {
        let text = format!(
            "header_length is {length}; it must be a multiple of 8, at least {V3_LENGTH}, and inside the first cluster"
        );
        return Err(wrong(field::HEADER_LENGTH, text));
    }
    Ok(length)
}

/// The compression type: its field is there when the header is long enough, and non-zero exactly when the feature's bit is set.
fn codec(raw: &Raw, version: u32, length: u64, incompatible: u64) -> Result<Codec, Fail> {
    let kind = if version == 3 && length > field::COMPRESSION_TYPE {
        raw.bytes[small(field::COMPRESSION_TYPE)]
    } else {
        0
    };
    match (incompatible & COMPRESSION != 0, kind) {
        (false, 0) => Ok(Codec::Deflate),
        (true, 1) => Ok(Codec::Zstd),
        (true, 2..) => Err(unsupported(
            field::COMPRESSION_TYPE,
            format!("compression_type is {kind}; zlib and zstd are known"),
        )),
        _ => Err(wrong(
            field::COMPRESSION_TYPE,
            format!("compression_type is {kind}, which the compression type bit contradicts"),
        )),
    }
}

fn check_features(raw: &Raw, layout: &Layout) -> Result<(), Fail> {
    match raw.u32(field::CRYPT_METHOD) {
        0 => {}
        1 => return Err(unsupported(field::CRYPT_METHOD, encrypted("AES"))),
        2 => return Err(unsupported(field::CRYPT_METHOD, encrypted("LUKS"))),
        other => {
            return Err(wrong(field::CRYPT_METHOD, format!("crypt_method is {other}; 0 to 2 are legal")));
        }
    }
    if layout.refcount_order > 6 {
        let text = format!("refcount_order is {}; at most 6 is legal", layout.refcount_order);
        return Err(wrong(field::REFCOUNT_ORDER, text));
    }
    if layout.extended() && layout.cluster_bits < 14 {
        let text = format!(
            "cluster_bits is {}; with extended L2 entries it must be at least 14",
            layout.cluster_bits
        );
        return Err(wrong(field::CLUSTER_BITS, text));
    }
    if layout.autoclear & DATA_FILE_RAW != 0 && layout.incompatible & DATA_FILE == 0 {
        return Err(wrong(field::AUTOCLEAR, "the raw data file bit is set, but there is no data file"));
    }
    if layout.data_file_raw() && layout.backing {
        return Err(wrong(field::BACKING_OFFSET, "a raw data file and a backing file exclude each other"));
    }
    if layout.data_file() && layout.snapshots != 0 {
        return Err(wrong(field::SNAPSHOTS, "an image with a data file cannot have internal snapshots"));
    }
    if layout.size == 0 || !layout.size.is_multiple_of(512) {
        let text = format!("size is {} bytes; a disk has a multiple of 512, and not 0", layout.size);
        return Err(unsupported(field::SIZE, text));
    }
    Ok(())
}

fn encrypted(method: &str) -> String {
    format!("the image is encrypted ({method}); convert it to one that is not")
}

/// Every table of the header is aligned, of a legal size, and inside the file.
fn check_tables(layout: &Layout, file: u64) -> Result<(), Fail> {
    let (l1_bytes, needed) = (layout.l1.entries * 8, layout.l1_needed(layout.size));
    if l1_bytes > L1_BYTES_MAX || layout.l1.entries < needed {
        let text = format!(
            "l1_size is {}; the disk needs {needed}, {} at most",
            layout.l1.entries,
            L1_BYTES_MAX / 8
        );
        return Err(wrong(field::L1_SIZE, text));
    }
    check_table(layout, file, field::L1_OFFSET, "l1_table_offset", layout.l1.offset, l1_bytes)?;
    let bytes = layout.reftable_clusters.saturating_mul(layout.cluster());
    if layout.reftable_clusters == 0 || bytes > REFTABLE_BYTES_MAX {
        let text = format!(
            "refcount_table_clusters is {}; at least 1, and {REFTABLE_BYTES_MAX} bytes at most, are legal",
            layout.reftable_clusters
        );
        return Err(wrong(field::REFTABLE_CLUSTERS, text));
    }
    check_table(
        layout,
        file,
        field::REFTABLE_OFFSET,
        "refcount_table_offset",
        layout.reftable_offset,
        bytes,
    )?;
    if layout.snapshots == 0 {
        return Ok(());
    }
    if u64::from(layout.snapshots) > SNAPSHOTS_MAX {
        let text = format!("nb_snapshots is {}; {SNAPSHOTS_MAX} at most", layout.snapshots);
        return Err(wrong(field::SNAPSHOTS, text));
    }
    let least = u64::from(layout.snapshots) * crate::snapshot::ENTRY_BYTES;
    check_table(layout, file, field::SNAPSHOTS_OFFSET, "snapshots_offset", layout.snapshots_offset, least)
}

/// A table is aligned, behind the header, and inside the file. `at` is its field, in bytes.
pub(crate) fn check_table(
    layout: &Layout,
    file: u64,
    at: u64,
    name: &str,
    offset: u64,
    bytes: u64,
) -> Result<(), Fail> {
    let inside = offset.checked_add(bytes).is_some_and(|end| end <= file);
    if offset == 0 || !offset.is_multiple_of(layout.cluster()) || !inside {
        let text = format!(
            "{name} is {offset}: a table of {bytes} bytes there must begin a cluster behind the first and be inside the file of {file} bytes"
        );
        return Err(wrong(at, text));
    }
    Ok(())
}

fn backing_name(
    reader: &mut Reader<'_>,
    raw: &Raw,
    offset: u64,
    header: u64,
    cluster: u64,
) -> Outcome<Option<String>> {
    if offset == 0 {
        return Ok(None);
    }
    let length = u64::from(raw.u32(field::BACKING_OFFSET + 8));
    let file = reader.file_length(FileId::MAIN);
    let fits = offset >= header && offset.checked_add(length).is_some_and(|end| end <= cluster.min(file));
    if length == 0 || length > BACKING_NAME_MAX || !fits {
        let text = format!(
            "the backing file's name is {length} bytes at {offset}: 1 to {BACKING_NAME_MAX} bytes, in the first cluster behind the header, are legal"
        );
        return Err(wrong(field::BACKING_OFFSET, text).into());
    }
    let bytes = reader.bytes(offset, length)?;
    match String::from_utf8(bytes) {
        Ok(name) if !name.contains('\0') => Ok(Some(name)),
        _ => Err(wrong(offset, "the backing file's name is no UTF-8 text").into()),
    }
}

/// Whether only repairs may write to it.
pub(crate) fn is_corrupt(layout: &Layout) -> bool {
    layout.incompatible & CORRUPT != 0
}
