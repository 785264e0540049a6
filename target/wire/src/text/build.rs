//! Writing `key=value` pairs.

use super::{is_key, is_value};
use alloc::{string::String, vec::Vec};
use core::fmt::{Display, Write as _};

/// A text under construction.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Builder {
    text: String,
}

impl Builder {
    /// An empty text.
    #[must_use]
    pub const fn new() -> Self {
        Self { text: String::new() }
    }

    /// Appends `key=value` and its NUL.
    ///
    /// # Panics
    /// When `key` is no key name or `value` no value ([`is_key`], [`is_value`]). Keys and values that were read
    /// by [`super::Pairs`] are legal; check what comes from a configuration when it is read.
    pub fn push(&mut self, key: &str, value: impl Display) -> &mut Self {
        assert!(is_key(key), "not a key name: {key:?}");
        self.text.push_str(key);
        self.text.push('=');
        let start = self.text.len();
        // Writing to a String fails only if `value` itself does; then it is not a value.
        let written = write!(self.text, "{value}");
        assert!(written.is_ok() && is_value(&self.text[start..]), "not a legal value for {key}");
        self.text.push('\0');
        self
    }

    /// Whether nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// The bytes so far.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The bytes, as a data segment.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.text.into_bytes()
    }

    /// Cuts the text for PDUs of at most `max` data bytes each; a text may be cut anywhere (RFC 7143 6.2). An empty
    /// text is one empty chunk, since its PDU is sent all the same. `max` counts as 1 if it is 0.
    #[must_use]
    pub fn chunks(&self, max: usize) -> Chunks<'_> {
        Chunks { rest: Some(self.as_bytes()), max: max.max(1) }
    }
}

/// One PDU's part of a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk<'a> {
    /// The data segment.
    pub bytes: &'a [u8],
    /// The C bit: the text goes on in the next PDU (11.10.2).
    pub continues: bool,
}

/// Iterator of [`Builder::chunks`].
#[derive(Clone, Debug)]
pub struct Chunks<'a> {
    rest: Option<&'a [u8]>,
    max: usize,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        let (bytes, rest) = {
            let rest = self.rest?;
            rest.split_at(rest.len().min(self.max))
        };
        self.rest = (!rest.is_empty()).then_some(rest);
        Some(Chunk { bytes, continues: self.rest.is_some() })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Pairs, *};
    use proptest::prelude::*;

    #[test]
    fn what_was_pushed_can_be_read() {
        let mut text = Builder::new();
        text.push("MaxBurstLength", 262_144).push("HeaderDigest", "CRC32C,None");
        assert_eq!(text.as_bytes(), b"MaxBurstLength=262144\0HeaderDigest=CRC32C,None\0");
        assert_eq!(Pairs::parse(&text.into_bytes()).map(Iterator::count), Ok(2));
    }

    #[test]
    fn an_empty_text_is_one_empty_chunk() {
        let text = Builder::new();
        assert!(text.chunks(8192).eq([Chunk { bytes: b"", continues: false }]));
    }

    #[test]
    #[should_panic(expected = "not a legal value")]
    fn a_nul_cannot_be_smuggled_in() {
        Builder::new().push("TargetAlias", "a\0TargetName=b");
    }

    proptest! {
        #[test]
        fn chunks_make_the_text_again(value in "[ -~]{0,300}", max in 0usize..50) {
            let mut text = Builder::new();
            text.push("K", value);
            let chunks: Vec<_> = text.chunks(max).collect();
            prop_assert!(chunks.iter().all(|chunk| (1..=max.max(1)).contains(&chunk.bytes.len())));
            let (last, others) = chunks.split_last().expect("there is always a chunk");
            prop_assert!(!last.continues && others.iter().all(|chunk| chunk.continues));
            prop_assert_eq!(chunks.iter().flat_map(|chunk| chunk.bytes).copied().collect::<Vec<_>>(), text.as_bytes());
        }
    }
}
