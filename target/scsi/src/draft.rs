//! Changes of a unit's lasting state: drafted, made durable, then in effect.
//!
//! ```text
//!  command ─▶ Draft ─▶ commit ─┬─ nothing durable changes ──────────────────▶ apply ─▶ Step
//!                              └─ Step::Save ─▶ engine's store ─▶ saved(true)  ▶ apply ─▶ Step
//!                                                             └▶ saved(false) ▶ CHECK CONDITION, nothing changed
//! ```
//!
//! Until it is durable a change is seen by nobody, so a target that dies in between has promised nothing. One change
//! at a time: a command that would make another gets [`Step::Wait`].

use crate::alua::AccessState;
use crate::cdb::Access;
use crate::device::Device;
use crate::mode::ModeState;
use crate::reservations::{Persistent, TransportId};
use crate::sanitize::Sanitization;
use crate::saved::SavedState;
use crate::sense::{self, Sense};
use crate::unit_attention::UnitAttention;
use crate::{Fence, NexusId, Reply, Step};
use smallvec::SmallVec;

/// Who hears of a change, besides whoever made it.
#[derive(Debug)]
pub(crate) enum Audience {
    /// Nexuses of these initiator ports.
    Ports(Vec<TransportId>),
    /// All nexuses.
    All,
}

/// What the initiator is told when the change cannot be made durable.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum OnFailure {
    /// 04h/44h/00h.
    #[default]
    InternalTargetFailure,
    /// 05h/55h/04h: what SPC-4 5.13.7 gives where a registration cannot be kept.
    InsufficientRegistrationResources,
}

impl OnFailure {
    const fn sense(self) -> Sense {
        match self {
            Self::InternalTargetFailure => sense::INTERNAL_TARGET_FAILURE,
            Self::InsufficientRegistrationResources => sense::INSUFFICIENT_REGISTRATION_RESOURCES,
        }
    }
}

/// What a command makes of the unit's lasting state.
#[derive(Debug)]
pub(crate) struct Draft {
    /// Registrations and reservation.
    pub(crate) persistent: Persistent,
    /// The mode parameters in use.
    pub(crate) mode: ModeState,
    /// The saved mode parameters.
    pub(crate) saved_mode: ModeState,
    /// The asymmetric access state.
    pub(crate) access: AccessState,
    /// What is remembered of sanitize operations.
    pub(crate) sanitization: Sanitization,
    /// What the initiator is told when this cannot be made durable.
    pub(crate) on_failure: OnFailure,
    told: SmallVec<[(Audience, UnitAttention); 2]>,
    aborted: SmallVec<[NexusId; 4]>,
}

/// A draft that is on its way to the store.
#[derive(Debug)]
pub(crate) struct Pending {
    draft: Draft,
    by: NexusId,
    then: Step,
    state: Vec<u8>,
}

impl Draft {
    /// The state as it is.
    pub(crate) fn new(device: &Device) -> Self {
        Self {
            persistent: device.reservations.persistent.clone(),
            mode: device.mode,
            saved_mode: device.saved_mode,
            access: device.access,
            sanitization: device.sanitization.clone(),
            on_failure: OnFailure::default(),
            told: SmallVec::new(),
            aborted: SmallVec::new(),
        }
    }

    /// Has a unit attention established once the draft is in effect.
    pub(crate) fn tell(&mut self, audience: Audience, attention: UnitAttention) {
        self.told.push((audience, attention));
    }

    /// Has the tasks of these nexuses aborted once the draft is in effect.
    pub(crate) fn abort(&mut self, nexuses: impl Iterator<Item = NexusId>) {
        self.aborted.extend(nexuses);
    }
}

impl Device {
    /// Whether a change is on its way to the store.
    pub(crate) fn is_saving(&self) -> bool {
        self.pending.is_some()
    }

    /// Puts a draft of `by` in effect, at once or once it is durable, and goes on with `then`.
    pub(crate) fn commit(&mut self, draft: Draft, by: NexusId, then: Step) -> Step {
        let state = if self.config.durable { SavedState::encode(&self.config, &draft) } else { Vec::new() };
        if state == self.durable_state {
            return self.apply(draft, by, then);
        }
        self.pending = Some(Box::new(Pending { draft, by, then, state: state.clone() }));
        Step::Save(state)
    }

    /// The state of a [`Step::Save`] is durable, or could not be made so: what the command that waited for it does
    /// next. Commands that got [`Step::Wait`] can be started again.
    pub fn saved(&mut self, durable: bool) -> Step {
        let Some(pending) = self.pending.take() else {
            return Step::Done(sense::INTERNAL_TARGET_FAILURE.into());
        };
        let Pending { draft, by, then, state } = *pending;
        if !durable {
            let lost = draft.sanitization != self.sanitization && self.sanitize_end_is_lost();
            let sense = if lost { sense::SANITIZE_COMMAND_FAILED } else { draft.on_failure.sense() };
            let sense = sense.with_format(self.sense_format());
            return Step::Done(sense.into());
        }
        self.durable_state = state;
        self.apply(draft, by, then)
    }

    fn apply(&mut self, draft: Draft, by: NexusId, then: Step) -> Step {
        let before = std::mem::replace(&mut self.reservations.persistent, draft.persistent);
        let mode = std::mem::replace(&mut self.mode, draft.mode);
        if mode != self.mode {
            self.thresholds_set(&mode);
        }
        self.saved_mode = draft.saved_mode;
        self.access = draft.access;
        self.set_sanitization(draft.sanitization);
        for (audience, attention) in draft.told {
            match audience {
                Audience::Ports(ports) => self.raise_ports(&ports, by, attention),
                Audience::All => self.raise_others(by, attention),
            }
        }
        let awaited = self.shut_out(&before, by);
        match then {
            Step::Done(reply) if !(awaited.is_empty() && draft.aborted.is_empty()) => {
                Step::Fence(Fence { aborted: draft.aborted, awaited, reply })
            }
            then => then,
        }
    }

    /// Nexuses other than `by` that could do something under `before` which they cannot do now.
    fn shut_out(&self, before: &Persistent, by: NexusId) -> SmallVec<[NexusId; 4]> {
        let now = &self.reservations.persistent;
        if now == before {
            return SmallVec::new();
        }
        let shut_out = |port: &TransportId| {
            [Access::Read, Access::Write]
                .into_iter()
                .any(|access| now.conflict(Some(port), access) && !before.conflict(Some(port), access))
        };
        let others = self.nexuses.iter().filter(|(id, _)| **id != by);
        others.filter(|(_, nexus)| shut_out(&nexus.transport)).map(|(id, _)| *id).collect()
    }

    /// A reply of the unit's own, in the sense data format that D_SENSE selects.
    pub(crate) fn formatted(&self, mut reply: Reply) -> Reply {
        reply.sense = reply.sense.map(|sense| sense.with_format(self.sense_format()));
        reply
    }
}
