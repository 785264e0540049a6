//! Admission under overload: how many logins are admitted at once, how many sessions there may be, and what waits.
//!
//! ```text
//!   login ──► queue ──in turn──► begin ──► probing, waiting, handed over ──► admitted
//!                ▲                 │ no room for its clone
//!                └──room again── no_room
//! ```
//!
//! What waits is answered after [`HOLD_NS`](super::HOLD_NS) at the latest: 0301 for want of a turn, 0302 for want of room.

use super::queue::{Class, Queue, Ticket};
use super::{Notice, Outbox, Registrar, epoch_stage, target_id};
use crate::registrar::login::Reason;
use stampede_engine::source::Source;
use stampede_image::epoch::Need;
use stampede_session::{LoginRequest, LoginStatus, SessionId};
use std::collections::BTreeMap;

/// How often logins that wait for room try to have a clone pushed out for them, in nanoseconds.
const RETRY_NS: u64 = 500_000_000;

/// Bounds on logins and sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Logins that are being admitted at once; further ones wait for their turn.
    pub admissions: usize,
    /// Sessions at once.
    pub sessions: usize,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        Self { admissions: usize::MAX, sessions: usize::from(u16::MAX) }
    }
}

/// What was counted of logins since start, and how many wait now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdmissionCounts {
    /// Logins that wait for their turn.
    pub queued: usize,
    /// Logins that wait for room: a clone of their target, or memory for it.
    pub no_room: usize,
    /// Logins that are being admitted: probing, or waiting for others' sessions to end.
    pub admitting: usize,
    /// How long the one that waits longest has waited, in nanoseconds.
    pub oldest_wait_ns: u64,
    /// Sessions that were admitted and have not ended.
    pub sessions: usize,
    /// Logins admitted.
    pub admitted: u64,
    /// Logins that had to wait for their turn or for room.
    pub waited: u64,
    /// Logins answered 0301 for want of a turn.
    pub refused_busy: u64,
    /// Logins answered 0302 for want of room.
    pub refused_full: u64,
}

/// The queues.
#[derive(Debug, Default)]
pub(super) struct Admissions {
    pub(super) limits: AdmissionLimits,
    queue: Queue,
    /// By the target's place.
    no_room: BTreeMap<usize, Queue>,
    no_room_count: usize,
    retry_at: u64,
    arrivals: u64,
    /// The overlays' memory is nearly used up.
    memory_short: bool,
    counts: AdmissionCounts,
}

impl Admissions {
    /// Takes a login out of whatever queue it is in.
    pub(super) fn forget(&mut self, session: SessionId, target: usize) {
        self.queue.remove(session);
        if let Some(queue) = self.no_room.get_mut(&target) {
            let before = queue.len();
            queue.remove(session);
            self.no_room_count -= before - queue.len();
        }
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        (self.no_room_count > 0).then_some(self.retry_at)
    }
}

impl Registrar {
    /// Bounds logins and sessions from now on.
    pub fn set_limits(&mut self, limits: AdmissionLimits) {
        self.admissions.limits = limits;
    }

    /// The bounds on logins and sessions.
    #[must_use]
    pub fn limits(&self) -> AdmissionLimits {
        self.admissions.limits
    }

    /// Says whether the overlays' memory is nearly used up. While it is, logins that need a new clone wait: a machine
    /// that boots now would find no room for its writes half-way.
    pub fn set_memory_short(&mut self, short: bool) {
        self.admissions.memory_short = short;
    }

    /// How logins went, and who waits.
    #[must_use]
    pub fn admission_counts(&self, now: u64) -> AdmissionCounts {
        let waits = |held: &super::login::Held| matches!(held.reason, Reason::Queued | Reason::NoRoom { .. });
        let oldest = self.held.values().filter(|held| waits(held)).map(|held| held.since).min();
        AdmissionCounts {
            queued: self.admissions.queue.len(),
            no_room: self.admissions.no_room_count,
            admitting: self.admitting(),
            oldest_wait_ns: oldest.map_or(0, |since| now.saturating_sub(since)),
            sessions: self.sessions.admitted_len(),
            ..self.admissions.counts
        }
    }

    /// What a login's place in the queue is; `returns` says that it replaces a session of its own port.
    pub(super) fn ticket(&mut self, request: &LoginRequest, target: usize, returns: bool) -> Ticket {
        let stage = epoch_stage(request.stage);
        let class = match self.registry.need(target_id(target), &request.initiator, stage) {
            _ if returns => Class::Returning,
            Need::InUse => Class::Returning,
            Need::Own => Class::Holding,
            Need::Fresh | Need::Nothing => Class::Other,
        };
        let arrival = self.admissions.arrivals;
        self.admissions.arrivals = arrival.saturating_add(1);
        Ticket { class, source: Source::of(request.peer.ip()), arrival }
    }

