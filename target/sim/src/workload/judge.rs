//! What an initiator's reports mean for the model.

use super::{Failure, Purpose, Workload};
use crate::initiator::{Done, Report, Tag};

const BUSY: u8 = 0x08;
const RESERVATION_CONFLICT: u8 = 0x18;
const TASK_SET_FULL: u8 = 0x28;
const TASK_ABORTED: u8 = 0x40;
const UNIT_ATTENTION: u8 = 6;
/// Sense codes of a unit attention that say that this nexus' commands were dropped: reset; commands cleared.
const DROPPED: [u8; 2] = [0x29, 0x2f];

impl Workload {
    /// Polls one initiator and judges what it reports.
    pub(super) fn poll(&mut self, index: usize) -> Result<(), Failure> {
        let reports = self.actors[index].initiator.poll();
        if !reports.is_empty() || !self.actors[index].is_waiting() {
            self.actors[index].content = self.world.now();
        }
        for report in reports {
            self.judge(index, report)?;
        }
        match self.actors[index].initiator.take_violations().into_iter().next() {
            Some(violation) => Err(Failure::Protocol { initiator: index, violation }),
            None => Ok(()),
        }
    }

    fn judge(&mut self, index: usize, report: Report) -> Result<(), Failure> {
        match report {
            Report::Done(done) => return self.judge_done(index, done),
            Report::Aborted { tag } => {
                self.counts.aborted += 1;
                self.give_up(index, tag);
            }
            Report::Rejected { tag: Some(tag), .. } => self.give_up(index, tag),
            Report::Disconnected { outstanding } => {
                for tag in outstanding {
                    self.lose(index, tag);
                }
            }
            Report::LoggedIn { .. } => {
                self.counts.logins += 1;
                for write in std::mem::take(&mut self.actors[index].limbo) {
                    self.model.abandon_write(write);
                }
            }
            Report::LoginFailed { .. } => self.counts.refused_logins += 1,
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, index: usize, tag: Tag) -> Option<Purpose> {
        let actor = &mut self.actors[index];
        actor.order.retain(|other| *other != tag);
        actor.waiting.remove(&tag)
    }

    /// The command ended without GOOD, and does nothing more.
    fn give_up(&mut self, index: usize, tag: Tag) {
        match self.take(index, tag) {
            Some(Purpose::Read { read, .. }) => self.model.abandon_read(read),
            Some(Purpose::Write { write, .. }) => self.model.abandon_write(write),
            Some(Purpose::Flush { flush }) => self.model.abandon_flush(flush),
            None => {}
        }
    }

    /// The connection is lost; writes may go on until the next login.
    fn lose(&mut self, index: usize, tag: Tag) {
        match self.take(index, tag) {
            Some(Purpose::Write { write, .. }) => {
                self.counts.lost += 1;
                self.actors[index].limbo.push(write);
            }
            Some(Purpose::Read { read, .. }) => {
                self.counts.lost += 1;
                self.model.abandon_read(read);
            }
            Some(Purpose::Flush { flush }) => {
                self.counts.lost += 1;
                self.model.abandon_flush(flush);
            }
            None => {}
        }
    }

    fn judge_done(&mut self, index: usize, done: Done) -> Result<(), Failure> {
        let sense = done.sense_code();
        if let (2, Some((UNIT_ATTENTION, code, _))) = (done.status, sense)
            && DROPPED.contains(&code)
        {
            self.drop_earlier(index, done.tag);
        }
        let Some(purpose) = self.take(index, done.tag) else { return Ok(()) };
        if done.is_good() {
            self.counts.good += 1;
            return self.judge_good(index, purpose, &done);
        }
        let refused = done.response == 0
            && (matches!(done.status, BUSY | RESERVATION_CONFLICT | TASK_SET_FULL)
                || (done.status == 2 && sense.is_some_and(|(key, ..)| key == UNIT_ATTENTION)));
        if refused {
            self.counts.refused += 1;
            match purpose {
                Purpose::Write { write, .. } => self.model.refuse_write(write),
                Purpose::Read { read, .. } => self.model.abandon_read(read),
                Purpose::Flush { flush } => self.model.abandon_flush(flush),
            }
            return Ok(());
        }
        self.counts.failed += 1;
        // What a failing disk explains: medium error, hardware error, aborted command, write protect for no space.
        let explained = done.response != 0
            || done.status == TASK_ABORTED
            || (done.status == 2 && matches!(sense, Some((2 | 3 | 4 | 7 | 0xb, ..))));
        match purpose {
            Purpose::Write { write, .. } => self.model.abandon_write(write),
            Purpose::Read { read, .. } => self.model.abandon_read(read),
            Purpose::Flush { flush } => self.model.abandon_flush(flush),
        }
        if explained {
            return Ok(());
        }
        Err(Failure::Status { initiator: index, status: done.status, sense, what: format!("{purpose:?}") })
    }

    fn judge_good(&mut self, index: usize, purpose: Purpose, done: &Done) -> Result<(), Failure> {
        let durable = matches!(purpose, Purpose::Flush { .. } | Purpose::Write { fua: true, .. });
        self.counts.durable += u64::from(durable);
        match purpose {
            Purpose::Write { write, fua } => self.model.finish_write(write, fua),
            Purpose::Flush { flush } => self.model.finish_flush(flush),
            Purpose::Read { read, lba, sectors } => {
                let wrong = |error| Failure::Wrong { initiator: index, lba, sectors, error };
                self.model.finish_read(read, &done.data).map_err(wrong)?;
            }
        }
        Ok(())
    }

    /// A unit attention said that this nexus' commands were dropped: those sent before the one that got it.
    fn drop_earlier(&mut self, index: usize, tag: Tag) {
        let order = &self.actors[index].order;
        let earlier: Vec<Tag> = order.iter().copied().take_while(|other| *other != tag).collect();
        for tag in earlier {
            self.counts.aborted += 1;
            self.actors[index].initiator.forget(tag);
            self.give_up(index, tag);
        }
    }
}
