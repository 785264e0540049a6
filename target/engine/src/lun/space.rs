//! What space thin units have, and whether that crosses a threshold of an initiator's (SBC-4 4.7.3.7).
//!
//! A plain unit's space is its file system's, which the control thread looks at. A clone's is the arena and the scratch
//! space, where all clones take theirs from.

use super::{Backend, Lun, Medium};
use crate::messages::LunId;
use stampede_image::overlay::SLOT;
use stampede_ring::Pool;
use stampede_scsi::Space;

impl Backend {
    /// Tells units what space there is: plain ones what was found, and clones what they share.
    #[cold]
    pub(crate) fn look_at_space(&mut self, units: &[(LunId, Space)], arena: &Pool) {
        for (name, space) in units {
            if let Some(lun) = self.lun_mut(*name) {
                lun.device.space_is(*space);
            }
        }
        for place in self.places.values() {
            if let Some(lun) = self.luns.get_mut(*place) {
                lun.look_at_space(arena);
            }
        }
    }

    /// Tells a clone that was just made what space there is.
    pub(crate) fn look_at_space_of(&mut self, name: LunId, arena: &Pool) {
        if let Some(lun) = self.lun_mut(name) {
            lun.look_at_space(arena);
        }
    }
}

impl Lun {
    fn look_at_space(&mut self, arena: &Pool) {
        let Medium::Clone(clone) = &self.medium else { return };
        let free = |all: u32, used: u32| u64::from(all.saturating_sub(used));
        let scratch = clone.scratch.as_ref().map(|setup| &setup.scratch);
        let blocks = scratch.map_or(0, |scratch| free(scratch.blocks(), scratch.used()));
        let used = clone.overlay.slots_used() + clone.overlay.slots_spilled();
        self.device.space_is(Space {
            used_bytes: used as u64 * SLOT,
            available_bytes: (free(arena.slots(), arena.in_use()) + blocks) * SLOT,
        });
    }
}
