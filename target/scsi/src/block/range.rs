//! Checks that every block command shares: protection field, address range, length limit, data-out on hand.

use crate::cdb::BlockLayout;
use crate::device::{Device, Request};
use crate::sense::{self, Sense};
use crate::{Blocks, Reply, Step};

/// The checked range of a block command, or `None` when it moves no blocks (which is no error, SBC-3 5.10).
pub(crate) type Range = Option<Blocks>;

/// A command that has nothing to do.
pub(crate) const NOTHING: Step = Step::Done(Reply::good());

impl Request<'_> {
    /// The block layout of the command's CDB.
    pub(crate) fn layout(&self) -> BlockLayout {
        // Only rows with a layout name handlers that ask for it; a test walks the table.
        self.command.layout().unwrap_or(BlockLayout::Sixteen)
    }

    /// FUA of READ, WRITE, ORWRITE and COMPARE AND WRITE; the 6-byte commands have none.
    pub(crate) fn fua(&self) -> bool {
        self.layout() != BlockLayout::Six && self.cdb[1] & 0x08 != 0
    }

    /// RDPROTECT, WRPROTECT, VRPROTECT and ORPROTECT: there is no protection information, so anything but zero is
    /// refused (SBC-3 table 69 and its like).
    pub(crate) fn check_protection(&self) -> Result<(), Sense> {
        if self.layout() != BlockLayout::Six && self.cdb[1] & 0xE0 != 0 {
            return Err(Sense::invalid_cdb(1, Some(7)));
        }
        Ok(())
    }

    /// The range as the CDB says it, inside the capacity.
    pub(crate) fn range(&self, device: &Device) -> Result<Range, Sense> {
        let layout = self.layout();
        let blocks = layout.decode(self.cdb);
        check_capacity(device, blocks.lba, u64::from(blocks.count))
            .map_err(|sense| sense.with_cdb_field(layout.lba_byte(), None))?;
        Ok((blocks.count > 0).then_some(Blocks { lba: blocks.lba, count: blocks.count }))
    }

    /// The range, also within MAXIMUM TRANSFER LENGTH (SBC-3 6.5.3).
    pub(crate) fn limited_range(&self, device: &Device) -> Result<Range, Sense> {
        let range = self.range(device)?;
        let limit = device.config.max_transfer_blocks;
        self.check_limit(range, limit)?;
        Ok(range)
    }

    /// Refuses a range longer than `limit` blocks (0: no limit), pointing at the length field.
    pub(crate) fn check_limit(&self, range: Range, limit: u32) -> Result<(), Sense> {
        match range {
            Some(blocks) if limit > 0 && blocks.count > limit => {
                Err(Sense::invalid_cdb(self.layout().count_byte(), None))
            }
            _ => Ok(()),
        }
    }

    /// Cuts the range to the whole blocks of data-out on hand: what the initiator does not give is not written, and
    /// the residual count tells it (RFC 7143 11.4.5).
    pub(crate) fn on_hand(&self, range: Range, device: &Device) -> Range {
        let blocks = range?;
        let count = blocks.count.min(self.data_out_len / device.config.block_size.max(1));
        (count > 0).then_some(Blocks { lba: blocks.lba, count })
    }

    /// Refuses any other length of data-out than `bytes`.
    pub(crate) fn exactly(&self, bytes: u64) -> Result<(), Sense> {
        if u64::from(self.data_out_len) == bytes { Ok(()) } else { Err(sense::INVALID_DATA_OUT_LENGTH) }
    }
}

/// LBA OUT OF RANGE unless all of `count` blocks from `lba` exist. An empty range may stand right behind the end.
pub(crate) fn check_capacity(device: &Device, lba: u64, count: u64) -> Result<(), Sense> {
    match lba.checked_add(count) {
        Some(end) if end <= device.config.blocks => Ok(()),
        _ => Err(sense::LBA_OUT_OF_RANGE),
    }
}
