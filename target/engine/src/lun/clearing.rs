//! Ending tasks of a unit: resets, CLEAR TASK SET, PREEMPT AND ABORT; and waiting until tasks are over.
//!
//! ```text
//!  owner: jobs marked aborted, held tasks dropped ── Kill ──▶ every shard: sessions kill what has not come yet
//!     │                                           ◀─ Killed ──
//!     └─ the jobs' I/O is over, every shard has answered, a change of state is saved: then the answer
//! ```

use super::copy::Copy;
use super::job::Job;
use super::{Backend, Io, Lun, Result};
use crate::messages::{LunId, ShardId};
use crate::request::{Answer, Clearing, Kill, Manager, Outcome, Request};
use crate::token::{Key, Table};
use stampede_ring::Ring;
use stampede_scsi::{Fence, NexusId};
use stampede_session::ManagementResponse;
use std::sync::Arc;

/// Somebody waits until what was under way when it asked is over.
pub(super) struct Waiting {
    /// Jobs.
    jobs: Vec<Key>,
    /// Third-party copies.
    copies: Vec<Key>,
    /// A kill that every shard has to answer.
    kill: Option<u32>,
    /// A change of the unit's lasting state.
    save: bool,
    then: Then,
}

impl Waiting {
    /// Until these copies are over; then this answer goes out.
    pub(super) fn for_copies(copies: Vec<Key>, answer: Answer) -> Self {
        Self { jobs: Vec::new(), copies, kill: None, save: false, then: Then::Answer(answer) }
    }

    fn is_over(&self) -> bool {
        self.jobs.is_empty() && self.copies.is_empty() && self.kill.is_none() && !self.save
    }
}

/// What follows.
enum Then {
    /// A task-management request is answered.
    Manager(Manager),
    /// A command is answered (PERSISTENT RESERVE OUT).
    Answer(Answer),
    /// The medium of this unit is sanitized.
    Sanitize(Key),
}

/// A kill that a shard has not answered. What it sends until then was sent before: executing it would spend the unit
/// attention that its initiator is to get on a dead task.
pub(super) struct Killing {
    shard: ShardId,
    kill: Kill,
}

impl Kill {
    /// Whether it is about the tasks of this nexus.
    pub(crate) fn concerns(&self, nexus: NexusId) -> bool {
        nexus != self.nexus && self.only.as_ref().is_none_or(|only| only.contains(&nexus))
    }
}

impl Lun {
    /// Whether the command's session was told to kill it, or is about to be.
    pub(super) fn is_killed(&self, request: &Request) -> bool {
        let shard = request.origin.shard;
        self.killing.iter().any(|killing| killing.shard == shard && killing.kill.concerns(request.nexus))
    }
}

impl Backend {
    fn abort_jobs(jobs: &mut Table<Job>, victim: impl Fn(&Job) -> bool) -> Vec<Key> {
        let keys: Vec<Key> = jobs.iter().filter(|(_, job)| victim(job)).map(|(key, _)| key).collect();
        for key in &keys {
            if let Some(job) = jobs.get_mut(*key) {
                job.abort();
            }
        }
        keys
    }

    /// Answers tasks that never ran.
    pub(super) fn drop_held(&mut self, held: Vec<Request>) {
        for request in held {
            self.results.push_back(Result::Answer(aborted(&request)));
        }
    }

    /// Has all sessions kill tasks of a unit that have not come here: those of all nexuses but the one that asked, or
    /// only those of some. Sessions mark their tasks killed before they learn that those are over.
    fn kill(&mut self, lun: LunId, nexus: NexusId, only: Option<Arc<[NexusId]>>, tells: bool) -> u32 {
        let number = self.next_kill;
        self.next_kill = number.wrapping_add(1);
        let kill = Kill { lun, owner: self.shard, number, nexus, only, tells };
        let shards = self.shards.clone();
        if let Some(unit) = self.lun_mut(lun) {
            unit.killing.extend(shards.into_iter().map(|shard| Killing { shard, kill: kill.clone() }));
        }
        self.results.push_back(Result::Kill(kill));
        number
    }

