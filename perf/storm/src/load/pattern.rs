//! Operations of one session: read or write, how many blocks, where.

use super::place::{Layout, Places, Sequence};
use crate::values::{Mixture, size_text};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::sync::Arc;

/// An operation to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Next {
    /// A read, else a write.
    pub(crate) is_read: bool,
    /// First logical block.
    pub(crate) lba: u64,
    /// Logical blocks.
    pub(crate) blocks: u32,
}

/// What all sessions' patterns are made from.
#[derive(Clone, Debug)]
pub(crate) struct PatternPlan {
    /// First logical block of the region.
    pub(crate) first: u64,
    /// Logical blocks of the region.
    pub(crate) len: u64,
    /// Bytes of a logical block.
    pub(crate) block_size: u32,
    /// Block sizes, bytes, with weights.
    pub(crate) sizes: Mixture,
    /// Share of reads, percent.
    pub(crate) read_percent: u8,
    /// How addresses are chosen.
    pub(crate) layout: Layout,
    /// Sessions in all, which share the region when it is gone through in sequence.
    pub(crate) sessions: u32,
    /// Seed of all choices.
    pub(crate) seed: u64,
}

/// The operations of one session, without end.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    sizes: Arc<Vec<Sized>>,
    weights: u32,
    read_percent: u8,
    sequence: Option<Sequence>,
    rng: SmallRng,
}

#[derive(Debug)]
struct Sized {
    places: Places,
    /// Sum of the weights up to this one.
    weight_below: u32,
}

impl PatternPlan {
    /// One pattern per session.
    ///
    /// # Errors
    /// Which size does not fit, as a sentence.
    pub(crate) fn patterns(&self) -> Result<Vec<Pattern>, String> {
        let mut sum = 0;
        let mut sizes = Vec::new();
        for (size, weight) in self.sizes.parts() {
            if !size.is_multiple_of(self.block_size) {
                return Err(format!(
                    "a block size of {} is no multiple of the unit's logical blocks of {} bytes: choose another --bs",
                    size_text(u64::from(*size)),
                    self.block_size
                ));
            }
            sum += weight;
            let blocks = size / self.block_size;
            let places = Places::new(self.first, self.len, blocks, self.layout)
                .ok_or_else(|| self.too_small(*size))?;
            sizes.push(Sized { places, weight_below: sum });
        }
        let sizes = Arc::new(sizes);
        let part = self.part()?;
        let pattern = |session: u32| Pattern {
            sizes: Arc::clone(&sizes),
            weights: sum,
            read_percent: self.read_percent,
            sequence: part.map(|len| Sequence::new(self.first + u64::from(session) * len, len)),
            rng: SmallRng::seed_from_u64(self.seed ^ u64::from(session).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        };
        Ok((0..self.sessions).map(pattern).collect())
    }

    /// Logical blocks of each session's own part, when the region is gone through in sequence.
    fn part(&self) -> Result<Option<u64>, String> {
        if self.layout != Layout::Sequential {
            return Ok(None);
        }
        let largest = u64::from(self.sizes.largest() / self.block_size);
        let part = self.len / u64::from(self.sessions) / largest * largest;
        if part == 0 { Err(self.too_small(self.sizes.largest())) } else { Ok(Some(part)) }
    }

    fn too_small(&self, size: u32) -> String {
        let sessions = if self.layout == Layout::Sequential { self.sessions } else { 1 };
        let each = if sessions > 1 { format!(" for each of {sessions} sessions") } else { String::new() };
        format!(
            "{} are too small for a block of {}{each}: give a larger --region or unit, smaller --bs or fewer --sessions",
            size_text(self.len * u64::from(self.block_size)),
            size_text(u64::from(size)),
        )
    }
}

impl Pattern {
    /// The next operation.
    #[inline]
    pub(crate) fn next(&mut self) -> Next {
        let chosen = match self.sizes.as_slice() {
            [only] => only,
            several => {
                let weight = self.rng.random_range(0..self.weights);
                // The last one's sum is `weights`, so one is found.
                several.iter().find(|sized| weight < sized.weight_below).unwrap_or(&several[0])
            }
        };
        let is_read = match self.read_percent {
            100 => true,
            0 => false,
            percent => self.rng.random_range(0..100) < percent,
        };
        let blocks = chosen.places.blocks();
        let lba = match &mut self.sequence {
            Some(sequence) => sequence.next(blocks),
            None => chosen.places.random(&mut self.rng),
        };
        Next { is_read, lba, blocks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(sizes: &str, layout: Layout) -> PatternPlan {
        PatternPlan {
            first: 100,
            len: 4096,
            block_size: 512,
            sizes: sizes.parse().unwrap(),
            read_percent: 70,
            layout,
            sessions: 4,
            seed: 7,
        }
    }

    #[test]
    fn shares_are_as_asked_for() {
        let mut pattern = plan("4k:3,16k:1", Layout::Uniform).patterns().unwrap().remove(0);
        let all: Vec<Next> = (0..20_000).map(|_| pattern.next()).collect();
        let share = |test: fn(&Next) -> bool| all.iter().filter(|next| test(next)).count() * 100 / all.len();
        assert!((69..=71).contains(&share(|next| next.is_read)));
        assert!((74..=76).contains(&share(|next| next.blocks == 8)));
        assert!(all.iter().all(|next| next.lba >= 100 && next.lba + u64::from(next.blocks) <= 4196));
    }

    #[test]
    fn sequences_of_sessions_do_not_meet() {
        let patterns = plan("4k", Layout::Sequential).patterns().unwrap();
        for (mut pattern, session) in patterns.into_iter().zip(0u64..) {
            let part = 100 + session * 1024..100 + (session + 1) * 1024;
            assert!((0..300).all(|_| part.contains(&pattern.next().lba)));
        }
    }

    #[test]
    fn a_seed_replays() {
        let run = |session: usize| {
            let mut pattern = plan("4k", Layout::Uniform).patterns().unwrap().remove(session);
            (0..10).map(|_| pattern.next()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let too_large = plan("4m", Layout::Uniform).patterns().unwrap_err();
        assert!(too_large.contains("too small for a block of 4m"), "{too_large}");
        let too_many = plan("1m", Layout::Sequential).patterns().unwrap_err();
        assert!(too_many.contains("each of 4 sessions"), "{too_many}");
        let odd = plan("1000", Layout::Uniform).patterns().unwrap_err();
        assert!(odd.contains("no multiple"), "{odd}");
    }
}
