//! From a range of the disk to extents (spec: "Cluster mapping").

use alloc::vec::Vec;

use stampede_plugin::{Extent, Halt, Outcome, Place, Range};

use crate::{
    draft::Draft,
    entry::{Entry, Packed, Standard},
    layout::L1Table,
    table::{L2Table, indices, inside},
};

/// How many clusters a call looks at.
const CLUSTERS_MAX: u64 = 1 << 16;

/// A disk to resolve in: the active one, or a snapshot's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disk {
    /// Its L1 table.
    pub(crate) l1: L1Table,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Whether data that nobody else refers to may be written where it is.
    pub(crate) writable: bool,
}

/// The extents of `range`, at most `max` of them (and then perhaps not up to its end). With `partial`, what is known is
/// answered when pages for the rest are missing.
pub(crate) fn resolve(
    draft: &mut Draft<'_>,
    disk: Disk,
    range: Range,
    max: usize,
    partial: bool,
) -> Outcome<Vec<Extent>> {
    let mut walk = Walk { disk, extents: Vec::new(), at: range.offset, max };
    let mut clusters = 0;
    while walk.at < range.end() && walk.extents.len() <= max {
        match walk.table(draft, range.end(), &mut clusters) {
            Ok(()) => {}
            Err(Halt::Need(_)) if partial && !walk.extents.is_empty() => break,
            Err(halt) => return Err(halt),
        }
        if clusters >= CLUSTERS_MAX && partial {
            break;
        }
    }
    walk.extents.truncate(max);
    Ok(walk.extents)
}

struct Walk {
    disk: Disk,
    extents: Vec<Extent>,
    at: u64,
    max: usize,
}

impl Walk {
    /// The part of the range that an L2 table maps.
    fn table(&mut self, draft: &mut Draft<'_>, end: u64, clusters: &mut u64) -> Outcome<()> {
        let layout = draft.layout;
        let (l1_index, first) = indices(&layout, self.at);
        let span = layout.l2_span();
        let table_end = (self.at / span * span).saturating_add(span).min(self.disk.size);
        let Some(table) = draft.l2_table(self.disk.l1, l1_index)? else {
            let place = if layout.backing { Place::Parent } else { Place::Zero };
            self.push(table_end, place);
            return Ok(());
        };
        let wanted = end.min(table_end).div_ceil(layout.cluster()) - self.at / layout.cluster();
        let entry_bytes = layout.entry_bytes();
        draft.reader.load(table.offset + first * entry_bytes, wanted * entry_bytes)?;
        let mut index = first;
        while self.at < end.min(table_end) && self.extents.len() <= self.max {
            self.cluster(draft, table, index)?;
            index += 1;
            *clusters += 1;
        }
        Ok(())
    }

    fn cluster(&mut self, draft: &mut Draft<'_>, table: L2Table, index: u64) -> Outcome<()> {
        let layout = draft.layout;
        let start = self.at / layout.cluster() * layout.cluster();
        let end = start.saturating_add(layout.cluster()).min(self.disk.size);
        match draft.entry(table, index)? {
            Entry::Packed(packed) => self.packed(draft, start, end, packed),
            Entry::Standard(entry) => {
                let step = layout.subcluster();
                while self.at < end {
                    let number = (self.at - start) / step;
                    let stop = (start + (number + 1) * step).min(end);
                    self.subcluster(draft, start, stop, &entry, u32::try_from(number).unwrap_or(0));
                }
            }
        }
        Ok(())
    }

    fn packed(&mut self, draft: &Draft<'_>, start: u64, end: u64, packed: Packed) {
        let layout = draft.layout;
        let narrow = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        let place = Place::Packed {
            codec: layout.codec,
            file: layout.data_id(),
            offset: packed.offset,
            length: narrow(inside(draft, packed)),
            unpacked: narrow(layout.cluster()),
            skip: narrow(self.at - start),
        };
        self.push(end, place);
    }

    fn subcluster(&mut self, draft: &Draft<'_>, start: u64, stop: u64, entry: &Standard, number: u32) {
        let layout = draft.layout;
        let place = match entry.host {
            Some(host) if entry.has(number) => {
                let offset = host + (self.at - start);
                // Where the file ends inside a cluster, the rest is zeros.
                let file_end = draft.data_length() / 512 * 512;
                if offset >= file_end {
                    Place::Zero
                } else {
                    let in_place = self.disk.writable && entry.copied;
                    let stop = stop.min(self.at + (file_end - offset));
                    return self.push(stop, Place::Data { file: layout.data_id(), offset, in_place });
                }
            }
            _ if entry.is_zero(number) || !layout.backing => Place::Zero,
            _ => Place::Parent,
        };
        self.push(stop, place);
    }

    /// Adds the bytes up to `end`, to the last extent where they go on as it does.
    fn push(&mut self, end: u64, place: Place) {
        let range = Range::between(self.at, end);
        self.at = end;
        if let Some(last) = self.extents.last_mut()
            && goes_on(last, place)
        {
            last.range.length += range.length;
            return;
        }
        self.extents.push(Extent { range, place });
    }
}

fn goes_on(last: &Extent, place: Place) -> bool {
    match (last.place, place) {
        (Place::Zero, Place::Zero) | (Place::Parent, Place::Parent) => true,
        (
            Place::Data { file, offset, in_place },
            Place::Data { file: file2, offset: offset2, in_place: in_place2 },
        ) => file == file2 && offset + last.range.length == offset2 && in_place == in_place2,
        _ => false,
    }
}
