//! The plan: what to send, and what each outcome says.

use crate::cell::{Cell, Cells, GENERATION_MAX, Shape, Version};
use crate::judge::{Verdict, judge};
use crate::pick::Picker;
use crate::{
    ConfigError, Content, Kind, Mismatch, Op, OpKind, Outcome, SECTOR, Stamp, StampKind, VerifyConfig,
};

/// How many choices are tried for one that collides with nothing in flight.
const TRIES: u32 = 16;
/// How often one read of the last pass is sent again after it failed.
const LAST_PASS_TRIES: u32 = 32;

/// What a plan did so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// READs with status GOOD.
    pub reads: u64,
    /// WRITEs with status GOOD.
    pub writes: u64,
    /// UNMAPs with status GOOD.
    pub unmaps: u64,
    /// WRITE SAMEs of all kinds with status GOOD.
    pub write_sames: u64,
    /// SYNCHRONIZE CACHEs with status GOOD.
    pub syncs: u64,
    /// Logical blocks that were read and judged; a block counts each time.
    pub blocks_checked: u64,
    /// Operations that were refused: certainly not done.
    pub refused: u64,
    /// Operations that failed.
    pub failed: u64,
    /// Operations whose outcome is unknown.
    pub unknown: u64,
    /// Reads with a mismatch.
    pub mismatches: u64,
    /// Logical blocks that the last pass could not read, however often it tried.
    pub unread: u64,
}

/// An operation was completed that is not in flight: the caller's mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("operation {0} is not in flight")]
pub struct UnknownOp(pub u64);

/// The last pass: everything is read back, in order.
#[derive(Clone, Debug, Default)]
struct LastPass {
    /// The next block to read, from the region's first.
    next: u64,
    /// Ranges to read again, and how often they were tried.
    again: Vec<(u64, u32, u32)>,
}

/// One client's operations and what it knows of its region.
///
/// Memory: 16 bytes for each block of the region, and some more for each block whose content is in doubt.
#[derive(Clone, Debug)]
pub struct Plan {
    config: VerifyConfig,
    cells: Cells,
    picker: Picker,
    /// With how often a last pass's read was tried.
    in_flight: Vec<(Op, u32)>,
    issued: u64,
    last_pass: Option<LastPass>,
    counts: Counts,
}

