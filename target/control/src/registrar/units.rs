//! Logical units that come to a target and go from it while it is in use.

use super::{Backing, Outbox, Registrar, Target, TargetLun};
use stampede_engine::messages::{FromControl, LunId};
use std::sync::Arc;

impl Registrar {
    /// The number of a new plain unit, and the shard that is to own it.
    pub fn new_unit(&mut self) -> LunId {
        self.clones.new_lun()
    }

    /// A target by its IQN or by the operator's name for one of its units.
    #[must_use]
    pub fn find_target(&self, name: &str) -> Option<&Target> {
        let named = |target: &&Target| {
            target.iqn.eq_ignore_ascii_case(name) || target.luns.iter().any(|lun| lun.name == name)
        };
        self.targets.iter().find(named)
    }

    /// A target has another unit: its sessions see it from now on.
    pub fn add_unit(&mut self, iqn: &str, lun: TargetLun, out: &mut Outbox) {
        let Some(index) = self.by_iqn.get(iqn).copied() else { return };
        let Some(target) = self.targets.get_mut(index) else { return };
        let at = target.luns.partition_point(|present| present.number < lun.number);
        target.luns.insert(at, lun);
        self.show_units(index, out);
    }

    /// A plain unit is gone: no session sees it any more.
    pub fn remove_unit(&mut self, lun: LunId, out: &mut Outbox) {
        let is_it =
            |entry: &TargetLun| matches!(&entry.backing, Backing::Plain(address) if address.lun == lun);
        let Some(index) = self.targets.iter().position(|target| target.luns.iter().any(is_it)) else {
            return;
        };
        self.targets[index].luns.retain(|entry| !is_it(entry));
        self.show_units(index, out);
    }

    /// Says to all admitted sessions of a target what they see. Those that are admitted later see it anyway.
    fn show_units(&self, index: usize, out: &mut Outbox) {
        let Some(target) = self.targets.get(index) else { return };
        for (session, entry) in self.sessions.iter().filter(|(_, entry)| entry.target == index) {
            if entry.tsih.is_none() || entry.closing || self.held.contains_key(&session) {
                continue;
            }
            let luns = Arc::new(self.clones.lun_map(target, entry.clone));
            out.messages.push((entry.shard, FromControl::SetLuns { session, luns }));
        }
    }
}
