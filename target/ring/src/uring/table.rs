//! A bounded table of descriptors whose ids are checked: an id of something that is gone finds nothing.

use slab::Slab;

/// Bits of an id that are the index; the rest is the generation.
const INDEX_BITS: u32 = 20;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;

/// How an operation names a descriptor to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// By its index in the ring's registered table.
    Registered(u32),
    /// By its number.
    Plain(i32),
}

struct Slot<T> {
    generation: u32,
    value: T,
}

/// See the module.
pub(super) struct Table<T> {
    slots: Slab<Slot<T>>,
    max: u32,
    generation: u32,
}

impl<T> Table<T> {
    /// The most that any table holds.
    pub(super) const LIMIT: u32 = 1 << INDEX_BITS;

    pub(super) fn new(max: u32) -> Self {
        Self { slots: Slab::new(), max: max.min(Self::LIMIT), generation: 0 }
    }

    pub(super) fn max(&self) -> u32 {
        self.max
    }

    /// The index that the next insertion takes, unless the table is full.
    pub(super) fn next_index(&self) -> Option<u32> {
        u32::try_from(self.slots.vacant_key()).ok().filter(|&index| index < self.max)
    }

    /// Inserts, and returns the id; a full table hands the value back.
    pub(super) fn insert(&mut self, value: T) -> Result<u32, T> {
        let Some(index) = self.next_index() else { return Err(value) };
        self.generation = self.generation.wrapping_add(1) & (u32::MAX >> INDEX_BITS);
        self.slots.insert(Slot { generation: self.generation, value });
        Ok(self.generation << INDEX_BITS | index)
    }

    pub(super) fn get(&self, id: u32) -> Option<&T> {
        let slot = self.slots.get((id & INDEX_MASK) as usize)?;
        (slot.generation == id >> INDEX_BITS).then_some(&slot.value)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let slot = self.slots.get_mut((id & INDEX_MASK) as usize)?;
        (slot.generation == id >> INDEX_BITS).then_some(&mut slot.value)
    }

    /// Removes; also returns the index that it had.
    pub(super) fn remove(&mut self, id: u32) -> Option<(u32, T)> {
        self.get(id)?;
        let index = id & INDEX_MASK;
        Some((index, self.slots.remove(index as usize).value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_id_finds_nothing() {
        let mut table = Table::new(2);
        let first = table.insert('a').unwrap();
        let second = table.insert('b').unwrap();
        assert_eq!(table.insert('c'), Err('c'));
        assert_eq!(table.remove(first), Some((0, 'a')));
        let third = table.insert('c').unwrap();
        assert_ne!(first, third);
        assert_eq!(table.get(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!((table.get(second), table.get(third)), (Some(&'b'), Some(&'c')));
        assert_eq!(table.get(u32::MAX), None);
    }
}
