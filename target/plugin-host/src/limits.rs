//! What a plugin may use.

use std::time::Duration;

use stampede_plugin::Bounds;

/// What plugins may use, each instance and all together. Memory for instances is reserved at start, and used as they use it.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How many instances there may be at once: images, and one more for each plugin while it is loaded.
    pub instances_max: u32,
    /// How much memory an instance may have, in bytes; a multiple of 64 KiB.
    pub memory_bytes_max: usize,
    /// How many bytes an instance may hand over in one answer or one question.
    pub answer_bytes_max: usize,
    /// How large a plugin's file may be, in bytes.
    pub file_bytes_max: usize,
    /// How much processor time a call may take that happens while a guest waits: `resolve`, `plan-write`, `done`, `released`, `describe`, `probe`.
    pub quick_call_max: Duration,
    /// How much processor time any other call may take: `open`, `recover`, the jobs.
    pub slow_call_max: Duration,
    /// How often it is looked at the time of calls.
    pub tick: Duration,
    /// The rules' bounds.
    pub bounds: Bounds,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            instances_max: 4096,
            memory_bytes_max: 64 << 20,
            answer_bytes_max: 64 << 20,
            file_bytes_max: 32 << 20,
            quick_call_max: Duration::from_millis(50),
            slow_call_max: Duration::from_secs(2),
            tick: Duration::from_millis(1),
            bounds: Bounds::default(),
        }
    }
}
