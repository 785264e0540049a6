//! Sets of CPUs (or nodes) as the kernel writes them: `0-3,8`.

use serde::{Serialize, Serializer};
use std::collections::BTreeSet;
use std::fmt;

/// The highest CPU number read; the kernel supports 8,192 CPUs at most.
const NUMBER_MAX: u16 = 8191;

/// A set of CPU (or node) numbers. It prints, and serialises, as the kernel writes it: `0-3,8`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuList(BTreeSet<u16>);

impl CpuList {
    /// Reads the kernel's form: ranges and single numbers with commas, also with a stride (`0-6:2/4`, groups of 4 of
    /// which the first 2 count). `None` for anything else; an empty text is an empty set.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut set = BTreeSet::new();
        for part in text.trim().split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (range, stride) = part.split_once(':').map_or((part, None), |(range, s)| (range, Some(s)));
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
            if first > last || last > NUMBER_MAX {
                return None;
            }
            let (used, group) = match stride {
                None => (1, 1),
                Some(stride) => {
                    stride.split_once('/').and_then(|(u, g)| Some((u.parse().ok()?, g.parse().ok()?)))?
                }
            };
            let group: u16 = group;
            if group == 0 {
                return None;
            }
            set.extend((first..=last).filter(|cpu| (cpu - first) % group < used));
        }
        Some(Self(set))
    }

    /// Whether it has this number.
    #[must_use]
    pub fn contains(&self, number: u16) -> bool {
        self.0.contains(&number)
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Its numbers, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u16> {
        self.0.iter().copied()
    }

    /// The lowest number.
    #[must_use]
    pub fn first(&self) -> Option<u16> {
        self.0.first().copied()
    }

    /// What both have.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }

    /// Adds a number; false when it was there.
    pub fn insert(&mut self, number: u16) -> bool {
        self.0.insert(number)
    }
}

impl FromIterator<u16> for CpuList {
    fn from_iter<I: IntoIterator<Item = u16>>(numbers: I) -> Self {
        Self(numbers.into_iter().collect())
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut numbers = self.iter().peekable();
        let mut comma = "";
        while let Some(first) = numbers.next() {
            let mut last = first;
            while let Some(next) = numbers.next_if(|next| *next == last + 1) {
                last = next;
            }
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

impl Serialize for CpuList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let read = |text: &str| CpuList::parse(text).map(|list| list.iter().collect::<Vec<_>>());
        assert_eq!(read(""), Some(vec![]));
        assert_eq!(read("0\n"), Some(vec![0]));
        assert_eq!(read("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(read("0-7:2/4"), Some(vec![0, 1, 4, 5]));
        for bad in ["a", "3-1", "1-", "0-99999", "0-3:0/0", "0-3:1", "-1"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn prints_what_it_reads(numbers in proptest::collection::btree_set(0..NUMBER_MAX, 0..60)) {
            let list: CpuList = numbers.into_iter().collect();
            prop_assert_eq!(CpuList::parse(&list.to_string()), Some(list));
        }
    }
}
