//! Who a logical unit says it is. Names come from the configuration alone, never from the host, so that another
//! host can take a logical unit over; they are kept in the store, so that they outlive this code.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use stampede_scsi::Identity;

/// T10 vendor identification.
const VENDOR: [u8; 8] = *b"STAMPEDE";
/// Product of an image that is served as it is.
const PRODUCT_DISK: [u8; 16] = *b"DISK            ";
/// Product of a clone.
const PRODUCT_CLONE: [u8; 16] = *b"GOLDEN CLONE    ";
/// Product revision level.
const REVISION: [u8; 4] = *b"0001";
/// The first 28 bits of every NAA designator: type 6h (SPC-4 7.8.6.6.4) and a company identifier whose
/// locally-administered bit is set, since this project has none of its own.
const NAA_PREFIX: [u8; 4] = [0x60, 0x25, 0x35, 0x40];

/// The designators of a logical unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LunIdentity {
    /// NAA designator (VPD 83h).
    pub naa: [u8; 16],
    /// Unit serial number (VPD 80h): 24 hex digits.
    pub serial: String,
}

impl LunIdentity {
    /// The identity of a target's LUN.
    #[must_use]
    pub fn derive(iqn: &str, lun: u16) -> Self {
        Self::from_hash(Sha256::new().chain_update(iqn).chain_update([0]).chain_update(lun.to_be_bytes()))
    }

    /// The identity of an initiator's clone of this LUN: the same at each boot, another for each initiator.
    #[must_use]
    pub fn of_clone(&self, initiator: &str) -> Self {
        Self::from_hash(Sha256::new().chain_update(self.naa).chain_update([1]).chain_update(initiator))
    }

    fn from_hash(hash: Sha256) -> Self {
        let hash: [u8; 32] = hash.finalize().into();
        let mut naa = [0; 16];
        naa.copy_from_slice(&hash[..16]);
        naa[..3].copy_from_slice(&NAA_PREFIX[..3]);
        naa[3] = NAA_PREFIX[3] | naa[3] & 0x0f;
        let serial = hash[16..28].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { naa, serial }
    }

    /// As the SCSI layer wants it. The portal group and the port are number 1, as everywhere in this version.
    #[must_use]
    pub fn to_scsi(&self, iqn: &str, clone: bool) -> Identity {
        Identity {
            vendor: VENDOR,
            product: if clone { PRODUCT_CLONE } else { PRODUCT_DISK },
            revision: REVISION,
            serial: self.serial.clone(),
            naa: self.naa,
            target_name: iqn.to_owned(),
            target_port_group: 1,
            relative_port: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn identities_never_change() {
        let lun = LunIdentity::derive("iqn.2026-11.io.stampede:debian", 0);
        let hex: String = lun.naa.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(hex.starts_with("6025354"), "{hex}");
        // Initiators know their disks by these: a change here renames every disk of every user.
        assert_eq!(hex, "60253542ae34be3457c723d3d8fad0c9");
        assert_eq!(lun.serial, "39f87f2c29bae5568833842b");
    }

    #[test]
    fn every_lun_and_initiator_differs() {
        let mut seen = BTreeSet::new();
        for target in ["iqn.a", "iqn.b"] {
            for lun in [0, 1, 256] {
                let identity = LunIdentity::derive(target, lun);
                assert!(seen.insert(identity.of_clone("iqn.i1").naa));
                assert!(seen.insert(identity.of_clone("iqn.i2").naa));
                assert!(seen.insert(identity.naa));
                assert_eq!(identity.serial.len(), 24);
            }
        }
    }
}
