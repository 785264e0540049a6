//! The journal of an image: the patches of plans that were acknowledged and are not durable yet.
//!
//! ```text
//!   head (64 bytes): magic, version, boot id, identity of the image's file, CRC32C
//!   record: magic, length, number, CRC32C of all the rest │ patches
//!   record ...
//! ```
//!
//! It is written with plain writes and never synchronised: it outlives the process, which is its use, and means nothing after a power
//! loss, which its boot id shows. It is emptied when a flush leaves nothing behind. Records are numbered from 0, and the first that
//! is not whole ends it.

use stampede_plugin::{FileId, Patch};

use super::order::Waiting;

/// Bytes of the head.
pub const HEAD: usize = 64;
/// A journal that is longer is emptied by a flush of everything, in bytes.
pub const LENGTH_MAX: u64 = 4 << 20;

const HEAD_MAGIC: [u8; 8] = *b"STMPMETA";
const RECORD_MAGIC: [u8; 4] = *b"rec\x01";
const RECORD_HEAD: usize = 24;
/// Most patches of a record, and most patches that one comes after; what a plan may have is less.
const COUNT_MAX: u32 = 1 << 16;

/// Whose journal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The kernel's boot id.
    pub boot: [u8; 16],
    /// The device number of the image's first file.
    pub device: u64,
    /// Its inode number.
    pub inode: u64,
}

/// Patches of a journal, in order, to be applied and made durable before the image is opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Replay {
    pub(super) patches: Vec<Waiting>,
    /// How many records were whole.
    pub records: u64,
}

/// Why a journal says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is no journal, or was cut off in its head.
    #[error("it is no journal of an image's metadata")]
    NotAJournal,
    /// The machine was started again since: what was not flushed is gone, as power losses go.
    #[error("it is from before the machine was started")]
    OtherBoot,
    /// It belongs to another file.
    #[error("it belongs to another file")]
    OtherFile,
}

/// The head of an empty journal.
#[must_use]
pub fn head(owner: &Owner) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&HEAD_MAGIC);
    head[8..24].copy_from_slice(&owner.boot);
    head[24..32].copy_from_slice(&owner.device.to_be_bytes());
    head[32..40].copy_from_slice(&owner.inode.to_be_bytes());
    let crc = crc32c::crc32c(&head[..HEAD - 4]);
    head[HEAD - 4..].copy_from_slice(&crc.to_be_bytes());
    head
}

/// The record of a plan's patches; `number` is how many records are before it. Patches of the host's own have no id.
#[must_use]
pub fn record<'a>(number: u64, patches: impl Iterator<Item = (Option<u64>, &'a Patch)>) -> Vec<u8> {
    let mut bytes = vec![0; RECORD_HEAD];
    for (id, patch) in patches {
        bytes.push(u8::from(id.is_some()) | u8::from(patch.after_data) << 1 | u8::from(patch.lazy) << 2);
        bytes.extend_from_slice(&id.unwrap_or(0).to_be_bytes());
        bytes.extend_from_slice(&patch.file.0.to_be_bytes());
        bytes.extend_from_slice(&patch.offset.to_be_bytes());
        bytes.extend_from_slice(&(patch.after.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&(patch.bytes.len() as u32).to_be_bytes());
        for after in &patch.after {
            bytes.extend_from_slice(&after.to_be_bytes());
        }
        bytes.extend_from_slice(&patch.bytes);
    }
    let length = bytes.len() as u64;
    bytes[..4].copy_from_slice(&RECORD_MAGIC);
    bytes[4..12].copy_from_slice(&length.to_be_bytes());
    bytes[12..20].copy_from_slice(&number.to_be_bytes());
    let crc = crc(&bytes);
    bytes[20..24].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// What a journal has for `owner`'s image.
///
/// # Errors
/// When it is not its journal of this boot. A journal that ends within a record is whole up to there.
pub fn read(bytes: &[u8], owner: &Owner) -> Result<Replay, Unusable> {
    let Some((found, mut rest)) = bytes.split_at_checked(HEAD) else { return Err(Unusable::NotAJournal) };
    if !found.starts_with(&HEAD_MAGIC)
        || found[HEAD - 4..] != crc32c::crc32c(&found[..HEAD - 4]).to_be_bytes()
    {
        return Err(Unusable::NotAJournal);
    }
    let own = head(owner);
    if found[8..24] != own[8..24] {
        return Err(Unusable::OtherBoot);
    }
    if found != own {
        return Err(Unusable::OtherFile);
    }
    let mut replay = Replay::default();
    while let Some((patches, after)) = read_record(rest, replay.records) {
        replay.patches.extend(patches);
        replay.records += 1;
        rest = after;
    }
    Ok(replay)
}

/// The CRC of a record, without the field that has it.
fn crc(record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&record[..20]), &record[RECORD_HEAD..])
}

fn read_record(bytes: &[u8], number: u64) -> Option<(Vec<Waiting>, &[u8])> {
    let mut head = Reader(bytes);
    if head.take(4)? != RECORD_MAGIC {
        return None;
    }
    let length = usize::try_from(head.u64()?).ok()?;
    if head.u64()? != number || length < RECORD_HEAD {
        return None;
    }
    let (record, rest) = bytes.split_at_checked(length)?;
    if head.u32()? != crc(record) {
        return None;
    }
    let mut reader = Reader(&record[RECORD_HEAD..]);
    let mut patches = Vec::new();
    while !reader.0.is_empty() {
        patches.push(read_patch(&mut reader)?);
    }
    Some((patches, rest))
}

fn read_patch(reader: &mut Reader<'_>) -> Option<Waiting> {
    let flags = reader.take(1)?[0];
    let id = reader.u64()?;
    let file = FileId(u16::from_be_bytes(reader.take(2)?.try_into().ok()?));
    let offset = reader.u64()?;
    let (after, length) = (reader.u32()?, reader.u32()?);
    if after > COUNT_MAX {
        return None;
    }
    let after = (0..after).map(|_| reader.u64()).collect::<Option<Vec<_>>>()?;
    let bytes = reader.take(usize::try_from(length).ok()?)?.to_vec();
    let patch = Patch { id, file, offset, bytes, after, after_data: flags & 2 != 0, lazy: flags & 4 != 0 };
    Some(Waiting { id: (flags & 1 != 0).then_some(id), patch })
}

/// Takes fields off the front of bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }
}
