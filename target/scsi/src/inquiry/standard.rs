//! Standard INQUIRY data, and its extension (VPD 86h).

use super::ascii;
use crate::DeviceConfig;

/// Version descriptors (SPC-4 table 144): SAM-5, SPC-4, SBC-3, iSCSI; none claims a version.
const VERSIONS: [u16; 4] = [0x00A0, 0x0460, 0x04C0, 0x0960];

/// Standard INQUIRY data, 96 bytes (SPC-4 6.4.2).
pub(super) fn standard(config: &DeviceConfig) -> Vec<u8> {
    let identity = &config.identity;
    let mut data = vec![0; 96];
    // Direct access block device, connected; RMB; SPC-4.
    data[1] = u8::from(config.removable) << 7;
    data[2] = 0x06;
    // HISUP (REPORT LUNS addressing), response data format 2.
    data[3] = 0x12;
    data[4] = 96 - 5;
    // TPGS; 3PC: third-party copy commands.
    data[5] = (config.alua as u8) << 4 | 0x08;
    // CMDQUE.
    data[7] = 0x02;
    for (place, byte) in data[8..16].iter_mut().zip(identity.vendor) {
        *place = ascii(byte);
    }
    for (place, byte) in data[16..32].iter_mut().zip(identity.product) {
        *place = ascii(byte);
    }
    for (place, byte) in data[32..36].iter_mut().zip(identity.revision) {
        *place = ascii(byte);
    }
    for (place, version) in data[58..66].chunks_exact_mut(2).zip(VERSIONS) {
        place.copy_from_slice(&version.to_be_bytes());
    }
    data
}

/// Extended INQUIRY data (86h, SPC-4 7.8.7).
pub(super) fn extended_inquiry(config: &DeviceConfig) -> Vec<u8> {
    let mut body = vec![0; 60];
    // PRIOR_SUP, HEADSUP, ORDSUP, SIMPSUP.
    body[1] = 0x0F;
    // V_SUP: there is a volatile cache.
    body[2] = u8::from(config.write_cache);
    // LUICLR: a cleared unit attention is cleared for its I_T nexus alone.
    body[3] = 0x01;
    body
}

/// Mode page policy (87h, SPC-4 7.8.8): all pages and subpages are shared by all nexuses.
pub(super) fn mode_page_policy(_: &DeviceConfig) -> Vec<u8> {
    const ALL_PAGES: u8 = 0x3F;
    const ALL_SUBPAGES: u8 = 0xFF;
    vec![ALL_PAGES, ALL_SUBPAGES, 0, 0]
}
