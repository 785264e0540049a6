//! Logins: from the request to the admission, with reinstatement (RFC 7143 6.3.4, 6.3.5) and probing on the way.

use super::queue::Ticket;
use super::sessions::SessionEntry;
use super::{
    Backing, HOLD_NS, Notice, Outbox, PROBE_SLACK_NS, Registrar, epoch_session, epoch_stage, target_id,
};
use stampede_engine::messages::{FromControl, LunMap, ShardId};
use stampede_image::epoch::{
    Decision, Effect, End, LoginFacts, Probe, ProbeAnswer, Refusal, RefusalReason, StatusHint,
};
use stampede_session::{Admission, LoginRequest, LoginStatus, SessionId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A login whose response is held.
#[derive(Debug)]
pub(super) struct Held {
    /// When it came.
    pub(super) since: u64,
    /// When its response is due at the latest.
    until: u64,
    /// The TSIH of the session whose connection it reinstates.
    tsih: Option<u16>,
    /// Its place among those that wait.
    pub(super) ticket: Ticket,
    /// Since when it waits for its turn or for room.
    pub(super) waited_from: u64,
    /// What for.
    pub(super) reason: Reason,
}

#[derive(Debug)]
pub(super) enum Reason {
    /// Others come first.
    Queued,
    /// There is no room for its clone, for this reason.
    NoRoom { text: String },
    /// Sessions are being asked for a sign of life.
    Probing {
        /// When they were asked.
        asked_at: u64,
        /// When no answer is expected any more.
        deadline: u64,
        /// Those that have neither answered nor ended.
        asked: BTreeSet<SessionId>,
        answers: Vec<ProbeAnswer>,
    },
    /// Sessions that it replaces must end first.
    Waiting { for_sessions: BTreeSet<SessionId> },
    /// Its connection goes to the shard that it belongs to.
    HandedOver,
}

impl Held {
    pub(super) fn deadline(&self) -> u64 {
        match self.reason {
            Reason::Probing { deadline, .. } => deadline.min(self.until),
            Reason::Queued | Reason::NoRoom { .. } | Reason::Waiting { .. } | Reason::HandedOver => {
                self.until
            }
        }
    }
}

impl Registrar {
    pub(super) fn login(&mut self, shard: ShardId, request: LoginRequest, now: u64, out: &mut Outbox) {
        let session = request.session;
        let Some(&target) = self.by_iqn.get(&request.target) else {
            return refuse(shard, session, LoginStatus::NotFound, out);
        };
        if self.sessions.find(session).is_some() {
            return refuse(shard, session, LoginStatus::TargetError, out);
        }
        let port = self.sessions.of_port(target, &request.initiator, request.isid);
        let tsih = match self.wanted_tsih(&request, &port) {
            Ok(tsih) => tsih,
            Err(status) => {
                self.note_refusal(&request, target, &status.to_string(), out);
                return refuse(shard, session, status, out);
            }
        };
        let returns = port.iter().any(|id| self.sessions.find(*id).is_some_and(|entry| entry.tsih.is_some()));
        let ticket = self.ticket(&request, target, returns);
        for earlier in port {
            self.supersede(earlier, now, out);
        }
        let entry = SessionEntry {
            shard,
            home: None,
            moves: 0,
            target,
            initiator: request.initiator,
            isid: request.isid,
            tsih: None,
            cid: request.cid,
            stage: request.stage,
            peer: request.peer,
            clone: None,
            boot: None,
            closing: false,
        };
        self.sessions.insert(session, entry);
        let until = now.saturating_add(HOLD_NS);
        let held = Held { since: now, until, tsih, ticket, waited_from: now, reason: Reason::Queued };
        self.held.insert(session, held);
        self.enqueue(session);
    }

    /// It is a login's turn.
    pub(super) fn begin_login(&mut self, session: SessionId, now: u64, out: &mut Outbox) {
        let Some(entry) = self.sessions.find(session) else { return };
        let (shard, target) = (entry.shard, entry.target);
        if !self.targets[target].is_ephemeral() {
            let home = self.loads.place(shard);
            self.loads.add(home);
            if let Some(entry) = self.sessions.find_mut(session) {
                entry.home = Some(home);
            }
            return self.replace(session, BTreeSet::new(), out);
        }
        if self.is_short_of_memory(session) {
            let text =
                "the arena is nearly full, and a new clone needs room for its writes: give a larger --arena";
            return self.wait_for_room(session, text.to_owned(), now);
        }
        self.decide(session, None, now, out);
    }

    /// The TSIH that a login with a TSIH may keep: RFC 7143 6.3.4, and 0206 or 020A when there is nothing to
    /// reinstate.
    fn wanted_tsih(&self, request: &LoginRequest, port: &[SessionId]) -> Result<Option<u16>, LoginStatus> {
        if request.tsih == 0 {
            return Ok(None);
        }
        let named =
            port.iter().filter_map(|id| self.sessions.find(*id)).find(|s| s.tsih == Some(request.tsih));
        match named {
            None => Err(LoginStatus::SessionDoesNotExist),
            Some(session) if session.cid != request.cid => Err(LoginStatus::TooManyConnections),
            Some(_) => Ok(Some(request.tsih)),
        }
    }

    /// A login that is held gives way to a newer one of the same initiator port.
    fn supersede(&mut self, earlier: SessionId, now: u64, out: &mut Outbox) {
        if self.held.remove(&earlier).is_some() {
            if let Some(target) = self.sessions.find(earlier).map(|entry| entry.target) {
                self.admissions.forget(earlier, target);
            }
            self.abandon(earlier, LoginStatus::ServiceUnavailable, now, out);
        }
    }

    /// Refuses a login that was on its way in.
    fn abandon(&mut self, session: SessionId, status: LoginStatus, now: u64, out: &mut Outbox) {
        self.end_in_registry(session, End::Dropped, now, out);
        let Some(entry) = self.sessions.find_mut(session) else { return };
        let (shard, clone) = (entry.shard, entry.clone.take());
        refuse(shard, session, status, out);
        if let Some(clone) = clone {
            self.clones.detach(clone, session, &mut self.loads, out);
        }
    }

    /// Asks the registry, the first time or with answers.
    fn decide(&mut self, session: SessionId, answers: Option<&[ProbeAnswer]>, now: u64, out: &mut Outbox) {
        let Some(facts) = self.facts(session) else { return };
        let mut effects = Vec::new();
        let decision = match answers {
            None => self.registry.login(&facts, now, &mut effects),
            Some(answers) => self.registry.login_probed(&facts, answers, now, &mut effects),
        };
        match decision {
            Decision::Attach { fresh: true, .. } if self.golden_is_changed(&facts) => {
                self.undo_fresh(&facts, effects, now, out);
                let text = "its golden image was changed behind our back";
                self.refuse_known(session, LoginStatus::ServiceUnavailable, text, out);
            }
            Decision::Attach { clone, fresh, epoch, reinstates, .. } => {
                let mut replaced: BTreeSet<_> = reinstates.iter().map(|s| SessionId(s.0)).collect();
                replaced.extend(self.apply(effects, out));
                replaced.extend(self.clones.find(clone).into_iter().flat_map(|entry| &entry.sessions));
                self.clones.attach(clone, session);
                if let Some(entry) = self.sessions.find_mut(session) {
                    entry.clone = Some(clone);
                    entry.boot = Some((epoch, fresh));
                }
                self.replace(session, replaced, out);
            }
            Decision::Refuse(refusal) => {
                self.apply(effects, out);
                if refusal.reason == RefusalReason::TooManyClones {
                    return self.wait_for_room(session, refusal.message, now);
                }
                self.refuse_known(session, status_of(&refusal), &refusal.message, out);
            }
            Decision::Probe { sessions, wait } => {
                self.apply(effects, out);
                self.probe(session, &sessions, wait, now, out);
            }
        }
    }

    fn facts(&self, session: SessionId) -> Option<LoginFacts> {
        let entry = self.sessions.find(session)?;
        Some(LoginFacts {
            target: target_id(entry.target),
            initiator: entry.initiator.clone(),
            isid: entry.isid.0,
            address: entry.peer.ip(),
            stage: epoch_stage(entry.stage),
            session: epoch_session(session),
            // Where a new clone is made.
            shard: self.loads.place(entry.shard).0,
        })
    }

    fn golden_is_changed(&self, facts: &LoginFacts) -> bool {
        let luns = self.targets.get(facts.target.0 as usize).into_iter().flat_map(|target| &target.luns);
        luns.into_iter()
            .any(|lun| matches!(&lun.backing, Backing::Clone { golden, .. } if self.changed.contains(golden)))
    }

    /// Takes back an epoch that has just begun and whose clone cannot be made.
    fn undo_fresh(&mut self, facts: &LoginFacts, mut effects: Vec<Effect>, now: u64, out: &mut Outbox) {
        effects.retain(|effect| !matches!(effect, Effect::CreateClone { .. }));
        self.registry.session_ended(facts.session, End::Dropped, now, &mut effects);
        self.registry.reset(facts.target, &facts.initiator, now, &mut effects);
        self.apply(effects, out);
    }

    /// Ends the sessions that a login replaces, those of its own initiator port and `others`, and admits it once
    /// they have ended.
    fn replace(&mut self, session: SessionId, others: BTreeSet<SessionId>, out: &mut Outbox) {
        let Some(entry) = self.sessions.find(session) else { return };
        let mut replaced = others;
        replaced.extend(self.sessions.of_port(entry.target, &entry.initiator, entry.isid));
        replaced.remove(&session);
        replaced.retain(|id| self.sessions.find(*id).is_some());
        for id in &replaced {
            self.close(*id, out);
        }
        if let Some(held) = self.held.get_mut(&session) {
            held.reason = Reason::Waiting { for_sessions: replaced };
        }
        self.admit_if_clear(session, out);
    }

    fn admit_if_clear(&mut self, session: SessionId, out: &mut Outbox) {
        let clear =
            |held: &Held| matches!(&held.reason, Reason::Waiting { for_sessions } if for_sessions.is_empty());
        if !self.held.get(&session).is_some_and(clear) {
            return;
        }
        if !self.hand_over(session, out) {
            self.admit(session, out);
        } else if let Some(held) = self.held.get_mut(&session) {
            held.reason = Reason::HandedOver;
        }
    }

    /// A login's hand-over is over, whether it went well or not.
    pub(super) fn admit_handed_over(&mut self, session: SessionId, out: &mut Outbox) {
        if self.held.get(&session).is_some_and(|held| matches!(held.reason, Reason::HandedOver)) {
            self.admit(session, out);
        }
    }

    fn admit(&mut self, session: SessionId, out: &mut Outbox) {
        let Some(held) = self.held.remove(&session) else { return };
        let tsih = self.sessions.assign_tsih(session, held.tsih);
        let Some(entry) = self.sessions.find(session) else { return };
        let Some(tsih) = tsih else { return refuse(entry.shard, session, LoginStatus::OutOfResources, out) };
        let target = &self.targets[entry.target];
        let luns = Arc::new(self.clones.lun_map(target, entry.clone));
        if luns.0.len() != target.luns.len() {
            // A clone that was taken back meanwhile: the initiator must not see a target without its disk.
            return refuse(entry.shard, session, LoginStatus::ServiceUnavailable, out);
        }
        let clone = match entry.boot {
            Some((epoch, true)) => format!(": {:?} stage, a fresh clone, epoch {epoch}", entry.stage),
            Some((epoch, false)) => {
                format!(": {:?} stage, the clone of its boot, epoch {epoch}", entry.stage)
            }
            None => String::new(),
        };
        out.notices.push(Notice {
            alert: false,
            event: "login",
            target: target.iqn.clone(),
            initiator: entry.initiator.clone(),
            peer: Some(entry.peer),
            text: format!("admitted with TSIH {tsih} on shard {}{clone}", entry.shard.0),
        });
        let admission = Admission::Allow { tsih };
        out.messages.push((entry.shard, FromControl::Admit { session, admission, luns }));
        self.count_admitted();
    }

    fn probe(&mut self, session: SessionId, probes: &[Probe], wait: u64, now: u64, out: &mut Outbox) {
        let deadline_ns = now.saturating_add(wait);
        let mut asked = BTreeSet::new();
        for probe in probes {
            let rival = SessionId(probe.session.0);
            if let Some(entry) = self.sessions.find(rival) {
                asked.insert(rival);
                out.messages.push((entry.shard, FromControl::Probe { session: rival, deadline_ns }));
            }
        }
        let deadline = deadline_ns.saturating_add(PROBE_SLACK_NS);
        let reason = Reason::Probing { asked_at: now, deadline, asked, answers: Vec::new() };
        if let Some(held) = self.held.get_mut(&session) {
            held.reason = reason;
        }
    }

    pub(super) fn probed(
        &mut self,
        rival: SessionId,
        alive: bool,
        last_heard: u64,
        now: u64,
        out: &mut Outbox,
    ) {
        // A session that is gone says so once more when its I/O is over; that is what its rivals wait for.
        if last_heard == 0 {
            return;
        }
        let mut ready = Vec::new();
        for (session, held) in &mut self.held {
            let Reason::Probing { asked_at, asked, answers, .. } = &mut held.reason else { continue };
            if asked.remove(&rival) {
                let asked_at = if alive { (*asked_at).min(last_heard.saturating_sub(1)) } else { *asked_at };
                answers.push(ProbeAnswer { session: epoch_session(rival), asked_at, last_heard });
                if alive || asked.is_empty() {
                    ready.push(*session);
                }
            }
        }
        for session in ready {
            self.decide_again(session, now, out);
        }
    }

    fn decide_again(&mut self, session: SessionId, now: u64, out: &mut Outbox) {
        let Some(held) = self.held.get_mut(&session) else { return };
        let Reason::Probing { answers, .. } = &mut held.reason else { return };
        let answers = std::mem::take(answers);
        self.decide(session, Some(&answers), now, out);
    }

    /// A session has ended: logins that wait for it or asked it go on.
    pub(super) fn wake_held(&mut self, ended: SessionId, now: u64, out: &mut Outbox) {
        let (mut waiting, mut probing) = (Vec::new(), Vec::new());
        for (session, held) in &mut self.held {
            let (concerned, ready) = match &mut held.reason {
                Reason::Waiting { for_sessions } => (for_sessions.remove(&ended), &mut waiting),
                Reason::Probing { asked, .. } => (asked.remove(&ended), &mut probing),
                Reason::Queued | Reason::NoRoom { .. } | Reason::HandedOver => continue,
            };
            if concerned {
                ready.push(*session);
            }
        }
        for session in waiting {
            self.admit_if_clear(session, out);
        }
        for session in probing {
            self.decide_again(session, now, out);
        }
    }

    pub(super) fn tick_held(&mut self, now: u64, out: &mut Outbox) {
        let due: Vec<_> =
            self.held.iter().filter(|(_, held)| held.deadline() <= now).map(|(id, _)| *id).collect();
        for session in due {
            if self.held.get(&session).is_some_and(|held| held.until > now) {
                self.decide_again(session, now, out);
                continue;
            }
            let Some(held) = self.held.remove(&session) else { continue };
            if let Some(target) = self.sessions.find(session).map(|entry| entry.target) {
                self.admissions.forget(session, target);
            }
            let (status, text) = self.refusal_of_waiting(&held.reason, out);
            self.note_held_too_long(session, &text, out);
            self.abandon(session, status, now, out);
        }
    }

    fn refuse_known(&mut self, session: SessionId, status: LoginStatus, text: &str, out: &mut Outbox) {
        self.held.remove(&session);
        let Some(entry) = self.sessions.find(session) else { return };
        out.notices.push(Notice {
            alert: false,
            event: "login refused",
            target: self.targets[entry.target].iqn.clone(),
            initiator: entry.initiator.clone(),
            peer: Some(entry.peer),
            text: format!("{status}: {text}"),
        });
        refuse(entry.shard, session, status, out);
    }

    fn note_refusal(&self, request: &LoginRequest, target: usize, text: &str, out: &mut Outbox) {
        out.notices.push(Notice {
            alert: false,
            event: "login refused",
            target: self.targets[target].iqn.clone(),
            initiator: request.initiator.clone(),
            peer: Some(request.peer),
            text: text.to_owned(),
        });
    }

    fn note_held_too_long(&self, session: SessionId, text: &str, out: &mut Outbox) {
        let Some(entry) = self.sessions.find(session) else { return };
        out.notices.push(Notice {
            alert: false,
            event: "login held too long",
            target: self.targets[entry.target].iqn.clone(),
            initiator: entry.initiator.clone(),
            peer: Some(entry.peer),
            text: text.to_owned(),
        });
    }
}

fn refuse(shard: ShardId, session: SessionId, status: LoginStatus, out: &mut Outbox) {
    let admission = Admission::Refuse { status };
    out.messages.push((shard, FromControl::Admit { session, admission, luns: Arc::new(LunMap::default()) }));
}

fn status_of(refusal: &Refusal) -> LoginStatus {
    match refusal.status {
        StatusHint::Forbidden => LoginStatus::AuthorizationFailure,
        StatusHint::ServiceUnavailable => LoginStatus::ServiceUnavailable,
        StatusHint::OutOfResources => LoginStatus::OutOfResources,
    }
}
