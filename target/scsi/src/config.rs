//! What a logical unit is: its identity, geometry, limits and capabilities.

use crate::alua::Alua;

/// Who the logical unit says it is, in INQUIRY data and VPD pages. Stays the same for the life of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// T10 VENDOR IDENTIFICATION, ASCII padded with spaces.
    pub vendor: [u8; 8],
    /// PRODUCT IDENTIFICATION, ASCII padded with spaces.
    pub product: [u8; 16],
    /// PRODUCT REVISION LEVEL, ASCII padded with spaces.
    pub revision: [u8; 4],
    /// Unit serial number (VPD 80h), ASCII; longer than 36 bytes is cut, other bytes become `?`.
    pub serial: String,
    /// NAA designator of 16 bytes (VPD 83h, SPC-4 7.8.6.6.4); its first four bits are forced to 6h.
    pub naa: [u8; 16],
    /// iSCSI name of the target, for the SCSI name string designators (VPD 83h); at most 223 bytes are used.
    pub target_name: String,
    /// Target portal group tag: the port's name is `target_name,t,0xTAG`; also the target port group designator.
    pub target_port_group: u16,
    /// RELATIVE TARGET PORT IDENTIFIER (VPD 83h, PERSISTENT RESERVE IN).
    pub relative_port: u16,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            vendor: *b"STAMPEDE",
            product: *b"Virtual Disk    ",
            revision: *b"0001",
            serial: String::from("0"),
            naa: [0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            target_name: String::from("iqn.2026-11.io.stampede:disk"),
            target_port_group: 1,
            relative_port: 1,
        }
    }
}

/// Everything a [`Device`](crate::Device) is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Names and designators.
    pub identity: Identity,
    /// Logical block length in bytes: 512 or 4096.
    pub block_size: u32,
    /// Capacity in logical blocks; at least 1.
    pub blocks: u64,
    /// LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT: 3 means 8 logical blocks in a physical one (0 to 15).
    pub physical_exponent: u8,
    /// The medium can be taken out: RMB is one, and START STOP UNIT loads and ejects it.
    pub removable: bool,
    /// The medium may not be written: WP is one in mode sense and writes get DATA PROTECT 27h/00h.
    pub read_only: bool,
    /// Thin provisioned: LBPME and LBPRZ are one and UNMAP is offered.
    pub thin: bool,
    /// What space a thin unit takes, and what is left, is known: it has threshold sets, and the engine says what there is
    /// by [`Device::space_is`](crate::Device::space_is). Means nothing where `thin` is false.
    pub space_is_known: bool,
    /// MAXIMUM TRANSFER LENGTH in logical blocks; a longer READ, WRITE, VERIFY with data or ORWRITE is refused. 0: no limit.
    pub max_transfer_blocks: u32,
    /// OPTIMAL TRANSFER LENGTH in logical blocks (0: not reported).
    pub optimal_transfer_blocks: u32,
    /// OPTIMAL TRANSFER LENGTH GRANULARITY in logical blocks (0: not reported).
    pub optimal_granularity_blocks: u16,
    /// MAXIMUM UNMAP LBA COUNT: the sum over one UNMAP's descriptors, in logical blocks.
    pub max_unmap_blocks: u32,
    /// MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT of one UNMAP (at most 4095 are ever taken).
    pub max_unmap_descriptors: u32,
    /// OPTIMAL UNMAP GRANULARITY in logical blocks (0: not reported).
    pub unmap_granularity_blocks: u32,
    /// MAXIMUM WRITE SAME LENGTH in logical blocks (0: no limit).
    pub max_write_same_blocks: u32,
    /// MAXIMUM COMPARE AND WRITE LENGTH in logical blocks (0: not supported).
    pub max_compare_write_blocks: u8,
    /// MAXIMUM ATOMIC TRANSFER LENGTH in logical blocks: what WRITE ATOMIC writes whole or not at all, whatever fails
    /// (0: not offered).
    pub max_atomic_blocks: u32,
    /// ATOMIC ALIGNMENT and ATOMIC TRANSFER LENGTH GRANULARITY in logical blocks (0: any).
    pub atomic_granularity_blocks: u32,
    /// The medium is encrypted with a key that can be destroyed: CRYPTOGRAPHIC ERASE is offered.
    pub encrypted: bool,
    /// Bytes a second that a sanitize operation writes at most (0: no limit).
    pub sanitize_bytes_s: u64,
    /// There is a volatile write cache: WCE starts as one and may be switched by MODE SELECT. When false, WCE is
    /// zero, cannot be changed, and every write is started with `fua`.
    pub write_cache: bool,
    /// There is a store behind the unit that outlives the process: APTPL and SP are taken, PTPL_C and PS are one.
    pub durable: bool,
    /// Asymmetric logical unit access: TPGS, and which of its commands are there.
    pub alua: Alua,
}

impl DeviceConfig {
    /// A writable, thin, cached disk of `blocks` logical blocks of 512 bytes on 4096-byte physical blocks, whose medium
    /// cannot be taken out.
    pub fn new(identity: Identity, blocks: u64) -> Self {
        Self::with_block_size(identity, 512, 4096, blocks)
    }

    /// The same with `blocks` logical blocks of `block_size` bytes on physical blocks of `physical_size` bytes: powers
    /// of two from 512 to 4096, the second not below the first. The limits are the same in bytes, but that
    /// at least 2048 blocks can be transferred at once.
    pub fn with_block_size(identity: Identity, block_size: u32, physical_size: u32, blocks: u64) -> Self {
        let in_blocks = |bytes: u32| (bytes / block_size.max(1)).max(1);
        Self {
            identity,
            block_size,
            blocks,
            physical_exponent: (physical_size / block_size.max(1)).max(1).ilog2() as u8,
            removable: false,
            read_only: false,
            thin: true,
            space_is_known: true,
            max_transfer_blocks: in_blocks(4 << 20).max(2048),
            optimal_transfer_blocks: in_blocks(1 << 20),
            optimal_granularity_blocks: in_blocks(physical_size) as u16,
            max_unmap_blocks: in_blocks(512 << 20),
            max_unmap_descriptors: 256,
            unmap_granularity_blocks: in_blocks(4096),
            max_write_same_blocks: in_blocks(16 << 20),
            max_compare_write_blocks: 255,
            max_atomic_blocks: 0,
            atomic_granularity_blocks: in_blocks(4096),
            encrypted: false,
            sanitize_bytes_s: 0,
            write_cache: true,
            durable: false,
            alua: Alua::default(),
        }
    }
}
