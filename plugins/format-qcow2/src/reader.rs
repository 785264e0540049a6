//! Metadata as a call sees it: the host's pages, and over them what the call has changed so far.

use alloc::{collections::BTreeMap, vec, vec::Vec};

use stampede_plugin::{FileId, Halt, Outcome, Pages, Span};

/// The unit in which metadata is read, in bytes.
const CHUNK: u64 = 4096;

/// Reads the main file. Beyond its end there are zeros: who reads says what must be inside.
pub(crate) struct Reader<'a> {
    pages: &'a mut dyn Pages,
    chunks: BTreeMap<u64, Vec<u8>>,
}

/// A length or index that is known to be small (a part of a table at most).
pub(crate) fn small(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

impl<'a> Reader<'a> {
    pub(crate) fn new(pages: &'a mut dyn Pages) -> Self {
        Self { pages, chunks: BTreeMap::new() }
    }

    /// A file's length in bytes, before what this call changes.
    pub(crate) fn file_length(&self, file: FileId) -> u64 {
        self.pages.file_length(file)
    }

    /// Makes bytes readable: everything that is missing is asked for at once.
    pub(crate) fn load(&mut self, offset: u64, length: u64) -> Outcome<()> {
        let mut missing: Vec<Span> = Vec::new();
        let end = offset.saturating_add(length.max(1));
        let mut at = offset / CHUNK * CHUNK;
        while at < end {
            if !self.chunks.contains_key(&at) {
                self.load_chunk(at, &mut missing);
            }
            at = at.saturating_add(CHUNK);
        }
        if missing.is_empty() { Ok(()) } else { Err(Halt::Need(missing)) }
    }

    fn load_chunk(&mut self, at: u64, missing: &mut Vec<Span>) {
        let there = self.pages.file_length(FileId::MAIN).saturating_sub(at).min(CHUNK);
        let Ok(length) = u32::try_from(there) else { return };
        if length == 0 {
            self.chunks.insert(at, vec![0; small(CHUNK)]);
            return;
        }
        match self.pages.read(Span::main(at, length)) {
            Some(mut bytes) => {
                bytes.resize(small(CHUNK), 0);
                self.chunks.insert(at, bytes);
            }
            None => want(missing, at, length),
        }
    }

    /// So many bytes.
    pub(crate) fn bytes(&mut self, offset: u64, length: u64) -> Outcome<Vec<u8>> {
        self.load(offset, length)?;
        let mut bytes = Vec::with_capacity(small(length));
        let end = offset + length;
        let mut at = offset;
        while at < end {
            let (chunk, within) = (at / CHUNK * CHUNK, at % CHUNK);
            let part = (CHUNK - within).min(end - at);
            if let Some(chunk) = self.chunks.get(&chunk) {
                bytes.extend_from_slice(&chunk[small(within)..small(within + part)]);
            }
            at += part;
        }
        Ok(bytes)
    }

    /// A big-endian word of `width` bytes, up to 8.
    pub(crate) fn word(&mut self, offset: u64, width: u64) -> Outcome<u64> {
        let within = small(offset % CHUNK);
        let start = offset - offset % CHUNK;
        if !self.chunks.contains_key(&start) {
            self.load(offset, width)?;
        }
        match self.chunks.get(&start).and_then(|chunk| chunk.get(within..within + small(width))) {
            Some(bytes) => Ok(big_endian(bytes)),
            None => Ok(big_endian(&self.bytes(offset, width)?)),
        }
    }

    /// Puts bytes over what is read from now on.
    pub(crate) fn put(&mut self, offset: u64, bytes: &[u8]) -> Outcome<()> {
        let length = bytes.len() as u64;
        self.load(offset, length)?;
        let mut done = 0;
        while done < length {
            let at = offset + done;
            let (chunk, within) = (at / CHUNK * CHUNK, at % CHUNK);
            let part = (CHUNK - within).min(length - done);
            if let Some(chunk) = self.chunks.get_mut(&chunk) {
                chunk[small(within)..small(within + part)]
                    .copy_from_slice(&bytes[small(done)..small(done + part)]);
            }
            done += part;
        }
        Ok(())
    }

    /// Puts a whole new cluster (or several) there; what was there is only read where a chunk is not covered whole.
    pub(crate) fn put_new(&mut self, offset: u64, bytes: &[u8]) -> Outcome<()> {
        let end = offset + bytes.len() as u64;
        let mut at = offset.div_ceil(CHUNK) * CHUNK;
        while at + CHUNK <= end {
            self.chunks.insert(at, vec![0; small(CHUNK)]);
            at += CHUNK;
        }
        self.put(offset, bytes)
    }
}

/// Adds bytes to what is wanted: to the last span, where they follow it.
fn want(missing: &mut Vec<Span>, at: u64, length: u32) {
    if let Some(last) = missing.last_mut()
        && last.offset + u64::from(last.length) == at
        && last.length + length <= Span::LENGTH_MAX
    {
        last.length += length;
        return;
    }
    if missing.len() < Span::COUNT_MAX {
        missing.push(Span::main(at, length));
    }
}

/// A big-endian number.
pub(crate) fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |word, &byte| word << 8 | u64::from(byte))
}
