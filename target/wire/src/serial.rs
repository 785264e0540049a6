//! Sequence numbers: 32-bit serial arithmetic (RFC 1982), as RFC 7143 4.2.2.1 asks for every SN.

use core::fmt;

/// A sequence number: CmdSN, StatSN, DataSN, R2TSN and their Exp/Max companions.
///
/// Deliberately not `Ord`: the order of serial numbers is not transitive. Two numbers exactly 2^31 apart
/// have no order; every comparison of them is `false`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Sn(pub u32);

impl Sn {
    /// Whether `self` comes before `other` (RFC 1982 3.2).
    #[must_use]
    #[inline]
    pub const fn lt(self, other: Self) -> bool {
        let ahead = other.0.wrapping_sub(self.0);
        ahead != 0 && ahead < 1 << 31
    }

    /// Whether `self` comes before `other` or is `other`.
    #[must_use]
    #[inline]
    pub const fn lte(self, other: Self) -> bool {
        other.0.wrapping_sub(self.0) < 1 << 31
    }

    /// Whether `low <= self <= high`, the test for a command window (RFC 7143 4.2.2.1). An empty window
    /// (`high` one before `low`) holds nothing.
    #[must_use]
    #[inline]
    pub const fn within(self, low: Self, high: Self) -> bool {
        low.lte(self) && self.lte(high)
    }

    /// The number after this one; 0 follows 2^32-1.
    #[must_use]
    #[inline]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// The number before this one.
    #[must_use]
    #[inline]
    pub const fn previous(self) -> Self {
        Self(self.0.wrapping_sub(1))
    }

    /// The number `count` steps on. RFC 1982 defines it for `count` < 2^31 only.
    #[must_use]
    #[inline]
    pub const fn add(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// Steps from `self` forward to `later`, modulo 2^32.
    #[must_use]
    #[inline]
    pub const fn distance(self, later: Self) -> u32 {
        later.0.wrapping_sub(self.0)
    }
}

impl fmt::Debug for Sn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sn({})", self.0)
    }
}

impl fmt::Display for Sn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<u32> for Sn {
    fn from(value: u32) -> Self {
        Self(value)
    }
}

impl From<Sn> for u32 {
    fn from(value: Sn) -> Self {
        value.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn order_wraps_at_the_top() {
        assert!(Sn(u32::MAX).lt(Sn(0)));
        assert!(!Sn(0).lt(Sn(u32::MAX)));
        assert_eq!(Sn(u32::MAX).next(), Sn(0));
        assert_eq!(Sn(0).previous(), Sn(u32::MAX));
        assert_eq!(Sn(u32::MAX - 1).distance(Sn(3)), 5);
    }

    #[test]
    fn numbers_half_the_circle_apart_have_no_order() {
        let (a, b) = (Sn(5), Sn(5).add(1 << 31));
        assert!(!a.lt(b) && !b.lt(a) && !a.lte(b) && !b.lte(a));
    }

    #[test]
    fn a_closed_window_holds_nothing() {
        let exp = Sn(u32::MAX);
        for near in [exp.previous(), exp, exp.next()] {
            assert!(!near.within(exp, exp.previous()));
        }
        assert!(Sn(1).within(Sn(u32::MAX), Sn(2)));
    }

    proptest! {
        #[test]
        fn lt_agrees_with_a_small_step(start: u32, step in 1u32..1 << 31) {
            let (a, b) = (Sn(start), Sn(start).add(step));
            prop_assert!(a.lt(b) && a.lte(b) && !b.lt(a) && !b.lte(a));
            prop_assert_eq!(a.distance(b), step);
        }
    }
}
