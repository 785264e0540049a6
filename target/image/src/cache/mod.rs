//! The golden cache: which blocks of the goldens are in memory, once for all clones and shards.
//!
//! ```text
//!   any shard                             the block's home shard
//!   ─────────                             ──────────────────────
//!   Published::get ─► slot ─► pin, send
//!        │ none
//!        └─────────── ask ──────────────► Home::ask ─┬─► Waits   (somebody's read is under way)
//!                                                    └─► Read    (into this slot)
//!                  ◄── look again ─────── Home::done ◄─ the read's completion; publishes
//!                                         Home::tend: Eviction chooses, unpublish ─► Grace ─► no pins ─► free
//! ```
//!
//! A hit is a load and a pin that only its own shard counts: no lock and no write to what other shards use, but for the
//! first touches of a block ([`Heat`]). What costs is the rare side. A block that goes is unpublished first; then every
//! shard that might have looked it up before has to leave its turn ([`Grace`]), so that whoever uses it has a pin, and
//! then the pins have to go. Only then is its memory used again.
//!
//! What somebody will want is read ahead ([`Home::prefetch`]), into memory that nobody needs. Such a block counts as unused
//! until its first use, so that the figures say what reading ahead was good for.
//!
//! Memory is known by slot numbers here; the engine has the bytes.

mod eviction;
mod grace;
mod heat;
mod home;
mod published;

pub use grace::{Grace, Snapshot};
pub use heat::Heat;
pub use home::{Ahead, Ask, Home, Prefetch};
pub use published::Published;

/// Bytes of a cache block. A boot reads 8% more than it needs in blocks of this size, and less than half as many
/// blocks as with the next smaller one.
pub const BLOCK: u64 = 32 * 1024;

/// Blocks in a row that have one home, so that a long read asks one shard: 256 KiB.
const STRIDE: u32 = 8;

/// A block of a golden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey {
    /// Which golden version, by its number in this process.
    pub golden: u32,
    /// Which block of it: byte offset divided by [`BLOCK`].
    pub block: u32,
}

impl BlockKey {
    /// Which of so many shards is its home.
    #[must_use]
    pub fn home(self, shards: u16) -> u16 {
        let stride = u64::from(self.block / STRIDE) + u64::from(self.golden);
        (stride % u64::from(shards.max(1))) as u16
    }
}

#[cfg(test)]
mod tests;
