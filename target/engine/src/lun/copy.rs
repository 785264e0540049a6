//! Third-party copies: what a device server's copier asks for, carried out as ordinary commands.
//!
//! ```text
//!  EXTENDED COPY ─► Device::third_party ─► Copier::next ─► Ask ─► command to its unit, here or on another shard
//!                                              ▲                      │ task set, reservations, range locks, transfers
//!                                              └── one a turn ◄── Answer, with the origin of the copy
//! ```
//!
//! A copy has one command under way at a time, and a shard goes on with one copy a turn: copies take their turn among
//! initiators' commands. The data of a READ is the data of the WRITE behind it: nothing is copied between them. The
//! commands are HEAD OF QUEUE, since the copy itself is a task of its unit, and an ORDERED task waits for it.
//!
//! A copy that is stopped ends when the command under way has: no write of it lands after its end was told.

use super::clearing::{Waiting, aborted};
use super::{Backend, Io, Result};
use crate::messages::{LunAddress, LunId, LunMap};
use crate::payload::Payload;
use crate::request::{Answer, Data, Origin, Outcome, Request};
use crate::token::Key;
use stampede_ring::Ring;
use stampede_scsi::copy::{Answered, Copier, CopyStep, Moment, Next};
use stampede_scsi::{Blocks, NexusId, Reply, Status};
use stampede_session::TaskAttribute;
use std::collections::VecDeque;
use std::sync::Arc;

/// One copy in progress.
pub(super) struct Copy {
    origin: Origin,
    nexus: NexusId,
    lun: LunId,
    place: Key,
    copier: Box<Copier>,
    /// The other units that the nexus sees.
    others: Vec<LunAddress>,
    /// What the last READ has brought.
    read: Payload,
    /// The end of the command that was under way.
    answer: Option<Outcome>,
    /// It shall end: with this outcome.
    stopped: Option<Outcome>,
}

impl Copy {
    pub(super) fn is_on(&self, lun: LunId) -> bool {
        self.lun == lun
    }

    pub(super) fn nexus(&self) -> NexusId {
        self.nexus
    }

    /// What the copier wants next; what the last command brought is taken.
    fn next(&mut self) -> Next {
        let Some(outcome) = &mut self.answer else { return self.copier.next(None) };
        let Outcome::Ended { status, data, .. } = outcome else {
            return self.copier.next(Some(Answered { status: None, data: &[], len: 0 }));
        };
        let (len, mut inline): (u64, &[u8]) = (data.len(), &[]);
        match data {
            Data::Pieces(payload) => self.read = std::mem::take(payload),
            Data::Inline(bytes) => inline = bytes,
        }
        self.copier.next(Some(Answered { status: Some(*status), data: inline, len }))
    }
}

impl Backend {
    /// The units that a nexus of a unit sees.
    pub(crate) fn sees(&mut self, lun: LunId, nexus: NexusId, luns: Arc<LunMap>) {
        if let Some(lun) = self.lun_mut(lun) {
            lun.seen.insert(nexus, luns);
        }
    }

    /// A third-party copy command goes on.
    pub(super) fn third_party(&mut self, place: Key, request: &Request, now_ns: u64) {
        let Some(lun) = self.luns.get_mut(place) else { return };
        let (origin, nexus, name) = (request.origin, request.nexus, request.lun);
        let seen = lun.seen.get(&nexus);
        let others = seen.into_iter().flat_map(|luns| &luns.0).map(|(_, address)| *address);
        let mut others: Vec<LunAddress> = others.filter(|address| address.lun != name).collect();
        others.truncate(usize::from(u16::MAX));
        let jobs = &self.jobs;
        let changing =
            |range: Blocks| jobs.iter().any(|(_, job)| job.unit() == place && job.may_change(range));
        let moment =
            Moment { now_ns, key: &self.token_key, others: others.len() as u16, changing: &changing };
        let param = request.data.to_vec();
        match lun.device.third_party(nexus, &request.cdb, &param, &moment) {
            CopyStep::Done(reply) => self.finish(place, Answer { origin, lun: name, outcome: reply.into() }),
            CopyStep::Copy(copier) => {
                let copy = Copy {
                    origin,
                    nexus,
                    lun: name,
                    place,
                    copier,
                    others,
                    read: Payload::NONE,
                    answer: None,
                    stopped: None,
                };
                match self.copies.insert(copy) {
                    Ok(key) => self.due_copies.push_back(key),
                    Err(copy) => self.end_copy(copy, Reply::status(Status::Busy).into()),
                }
            }
            CopyStep::Abort(id, reply) => {
                let outcome = || Reply::status(Status::TaskAborted).into();
                let keys = self.stop_copies(outcome, |copy| copy.place == place && copy.copier.is(id));
                let answer = Answer { origin, lun: name, outcome: reply.into() };
                self.wait_for(name, Waiting::for_copies(keys, answer));
            }
        }
    }

    /// Makes copies end with this outcome once the command under way has ended.
    pub(super) fn stop_copies(
        &mut self,
        outcome: impl Fn() -> Outcome,
        victim: impl Fn(&Copy) -> bool,
    ) -> Vec<Key> {
        let mut keys = Vec::new();
        let all: Vec<Key> = self.copies.keys().collect();
        for key in all {
            let Some(copy) = self.copies.get_mut(key).filter(|copy| victim(copy)) else { continue };
            // One that ends without status has no initiator that would hear another.
            if copy.stopped.is_none() || matches!(outcome(), Outcome::Aborted) {
                copy.stopped = Some(outcome());
            }
            keys.push(key);
        }
        keys
    }

