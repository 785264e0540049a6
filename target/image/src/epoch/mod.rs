//! Boot epochs: which overlay a login gets.

mod record;
mod registry;
mod types;

pub use record::{EpochRecord, RecordKey};
pub use registry::Registry;
pub use types::{
    AlertKind, CloneId, CloseReason, Decision, Effect, End, EpochState, EpochStatus, LoginFacts, LoginStage,
    OnLost, Probe, ProbeAnswer, Refusal, RefusalReason, ResetOutcome, SECOND, SessionId, StatusHint, TargetId,
    TargetPolicy, Time,
};
