//! Tokens: what a completion is recognised by, checked against the generation of the slot it names.
//!
//! ```text
//! 63      60 59         40 39          24 23           0
//! | kind   |  generation  |  part         |  slot        |
//! ```

use stampede_ring::Token;

/// Which table a token's slot is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A listener's multishot accept.
    Accept,
    /// A connection's multishot receive.
    Receive,
    /// A connection's send.
    Send,
    /// A connection's close.
    Close,
    /// The taking of a connection's socket out of the ring.
    Release,
    /// A transfer of a job; the part is the transfer's index.
    Job,
    /// A read of a golden's block into the cache.
    CacheRead,
    /// A flush before the shard stops.
    Drain,
    /// A part of a unit's sanitize operation; the slot is the unit's.
    Sanitize,
    /// A write of slots of overlays to scratch space.
    Spill,
    /// An operation whose completion says nothing: cancels and wakes.
    Ignored,
}

const KINDS: [Kind; 11] = [
    Kind::Accept,
    Kind::Receive,
    Kind::Send,
    Kind::Close,
    Kind::Release,
    Kind::Job,
    Kind::CacheRead,
    Kind::Drain,
    Kind::Sanitize,
    Kind::Spill,
    Kind::Ignored,
];

/// A slab index and the generation of its occupant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Slot in its table, below 2^24.
    pub(crate) index: u32,
    /// Which occupant of the slot, modulo 2^20.
    pub(crate) generation: u32,
}

impl Key {
    /// Generations count modulo this.
    pub(crate) const GENERATIONS: u32 = 1 << 20;
    /// Slots are below this.
    pub(crate) const SLOTS: u32 = 1 << 24;
}

/// A token, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Which table.
    pub(crate) kind: Kind,
    /// Which slot.
    pub(crate) key: Key,
    /// Which part of the slot's work.
    pub(crate) part: u16,
}

/// Puts a token together.
pub(crate) fn token(kind: Kind, key: Key, part: u16) -> Token {
    let kind = kind as u64;
    let generation = u64::from(key.generation % Key::GENERATIONS);
    let index = u64::from(key.index % Key::SLOTS);
    Token(kind << 60 | generation << 40 | u64::from(part) << 24 | index)
}

/// Takes a token apart; `None` for one that this engine never made.
pub(crate) fn parts(token: Token) -> Option<Parts> {
    let kind = *KINDS.get((token.0 >> 60) as usize)?;
    let key = Key {
        index: (token.0 & u64::from(Key::SLOTS - 1)) as u32,
        generation: (token.0 >> 40) as u32 % Key::GENERATIONS,
    };
    Some(Parts { kind, key, part: (token.0 >> 24) as u16 })
}

/// A slab whose slots count their occupants, so that a key outlives its occupant without naming the next one.
/// Occupants stay where they were put: what ends is dropped in place.
#[derive(Debug)]
pub(crate) struct Table<T> {
    slots: Vec<Slot<T>>,
    /// Vacant slots, the one that was left last on top.
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Table<T> {
    /// Moves a value in; hands it back when the table has its most slots.
    pub(crate) fn insert(&mut self, value: T) -> Result<Key, T> {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.value = Some(value);
            return Ok(Key { index, generation: slot.generation });
        }
        let Some(index) = u32::try_from(self.slots.len()).ok().filter(|index| *index < Key::SLOTS) else {
            return Err(value);
        };
        self.slots.push(Slot { generation: 0, value: Some(value) });
        Ok(Key { index, generation: 0 })
    }

    /// The occupant that the key was given for.
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        self.slots.get(key.index as usize).filter(|slot| slot.generation == key.generation)?.value.as_ref()
    }

    /// The same, to change.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.slots
            .get_mut(key.index as usize)
            .filter(|slot| slot.generation == key.generation)?
            .value
            .as_mut()
    }

    /// Moves the occupant out; its key is dead from then on.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize).filter(|slot| slot.generation == key.generation)?;
        let value = slot.value.take()?;
        self.vacate(key);
        Some(value)
    }

    /// Drops the occupant where it is.
    pub(crate) fn discard(&mut self, key: Key) {
        if self.get(key).is_some() {
            self.slots[key.index as usize].value = None;
            self.vacate(key);
        }
    }

    fn vacate(&mut self, key: Key) {
        self.slots[key.index as usize].generation = (key.generation + 1) % Key::GENERATIONS;
        self.free.push(key.index);
    }

    /// How many slots are occupied.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The keys of all occupants, by slot.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        self.iter().map(|(key, _)| key)
    }

    /// All occupants, to change, by slot.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|slot| slot.value.as_mut())
    }

    /// All occupants with their keys, by slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().zip(0u32..).filter_map(|(slot, index)| {
            Some((Key { index, generation: slot.generation }, slot.value.as_ref()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_comes_apart_as_it_was_put_together(
            kind in 0usize..KINDS.len(), index in 0..Key::SLOTS, generation in 0..Key::GENERATIONS, part: u16,
        ) {
            let key = Key { index, generation };
            prop_assert_eq!(parts(token(KINDS[kind], key, part)), Some(Parts { kind: KINDS[kind], key, part }));
        }
    }

    #[test]
    fn a_dead_key_does_not_name_the_next_occupant() {
        let mut table = Table::default();
        let first = table.insert('a').unwrap();
        assert_eq!(table.remove(first), Some('a'));
        let second = table.insert('b').unwrap();
        assert_eq!(first.index, second.index);
        assert_eq!(table.get(first), None);
        assert_eq!(table.remove(first), None);
        table.discard(first);
        assert_eq!((table.get(second), table.len()), (Some(&'b'), 1));
        table.discard(second);
        assert_eq!((table.get(second), table.len()), (None, 0));
        let third = table.insert('c').unwrap();
        assert_eq!(table.keys().collect::<Vec<_>>(), [third]);
        assert_ne!(third, second);
    }
}
