//! A clone's way to another owner, with the one session that uses it.

use super::{Backend, Lun, Medium, Spiller};
use crate::messages::LunId;
use stampede_scsi::NexusId;

/// A clone between two shards: its overlay, whose slots are of the arena and of the scratch space that all
/// shards share, its device server
/// with reservations and unit attentions, and its counters. Its golden's file is opened by each shard for itself.
pub(crate) struct TravellingLun {
    name: LunId,
    lun: Lun,
}

impl TravellingLun {
    /// Which clone.
    pub(crate) fn name(&self) -> LunId {
        self.name
    }
}

impl Backend {
    /// Whether a unit may leave with a session now. `None` when it stays anyway: it is not here, or no clone, or others
    /// use it too.
    pub(crate) fn may_leave(&self, lun: LunId, nexus: NexusId) -> Option<bool> {
        let unit = self.luns.get(*self.places.get(&lun)?)?;
        let goes = matches!(unit.medium, Medium::Clone(_)) && unit.device.is_alone(nexus);
        goes.then(|| unit.is_quiet())
    }

    /// Gives a clone away that may leave.
    pub(crate) fn give(&mut self, lun: LunId) -> Option<TravellingLun> {
        if let Some(place) = self.place(lun) {
            self.forsake_spills(place);
        }
        let mut unit = self.remove(lun)?;
        unit.travelled = true;
        Some(TravellingLun { name: lun, lun: unit })
    }

    /// Whether this shard has the golden beneath a clone.
    pub(crate) fn knows_golden(&self, clone: &TravellingLun) -> bool {
        match &clone.lun.medium {
            Medium::Clone(medium) => self.goldens.contains_key(&medium.golden),
            Medium::Disk(_) => false,
        }
    }

    /// Owns a clone from now on; false when its golden is unknown here.
    pub(crate) fn take_in(&mut self, clone: TravellingLun) -> bool {
        let TravellingLun { name, mut lun } = clone;
        let Medium::Clone(medium) = &mut lun.medium else { return false };
        let Some(golden) = self.goldens.get(&medium.golden) else { return false };
        (medium.file, medium.alignment) = (golden.file, golden.alignment);
        medium.published.clone_from(&golden.published);
        medium.scratch = self.spiller.as_deref().map(Spiller::setup);
        self.add(name, lun);
        true
    }
}

impl Lun {
    /// Whether no command runs or waits, and nobody waits for what ran.
    pub(super) fn is_quiet(&self) -> bool {
        let waits = !self.clearings.is_empty() || !self.killing.is_empty() || !self.is_saved();
        self.tasks.is_empty() && self.locks.is_empty() && !waits && self.sanitizing.is_none()
    }
}