    /// What a function does to a unit without ending tasks of it, and what it is answered.
    fn without_ending_tasks(&mut self, lun: LunId, nexus: NexusId, clearing: Clearing) -> ManagementResponse {
        let Some(unit) = self.lun_mut(lun) else { return ManagementResponse::Complete };
        let event = match clearing {
            Clearing::QueryEvent => unit.device.pending_event(nexus),
            _ => {
                unit.device.nexus_lost(nexus);
                None
            }
        };
        event
            .map_or(ManagementResponse::Complete, |information| ManagementResponse::Succeeded { information })
    }

    /// Ends all tasks of a unit without status, if that is what is wanted, and answers the manager when their I/O is over.
    pub(crate) fn clear<R: Ring>(
        &mut self,
        manager: Manager,
        lun: LunId,
        nexus: NexusId,
        clearing: Clearing,
        io: &mut Io<'_, R>,
    ) {
        if !clearing.ends_tasks() {
            let response = self.without_ending_tasks(lun, nexus, clearing);
            self.results.push_back(Result::Cleared(manager, response));
            return;
        }
        let jobs = Self::abort_jobs(&mut self.jobs, |job| job.lun() == lun);
        let copies = self.stop_copies(|| Outcome::Aborted, |copy| copy.is_on(lun));
        let forsaken = self.forsake_sanitize(lun, |_| true);
        let place = self.places.get(&lun).copied();
        let Some((place, unit)) = place.and_then(|place| Some((place, self.luns.get_mut(place)?))) else {
            self.results.push_back(Result::Cleared(manager, ManagementResponse::Complete));
            return;
        };
        let held = unit.tasks.abort(|_| true);
        let behind: Vec<Request> = unit.behind_save.drain(..).collect();
        let save = unit.saving.is_some();
        match clearing {
            Clearing::Reset => unit.device.reset_by(nexus),
            Clearing::TargetReset => unit.device.reset(),
            Clearing::PowerOn => unit.device.power_on_reset(),
            _ => {
                let mut victims = victims(&self.jobs, &jobs, held.iter().chain(&behind));
                victims.extend(forsaken);
                unit.device.tasks_cleared_by(nexus, &victims);
            }
        }
        // Every shard has killed before the answer: what anybody sends after that must live.
        let kill = Some(self.kill(lun, nexus, None, clearing == Clearing::ClearTaskSet));
        self.drop_held(held);
        for request in behind {
            self.finish(place, aborted(&request));
        }
        self.wait_for(lun, Waiting { jobs, copies, kill, save, then: Then::Manager(manager) });
        self.settle(io);
    }

    /// A PERSISTENT RESERVE OUT took access away: it is answered when the tasks of the preempted are gone, wherever
    /// they were, and what those who lost access had under way is over.
    pub(super) fn fence(&mut self, place: Key, request: &Request, fence: Fence) {
        let (lun, nexus) = (request.lun, request.nexus);
        let mut jobs =
            Self::abort_jobs(&mut self.jobs, |job| job.lun() == lun && fence.aborted.contains(&job.nexus()));
        let preempted = |copy: &Copy| copy.is_on(lun) && fence.aborted.contains(&copy.nexus());
        let mut copies = self.stop_copies(|| Outcome::Aborted, preempted);
        // What lost access ends by itself, at its next command.
        let lost = |copy: &Copy| copy.is_on(lun) && fence.awaited.contains(&copy.nexus());
        copies.extend(self.copies.iter().filter(|(_, copy)| lost(copy)).map(|(key, _)| key));
        let mut kill = None;
        if !fence.aborted.is_empty()
            && let Some(unit) = self.luns.get_mut(place)
        {
            let held = unit.tasks.abort(|held| fence.aborted.contains(&held.nexus));
            let (behind, kept) =
                unit.behind_save.drain(..).partition::<Vec<_>, _>(|held| fence.aborted.contains(&held.nexus));
            unit.behind_save.extend(kept);
            let victims = victims(&self.jobs, &jobs, held.iter().chain(&behind));
            unit.device.tasks_cleared_by(nexus, &victims);
            kill = Some(self.kill(lun, nexus, Some(fence.aborted.to_vec().into()), true));
            self.drop_held(held);
            for request in behind {
                self.finish(place, aborted(&request));
            }
        }
        let awaited = |job: &Job| job.lun() == lun && fence.awaited.contains(&job.nexus());
        let others = self.jobs.iter().filter(|(key, job)| awaited(job) && !jobs.contains(key));
        let others: Vec<Key> = others.map(|(key, _)| key).collect();
        jobs.extend(others);
        let answer = Answer { origin: request.origin, lun, outcome: fence.reply.into() };
        self.wait_for(lun, Waiting { jobs, copies, kill, save: false, then: Then::Answer(answer) });
    }

