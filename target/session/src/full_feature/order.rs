//! The order in which tasks leave for the engine (SAM-5 8.6, RFC 7143 4.2.2.1).
//!
//! A task has its place in the task set from its command's delivery on, though its data arrives later. The engine keeps
//! the order of what it has got; here is kept the order against what still gathers its data:
//!
//! ```text
//!   SIMPLE          waits for each older ORDERED task of its unit
//!   ORDERED         waits for each older task of its unit
//!   HEAD OF QUEUE   never waits
//! ```
//!
//! Commands of different I_T nexuses have no order of delivery: among them a task's place is that of its last data.

use std::{cmp::Reverse, collections::BTreeMap};

use stampede_wire::pdu::TaskAttribute;

use super::FullFeature;
use crate::{Output, Task, TaskKey, task::State};

/// What is ahead of a task on its unit, and is not with the engine yet.
#[derive(Clone, Copy, Debug, Default)]
struct Ahead {
    any: bool,
    ordered: bool,
}

impl FullFeature {
    /// Hands over the tasks whose turn has come, oldest first.
    #[cold]
    pub(super) fn start_waiting(&mut self, out: &mut impl Output) {
        let is_pending = |key: &TaskKey| self.tasks.at(*key).is_some_and(Task::is_pending);
        let mut line: Vec<TaskKey> = self.tasks.keys().filter(is_pending).collect();
        let latest = self.tasks.latest();
        line.sort_unstable_by_key(|key| Reverse(latest.wrapping_sub(key.generation)));
        let mut units: BTreeMap<_, Ahead> = BTreeMap::new();
        for key in line {
            let Some(task) = self.tasks.at_mut(key) else { continue };
            // One unit may be addressed by different methods.
            let ahead = units.entry(task.lun().decode().ok_or(task.lun())).or_default();
            let (attribute, ordered) = (task.attribute(), task.is_ordered());
            let turn = match attribute {
                TaskAttribute::HeadOfQueue => true,
                TaskAttribute::Ordered => !ahead.any,
                _ => !ahead.ordered,
            };
            if turn && task.state == State::Waiting {
                task.state = State::Running;
                self.ordered -= u16::from(ordered);
                out.command(key);
            } else {
                ahead.any = true;
                ahead.ordered |= ordered;
            }
        }
    }
}
