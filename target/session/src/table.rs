//! The task table: a bounded slab, found by key or by Initiator Task Tag.

use stampede_wire::RESERVED_TAG;

use crate::task::Facts;
use crate::{Task, TaskKey};

/// Slots beyond the command window, for commands marked for immediate delivery (RFC 7143 4.2.2.1 wants at least
/// one).
pub(crate) const IMMEDIATE_MAX: usize = 8;

/// Slots of the first growth; each further one doubles them.
const FIRST_SLOTS: usize = 8;

/// The end of a chain.
const NONE: u16 = u16::MAX;

/// The tasks of a session. Its memory grows with use up to its bound, and goes back by [`TaskTable::shrink`].
#[derive(Debug)]
pub(crate) struct TaskTable {
    slots: Vec<Slot>,
    /// The first slot of each chain of tags: a power of two of them, at least as many as slots, unless there are none.
    chains: Vec<u16>,
    /// Vacant slots, the one that was left last on top.
    free: Vec<u16>,
    max: u16,
    /// Of the latest task. It counts for all slots together, so that a key stays dead when the table was given back.
    generation: u32,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    /// The next slot of the same chain.
    next: u16,
    task: Option<Task>,
}

impl TaskTable {
    /// A table for a command window of `window`.
    pub(crate) fn new(window: u16) -> Self {
        let max = (usize::from(window) + IMMEDIATE_MAX).min(usize::from(NONE));
        let max = u16::try_from(max).unwrap_or(NONE);
        Self { slots: Vec::new(), chains: Vec::new(), free: Vec::new(), max, generation: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The most tasks that it holds.
    pub(crate) fn capacity(&self) -> usize {
        usize::from(self.max)
    }

    /// Slots that have memory now: the index of every task is below.
    pub(crate) fn slots_len(&self) -> usize {
        self.slots.len()
    }

    /// Gives the memory back, if there is no task.
    pub(crate) fn shrink(&mut self) {
        if self.len() == 0 {
            (self.slots, self.chains, self.free) = (Vec::new(), Vec::new(), Vec::new());
        }
    }

    /// Adds a task whose tag is not in the table; `None` when the table is full.
    pub(crate) fn insert(&mut self, task: Task) -> Option<TaskKey> {
        if self.free.is_empty() {
            self.grow();
        }
        let index = self.free.pop()?;
        let chain = self.chain(task.itt);
        self.generation = self.generation.wrapping_add(1);
        let slot = &mut self.slots[usize::from(index)];
        slot.generation = self.generation;
        slot.next = std::mem::replace(&mut self.chains[chain], index);
        slot.task = Some(task);
        Some(TaskKey { index, generation: self.generation })
    }

    /// Removes a task and says what its end needs to know.
    pub(crate) fn remove(&mut self, key: TaskKey) -> Option<Facts> {
        let facts = self.at(key)?.facts();
        self.unchain(key.index, facts.itt);
        self.slots[usize::from(key.index)].task = None;
        self.free.push(key.index);
        Some(facts)
    }

    pub(crate) fn at(&self, key: TaskKey) -> Option<&Task> {
        self.slots.get(usize::from(key.index)).filter(|slot| slot.generation == key.generation)?.task.as_ref()
    }

    pub(crate) fn at_mut(&mut self, key: TaskKey) -> Option<&mut Task> {
        self.slots
            .get_mut(usize::from(key.index))
            .filter(|slot| slot.generation == key.generation)?
            .task
            .as_mut()
    }

    /// The task of this Initiator Task Tag.
    pub(crate) fn find(&self, itt: u32) -> Option<TaskKey> {
        if itt == RESERVED_TAG || self.chains.is_empty() {
            return None;
        }
        let mut index = self.chains[self.chain(itt)];
        while let Some(slot) = self.slots.get(usize::from(index)) {
            if slot.task.as_ref().is_some_and(|task| task.itt == itt) {
                return Some(TaskKey { index, generation: slot.generation });
            }
            index = slot.next;
        }
        None
    }

    /// The key of the task in slot `index`, if there is one.
    pub(crate) fn key(&self, index: usize) -> Option<TaskKey> {
        let slot = self.slots.get(index)?;
        slot.task.as_ref()?;
        Some(TaskKey { index: u16::try_from(index).ok()?, generation: slot.generation })
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = TaskKey> + '_ {
        (0..self.slots.len()).filter_map(|index| self.key(index))
    }

    /// The chain of a tag. Tags are mostly counted up, but may be anything: a multiplication spreads them.
    fn chain(&self, itt: u32) -> usize {
        const GOLDEN_RATIO: u32 = 0x9e37_79b9;
        let spread = itt.wrapping_mul(GOLDEN_RATIO);
        (spread ^ spread >> 16) as usize & (self.chains.len().max(1) - 1)
    }

    fn unchain(&mut self, index: u16, itt: u32) {
        let chain = self.chain(itt);
        let next = self.slots[usize::from(index)].next;
        let mut at = self.chains[chain];
        if at == index {
            self.chains[chain] = next;
            return;
        }
        while let Some(slot) = self.slots.get_mut(usize::from(at)) {
            if slot.next == index {
                slot.next = next;
                return;
            }
            at = slot.next;
        }
    }

    /// Doubles the slots, as far as the bound allows. All slots there are hold a task.
    #[cold]
    fn grow(&mut self) {
        let old = self.slots.len();
        let new = (old * 2).max(FIRST_SLOTS).min(self.capacity());
        self.slots.reserve_exact(new - old);
        self.slots.resize_with(new, || Slot { generation: 0, next: NONE, task: None });
        // Low slots first, so that the engine's array beside the table stays short.
        self.free.reserve_exact(new);
        self.free.extend((old..new).rev().map(|index| u16::try_from(index).unwrap_or(NONE)));
        self.chains = vec![NONE; new.next_power_of_two()];
        for index in 0..old {
            let Some(itt) = self.slots[index].task.as_ref().map(|task| task.itt) else { continue };
            let chain = self.chain(itt);
            let first = u16::try_from(index).unwrap_or(NONE);
            self.slots[index].next = std::mem::replace(&mut self.chains[chain], first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::full_feature::Collection;
    use crate::task::State;
    use proptest::prelude::*;
    use stampede_wire::{Lun, Sn, pdu::TaskAttribute};
    use std::collections::BTreeMap;

    fn task(itt: u32) -> Task {
        Task {
            itt,
            cmd_sn: Sn(itt),
            lun: Lun::default(),
            cdb: [0; 16],
            cdb_long: false,
            expected: 0,
            read: false,
            write: false,
            immediate: false,
            attribute: TaskAttribute::Simple,
            wanted: 0,
            r2ts: 0,
            state: State::Collecting(Collection::new(0, 0, None)),
        }
    }

    #[test]
    fn a_table_takes_as_many_as_it_may_and_gives_its_memory_back() {
        let mut table = TaskTable::new(20);
        assert_eq!((table.capacity(), table.slots_len()), (28, 0));
        let keys: Vec<_> = (0..28).map(|itt| table.insert(task(itt)).unwrap()).collect();
        assert_eq!(table.insert(task(99)), None);
        table.shrink();
        assert_eq!(table.slots_len(), 28, "tasks keep their places");
        for key in &keys {
            assert!(table.remove(*key).is_some());
        }
        table.shrink();
        assert_eq!((table.len(), table.slots_len()), (0, 0));
        let again = table.insert(task(5)).unwrap();
        assert_eq!(again.index, keys[0].index);
        assert!(table.at(keys[0]).is_none(), "a dead key stays dead");
    }

    proptest! {
        /// It agrees with a map, whatever the tags are.
        #[test]
        fn tags_find_their_tasks(steps in prop::collection::vec((0u8..4, 0u32..24, any::<bool>()), 0..300)) {
            let mut table = TaskTable::new(4);
            let mut model: BTreeMap<u32, TaskKey> = BTreeMap::new();
            for (what, number, spread) in steps {
                let itt = if spread { number << 27 } else { number };
                match (what, model.get(&itt).copied()) {
                    (0 | 1, None) => match table.insert(task(itt)) {
                        Some(key) => { model.insert(itt, key); }
                        None => prop_assert_eq!(model.len(), table.capacity()),
                    },
                    (2, Some(key)) => {
                        prop_assert_eq!(table.remove(key).map(|facts| facts.itt), Some(itt));
                        prop_assert!(table.remove(key).is_none());
                        model.remove(&itt);
                    }
                    (3, _) => table.shrink(),
                    _ => {}
                }
                prop_assert_eq!(table.len(), model.len());
                for (itt, key) in &model {
                    prop_assert_eq!(table.find(*itt), Some(*key));
                    prop_assert_eq!(table.at(*key).map(|task| task.itt), Some(*itt));
                }
                prop_assert_eq!(table.find(itt), model.get(&itt).copied());
            }
        }
    }
}
