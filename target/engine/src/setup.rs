//! What a shard is made of: its limits, its links, and the images it serves.

use crate::messages::{GoldenId, LunId, ShardId};
use stampede_image::align::Alignment;
use stampede_ring::{FileId, IoMemory, Pool};
pub use stampede_scsi::copy::TokenKey;
use stampede_scsi::{DeviceConfig, SavedState};
use stampede_session::Settings;
use std::sync::Arc;

/// A shard's settings and memory.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Its number.
    pub shard: ShardId,
    /// What every connection negotiates with.
    pub settings: Arc<Settings>,
    /// I/O buffers of this shard.
    pub memory: IoMemory,
    /// Headers and small data of PDUs on their way out: slots of at least 4,096 bytes.
    pub headers: Arc<Pool>,
    /// Slots of 4,096 bytes for the overlays of clones, shared by all shards: its size is the arena's limit.
    pub arena: Arc<Pool>,
    /// Sessions with targets at once, those whose login is being decided included; further logins are answered 0302.
    pub connections_max: u32,
    /// Connections at once that are no session with a target: logins and discovery. At the limit a newcomer takes the
    /// place of one that has said nothing, of the address that has the most; if there is none, it is closed right after
    /// it was accepted.
    pub logins_max: u32,
    /// Bytes of I/O buffers that one connection may hold before its receiving stops.
    pub connection_bytes_max: u64,
    /// Runs of zeroed ranges that one overlay may remember.
    pub tombstone_runs_max: u32,
    /// What ROD tokens are made from: 32 bytes that nobody can foretell, the same for all shards.
    pub token_key: TokenKey,
}

impl ShardConfig {
    /// Connections that may be closing while others take their place.
    pub const CLOSING_MAX: u32 = 256;

    /// Connections that the shard may have at one moment; its ring needs room for so many sockets.
    #[must_use]
    pub fn sockets_max(&self) -> u32 {
        self.connections_max.saturating_add(self.logins_max).saturating_add(Self::CLOSING_MAX)
    }
}

/// A golden image, opened read-only in this shard's ring.
#[derive(Clone, Copy, Debug)]
pub struct GoldenSetup {
    /// Its name.
    pub golden: GoldenId,
    /// The file.
    pub file: FileId,
    /// What direct I/O on it needs.
    pub alignment: Alignment,
}

/// A plain logical unit on a file or block device, owned by this shard.
#[derive(Clone, Debug)]
pub struct DiskSetup {
    /// Its name.
    pub lun: LunId,
    /// The file in this shard's ring.
    pub file: FileId,
    /// What direct I/O on it needs.
    pub alignment: Alignment,
    /// Identity and geometry. The capacity in bytes is at most the file's length.
    pub device: DeviceConfig,
    /// What it had saved when the target last ran.
    pub saved: SavedState,
    /// Where atomic writes are announced; without it the device server must not offer them.
    pub journal: Option<JournalSetup>,
}

/// The journal of a unit's atomic writes: a file of [`stampede_image::intent::JOURNAL`] bytes, without an intent.
#[derive(Clone, Copy, Debug)]
pub struct JournalSetup {
    /// The file in the shard's ring.
    pub file: FileId,
    /// What direct I/O on it needs; at most 4,096 bytes.
    pub alignment: Alignment,
}
