//! Deciding a login: first who is in its way, then which overlay it gets (the tables of the module above).

use smallvec::{SmallVec, smallvec};

use super::entry::{Clone, Disk, Entry, EntryId, Outcome, Session};
use super::registry::{RECORDS_MAX, Registry};
use super::rival::{Rival, judge};
use super::types::{
    AlertKind, CloseReason, Decision, Effect, LoginFacts, LoginStage, ProbeAnswer, Refusal, RefusalReason,
    StatusHint, Time,
};

impl Registry {
    /// Decides what a login gets. Call it when the session layer would send the final Login Response, and before it
    /// does; then do the effects. After an `Attach` the session counts as attached until
    /// [`session_ended`](Self::session_ended), also when its response could not be sent.
    pub fn login(&mut self, facts: &LoginFacts, now: Time, effects: &mut Vec<Effect>) -> Decision {
        self.decide(facts, &[], now, effects)
    }

    /// Decides again, after a [`Decision::Probe`], with an answer for each session that was asked and has not ended.
    /// One that was not heard from since `asked_at` counts as silent, so call early only when it was. Without any
    /// answer it is a first round. It may take another round (to listen until firmware is surely quiet): hold the
    /// login no longer than its initiator can bear (4 s), then answer 0301.
    pub fn login_probed(
        &mut self,
        facts: &LoginFacts,
        answers: &[ProbeAnswer],
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> Decision {
        for answer in answers {
            self.liveness(answer.session, answer.last_heard);
        }
        self.decide(facts, answers, now, effects)
    }

    fn decide(
        &mut self,
        facts: &LoginFacts,
        answers: &[ProbeAnswer],
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> Decision {
        // Names are compared without case; a machine may come in over a dual-stack listener and over a plain one.
        let initiator = facts.initiator.to_ascii_lowercase();
        let facts = &LoginFacts { initiator, address: facts.address.to_canonical(), ..*facts };
        let Some(target) = self.targets.get(&facts.target) else { return unknown_target() };
        if self.sessions.contains_key(&facts.session) {
            return session_in_use(facts);
        }
        let known = target.initiators.get(&facts.initiator).and_then(|id| Some((*id, self.entries.get(id)?)));
        let Some((id, entry)) = known else { return self.first_contact(facts, now, effects) };
        if let Some(session) = entry.session() {
            match judge(entry, session, facts, answers, now) {
                Rival::Ask { probe, wait } => return Decision::Probe { sessions: smallvec![probe], wait },
                Rival::Alive => return two_machines(entry, session, facts, effects),
                Rival::MayReturn => return may_return(session, facts),
                Rival::Changed => return busy(facts),
                Rival::Dead => {}
            }
        }
        match entry.outcome(facts.stage, target.policy.on_lost) {
            Outcome::Keep(clone) => self.attach(id, clone, facts, now, effects),
            Outcome::Renew => self.renew(id, facts, now, effects),
            Outcome::RefuseLost => overlay_gone(RefusalReason::OverlayLost, facts, effects),
            Outcome::RefuseDropped => overlay_gone(RefusalReason::OverlayDropped, facts, effects),
        }
    }

    /// Nothing is known of the initiator: a new epoch, whatever the stage.
    fn first_contact(&mut self, facts: &LoginFacts, now: Time, effects: &mut Vec<Effect>) -> Decision {
        if self.entries.len() >= RECORDS_MAX {
            return too_many_records(facts);
        }
        if !self.make_room(facts, now, effects) {
            return too_many_clones(facts);
        }
        let id = self.new_entry_id();
        if let Some(target) = self.targets.get_mut(&facts.target) {
            target.initiators.insert(facts.initiator.clone(), id);
        }
        let entry = Entry {
            target: facts.target,
            initiator: facts.initiator.clone(),
            epoch: 0,
            stage: facts.stage,
            firmware_address: None,
            firmware: false,
            disk: Disk::Dropped,
        };
        self.entries.insert(id, entry);
        self.begin(id, facts, now, effects)
    }

    /// The epoch is over: its session is closed, its overlay dropped, and a new epoch begins.
    fn renew(&mut self, id: EntryId, facts: &LoginFacts, now: Time, effects: &mut Vec<Effect>) -> Decision {
        // An overlay that goes makes room for the one that comes.
        let replaces = self.entries.get(&id).is_some_and(|entry| entry.clone().is_some());
        if !replaces && !self.make_room(facts, now, effects) {
            return too_many_clones(facts);
        }
        if let Some(session) = self.detach(id) {
            effects.push(Effect::CloseSession { session, why: CloseReason::NewEpoch });
        }
        self.drop_clone(id, effects);
        self.begin(id, facts, now, effects)
    }

    /// Begins an epoch of an entry that has no overlay.
    fn begin(&mut self, id: EntryId, facts: &LoginFacts, now: Time, effects: &mut Vec<Effect>) -> Decision {
        let clone = Clone { id: self.new_clone_id(), owner_shard: facts.shard };
        let epoch = self.new_epoch();
        let Some(entry) = self.entries.get_mut(&id) else { return busy(facts) };
        let Some(target) = self.targets.get_mut(&facts.target) else { return unknown_target() };
        entry.epoch = epoch;
        entry.stage = facts.stage;
        entry.firmware = facts.stage == LoginStage::Firmware;
        entry.firmware_address = entry.firmware.then_some(facts.address);
        entry.disk = Disk::Attached { clone, session: Session::of(facts, now) };
        target.clones = target.clones.saturating_add(1);
        self.sessions.insert(facts.session, id);
        effects.push(Effect::Persist(entry.record(&target.name)));
        let owner_shard = clone.owner_shard;
        effects.push(Effect::CreateClone { clone: clone.id, target: facts.target, owner_shard });
        Decision::Attach { clone: clone.id, owner_shard, fresh: true, epoch, reinstates: SmallVec::new() }
    }

    /// Gives the epoch's own overlay to a login, which replaces the session that had it.
    fn attach(
        &mut self,
        id: EntryId,
        clone: Clone,
        facts: &LoginFacts,
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> Decision {
        let reinstates = self.detach(id).into_iter().collect();
        let Some(entry) = self.entries.get_mut(&id) else { return busy(facts) };
        let Some(target) = self.targets.get(&facts.target) else { return unknown_target() };
        entry.disk = Disk::Attached { clone, session: Session::of(facts, now) };
        if facts.stage == LoginStage::Firmware {
            entry.firmware_address = Some(facts.address);
        } else if entry.stage == LoginStage::Firmware {
            entry.stage = LoginStage::Os;
            effects.push(Effect::Persist(entry.record(&target.name)));
        }
        self.sessions.insert(facts.session, id);
        let Clone { id: clone, owner_shard } = clone;
        Decision::Attach { clone, owner_shard, fresh: false, epoch: entry.epoch, reinstates }
    }

    /// Makes room for one more clone of the login's target, if need be by pushing out a held one.
    fn make_room(&mut self, facts: &LoginFacts, now: Time, effects: &mut Vec<Effect>) -> bool {
        let full = |registry: &Self| {
            registry.targets.get(&facts.target).is_none_or(|target| target.clones >= target.policy.max_clones)
        };
        // Several must go when the policy has become stricter.
        while full(self) {
            if self.push_out(Some(facts.target), now, effects).is_none() {
                return false;
            }
        }
        true
    }
}

fn refuse(reason: RefusalReason, status: StatusHint, message: String) -> Decision {
    Decision::Refuse(Refusal { reason, status, message })
}

fn unknown_target() -> Decision {
    let message = "no target with ephemeral clones has this number".to_owned();
    refuse(RefusalReason::UnknownTarget, StatusHint::ServiceUnavailable, message)
}

fn session_in_use(facts: &LoginFacts) -> Decision {
    let message = format!("session {} is attached to a clone already", facts.session.0);
    refuse(RefusalReason::SessionInUse, StatusHint::ServiceUnavailable, message)
}

fn busy(facts: &LoginFacts) -> Decision {
    let message = format!("{}: another login got ahead of this one; it may try again", facts.initiator);
    refuse(RefusalReason::Busy, StatusHint::ServiceUnavailable, message)
}

fn two_machines(entry: &Entry, session: &Session, facts: &LoginFacts, effects: &mut Vec<Effect>) -> Decision {
    let message = format!(
        "two machines use the initiator name {}: one at {} runs on its clone (stage {}), so the login from {} \
         (stage {}) is refused; give each machine a name of its own",
        entry.initiator, session.address, session.stage, facts.address, facts.stage
    );
    let kind = AlertKind::DuplicateName;
    let initiator = entry.initiator.clone();
    effects.push(Effect::Alert { target: facts.target, initiator, kind, message: message.clone() });
    refuse(RefusalReason::DuplicateName, StatusHint::Forbidden, message)
}

fn may_return(session: &Session, facts: &LoginFacts) -> Decision {
    let message = format!(
        "{}: the login from {} must wait: the machine at {} that has the clone is silent, but its session has not \
         ended yet",
        facts.initiator, facts.address, session.address
    );
    refuse(RefusalReason::SessionMayReturn, StatusHint::ServiceUnavailable, message)
}

fn overlay_gone(reason: RefusalReason, facts: &LoginFacts, effects: &mut Vec<Effect>) -> Decision {
    let how = match reason {
        RefusalReason::OverlayLost => "was lost when the target restarted",
        _ => "was dropped (held too long, or pushed out for room)",
    };
    let message = format!(
        "{}: its clone {how}, and a running system must not find a blank disk: reboot the machine, or, if it has no \
         firmware stage, run `stampede clone reset {}` (on-lost=fresh does so always)",
        facts.initiator, facts.initiator
    );
    let kind = AlertKind::OverlayGone;
    let initiator = facts.initiator.clone();
    effects.push(Effect::Alert { target: facts.target, initiator, kind, message: message.clone() });
    refuse(reason, StatusHint::Forbidden, message)
}

fn too_many_clones(facts: &LoginFacts) -> Decision {
    let message = format!(
        "{}: the target has as many clones as it may, all in use: raise its max-clones, or shut machines down",
        facts.initiator
    );
    refuse(RefusalReason::TooManyClones, StatusHint::OutOfResources, message)
}

fn too_many_records(facts: &LoginFacts) -> Decision {
    let message = format!(
        "{}: {RECORDS_MAX} initiators are remembered already: `stampede clone reset` forgets one",
        facts.initiator
    );
    refuse(RefusalReason::TooManyRecords, StatusHint::OutOfResources, message)
}
