//! Data that is still on its way for tasks that a function killed (RFC 7143 4.2.3.3, 4.2.3.4).
//!
//! Without TaskReporting=FastAbort a function over several tasks waits for the data of every R2T that its initiator has
//! from them: such a task stays in the table, without memory, until its data has been taken off the wire. The function
//! runs meanwhile; only its response waits. Linux never sends the data of what it aborts, whatever was negotiated, so the
//! wait is bounded: what comes later is dropped by its tag.
//!
//! With FastAbort nobody waits, and other sessions that lose tasks are told so by an Asynchronous Message.

use stampede_wire::{Lun, pdu::AsyncMessage};

use super::{FullFeature, Killer, Life};
use crate::{OutData, Output, TaskKey, settings::SECOND_NS};

/// How long a function waits for data. Initiators give functions 15 s and more.
const WAIT_NS: u64 = 2 * SECOND_NS;

/// The tasks that are waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Drain {
    pub(super) tasks: u16,
    /// Until when; `None` until the clock was looked at.
    until_ns: Option<u64>,
}

impl FullFeature {
    /// Kills a task whose solicited data is on its way.
    pub(super) fn begin_drain(&mut self, key: TaskKey, out: &mut impl Output) {
        let Some(task) = self.tasks.at_mut(key) else { return };
        self.ordered = self.ordered.saturating_sub(u16::from(task.is_ordered()));
        task.collection.kill();
        self.drain = Drain { tasks: self.drain.tasks + 1, until_ns: None };
        out.release(key);
    }

    /// Tasks that are not only waited for.
    pub(crate) fn tasks_len(&self) -> usize {
        self.tasks.len().saturating_sub(usize::from(self.drain.tasks))
    }

    /// The last data of a killed task is off the wire.
    pub(super) fn drained(&mut self, key: TaskKey, out: &mut impl Output) {
        self.discard(key, out);
        self.end_drain(out);
    }

    /// Answers the functions that waited, if nothing is left to wait for.
    fn end_drain(&mut self, out: &mut impl Output) {
        if self.drain.tasks == 0 {
            self.drain = Drain::default();
            self.answer_drained(out);
        }
    }

    /// When the clock is to be looked at; 0 means at once.
    pub(super) fn drain_deadline_ns(&self) -> Option<u64> {
        (self.drain.tasks > 0).then(|| self.drain.until_ns.unwrap_or(0))
    }

    /// Time has passed: gives up on data that does not come.
    pub(super) fn tick_drain(&mut self, now_ns: u64, out: &mut impl Output) {
        if self.drain.tasks == 0 {
            return;
        }
        let until_ns = *self.drain.until_ns.get_or_insert(now_ns.saturating_add(WAIT_NS));
        if now_ns < until_ns {
            return;
        }
        for index in 0..self.tasks.slots_len() {
            if let Some(key) = self.tasks.key(index)
                && self.tasks.at(key).is_some_and(crate::Task::is_draining)
            {
                self.discard(key, out);
            }
        }
        self.end_drain(out);
    }

    /// See [`Connection::kill`](crate::Connection::kill).
    pub(crate) fn kill_for_other(&mut self, lun: Option<Lun>, out: &mut impl Output) {
        let lost = self.kill(lun, Killer::Other, out);
        if let Some(lun) =
            lun.filter(|_| lost && self.info.parameters.fast_abort && self.life == Life::Active)
        {
            let pdu = AsyncMessage::tasks_terminated(lun, self.numbers.status());
            self.send(&pdu, OutData::None, out);
        }
    }
}
