//! Which stage of a boot a login belongs to, told by the form of the login itself.
//!
//! No initiator says "I am firmware". But who made an ISID is written in it, and each implementation offers its
//! own keys. The table holds what was recorded or is in the initiators' sources; the first row that fits tells.
//! Everything unknown counts as an operating system: an overlay kept too long costs space, one taken away too
//! early costs data.

use stampede_wire::{Isid, IsidType};

/// The stage of a boot that a login belongs to. Boot epochs are made of it: a firmware login after an
/// operating-system one means that the machine restarted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LoginStage {
    /// iPXE, UEFI: code that runs before an operating system.
    Firmware,
    /// An operating system's initiator, and everything unknown.
    Os,
}

/// What a login shows of its initiator before the full-feature phase.
#[derive(Clone, Debug)]
pub(crate) struct Traits<'a> {
    pub(crate) isid: Isid,
    pub(crate) initiator: &'a str,
    /// InitialR2T as offered, if it was.
    pub(crate) initial_r2t: Option<bool>,
    /// ImmediateData as offered, if it was.
    pub(crate) immediate_data: Option<bool>,
    /// IFMarker or OFMarker was offered.
    pub(crate) markers: bool,
}

/// One known initiator.
pub(crate) struct Fingerprint {
    pub(crate) name: &'static str,
    pub(crate) stage: LoginStage,
    fits: fn(&Traits<'_>) -> bool,
}

/// The name when no row fits.
pub(crate) const UNKNOWN: &str = "unknown";

/// IANA enterprise number 10019, Fen Systems: iPXE and its ancestor gPXE.
const ENTERPRISE_FEN_SYSTEMS: [u8; 3] = [0x00, 0x27, 0x23];
/// IANA enterprise number 311, Microsoft.
const ENTERPRISE_MICROSOFT: [u8; 3] = [0x00, 0x01, 0x37];
/// The constant part of the UEFI reference implementation's ISID, Intel's OUI 00-AA-01 written after a zero byte.
const EDK2_PREFIX: [u8; 4] = [0x00, 0x00, 0xaa, 0x01];
/// OUI 00-02-3D, Cisco, from whose driver open-iscsi and ESXi descend.
const CISCO_PREFIX: [u8; 3] = [0x00, 0x02, 0x3d];

/// The table. Order matters: a row about a name stands before the row about its ISID.
pub(crate) const FINGERPRINTS: &[Fingerprint] = &[
    Fingerprint {
        name: "ipxe",
        stage: LoginStage::Firmware,
        fits: |login| enterprise(login.isid) == Some(ENTERPRISE_FEN_SYSTEMS),
    },
    Fingerprint {
        name: "edk2",
        stage: LoginStage::Firmware,
        fits: |login| login.isid.0.starts_with(&EDK2_PREFIX),
    },
    Fingerprint {
        name: "windows",
        stage: LoginStage::Os,
        fits: |login| enterprise(login.isid) == Some(ENTERPRISE_MICROSOFT),
    },
    Fingerprint {
        name: "esxi",
        stage: LoginStage::Os,
        fits: |login| {
            login.isid.0.starts_with(&CISCO_PREFIX) && login.initiator.starts_with("iqn.1998-01.com.vmware:")
        },
    },
    Fingerprint {
        name: "open-iscsi",
        stage: LoginStage::Os,
        fits: |login| login.isid.0.starts_with(&CISCO_PREFIX),
    },
    Fingerprint { name: "libiscsi", stage: LoginStage::Os, fits: is_libiscsi },
];

/// libiscsi (QEMU's block driver and the iscsi-* tools): a random ISID and a login that begins with the operational
/// keys, markers among them.
fn is_libiscsi(login: &Traits<'_>) -> bool {
    login.isid.kind() == IsidType::Random
        && login.markers
        && login.initial_r2t == Some(false)
        && login.immediate_data == Some(true)
}

/// The enterprise number of an ISID of that type (RFC 7143 11.12.5): bytes 1 to 3.
fn enterprise(isid: Isid) -> Option<[u8; 3]> {
    match (isid.kind(), isid.0) {
        (IsidType::EnterpriseNumber, [_, a, b, c, _, _]) => Some([a, b, c]),
        _ => None,
    }
}

/// The stage of a login and the name of the row that told it.
pub(crate) fn classify(login: &Traits<'_>) -> (LoginStage, &'static str) {
    FINGERPRINTS
        .iter()
        .find(|row| (row.fits)(login))
        .map_or((LoginStage::Os, UNKNOWN), |row| (row.stage, row.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(isid: [u8; 6]) -> Traits<'static> {
        Traits {
            isid: Isid(isid),
            initiator: "iqn.2026-01.example:host",
            initial_r2t: None,
            immediate_data: None,
            markers: false,
        }
    }

    #[test]
    fn firmware_is_known_by_its_isid() {
        assert_eq!(classify(&login([0x40, 0, 0x27, 0x23, 0x35, 0x7c])), (LoginStage::Firmware, "ipxe"));
        assert_eq!(classify(&login([0, 0, 0xaa, 1, 0x12, 0x34])), (LoginStage::Firmware, "edk2"));
    }

    #[test]
    fn operating_systems_are_known() {
        assert_eq!(classify(&login([0, 2, 0x3d, 0, 0, 1])), (LoginStage::Os, "open-iscsi"));
        assert_eq!(classify(&login([0x40, 0, 1, 0x37, 0, 0])), (LoginStage::Os, "windows"));
        let esxi =
            Traits { initiator: "iqn.1998-01.com.vmware:esx1-019b6a5a", ..login([0, 2, 0x3d, 0, 0, 1]) };
        assert_eq!(classify(&esxi), (LoginStage::Os, "esxi"));
    }

    #[test]
    fn a_random_isid_needs_more_to_tell() {
        let random = login([0x80, 1, 2, 3, 0, 0]);
        assert_eq!(classify(&random), (LoginStage::Os, UNKNOWN));
        let qemu = Traits { markers: true, initial_r2t: Some(false), immediate_data: Some(true), ..random };
        assert_eq!(classify(&qemu), (LoginStage::Os, "libiscsi"));
    }

    #[test]
    fn row_names_are_unique() {
        for (at, row) in FINGERPRINTS.iter().enumerate() {
            assert!(FINGERPRINTS[at + 1..].iter().all(|other| other.name != row.name));
        }
    }
}
