//! The registry: all initiators' epochs of all targets with ephemeral clones.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Clone, Disk, Entry, EntryId, Outcome};
use super::record::{EpochRecord, RecordKey};
use super::types::{CloneId, EpochStatus, LoginStage, Need, SessionId, TargetId, TargetPolicy, Time};

/// Epochs remembered at most, of all targets together. Beyond it an initiator that is not known is refused.
pub const RECORDS_MAX: usize = 262_144;

/// All boot epochs of all targets with ephemeral clones. Lives on the control thread.
#[derive(Debug, Default)]
pub struct Registry {
    pub(super) targets: BTreeMap<TargetId, Target>,
    pub(super) entries: BTreeMap<EntryId, Entry>,
    /// The sessions attached to clones.
    pub(super) sessions: BTreeMap<SessionId, EntryId>,
    /// When held clones are dropped.
    pub(super) deadlines: BTreeSet<(Time, EntryId)>,
    /// Restored records of targets that have not been added, by the target's name.
    unclaimed: BTreeMap<String, Vec<EpochRecord>>,
    entries_made: u64,
    clones_made: u64,
    epochs_made: u64,
}

/// One target with ephemeral clones.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) policy: TargetPolicy,
    /// Its initiators, by name in lower case.
    pub(super) initiators: BTreeMap<String, EntryId>,
    /// Clones that exist, attached or held.
    pub(super) clones: u32,
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A registry that knows the epochs of an earlier run. Their overlays count as lost, unless
    /// [`adopt`](Self::adopt) says otherwise. Records of targets that are not (yet) added are kept aside.
    pub fn restore(records: impl Iterator<Item = EpochRecord>) -> Self {
        let mut registry = Self::default();
        for record in records {
            registry.epochs_made = registry.epochs_made.max(record.epoch);
            registry.unclaimed.entry(record.target.clone()).or_default().push(record);
        }
        registry
    }

    /// Adds a target, and takes up its restored records; or changes the policy (and name) of one that is there.
    pub fn add_target(&mut self, id: TargetId, name: &str, policy: TargetPolicy) {
        if let Some(target) = self.targets.get_mut(&id) {
            name.clone_into(&mut target.name);
            target.policy = policy;
            return;
        }
        let target = Target { name: name.to_owned(), policy, initiators: BTreeMap::new(), clones: 0 };
        self.targets.insert(id, target);
        for record in self.unclaimed.remove(name).unwrap_or_default() {
            self.take_up(id, record);
        }
    }

    fn take_up(&mut self, target_id: TargetId, record: EpochRecord) {
        let entry_id = self.new_entry_id();
        let Some(target) = self.targets.get_mut(&target_id) else { return };
        // Of two records of one initiator (a store never holds two) the later in order counts.
        if let Some(earlier) = target.initiators.insert(record.initiator.clone(), entry_id) {
            self.entries.remove(&earlier);
        }
        let entry = Entry {
            target: target_id,
            initiator: record.initiator,
            epoch: record.epoch,
            stage: record.stage,
            firmware_address: None,
            firmware: record.firmware,
            disk: Disk::Lost,
        };
        self.entries.insert(entry_id, entry);
    }

    /// Says that the overlay of a restored epoch survived the restart as `clone`; it is held as after an unclean
    /// end. Call it before the first login. Returns false, and changes nothing, when no such epoch lost its overlay.
    pub fn adopt(
        &mut self,
        key: &RecordKey,
        epoch: u64,
        clone: CloneId,
        owner_shard: u16,
        now: Time,
    ) -> bool {
        let Some(target) = self.targets.values_mut().find(|target| target.name == key.target) else {
            return false;
        };
        let Some(id) = target.initiators.get(&key.initiator) else { return false };
        let Some(entry) = self.entries.get_mut(id) else { return false };
        if entry.epoch != epoch || !matches!(entry.disk, Disk::Lost) {
            return false;
        }
        let until = now.saturating_add(target.policy.hold_after_unclean);
        let held = Clone { id: clone, owner_shard };
        entry.disk = Disk::Held { clone: held, since: now, until, graceful: false };
        target.clones = target.clones.saturating_add(1);
        self.deadlines.insert((until, *id));
        self.clones_made = self.clones_made.max(clone.0);
        true
    }

    /// Notes when a session was last heard from, for status. Unknown sessions are ignored.
    pub fn liveness(&mut self, session: SessionId, last_heard: Time) {
        let Some(id) = self.sessions.get(&session) else { return };
        if let Some(Entry { disk: Disk::Attached { session, .. }, .. }) = self.entries.get_mut(id) {
            session.last_heard = session.last_heard.max(last_heard);
        }
    }

    /// Every epoch known, by target and initiator name.
    pub fn list(&self) -> impl Iterator<Item = EpochStatus> + '_ {
        let ids = self.targets.values().flat_map(|target| target.initiators.values());
        ids.filter_map(|id| self.entries.get(id)).map(|entry| EpochStatus {
            target: entry.target,
            initiator: entry.initiator.clone(),
            epoch: entry.epoch,
            stage: entry.stage,
            state: entry.state(),
        })
    }

    /// What a login to a target would need, as far as can be told before it is decided.
    #[must_use]
    pub fn need(&self, target: TargetId, initiator: &str, stage: LoginStage) -> Need {
        let Some(of) = self.targets.get(&target) else { return Need::Nothing };
        let entry = of.initiators.get(&initiator.to_ascii_lowercase()).and_then(|id| self.entries.get(id));
        let Some(entry) = entry else { return Need::Fresh };
        match entry.outcome(stage, of.policy.on_lost) {
            _ if entry.session().is_some() => Need::InUse,
            Outcome::Keep(_) => Need::Own,
            Outcome::Renew if entry.clone().is_some() => Need::Own,
            Outcome::Renew => Need::Fresh,
            Outcome::RefuseLost | Outcome::RefuseDropped => Need::Nothing,
        }
    }

    /// How many more clones a target may have without dropping another.
    #[must_use]
    pub fn room(&self, target: TargetId) -> u32 {
        self.targets.get(&target).map_or(0, |target| target.policy.max_clones.saturating_sub(target.clones))
    }

    /// Clones of a target that exist, attached or held.
    #[must_use]
    pub fn clones(&self, target: TargetId) -> u32 {
        self.targets.get(&target).map_or(0, |target| target.clones)
    }

    pub(super) fn new_entry_id(&mut self) -> EntryId {
        self.entries_made = self.entries_made.saturating_add(1);
        EntryId(self.entries_made)
    }

    pub(super) fn new_clone_id(&mut self) -> CloneId {
        self.clones_made = self.clones_made.saturating_add(1);
        CloneId(self.clones_made)
    }

    pub(super) fn new_epoch(&mut self) -> u64 {
        self.epochs_made = self.epochs_made.saturating_add(1);
        self.epochs_made
    }
}
