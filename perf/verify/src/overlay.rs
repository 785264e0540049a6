//! What one machine has written over its golden: which of its writes each block holds.

/// Neighbouring blocks of one write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Extent {
    lba: u64,
    blocks: u32,
    generation: u32,
}

impl Extent {
    fn end(&self) -> u64 {
        self.lba + u64::from(self.blocks)
    }
}

/// The generation of blocks whose content is not known: a write of theirs failed.
pub(crate) const UNKNOWN: u32 = 0;

/// Extents in order that never overlap: 16 bytes for each write that is still to be seen, and for each cut.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Overlay {
    extents: Vec<Extent>,
}

impl Overlay {
    /// `blocks` blocks from `lba` on now hold what write number `generation` wrote. Addresses stay below 2^63.
    pub fn write(&mut self, lba: u64, blocks: u32, generation: u32) {
        let end = lba + u64::from(blocks);
        let first = self.extents.partition_point(|extent| extent.end() <= lba);
        let last = first + self.extents[first..].partition_point(|extent| extent.lba < end);
        let covered = &self.extents[first..last];
        // What sticks out on either side stays.
        let before = covered
            .first()
            .filter(|extent| extent.lba < lba)
            .map(|extent| Extent { blocks: (lba - extent.lba) as u32, ..*extent });
        let behind = covered.last().filter(|extent| extent.end() > end).map(|extent| Extent {
            lba: end,
            blocks: (extent.end() - end) as u32,
            ..*extent
        });
        let new = (blocks > 0).then_some(Extent { lba, blocks, generation });
        self.extents.splice(first..last, before.into_iter().chain(new).chain(behind));
    }

    /// The write that block `lba` holds, none for the golden's, and the block from which on that is another.
    #[must_use]
    pub fn at(&self, lba: u64) -> (Option<u32>, u64) {
        let index = self.extents.partition_point(|extent| extent.end() <= lba);
        match self.extents.get(index) {
            Some(extent) if extent.lba <= lba => (Some(extent.generation), extent.end()),
            Some(extent) => (None, extent.lba),
            None => (None, u64::MAX),
        }
    }

    /// All that was written: first block and number of blocks, in order.
    pub fn written(&self) -> impl Iterator<Item = (u64, u32)> {
        self.extents.iter().map(|extent| (extent.lba, extent.blocks))
    }

    /// Extent number `index`: first block and number of blocks.
    #[must_use]
    pub fn extent(&self, index: usize) -> Option<(u64, u32)> {
        self.extents.get(index).map(|extent| (extent.lba, extent.blocks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_map_of_blocks(writes in prop::collection::vec((0..200_u64, 0..40_u32), 0..60)) {
            let mut overlay = Overlay::default();
            let mut model = [None; 256];
            for (generation, (lba, blocks)) in (1..).zip(writes) {
                overlay.write(lba, blocks, generation);
                model[lba as usize..][..blocks as usize].fill(Some(generation));
            }
            for lba in 0..250 {
                let (generation, end) = overlay.at(lba);
                prop_assert_eq!(generation, model[lba as usize]);
                prop_assert!(end > lba);
                let run = lba as usize..end.min(256) as usize;
                prop_assert!(model[run].iter().all(|found| *found == generation));
            }
            let written: u64 = overlay.written().map(|(_, blocks)| u64::from(blocks)).sum();
            prop_assert_eq!(written as usize, model.iter().flatten().count());
        }
    }
}