    pub(super) fn enqueue(&mut self, session: SessionId) {
        if let Some(held) = self.held.get_mut(&session) {
            held.reason = Reason::Queued;
            self.admissions.queue.push(session, held.ticket);
        }
    }

    /// A login found no room for its clone: it waits until there is some.
    pub(super) fn wait_for_room(&mut self, session: SessionId, text: String, now: u64) {
        let Some(target) = self.sessions.find(session).map(|entry| entry.target) else { return };
        let Some(held) = self.held.get_mut(&session) else { return };
        held.reason = Reason::NoRoom { text };
        self.admissions.no_room.entry(target).or_default().push(session, held.ticket);
        self.admissions.no_room_count += 1;
        if self.admissions.retry_at <= now {
            self.admissions.retry_at = now.saturating_add(RETRY_NS);
        }
    }

    /// Whether a login that needs a new clone has to wait, since there is no memory for what it will write.
    pub(super) fn is_short_of_memory(&self, session: SessionId) -> bool {
        let Some(entry) = self.sessions.find(session).filter(|_| self.admissions.memory_short) else {
            return false;
        };
        let stage = epoch_stage(entry.stage);
        self.registry.need(target_id(entry.target), &entry.initiator, stage) == Need::Fresh
    }

    /// Logins that are being admitted.
    fn admitting(&self) -> usize {
        self.held.len().saturating_sub(self.admissions.queue.len() + self.admissions.no_room_count)
    }

    fn sessions_are_full(&self) -> bool {
        self.sessions.admitted_len() + self.admitting() >= self.admissions.limits.sessions
    }

    /// Lets logins have their turn, as many as may. Called after everything that may have made room.
    pub(super) fn run_queue(&mut self, now: u64, out: &mut Outbox) {
        self.wake_those_without_room(now);
        while self.admitting() < self.admissions.limits.admissions {
            let most = if self.sessions_are_full() { Class::Returning } else { Class::Other };
            let Some(session) = self.admissions.queue.pop(most) else { break };
            let since = self.held.get_mut(&session).map(|held| std::mem::replace(&mut held.waited_from, now));
            self.count_wait(since.unwrap_or(now), now);
            self.begin_login(session, now, out);
        }
    }

    /// One login for each clone that a target may have more; at times one to push out another's that is held.
    fn wake_those_without_room(&mut self, now: u64) {
        if self.admissions.no_room_count == 0 {
            return;
        }
        let retry = self.admissions.retry_at <= now;
        if retry {
            self.admissions.retry_at = now.saturating_add(RETRY_NS);
        }
        if self.admissions.memory_short {
            return;
        }
        let targets: Vec<usize> = self.admissions.no_room.keys().copied().collect();
        for target in targets {
            let room = self.registry.room(target_id(target)).max(u32::from(retry));
            for _ in 0..room {
                let Some(queue) = self.admissions.no_room.get_mut(&target) else { break };
                let Some(session) = queue.pop(Class::Other) else {
                    self.admissions.no_room.remove(&target);
                    break;
                };
                self.admissions.no_room_count -= 1;
                self.enqueue(session);
            }
        }
    }

    pub(super) fn count_admitted(&mut self) {
        self.admissions.counts.admitted += 1;
    }

    /// A login has its turn that came at `since`.
    fn count_wait(&mut self, since: u64, now: u64) {
        self.admissions.counts.waited += u64::from(now > since);
    }

    /// What a login is answered that has waited as long as it may, and why; and tells the operator of the limit.
    pub(super) fn refusal_of_waiting(&mut self, reason: &Reason, out: &mut Outbox) -> (LoginStatus, String) {
        let limits = self.admissions.limits;
        let (status, text) = match reason {
            Reason::Queued if self.sessions_are_full() => (
                LoginStatus::OutOfResources,
                format!(
                    "{} sessions are open, as many as limits.sessions lets; raise it, or end some",
                    limits.sessions
                ),
            ),
            Reason::Queued => (
                LoginStatus::ServiceUnavailable,
                format!("more logins come than limits.admissions ({}) lets in at once", limits.admissions),
            ),
            Reason::NoRoom { text } => (LoginStatus::OutOfResources, text.clone()),
            Reason::HandedOver => {
                let text = "its hand-over to another shard has not ended; it may try again";
                return (LoginStatus::ServiceUnavailable, text.to_owned());
            }
            Reason::Probing { .. } | Reason::Waiting { .. } => {
                let text = "the sessions that it replaces have not ended; it may try again";
                return (LoginStatus::ServiceUnavailable, text.to_owned());
            }
        };
        self.admissions.counts.waited += 1;
        match status {
            LoginStatus::OutOfResources => self.admissions.counts.refused_full += 1,
            _ => self.admissions.counts.refused_busy += 1,
        }
        out.notices.push(Notice {
            alert: true,
            event: "login limit",
            target: String::new(),
            initiator: String::new(),
            peer: None,
            text: text.clone(),
        });
        (status, text)
    }
}
