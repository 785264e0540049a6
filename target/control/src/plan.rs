//! From a configuration and its open images to what each shard and the registrar are made of.

use crate::config::{AluaRule, CloneKind, Config, Period, TargetConfig, iscsi_targets};
use crate::identity::LunIdentity;
use crate::images::Images;
use crate::journals::Journals;
use crate::registrar::{Backing, Target, TargetLun};
use crate::status::ImageFacts;
use crate::store::{Store, StoreError};
use stampede_engine::messages::{GoldenId, LunAddress, LunId, ShardId};
use stampede_image::align::Alignment;
use stampede_image::epoch::{OnLost, TargetPolicy};
use stampede_image::intent;
use stampede_ring::file::FileTraits;
use stampede_scsi::{Alua, DeviceConfig, Identity, SavedState};
use std::collections::{BTreeMap, BTreeSet};

/// The most blocks of an atomic write.
const ATOMIC_BLOCKS_MAX: u32 = 256;

/// Who serves what.
#[derive(Debug)]
pub struct Plan {
    /// The iSCSI targets.
    pub targets: Vec<Target>,
    /// The golden images, by their place among the files: every shard opens them.
    pub goldens: Vec<(GoldenId, usize)>,
    /// The plain logical units, each opened by its owner.
    pub disks: Vec<DiskPlan>,
    /// The first number that no plain logical unit has.
    pub first_clone: LunId,
    /// For status, by the operator's names.
    pub images: BTreeMap<String, ImageFacts>,
}

/// One plain logical unit.
#[derive(Clone, Debug)]
pub struct DiskPlan {
    /// Its number.
    pub lun: LunId,
    /// Its shard.
    pub owner: ShardId,
    /// Its file's place among the files.
    pub file: usize,
    /// Its identity and geometry.
    pub device: DeviceConfig,
    /// IQN and LUN number, by which the store knows it.
    pub name: (String, u16),
    /// What it had saved when the target last ran.
    pub saved: SavedState,
}

impl Plan {
    /// Makes the plan; plain logical units are dealt out to `shards` in turn. New identities are put in the store.
    ///
    /// # Errors
    /// The store fails.
    pub fn new(config: &Config, images: &Images, store: &Store, shards: u16) -> Result<Self, StoreError> {
        let mut plan = Self {
            targets: Vec::new(),
            goldens: Vec::new(),
            disks: Vec::new(),
            first_clone: LunId(0),
            images: BTreeMap::new(),
        };
        let mut goldens = BTreeSet::new();
        for iscsi in iscsi_targets(&config.targets) {
            let iqn = iscsi.iqn.as_str();
            let mut luns = Vec::new();
            for (number, index) in &iscsi.luns {
                let (Some(entry), Some(file)) = (config.targets.get(*index), images.file_of(*index)) else {
                    continue;
                };
                let Some(opened) = images.files().get(file) else { continue };
                let identity = store.identity(iqn, *number, LunIdentity::derive(iqn, *number))?;
                let backing = match entry.clone {
                    CloneKind::Ephemeral => {
                        // Configurations have far fewer than 2^32 files.
                        let golden = GoldenId(u32::try_from(file).unwrap_or(u32::MAX));
                        if goldens.insert(file) {
                            plan.goldens.push((golden, file));
                        }
                        let device = Box::new(device(entry, opened.traits(), identity.to_scsi(iqn, true)));
                        Backing::Clone { golden, device, identity }
                    }
                    CloneKind::None => {
                        let saved = store.unit_state(iqn, *number)?;
                        let name = (iqn.to_owned(), *number);
                        plan.add_disk(entry, name, &identity, saved, (file, opened.traits()), shards)
                    }
                };
                plan.images.insert(entry.name.clone(), image_facts(entry, opened.traits()));
                luns.push(TargetLun { number: *number, name: entry.name.clone(), backing });
            }
            let policy = policy(&iscsi, config.limits.clones);
            plan.targets.push(Target { iqn: iqn.to_owned(), luns, policy });
        }
        Ok(plan)
    }

    /// Offers atomic writes where there is a journal for them.
    pub fn offer_atomic_writes(&mut self, journals: &Journals) {
        for disk in &mut self.disks {
            if journals.of(disk.file).is_some() {
                offer_atomic_writes(&mut disk.device);
            }
        }
    }

    fn add_disk(
        &mut self,
        entry: &TargetConfig,
        name: (String, u16),
        identity: &LunIdentity,
        saved: SavedState,
        (file, traits): (usize, &FileTraits),
        shards: u16,
    ) -> Backing {
        let lun = self.first_clone;
        self.first_clone = LunId(lun.0.saturating_add(1));
        let owner = owner_of(lun, shards);
        let device = disk_device(entry, traits, identity.to_scsi(&name.0, false));
        let (block_size, in_memory) = (device.block_size, traits.in_memory && entry.encryption.is_none());
        let address = LunAddress { lun, owner, block_size, is_clone: false, in_memory };
        self.disks.push(DiskPlan { lun, owner, file, device, name, saved });
        Backing::Plain(address)
    }
}

/// The shard that owns a plain logical unit: they are dealt out in turn.
pub(crate) fn owner_of(lun: LunId, shards: u16) -> ShardId {
    ShardId(u16::try_from(lun.0 % u32::from(shards.max(1))).unwrap_or(0))
}

/// What direct I/O on a file needs.
#[must_use]
pub fn alignment(traits: &FileTraits) -> Alignment {
    match traits.direct {
        Some(direct) => Alignment { memory: direct.memory, offset: direct.offset },
        None => Alignment::NONE,
    }
}