    /// The medium of a unit is sanitized when these jobs are over.
    pub(super) fn sanitize_after(&mut self, lun: LunId, place: Key, jobs: Vec<Key>) {
        let then = Then::Sanitize(place);
        self.wait_for(lun, Waiting { jobs, copies: Vec::new(), kill: None, save: false, then });
    }

    pub(super) fn wait_for(&mut self, lun: LunId, waiting: Waiting) {
        if waiting.is_over() {
            self.waited(waiting.then);
        } else if let Some(lun) = self.lun_mut(lun) {
            lun.clearings.push(waiting);
        }
    }

    fn waited(&mut self, then: Then) {
        match then {
            Then::Manager(manager) => {
                self.results.push_back(Result::Cleared(manager, ManagementResponse::Complete));
            }
            Then::Sanitize(place) => self.sanitize_medium(place),
            Then::Answer(answer) => {
                if let Some(place) = self.place(answer.lun) {
                    self.finish(place, answer);
                } else {
                    self.results.push_back(Result::Answer(answer));
                }
            }
        }
    }

    /// Something that may have been waited for is over: takes it off the lists, and goes on where nothing is left.
    fn relieve(&mut self, place: Key, over: impl Fn(&mut Waiting)) {
        let Some(lun) = self.luns.get_mut(place) else { return };
        lun.clearings.iter_mut().for_each(over);
        let done: Vec<Waiting> = lun.clearings.extract_if(.., |waiting| waiting.is_over()).collect();
        for waiting in done {
            self.waited(waiting.then);
        }
    }

    /// A job is over.
    pub(super) fn job_over(&mut self, place: Key, job: Key) {
        self.relieve(place, |waiting| waiting.jobs.retain(|waited| *waited != job));
    }

    /// A third-party copy is over.
    pub(super) fn copy_is_over(&mut self, place: Key, copy: Key) {
        self.relieve(place, |waiting| waiting.copies.retain(|waited| *waited != copy));
    }

    /// A change of a unit's lasting state is saved, or is not to be.
    pub(super) fn save_over(&mut self, place: Key) {
        self.relieve(place, |waiting| waiting.save = false);
    }

    /// A shard has killed what it was told to.
    pub(crate) fn killed<R: Ring>(
        &mut self,
        kill: &Kill,
        shard: ShardId,
        victims: &[NexusId],
        io: &mut Io<'_, R>,
    ) {
        let Some(place) = self.place(kill.lun) else { return };
        let Some(lun) = self.luns.get_mut(place) else { return };
        lun.killing.retain(|killing| (killing.shard, killing.kill.number) != (shard, kill.number));
        if kill.tells {
            lun.device.tasks_cleared_by(kill.nexus, victims);
        }
        if lun.killing.iter().all(|killing| killing.kill.number != kill.number) {
            self.relieve(place, |waiting| {
                waiting.kill.take_if(|number| *number == kill.number);
            });
            self.settle(io);
        }
    }
}

/// A command's end without status.
pub(super) fn aborted(request: &Request) -> Answer {
    Answer { origin: request.origin, lun: request.lun, outcome: Outcome::Aborted }
}

/// Whose tasks end: each nexus once.
fn victims<'a>(table: &Table<Job>, jobs: &[Key], held: impl Iterator<Item = &'a Request>) -> Vec<NexusId> {
    let mut victims: Vec<NexusId> = held.map(|request| request.nexus).collect();
    victims.extend(jobs.iter().filter_map(|key| table.get(*key)).map(Job::nexus));
    victims.sort_unstable();
    victims.dedup();
    victims
}
