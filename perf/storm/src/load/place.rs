//! Where operations go: uniform, Zipf, or sequential.

use rand::RngExt as _;
use rand::distr::Distribution as _;
use rand::rngs::SmallRng;
use rand_distr::Zipf;

/// How addresses are chosen.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Layout {
    /// Each place as likely as any other.
    Uniform,
    /// The place of rank k with a likelihood of 1 / k^theta; ranks are scattered over the region.
    Zipf {
        /// The exponent.
        theta: f64,
    },
    /// One after the other, from the start again at the end.
    Sequential,
}

/// Addresses for one block size in a region: places of that size side by side.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// First logical block of the region.
    first: u64,
    /// Logical blocks per place.
    blocks: u32,
    count: u64,
    zipf: Option<Zipf<f64>>,
}

impl Places {
    /// Places of `blocks` blocks in `first..first + len`; `None` when not even one fits.
    pub(crate) fn new(first: u64, len: u64, blocks: u32, layout: Layout) -> Option<Self> {
        let count = len / u64::from(blocks.max(1));
        if count == 0 {
            return None;
        }
        let zipf = match layout {
            Layout::Zipf { theta } => Zipf::new(count as f64, theta).ok(),
            _ => None,
        };
        Some(Self { first, blocks, count, zipf })
    }

    /// Logical blocks per place.
    #[inline]
    pub(crate) fn blocks(&self) -> u32 {
        self.blocks
    }

    /// A random place's first logical block.
    #[inline]
    pub(crate) fn random(&self, rng: &mut SmallRng) -> u64 {
        let index = match &self.zipf {
            None => rng.random_range(0..self.count),
            Some(zipf) => scatter(zipf.sample(rng) as u64) % self.count,
        };
        self.first + index * u64::from(self.blocks)
    }
}

/// Mixes a rank's bits, so that popular places do not lie side by side (the finalizer of SplitMix64).
fn scatter(rank: u64) -> u64 {
    let mixed = (rank ^ rank >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// A sequence through a region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequence {
    first: u64,
    end: u64,
    next: u64,
}

impl Sequence {
    /// Through logical blocks `first..first + len`.
    pub(crate) fn new(first: u64, len: u64) -> Self {
        Self { first, end: first + len, next: first }
    }

    /// The next `blocks` blocks; from the start again where they do not fit any more.
    #[inline]
    pub(crate) fn next(&mut self, blocks: u32) -> u64 {
        if self.next + u64::from(blocks) > self.end {
            self.next = self.first;
        }
        let lba = self.next;
        self.next += u64::from(blocks);
        lba
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use std::collections::BTreeMap;

    fn counts(layout: Layout) -> BTreeMap<u64, u32> {
        let places = Places::new(1000, 8003, 8, layout).unwrap();
        let mut rng = SmallRng::seed_from_u64(1);
        let mut counts = BTreeMap::new();
        for _ in 0..100_000 {
            *counts.entry(places.random(&mut rng)).or_insert(0) += 1;
        }
        counts
    }

    #[test]
    fn places_are_aligned_and_inside() {
        for layout in [Layout::Uniform, Layout::Zipf { theta: 1.0 }] {
            for lba in counts(layout).into_keys() {
                assert!(lba >= 1000 && lba + 8 <= 1000 + 8003 && (lba - 1000).is_multiple_of(8), "{lba}");
            }
        }
        assert!(Places::new(0, 7, 8, Layout::Uniform).is_none());
    }

    #[test]
    fn zipf_has_favourites_and_uniform_has_none() {
        let top = |layout| counts(layout).into_values().max().unwrap();
        // 1,000 places: 100 each; with Zipf the first has 1 / H(1000), about 13%.
        assert!(top(Layout::Uniform) < 200);
        assert!((10_000..18_000).contains(&top(Layout::Zipf { theta: 1.0 })));
    }

    #[test]
    fn a_sequence_wraps() {
        let mut sequence = Sequence::new(10, 20);
        assert_eq!([8, 8, 8, 4].map(|blocks| sequence.next(blocks)), [10, 18, 10, 18]);
    }
}