/// The device server of a plain logical unit.
pub(crate) fn disk_device(entry: &TargetConfig, traits: &FileTraits, identity: Identity) -> DeviceConfig {
    let mut device = device(entry, traits, identity);
    device.durable = true;
    device
}

/// Offers atomic writes on a unit that has a journal for them.
pub(crate) fn offer_atomic_writes(device: &mut DeviceConfig) {
    if !device.read_only {
        device.max_atomic_blocks = ATOMIC_BLOCKS_MAX.min(intent::DATA_MAX / device.block_size.max(1));
    }
}

/// What a target's options make of its image.
fn device(entry: &TargetConfig, traits: &FileTraits, identity: Identity) -> DeviceConfig {
    let block_size = entry.block_bytes();
    let blocks = traits.len_bytes / u64::from(block_size);
    let mut device = DeviceConfig::with_block_size(identity, block_size, entry.physical_bytes(), blocks);
    device.read_only = entry.ro;
    device.removable = entry.removable;
    device.alua = alua(entry);
    device.thin = entry.thin;
    device.space_is_known = entry.clone == CloneKind::Ephemeral || !traits.device;
    device.encrypted = entry.encryption.is_some();
    device.sanitize_bytes_s = entry.sanitize_rate.map_or(0, |rate| rate.0);
    if entry.clone == CloneKind::Ephemeral {
        device.thin = true;
        // A clone's writes are done in memory at once, and it does not outlive the host's power: it has no torn writes.
        device.max_atomic_blocks = ATOMIC_BLOCKS_MAX;
    }
    device
}

fn alua(entry: &TargetConfig) -> Alua {
    match entry.alua.unwrap_or(AluaRule::Implicit) {
        AluaRule::Off => Alua::Off,
        AluaRule::Implicit => Alua::Implicit,
        AluaRule::Explicit => Alua::Explicit,
    }
}

fn policy(target: &crate::config::IscsiTarget, max_clones: u32) -> TargetPolicy {
    TargetPolicy {
        on_lost: match target.on_lost {
            crate::config::OnLost::Refuse => OnLost::Refuse,
            crate::config::OnLost::Fresh => OnLost::Fresh,
        },
        grace_after_logout: Period::as_nanos(target.grace),
        hold_after_unclean: Period::as_nanos(target.hold),
        max_clones,
    }
}

pub(crate) fn image_facts(entry: &TargetConfig, traits: &FileTraits) -> ImageFacts {
    let in_memory = traits.in_memory.then(|| "the file is in memory".to_owned());
    ImageFacts {
        path: entry.path.clone(),
        bytes: traits.len_bytes,
        read_only: entry.ro,
        removable: entry.removable,
        encrypted: entry.encryption.is_some(),
        buffered_reason: traits.buffered_reason.clone().or(in_memory),
        direct_io: traits.direct.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Origin, Partial};

    #[test]
    fn goldens_are_shared_and_disks_dealt_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut partial = Partial::default();
        for (name, options) in [
            ("os1", "golden,clone=ephemeral,on-lost=fresh,hold=1h"),
            ("os2", "golden,clone=ephemeral"),
            ("d1", "d1"),
            ("d2", "d2,ro,alua=explicit"),
            ("d4", "d4,removable,thin,block-size=4K"),
            ("d3", "d3,lun=4,iqn=iqn.2026-11.io.stampede:d1"),
        ] {
            std::fs::write(dir.path().join(options.split(',').next().unwrap()), vec![0; 1 << 20]).unwrap();
            let text = format!("{name}={}/{options}", dir.path().display());
            partial.targets.push((Origin::Flag("--target"), text.parse().unwrap()));
        }
        let config = partial.finish().unwrap();
        let images = Images::open(&config).unwrap();
        let store = Store::in_memory().unwrap();
        let plan = Plan::new(&config, &images, &store, 2).unwrap();
        assert_eq!(plan.goldens.len(), 1, "one golden of two targets");
        assert_eq!(plan.targets.len(), 5);
        assert_eq!(plan.targets[0].policy.on_lost, OnLost::Fresh);
        assert_eq!(plan.targets[0].policy.hold_after_unclean, 3_600_000_000_000);
        let owners: Vec<_> =
            plan.disks.iter().map(|disk| (disk.lun.0, disk.owner.0, disk.device.read_only)).collect();
        assert_eq!(owners, [(0, 0, false), (1, 1, false), (2, 0, true), (3, 1, false)]);
        assert_eq!(plan.first_clone, LunId(4));
        assert_eq!(plan.targets[2].luns.iter().map(|lun| lun.number).collect::<Vec<_>>(), [0, 4]);
        assert_eq!(plan.disks[0].device.blocks, 2048);
        let rules: Vec<_> = plan.disks.iter().map(|disk| disk.device.alua).collect();
        assert_eq!(rules, [Alua::Implicit, Alua::Implicit, Alua::Explicit, Alua::Implicit]);
        let naas: BTreeSet<_> = plan.disks.iter().map(|disk| disk.device.identity.naa).collect();
        assert_eq!(naas.len(), 4);
        let plain = &plan.disks[0].device;
        assert_eq!(
            (plain.thin, plain.removable, plain.block_size, plain.physical_exponent),
            (false, false, 512, 3)
        );
        let odd = &plan.disks[3].device;
        assert_eq!((odd.thin, odd.removable, odd.block_size, odd.physical_exponent), (true, true, 4096, 0));
        assert_eq!(odd.blocks, 256);
        assert!(plan.images["d2"].read_only);
        let again = Plan::new(&config, &images, &store, 2).unwrap();
        assert_eq!(again.disks[0].device, plan.disks[0].device);
    }
}
