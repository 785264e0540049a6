//! GET LBA STATUS of a file: what is a hole in it is deallocated, everything else counts as mapped.

use super::Io;
use super::job::Job;
use super::step::Went;
use super::{Lun, Medium};
use crate::token::Key;
use stampede_ring::{Operation, Ring, Stretch};
use stampede_scsi::{LbaState, LbaStatusDescriptor, Media};

impl Job {
    /// Looks where the file has data; what a clone has is known.
    #[cold]
    pub(super) fn enter_survey<R: Ring>(&mut self, key: Key, lun: &Lun, io: &mut Io<'_, R>) -> Went {
        let Medium::Disk(disk) = &lun.medium else { return Went::Done };
        let &Media::LbaStatus { lba, allocation_length } = self.media() else { return Went::Done };
        let config = lun.device.config();
        let block = u64::from(config.block_size);
        let offset = lba.saturating_mul(block);
        let len = config.blocks.saturating_sub(lba).saturating_mul(block);
        // At most 256.
        let max = Media::lba_status_descriptors_max(allocation_length) as u16;
        self.operate(key, Operation::Survey { file: disk.file, offset, len, max }, io);
        Went::Transfers
    }
}

/// The status of the blocks from `lba` to `blocks`, as far as it was looked at. A block is deallocated if all of it
/// lies in a hole. Where nothing is known it is mapped.
#[cold]
pub(super) fn of_stretches(
    stretches: &[Stretch],
    lba: u64,
    blocks: u64,
    block_size: u32,
) -> Vec<LbaStatusDescriptor> {
    let block = u64::from(block_size);
    let mut list = List { descriptors: Vec::new(), at: lba };
    for stretch in stretches {
        let end = stretch.start.saturating_add(stretch.len);
        if stretch.is_data {
            list.up_to(end.div_ceil(block).min(blocks), LbaState::Mapped);
        } else {
            list.up_to(stretch.start.div_ceil(block).min(blocks), LbaState::Mapped);
            list.up_to((end / block).min(blocks), LbaState::Deallocated);
        }
    }
    if list.descriptors.is_empty() {
        list.up_to(blocks, LbaState::Mapped);
    }
    list.descriptors
}

struct List {
    descriptors: Vec<LbaStatusDescriptor>,
    at: u64,
}

impl List {
    /// The blocks up to this one are of this state; those that were told already stay.
    fn up_to(&mut self, end: u64, state: LbaState) {
        while self.at < end {
            let mut left = u32::try_from(end - self.at).unwrap_or(u32::MAX);
            if let Some(last) = self.descriptors.last_mut()
                && last.state == state
            {
                let more = left.min(u32::MAX - last.count);
                (last.count, self.at, left) = (last.count + more, self.at + u64::from(more), left - more);
            }
            if left > 0 {
                self.descriptors.push(LbaStatusDescriptor { lba: self.at, count: left, state });
                self.at += u64::from(left);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(stretches: &[(u64, u64, bool)], lba: u64, blocks: u64, block: u32) -> Vec<(u64, u32, u8)> {
        let stretch = |&(start, len, is_data): &(u64, u64, bool)| Stretch { start, len, is_data };
        let stretches: Vec<Stretch> = stretches.iter().map(stretch).collect();
        let descriptors = of_stretches(&stretches, lba, blocks, block);
        let mut at = lba;
        for one in &descriptors {
            assert_eq!(one.lba, at, "a gap");
            at += u64::from(one.count);
        }
        descriptors.iter().map(|one| (one.lba, one.count, one.state as u8)).collect()
    }

    #[test]
    fn only_whole_blocks_in_holes_are_deallocated() {
        assert_eq!(told(&[(0, 4096, true), (4096, 4096, false)], 0, 16, 512), [(0, 8, 0), (8, 8, 1)]);
        // Holes that begin and end within a block of 4,096 bytes.
        let stretches = [(0, 1024, true), (1024, 15_360, false), (16_384, 1024, true), (17_408, 7168, false)];
        assert_eq!(told(&stretches, 0, 6, 4096), [(0, 1, 0), (1, 3, 1), (4, 1, 0), (5, 1, 1)]);
        assert_eq!(told(&[(0, 1024, false), (1024, 1024, true)], 0, 1, 4096), [(0, 1, 0)]);
    }

    #[test]
    fn what_is_not_known_is_mapped_and_what_is_long_is_split() {
        assert_eq!(told(&[], 3, 10, 512), [(3, 7, 0)]);
        let blocks = (1u64 << 33) + 5;
        let holes = told(&[(0, blocks * 512, false)], 0, blocks, 512);
        assert_eq!(holes.len(), 3);
        assert!(holes.iter().all(|one| one.2 == 1));
        assert_eq!(told(&[(512, 512, false)], 1, 10, 512), [(1, 1, 1)]);
    }
}
