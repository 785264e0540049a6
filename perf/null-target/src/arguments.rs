//! Words of the command line: sizes and lists of cores.

use std::fmt;

/// Bytes, read from a number with an optional unit: `512`, `4k`, `64M`, `1GiB` (powers of 1,024).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl std::str::FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let shift = match unit.to_ascii_lowercase().trim_end_matches("ib") {
            "" | "b" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            _ => return Err(format!("{unit:?} is not a unit: use k, m, g or t (powers of 1,024)")),
        };
        let number: u64 = number.parse().map_err(|_| "a size starts with digits, such as 64m".to_owned())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(|| "a size beyond 2^64 bytes".to_owned())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "T"), (30, "G"), (20, "M"), (10, "k")];
        match units.into_iter().find(|(shift, _)| self.0 != 0 && self.0.is_multiple_of(1 << shift)) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

/// CPU cores, read from a list with ranges: `0`, `2-5`, `0,4-6`. In the order given, none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores(pub Vec<usize>);

impl std::str::FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        /// More than any machine has; a mistyped range must not become a list of millions.
        const CORE_MAX: usize = 4095;
        let number = |part: &str| match part.trim().parse::<usize>() {
            Ok(core) if core <= CORE_MAX => Ok(core),
            _ => Err(format!("{part:?} is not a core number (0 to {CORE_MAX})")),
        };
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(format!("the range {part} is empty: write {last}-{first}"));
            }
            for core in first..=last {
                if cores.contains(&core) {
                    return Err(format!("core {core} is listed twice"));
                }
                cores.push(core);
            }
        }
        Ok(Self(cores))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let read = |text: &str| text.parse::<Bytes>().map(|bytes| bytes.0);
        assert_eq!(read("512"), Ok(512));
        assert_eq!(read("4k"), Ok(4096));
        assert_eq!(read("1GiB"), Ok(1 << 30));
        assert_eq!(read("64M"), Ok(64 << 20));
        for wrong in ["", "k", "4x", "-1", "20000000t"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            [Bytes(4096), Bytes(0), Bytes(513), Bytes(1 << 30)].map(|b| b.to_string()),
            ["4k", "0", "513", "1G"]
        );
    }

    #[test]
    fn cores_are_lists_of_ranges() {
        let read = |text: &str| text.parse::<Cores>().map(|cores| cores.0);
        assert_eq!(read("0"), Ok(vec![0]));
        assert_eq!(read("3,0-2"), Ok(vec![3, 0, 1, 2]));
        for wrong in ["", "a", "1-", "3-1", "0,0", "0-9999999"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
