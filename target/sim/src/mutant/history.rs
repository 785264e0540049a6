//! What a mutant remembers of a file's past content, to return it when it should not.

use stampede_ring::FileId;
use std::collections::BTreeMap;

const SECTOR: usize = 512;

/// The content of written sectors before their last write, as far as it was seen.
#[derive(Default)]
pub(super) struct History {
    /// By file and sector number.
    sectors: BTreeMap<(FileId, u64), Past>,
}

/// What one sector held.
struct Past {
    /// Before the last write, if that is known.
    before: Option<Box<[u8]>>,
    /// After it.
    last: Box<[u8]>,
}

impl History {
    /// Notes that a write of `bytes` at byte `offset` went by.
    pub(super) fn write(&mut self, file: FileId, offset: u64, bytes: &[u8]) {
        for (index, sector) in bytes.chunks_exact(SECTOR).enumerate() {
            let place = (file, offset / SECTOR as u64 + index as u64);
            let before = self.sectors.remove(&place).map(|past| past.last);
            self.sectors.insert(place, Past { before, last: sector.into() });
        }
    }

    /// Puts old content over what was read; returns whether anything changed.
    pub(super) fn make_stale(&self, file: FileId, offset: u64, bytes: &mut [u8]) -> bool {
        let mut changed = false;
        for (index, sector) in bytes.chunks_exact_mut(SECTOR).enumerate() {
            let place = (file, offset / SECTOR as u64 + index as u64);
            if let Some(Past { before, last }) = self.sectors.get(&place)
                && *sector == **last
            {
                match before {
                    Some(before) => sector.copy_from_slice(before),
                    None => sector.fill(0),
                }
                changed |= *sector != **last;
            }
        }
        changed
    }
}
