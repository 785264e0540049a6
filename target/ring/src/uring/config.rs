//! The ring's limits, and why it could not be set up.

use std::io;

/// The limits of one shard's ring. Memory for all of them is taken when the ring is made.
#[derive(Clone, Debug)]
pub struct UringConfig {
    /// Submission queue entries: a power of two. A full queue hands operations back until the next submit.
    pub entries: u32,
    /// Completion queue entries: a power of two, at least twice `entries`.
    pub completions: u32,
    /// Operations that may be in flight at once, at most [`UringConfig::OPERATIONS_LIMIT`].
    pub operations_max: u32,
    /// Sockets at once, listeners among them.
    pub sockets_max: u32,
    /// Files at once.
    pub files_max: u32,
    /// Receive buffers: a power of two, at most 32,768.
    pub receive_buffers: u16,
    /// Bytes per receive buffer: a multiple of 4,096.
    pub receive_buffer_len: u32,
    /// The kernel's worker threads for this ring (they run fsync, fallocate and whatever would block): at most
    /// so many.
    pub workers_max: u32,
    /// The cores of all shards, which those workers keep off where there are others.
    pub shard_cores: Vec<usize>,
}

impl UringConfig {
    /// The most operations in flight that a ring can be set up for.
    pub const OPERATIONS_LIMIT: u32 = 1 << 20;
}

impl Default for UringConfig {
    fn default() -> Self {
        Self {
            entries: 1024,
            completions: 8192,
            operations_max: 16_384,
            sockets_max: 8192,
            files_max: 1024,
            receive_buffers: 128,
            receive_buffer_len: 32 * 1024,
            workers_max: 8,
            shard_cores: Vec::new(),
        }
    }
}

/// Why a ring could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The configuration is not possible.
    #[error("the ring's {setting} cannot be {value}: {rule}")]
    Config {
        /// Which setting.
        setting: &'static str,
        /// Its value.
        value: u64,
        /// What it must be.
        rule: &'static str,
    },
    /// io_uring is switched off or filtered.
    #[error(
        "io_uring is not available: {source}. Check `sysctl kernel.io_uring_disabled` (it must be 0, or 1 with \
             membership in kernel.io_uring_group) and the seccomp profile of the container"
    )]
    Forbidden {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel lacks something that is needed.
    #[error("the kernel lacks {feature} ({source}): Linux {since} or later is needed")]
    Missing {
        /// What.
        feature: &'static str,
        /// The first kernel version that has it.
        since: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Memory or descriptors ran out.
    #[error(
        "setting up the ring failed at {step}: {source}. Raise the memory or descriptor limits (`ulimit -l`, \
             `ulimit -n`) or lower the ring's limits"
    )]
    Resources {
        /// Which step.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// What the ring could and could not have, for the start-up report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetupReport {
    /// Bytes of I/O memory registered with the ring.
    pub registered_bytes: u64,
    /// Why I/O memory is not registered: transfers pin their pages one by one then.
    pub unregistered_reason: Option<String>,
    /// Why sockets and files are not registered: each operation looks its descriptor up then.
    pub unregistered_files_reason: Option<String>,
    /// The cores of the kernel's workers, as ranges; `None` when they run anywhere.
    pub worker_cores: Option<String>,
    /// Why the workers are not kept off the shards' cores.
    pub worker_cores_reason: Option<String>,
}

/// Why a socket or file could not be added to the ring.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The table is full.
    #[error("the ring's table of {table} is full ({limit}): raise the limit in the configuration")]
    Full {
        /// Sockets or files.
        table: &'static str,
        /// How many fit.
        limit: u32,
    },
}
