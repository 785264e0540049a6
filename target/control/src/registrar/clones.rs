//! The clones that exist on shards: one epoch's overlays, one per cloned LUN of its target.

use super::kept::{Keeper, Survivor};
use super::placement::Loads;
use super::{Backing, Outbox, Target};
use stampede_engine::messages::{FromControl, KeptClone, LunAddress, LunId, LunMap, ShardId};
use stampede_image::epoch::{CloneId, EpochRecord};
use stampede_image::ledger::CloneNumber;
use stampede_session::SessionId;
use std::collections::{BTreeMap, BTreeSet};

/// One epoch's overlays.
#[derive(Debug)]
pub(super) struct CloneEntry {
    pub(super) luns: Vec<CloneLun>,
    /// Sessions that use it, those that are being closed included.
    pub(super) sessions: BTreeSet<SessionId>,
    /// It is to be dropped as soon as no session uses it.
    doomed: bool,
}

/// The overlay of one LUN.
#[derive(Clone, Copy, Debug)]
pub(super) struct CloneLun {
    /// The LUN number.
    pub(super) number: u16,
    /// Its name among all logical units.
    pub(super) lun: LunId,
    /// The shard that has it.
    pub(super) owner: ShardId,
    /// Its number in the ledger, if it outlives the process.
    pub(super) kept: Option<CloneNumber>,
}

impl CloneEntry {
    /// The shard that carries it. Its overlays are made on one shard, and move together with their session.
    pub(super) fn owner(&self) -> Option<ShardId> {
        self.luns.first().map(|lun| lun.owner)
    }
}

/// All clones, and the numbers of logical units.
#[derive(Debug)]
pub(super) struct Clones {
    entries: BTreeMap<CloneId, CloneEntry>,
    /// Overlays whose memory is not free yet.
    dropping: BTreeMap<LunId, Option<CloneNumber>>,
    next_lun: u32,
    /// Where those are recorded that outlive the process.
    keeper: Option<Keeper>,
}

impl Clones {
    pub(super) fn new(first_lun: LunId) -> Self {
        Self { entries: BTreeMap::new(), dropping: BTreeMap::new(), next_lun: first_lun.0, keeper: None }
    }

    pub(super) fn find(&self, clone: CloneId) -> Option<&CloneEntry> {
        self.entries.get(&clone)
    }

    /// The shard that has the clone's overlays.
    pub(super) fn owner(&self, clone: CloneId) -> Option<ShardId> {
        self.entries.get(&clone)?.owner()
    }

