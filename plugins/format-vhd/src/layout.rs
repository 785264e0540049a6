//! How footer and header lie in the file ("Hard Disk Footer Format", "Dynamic Disk Header Format"). All numbers are big-endian.

use core::mem::size_of;

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    byteorder::big_endian::{U16, U32, U64},
};

/// A sector, in bytes: the unit of the block allocation table and of the bitmaps.
pub(crate) const SECTOR: u64 = 512;
/// [`Footer`]'s length in bytes.
pub(crate) const FOOTER_BYTES: u32 = 512;
/// [`Header`]'s length in bytes.
pub(crate) const HEADER_BYTES: u32 = 1024;
/// An entry of the block allocation table whose block has no place.
pub(crate) const UNUSED: u32 = u32::MAX;
/// Times in the file count from 2000-01-01; this is that day in seconds since 1970.
const EPOCH: u64 = 946_684_800;

/// The end of the file, and in sparse images its beginning, too.
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Footer {
    /// [`Footer::COOKIE`].
    pub(crate) cookie: [u8; 8],
    /// Bit 0: temporary; bit 1: always set.
    pub(crate) features: U32,
    /// Major in the upper half: 1.
    pub(crate) version: U32,
    /// Where the header is; all ones in a fixed image.
    pub(crate) data_offset: U64,
    /// When the image was made.
    pub(crate) timestamp: U32,
    /// Who made it.
    pub(crate) creator_app: [u8; 4],
    pub(crate) creator_version: U32,
    pub(crate) creator_os: [u8; 4],
    /// The disk's size when it was made, in bytes.
    pub(crate) original_size: U64,
    /// The disk's size, in bytes.
    pub(crate) current_size: U64,
    pub(crate) cylinders: U16,
    pub(crate) heads: u8,
    pub(crate) sectors_per_track: u8,
    /// 2 fixed, 3 dynamic, 4 differencing.
    pub(crate) disk_type: U32,
    /// The complement of the sum of all other bytes.
    pub(crate) checksum: U32,
    /// The image's identity.
    pub(crate) uuid: [u8; 16],
    /// 1 when a machine's saved state goes with the image.
    pub(crate) saved_state: u8,
    pub(crate) reserved: [u8; 427],
}

/// What makes an image sparse.
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Header {
    /// [`Header::COOKIE`].
    pub(crate) cookie: [u8; 8],
    /// Unused: all ones.
    pub(crate) data_offset: U64,
    /// Where the block allocation table is.
    pub(crate) table_offset: U64,
    /// Major in the upper half: 1.
    pub(crate) version: U32,
    pub(crate) max_table_entries: U32,
    /// Bytes of the disk in a block.
    pub(crate) block_size: U32,
    pub(crate) checksum: U32,
    /// The parent's identity.
    pub(crate) parent_uuid: [u8; 16],
    /// When the parent was changed last.
    pub(crate) parent_timestamp: U32,
    reserved: U32,
    /// The parent's name in UTF-16.
    pub(crate) parent_name: [u8; 512],
    pub(crate) locators: [Locator; 8],
    reserved_end: [u8; 256],
}

/// Where a name of the parent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Locator {
    /// Whose conventions the name follows; 0 in an unused locator.
    pub(crate) platform: [u8; 4],
    /// The space for the name: sectors by the specification, bytes by many writers.
    pub(crate) data_space: U32,
    /// The name's length in bytes.
    pub(crate) data_length: U32,
    reserved: U32,
    /// Where the name is.
    pub(crate) data_offset: U64,
}

const _: () = assert!(size_of::<Footer>() == FOOTER_BYTES as usize);
const _: () = assert!(size_of::<Header>() == HEADER_BYTES as usize);
const _: () = assert!(size_of::<Locator>() == 24);

/// Where a footer's fields are, in bytes; for messages.
pub(crate) mod footer_at {
    pub(crate) const VERSION: u64 = 12;
    pub(crate) const DATA_OFFSET: u64 = 16;
    pub(crate) const CURRENT_SIZE: u64 = 48;
    pub(crate) const DISK_TYPE: u64 = 60;
    pub(crate) const CHECKSUM: u64 = 64;
}

/// Where a header's fields are, in bytes.
pub(crate) mod header_at {
    pub(crate) const TABLE_OFFSET: u64 = 16;
    pub(crate) const VERSION: u64 = 24;
    pub(crate) const MAX_TABLE_ENTRIES: u64 = 28;
    pub(crate) const BLOCK_SIZE: u64 = 32;
    pub(crate) const CHECKSUM: u64 = 36;
    pub(crate) const LOCATORS: u64 = 576;
}

/// What kind of image it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Fixed,
    Dynamic,
    Differencing,
}

