//! The mode parameters that can change.

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
}

impl ModeState {
    /// The defaults of a unit: they hold after power on and reset, where nothing else is saved.
    pub(crate) fn new(config: &DeviceConfig) -> Self {
        Self { wce: config.write_cache, d_sense: false, swp: false }
    }

    /// The sense data format that D_SENSE selects.
    pub(crate) fn sense_format(&self) -> SenseFormat {
        if self.d_sense { SenseFormat::Descriptor } else { SenseFormat::Fixed }
    }

    /// Whether writes may stay volatile until a flush (WCE).
    pub(crate) fn write_cache(&self) -> bool {
        self.wce
    }

    /// Whether an initiator has write protected the unit (SWP).
    pub(crate) fn software_write_protect(&self) -> bool {
        self.swp
    }
}
