//! Reading `key=value` pairs.

use super::{KEY_MAX, VALUE_MAX, is_key_byte};

/// Why text is not a list of pairs (answer: login status 0200 in a login, Reject otherwise).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TextError {
    /// The last pair has no NUL behind it: it is cut off.
    #[error("the text does not end with a NUL")]
    Unterminated,
    /// A pair without `=`.
    #[error("no '=' in a key=value pair")]
    NoEquals,
    /// A key of no bytes, of more than 63, or with bytes that no key has.
    #[error("not a legal key name")]
    IllegalKey,
    /// A value longer than any key allows.
    #[error("a value of {0} bytes")]
    ValueTooLong(usize),
    /// A value that is not UTF-8 or has control characters.
    #[error("a value is not printable UTF-8")]
    IllegalValue,
}

/// The pairs of one text, in order. Duplicates are the caller's business (6.3: a key twice is an error).
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    /// Checked whole by `parse`.
    rest: &'a str,
}

impl<'a> Pairs<'a> {
    /// Checks all of `text`, which is complete: continued PDUs (C bit) are put together before.
    ///
    /// NULs too many, between pairs or at the end, are skipped: some initiators count their padding.
    ///
    /// # Errors
    /// The first [`TextError`].
    pub fn parse(text: &'a [u8]) -> Result<Self, TextError> {
        match text.last() {
            None => return Ok(Self { rest: "" }),
            Some(0) => {}
            Some(_) => return Err(TextError::Unterminated),
        }
        text.split(|byte| *byte == 0).filter(|pair| !pair.is_empty()).try_for_each(check)?;
        // Each pair is ASCII or was checked as UTF-8; a text of such pieces is UTF-8.
        Ok(Self { rest: core::str::from_utf8(text).map_err(|_| TextError::IllegalValue)? })
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        self.rest = self.rest.trim_start_matches('\0');
        let (pair, rest) = self.rest.split_once('\0')?;
        self.rest = rest;
        pair.split_once('=')
    }
}

fn check(pair: &[u8]) -> Result<(), TextError> {
    let equals = pair.iter().position(|byte| *byte == b'=').ok_or(TextError::NoEquals)?;
    let (key, value) = (&pair[..equals], &pair[equals + 1..]);
    if !(1..=KEY_MAX).contains(&key.len()) || !key.iter().copied().all(is_key_byte) {
        return Err(TextError::IllegalKey);
    }
    if value.len() > VALUE_MAX {
        return Err(TextError::ValueTooLong(value.len()));
    }
    if value.iter().any(u8::is_ascii_control) || core::str::from_utf8(value).is_err() {
        return Err(TextError::IllegalValue);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn pairs(text: &[u8]) -> Result<Vec<(&str, &str)>, TextError> {
        Pairs::parse(text).map(Iterator::collect)
    }

    #[test]
    fn pairs_come_in_order_with_what_follows_the_first_equals() {
        let text = b"HeaderDigest=CRC32C,None\0X-com.example=a=b\0CHAP_R=\0HeaderDigest=None\0";
        let expected = [
            ("HeaderDigest", "CRC32C,None"),
            ("X-com.example", "a=b"),
            ("CHAP_R", ""),
            ("HeaderDigest", "None"),
        ];
        assert_eq!(pairs(text).as_deref(), Ok(&expected[..]));
        assert_eq!(pairs(b"").as_deref(), Ok(&[][..]));
    }

    #[test]
    fn nuls_too_many_are_skipped() {
        assert_eq!(pairs(b"\0A=1\0\0\0B=2\0\0").as_deref(), Ok(&[("A", "1"), ("B", "2")][..]));
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        let long_key = [&[b'K'; 64][..], b"=1\0"].concat();
        let long_value = [b"K=", &[b'v'; VALUE_MAX + 1][..], b"\0"].concat();
        let cases: [(&[u8], TextError); 8] = [
            (b"A=1", TextError::Unterminated),
            (b"A=1\0B=2", TextError::Unterminated),
            (b"A\0", TextError::NoEquals),
            (b"=1\0", TextError::IllegalKey),
            (b"A B=1\0", TextError::IllegalKey),
            (&long_key, TextError::IllegalKey),
            (&long_value, TextError::ValueTooLong(VALUE_MAX + 1)),
            (b"A=\xff\xfe\0", TextError::IllegalValue),
        ];
        for (text, error) in cases {
            assert_eq!(pairs(text), Err(error));
        }
        assert_eq!(pairs(b"A=\n\0"), Err(TextError::IllegalValue));
        assert!(pairs("InitiatorAlias=Käfer\0".as_bytes()).is_ok());
    }

    proptest! {
        /// Refusing is by `check` alone: what it lets pass, the iterator returns whole.
        #[test]
        fn no_pair_gets_lost(pieces in prop::collection::vec(("[A-Za-z0-9.@_#+-]{1,63}", "[ -~é]{0,80}"), 0..20)) {
            let mut text = Vec::new();
            for (key, value) in &pieces {
                text.extend_from_slice(&[key.as_bytes(), b"=", value.as_bytes(), b"\0"].concat());
            }
            let expected: Vec<_> = pieces.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            prop_assert_eq!(pairs(&text), Ok(expected));
        }
    }
}
