//! Which operation comes next: the random choices of a plan.

use crate::cell::SAME_BLOCKS_MAX;
use crate::{OpKind, VerifyConfig};

/// Ranges that were changed lately, to be read (again).
const RECENT: usize = 64;
/// Bytes of the window in which most operations fall, so that they meet.
const WINDOW_BYTES: u64 = 256 * 1024;
/// After so many choices the window moves.
const WINDOW_CHOICES: u32 = 256;
/// The longest UNMAP that is chosen, logical blocks.
const UNMAP_BLOCKS_MAX: u32 = 8192;

/// A range that was chosen: blocks from the region's first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Choice {
    pub(crate) kind: OpKind,
    pub(crate) start: u64,
    pub(crate) blocks: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Picker {
    rng: fastrand::Rng,
    kinds: Vec<(OpKind, u32)>,
    weight: u32,
    region: u64,
    /// Logical blocks of 4 KiB, at least 1.
    page: u64,
    longest: [u32; 3],
    window: u64,
    window_blocks: u64,
    left: u32,
    recent: Vec<(u64, u32)>,
    next_recent: usize,
}

impl Picker {
    pub(crate) fn new(config: &VerifyConfig) -> Self {
        let cap = |most: u32| u64::from(most).min(config.blocks) as u32;
        let longest = [
            cap(config.transfer_max),
            cap(config.unmap_max.min(UNMAP_BLOCKS_MAX)),
            cap(config.write_same_max.min(SAME_BLOCKS_MAX)),
        ];
        let mut kinds = vec![(OpKind::Read, 40), (OpKind::Write, 40)];
        if config.unmap_max > 0 {
            kinds.push((OpKind::Unmap, 5));
        }
        if config.write_same_max > 0 {
            kinds.extend([(OpKind::WriteSame, 4), (OpKind::WriteZeros, 3)]);
            // Without LBPRZ nothing says what such a command leaves.
            if config.unmapped_is_zero && config.unmap_max > 0 {
                kinds.push((OpKind::UnmapZeros, 3));
            }
        }
        if config.syncs {
            kinds.push((OpKind::Sync, 3));
        }
        let block = u64::from(config.block_size);
        Picker {
            // Clients with one seed choose differently.
            rng: fastrand::Rng::with_seed(config.seed ^ (u64::from(config.client) << 32 | 0x5eed)),
            weight: kinds.iter().map(|(_, weight)| weight).sum(),
            kinds,
            region: config.blocks,
            page: (4096 / block).max(1),
            longest,
            window: 0,
            window_blocks: (WINDOW_BYTES / block).max(16).min(config.blocks),
            left: 0,
            recent: Vec::with_capacity(RECENT),
            next_recent: 0,
        }
    }

    /// The next choice; it may collide with what is in flight.
    pub(crate) fn choose(&mut self) -> Choice {
        if self.left == 0 {
            self.left = WINDOW_CHOICES;
            self.window = self.rng.u64(0..=self.region - self.window_blocks);
        }
        self.left -= 1;
        let kind = self.kind();
        let again = kind == OpKind::Read && !self.recent.is_empty() && self.rng.u8(0..100) < 60;
        let (start, blocks) = if again { self.around_recent() } else { self.anywhere(kind) };
        if kind.modifies() {
            self.remember(start, blocks);
        }
        Choice { kind, start, blocks }
    }

    fn kind(&mut self) -> OpKind {
        let mut ticket = self.rng.u32(0..self.weight);
        for (kind, weight) in &self.kinds {
            if ticket < *weight {
                return *kind;
            }
            ticket -= weight;
        }
        OpKind::Read
    }

    fn longest(&self, kind: OpKind) -> u32 {
        match kind {
            OpKind::Read | OpKind::Write | OpKind::Sync => self.longest[0],
            OpKind::Unmap => self.longest[1],
            OpKind::UnmapZeros => self.longest[1].min(self.longest[2]),
            OpKind::WriteSame | OpKind::WriteZeros => self.longest[2],
        }
    }

    /// A range that was changed lately, with a neighbour on either side at times: what spilled over shows there.
    fn around_recent(&mut self) -> (u64, u32) {
        let (start, blocks) = self.recent[self.rng.usize(0..self.recent.len())];
        let before = u64::from(self.rng.bool()).min(start);
        let after = u64::from(self.rng.bool());
        let start = start - before;
        let blocks = (u64::from(blocks) + before + after).min(self.region - start);
        (start, blocks.min(u64::from(self.longest[0])) as u32)
    }

    fn anywhere(&mut self, kind: OpKind) -> (u64, u32) {
        let longest = u64::from(self.longest(kind).max(1));
        let page = self.page;
        let blocks = match self.rng.u8(0..100) {
            // Less than 4 KiB, where the blocks are smaller; else single ones.
            0..=39 => self.rng.u64(1..=page.max(2) - 1),
            40..=69 => page * self.rng.u64(1..=4),
            70..=89 => self.rng.u64(1..=page * 16),
            _ => self.rng.u64(1..=longest.min(page * 128)),
        };
        let blocks = blocks.clamp(1, longest);
        let in_window = blocks <= self.window_blocks && self.rng.u8(0..100) < 80;
        let (low, span) = if in_window { (self.window, self.window_blocks) } else { (0, self.region) };
        let mut start = low + self.rng.u64(0..=span - blocks);
        // Half of them begin where a 4 KiB page does.
        if self.rng.bool() {
            start -= start % page;
        }
        (start, blocks as u32)
    }

    fn remember(&mut self, start: u64, blocks: u32) {
        if self.recent.len() < RECENT {
            self.recent.push((start, blocks));
        } else {
            self.recent[self.next_recent] = (start, blocks);
            self.next_recent = (self.next_recent + 1) % RECENT;
        }
    }
}
