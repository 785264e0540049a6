//! The mode parameters that can change.

use crate::thresholds::{KINDS, Threshold};
use crate::{DeviceConfig, SenseFormat};

/// The changeable mode parameters. All others are constants in the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ModeState {
    /// WCE, Caching page.
    pub(super) wce: bool,
    /// D_SENSE, Control page.
    pub(super) d_sense: bool,
    /// SWP, Control page.
    pub(super) swp: bool,
    /// LBPERE, Read-Write Error Recovery page.
    pub(super) lbpere: bool,
    /// SITUA, Logical Block Provisioning page.
    pub(super) situa: bool,
    /// The threshold descriptors of that page.
    pub(super) thresholds: [Threshold; KINDS.len()],
}

impl ModeState {
    /// The defaults of a unit: they hold after power on and reset, where nothing else is saved.
    pub(crate) fn new(config: &DeviceConfig) -> Self {
        Self {
            wce: config.write_cache,
            d_sense: false,
            swp: false,
            lbpere: config.counts_space(),
            situa: false,
            thresholds: [Threshold::default(); KINDS.len()],
        }
    }

    /// The sense data format that D_SENSE selects.
    pub(crate) fn sense_format(&self) -> SenseFormat {
        if self.d_sense { SenseFormat::Descriptor } else { SenseFormat::Fixed }
    }

    /// Whether writes may stay volatile until a flush (WCE).
    pub(crate) fn write_cache(&self) -> bool {
        self.wce
    }

    /// Whether thresholds on the unit's space are told (LBPERE).
    pub(crate) fn reports_provisioning(&self) -> bool {
        self.lbpere
    }

    /// Whether a threshold that is crossed is told to one initiator, not to all (SITUA).
    pub(crate) fn tells_one(&self) -> bool {
        self.situa
    }

    /// The thresholds, in the order of their descriptors.
    pub(crate) fn thresholds(&self) -> [Threshold; KINDS.len()] {
        self.thresholds
    }

    /// Whether an initiator has write protected the unit (SWP).
    pub(crate) fn software_write_protect(&self) -> bool {
        self.swp
    }
}
