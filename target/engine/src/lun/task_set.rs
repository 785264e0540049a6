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
    /// A task arrives; it comes back if it may start now.
    pub(crate) fn enter(&mut self, request: Request) -> Option<Request> {
        if request.attribute == TaskAttribute::HeadOfQueue {
            self.running += 1;
            return Some(request);
        }
        if !self.waiting.is_empty() || !self.may_start(&request) {
            self.waiting.push_back(request);
            return None;
        }
        self.started(&request);
        Some(request)
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

    /// Takes waiting tasks out, to be aborted.
    pub(crate) fn abort(&mut self, victim: impl Fn(&Request) -> bool) -> Vec<Request> {
        let (out, kept) = std::mem::take(&mut self.waiting).into_iter().partition(|request| victim(request));
        self.waiting = kept;
        Vec::from(out)
    }
}
