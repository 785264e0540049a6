//! Operations and how they end.

/// What kind of command an operation is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum OpKind {
    /// READ.
    Read,
    /// WRITE of as many blocks as the operation has.
    Write,
    /// UNMAP with one descriptor.
    Unmap,
    /// WRITE SAME(16) of one stamped block.
    WriteSame,
    /// WRITE SAME(16) of one block of zeros.
    WriteZeros,
    /// WRITE SAME(16) of one block of zeros with the UNMAP bit.
    UnmapZeros,
    /// SYNCHRONIZE CACHE of the operation's blocks.
    Sync,
}

impl OpKind {
    /// Whether blocks have other content afterwards.
    #[must_use]
    pub fn modifies(self) -> bool {
        !matches!(self, OpKind::Read | OpKind::Sync)
    }
}

/// One operation to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Op {
    /// Its number, from 1; it is also the generation of what it writes.
    pub id: u64,
    /// The command.
    pub kind: OpKind,
    /// Its first logical block, of the unit, not of the region.
    pub lba: u64,
    /// Its logical blocks.
    pub blocks: u32,
}

impl Op {
    /// Logical blocks of data that go out with it: [`crate::Plan::fill`] wants so many.
    #[must_use]
    pub fn data_out_blocks(&self) -> u32 {
        match self.kind {
            OpKind::Write => self.blocks,
            OpKind::WriteSame | OpKind::WriteZeros | OpKind::UnmapZeros => 1,
            OpKind::Read | OpKind::Unmap | OpKind::Sync => 0,
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.lba + u64::from(self.blocks)
    }

    /// Whether the two must not be in flight at once.
    pub(crate) fn collides(&self, other: &Op) -> bool {
        (self.kind.modifies() || other.kind.modifies()) && self.lba < other.end() && other.lba < self.end()
    }
}

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome<'a> {
    /// Status GOOD; for a read, with this data.
    Good(&'a [u8]),
    /// The target did certainly not do it: BUSY, TASK SET FULL, a unit attention, a command that was never sent.
    Refused,
    /// It failed in a way that may have left it done, in part or not at all: other CHECK CONDITIONs, aborted tasks.
    Failed,
    /// Nobody knows: the connection was lost.
    Unknown,
}
