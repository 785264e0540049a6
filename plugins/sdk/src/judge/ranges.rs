//! A set of bytes of files.

use alloc::collections::BTreeMap;

/// A set of bytes of files, as ranges that neither touch nor overlap: (file, first byte) and the byte behind the last.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranges(BTreeMap<(u16, u64), u64>);

impl Ranges {
    /// Adds bytes.
    pub(super) fn insert(&mut self, file: u16, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let (mut start, mut end) = (start, end);
        while let Some((at, until)) =
            self.last_before(file, end.saturating_add(1)).filter(|(_, until)| *until >= start)
        {
            self.0.remove(&(file, at));
            start = start.min(at);
            end = end.max(until);
        }
        self.0.insert((file, start), end);
    }

    /// Takes bytes out.
    pub(super) fn remove(&mut self, file: u16, start: u64, end: u64) {
        while let Some((at, until)) = self.touching(file, start, end) {
            self.0.remove(&(file, at));
            if at < start {
                self.0.insert((file, at), start);
            }
            if until > end {
                self.0.insert((file, end), until);
            }
        }
    }

    /// A range of the set that has one of these bytes.
    pub(super) fn touching(&self, file: u16, start: u64, end: u64) -> Option<(u64, u64)> {
        if start >= end {
            return None;
        }
        self.last_before(file, end).filter(|(_, until)| *until > start)
    }

    /// The last range that begins before `end`.
    fn last_before(&self, file: u16, end: u64) -> Option<(u64, u64)> {
        self.0.range((file, 0)..(file, end)).next_back().map(|(&(_, at), &until)| (at, until))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    extern crate std;

    use std::collections::BTreeSet;

    use super::Ranges;

    #[test]
    fn a_set_of_ranges_is_a_set_of_bytes() {
        let mut state = 7_u64;
        let mut next = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for _ in 0..200 {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for _ in 0..40 {
                let start = next(60);
                let (end, file) = (start + next(9), u16::try_from(next(2)).unwrap());
                if next(3) > 0 {
                    ranges.insert(file, start, end);
                    model.extend((start..end).map(|byte| (file, byte)));
                } else {
                    ranges.remove(file, start, end);
                    model.retain(|(of, byte)| *of != file || !(start..end).contains(byte));
                }
                for byte in 0..70 {
                    assert!(ranges.touching(file, byte, byte + 1).is_some() == model.contains(&(file, byte)));
                }
            }
        }
    }
}
