//! Simulated disks: sparse atoms, a volatile cache, and crashes that keep what they like.
//!
//! ```text
//!   submitted --latency--> executed (atoms land, or are read) --latency--> completed
//!                 ^ overlapping reads may make atoms land one by one before
//! ```

mod media;
mod operate;
mod request;

pub(crate) use media::Media;
pub(crate) use request::{Action, Request, Stage};

use crate::config::DiskConfig;
use std::collections::BTreeSet;
use std::ops::Range;

/// A disk of the world. Every ring can open it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiskId(pub(crate) u32);

/// A disk and what is going on with it.
pub(crate) struct Disk {
    pub(crate) name: String,
    pub(crate) config: DiskConfig,
    pub(crate) media: Media,
    /// Keys of the operations that were submitted and have not completed, in order of submission.
    pub(crate) in_flight: BTreeSet<u64>,
    /// Byte ranges that fail to read until they are written.
    pub(crate) bad_reads: Vec<Range<u64>>,
    /// Byte ranges that fail to write for ever.
    pub(crate) bad_writes: Vec<Range<u64>>,
}

impl Disk {
    pub(crate) fn new(name: &str, len: u64, config: DiskConfig) -> Self {
        let media = Media::new(len, &config);
        Self {
            name: name.to_owned(),
            config,
            media,
            in_flight: BTreeSet::new(),
            bad_reads: Vec::new(),
            bad_writes: Vec::new(),
        }
    }

    pub(crate) fn is_bad_read(&self, range: &Range<u64>) -> bool {
        self.bad_reads.iter().any(|bad| overlap(bad, range))
    }

    pub(crate) fn is_bad_write(&self, range: &Range<u64>) -> bool {
        self.bad_writes.iter().any(|bad| overlap(bad, range))
    }

    /// A write makes a disk remap what it could not read.
    pub(crate) fn remap(&mut self, range: &Range<u64>) {
        self.bad_reads.retain(|bad| !overlap(bad, range));
    }
}

/// Whether two byte ranges have a byte in common.
pub(crate) fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}
