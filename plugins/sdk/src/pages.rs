//! The image's metadata, as far as the host has it at hand.

use alloc::{vec, vec::Vec};

use crate::{Fail, FailKind, Halt, Outcome};

/// One of an image's files. Most formats have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u16);

impl FileId {
    /// The file that the operator named.
    pub const MAIN: Self = Self(0);
}

/// Bytes of a file that a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// Where they begin, in bytes.
    pub offset: u64,
    /// How many they are.
    pub length: u32,
}

impl Span {
    /// The longest span that may be asked for at once, in bytes.
    pub const LENGTH_MAX: u32 = 1 << 20;
    /// The most spans that one [`Halt::Need`] may name.
    pub const COUNT_MAX: usize = 64;

    /// These bytes of the file that the operator named.
    pub fn main(offset: u64, length: u32) -> Self {
        Self { file: FileId::MAIN, offset, length }
    }
}

/// What the host has read of an image's files, with all patches of earlier plans applied, durable or not.
pub trait Pages {
    /// The bytes of `span`, or `None` when they are not at hand: then the call answers [`Halt::Need`]. What was asked for by
    /// [`Halt::Need`] is there when the same call is made again.
    fn read(&mut self, span: Span) -> Option<Vec<u8>>;
    /// The length of a file in bytes, with what plans have set.
    fn file_length(&self, file: FileId) -> u64;
}

/// Conveniences over [`Pages`].
pub trait PagesExt: Pages {
    /// The bytes of `span`; [`Halt::Need`] when they are not at hand, and a failure when they are not in the file.
    fn bytes(&mut self, span: Span) -> Outcome<Vec<u8>> {
        self.check(span)?;
        self.read(span).ok_or_else(|| Halt::Need(vec![span]))
    }

    /// As [`bytes`](Self::bytes) for several spans, which are asked for together.
    fn all_bytes(&mut self, spans: &[Span]) -> Outcome<Vec<Vec<u8>>> {
        let mut found = Vec::with_capacity(spans.len());
        let mut missing = Vec::new();
        for &span in spans {
            self.check(span)?;
            match self.read(span) {
                Some(bytes) => found.push(bytes),
                None => missing.push(span),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        missing.truncate(Span::COUNT_MAX);
        Err(Halt::Need(missing))
    }

    /// A big-endian 64-bit word.
    fn be64(&mut self, file: FileId, offset: u64) -> Outcome<u64> {
        let bytes = self.bytes(Span { file, offset, length: 8 })?;
        Ok(bytes.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)))
    }

    /// A big-endian 32-bit word.
    fn be32(&mut self, file: FileId, offset: u64) -> Outcome<u32> {
        let bytes = self.bytes(Span { file, offset, length: 4 })?;
        Ok(bytes.iter().fold(0, |word, &byte| word << 8 | u32::from(byte)))
    }

    /// Refuses a span that is not inside its file.
    fn check(&self, span: Span) -> Outcome<()> {
        let end = span.offset.checked_add(u64::from(span.length));
        let length = self.file_length(span.file);
        if end.is_some_and(|end| end <= length) && span.length <= Span::LENGTH_MAX {
            return Ok(());
        }
        let text = alloc::format!("{} bytes are wanted there, but the file has {length} bytes", span.length);
        Err(Fail { kind: FailKind::Corrupt, text, at: Some((span.file, span.offset)) }.into())
    }
}

impl<P: Pages + ?Sized> PagesExt for P {}
