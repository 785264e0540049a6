//! Block limits (B0h), block device characteristics (B1h) and logical block provisioning (B2h) (SBC-3 6.5).

use crate::DeviceConfig;

/// Block limits (B0h, SBC-3 6.5.3). Offsets are the standard's less the 4-byte header.
pub(super) fn block_limits(config: &DeviceConfig) -> Vec<u8> {
    let mut body = vec![0; 60];
    // WSNZ: of a thin unit, whose every block it could give back, WRITE SAME of zero blocks is refused.
    body[0] = u8::from(config.thin);
    body[1] = config.max_compare_write_blocks;
    body[2..4].copy_from_slice(&config.optimal_granularity_blocks.to_be_bytes());
    put(&mut body, 4, config.max_transfer_blocks);
    put(&mut body, 8, config.optimal_transfer_blocks);
    // MAXIMUM PREFETCH LENGTH.
    put(&mut body, 12, config.max_transfer_blocks);
    if config.thin {
        put(&mut body, 16, config.max_unmap_blocks);
        put(&mut body, 20, config.max_unmap_descriptors);
        put(&mut body, 24, config.unmap_granularity_blocks);
        // UGAVALID with an alignment of 0.
        put(&mut body, 28, 0x8000_0000);
    }
    body[32..40].copy_from_slice(&u64::from(config.max_write_same_blocks).to_be_bytes());
    if config.max_atomic_blocks > 0 {
        // Atomic writes with a boundary are not offered: the last two fields stay zero.
        put(&mut body, 40, config.max_atomic_blocks);
        put(&mut body, 44, config.atomic_granularity_blocks);
        put(&mut body, 48, config.atomic_granularity_blocks);
    }
    body
}

/// Block device characteristics (B1h, SBC-3 6.5.2): a non-rotating medium, form factor not reported.
pub(super) fn block_device_characteristics(config: &DeviceConfig) -> Vec<u8> {
    let mut body = vec![0; 60];
    body[1] = 0x01;
    // WABEREQ and WACEREQ: blocks are read without error after BLOCK ERASE and CRYPTOGRAPHIC ERASE, where those are
    // offered.
    body[3] = u8::from(config.thin) << 6 | u8::from(config.encrypted) << 4;
    body
}

/// Logical block provisioning (B2h, SBC-4 6.6.7).
pub(super) fn logical_block_provisioning(config: &DeviceConfig) -> Vec<u8> {
    // LBPU, LBPWS, LBPWS10, LBPRZ; thin provisioned. ANC_SUP is zero.
    if config.thin { vec![config.threshold_exponent(), 0xE4, 0x02, 0] } else { vec![0; 4] }
}

fn put(body: &mut [u8], at: usize, value: u32) {
    body[at..at + 4].copy_from_slice(&value.to_be_bytes());
}
