//! The space behind thin units, looked at once a second, off the shards: initiators set thresholds on it.
//!
//! Shards hear of it when it has changed by enough to cross a threshold, so that nothing wakes them where nothing happens.

use super::ControlThread;
use crate::config::CloneKind;
use crate::registrar::Backing;
use stampede_engine::messages::{FromControl, LunAddress, LunId};
use stampede_scsi::Space;
use std::collections::BTreeMap;

/// How often it is looked at, in nanoseconds.
const LOOK_NS: u64 = 1_000_000_000;
/// A change of this many bytes matters: half of the smallest threshold set.
const STEP_BYTES: u64 = 512 << 10;

/// What shards were told, in steps.
#[derive(Debug, Default)]
pub(super) struct Spaces {
    looked_ns: u64,
    units: BTreeMap<LunId, (u64, u64)>,
    clones: Option<(u32, u32)>,
    /// Files that could not be looked at, which was said.
    failed: BTreeMap<LunId, String>,
}

impl ControlThread {
    /// When to look next; never where no unit is thin.
    pub(super) fn space_deadline(&self) -> Option<u64> {
        let thin = |target: &crate::config::TargetConfig| target.thin || target.clone == CloneKind::Ephemeral;
        let any = self.setup.config.targets.iter().any(thin);
        any.then(|| self.spaces.looked_ns.saturating_add(LOOK_NS))
    }

    /// Looks, if it is time, and tells the shards what has changed.
    pub(super) fn look_at_space(&mut self, now: u64) {
        if self.space_deadline().is_none_or(|at| now < at) || self.drain.is_some() {
            return;
        }
        self.spaces.looked_ns = now;
        let mut news: BTreeMap<u16, Vec<(LunId, Space)>> = BTreeMap::new();
        for (name, address) in self.thin_units() {
            if let Some(space) = self.space_of(&name, address.lun) {
                let steps = (space.used_bytes.div_ceil(STEP_BYTES), space.available_bytes / STEP_BYTES);
                if self.spaces.units.insert(address.lun, steps) != Some(steps) {
                    news.entry(address.owner.0).or_default().push((address.lun, space));
                }
            }
        }
        let clones = self.clones_changed();
        for (shard, link) in (0..).zip(&mut self.setup.shards) {
            let units = news.remove(&shard).unwrap_or_default();
            if clones || !units.is_empty() {
                link.send(FromControl::Space { units });
            }
        }
    }

    /// Plain units that are thin.
    fn thin_units(&self) -> Vec<(String, LunAddress)> {
        let thin =
            |name: &str| self.setup.config.targets.iter().any(|entry| entry.thin && entry.name == name);
        let luns = self.setup.registrar.targets().iter().flat_map(|target| &target.luns);
        let plain = luns.filter_map(|lun| match &lun.backing {
            Backing::Plain(address) if thin(&lun.name) => Some((lun.name.clone(), *address)),
            _ => None,
        });
        plain.collect()
    }

    fn space_of(&mut self, name: &str, lun: LunId) -> Option<Space> {
        let file = self.setup.files.get(&lun)?;
        match file.space() {
            Ok(space) => {
                self.spaces.failed.remove(&lun);
                space.map(|(used_bytes, available_bytes)| Space { used_bytes, available_bytes })
            }
            Err(error) => {
                let (path, why) = (file.path().display().to_string(), error.to_string());
                if self.spaces.failed.insert(lun, why.clone()).as_ref() != Some(&why) {
                    tracing::warn!(%path, "cannot look at the space that `{name}` takes: {why}; thresholds on it are not told");
                }
                None
            }
        }
    }

    /// Whether the space that clones share has changed.
    fn clones_changed(&mut self) -> bool {
        let per_step = (STEP_BYTES / stampede_image::overlay::SLOT) as u32;
        let scratch = self.setup.scratch.as_ref().map_or(0, |scratch| scratch.used());
        let steps = (self.setup.arena.in_use() / per_step, scratch / per_step);
        self.spaces.clones.replace(steps) != Some(steps)
    }

    /// A unit is gone.
    pub(super) fn forget_space(&mut self, lun: LunId) {
        self.spaces.units.remove(&lun);
        self.spaces.failed.remove(&lun);
    }
}
