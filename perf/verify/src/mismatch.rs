//! What the plan accuses a target of.

use std::fmt;

use crate::{Stamp, StampKind};

/// What is wrong with a block that was read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// It holds an older version than the one that was acknowledged, or zeros, and nobody has seen that one there.
    Lost,
    /// It holds parts of two versions: a logical block is written at once.
    Torn,
    /// It holds an older version again, or zeros, after a newer one had been read.
    Stale,
    /// It holds a version that was settled not to be there: a write of a session that had ended was done later.
    Late,
    /// It holds another client's data, another block's, or another run's.
    Foreign,
    /// It holds what nobody wrote.
    Garbage,
    /// A read had status GOOD but not as much data as it asked for.
    Short,
}

impl Kind {
    /// The kind's name in reports, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Lost => "lost",
            Kind::Torn => "torn",
            Kind::Stale => "stale",
            Kind::Late => "late",
            Kind::Foreign => "foreign",
            Kind::Garbage => "garbage",
            Kind::Short => "short",
        }
    }
}

/// What a block, or a sector of it, holds or was to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// The data of operation `generation` of this client.
    Written {
        /// The operation's number.
        generation: u64,
    },
    /// Zeros, since operation `generation` zeroed the block; 0 in what was found, and of a block that was unmapped.
    Zeros {
        /// The operation's number.
        generation: u64,
    },
    /// The data of operation `generation`, or zeros, since the block was unmapped later.
    Unmapped {
        /// The operation's number.
        generation: u64,
    },
    /// Anything but data from elsewhere.
    Unspecified,
    /// A whole stamp that is not one of this block's own.
    Stamp(Stamp),
    /// The beginning of a stamp, but the rest does not fit it.
    Damaged,
    /// Data without a stamp, which begins with these bytes.
    Data([u8; 8]),
    /// No more than this many bytes.
    Bytes(usize),
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Written { generation } => write!(f, "the data of operation {generation}"),
            Content::Zeros { generation: 0 } => write!(f, "zeros"),
            Content::Zeros { generation } => write!(f, "the zeros of operation {generation}"),
            Content::Unmapped { generation } => {
                write!(f, "the data of operation {generation}, or zeros, as it was unmapped since")
            }
            Content::Unspecified => write!(f, "nothing from elsewhere"),
            Content::Stamp(stamp) => {
                let Stamp { run, seed, lba, generation, client, sector, .. } = stamp;
                write!(
                    f,
                    "the data of operation {generation} of client {client} for block {lba}, sector {sector}"
                )?;
                if stamp.kind == StampKind::Same {
                    write!(f, " and {} blocks more", stamp.blocks.saturating_sub(1))?;
                }
                write!(f, " (run {run:#x}, seed {seed})")
            }
            Content::Damaged => write!(f, "a stamp that is not whole"),
            Content::Data(bytes) => write!(f, "data without a stamp ({bytes:02x?} ..)"),
            Content::Bytes(bytes) => write!(f, "{bytes} bytes of data"),
        }
    }
}

/// A read that did not give what it had to.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}: client {client}, block {lba}, read by operation {op}: expected {expected}, found {found}{}", kind.name(), others(*blocks_wrong, *unsettled))]
pub struct Mismatch {
    /// What is wrong with the first wrong block.
    pub kind: Kind,
    /// The client whose read showed it.
    pub client: u32,
    /// The number of that read.
    pub op: u64,
    /// The first wrong logical block.
    pub lba: u64,
    /// What it was to hold.
    pub expected: Content,
    /// Operations whose outcome is unknown, so that their data would have been right as well.
    pub unsettled: usize,
    /// What it held; where its sectors differ, the first that is not as expected.
    pub found: Content,
    /// How many blocks of the same read are wrong.
    pub blocks_wrong: u32,
}

fn others(blocks_wrong: u32, unsettled: usize) -> String {
    let mut text = String::new();
    if unsettled > 0 {
        text += &format!(" (or the data of {unsettled} operations whose outcome is unknown)");
    }
    if blocks_wrong > 1 {
        text += &format!("; {blocks_wrong} blocks of this read are wrong");
    }
    text
}
