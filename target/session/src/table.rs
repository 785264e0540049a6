//! The task table: a bounded slab, found by key or by Initiator Task Tag.

use stampede_wire::pdu::ScsiCommand;

use crate::{
    Task, TaskKey,
    full_feature::Collection,
    task::{Facts, State},
};

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
    /// The first vacant slot: the one that was left last.
    vacant: u16,
    len: u16,
    max: u16,
    /// Of the latest task. It counts for all slots together, so that a key stays dead when the table was given back.
    generation: u32,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    /// The next slot of the same chain of tags, or of the vacant slots.
    next: u16,
    task: Option<Task>,
}

/// Why a task was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// There is one with its tag.
    TagInUse,
    /// There are as many as there may be.
    Full,
}

impl TaskTable {
    /// A table for a command window of `window`.
    pub(crate) fn new(window: u16) -> Self {
        let max = (usize::from(window) + IMMEDIATE_MAX).min(usize::from(NONE));
        let max = u16::try_from(max).unwrap_or(NONE);
        Self { slots: Vec::new(), chains: Vec::new(), vacant: NONE, len: 0, max, generation: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// The most tasks that it holds.
    pub(crate) fn capacity(&self) -> usize {
        usize::from(self.max)
    }

    /// The generation of the latest task: a key is as old as its distance from it.
    pub(crate) fn latest(&self) -> u32 {
        self.generation
    }

    /// Slots that have memory now: the index of every task is below.
    pub(crate) fn slots_len(&self) -> usize {
        self.slots.len()
    }

    /// Gives the memory back, if there is no task.
    pub(crate) fn shrink(&mut self) {
        if self.len == 0 {
            (self.slots, self.chains, self.vacant) = (Vec::new(), Vec::new(), NONE);
        }
    }

    /// Adds the task of a command. It runs: the caller says so if its data is still to come.
    ///
    /// # Errors
    /// See [`Refused`].
    #[inline]
    pub(crate) fn insert(
        &mut self,
        command: &ScsiCommand,
        cdb_long: bool,
    ) -> Result<(TaskKey, &mut Task), Refused> {
        let itt = command.initiator_task_tag();
        if self.find(itt).is_some() {
            return Err(Refused::TagInUse);
        }
        if self.vacant == NONE {
            self.grow();
        }
        let (index, chain) = (self.vacant, self.chain(itt));
        let Some((slot, first)) = self.slots.get_mut(usize::from(index)).zip(self.chains.get_mut(chain))
        else {
            return Err(Refused::Full);
        };
        self.generation = self.generation.wrapping_add(1);
        self.vacant = slot.next;
        slot.generation = self.generation;
        slot.next = std::mem::replace(first, index);
        self.len += 1;
        let (state, collection) = (State::Running, Collection::default());
        let task = Task { command: *command, cdb_long, generations: 0, state, collection };
        Ok((TaskKey { index, generation: self.generation }, slot.task.insert(task)))
    }

    /// Removes a task and says what its end needs to know.
    #[inline]
    pub(crate) fn remove(&mut self, key: TaskKey) -> Option<Facts> {
        let chain = self.chain(self.at(key)?.itt());
        let slot = self.slots.get_mut(usize::from(key.index))?;
        let facts = slot.task.as_ref()?.facts();
        slot.task = None;
        let next = std::mem::replace(&mut slot.next, self.vacant);
        self.vacant = key.index;
        self.len -= 1;
        match self.chains.get_mut(chain) {
            Some(first) if *first == key.index => *first = next,
            _ => self.unchain(chain, key.index, next),
        }
        Some(facts)
    }

    #[inline]
    pub(crate) fn at(&self, key: TaskKey) -> Option<&Task> {
        self.slots.get(usize::from(key.index)).filter(|slot| slot.generation == key.generation)?.task.as_ref()
    }

    #[inline]
    pub(crate) fn at_mut(&mut self, key: TaskKey) -> Option<&mut Task> {
        self.slots
            .get_mut(usize::from(key.index))
            .filter(|slot| slot.generation == key.generation)?
            .task
            .as_mut()
    }

    /// The write data of a task, while it is arriving.
    #[inline]
    pub(crate) fn collecting(&mut self, key: TaskKey) -> Option<&mut Collection> {
        self.at_mut(key)?.collecting()
    }

    /// The task of this Initiator Task Tag.
    #[inline]
    pub(crate) fn find(&self, itt: u32) -> Option<TaskKey> {
        let mut index = *self.chains.get(self.chain(itt))?;
        while let Some(slot) = self.slots.get(usize::from(index)) {
            if slot.task.as_ref().is_some_and(|task| task.itt() == itt) {
                return Some(TaskKey { index, generation: slot.generation });
            }
            index = slot.next;
        }
        None
    }

    /// The key of the task in slot `index`, if there is one.
    #[inline]
    pub(crate) fn key(&self, index: usize) -> Option<TaskKey> {
        let slot = self.slots.get(index)?;
        slot.task.as_ref()?;
        Some(TaskKey { index: u16::try_from(index).ok()?, generation: slot.generation })
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = TaskKey> + '_ {
        (0..self.slots.len()).filter_map(|index| self.key(index))
    }

    /// The chain of a tag. Tags are mostly counted up, but may be anything: a multiplication spreads them.
    #[inline]
    fn chain(&self, itt: u32) -> usize {
        const GOLDEN_RATIO: u32 = 0x9e37_79b9;
        let spread = itt.wrapping_mul(GOLDEN_RATIO);
        (spread ^ spread >> 16) as usize & self.chains.len().wrapping_sub(1)
    }

    /// Takes slot `index`, which `next` follows and which is not the first, out of a chain.
    fn unchain(&mut self, chain: usize, index: u16, next: u16) {
        let mut at = self.chains.get(chain).copied().unwrap_or(NONE);
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
        if new == old {
            return;
        }
        let number = |index| u16::try_from(index).unwrap_or(NONE);
        self.slots.reserve_exact(new - old);
        // Low slots first, so that the engine's array beside the table stays short.
        let next = |index| if index + 1 < new { number(index + 1) } else { NONE };
        self.slots.extend((old..new).map(|index| Slot { generation: 0, next: next(index), task: None }));
        self.vacant = number(old);
        self.chains = vec![NONE; new.next_power_of_two()];
        for index in 0..old {
            let Some(itt) = self.slots[index].task.as_ref().map(Task::itt) else { continue };
            let chain = self.chain(itt);
            self.slots[index].next = std::mem::replace(&mut self.chains[chain], number(index));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stampede_wire::{
        Lun,
        pdu::{InitiatorSns, TaskAttribute},
    };
    use std::collections::BTreeMap;

    fn insert(table: &mut TaskTable, itt: u32) -> Result<TaskKey, Refused> {
        let sns = InitiatorSns::default();
        let command = ScsiCommand::new(itt, Lun::ZERO, TaskAttribute::Simple, &[0; 16], sns);
        table.insert(&command, false).map(|(key, _)| key)
    }

    #[test]
    fn a_table_takes_as_many_as_it_may_and_gives_its_memory_back() {
        let mut table = TaskTable::new(20);
        assert_eq!((table.capacity(), table.slots_len()), (28, 0));
        let keys: Vec<_> = (0..28).map(|itt| insert(&mut table, itt).unwrap()).collect();
        assert_eq!(insert(&mut table, 99), Err(Refused::Full));
        table.shrink();
        assert_eq!(table.slots_len(), 28, "tasks keep their places");
        for key in &keys {
            assert!(table.remove(*key).is_some());
        }
        table.shrink();
        assert_eq!((table.len(), table.slots_len()), (0, 0));
        let again = insert(&mut table, 5).unwrap();
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
                    (0 | 1, None) => match insert(&mut table, itt) {
                        Ok(key) => { model.insert(itt, key); }
                        Err(why) => prop_assert_eq!((why, model.len()), (Refused::Full, table.capacity())),
                    },
                    (0 | 1, Some(_)) => prop_assert_eq!(insert(&mut table, itt), Err(Refused::TagInUse)),
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
                    prop_assert_eq!(table.at(*key).map(Task::itt), Some(*itt));
                }
                prop_assert_eq!(table.find(itt), model.get(&itt).copied());
            }
        }
    }
}