    /// The sessions that use an overlay.
    pub(super) fn sessions_of(&self, lun: LunId) -> impl Iterator<Item = SessionId> + '_ {
        let has = move |entry: &&CloneEntry| entry.luns.iter().any(|other| other.lun == lun);
        self.entries.values().filter(has).flat_map(|entry| entry.sessions.iter().copied())
    }

    /// Whether no other session uses the clone.
    pub(super) fn is_alone_on(&self, clone: CloneId, session: SessionId) -> bool {
        self.entries.get(&clone).is_some_and(|entry| entry.sessions.iter().eq([&session]))
    }

    /// The shard of each clone, for a recount.
    #[cfg(test)]
    pub(super) fn owners(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.entries.values().filter_map(CloneEntry::owner)
    }

    /// Overlays went to another shard.
    pub(super) fn set_owner(&mut self, luns: &[LunId], owner: ShardId, loads: &mut Loads) {
        if luns.is_empty() {
            return;
        }
        for entry in self.entries.values_mut() {
            let before = entry.owner();
            for lun in entry.luns.iter_mut().filter(|lun| luns.contains(&lun.lun)) {
                lun.owner = owner;
            }
            if before != entry.owner() {
                before.into_iter().for_each(|shard| loads.remove(shard));
                entry.owner().into_iter().for_each(|shard| loads.add(shard));
            }
        }
    }

    /// Whether a drop is under way.
    pub(super) fn any_doomed(&self) -> bool {
        !self.dropping.is_empty() || self.entries.values().any(|entry| entry.doomed)
    }

    pub(super) fn keep(&mut self, keeper: Keeper) {
        self.keeper = Some(keeper);
    }

    /// Makes the overlays of a new epoch. Those that outlive the process are in the ledger before its record is durable: a
    /// record without them is that of a clone that was lost.
    pub(super) fn create(
        &mut self,
        clone: CloneId,
        target: &Target,
        record: &EpochRecord,
        owner: ShardId,
        loads: &mut Loads,
        out: &mut Outbox,
    ) {
        let mut keeper = self.keeper.take();
        self.make(clone, target, &record.initiator, owner, loads, out, |number, backing| {
            keeper.as_mut()?.enter(record, number, backing)
        });
        self.keeper = keeper;
    }

    /// Makes overlays again that outlived the process.
    pub(super) fn adopt(
        &mut self,
        clone: CloneId,
        target: &Target,
        survivor: Survivor,
        owner: ShardId,
        loads: &mut Loads,
        out: &mut Outbox,
    ) {
        let Survivor { record, mut luns } = survivor;
        self.make(clone, target, &record.initiator, owner, loads, out, |number, _| luns.remove(&number));
    }

    #[expect(clippy::too_many_arguments, reason = "the tables that it changes are its callers'")]
    fn make(
        &mut self,
        clone: CloneId,
        target: &Target,
        initiator: &str,
        owner: ShardId,
        loads: &mut Loads,
        out: &mut Outbox,
        mut kept: impl FnMut(u16, &Backing) -> Option<KeptClone>,
    ) {
        let mut luns = Vec::new();
        for lun in &target.luns {
            let Backing::Clone { golden, device, identity } = &lun.backing else { continue };
            let id = self.new_lun();
            let mut device = device.clone();
            device.identity = identity.of_clone(initiator).to_scsi(&target.iqn, true);
            let kept = kept(lun.number, &lun.backing).map(Box::new);
            let number = kept.as_ref().map(|kept| kept.number);
            luns.push(CloneLun { number: lun.number, lun: id, owner, kept: number });
            out.messages.push((owner, FromControl::CreateClone { lun: id, golden: *golden, device, kept }));
        }
        loads.add(owner);
        self.entries.insert(clone, CloneEntry { luns, sessions: BTreeSet::new(), doomed: false });
    }

    /// A number that no unit has had.
    pub(super) fn new_lun(&mut self) -> LunId {
        let lun = LunId(self.next_lun);
        // 2^32 clones take years at any login rate; a number used twice would mix up disks, so stop before.
        self.next_lun = self.next_lun.saturating_add(1);
        lun
    }

    pub(super) fn attach(&mut self, clone: CloneId, session: SessionId) {
        if let Some(entry) = self.entries.get_mut(&clone) {
            entry.sessions.insert(session);
        }
    }

    pub(super) fn detach(&mut self, clone: CloneId, session: SessionId, loads: &mut Loads, out: &mut Outbox) {
        if let Some(entry) = self.entries.get_mut(&clone) {
            entry.sessions.remove(&session);
        }
        self.drop_if_unused(clone, loads, out);
    }

    /// Drops a clone now, or as soon as the last session on it has ended.
    pub(super) fn doom(&mut self, clone: CloneId, loads: &mut Loads, out: &mut Outbox) {
        if let Some(entry) = self.entries.get_mut(&clone) {
            entry.doomed = true;
        }
        self.drop_if_unused(clone, loads, out);
    }

    fn drop_if_unused(&mut self, clone: CloneId, loads: &mut Loads, out: &mut Outbox) {
        if !self.entries.get(&clone).is_some_and(|entry| entry.doomed && entry.sessions.is_empty()) {
            return;
        }
        let Some(entry) = self.entries.remove(&clone) else { return };
        entry.owner().into_iter().for_each(|shard| loads.remove(shard));
        for CloneLun { lun, owner, kept, .. } in entry.luns {
            // Before anything of it is gone.
            if let (Some(keeper), Some(number)) = (&self.keeper, kept) {
                keeper.give_up(number);
            }
            self.dropping.insert(lun, kept);
            out.messages.push((owner, FromControl::DropClone { lun }));
        }
    }

    /// An overlay's memory is free.
    pub(super) fn dropped(&mut self, lun: LunId) {
        if let (Some(Some(number)), Some(keeper)) = (self.dropping.remove(&lun), &self.keeper) {
            keeper.leave(number);
        }
    }

    /// What a session of `target` sees, with the clone it has, if any.
    pub(super) fn lun_map(&self, target: &Target, clone: Option<CloneId>) -> LunMap {
        let clone = clone.and_then(|clone| self.entries.get(&clone));
        let address = |number: u16, backing: &Backing| match backing {
            Backing::Plain(address) => Some(*address),
            Backing::Clone { device, .. } => {
                let entry = clone?;
                let overlay = entry.luns.iter().find(|overlay| overlay.number == number)?;
                Some(LunAddress {
                    lun: overlay.lun,
                    owner: overlay.owner,
                    block_size: device.block_size,
                    is_clone: true,
                    in_memory: false,
                })
            }
        };
        let luns =
            target.luns.iter().filter_map(|lun| Some((lun.number, address(lun.number, &lun.backing)?)));
        LunMap(luns.collect())
    }
}
