//! Sizes in bytes with units, and regions of a disk.

use super::Wrong;
use std::str::FromStr;

/// Bytes, with `k`, `m`, `g` or `t` (also `KiB` and so on) for powers of 1,024.
///
/// # Errors
/// No number, an unknown unit, or too large.
pub(crate) fn parse_size(text: &str) -> Result<u64, Wrong> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(Wrong::new(format!("`{text}` is no size: write bytes such as 4096, 4k or 1g")));
    }
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => {
            return Err(Wrong::new(format!(
                "`{unit}` in `{text}` is no unit: use k, m, g or t (powers of 1,024), or none for bytes"
            )));
        }
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| Wrong::new(format!("`{text}` is more than 64 bits of bytes")))
}

/// A size as it would be given: `4k`, `1g`, `512`.
pub(crate) fn size_text(bytes: u64) -> String {
    let units = [(40, "t"), (30, "g"), (20, "m"), (10, "k")];
    let fits = |shift: u32| bytes >= 1 << shift && bytes.is_multiple_of(1 << shift);
    match units.into_iter().find(|(shift, _)| fits(*shift)) {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// Bytes `start..end` of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Region {
    /// First byte.
    pub(crate) start: u64,
    /// One past the last byte.
    pub(crate) end: u64,
}

impl FromStr for Region {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let (start, end) = text.split_once('-').ok_or_else(|| {
            Wrong::new(format!("`{text}` is no region: write START-END in bytes, such as 0-64m"))
        })?;
        let (start, end) = (parse_size(start)?, parse_size(end)?);
        if start >= end {
            return Err(Wrong::new(format!("the region {text} is empty: its end must be beyond its start")));
        }
        Ok(Self { start, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_two() {
        assert_eq!(parse_size("512"), Ok(512));
        assert_eq!(parse_size("4k"), Ok(4096));
        assert_eq!(parse_size("1MiB"), Ok(1 << 20));
        assert_eq!(parse_size("2T"), Ok(2 << 40));
        for (text, says) in [("4q", "`q`"), ("", "no size"), ("k", "no size"), ("99999999999t", "64 bits")] {
            let wrong = parse_size(text).unwrap_err().to_string();
            assert!(wrong.contains(says), "{text}: {wrong}");
        }
    }

    #[test]
    fn texts_come_back() {
        for text in ["512", "4k", "1m", "3g", "1025"] {
            assert_eq!(size_text(parse_size(text).unwrap()), text);
        }
    }

    #[test]
    fn a_region_has_a_start_and_an_end() {
        assert_eq!("4k-1m".parse(), Ok(Region { start: 4096, end: 1 << 20 }));
        for text in ["4k", "1m-4k", "4k-4k", "4k-1z"] {
            text.parse::<Region>().unwrap_err();
        }
    }
}
