//! Logical block provisioning thresholds (SBC-4 4.7.3.7): an initiator asks to be told when the space behind a thin unit
//! runs low, or when the unit has taken much of it.
//!
//! ```text
//!  available ▲ ──╮                              ╭──  above the range: the next crossing is told
//!            │    ╲  ┄ half a set above the count ╱
//!            │     ╲                             ╱
//!            │      ╲┄ half a set below it ┄┄┄┄┄╱
//!            │       ╰─► 38h/07h, once ────────╯
//! ```
//!
//! The engine says what there is ([`Device::space_is`]) whenever it looks, and counts are in *threshold sets*, so what
//! is told is an estimate, as the standard has it. What is used is compared the other way round.

use crate::device::Device;
use crate::mode::ModeState;
use crate::unit_attention::UnitAttention;
use crate::{DeviceConfig, NexusId};

/// The storage behind a thin unit's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// Bytes that the unit's mapped blocks take.
    pub used_bytes: u64,
    /// Bytes that are there for blocks to come: the unit's, and perhaps others'.
    pub available_bytes: u64,
}

/// Bytes of a threshold set, unless the unit is so large that its sets could not be counted in 32 bits.
const SET_BYTES: u64 = 1 << 20;

/// One threshold, as an initiator has set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Threshold {
    /// ENABLED.
    pub(crate) enabled: bool,
    /// THRESHOLD COUNT, in threshold sets.
    pub(crate) count: u32,
}

/// Which thresholds there are, in the order of their descriptors: one on what is available, one on what is used.
pub(crate) const KINDS: [UnitAttention; 2] = [UnitAttention::SpaceRunsLow, UnitAttention::MuchSpaceUsed];

/// What was told of the thresholds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Told {
    /// The space when it was last looked at.
    space: Option<Space>,
    /// It is beyond the threshold, which was told.
    crossed: [bool; 2],
    /// SITUA is one, and no initiator has heard it yet.
    unheard: [bool; 2],
}

impl DeviceConfig {
    /// Whether the unit counts its space: then it has the log page, the mode page and the threshold sets of SBC-4.
    pub(crate) fn counts_space(&self) -> bool {
        self.thin && self.space_is_known
    }

    /// THRESHOLD EXPONENT (SBC-4 6.6.7): a threshold set is two to its power logical blocks. Zero: there are none.
    pub(crate) fn threshold_exponent(&self) -> u8 {
        if !self.counts_space() {
            return 0;
        }
        let usual = (SET_BYTES / u64::from(self.block_size.max(1))).max(2).ilog2();
        // Capacity in sets below 2^32.
        let least = (u64::BITS - self.blocks.leading_zeros()).saturating_sub(32);
        usual.max(least) as u8
    }

    /// Bytes of a threshold set.
    fn set_bytes(&self) -> u128 {
        u128::from(self.block_size) << self.threshold_exponent()
    }
}

impl Device {
    /// What space there is for the blocks of the unit, if it is thin: thresholds that this crosses are told.
    pub fn space_is(&mut self, space: Space) {
        if self.config.counts_space() {
            self.told.space = Some(space);
            self.tell_thresholds();
        }
    }

    /// RESOURCE COUNT of what is available and of what is used (SBC-4 6.4.5.2.2), once it is known.
    pub(crate) fn resource_counts(&self) -> Option<[u32; 2]> {
        let space = self.told.space?;
        let sets = |bytes: u64| {
            u32::try_from(u128::from(bytes) / self.config.set_bytes().max(1)).unwrap_or(u32::MAX)
        };
        // What is used is used, be it less than a set.
        let used = u128::from(space.used_bytes).div_ceil(self.config.set_bytes().max(1));
        Some([sets(space.available_bytes), u32::try_from(used).unwrap_or(u32::MAX)])
    }

    /// Mode parameters have changed from `before`: a threshold that was set anew has not been told.
    pub(crate) fn thresholds_set(&mut self, before: &ModeState) {
        for kind in 0..KINDS.len() {
            if self.mode.thresholds()[kind] != before.thresholds()[kind] {
                self.told.crossed[kind] = false;
            }
        }
        self.tell_thresholds();
    }

    /// A reset: whatever is beyond a threshold is told again (SBC-4 4.7.3.7.6).
    pub(crate) fn tell_thresholds_anew(&mut self) {
        self.told.crossed = [false; 2];
        self.tell_thresholds();
    }

    /// Establishes the unit attention of each threshold that was crossed since it was last told.
    fn tell_thresholds(&mut self) {
        let Some(space) = self.told.space else { return };
        let set = self.config.set_bytes();
        for (kind, Threshold { enabled, count }) in self.mode.thresholds().into_iter().enumerate() {
            // Doubled, so that the half sets around the count are whole.
            let (least, most) =
                ((2 * u128::from(count)).saturating_sub(1) * set, (2 * u128::from(count) + 1) * set);
            let (near, beyond) = match KINDS[kind] {
                UnitAttention::SpaceRunsLow => {
                    let available = 2 * u128::from(space.available_bytes);
                    (available < most, available < least)
                }
                _ => {
                    let used = 2 * u128::from(space.used_bytes);
                    (used > least, used > most)
                }
            };
            if !enabled || !near || !self.mode.reports_provisioning() {
                self.told.crossed[kind] = false;
            } else if beyond && !std::mem::replace(&mut self.told.crossed[kind], true) {
                self.told.unheard[kind] = true;
                self.raise_all(KINDS[kind]);
            }
        }
    }

    /// An I_T nexus that has just come hears what the others have heard; with SITUA, only what nobody has heard.
    pub(crate) fn tell_thresholds_to(&mut self, nexus: NexusId) {
        for (kind, attention) in KINDS.into_iter().enumerate() {
            if self.told.crossed[kind] && (!self.mode.tells_one() || self.told.unheard[kind]) {
                self.raise(nexus, attention);
            }
        }
    }

    /// An initiator was told of a unit attention: with SITUA, a threshold is one initiator's to hear.
    #[cold]
    pub(crate) fn threshold_heard(&mut self, attention: UnitAttention) {
        let Some(kind) = KINDS.iter().position(|other| *other == attention) else { return };
        self.told.unheard[kind] = false;
        if self.mode.tells_one() {
            self.nexuses.values_mut().for_each(|nexus| nexus.attentions.drop_one(attention));
        }
    }
}
