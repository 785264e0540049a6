//! What is remembered of an epoch when the process is gone: one small record per initiator and target.

use super::types::LoginStage;

/// The persisted record of one initiator's current boot epoch on one target. Written when the epoch starts and once
/// more when its operating system logs in first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochRecord {
    /// The target's name in the configuration.
    pub target: String,
    /// The initiator's name, in lower case.
    pub initiator: String,
    /// The epoch's number; numbers grow over all initiators.
    pub epoch: u64,
    /// The furthest stage reached.
    pub stage: LoginStage,
    /// Whether the epoch was begun by a firmware-class login.
    pub firmware: bool,
}

/// What a record is stored under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordKey {
    /// The target's name in the configuration.
    pub target: String,
    /// The initiator's name, in lower case.
    pub initiator: String,
}

impl EpochRecord {
    /// What the record is stored under.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        RecordKey { target: self.target.clone(), initiator: self.initiator.clone() }
    }
}
