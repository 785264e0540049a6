//! The mode pages: what they say, what of it may change, and what a change does.

use super::state::ModeState;
use crate::DeviceConfig;
use crate::cdb::be32;
use crate::thresholds::{KINDS, Threshold};
use smallvec::SmallVec;

/// Bytes of one page, with its header.
pub(super) type PageBytes = SmallVec<[u8; 40]>;

/// One mode page.
pub(super) struct Page {
    /// PAGE CODE.
    pub(super) code: u8,
    /// SUBPAGE CODE; not zero means the sub_page format.
    pub(super) subpage: u8,
    /// Bytes of the page, with its header.
    length: u8,
    /// Whether a unit has it.
    offered: fn(&DeviceConfig) -> bool,
    /// Puts the values in; the offsets are the standard's.
    values: fn(&ModeState, &mut [u8]),
    /// Puts in a one for each bit that may change.
    changeable: fn(&DeviceConfig, &mut [u8]),
    /// Takes changed values over.
    pub(super) apply: fn(&mut ModeState, &[u8]),
}

/// LBPERE of the Read-Write Error Recovery page, WCE of the Caching page, D_SENSE and SWP of the Control page.
const LBPERE: (usize, u8) = (7, 0x80);
const WCE: (usize, u8) = (2, 0x04);
const D_SENSE: (usize, u8) = (2, 0x04);
const SWP: (usize, u8) = (4, 0x08);
/// SITUA of the Logical Block Provisioning page, its threshold descriptors, ENABLED in such a descriptor, and where that
/// has its THRESHOLD COUNT.
const SITUA: (usize, u8) = (4, 0x01);
const DESCRIPTORS: [usize; KINDS.len()] = [16, 24];
const ENABLED: u8 = 0x80;
const COUNT: std::ops::Range<usize> = 4..8;

const fn constant(code: u8, subpage: u8, length: u8, values: fn(&ModeState, &mut [u8])) -> Page {
    Page { code, subpage, length, offered: |_| true, values, changeable: |_, _| {}, apply: |_, _| {} }
}

/// The pages, ascending by page code and subpage code.
static PAGES: [Page; 10] = [
    // Read-Write Error Recovery (SBC-4 6.5.10): AWRE and ARRE.
    Page {
        code: 0x01,
        subpage: 0,
        length: 12,
        offered: |_| true,
        values: |state, page| {
            page[2] = 0xC0;
            set(page, LBPERE, state.lbpere);
        },
        changeable: |config, mask| set(mask, LBPERE, config.counts_space()),
        apply: |state, page| state.lbpere = get(page, LBPERE),
    },
    // Disconnect-Reconnect (SPC-4 7.5.10, iSCSI: RFC 7143 leaves all to the session).
    constant(0x02, 0, 16, |_, _| {}),
    // Verify Error Recovery (SBC-3 6.4.9).
    constant(0x07, 0, 12, |_, _| {}),
    // Caching (SBC-3 6.4.5).
    Page {
        code: 0x08,
        subpage: 0,
        length: 20,
        offered: |_| true,
        values: |state, page| set(page, WCE, state.wce),
        changeable: |config, mask| set(mask, WCE, config.write_cache),
        apply: |state, page| state.wce = get(page, WCE),
    },
    // Control (SPC-4 7.5.8).
    Page {
        code: 0x0A,
        subpage: 0,
        length: 12,
        offered: |_| true,
        values: |state, page| {
            set(page, D_SENSE, state.d_sense);
            // QUEUE ALGORITHM MODIFIER: unrestricted reordering.
            page[3] = 0x10;
            set(page, SWP, state.swp);
            // BUSY TIMEOUT PERIOD: no limit.
            page[8..10].fill(0xFF);
        },
        changeable: |_, mask| {
            set(mask, D_SENSE, true);
            set(mask, SWP, true);
        },
        apply: |state, page| {
            state.d_sense = get(page, D_SENSE);
            state.swp = get(page, SWP);
        },
    },
    // Control Extension (SPC-4 7.5.9).
    constant(0x0A, 0x01, 32, |_, _| {}),
    // XOR Control (SBC-2 6.3.6): XORDIS, there are no such commands.
    constant(0x10, 0, 24, |_, page| page[2] = 0x02),
    // Power Condition (SPC-4 7.5.13): no timers.
    constant(0x1A, 0, 40, |_, _| {}),
    // Informational Exceptions Control (SBC-3 6.4.6): DEXCPT, none are reported.
    constant(0x1C, 0, 12, |_, page| page[2] = 0x08),
    // Logical Block Provisioning (SBC-4 6.5.9).
    Page {
        code: 0x1C,
        subpage: 0x02,
        length: 32,
        offered: DeviceConfig::counts_space,
        values: |state, page| {
            set(page, SITUA, state.situa);
            // THRESHOLD ARMING and THRESHOLD RESOURCE (SBC-4 table 7): decreasing, of what is available; increasing, of
            // what is used.
            for ((at, kind), threshold) in DESCRIPTORS.into_iter().zip([[0, 1], [1, 2]]).zip(state.thresholds)
            {
                page[at..at + 2].copy_from_slice(&kind);
                set(page, (at, ENABLED), threshold.enabled);
                page[at..][COUNT].copy_from_slice(&threshold.count.to_be_bytes());
            }
        },
        changeable: |_, mask| {
            set(mask, SITUA, true);
            for at in DESCRIPTORS {
                set(mask, (at, ENABLED), true);
                mask[at..][COUNT].fill(0xFF);
            }
        },
        apply: |state, page| {
            state.situa = get(page, SITUA);
            state.thresholds = DESCRIPTORS.map(|at| Threshold {
                enabled: get(page, (at, ENABLED)),
                count: be32(page, at + COUNT.start),
            });
        },
    },
];