    /// A session gives up a copy, or the wait for a sanitize operation: it ends without status, be it that it still
    /// waits for its turn.
    pub(crate) fn stop_copy<R: Ring>(&mut self, lun: LunId, origin: Origin, io: &mut Io<'_, R>) {
        self.stop_copies(|| Outcome::Aborted, |copy| copy.origin == origin);
        self.forsake_sanitize(lun, |waiter| waiter == origin);
        if let Some(unit) = self.lun_mut(lun) {
            let held = unit.tasks.abort(|held| held.origin == origin);
            let behind = std::mem::take(&mut unit.behind_save);
            let (behind, kept): (VecDeque<_>, VecDeque<_>) =
                behind.into_iter().partition(|held| held.origin == origin);
            unit.behind_save = kept;
            self.drop_held(held);
            for request in behind {
                if let Some(place) = self.place(lun) {
                    self.finish(place, aborted(&request));
                }
            }
        }
        self.settle(io);
    }

    /// Whether a copy can go on.
    #[inline]
    pub(crate) fn copy_is_due(&self) -> bool {
        !self.due_copies.is_empty()
    }

    /// Goes on with the copy that has waited longest.
    pub(crate) fn run_copy<R: Ring>(&mut self, io: &mut Io<'_, R>) {
        let Some(key) = self.due_copies.pop_front() else { return };
        let Some(copy) = self.copies.get_mut(key) else { return };
        if copy.stopped.is_some() {
            return self.copy_over(key, io);
        }
        let next = copy.next();
        if let Some(lun) = self.luns.get_mut(copy.place) {
            lun.device.copy_progressed(&copy.copier);
        }
        match next {
            Next::Ask(ask) => {
                let (lun, owner) = match usize::from(ask.unit).checked_sub(1).map(|at| copy.others.get(at)) {
                    None => (copy.lun, self.shard),
                    Some(Some(address)) => (address.lun, address.owner),
                    Some(None) => {
                        debug_assert!(false, "a copier asks for a unit that is not there");
                        copy.stopped = Some(Reply::status(Status::Busy).into());
                        return self.copy_over(key, io);
                    }
                };
                let data = if ask.writes_read_data { std::mem::take(&mut copy.read) } else { Payload::NONE };
                let request = Request {
                    origin: Origin::of_copy(self.shard, key),
                    nexus: copy.nexus,
                    lun,
                    cdb: ask.cdb,
                    generations: 0,
                    attribute: TaskAttribute::HeadOfQueue,
                    priority: 0,
                    expected_out: u32::try_from(data.len()).unwrap_or(u32::MAX),
                    borrowed: false,
                    data,
                };
                self.results.push_back(Result::CopyCommand(owner, request));
                return;
            }
            Next::Done(reply) => {
                let lun = self.luns.get(copy.place);
                let reply = lun.map_or(reply.clone(), |lun| lun.device.copy_reply(reply));
                copy.stopped = Some(reply.into());
            }
            Next::Forward => copy.stopped = copy.answer.take(),
        }
        self.copy_over(key, io);
    }

    /// A copy has nothing under way and is to end.
    fn copy_over<R: Ring>(&mut self, key: Key, io: &mut Io<'_, R>) {
        let Some(mut copy) = self.copies.remove(key) else { return };
        let (place, outcome) = (copy.place, copy.stopped.take().unwrap_or(Outcome::Aborted));
        self.end_copy(copy, outcome);
        self.copy_is_over(place, key);
        self.settle(io);
    }

    fn end_copy(&mut self, copy: Copy, outcome: Outcome) {
        if let Some(lun) = self.luns.get_mut(copy.place) {
            let (status, sense): (_, &[u8]) = match &outcome {
                Outcome::Ended { status: Status::TaskAborted, .. } | Outcome::Aborted => (None, &[]),
                Outcome::Ended { status, sense, .. } => {
                    (Some(*status), sense.as_ref().map_or(&[], |sense| &sense[..]))
                }
            };
            lun.device.copy_ended(&copy.copier, status, sense);
        }
        self.finish(copy.place, Answer { origin: copy.origin, lun: copy.lun, outcome });
    }

    /// A command of a copy has ended.
    pub(crate) fn copy_answered(&mut self, key: Key, outcome: Outcome) {
        if let Some(copy) = self.copies.get_mut(key) {
            copy.answer = Some(outcome);
            self.due_copies.push_back(key);
        } else {
            debug_assert!(false, "a command outlived its copy");
        }
    }

    /// A command of a copy arrives.
    pub(crate) fn execute_for_copy<R: Ring>(&mut self, request: Request, io: &mut Io<'_, R>) {
        let place = self.place(request.lun);
        let Some((place, lun)) = place.and_then(|place| Some((place, self.luns.get_mut(place)?))) else {
            let outcome = stampede_scsi::no_such_lun(&request.cdb).into();
            self.results.push_back(Result::Answer(Answer {
                origin: request.origin,
                lun: request.lun,
                outcome,
            }));
            return;
        };
        if lun.is_killed(&request) {
            self.drop_held(vec![request]);
            return;
        }
        // HEAD OF QUEUE: it starts at once.
        lun.tasks.enter(&request);
        let step = lun.device.start_for_copy(request.nexus, &request.cdb, request.expected_out, io.now_ns);
        self.go(place, request, step, io);
        self.settle(io);
    }

    /// Whether this shard has the unit.
    pub(crate) fn owns(&self, lun: LunId) -> bool {
        self.places.contains_key(&lun)
    }
}
