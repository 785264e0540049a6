//! The value types of text keys (RFC 7143 6.1): booleans, numbers, ranges, lists, binary strings.

use super::SIMPLE_VALUE_MAX;
use alloc::{string::String, vec::Vec};
use core::ops::RangeInclusive;

/// `Yes` or `No`; nothing else, the case counts.
#[must_use]
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

/// How a boolean is written.
#[must_use]
pub const fn boolean_text(value: bool) -> &'static str {
    if value { "Yes" } else { "No" }
}

/// A regular numerical value: decimal without leading zeros, or hexadecimal with `0x`, below 2^64.
#[must_use]
pub fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match hex_digits(text) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => return None,
        None => (text, 10),
    };
    // `from_str_radix` would take a sign.
    let all_digits = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    all_digits.then(|| u64::from_str_radix(digits, radix).ok()).flatten()
}

/// A [`number`] within `range`; keys name the range of their values (section 13).
#[must_use]
pub fn number_in(text: &str, range: RangeInclusive<u64>) -> Option<u64> {
    number(text).filter(|value| range.contains(value))
}

/// A numerical range, `low~high` with `low <= high`.
#[must_use]
pub fn range(text: &str) -> Option<RangeInclusive<u64>> {
    let (low, high) = text.split_once('~')?;
    let (low, high) = (number(low)?, number(high)?);
    (low <= high).then_some(low..=high)
}

/// The items of a list of values, in the sender's order of preference; `None` when one is empty or longer than a
/// simple value may be.
pub fn list(text: &str) -> Option<impl Iterator<Item = &str> + Clone> {
    let items = text.split(',');
    items.clone().all(|item| (1..=SIMPLE_VALUE_MAX).contains(&item.len())).then_some(items)
}

/// Why a text is not a binary value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BinaryError {
    /// Neither `0x` nor `0b` stands before it.
    #[error("a binary value starts with 0x or 0b")]
    NoPrefix,
    /// It has no digits, digits of another alphabet, or a number of base64 digits no byte string gives.
    #[error("not a hexadecimal or base64 constant")]
    Malformed,
    /// It stands for more bytes than the caller takes.
    #[error("a binary value of more than {max} bytes")]
    TooLong {
        /// The caller's limit, bytes.
        max: usize,
    },
}

/// The bytes of a binary value, hexadecimal (`0x`) or base64 (`0b`), at most `max` of them. An odd number of hex digits
/// stands for a first byte below 16; base64 padding may be missing.
///
/// # Errors
/// See [`BinaryError`].
pub fn binary(text: &str, max: usize) -> Result<Vec<u8>, BinaryError> {
    if let Some(digits) = hex_digits(text) {
        decode(from_hex, digits, digits.len().div_ceil(2), max)
    } else if let Some(digits) = text.strip_prefix("0b").or_else(|| text.strip_prefix("0B")) {
        let digits = digits.strip_suffix("==").or_else(|| digits.strip_suffix('=')).unwrap_or(digits);
        let len = digits.len() / 4 * 3 + digits.len() % 4 * 3 / 4;
        decode(from_base64, digits, len, max)
    } else {
        Err(BinaryError::NoPrefix)
    }
}

/// Decodes `digits`, which stand for `len` bytes if they are well formed.
fn decode(
    decoder: fn(&[u8]) -> Option<Vec<u8>>,
    digits: &str,
    len: usize,
    max: usize,
) -> Result<Vec<u8>, BinaryError> {
    if len > max {
        return Err(BinaryError::TooLong { max });
    }
    let digits = Some(digits.as_bytes()).filter(|digits| !digits.is_empty());
    digits.and_then(decoder).ok_or(BinaryError::Malformed)
}

/// `bytes` as a hexadecimal constant.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digits =
        bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    "0x".chars().chain(digits).collect()
}