impl Page {
    /// The page with `state`'s values.
    pub(super) fn current(&self, state: &ModeState) -> PageBytes {
        let mut page = self.blank();
        (self.values)(state, &mut page);
        page
    }

    /// The page with a one for each bit that may change.
    pub(super) fn mask(&self, config: &DeviceConfig) -> PageBytes {
        let mut page = self.blank();
        (self.changeable)(config, &mut page);
        page
    }

    /// Bytes of the page header: 2, or 4 in the sub_page format (SPC-4 7.5.7).
    pub(super) fn header(&self) -> usize {
        if self.subpage == 0 { 2 } else { 4 }
    }

    /// Bytes of the page, with its header.
    pub(super) fn length(&self) -> usize {
        usize::from(self.length)
    }

    fn blank(&self) -> PageBytes {
        let mut page = PageBytes::from_elem(0, self.length());
        page[0] = self.code;
        if self.subpage == 0 {
            page[1] = self.length - 2;
        } else {
            page[0] |= 0x40;
            page[1] = self.subpage;
            page[3] = self.length - 4;
        }
        page
    }
}

/// The pages that a unit has, ascending.
pub(super) fn of(config: &DeviceConfig) -> impl Iterator<Item = &'static Page> {
    PAGES.iter().filter(|page| (page.offered)(config))
}

/// The page of a page code and a subpage code, if a unit has it.
pub(super) fn find(config: &DeviceConfig, code: u8, subpage: u8) -> Option<&'static Page> {
    of(config).find(|page| page.code == code && page.subpage == subpage)
}

fn set(page: &mut [u8], (byte, bit): (usize, u8), on: bool) {
    if on {
        page[byte] |= bit;
    } else {
        page[byte] &= !bit;
    }
}

fn get(page: &[u8], (byte, bit): (usize, u8)) -> bool {
    page[byte] & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_ascending_and_headers_true() {
        for pair in PAGES.windows(2) {
            assert!((pair[0].code, pair[0].subpage) < (pair[1].code, pair[1].subpage));
        }
        let config = DeviceConfig::new(crate::Identity::default(), 100);
        for page in &PAGES {
            let bytes = page.current(&ModeState::new(&config));
            let told = if page.subpage == 0 { usize::from(bytes[1]) + 2 } else { usize::from(bytes[3]) + 4 };
            assert_eq!(told, bytes.len());
            assert_eq!(page.mask(&config).len(), bytes.len());
        }
    }
}
