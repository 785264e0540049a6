//! One initiator's current epoch on one target, and what a login to it leads to.

use std::net::IpAddr;

use super::record::EpochRecord;
use super::types::{CloneId, EpochState, LoginFacts, LoginStage, OnLost, SessionId, TargetId, Time};

/// An entry's place in the registry; never used again within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryId(pub(super) u64);

/// A clone and where it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clone {
    pub(super) id: CloneId,
    pub(super) owner_shard: u16,
}

/// The session on a clone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) isid: [u8; 6],
    pub(super) address: IpAddr,
    pub(super) stage: LoginStage,
    pub(super) last_heard: Time,
}

impl Session {
    pub(super) fn of(facts: &LoginFacts, now: Time) -> Self {
        Self {
            id: facts.session,
            isid: facts.isid,
            address: facts.address,
            stage: facts.stage,
            last_heard: now,
        }
    }
}

/// Where the epoch's overlay is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Disk {
    /// A session uses it.
    Attached { clone: Clone, session: Session },
    /// It waits for its machine. `graceful`: after a Logout.
    Held { clone: Clone, since: Time, until: Time, graceful: bool },
    /// It was lost with an earlier run of the target.
    Lost,
    /// It expired, or was pushed out.
    Dropped,
}

/// Which overlay a login gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The epoch's own.
    Keep(Clone),
    /// A fresh one, in a new epoch.
    Renew,
    /// None: the epoch's was lost.
    RefuseLost,
    /// None: the epoch's was dropped.
    RefuseDropped,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) target: TargetId,
    pub(super) initiator: String,
    pub(super) epoch: u64,
    /// The furthest stage reached.
    pub(super) stage: LoginStage,
    /// Where this epoch's firmware logged in from; `None` when it began with an OS-stage login (or is restored).
    pub(super) firmware_address: Option<IpAddr>,
    /// Whether the epoch began with a firmware-class login.
    pub(super) firmware: bool,
    pub(super) disk: Disk,
}

impl Entry {
    /// Which overlay a login gets, once no other session is in its way.
    pub(super) fn outcome(&self, login: LoginStage, on_lost: OnLost) -> Outcome {
        let clone = match self.disk {
            Disk::Attached { clone, .. } | Disk::Held { clone, .. } => clone,
            Disk::Lost | Disk::Dropped if login == LoginStage::Firmware || on_lost == OnLost::Fresh => {
                return Outcome::Renew;
            }
            Disk::Lost => return Outcome::RefuseLost,
            Disk::Dropped => return Outcome::RefuseDropped,
        };
        if login == LoginStage::Firmware && self.stage == LoginStage::Os {
            return Outcome::Renew;
        }
        Outcome::Keep(clone)
    }

    pub(super) fn clone(&self) -> Option<Clone> {
        match self.disk {
            Disk::Attached { clone, .. } | Disk::Held { clone, .. } => Some(clone),
            Disk::Lost | Disk::Dropped => None,
        }
    }

    pub(super) fn session(&self) -> Option<&Session> {
        match &self.disk {
            Disk::Attached { session, .. } => Some(session),
            _ => None,
        }
    }

    /// Whether a newcomer may be this epoch's machine, by address or by being the formal reinstatement of `session`.
    pub(super) fn may_be_its_machine(&self, session: &Session, newcomer: &LoginFacts) -> bool {
        newcomer.isid == session.isid
            || newcomer.address == session.address
            || self.firmware_address == Some(newcomer.address)
    }

    pub(super) fn record(&self, target: &str) -> EpochRecord {
        EpochRecord {
            target: target.to_owned(),
            initiator: self.initiator.clone(),
            epoch: self.epoch,
            stage: self.stage,
            firmware: self.firmware,
        }
    }

    pub(super) fn state(&self) -> EpochState {
        match self.disk {
            Disk::Attached { clone, session } => EpochState::Attached {
                clone: clone.id,
                owner_shard: clone.owner_shard,
                session: session.id,
                address: session.address,
                last_heard: session.last_heard,
            },
            Disk::Held { clone, since, until, .. } => {
                EpochState::Held { clone: clone.id, owner_shard: clone.owner_shard, since, until }
            }
            Disk::Lost => EpochState::Lost,
            Disk::Dropped => EpochState::Dropped,
        }
    }
}
