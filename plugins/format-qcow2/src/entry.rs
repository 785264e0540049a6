//! Entries of L1 and L2 tables (spec: "Cluster mapping", "Extended L2 Entries").
//!
//! A plain L2 entry is read as one with a single subcluster, so that everything else knows one kind of entry.

use crate::layout::{Layout, OFFSET_MASK};

/// Bit 63: nobody else refers to it.
pub(crate) const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;

/// What an L2 entry says about a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A cluster with subclusters, some of which may be there.
    Standard(Standard),
    /// Compressed.
    Packed(Packed),
}

/// A cluster that is not compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Standard {
    /// Where its host cluster is, if it has one.
    pub(crate) host: Option<u64>,
    /// Whether nobody else refers to the host cluster.
    pub(crate) copied: bool,
    /// The subclusters whose data is in the host cluster, a bit each.
    pub(crate) allocated: u32,
    /// The subclusters that are zeros, a bit each.
    pub(crate) zero: u32,
}

/// A compressed cluster: so many bytes at most, from there on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packed {
    /// Its first byte.
    pub(crate) offset: u64,
    /// How many bytes there are, up to the end of its last 512-byte sector.
    pub(crate) length: u64,
}

/// Why an entry is wrong.
pub(crate) type Wrong = &'static str;

/// All of a cluster's subclusters.
pub(crate) fn all(layout: &Layout) -> u32 {
    if layout.extended() { u32::MAX } else { 1 }
}

/// Reads an entry: its first and (with extended entries) second word.
pub(crate) fn decode(layout: &Layout, word: u64, bits: u64) -> Result<Entry, Wrong> {
    if word & COMPRESSED != 0 {
        return decode_packed(layout, word).map(Entry::Packed);
    }
    let offset = word & OFFSET_MASK;
    if offset & (layout.cluster() - 1) != 0 {
        return Err("the offset is no multiple of the cluster size");
    }
    let host = (offset != 0 || (layout.data_file() && word & COPIED != 0)).then_some(offset);
    let copied = host.is_some() && word & COPIED != 0;
    let (allocated, zero) = if layout.extended() {
        let halves = (low_half(bits), low_half(bits >> 32));
        if word & ZERO != 0 {
            return Err("bit 0 is set, which extended entries do not have");
        }
        halves
    } else {
        let zero = word & ZERO != 0;
        if zero && layout.version < 3 {
            return Err("it is a zero cluster, which version 2 does not have");
        }
        (u32::from(host.is_some() && !zero), u32::from(zero))
    };
    if allocated & zero != 0 {
        return Err("a subcluster is both allocated and zero");
    }
    if allocated != 0 && host.is_none() {
        return Err("subclusters are allocated, but there is no host cluster");
    }
    Ok(Entry::Standard(Standard { host, copied, allocated, zero }))
}

fn decode_packed(layout: &Layout, word: u64) -> Result<Packed, Wrong> {
    if layout.data_file() {
        return Err("it is compressed, which an image with a data file cannot have");
    }
    let bits = layout.packed_offset_bits();
    let offset = word & ((1 << bits) - 1);
    let sectors = (word & (COMPRESSED - 1)) >> bits;
    Ok(Packed { offset, length: (sectors + 1) * 512 - offset % 512 })
}

/// The two words of an entry; the second only counts with extended entries.
pub(crate) fn encode(layout: &Layout, entry: &Standard) -> [u64; 2] {
    let mut word = entry.host.unwrap_or(0);
    if entry.copied && entry.host.is_some() {
        word |= COPIED;
    }
    if layout.extended() {
        return [word, u64::from(entry.zero) << 32 | u64::from(entry.allocated)];
    }
    if entry.zero != 0 {
        word |= ZERO;
    }
    [word, 0]
}

/// Whether a raw first word is of a standard cluster.
pub(crate) fn is_standard(word: u64) -> bool {
    word & COMPRESSED == 0
}

fn low_half(word: u64) -> u32 {
    u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0)
}

impl Standard {
    /// A cluster of zeros that takes no space.
    pub(crate) fn zeros(layout: &Layout) -> Self {
        Self { zero: all(layout), ..Self::default() }
    }

    /// Whether a subcluster's data is in the host cluster.
    pub(crate) fn has(&self, subcluster: u32) -> bool {
        self.allocated >> subcluster & 1 == 1
    }

    /// Whether a subcluster is zeros.
    pub(crate) fn is_zero(&self, subcluster: u32) -> bool {
        self.zero >> subcluster & 1 == 1
    }
}
