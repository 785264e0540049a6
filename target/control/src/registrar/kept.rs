//! Clones that outlive the process: entered in the ledger when they are made, taken off when they are dropped, and found
//! again by the record of their epoch.

use super::{Backing, Outbox, Registrar};
use sha2::{Digest, Sha256};
use stampede_engine::messages::{FromControl, GoldenId, KeptClone, ShardId};
use stampede_image::epoch::{CloneId, EpochRecord, RecordKey};
use stampede_image::ledger::{CloneFacts, CloneNumber, Ledger};
use stampede_ring::file::Identity;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Enters clones in the ledger.
#[derive(Clone, Debug)]
pub struct Keeper {
    ledger: Arc<Ledger>,
    goldens: BTreeMap<GoldenId, [u64; 2]>,
    /// It was said that there is no room.
    full: bool,
}

/// The overlays of one epoch that outlived the process.
#[derive(Debug)]
pub struct Survivor {
    /// The record of its epoch.
    pub record: EpochRecord,
    /// What there is, by LUN number.
    pub luns: BTreeMap<u16, KeptClone>,
}

impl Keeper {
    /// Enters clones of these goldens.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, goldens: impl Iterator<Item = (GoldenId, Identity)>) -> Self {
        let goldens = goldens.map(|(golden, identity)| (golden, golden_digest(&identity))).collect();
        Self { ledger, goldens, full: false }
    }

    /// Enters a clone of an epoch that begins; `None`, with a line in the log, when it cannot outlive the process.
    pub(super) fn enter(&mut self, record: &EpochRecord, lun: u16, backing: &Backing) -> Option<KeptClone> {
        let facts = self.facts(record, lun, backing)?;
        let number = self.ledger.enter(&facts);
        if number.is_none() && !std::mem::replace(&mut self.full, true) {
            tracing::warn!(
                initiator = record.initiator,
                "there is no room to keep further clones over a restart: those that come now are lost with the process"
            );
        }
        Some(KeptClone::empty(Arc::clone(&self.ledger), number?))
    }

    /// What a clone of this epoch is found again by; `None` for a unit whose clones cannot be kept.
    #[must_use]
    pub fn facts(&self, record: &EpochRecord, lun: u16, backing: &Backing) -> Option<CloneFacts> {
        let Backing::Clone { golden, device, .. } = backing else { return None };
        let bytes = device.blocks.saturating_mul(u64::from(device.block_size));
        let golden = *self.goldens.get(golden).filter(|_| Ledger::takes(bytes))?;
        Some(CloneFacts { epoch: record.epoch, owner: owner_digest(&record.key()), lun, golden })
    }

    /// The ledger.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    pub(super) fn give_up(&self, clone: CloneNumber) {
        self.ledger.give_up(clone);
    }

    pub(super) fn leave(&self, clone: CloneNumber) {
        self.ledger.leave(clone);
    }
}

impl Registrar {
    /// Has all clones that are made from now on outlive the process, as far as the ledger has room.
    pub fn keep(&mut self, keeper: Keeper) {
        self.clones.keep(keeper);
    }

    /// Takes up overlays that outlived the process, which then wait for their machines; those whose epoch nobody knows are
    /// left out. Call it before the first login. The messages are to be sent before any other.
    #[must_use]
    pub fn adopt(&mut self, survivors: Vec<Survivor>, now: u64) -> Vec<(ShardId, FromControl)> {
        let mut out = Outbox::default();
        for (survivor, id) in survivors.into_iter().zip(1..) {
            let record = &survivor.record;
            let Some(index) = self.by_iqn.get(&record.target).copied() else { continue };
            let (clone, owner) = (CloneId(id), self.loads.least());
            if self.registry.adopt(&record.key(), record.epoch, clone, owner.0, now) {
                let target = &self.targets[index];
                self.clones.adopt(clone, target, survivor, owner, &mut self.loads, &mut out);
            }
        }
        out.messages
    }
}

/// The first words of a digest.
fn words<const N: usize>(digest: Sha256) -> [u64; N] {
    let bytes = digest.finalize();
    std::array::from_fn(|at| {
        let word = bytes[at * 8..][..8].try_into().unwrap_or([0; 8]);
        u64::from_be_bytes(word)
    })
}

fn owner_digest(key: &RecordKey) -> u64 {
    let digest = Sha256::new().chain_update(&key.target).chain_update([0]).chain_update(&key.initiator);
    words::<1>(digest)[0]
}

/// A golden that was written to, or that another file has taken the place of, has another digest.
fn golden_digest(golden: &Identity) -> [u64; 2] {
    let digest = Sha256::new()
        .chain_update(golden.device.to_be_bytes())
        .chain_update(golden.inode.to_be_bytes())
        .chain_update(golden.len_bytes.to_be_bytes())
        .chain_update(golden.modified_ns.to_be_bytes());
    words(digest)
}
