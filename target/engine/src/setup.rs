//! What a shard is made of: its limits, its links, and the images it serves.

use crate::messages::{GoldenId, LunId, ShardId};
use stampede_image::align::Alignment;
use stampede_image::cache::{BLOCK, Grace, Heat, Published};
use stampede_image::cipher::Cipher;
use stampede_image::scratch::Scratch;
use stampede_ring::{FileId, IoMemory, Pool, PoolConfig};
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
    /// Memory for blocks of goldens, shared by all shards.
    pub cache: Option<CacheSetup>,
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

/// The golden cache's memory, and what shards tell each other about it.
#[derive(Clone, Debug)]
pub struct CacheSetup {
    pub(crate) pool: Arc<Pool>,
    pub(crate) heat: Arc<Heat>,
    pub(crate) grace: Arc<Grace>,
    pub(crate) shards: u16,
}

impl CacheSetup {
    /// A cache of so many bytes, in blocks of [`BLOCK`] bytes, for so many shards. It is kept for as long as the process
    /// lives.
    ///
    /// # Errors
    /// As [`Pool::with_lanes`]; `InvalidInput` for less than four blocks a shard.
    pub fn new(bytes: u64, shards: u16) -> std::io::Result<Self> {
        let invalid = |why| std::io::Error::new(std::io::ErrorKind::InvalidInput, why);
        let slots = u32::try_from(bytes / BLOCK).map_err(|_| invalid("a cache beyond 2^32 blocks"))?;
        if slots < 4 * u32::from(shards) {
            return Err(invalid("a cache of less than four blocks a shard"));
        }
        let pool = Pool::with_lanes(PoolConfig { slot_len: BLOCK as u32, slots }, shards)?;
        Ok(Self::with_pool(pool, shards))
    }

    /// A cache in this memory, in which nothing is pinned: a pool of [`Pool::with_lanes`] with slots of [`BLOCK`] bytes, at
    /// least four for each shard, and a lane for each.
    #[must_use]
    pub fn with_pool(pool: Arc<Pool>, shards: u16) -> Self {
        let slots = pool.slots();
        let (heat, grace) = (Arc::new(Heat::new(slots)), Arc::new(Grace::new(shards)));
        Self { pool, heat, grace, shards }
    }

    /// Lets the kernel give the memory huge pages; see [`Pool::prefer_huge_pages`].
    pub fn prefer_huge_pages(&self) {
        self.pool.prefer_huge_pages();
    }

    /// What a golden of so many bytes needs to be cached; `None` beyond 2^32 blocks.
    #[must_use]
    pub fn publish(len_bytes: u64) -> Option<Arc<Published>> {
        u32::try_from(len_bytes.div_ceil(BLOCK)).ok().map(|blocks| Arc::new(Published::new(blocks)))
    }

    /// The slots whose blocks have their home on a shard.
    pub(crate) fn slots_of(&self, shard: ShardId) -> std::ops::Range<u32> {
        let bound = |shard: u64| (u64::from(self.pool.slots()) * shard / u64::from(self.shards)) as u32;
        bound(shard.0.into())..bound(u64::from(shard.0) + 1)
    }
}

/// Where overlays spill to when the arena runs full.
#[derive(Clone, Debug)]
pub struct ScratchSetup {
    /// Which of its blocks are in use; the same for all shards.
    pub scratch: Arc<Scratch>,
    /// The file in this shard's ring, as long as all blocks. Direct I/O on it needs no more than an alignment of a block.
    pub file: FileId,
}

/// A golden image, opened read-only in this shard's ring.
#[derive(Clone, Debug)]
pub struct GoldenSetup {
    /// Its name.
    pub golden: GoldenId,
    /// The file.
    pub file: FileId,
    /// What direct I/O on it needs.
    pub alignment: Alignment,
    /// The file is in memory: the ring does its reads at once.
    pub in_memory: bool,
    /// Its length in bytes.
    pub len_bytes: u64,
    /// Which of its blocks are in the cache, the same for all shards; `None` for one that is not cached, since it is in
    /// memory anyway.
    pub published: Option<Arc<Published>>,
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
    /// The file is in memory: the ring does its reads and writes at once.
    pub in_memory: bool,
    /// Identity and geometry. The capacity in bytes is at most the file's length.
    pub device: DeviceConfig,
    /// What it had saved when the target last ran.
    pub saved: SavedState,
    /// What its blocks are encrypted with; the device server offers CRYPTOGRAPHIC ERASE just where there is one.
    pub cipher: Option<Arc<Cipher>>,
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
