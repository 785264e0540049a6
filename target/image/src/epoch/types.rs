//! What goes into the epoch registry and what comes out of it.

use std::fmt;
use std::net::IpAddr;

use smallvec::SmallVec;

use super::record::{EpochRecord, RecordKey};

/// Nanoseconds of the caller's monotonic clock, or a span of it. The registry reads no clock.
pub type Time = u64;

/// One second as a [`Time`].
pub const SECOND: Time = 1_000_000_000;

/// A target of the configuration, as the caller numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetId(pub u32);

/// An iSCSI session; unique within one run of the process (never reused, unlike a TSIH).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// An ephemeral clone: one overlay on one golden. Unique within one run of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CloneId(pub u64);

/// Who is logging in: the machine's boot firmware or its operating system. Told by a login's fingerprint, or by the
/// target's `stage=`; an unknown initiator counts as [`LoginStage::Os`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoginStage {
    /// iPXE, UEFI: whatever runs before an operating system does.
    Firmware,
    /// An initramfs, an operating system, a hypervisor's own initiator, a tool.
    Os,
}

/// What an OS-stage login gets whose epoch's overlay was lost (restart) or dropped (expired, pushed out).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLost {
    /// Refuse it: a running filesystem never gets a blank disk under it.
    #[default]
    Refuse,
    /// A fresh clone: for data that is known to be worthless.
    Fresh,
}

/// What the registry needs to know of a login, once the session layer would accept it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginFacts {
    /// The target logged in to.
    pub target: TargetId,
    /// InitiatorName as sent. Names are compared without regard to ASCII case (RFC 3722).
    pub initiator: String,
    /// The initiator's part of the session identifier (RFC 7143 section 11.12.5).
    pub isid: [u8; 6],
    /// The connection's peer address. Behind a NAT machines share it.
    pub address: IpAddr,
    /// Firmware or operating system.
    pub stage: LoginStage,
    /// The new session; unique within this run.
    pub session: SessionId,
    /// The shard that accepted the connection; it will own a clone made for this login.
    pub shard: u16,
}

/// How one target treats its ephemeral clones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetPolicy {
    /// What an OS-stage login to a lost or dropped epoch gets.
    pub on_lost: OnLost,
    /// How long the overlay of a machine that booted through firmware lives after its clean Logout.
    pub grace_after_logout: Time,
    /// How long an overlay is held after its session ended without a Logout.
    pub hold_after_unclean: Time,
    /// The most clones that may exist of this target at once, attached or held.
    pub max_clones: u32,
}

impl Default for TargetPolicy {
    fn default() -> Self {
        Self {
            on_lost: OnLost::Refuse,
            grace_after_logout: 60 * SECOND,
            hold_after_unclean: 24 * 3600 * SECOND,
            max_clones: 4096,
        }
    }
}

/// The registry's answer to a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The login gets this clone. When `fresh`, the effects of the same call hold its [`Effect::CreateClone`].
    Attach {
        /// The clone that the session uses.
        clone: CloneId,
        /// The shard that owns the clone.
        owner_shard: u16,
        /// Whether the clone was made for this login (it is empty).
        fresh: bool,
        /// The number of the boot epoch.
        epoch: u64,
        /// Sessions on the same clone that this one replaces: the engine ends them, and their disk operations are
        /// complete, before it sends the final Login Response. The registry has already forgotten them.
        reinstates: SmallVec<[SessionId; 2]>,
    },
    /// The login is refused.
    Refuse(Refusal),
    /// It depends on whether the sessions named are alive. Hold the login response, ask them, and call
    /// [`Registry::login_probed`](super::Registry::login_probed) as soon as one was heard from or has ended, at the
    /// latest after `wait`.
    Probe {
        /// The sessions to ask.
        sessions: SmallVec<[Probe; 2]>,
        /// How long to listen; zero asks only for when the sessions were last heard from.
        wait: Time,
    },
}

/// One session to be asked whether it is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The session.
    pub session: SessionId,
    /// Whether to send a NOP-In ping. Firmware is only listened to: it never answers a ping.
    pub ping: bool,
}

/// What a probe found for a session that has not ended (an ended one needs no answer: its
/// [`session_ended`](super::Registry::session_ended) says enough).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// The session asked.
    pub session: SessionId,
    /// When the ping was sent, or when listening began.
    pub asked_at: Time,
    /// When the last PDU of any kind arrived from it.
    pub last_heard: Time,
}

/// Why a login is refused, for the initiator and for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why, to match on.
    pub reason: RefusalReason,
    /// What the Login Response says.
    pub status: StatusHint,
    /// One line for the operator's log: what happened and what to do.
    pub message: String,
}

