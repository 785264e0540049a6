//! A unit's task set: when an ORDERED or HEAD OF QUEUE task may start (SAM-5 8.6).
//!
//! SIMPLE tasks run side by side. An ORDERED task starts when all older tasks have ended, and younger ones wait for
//! it. A HEAD OF QUEUE task starts at once.

use crate::request::Request;
use stampede_session::TaskAttribute;
use std::collections::VecDeque;

/// The tasks of one unit that have not ended: how many run, and which wait. What waits is bounded by the command
/// windows of the sessions.
#[derive(Default)]
pub(crate) struct TaskSet {
    running: u32,
    ordered_running: bool,
    waiting: VecDeque<Request>,
}

impl TaskSet {
    /// A task arrives: whether it may start now. If not, it is to be [held](Self::hold).
    pub(crate) fn enter(&mut self, request: &Request) -> bool {
        if request.attribute == TaskAttribute::HeadOfQueue {
            self.running += 1;
            return true;
        }
        let starts = self.waiting.is_empty() && self.may_start(request);
        if starts {
            self.started(request);
        }
        starts
    }

    /// Keeps a task that may not start yet.
    pub(crate) fn hold(&mut self, request: Request) {
        self.waiting.push_back(request);
    }

    fn may_start(&self, request: &Request) -> bool {
        match request.attribute {
            TaskAttribute::Ordered => self.running == 0,
            _ => !self.ordered_running,
        }
    }

    fn started(&mut self, request: &Request) {
        self.running += 1;
        self.ordered_running |= request.attribute == TaskAttribute::Ordered;
    }

    /// A running task has ended: appends those that may start now.
    pub(crate) fn leave(&mut self, startable: &mut VecDeque<Request>) {
        self.running = self.running.saturating_sub(1);
        if self.running == 0 {
            self.ordered_running = false;
        }
        while let Some(request) = self.waiting.pop_front() {
            if !self.may_start(&request) {
                self.waiting.push_front(request);
                return;
            }
            self.started(&request);
            startable.push_back(request);
        }
    }

    /// Whether no task runs or waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.running == 0 && self.waiting.is_empty()
    }

    /// Takes waiting tasks out, to be aborted.
    pub(crate) fn abort(&mut self, victim: impl Fn(&Request) -> bool) -> Vec<Request> {
        let (out, kept) = std::mem::take(&mut self.waiting).into_iter().partition(|request| victim(request));
        self.waiting = kept;
        Vec::from(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{LunId, ShardId};
    use crate::payload::Payload;
    use crate::request::Origin;
    use crate::token::Key;
    use stampede_scsi::NexusId;
    use stampede_session::TaskKey;

    fn request(number: u16, attribute: TaskAttribute) -> Request {
        Request {
            origin: Origin {
                shard: ShardId(0),
                connection: Key { index: 0, generation: 0 },
                task: TaskKey { index: number, generation: 1 },
            },
            nexus: NexusId(1),
            lun: LunId(1),
            cdb: [0; 16],
            generations: 0,
            attribute,
            priority: 0,
            expected_out: 0,
            borrowed: false,
            data: Payload::default(),
        }
    }

    fn enter(set: &mut TaskSet, request: Request) -> bool {
        let starts = set.enter(&request);
        if !starts {
            set.hold(request);
        }
        starts
    }

    fn leave(set: &mut TaskSet) -> Vec<u16> {
        let mut startable = VecDeque::new();
        set.leave(&mut startable);
        startable.iter().map(|request| request.origin.task.index).collect()
    }

    #[test]
    fn an_ordered_task_waits_for_older_ones_and_younger_ones_wait_for_it() {
        let mut set = TaskSet::default();
        assert!(enter(&mut set, request(1, TaskAttribute::Simple)));
        assert!(enter(&mut set, request(2, TaskAttribute::Simple)));
        assert!(!enter(&mut set, request(3, TaskAttribute::Ordered)));
        assert!(!enter(&mut set, request(4, TaskAttribute::Simple)));
        assert!(enter(&mut set, request(5, TaskAttribute::HeadOfQueue)));
        assert_eq!(leave(&mut set), []);
        assert_eq!(leave(&mut set), []);
        assert_eq!(leave(&mut set), [3]);
        assert_eq!(leave(&mut set), [4]);
        assert_eq!(leave(&mut set), []);
    }

    #[test]
    fn aborted_tasks_leave_the_queue_and_the_rest_keeps_its_order() {
        let mut set = TaskSet::default();
        assert!(enter(&mut set, request(1, TaskAttribute::Ordered)));
        for number in 2..6 {
            assert!(!enter(&mut set, request(number, TaskAttribute::Simple)));
        }
        let aborted = set.abort(|request| request.origin.task.index % 2 == 0);
        assert_eq!(aborted.len(), 2);
        assert_eq!(leave(&mut set), [3, 5]);
    }
}
