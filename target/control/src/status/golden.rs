//! What status shows of goldens.

use super::table::{Table, bytes, period};
use serde::{Deserialize, Serialize};
use stampede_image::cache::BLOCK;
use std::path::PathBuf;

/// One golden.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoldenStatus {
    /// What the operator calls the LUNs whose clones are of it.
    pub names: Vec<String>,
    /// Its file or device.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Whether it is cached; one in memory is not.
    pub cached: bool,
    /// Whether it was changed behind our back: it gets no new clones.
    pub changed: bool,
    /// Its bytes that are in the cache.
    pub cached_bytes: u64,
    /// The recording of its first boot.
    pub recording: RecordingStatus,
    /// Reading ahead.
    pub prefetch: PrefetchStatus,
}

/// A recording; blocks are of 32 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingStatus {
    /// `none`, `recording`, `complete`, `cut off`, `to be made anew`, or `not made` since the golden changed; empty for a
    /// golden that is not cached.
    pub state: String,
    /// Blocks of the recording that is there.
    pub blocks: u64,
    /// Its length.
    pub seconds: u64,
    /// Blocks of the one in the making.
    pub underway: u64,
}

/// Reading ahead, in blocks of 32 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefetchStatus {
    /// `reading`, `waiting for clients`, `done`, `no room`, `clients diverged`, `nobody used it`, `reads failed` or
    /// `stopped`; empty if nothing was read ahead yet.
    pub state: String,
    /// Blocks of the last run.
    pub blocks: u64,
    /// Those that were read or were there.
    pub done: u64,
    /// Those that could not be read.
    pub failed: u64,
    /// Read ahead since the start.
    pub read: u64,
    /// Of these, used by somebody.
    pub used: u64,
    /// Of these, in memory and not used.
    pub unused: u64,
    /// Of these, gone unused.
    pub wasted: u64,
}

impl PrefetchStatus {
    /// Whether it goes on.
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self.state.as_str(), "reading" | "waiting for clients")
    }
}

/// Goldens as a table for people.
#[must_use]
pub fn golden_table(goldens: &[GoldenStatus]) -> String {
    let mut table = Table::new(&[
        "GOLDEN",
        "SIZE",
        "CACHED",
        "RECORDING",
        "BLOCKS",
        "BOOT",
        "READ AHEAD",
        "PROGRESS",
        "USED",
        "UNUSED",
        "WASTED",
    ]);
    for golden in goldens {
        let (recording, ahead) = (&golden.recording, &golden.prefetch);
        let names = golden.names.join(",");
        let names = if golden.changed { format!("{names} (changed)") } else { names };
        if !golden.cached {
            table.row(vec![names, bytes(golden.bytes), "not cached".to_owned()]);
            continue;
        }
        let blocks = if recording.underway > 0 { recording.underway } else { recording.blocks };
        let progress = match ahead.blocks {
            0 => "-".to_owned(),
            all => format!("{} %", ahead.done * 100 / all),
        };
        table.row(vec![
            names,
            bytes(golden.bytes),
            bytes(golden.cached_bytes),
            recording.state.clone(),
            blocks.to_string(),
            if recording.blocks == 0 { "-".to_owned() } else { period(recording.seconds) },
            if ahead.state.is_empty() { "-".to_owned() } else { ahead.state.clone() },
            progress,
            bytes(ahead.used * BLOCK),
            bytes(ahead.unused * BLOCK),
            bytes(ahead.wasted * BLOCK),
        ]);
    }
    let mut text = String::new();
    table.print(&mut text);
    text
}
