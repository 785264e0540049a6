//! Connections that are no session with a target: those that log in, and discovery sessions. They need no secret, so
//! anybody can open many; what they use is bounded, and shared by address.
//!
//! At the limit a newcomer takes the place of another: of the address that has the most of them, the one that came first
//! and has not said anything, or else the one that came first. So one address with many connections that say nothing
//! cannot keep others out, nor even others behind the same address.

use super::Shard;
use crate::source::Source;
use crate::token::Key;
use stampede_ring::Ring;
use std::collections::{BTreeMap, BTreeSet};

/// How long a newcomer may take to say something, in nanoseconds, when each address has one connection only and there is
/// no room.
const SPEAK_NS: u64 = 2_000_000_000;

/// The connections, by address and by age.
#[derive(Debug, Default)]
pub(super) struct Applicants {
    /// Of each address, by when they came.
    by_source: BTreeMap<Source, BTreeSet<(u64, Key)>>,
    /// The addresses by how many they have.
    by_count: BTreeSet<(usize, Source)>,
    count: usize,
}

impl Applicants {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn insert(&mut self, source: Source, since_ns: u64, key: Key) {
        let of = self.by_source.entry(source).or_default();
        let before = of.len();
        if of.insert((since_ns, key)) {
            self.count += 1;
            self.by_count.remove(&(before, source));
            self.by_count.insert((before + 1, source));
        }
    }

    fn remove(&mut self, source: Source, since_ns: u64, key: Key) {
        let Some(of) = self.by_source.get_mut(&source) else { return };
        let before = of.len();
        if !of.remove(&(since_ns, key)) {
            return;
        }
        self.count -= 1;
        self.by_count.remove(&(before, source));
        if before > 1 {
            self.by_count.insert((before - 1, source));
        } else {
            self.by_source.remove(&source);
        }
    }

    /// Whose place a newcomer of this address takes.
    fn give_way(&self, newcomer: Source, now_ns: u64, has_spoken: impl Fn(Key) -> bool) -> Option<Key> {
        let (most, source) = *self.by_count.last()?;
        let own = self.by_source.get(&newcomer).map_or(0, BTreeSet::len);
        // Of several with the most, its own gives way.
        let source = if own == most { newcomer } else { source };
        if most > 1 {
            let of = self.by_source.get(&source)?;
            let silent = of.iter().find(|(_, key)| !has_spoken(*key));
            return silent.or_else(|| of.first()).map(|(_, key)| *key);
        }
        // A crowd of machines with one connection each: who is at its first words keeps its place.
        let late = |since_ns: &u64| now_ns.saturating_sub(*since_ns) >= SPEAK_NS;
        let mut late = self.by_source.values().flatten().filter(|(since_ns, _)| late(since_ns));
        late.find(|(_, key)| !has_spoken(*key)).map(|(_, key)| *key)
    }
}

impl<R: Ring> Shard<R> {
    /// Takes a new connection among those that log in; false when there is no room for it.
    pub(super) fn take_applicant(&mut self, key: Key) -> bool {
        let Some(conn) = self.conns.get(key) else { return false };
        let source = Source::of(conn.peer.ip());
        if self.applicants.len() >= self.config.logins_max as usize {
            let has_spoken = |key| self.conns.get(key).is_none_or(|conn| conn.session.has_spoken());
            let Some(victim) = self.applicants.give_way(source, self.now_ns, has_spoken) else {
                return false;
            };
            self.counters.logins_displaced += 1;
            if let Some(conn) = self.conns.get(victim) {
                tracing::debug!(peer = %conn.peer, session = conn.session.session().0, "its login gives way to another");
            }
            self.drop_quietly(victim);
            self.advance_closing(victim);
        }
        let now_ns = self.now_ns;
        if let Some(conn) = self.conns.get_mut(key) {
            conn.applies_since_ns = Some(now_ns);
        }
        self.applicants.insert(source, now_ns, key);
        true
    }

    /// A connection logs in no longer: it ended, or asks for its decision.
    pub(super) fn leave_applicants(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if let Some(since_ns) = conn.applies_since_ns.take() {
            self.applicants.remove(Source::of(conn.peer.ip()), since_ns, key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn key(index: u32) -> Key {
        Key { index, generation: 0 }
    }

    fn source(last: u8) -> Source {
        Source::of(IpAddr::from([10, 0, 0, last]))
    }

    const NOBODY: fn(Key) -> bool = |_| false;

    #[test]
    fn the_address_with_the_most_gives_way_the_silent_ones_and_the_oldest_first() {
        let mut all = Applicants::default();
        for index in 0..5 {
            all.insert(source(1), u64::from(index), key(index));
        }
        for index in 5..7 {
            all.insert(source(2), 0, key(index));
        }
        assert_eq!(all.len(), 7);
        assert_eq!(all.give_way(source(3), 10, NOBODY), Some(key(0)));
        assert_eq!(all.give_way(source(3), 10, |key| key.index < 3), Some(key(3)));
        assert_eq!(all.give_way(source(3), 10, |_| true), Some(key(0)));
        for index in 0..3 {
            all.remove(source(1), u64::from(index), key(index));
        }
        // Two and two: its own gives way.
        assert_eq!(all.give_way(source(1), 10, NOBODY), Some(key(3)));
        assert_eq!(all.give_way(source(2), 10, NOBODY), Some(key(5)));
        all.remove(source(2), 0, key(5));
        all.remove(source(2), 0, key(5));
        assert_eq!((all.len(), all.give_way(source(2), 10, NOBODY)), (3, Some(key(3))));
    }

    #[test]
    fn one_connection_each_keeps_its_place_while_it_is_at_its_first_words() {
        let mut all = Applicants::default();
        assert_eq!(all.give_way(source(9), 0, NOBODY), None);
        for index in 0..4u8 {
            all.insert(source(index), u64::from(index), key(u32::from(index)));
        }
        assert_eq!(all.give_way(source(9), SPEAK_NS - 1, NOBODY), None);
        assert_eq!(all.give_way(source(9), SPEAK_NS + 1, |key| key.index == 0), Some(key(1)));
        // Another of an address that has one already: the first of that address gives way.
        all.insert(source(2), 9, key(7));
        assert_eq!(all.give_way(source(9), 10, NOBODY), Some(key(2)));
    }
}
