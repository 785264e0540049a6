//! What a plan is made from.

use crate::SECTOR;

/// The most logical blocks that one plan can follow: it keeps 16 bytes for each, so 256 MiB.
pub const REGION_BLOCKS_MAX: u64 = 1 << 24;
/// The most operations in flight of one plan.
const DEPTH_MAX: u32 = 4096;

/// What a [`crate::Plan`] drives and what the unit can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyConfig {
    /// Seed of all random choices. Plans of other clients choose otherwise with the same seed.
    pub seed: u64,
    /// A number that no earlier run had, such as the time: it tells this run's stamps from what is on the unit.
    pub run: u64,
    /// The client's number: the session that sends the plan's operations. Each has its own plan and its own region.
    pub client: u32,
    /// First logical block of the region that the plan writes to.
    pub first_lba: u64,
    /// Logical blocks of the region.
    pub blocks: u64,
    /// Bytes of a logical block.
    pub block_size: u32,
    /// Operations in flight at once.
    pub depth: u32,
    /// The longest READ or WRITE, logical blocks.
    pub transfer_max: u32,
    /// The longest UNMAP, logical blocks; 0 for none.
    pub unmap_max: u32,
    /// The longest WRITE SAME(16), logical blocks; 0 for none.
    pub write_same_max: u32,
    /// Unmapped blocks read as zeros, if the target has unmapped them (LBPRZ in READ CAPACITY(16), SBC-4).
    pub unmapped_is_zero: bool,
    /// The unit takes SYNCHRONIZE CACHE.
    pub syncs: bool,
}

/// Why there can be no such plan.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// The block size is no multiple of 512, or beyond 64 KiB.
    #[error("logical blocks of {0} bytes cannot be stamped: 512 to 65,536 bytes in multiples of 512 can")]
    BlockSize(u32),
    /// The region is empty or its end is beyond all addresses.
    #[error("the region of {blocks} blocks from block {first} is empty or ends beyond every address")]
    Region {
        /// Its first logical block.
        first: u64,
        /// Its logical blocks.
        blocks: u64,
    },
    /// The region has more blocks than can be followed.
    #[error(
        "a region of {0} blocks for one session is more than {REGION_BLOCKS_MAX}: name a smaller one, or use more sessions"
    )]
    TooLarge(u64),
    /// The depth is 0 or too large.
    #[error("{0} operations in flight: 1 to {DEPTH_MAX} are possible")]
    Depth(u32),
    /// The longest transfer is 0 blocks.
    #[error("reads and writes of at most 0 blocks: name the longest that the unit takes, 1 or more")]
    Transfer,
}

impl VerifyConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let size = self.block_size as usize;
        if size == 0 || !size.is_multiple_of(SECTOR) || size > 65_536 {
            return Err(ConfigError::BlockSize(self.block_size));
        }
        if self.blocks == 0 || self.first_lba.checked_add(self.blocks).is_none() {
            return Err(ConfigError::Region { first: self.first_lba, blocks: self.blocks });
        }
        if self.blocks > REGION_BLOCKS_MAX {
            return Err(ConfigError::TooLarge(self.blocks));
        }
        if !(1..=DEPTH_MAX).contains(&self.depth) {
            return Err(ConfigError::Depth(self.depth));
        }
        if self.transfer_max == 0 { Err(ConfigError::Transfer) } else { Ok(()) }
    }
}