/// `bytes` as a base64 constant, with padding.
#[must_use]
pub fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::from("0b");
    for group in bytes.chunks(3) {
        let at = |i| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let digit = bits >> (18 - 6 * place) & 63;
            text.push(if place > group.len() { '=' } else { char::from(BASE64[digit as usize]) });
        }
    }
    text
}

fn hex_digits(text: &str) -> Option<&str> {
    text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let nibble = |digit: &u8| char::from(*digit).to_digit(16).map(|value| value as u8);
    let (odd, pairs) = digits.split_at(digits.len() % 2);
    let first = odd.iter().map(nibble);
    let others = pairs.chunks(2).map(|pair| Some(nibble(&pair[0])? << 4 | nibble(&pair[1])?));
    first.chain(others).collect()
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn from_base64(digits: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        if group.len() == 1 {
            return None; // six bits make no byte
        }
        let mut bits = 0u32;
        for place in 0..4 {
            bits = bits << 6 | group.get(place).map_or(Some(0), |digit| sextet(*digit))?;
        }
        let [_, decoded @ ..] = bits.to_be_bytes();
        bytes.extend_from_slice(&decoded[..group.len() - 1]);
    }
    Some(bytes)
}

fn sextet(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_in_both_notations() {
        assert_eq!(number("0"), Some(0));
        assert_eq!(number("262144"), Some(262_144));
        assert_eq!(number("0x40000"), Some(262_144));
        assert_eq!(number("0XfF"), Some(255));
        assert_eq!(number("18446744073709551615"), Some(u64::MAX));
        for text in ["", "00", "012", "+1", "-1", "1 ", "0x", "0x+1", "18446744073709551616", "1k", "٣"] {
            assert_eq!(number(text), None, "{text:?}");
        }
        assert_eq!(number_in("512", 512..=(1 << 24) - 1), Some(512));
        assert_eq!(number_in("511", 512..=(1 << 24) - 1), None);
    }

    #[test]
    fn ranges_lists_and_booleans() {
        assert_eq!(range("8~0x10"), Some(8..=16));
        assert_eq!(range("9~8").or(range("8")).or(range("8~")), None);
        assert!(list("CRC32C,None").is_some_and(|items| items.eq(["CRC32C", "None"])));
        assert!(list("a,,b").is_none() && list("").is_none() && list(&"x".repeat(256)).is_none());
        assert_eq!((boolean("Yes"), boolean("No"), boolean("yes")), (Some(true), Some(false), None));
    }

    #[test]
    fn binary_in_both_alphabets() {
        assert_eq!(binary("0x0aF", 2), Ok(Vec::from([0x00, 0xaf])));
        assert_eq!(binary("0XAB", 1), Ok(Vec::from([0xab])));
        assert_eq!(binary("0bTWE=", 2), Ok(Vec::from(*b"Ma")));
        assert_eq!(binary("0BTWE", 2), Ok(Vec::from(*b"Ma")));
        assert_eq!(binary("0xabcd", 1), Err(BinaryError::TooLong { max: 1 }));
        assert_eq!(binary("0bTWFu", 2), Err(BinaryError::TooLong { max: 2 }));
        assert_eq!(binary("1234", 9), Err(BinaryError::NoPrefix));
        for text in ["0x", "0b", "0xg0", "0b=", "0bT", "0bTW=E", "0bT===", "0bTWE\n"] {
            assert_eq!(binary(text, 9), Err(BinaryError::Malformed), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn bytes_survive_both_notations(bytes in prop::collection::vec(any::<u8>(), 1..100)) {
            prop_assert_eq!(binary(&to_hex(&bytes), bytes.len()), Ok(bytes.clone()));
            prop_assert_eq!(binary(&to_base64(&bytes), bytes.len()), Ok(bytes));
        }

        #[test]
        fn no_text_panics(text in "(0[xXbB])?\\PC*", max in 0usize..64) {
            if let Ok(bytes) = binary(&text, max) {
                prop_assert!(bytes.len() <= max);
            }
            let _ = (number(&text), range(&text), list(&text).map(Iterator::count));
        }
    }
}
