//! The numbers of a header that say where things lie, and the arithmetic over them.
//!
//! Spec: "Header", "Host cluster management", "Cluster mapping", "Extended L2 Entries".

use stampede_plugin::{Codec, FileId};

/// Incompatible feature: reference counts may be wrong.
pub(crate) const DIRTY: u64 = 1;
/// Incompatible feature: anything may be wrong; written only to mend it.
pub(crate) const CORRUPT: u64 = 1 << 1;
/// Incompatible feature: guest data is in another file.
pub(crate) const DATA_FILE: u64 = 1 << 2;
/// Incompatible feature: clusters are compressed otherwise than by deflate.
pub(crate) const COMPRESSION: u64 = 1 << 3;
/// Incompatible feature: L2 entries have 32 subclusters.
pub(crate) const EXTENDED_L2: u64 = 1 << 4;
/// Every incompatible feature there is a name for.
pub(crate) const INCOMPATIBLE_KNOWN: u64 = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2;
/// Compatible feature: reference counts may be written late.
pub(crate) const LAZY_REFCOUNTS: u64 = 1;
/// Autoclear feature: the bitmaps are what their directory says.
pub(crate) const BITMAPS: u64 = 1;
/// Autoclear feature: the data file is a raw image.
pub(crate) const DATA_FILE_RAW: u64 = 1 << 1;

/// The file that has guest data when [`DATA_FILE`] is set.
pub(crate) const DATA: FileId = FileId(1);

/// The longest L1 table, in bytes: what other implementations take.
pub(crate) const L1_BYTES_MAX: u64 = 32 << 20;
/// The longest refcount table, in bytes.
pub(crate) const REFTABLE_BYTES_MAX: u64 = 8 << 20;
/// Offsets of tables and standard clusters have bits 9 to 55.
pub(crate) const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;

/// Where a header's fields are, in bytes.
pub(crate) mod field {
    pub(crate) const BACKING_OFFSET: u64 = 8;
    pub(crate) const CLUSTER_BITS: u64 = 20;
    pub(crate) const SIZE: u64 = 24;
    pub(crate) const CRYPT_METHOD: u64 = 32;
    pub(crate) const L1_SIZE: u64 = 36;
    pub(crate) const L1_OFFSET: u64 = 40;
    pub(crate) const REFTABLE_OFFSET: u64 = 48;
    pub(crate) const REFTABLE_CLUSTERS: u64 = 56;
    pub(crate) const SNAPSHOTS: u64 = 60;
    pub(crate) const SNAPSHOTS_OFFSET: u64 = 64;
    pub(crate) const INCOMPATIBLE: u64 = 72;
    pub(crate) const AUTOCLEAR: u64 = 88;
    pub(crate) const REFCOUNT_ORDER: u64 = 96;
    pub(crate) const HEADER_LENGTH: u64 = 100;
    pub(crate) const COMPRESSION_TYPE: u64 = 104;
}

/// Where an L1 table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct L1Table {
    /// Its first byte.
    pub(crate) offset: u64,
    /// How many entries it has.
    pub(crate) entries: u64,
}

/// A header's numbers, all of them legal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// 2 or 3.
    pub(crate) version: u32,
    /// The size of the guest's disk, in bytes.
    pub(crate) size: u64,
    /// The logarithm of the cluster's size in bytes.
    pub(crate) cluster_bits: u32,
    /// The logarithm of a reference count's width in bits.
    pub(crate) refcount_order: u32,
    /// The active L1 table.
    pub(crate) l1: L1Table,
    /// Where the refcount table begins.
    pub(crate) reftable_offset: u64,
    /// How many clusters it has.
    pub(crate) reftable_clusters: u64,
    /// How many internal snapshots there are.
    pub(crate) snapshots: u32,
    /// Where their table begins.
    pub(crate) snapshots_offset: u64,
    /// Incompatible features.
    pub(crate) incompatible: u64,
    /// Compatible features.
    pub(crate) compatible: u64,
    /// Autoclear features.
    pub(crate) autoclear: u64,
    /// How clusters are compressed.
    pub(crate) codec: Codec,
    /// Whether there is a backing file.
    pub(crate) backing: bool,
}

impl Layout {
    /// A cluster's size in bytes.
    pub(crate) fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// How many clusters hold so many bytes.
    pub(crate) fn clusters_of(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster())
    }

    /// Whether L2 entries have subclusters.
    pub(crate) fn extended(&self) -> bool {
        self.incompatible & EXTENDED_L2 != 0
    }

    /// Whether guest data is in another file.
    pub(crate) fn data_file(&self) -> bool {
        self.incompatible & DATA_FILE != 0
    }

    /// Whether that file must be a raw image at all times.
    pub(crate) fn data_file_raw(&self) -> bool {
        self.data_file() && self.autoclear & DATA_FILE_RAW != 0
    }

    /// The file that guest data is in.
    pub(crate) fn data_id(&self) -> FileId {
        if self.data_file() { DATA } else { FileId::MAIN }
    }

    /// An L2 entry's size in bytes.
    pub(crate) fn entry_bytes(&self) -> u64 {
        if self.extended() { 16 } else { 8 }
    }

    /// How many entries an L2 table has.
    pub(crate) fn l2_entries(&self) -> u64 {
        self.cluster() / self.entry_bytes()
    }

    /// How many bytes of the disk an L2 table maps.
    pub(crate) fn l2_span(&self) -> u64 {
        self.l2_entries() << self.cluster_bits
    }

    /// How many L1 entries a disk of `size` bytes needs.
    pub(crate) fn l1_needed(&self, size: u64) -> u64 {
        size.div_ceil(self.l2_span())
    }

    /// How many subclusters a cluster has; 1 without extended L2 entries.
    pub(crate) fn subclusters(&self) -> u32 {
        if self.extended() { 32 } else { 1 }
    }

    /// A subcluster's size in bytes; a cluster's without extended L2 entries.
    pub(crate) fn subcluster(&self) -> u64 {
        self.cluster() / u64::from(self.subclusters())
    }

    /// How many counts a refcount block has.
    pub(crate) fn block_entries(&self) -> u64 {
        self.cluster() << 3 >> self.refcount_order
    }

    /// How many entries the refcount table has.
    pub(crate) fn reftable_entries(&self) -> u64 {
        self.reftable_clusters * self.cluster() / 8
    }

    /// The greatest count that fits.
    pub(crate) fn refcount_max(&self) -> u64 {
        u64::MAX >> (64 - (1_u32 << self.refcount_order))
    }

    /// How many bits of a compressed cluster's descriptor are its offset.
    pub(crate) fn packed_offset_bits(&self) -> u32 {
        62 - (self.cluster_bits - 8)
    }
}
