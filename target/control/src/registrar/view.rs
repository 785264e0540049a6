//! What status shows of the registrar's tables.

use super::{Registrar, SessionEntry};
use stampede_engine::messages::{LunId, ShardId};
use stampede_image::epoch::{CloneId, EpochState, EpochStatus};
use stampede_session::{LoginStage, SessionId};

/// One initiator's epoch, with where its overlays are.
#[derive(Clone, Debug)]
pub struct CloneView {
    /// The target's IQN.
    pub target: String,
    /// The epoch.
    pub epoch: EpochStatus,
    /// The owning shard; `None` when it has no clone.
    pub owner: Option<ShardId>,
    /// LUN numbers and the overlays behind them.
    pub luns: Vec<(u16, LunId)>,
    /// Sessions on it, those that are being closed included.
    pub sessions: usize,
}

impl Registrar {
    /// All epochs.
    pub fn clones(&self) -> impl Iterator<Item = CloneView> + '_ {
        self.registry.list().map(|epoch| {
            let entry = clone_of(&epoch.state).and_then(|clone| self.clones.find(clone));
            CloneView {
                target: self.targets.get(epoch.target.0 as usize).map(|t| t.iqn.clone()).unwrap_or_default(),
                owner: entry.and_then(super::clones::CloneEntry::owner),
                luns: entry
                    .into_iter()
                    .flat_map(|entry| &entry.luns)
                    .map(|lun| (lun.number, lun.lun))
                    .collect(),
                sessions: entry.map_or(0, |entry| entry.sessions.len()),
                epoch,
            }
        })
    }

    /// All sessions, held logins included.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, &SessionEntry)> {
        self.sessions.iter()
    }

    /// One session, held logins included.
    #[must_use]
    pub fn session(&self, session: SessionId) -> Option<&SessionEntry> {
        self.sessions.find(session)
    }

    /// Whether an operating system has a session with an overlay.
    #[must_use]
    pub fn runs_os(&self, lun: LunId) -> bool {
        let mut sessions = self.clones.sessions_of(lun).filter_map(|session| self.sessions.find(session));
        sessions.any(|entry| entry.stage == LoginStage::Os)
    }

    /// Logins whose response is held.
    #[must_use]
    pub fn held_logins(&self) -> usize {
        self.held.len()
    }

    /// The targets of this run.
    #[must_use]
    pub fn targets(&self) -> &[super::Target] {
        &self.targets
    }
}

fn clone_of(state: &EpochState) -> Option<CloneId> {
    match state {
        EpochState::Attached { clone, .. } | EpochState::Held { clone, .. } => Some(*clone),
        EpochState::Lost | EpochState::Dropped => None,
    }
}