impl Kind {
    /// By the footer's disk type; `None` for the reserved ones.
    pub(crate) fn of(disk_type: u32) -> Option<Self> {
        match disk_type {
            2 => Some(Self::Fixed),
            3 => Some(Self::Dynamic),
            4 => Some(Self::Differencing),
            _ => None,
        }
    }

    pub(crate) fn disk_type(self) -> u32 {
        match self {
            Self::Fixed => 2,
            Self::Dynamic => 3,
            Self::Differencing => 4,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Dynamic => "dynamic",
            Self::Differencing => "differencing",
        }
    }
}

impl Footer {
    pub(crate) const COOKIE: [u8; 8] = *b"conectix";

    /// The footer in 512 bytes, whatever they say. 511 bytes are one, too: writers before 2004 left the last byte out.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let mut whole = [0; FOOTER_BYTES as usize];
        whole.get_mut(..bytes.len())?.copy_from_slice(bytes);
        (bytes.len() + 1 >= whole.len()).then(|| Self::read_from_bytes(&whole).ok())?
    }

    /// Whether cookie and checksum are right.
    pub(crate) fn is_valid(&self) -> bool {
        self.cookie == Self::COOKIE && self.checksum.get() == self.sum()
    }

    /// The checksum that it should have.
    pub(crate) fn sum(&self) -> u32 {
        sum(self.as_bytes(), self.checksum.get())
    }

    pub(crate) fn kind(&self) -> Option<Kind> {
        Kind::of(self.disk_type.get())
    }

    /// With a checksum that is right.
    pub(crate) fn sealed(mut self) -> Self {
        self.checksum = self.sum().into();
        self
    }
}

impl Header {
    pub(crate) const COOKIE: [u8; 8] = *b"cxsparse";

    /// The checksum that it should have.
    pub(crate) fn sum(&self) -> u32 {
        sum(self.as_bytes(), self.checksum.get())
    }

    /// With a checksum that is right.
    pub(crate) fn sealed(mut self) -> Self {
        self.checksum = self.sum().into();
        self
    }

    /// Without a parent's name.
    pub(crate) fn empty() -> Self {
        Self {
            cookie: Self::COOKIE,
            data_offset: u64::MAX.into(),
            table_offset: 0.into(),
            version: 0x1_0000.into(),
            max_table_entries: 0.into(),
            block_size: 0.into(),
            checksum: 0.into(),
            parent_uuid: [0; 16],
            parent_timestamp: 0.into(),
            reserved: 0.into(),
            parent_name: [0; 512],
            locators: [Locator::UNUSED; 8],
            reserved_end: [0; 256],
        }
    }
}

impl Locator {
    pub(crate) const UNUSED: Self = Self {
        platform: [0; 4],
        data_space: U32::ZERO,
        data_length: U32::ZERO,
        reserved: U32::ZERO,
        data_offset: U64::ZERO,
    };

    /// For `length` bytes at `offset`, in as many whole sectors as they need.
    pub(crate) fn new(platform: [u8; 4], offset: u64, length: u32) -> Self {
        Self {
            platform,
            data_space: length.next_multiple_of(512).into(),
            data_length: length.into(),
            data_offset: offset.into(),
            ..Self::UNUSED
        }
    }
}

/// Makes a footer; the rest is as a new image has it.
pub(crate) fn new_footer(
    kind: Kind,
    uuid: [u8; 16],
    timestamp: u32,
    size: u64,
    geometry: crate::size::Geometry,
) -> Footer {
    let data_offset = if kind == Kind::Fixed { u64::MAX } else { SECTOR };
    Footer {
        cookie: Footer::COOKIE,
        features: 2.into(),
        version: 0x1_0000.into(),
        data_offset: data_offset.into(),
        timestamp: timestamp.into(),
        creator_app: *b"stpd",
        creator_version: 0x1_0000.into(),
        creator_os: *b"Wi2k",
        original_size: size.into(),
        current_size: size.into(),
        cylinders: geometry.cylinders.into(),
        heads: geometry.heads,
        sectors_per_track: geometry.sectors_per_track,
        disk_type: kind.disk_type().into(),
        checksum: 0.into(),
        uuid,
        saved_state: 0,
        reserved: [0; 427],
    }
    .sealed()
}

/// The complement of the sum of all bytes but those of the checksum itself.
fn sum(bytes: &[u8], checksum: u32) -> u32 {
    let all: u32 = bytes.iter().map(|&byte| u32::from(byte)).sum();
    let own: u32 = checksum.to_be_bytes().iter().map(|&byte| u32::from(byte)).sum();
    !(all - own)
}

/// A time in the file as seconds since 1970.
pub(crate) fn unix_time(timestamp: u32) -> u64 {
    EPOCH + u64::from(timestamp)
}

/// Seconds since 1970 as a time in the file; the nearest that it can say.
pub(crate) fn timestamp(unix: u64) -> u32 {
    u32::try_from(unix.saturating_sub(EPOCH)).unwrap_or(u32::MAX)
}
