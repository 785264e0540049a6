//! A list that mostly has one element: a command's data is mostly in one buffer, and comes by one transfer.
//!
//! One element lies inline, so such a list takes no memory and its end costs one comparison.

use std::ops::{Deref, DerefMut};

/// None, one, or many in order.
#[derive(Clone, Debug, Default)]
pub(crate) enum Few<T> {
    /// None.
    #[default]
    None,
    /// One.
    One(T),
    /// More, or what was more.
    Many(Vec<T>),
}

impl<T> Few<T> {
    /// Appends.
    #[inline]
    pub(crate) fn push(&mut self, value: T) {
        match self {
            Self::None => *self = Self::One(value),
            Self::One(_) => self.push_second(value),
            Self::Many(many) => many.push(value),
        }
    }

    #[cold]
    fn push_second(&mut self, value: T) {
        /// Elements that the first allocation has room for: a 32 KiB write to a clone.
        const ROOM: usize = 8;
        let mut many = Vec::with_capacity(ROOM);
        many.extend(std::mem::take(self));
        many.push(value);
        *self = Self::Many(many);
    }

    /// Removes all.
    #[inline]
    pub(crate) fn clear(&mut self) {
        // Mostly there is nothing, and then nothing to drop.
        if !matches!(self, Self::None) {
            *self = Self::None;
        }
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::None => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::None => &mut [],
            Self::One(one) => std::slice::from_mut(one),
            Self::Many(many) => many,
        }
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = std::iter::Chain<std::option::IntoIter<T>, std::vec::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self {
            Self::None => (None, Vec::new()),
            Self::One(one) => (Some(one), Vec::new()),
            Self::Many(many) => (None, many),
        };
        one.into_iter().chain(many)
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut few = Self::None;
        values.into_iter().for_each(|value| few.push(value));
        few
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_list(values: Vec<u16>) {
            let mut few: Few<u16> = values.iter().copied().collect();
            prop_assert_eq!(&few[..], &values[..]);
            few.iter_mut().for_each(|value| *value ^= 1);
            let changed: Vec<u16> = values.iter().map(|value| value ^ 1).collect();
            prop_assert_eq!(few.clone().into_iter().collect::<Vec<_>>(), changed);
            few.clear();
            prop_assert!(few.is_empty());
        }
    }
}
