//! The task table: a slab of fixed size, found by key or by Initiator Task Tag.

use stampede_wire::RESERVED_TAG;

use crate::{Task, TaskKey};

/// Slots beyond the command window, for commands marked for immediate delivery (RFC 7143 4.2.2.1 wants at least
/// one).
pub(crate) const IMMEDIATE_MAX: usize = 8;

/// The tasks of a session. All memory is taken in `new`.
#[derive(Debug)]
pub(crate) struct TaskTable {
    slots: Vec<Slot>,
    /// The tag of each slot's task, `RESERVED_TAG` where there is none: what a search by tag runs over.
    tags: Vec<u32>,
    free: Vec<u16>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    task: Option<Task>,
}

impl TaskTable {
    /// A table for a command window of `window`.
    pub(crate) fn new(window: u16) -> Self {
        let slots = (usize::from(window) + IMMEDIATE_MAX).min(usize::from(u16::MAX));
        Self {
            slots: (0..slots).map(|_| Slot { generation: 0, task: None }).collect(),
            tags: vec![RESERVED_TAG; slots],
            free: (0..slots).rev().map(|index| u16::try_from(index).unwrap_or(u16::MAX)).collect(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Adds a task whose tag is not in the table; `None` when the table is full.
    pub(crate) fn insert(&mut self, task: Task) -> Option<TaskKey> {
        let index = self.free.pop()?;
        let at = usize::from(index);
        self.tags[at] = task.itt;
        let slot = &mut self.slots[at];
        slot.generation = slot.generation.wrapping_add(1);
        slot.task = Some(task);
        Some(TaskKey { index, generation: slot.generation })
    }

    pub(crate) fn remove(&mut self, key: TaskKey) -> Option<Task> {
        let slot =
            self.slots.get_mut(usize::from(key.index)).filter(|slot| slot.generation == key.generation)?;
        let task = slot.task.take()?;
        self.tags[usize::from(key.index)] = RESERVED_TAG;
        self.free.push(key.index);
        Some(task)
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
        if itt == RESERVED_TAG {
            return None;
        }
        let at = self.tags.iter().position(|tag| *tag == itt)?;
        self.key(at)
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
}