impl Plan {
    /// A plan whose region nobody else writes to.
    ///
    /// # Errors
    /// [`ConfigError`] says what cannot be.
    pub fn new(config: VerifyConfig) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Plan {
            cells: Cells::new(config.blocks as usize),
            picker: Picker::new(&config),
            in_flight: Vec::with_capacity(config.depth as usize),
            issued: 0,
            last_pass: None,
            counts: Counts::default(),
            config,
        })
    }

    /// The next operation to send. None while as many as the depth are in flight, while each that was tried collides with one
    /// in flight, and for ever once the last pass has been sent; see [`Plan::is_done`]. With nothing in flight and
    /// before the end there always is one.
    #[allow(clippy::should_implement_trait, reason = "None is not the end, so this is no iterator")]
    pub fn next(&mut self) -> Option<Op> {
        if self.in_flight.len() >= self.config.depth as usize {
            return None;
        }
        if self.issued >= GENERATION_MAX {
            self.begin_last_pass();
        }
        if self.last_pass.is_some() {
            return self.next_of_last_pass();
        }
        for _ in 0..TRIES {
            let choice = self.picker.choose();
            let op = self.op(choice.kind, choice.start, choice.blocks);
            let start = choice.start as usize;
            let unclear = op.kind.modifies() && !self.cells.may_change(start..start + choice.blocks as usize);
            // A block in so much doubt wants to be read, not changed.
            let op = if unclear { self.op(OpKind::Read, choice.start, choice.blocks) } else { op };
            let blocks = op.blocks.min(if unclear { self.config.transfer_max } else { u32::MAX });
            if let Some(op) = self.issue(Op { blocks, ..op }, 0) {
                return Some(op);
            }
        }
        None
    }

    fn op(&self, kind: OpKind, start: u64, blocks: u32) -> Op {
        Op { id: self.issued + 1, kind, lba: self.config.first_lba + start, blocks }
    }

    fn issue(&mut self, op: Op, tries: u32) -> Option<Op> {
        if self.in_flight.iter().any(|(other, _)| other.collides(&op)) {
            return None;
        }
        self.issued += 1;
        self.in_flight.push((op, tries));
        Some(op)
    }

    fn next_of_last_pass(&mut self) -> Option<Op> {
        let pass = self.last_pass.as_ref()?;
        let (start, blocks, tries) = match pass.again.last() {
            Some(again) => *again,
            None if pass.next < self.config.blocks => {
                let left = self.config.blocks - pass.next;
                (pass.next, u64::from(self.config.transfer_max).min(left) as u32, 0)
            }
            None => return None,
        };
        let op = self.issue(self.op(OpKind::Read, start, blocks), tries)?;
        let pass = self.last_pass.as_mut()?;
        if pass.again.pop().is_none() {
            pass.next += u64::from(blocks);
        }
        Some(op)
    }

    /// From now on nothing is changed any more, and everything is read back once.
    pub fn begin_last_pass(&mut self) {
        self.last_pass.get_or_insert_default();
    }

    /// Whether the last pass is through and nothing is in flight.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let through = |pass: &LastPass| pass.next >= self.config.blocks && pass.again.is_empty();
        self.in_flight.is_empty() && self.last_pass.as_ref().is_some_and(through)
    }

    /// Logical blocks that the last pass has read so far, for a progress bar.
    #[must_use]
    pub fn last_pass_blocks(&self) -> u64 {
        self.last_pass.as_ref().map_or(0, |pass| pass.next)
    }

    /// Operations in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What the plan was made from.
    #[must_use]
    pub fn config(&self) -> &VerifyConfig {
        &self.config
    }

    /// Fills `data` with what `op` writes: [`Op::data_out_blocks`] logical blocks. A longer slice keeps its end; of a shorter
    /// one only whole sectors are filled.
    pub fn fill(&self, op: &Op, data: &mut [u8]) {
        let wanted = op.data_out_blocks() as usize * self.config.block_size as usize;
        let len = wanted.min(data.len());
        let per_block = self.config.block_size as usize / SECTOR;
        let like = self.like();
        for (index, sector) in data[..len].as_chunks_mut::<SECTOR>().0.iter_mut().enumerate() {
            let block = (index / per_block) as u32;
            let version = Version::of(op, block);
            match version.stamp(&like, op.lba + u64::from(block), index % per_block) {
                Some(stamp) => stamp.write(sector),
                None => sector.fill(0),
            }
        }
    }

    /// What all stamps of this plan share.
    fn like(&self) -> Stamp {
        let VerifyConfig { run, seed, client, .. } = self.config;
        Stamp { run, seed, client, lba: 0, generation: 0, blocks: 1, kind: StampKind::Own, sector: 0 }
    }

    /// The operation `id` has ended. For a read, its data is judged.
    ///
    /// # Errors
    /// A [`Mismatch`] if the data is not what it has to be. The plan goes on; the blocks in question are judged again once
    /// they were written again.
    ///
    /// An id that is not in flight is the caller's mistake and changes nothing; [`Plan::find`] tells.
    pub fn complete(&mut self, id: u64, outcome: Outcome<'_>) -> Result<(), Box<Mismatch>> {
        match self.take(id) {
            Ok((op, tries)) => self.settle(op, tries, outcome),
            Err(UnknownOp(_)) => Ok(()),
        }
    }

    /// Whether operation `id` is in flight.
    ///
    /// # Errors
    /// [`UnknownOp`] if it is not.
    pub fn find(&self, id: u64) -> Result<Op, UnknownOp> {
        self.in_flight.iter().map(|(op, _)| *op).find(|op| op.id == id).ok_or(UnknownOp(id))
    }

    fn take(&mut self, id: u64) -> Result<(Op, u32), UnknownOp> {
        let at = self.in_flight.iter().position(|(op, _)| op.id == id).ok_or(UnknownOp(id))?;
        Ok(self.in_flight.swap_remove(at))
    }

    fn settle(&mut self, op: Op, tries: u32, outcome: Outcome<'_>) -> Result<(), Box<Mismatch>> {
        match outcome {
            Outcome::Good(data) => {
                self.count(op.kind);
                if op.kind == OpKind::Read {
                    return self.check(&op, data);
                }
                if op.kind.modifies() {
                    self.each(&op, Cells::acknowledge);
                }
                return Ok(());
            }
            Outcome::Refused => self.counts.refused += 1,
            Outcome::Failed => self.counts.failed += 1,
            Outcome::Unknown => self.counts.unknown += 1,
        }
        if op.kind == OpKind::Read {
            self.read_again(&op, tries);
        } else if op.kind.modifies() && outcome != Outcome::Refused {
            self.each(&op, Cells::doubt);
        }
        Ok(())
    }

    fn count(&mut self, kind: OpKind) {
        let counts = &mut self.counts;
        let count = match kind {
            OpKind::Read => &mut counts.reads,
            OpKind::Write => &mut counts.writes,
            OpKind::Unmap => &mut counts.unmaps,
            OpKind::WriteSame | OpKind::WriteZeros | OpKind::UnmapZeros => &mut counts.write_sames,
            OpKind::Sync => &mut counts.syncs,
        };
        *count += 1;
    }

    fn each(&mut self, op: &Op, change: impl Fn(&mut Cells, usize, Version)) {
        let start = (op.lba - self.config.first_lba) as usize;
        for index in 0..op.blocks {
            let at = start + index as usize;
            if op.kind == OpKind::Unmap && self.config.unmapped_is_zero {
                self.cells.unmap(at);
            } else {
                change(&mut self.cells, at, Version::of(op, index));
            }
        }
    }

    fn read_again(&mut self, op: &Op, tries: u32) {
        let start = op.lba - self.config.first_lba;
        let Some(pass) = &mut self.last_pass else { return };
        if tries + 1 < LAST_PASS_TRIES {
            pass.again.push((start, op.blocks, tries + 1));
        } else {
            self.counts.unread += u64::from(op.blocks);
        }
    }

    fn check(&mut self, op: &Op, data: &[u8]) -> Result<(), Box<Mismatch>> {
        let size = self.config.block_size as usize;
        let wanted = op.blocks as usize * size;
        let start = (op.lba - self.config.first_lba) as usize;
        let mut first: Option<Mismatch> = None;
        if data.len() != wanted {
            first = Some(self.mismatch(op, 0, Kind::Short, Content::Bytes(data.len())));
        }
        let like = self.like();
        for (index, block) in data.chunks_exact(size).take(op.blocks as usize).enumerate() {
            self.counts.blocks_checked += 1;
            let lba = op.lba + index as u64;
            match judge(&like, lba, block, self.cells.cell(start + index)) {
                Verdict::Is(version) => self.cells.see(start + index, version),
                Verdict::Open => {}
                Verdict::Wrong(kind, found) => {
                    match &mut first {
                        Some(mismatch) => mismatch.blocks_wrong += 1,
                        None => first = Some(self.mismatch(op, index, kind, found)),
                    }
                    self.cells.accuse(start + index);
                }
            }
        }
        match first {
            None => Ok(()),
            Some(mismatch) => {
                self.counts.mismatches += 1;
                Err(Box::new(mismatch))
            }
        }
    }

    fn mismatch(&self, op: &Op, index: usize, kind: Kind, found: Content) -> Mismatch {
        let start = (op.lba - self.config.first_lba) as usize;
        let cell = self.cells.cell(start + index);
        let expected = match kind {
            Kind::Short => Content::Bytes(op.blocks as usize * self.config.block_size as usize),
            _ => expected(cell),
        };
        Mismatch {
            kind,
            client: self.config.client,
            op: op.id,
            lba: op.lba + index as u64,
            expected,
            unsettled: cell.doubts.len(),
            found,
            blocks_wrong: 1,
        }
    }
}

fn expected(cell: Cell<'_>) -> Content {
    let generation = cell.now.generation();
    match cell.now.shape() {
        Shape::Own | Shape::Same { .. } if cell.now.is_unmapped() => Content::Unmapped { generation },
        Shape::Own | Shape::Same { .. } => Content::Written { generation },
        Shape::Zeros => Content::Zeros { generation },
        Shape::Unmapped => Content::Zeros { generation: 0 },
        Shape::Untouched | Shape::Unspecified | Shape::Accused => Content::Unspecified,
    }
}
