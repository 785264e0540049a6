//! Block sizes with weights: `4k`, or `4k:70,64k:30`.

use super::{Wrong, parse_size, size_text};
use std::fmt;
use std::str::FromStr;

/// The longest transfer of one command, bytes.
const SIZE_MAX: u64 = 8 << 20;

/// Sizes in bytes and their weights; never empty, no weight is 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mixture {
    parts: Vec<(u32, u32)>,
}

impl Mixture {
    /// The sizes, bytes, and their weights.
    pub(crate) fn parts(&self) -> &[(u32, u32)] {
        &self.parts
    }

    /// The largest size, bytes.
    pub(crate) fn largest(&self) -> u32 {
        self.parts.iter().map(|(size, _)| *size).max().unwrap_or(0)
    }
}

impl FromStr for Mixture {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let parts = text.split(',').map(parse_part).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { parts })
    }
}

fn parse_part(text: &str) -> Result<(u32, u32), Wrong> {
    let (size, weight) = text.split_once(':').unwrap_or((text, "1"));
    let bytes = parse_size(size)?;
    if bytes == 0 || bytes > SIZE_MAX {
        return Err(Wrong::new(format!("a block size of `{size}` is not possible: use 512 to 8m")));
    }
    let weight = weight.parse::<u32>().ok().filter(|weight| (1..=1_000_000).contains(weight));
    let weight = weight.ok_or_else(|| {
        Wrong::new(format!("the weight in `{text}` is not possible: SIZE:WEIGHT has a weight from 1 on"))
    })?;
    // At most `SIZE_MAX`, so it fits.
    Ok((bytes as u32, weight))
}

impl fmt::Display for Mixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (size, weight)) in self.parts.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{}", size_text(u64::from(*size)))?;
            if self.parts.len() > 1 {
                write!(f, ":{weight}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_and_without_weights() {
        assert_eq!("4k".parse::<Mixture>().unwrap().parts(), [(4096, 1)]);
        let mixture: Mixture = "4k:70,64k:30".parse().unwrap();
        assert_eq!((mixture.parts(), mixture.largest()), (&[(4096, 70), (65_536, 30)][..], 65_536));
        assert_eq!(mixture.to_string(), "4k:70,64k:30");
        for text in ["", "0", "4k:0", "4k:x", "1g", "4k,,8k"] {
            text.parse::<Mixture>().unwrap_err();
        }
    }
}