/// Why a login is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// The target is not one with ephemeral clones.
    UnknownTarget,
    /// An OS-stage login whose epoch's overlay was lost with an earlier run of the target.
    OverlayLost,
    /// An OS-stage login whose epoch's overlay was dropped: it expired or was pushed out.
    OverlayDropped,
    /// Another machine of the same initiator name is alive on the clone.
    DuplicateName,
    /// The clone's session is silent but not gone yet, and nothing says that the newcomer is the same machine.
    SessionMayReturn,
    /// The clone's session changed while it was being probed.
    Busy,
    /// No further clone, and none that could be dropped.
    TooManyClones,
    /// No further initiator can be remembered.
    TooManyRecords,
    /// The session is attached already.
    SessionInUse,
}

/// The status of the Login Response (RFC 7143 section 11.13.5). Initiators give up on class 02 and retry on 03.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusHint {
    /// 0202 Authorization failure: this initiator is not allowed to use this target.
    Forbidden,
    /// 0301 Service unavailable.
    ServiceUnavailable,
    /// 0302 Out of resources.
    OutOfResources,
}

impl StatusHint {
    /// Status class and detail as on the wire: the class in the high byte.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Forbidden => 0x0202,
            Self::ServiceUnavailable => 0x0301,
            Self::OutOfResources => 0x0302,
        }
    }
}

/// What a login needs of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The clone of its epoch, which a session has now.
    InUse,
    /// The clone of its epoch, which is held for it; or one in its place.
    Own,
    /// A clone that there is not yet.
    Fresh,
    /// None: it will be refused.
    Nothing,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By a Logout that closes the session (RFC 7143 section 11.14.1, reason 0).
    Logout,
    /// In any other way: connection closed or timed out, or dropped by the target.
    Dropped,
    /// It was reinstated by a newer session.
    Reinstated,
}

/// What the caller must do, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write the record, replacing the one of the same key. It must be durable *before* the final Login Response of
    /// the same call is sent: without it a restarted target would take a running system for a first contact.
    Persist(EpochRecord),
    /// Delete the record. Need not be durable at once.
    Forget(RecordKey),
    /// Make an empty overlay.
    CreateClone {
        /// Its identity.
        clone: CloneId,
        /// The target whose golden lies under it.
        target: TargetId,
        /// The shard to own it.
        owner_shard: u16,
    },
    /// Free an overlay, once the sessions closed on it have no disk operation under way.
    DropClone {
        /// Its identity.
        clone: CloneId,
        /// The shard that owns it.
        owner_shard: u16,
    },
    /// End a session and its connections. The registry has already forgotten it.
    CloseSession {
        /// The session.
        session: SessionId,
        /// Why.
        why: CloseReason,
    },
    /// Tell the operator.
    Alert {
        /// The target concerned.
        target: TargetId,
        /// The initiator name concerned.
        initiator: String,
        /// What it is about.
        kind: AlertKind,
        /// One line: what happened and what to do.
        message: String,
    },
}

/// Why the registry ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The machine was reset: its firmware logged in, and this session is silent.
    NewEpoch,
}

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertKind {
    /// Two machines use one initiator name.
    DuplicateName,
    /// A running system was refused because its overlay is gone.
    OverlayGone,
    /// An overlay was dropped to make room.
    PushedOut,
}

/// What `stampede clone reset NAME` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetOutcome {
    /// The epoch is over: the next login of any stage gets a fresh clone.
    Reset,
    /// There is no such initiator on this target.
    NotFound,
    /// A session is attached from this address. Its system would come back at once and find a blank disk under its
    /// filesystems, so it must be shut down first.
    InUse(IpAddr),
}

/// One initiator's epoch, for status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochStatus {
    /// The target.
    pub target: TargetId,
    /// The initiator's name, in lower case.
    pub initiator: String,
    /// The epoch's number.
    pub epoch: u64,
    /// The furthest stage reached in it.
    pub stage: LoginStage,
    /// Where its overlay is.
    pub state: EpochState,
}

/// Where an epoch's overlay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochState {
    /// In use.
    Attached {
        /// The clone.
        clone: CloneId,
        /// The shard that owns it.
        owner_shard: u16,
        /// The session on it.
        session: SessionId,
        /// That session's peer address.
        address: IpAddr,
        /// When it was last known to be heard from.
        last_heard: Time,
    },
    /// Kept for its machine to come back.
    Held {
        /// The clone.
        clone: CloneId,
        /// The shard that owns it.
        owner_shard: u16,
        /// When its session ended.
        since: Time,
        /// When it will be dropped.
        until: Time,
    },
    /// Lost with an earlier run of the target.
    Lost,
    /// Dropped: expired, or pushed out.
    Dropped,
}

impl fmt::Display for LoginStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Firmware => "firmware",
            Self::Os => "os",
        })
    }
}
