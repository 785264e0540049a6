//! How sessions, overlays and epochs end.

use super::entry::{Disk, EntryId};
use super::registry::Registry;
use super::types::{
    AlertKind, CloneId, Effect, End, LoginStage, ResetOutcome, SECOND, SessionId, TargetId, Time,
};

/// How long an overlay whose machine was cut off is safe from being pushed out. Between firmware and kernel every
/// boot is without a session for a while, and Linux tries to come back for 120 s before it fails its I/O.
const RECENT: Time = 120 * SECOND;

impl Registry {
    /// Says that a session ended. Sessions that the registry has forgotten already (replaced, or closed by an effect)
    /// and those that never had a clone are ignored.
    pub fn session_ended(&mut self, session: SessionId, how: End, now: Time, effects: &mut Vec<Effect>) {
        let Some(id) = self.sessions.remove(&session) else { return };
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Disk::Attached { clone, session } = entry.disk else { return };
        let graceful = how == End::Logout && session.stage == LoginStage::Os;
        if graceful && !entry.firmware {
            self.forget(id, effects);
            return;
        }
        let policy = self.targets.get(&entry.target).map(|target| target.policy).unwrap_or_default();
        let time = if graceful { policy.grace_after_logout } else { policy.hold_after_unclean };
        let until = now.saturating_add(time);
        entry.disk = Disk::Held { clone, since: now, until, graceful };
        self.deadlines.insert((until, id));
    }

    /// Drops the overlays whose time is up. Their epochs stay known, so that a system that comes back too late is
    /// refused.
    pub fn tick(&mut self, now: Time, effects: &mut Vec<Effect>) {
        while let Some(&(at, id)) = self.deadlines.first() {
            if at > now {
                break;
            }
            self.drop_clone(id, effects);
            // It is gone already unless the entry was not held; then it must not stop the loop.
            self.deadlines.remove(&(at, id));
        }
    }

    /// When [`tick`](Self::tick) next has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|&(at, _)| at)
    }

    /// Ends an initiator's epoch by hand (`stampede clone reset NAME`): its overlay is dropped and its record
    /// forgotten.
    pub fn reset(
        &mut self,
        target: TargetId,
        initiator: &str,
        _now: Time,
        effects: &mut Vec<Effect>,
    ) -> ResetOutcome {
        let name = initiator.to_ascii_lowercase();
        let Some(&id) = self.targets.get(&target).and_then(|target| target.initiators.get(&name)) else {
            return ResetOutcome::NotFound;
        };
        if let Some(session) = self.entries.get(&id).and_then(|entry| entry.session()) {
            return ResetOutcome::InUse(session.address);
        }
        self.forget(id, effects);
        ResetOutcome::Reset
    }

    /// Drops the held overlay that is least likely to be missed, of any target, to make room; which one, if any.
    /// First those whose machine logged out, then those that were cut off, the oldest first; never one that was cut
    /// off less than 120 seconds ago.
    pub fn drop_oldest_unclean(&mut self, now: Time, effects: &mut Vec<Effect>) -> Option<CloneId> {
        self.push_out(None, now, effects)
    }

    /// The same, of one target or of any.
    pub(super) fn push_out(
        &mut self,
        target: Option<TargetId>,
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> Option<CloneId> {
        let held =
            self.entries.iter().filter(|(_, entry)| target.is_none_or(|target| entry.target == target));
        let (_, _, id) = held
            .filter_map(|(&id, entry)| match entry.disk {
                Disk::Held { since, graceful, .. } if graceful || now.saturating_sub(since) >= RECENT => {
                    Some((!graceful, since, id))
                }
                _ => None,
            })
            .min()?;
        let entry = self.entries.get(&id)?;
        if let Disk::Held { since, graceful: false, .. } = entry.disk {
            let seconds = now.saturating_sub(since) / SECOND;
            let message = format!(
                "{}: its clone, unused for {seconds} s, was dropped to make room; if the machine still runs, it \
                 will be refused until it reboots",
                entry.initiator
            );
            let (target, initiator) = (entry.target, entry.initiator.clone());
            effects.push(Effect::Alert { target, initiator, kind: AlertKind::PushedOut, message });
        }
        self.drop_clone(id, effects)
    }

    /// Takes the session off an entry's clone, if there is one: the clone counts as held, until the caller says
    /// otherwise.
    pub(super) fn detach(&mut self, id: EntryId) -> Option<SessionId> {
        let entry = self.entries.get_mut(&id)?;
        let held_until = match entry.disk {
            Disk::Attached { clone, session } => {
                // No deadline: the one caller attaches or drops the clone at once.
                entry.disk = Disk::Held { clone, since: 0, until: Time::MAX, graceful: false };
                self.sessions.remove(&session.id);
                return Some(session.id);
            }
            Disk::Held { until, .. } => until,
            Disk::Lost | Disk::Dropped => return None,
        };
        self.deadlines.remove(&(held_until, id));
        None
    }

    /// Drops an entry's clone, if it has one that no session uses.
    pub(super) fn drop_clone(&mut self, id: EntryId, effects: &mut Vec<Effect>) -> Option<CloneId> {
        let entry = self.entries.get_mut(&id)?;
        let Disk::Held { clone, until, .. } = entry.disk else { return None };
        entry.disk = Disk::Dropped;
        self.deadlines.remove(&(until, id));
        if let Some(target) = self.targets.get_mut(&entry.target) {
            target.clones = target.clones.saturating_sub(1);
        }
        effects.push(Effect::DropClone { clone: clone.id, owner_shard: clone.owner_shard });
        Some(clone.id)
    }

    /// Ends an epoch and forgets its initiator.
    fn forget(&mut self, id: EntryId, effects: &mut Vec<Effect>) {
        self.detach(id);
        self.drop_clone(id, effects);
        let Some(entry) = self.entries.remove(&id) else { return };
        let Some(target) = self.targets.get_mut(&entry.target) else { return };
        target.initiators.remove(&entry.initiator);
        effects.push(Effect::Forget(entry.record(&target.name).key()));
    }
}
