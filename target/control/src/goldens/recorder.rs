//! When a golden's boot is recorded, and when the recording is over.
//!
//! | state | until |
//! |---|---|
//! | idle | the operator asks for a recording |
//! | armed | the next clone is made: it is recorded |
//! | open | nothing new was used for [`QUIET_NS`] by a running operating system, or a bound is met: complete |
//! | open | no operating system is there and nothing new was used for [`AWAY_NS`], or the clone is dropped: not complete |

use stampede_engine::messages::LunId;
use stampede_image::golden::GoldenIdentity;
use stampede_image::recording::{BLOCKS_MAX, FirstUse, Recording};

/// How long an operating system that has booted uses nothing new.
pub(crate) const QUIET_NS: u64 = 30_000_000_000;
/// How long firmware may wait at its menu, and a machine be away between two sessions.
pub(crate) const AWAY_NS: u64 = 120_000_000_000;
/// How long a boot is recorded at most.
pub(crate) const LONGEST_NS: u64 = 600_000_000_000;

/// Who has sessions with the clone that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// An operating system.
    Os,
    /// Firmware only, or nobody.
    Other,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) enum Recorder {
    /// Nothing is to be recorded.
    #[default]
    Idle,
    /// The next clone is.
    Armed,
    /// A clone is being recorded.
    Open(Open),
}

/// A recording in the making.
#[derive(Debug)]
pub(crate) struct Open {
    lun: LunId,
    began_ns: u64,
    /// When the last block was used, or the clone was made.
    last_ns: u64,
    uses: Vec<FirstUse>,
}

impl Recorder {
    /// A clone is made; true when it is to be recorded.
    pub(crate) fn clone_made(&mut self, lun: LunId, now: u64) -> bool {
        if !matches!(self, Self::Armed) {
            return false;
        }
        *self = Self::Open(Open { lun, began_ns: now, last_ns: now, uses: Vec::new() });
        true
    }

    /// What a clone has used since.
    pub(crate) fn recorded(&mut self, lun: LunId, uses: &[(u32, u64)]) {
        let Self::Open(open) = self else { return };
        if open.lun != lun {
            return;
        }
        for (block, at_ns) in uses.iter().take(BLOCKS_MAX - open.uses.len()) {
            let gap_us = at_ns.saturating_sub(open.last_ns) / 1000;
            open.uses.push(FirstUse { block: *block, gap_us: u32::try_from(gap_us).unwrap_or(u32::MAX) });
            open.last_ns = open.last_ns.max(*at_ns);
        }
    }

    /// The clone that is being recorded.
    pub(crate) fn lun(&self) -> Option<LunId> {
        match self {
            Self::Open(open) => Some(open.lun),
            Self::Idle | Self::Armed => None,
        }
    }

    /// Blocks recorded so far.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Open(open) => open.uses.len(),
            Self::Idle | Self::Armed => 0,
        }
    }

    /// Whether the recording is over by now, and then whether it is complete.
    pub(crate) fn is_over(&self, by: Use, now: u64) -> Option<bool> {
        let Self::Open(open) = self else { return None };
        let still = now.saturating_sub(open.last_ns);
        let complete = open.uses.len() >= BLOCKS_MAX
            || now.saturating_sub(open.began_ns) >= LONGEST_NS
            || (by == Use::Os && !open.uses.is_empty() && still >= QUIET_NS);
        match complete {
            true => Some(!open.uses.is_empty()),
            false => (by == Use::Other && still >= AWAY_NS).then_some(false),
        }
    }

    /// Ends the recording; what was recorded, if anything was.
    pub(crate) fn close(&mut self, golden: GoldenIdentity, complete: bool) -> Option<Recording> {
        let Self::Open(open) = std::mem::take(self) else { return None };
        (!open.uses.is_empty()).then_some(Recording { golden, complete, uses: open.uses })
    }
}

/// Whether a recording is to replace the one that there is.
pub(crate) fn replaces(new: &Recording, old: Option<&Recording>) -> bool {
    old.is_none_or(|old| new.complete || (!old.complete && new.uses.len() >= old.uses.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LUN: LunId = LunId(5);
    const GOLDEN: GoldenIdentity =
        GoldenIdentity { device: 1, inode: 2, len_bytes: 1 << 40, mtime_ns: 3, generation: 0 };

    fn open() -> Recorder {
        let mut recorder = Recorder::Armed;
        assert!(recorder.clone_made(LUN, 1000));
        recorder
    }

    #[test]
    fn the_first_clone_is_recorded_and_no_other() {
        let mut recorder = Recorder::default();
        assert!(!recorder.clone_made(LUN, 0));
        recorder = open();
        assert!(!recorder.clone_made(LunId(6), 0));
        recorder.recorded(LUN, &[(7, 6_000), (9, 9_999)]);
        recorder.recorded(LunId(6), &[(8, 11_000)]);
        assert_eq!((recorder.lun(), recorder.len()), (Some(LUN), 2));
        let recording = recorder.close(GOLDEN, true).unwrap();
        let uses: Vec<_> = recording.uses.iter().map(|each| (each.block, each.gap_us)).collect();
        assert_eq!(uses, [(7, 5), (9, 3)]);
        assert!(!recorder.clone_made(LUN, 0), "it is over");
    }

    #[test]
    fn an_operating_system_at_rest_completes_it() {
        let mut recorder = open();
        assert_eq!(recorder.is_over(Use::Os, 1000 + QUIET_NS), None, "it has read nothing yet");
        recorder.recorded(LUN, &[(7, 2000)]);
        assert_eq!(recorder.is_over(Use::Os, 1999 + QUIET_NS), None);
        assert_eq!(recorder.is_over(Use::Os, 2000 + QUIET_NS), Some(true));
        assert_eq!(recorder.is_over(Use::Other, 2000 + QUIET_NS), None, "firmware at its menu");
        assert_eq!(recorder.is_over(Use::Other, 2000 + AWAY_NS), Some(false));
    }

    #[test]
    fn bounds_complete_it_too() {
        let mut recorder = open();
        let uses: Vec<_> = (0..BLOCKS_MAX as u32 + 5).map(|block| (block, 2000)).collect();
        recorder.recorded(LUN, &uses);
        assert_eq!((recorder.len(), recorder.is_over(Use::Other, 2001)), (BLOCKS_MAX, Some(true)));
        let mut recorder = open();
        assert_eq!(recorder.is_over(Use::Os, 1000 + LONGEST_NS), Some(false), "nothing was read");
        assert_eq!(recorder.close(GOLDEN, false), None);
    }

    #[test]
    fn the_better_recording_stays() {
        let make = |complete, blocks: u32| {
            let uses = (0..blocks).map(|block| FirstUse { block, gap_us: 0 }).collect();
            Recording { golden: GOLDEN, complete, uses }
        };
        assert!(replaces(&make(false, 1), None));
        assert!(replaces(&make(false, 2), Some(&make(false, 1))));
        assert!(!replaces(&make(false, 1), Some(&make(false, 2))));
        assert!(!replaces(&make(false, 9), Some(&make(true, 2))));
        assert!(replaces(&make(true, 1), Some(&make(true, 2))));
    }
}
