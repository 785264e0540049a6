//! Goldens in the cache: the recording of their first boots, and when they are read ahead.
//!
//! ```text
//!  first clone ─► FromControl::Record ─► shards ─► ToControl::Recorded ─► Recorder ─► RecordingFiles
//!  next clone, or the operator ─► the recording's route ─► FromControl::Warm ─► every shard
//! ```
//!
//! The first clone of a golden version is recorded from its making on, whatever sessions it has and wherever it goes, until
//! its machine has come to rest. A machine that goes away before leaves a recording that is used, and made anew with the next.

mod files;
mod recorder;

pub use files::RecordingFiles;
pub(crate) use recorder::{Recorder, Use, replaces};

use crate::config::WarmRule;
use stampede_engine::messages::GoldenId;
use std::collections::BTreeSet;

/// What the control thread knows of the golden cache.
#[derive(Debug)]
pub struct Caching {
    /// The goldens that are cached.
    pub goldens: BTreeSet<GoldenId>,
    /// The cache's memory.
    pub bytes: u64,
    /// Where recordings are kept.
    pub recordings: RecordingFiles,
    /// What is read at the start.
    pub warm: WarmRule,
}

impl Default for Caching {
    /// Nothing is cached.
    fn default() -> Self {
        Self {
            goldens: BTreeSet::new(),
            bytes: 0,
            recordings: RecordingFiles::default(),
            warm: WarmRule::Off,
        }
    }
}
