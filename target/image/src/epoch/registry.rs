//! The registry: all initiators' epochs of all targets with ephemeral clones.

use super::record::{EpochRecord, RecordKey};
use super::types::{
    CloneId, Decision, Effect, End, EpochStatus, LoginFacts, ProbeAnswer, Refusal, RefusalReason, ResetOutcome,
    SessionId, StatusHint, TargetId, TargetPolicy, Time,
};

/// All boot epochs of all targets with ephemeral clones. Lives on the control thread.
#[derive(Debug, Default)]
pub struct Registry {}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A registry that knows the epochs of an earlier run. Their overlays count as lost, unless
    /// [`adopt`](Self::adopt) says otherwise. Records of targets that are not (yet) added are kept.
    pub fn restore(_records: impl Iterator<Item = EpochRecord>) -> Self {
        Self::default()
    }

    /// Adds a target, or changes the policy of one; its restored records become live.
    pub fn add_target(&mut self, _id: TargetId, _name: &str, _policy: TargetPolicy) {}

    /// Says that the overlay of a restored epoch survived the restart as `clone`. Returns false, and changes nothing,
    /// when there is no such epoch.
    pub fn adopt(
        &mut self,
        _key: &RecordKey,
        _epoch: u64,
        _clone: CloneId,
        _owner_shard: u16,
        _now: Time,
    ) -> bool {
        false
    }

    /// Decides what a login gets.
    pub fn login(&mut self, _facts: &LoginFacts, _now: Time, _effects: &mut Vec<Effect>) -> Decision {
        Decision::Refuse(Refusal {
            reason: RefusalReason::UnknownTarget,
            status: StatusHint::ServiceUnavailable,
            message: String::new(),
        })
    }

    /// Decides again, after a [`Decision::Probe`].
    pub fn login_probed(
        &mut self,
        facts: &LoginFacts,
        _answers: &[ProbeAnswer],
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> Decision {
        self.login(facts, now, effects)
    }

    /// Says that a session ended. Unknown sessions are ignored.
    pub fn session_ended(
        &mut self,
        _session: SessionId,
        _how: End,
        _now: Time,
        _effects: &mut Vec<Effect>,
    ) {
    }

    /// Drops the overlays whose time is up.
    pub fn tick(&mut self, _now: Time, _effects: &mut Vec<Effect>) {}

    /// When [`tick`](Self::tick) next has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        None
    }

    /// Ends an initiator's epoch by hand (`stampede clone reset NAME`).
    pub fn reset(
        &mut self,
        _target: TargetId,
        _initiator: &str,
        _now: Time,
        _effects: &mut Vec<Effect>,
    ) -> ResetOutcome {
        ResetOutcome::NotFound
    }

    /// Drops the held overlay that is least likely to be missed, to make room; which one, if any.
    pub fn drop_oldest_unclean(&mut self, _now: Time, _effects: &mut Vec<Effect>) -> Option<CloneId> {
        None
    }

    /// Every epoch known, by target and initiator name.
    pub fn list(&self) -> impl Iterator<Item = EpochStatus> + '_ {
        std::iter::empty()
    }
}
