//! Lists of cores: `1`, `0,2`, `2-5`.

use super::Wrong;

/// The highest core number that is taken.
const CORE_MAX: usize = 4095;

/// Cores as a list of numbers and ranges.
///
/// # Errors
/// No number, a range the wrong way round, a core twice.
pub(crate) fn parse_cores(text: &str) -> Result<Vec<usize>, Wrong> {
    let wrong = || Wrong::new(format!("`{text}` is no list of cores: write 1 or 0,2 or 2-5"));
    let number = |text: &str| text.parse::<usize>().ok().filter(|core| *core <= CORE_MAX).ok_or_else(wrong);
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong());
        }
        for core in first..=last {
            if cores.contains(&core) {
                return Err(Wrong::new(format!("core {core} is in `{text}` twice")));
            }
            cores.push(core);
        }
    }
    Ok(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ranges() {
        assert_eq!(parse_cores("1"), Ok(vec![1]));
        assert_eq!(parse_cores("4,0-2"), Ok(vec![4, 0, 1, 2]));
        for text in ["", "a", "2-1", "0,0", "1-2-3", "5000"] {
            parse_cores(text).unwrap_err();
        }
    }
}
