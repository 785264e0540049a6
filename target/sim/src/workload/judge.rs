//! What an initiator's reports mean for the model.

use super::{Failure, Purpose, Workload};
use crate::initiator::{Command, Done, Report, Tag, Transfer, cdb};

const BUSY: u8 = 0x08;
const RESERVATION_CONFLICT: u8 = 0x18;
const TASK_SET_FULL: u8 = 0x28;
const TASK_ABORTED: u8 = 0x40;
const UNIT_ATTENTION: u8 = 6;
/// ABORT TASKs under way at once for commands that got no answer.
const INQUIRIES_MAX: usize = 4;
/// Silence after which an initiator that waits sends another command, in nanoseconds.
const QUIET_NS: u64 = 20_000_000;

impl Workload {
    /// Polls one initiator and judges what it reports.
    pub(super) fn poll(&mut self, index: usize) -> Result<(), Failure> {
        let actor = &mut self.actors[index];
        let reports = actor.initiator.poll();
        let is_knock =
            |report: &Report| matches!(report, Report::Done(done) if actor.knocks.contains(&done.tag));
        if !reports.iter().all(is_knock) || !actor.is_waiting() {
            actor.content = self.world.now();
        }
        for report in reports {
            self.judge(index, report)?;
        }
        self.inquire(index);
        self.knock(index);
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
            Report::Rejected { tag: Some(tag), .. } => match self.actors[index].inquiries.remove(&tag) {
                Some(suspect) => self.actors[index].suspects.push(suspect),
                None => self.give_up(index, tag),
            },
            Report::TaskManagement { tag, response } => {
                if let Some(suspect) = self.actors[index].inquiries.remove(&tag) {
                    self.inquired(index, suspect, response);
                }
            }
            Report::Disconnected { outstanding } => {
                self.actors[index].suspects.clear();
                self.actors[index].doubts.clear();
                self.actors[index].inquiries.clear();
                self.actors[index].knocks.clear();
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
        self.actors[index].knocks.remove(&tag);
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
        // Reset, or commands cleared by another initiator. 29h/00h greets a new nexus, of which most likely nothing
        // was dropped.
        match (done.status, sense) {
            (2, Some((UNIT_ATTENTION, 0x29, 0))) => self.suspect_earlier(index, done.tag, false),
            (2, Some((UNIT_ATTENTION, 0x29 | 0x2f, _))) => self.suspect_earlier(index, done.tag, true),
            _ => {}
        }
        self.actors[index].knocks.remove(&done.tag);
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
            Purpose::Write { write, fua, .. } => self.model.finish_write(write, fua),
            Purpose::Flush { flush } => self.model.finish_flush(flush),
            Purpose::Read { read, lba, sectors } => {
                let wrong = |error| Failure::Wrong { initiator: index, lba, sectors, error };
                self.model.finish_read(read, &done.data).map_err(wrong)?;
            }
        }
        Ok(())
    }

    /// A unit attention said that this nexus' commands were dropped. Those sent before the one that got it may be
    /// among them, or may have come later than what dropped them: only asking tells, at once or once nothing comes.
    fn suspect_earlier(&mut self, index: usize, tag: Tag, at_once: bool) {
        let actor = &mut self.actors[index];
        let asked: Vec<Tag> = actor.inquiries.values().chain(&actor.suspects).copied().collect();
        let earlier = actor.order.iter().copied().take_while(|other| *other != tag);
        let earlier = earlier.chain(actor.knocks.iter().copied().filter(|other| *other != tag));
        let list = if at_once { &mut actor.suspects } else { &mut actor.doubts };
        list.extend(earlier.filter(|other| !asked.contains(other)));
    }

    /// Where nothing comes, a unit attention may wait for a command that can fetch it: initiators with a full queue
    /// would never hear that their commands were dropped.
    fn knock(&mut self, index: usize) {
        let (now, lun) = (self.world.now(), self.config.lun);
        let actor = &mut self.actors[index];
        // Those before may have been dropped as well.
        let patience = QUIET_NS << actor.knocks.len().min(6);
        let quiet = now.saturating_sub(actor.content.max(actor.knocked)) > patience;
        if quiet && actor.is_waiting() {
            let mut command = Command::new(lun, cdb::test_unit_ready(), Transfer::None);
            command.immediate = true;
            actor.knocks.extend(actor.initiator.command(command));
            actor.knocked = now;
            actor.suspects.append(&mut actor.doubts);
        }
    }

    /// Asks after suspects by ABORT TASK, as initiators do whose commands get no answer.
    fn inquire(&mut self, index: usize) {
        let lun = self.config.lun;
        let actor = &mut self.actors[index];
        while actor.inquiries.len() < INQUIRIES_MAX
            && let Some(tag) = actor.suspects.pop()
        {
            if (actor.waiting.contains_key(&tag) || actor.knocks.contains(&tag))
                && let Some(function) = actor.initiator.task_management(1, lun, Some(tag))
            {
                actor.inquiries.insert(function, tag);
            }
        }
    }

    /// What became of a suspect.
    fn inquired(&mut self, index: usize, tag: Tag, response: u8) {
        match response {
            // It was aborted now, which was reported, or does not exist: either way it does nothing more.
            0 | 1 => {
                self.actors[index].initiator.forget(tag);
                self.actors[index].knocks.remove(&tag);
                if self.actors[index].waiting.contains_key(&tag) {
                    self.counts.aborted += 1;
                    self.give_up(index, tag);
                }
            }
            _ => self.actors[index].suspects.push(tag),
        }
    }
}
