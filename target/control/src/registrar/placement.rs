//! Which shard gets a login, so that all shards carry alike wherever the connections arrive.
//!
//! What counts as load is what brings commands: each clone, at its owner, in use or kept for its machine's return; and
//! each session with a target without clones, where it lives. A login stays on the shard that accepted it unless that
//! shard would then be ahead of the least loaded one by more than [`spread_bound`].

use stampede_engine::messages::ShardId;

/// Clones and sessions by which a shard may always be ahead of another.
pub const SPREAD_MIN: u32 = 4;
/// It may also be ahead by this part of what a shard carries on average: one eighth.
pub const SPREAD_SHARE: u32 = 8;

/// By how many clones and sessions the most loaded of `shards` shards may be ahead of the least loaded one, when they
/// carry `total` together.
#[must_use]
pub fn spread_bound(total: u32, shards: usize) -> u32 {
    let shards = u32::try_from(shards).unwrap_or(u32::MAX).max(1);
    (total / shards / SPREAD_SHARE).max(SPREAD_MIN)
}

/// What each shard carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loads(Vec<u32>);

impl Loads {
    pub(super) fn new(shards: u16) -> Self {
        Self(vec![0; usize::from(shards.max(1))])
    }

    pub(super) fn add(&mut self, shard: ShardId) {
        if let Some(load) = self.0.get_mut(usize::from(shard.0)) {
            *load = load.saturating_add(1);
        }
    }

    pub(super) fn remove(&mut self, shard: ShardId) {
        if let Some(load) = self.0.get_mut(usize::from(shard.0)) {
            *load = load.saturating_sub(1);
        }
    }

    /// The shard for what came in at `accepting`.
    pub(super) fn place(&self, accepting: ShardId) -> ShardId {
        let least = self.least();
        let load = |shard: ShardId| self.0.get(usize::from(shard.0)).copied();
        let bound = spread_bound(self.total().saturating_add(1), self.0.len());
        match (load(accepting), load(least)) {
            (Some(here), Some(lowest)) if here < lowest.saturating_add(bound) => accepting,
            _ => least,
        }
    }

    /// The least loaded shard; of several the first.
    pub(super) fn least(&self) -> ShardId {
        let least = (0..).zip(&self.0).min_by_key(|(shard, load)| (**load, *shard));
        ShardId(least.map_or(0, |(shard, _)| shard))
    }

    /// The shards that can give to `least` and gain by it, the most loaded first.
    pub(super) fn ahead_of(&self, least: ShardId) -> Vec<ShardId> {
        let low = self.0.get(usize::from(least.0)).copied().unwrap_or(u32::MAX);
        let mut ahead: Vec<_> =
            (0..).zip(&self.0).filter(|(_, load)| **load > low.saturating_add(1)).collect();
        ahead.sort_by_key(|(shard, load)| (std::cmp::Reverse(**load), *shard));
        ahead.into_iter().map(|(shard, _)| ShardId(shard)).collect()
    }

    /// By how much the most loaded shard is ahead of the least loaded one.
    pub(super) fn spread(&self) -> u32 {
        let most = self.0.iter().max().copied().unwrap_or(0);
        most - self.0.iter().min().copied().unwrap_or(0)
    }

    /// By how much it may be.
    pub(super) fn bound(&self) -> u32 {
        spread_bound(self.total(), self.0.len())
    }

    pub(super) fn by_shard(&self) -> &[u32] {
        &self.0
    }

    fn total(&self) -> u32 {
        self.0.iter().fold(0, |sum, load| sum.saturating_add(*load))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_grows_with_what_a_shard_carries() {
        assert_eq!(spread_bound(0, 4), SPREAD_MIN);
        assert_eq!(spread_bound(128, 4), 4);
        assert_eq!(spread_bound(1000, 4), 31);
        assert_eq!(spread_bound(7, 0), SPREAD_MIN);
    }

    #[test]
    fn what_comes_in_stays_within_the_bound_wherever_it_comes_in() {
        let mut random = fastrand::Rng::with_seed(7);
        for shards in 1..=16 {
            // All at one shard, or anywhere.
            for anywhere in [false, true] {
                let mut loads = Loads::new(shards);
                for _ in 0..1000 {
                    let accepting = ShardId(if anywhere { random.u16(0..shards) } else { 0 });
                    let shard = loads.place(accepting);
                    loads.add(shard);
                    assert!(loads.spread() <= loads.bound(), "{loads:?}");
                }
                assert_eq!(loads.total(), 1000);
            }
        }
    }

    #[test]
    fn what_leaves_may_tilt_it_and_what_comes_in_does_not_make_it_worse() {
        let mut random = fastrand::Rng::with_seed(8);
        let mut loads = Loads::new(4);
        for _ in 0..20_000 {
            if random.u8(0..10) < 6 {
                let before = loads.spread();
                let shard = loads.place(ShardId(random.u16(0..4)));
                loads.add(shard);
                assert!(loads.spread() <= before.max(loads.bound()), "{loads:?}");
            } else {
                loads.remove(ShardId(random.u16(0..2)));
            }
        }
    }

    #[test]
    fn little_load_stays_where_it_is_accepted() {
        let mut loads = Loads::new(2);
        for _ in 0..SPREAD_MIN {
            assert_eq!(loads.place(ShardId(1)), ShardId(1));
            loads.add(ShardId(1));
        }
        assert_eq!(loads.place(ShardId(1)), ShardId(0));
        assert_eq!(loads.place(ShardId(9)), ShardId(0), "a shard that does not exist");
        assert_eq!(loads.ahead_of(ShardId(0)), [ShardId(1)]);
    }
}
