//! Units' lasting state on its way into the store: what came in one batch is one commit, and each command is answered
//! after it.

use super::ControlThread;
use crate::store::UnitState;
use stampede_engine::messages::{FromControl, LunId, ShardId};

/// One unit's change.
#[derive(Debug)]
struct Save {
    shard: ShardId,
    lun: LunId,
    number: u64,
    state: Vec<u8>,
}

/// What is to be made durable with this batch.
#[derive(Debug, Default)]
pub(super) struct Saves(Vec<Save>);

impl Saves {
    pub(super) fn push(&mut self, shard: ShardId, lun: LunId, number: u64, state: Vec<u8>) {
        self.0.push(Save { shard, lun, number, state });
    }
}

impl ControlThread {
    /// Makes the batch's changes durable and says so, or says that they are not.
    pub(super) fn save_units(&mut self) {
        let saves = std::mem::take(&mut self.saves.0);
        if saves.is_empty() {
            return;
        }
        let names = &self.setup.units;
        let units: Vec<UnitState> = saves
            .iter()
            .filter_map(|save| {
                let (target, lun) = names.get(&save.lun)?.clone();
                Some(UnitState { target, lun, state: save.state.clone() })
            })
            .collect();
        let stored = self.setup.store.put_units(&units);
        if let Err(error) = &stored {
            tracing::error!(%error, "reservations and mode pages cannot be kept; the commands that changed them fail");
        }
        for Save { shard, lun, number, .. } in saves {
            let durable = stored.is_ok() && self.setup.units.contains_key(&lun);
            if let Some(link) = self.setup.shards.get_mut(usize::from(shard.0)) {
                link.send(FromControl::Saved { lun, number, durable });
            }
        }
    }
}
