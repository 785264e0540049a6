//! Rules of extents.

use alloc::format;

use super::{Judge, Verdict, within};
use crate::{Bitmap, Extent, FileId, Mode, Place, Range, View};

impl Judge {
    /// Judges the answer of `resolve`.
    ///
    /// # Errors
    /// When there are too few or too many, they leave a gap, or one is outside its file or, where it may be written in place, over metadata.
    pub fn resolved(
        &self,
        extents: &[Extent],
        (view, range): (View, Range),
        extents_max: u32,
        lengths: &dyn Fn(FileId) -> u64,
    ) -> Verdict {
        if extents.is_empty() || extents.len() > extents_max as usize {
            return Err(format!("{} extents; 1 to {extents_max} were asked for", extents.len()));
        }
        let mut at = range.offset;
        for (number, extent) in extents.iter().enumerate() {
            let begins = if number == 0 { extent.range.offset <= at } else { extent.range.offset == at };
            if !begins || extent.range.end() <= at {
                return Err(format!("{:?} does not go on at byte {at} of the disk", extent.range));
            }
            self.extent(extent, view == View::Active && self.mode == Mode::ReadWrite, lengths)?;
            at = extent.range.end();
        }
        Ok(())
    }

    /// Judges an extent.
    pub(super) fn extent(&self, extent: &Extent, writable: bool, lengths: &dyn Fn(FileId) -> u64) -> Verdict {
        let Range { offset: start, length } = extent.range;
        if length == 0 || !(start | length).is_multiple_of(512) || start.checked_add(length).is_none() {
            return Err(format!("an extent of {length} bytes at byte {start} of the disk"));
        }
        // A last allocation unit may go beyond the disk's end, and then beyond the file's.
        let needed = match self.virtual_size {
            0 => length,
            size => Range::between(start, extent.range.end().min(size.max(start))).length,
        };
        match extent.place {
            Place::Zero | Place::Parent => Ok(()),
            Place::Data { file, offset, in_place } => {
                self.in_file("data", file, offset, needed, lengths)?;
                if in_place && writable {
                    self.off_metadata("data to be overwritten", file, offset, needed)
                } else {
                    Ok(())
                }
            }
            Place::Packed { file, offset, length: packed, unpacked, skip, .. } => {
                self.in_file("compressed data", file, offset, u64::from(packed), lengths)?;
                let gives = u64::from(skip).saturating_add(needed);
                if packed == 0 || unpacked > self.bounds.unpacked_bytes_max || gives > u64::from(unpacked) {
                    return Err(format!(
                        "{packed} compressed bytes that give {unpacked}, of which {needed} from byte {skip} on are the extent's"
                    ));
                }
                Ok(())
            }
            Place::Sparse { file, offset, bitmap, .. } => {
                self.in_file("data", file, offset, needed, lengths)?;
                self.bitmap(bitmap, needed, lengths)?;
                if writable {
                    self.off_metadata("data to be overwritten", file, offset, needed)
                } else {
                    Ok(())
                }
            }
        }
    }

    fn bitmap(&self, bitmap: Bitmap, covered: u64, lengths: &dyn Fn(FileId) -> u64) -> Verdict {
        if bitmap.unit == 0 || !bitmap.unit.is_multiple_of(512) || bitmap.first_bit > 7 {
            return Err(format!("{bitmap:?}: no such bitmap"));
        }
        let bits = covered.div_ceil(u64::from(bitmap.unit)) + u64::from(bitmap.first_bit);
        self.in_file("a bitmap", bitmap.file, bitmap.offset, bits.div_ceil(8), lengths)
    }

    /// Refuses what is not inside one of the image's files.
    pub(super) fn in_file(
        &self,
        what: &str,
        file: FileId,
        offset: u64,
        length: u64,
        lengths: &dyn Fn(FileId) -> u64,
    ) -> Verdict {
        if file.0 >= self.files {
            return Err(format!("{what} in file {}, of {}", file.0, self.files));
        }
        let whole = lengths(file);
        if within(offset, length, whole) {
            return Ok(());
        }
        Err(format!("{what}: {length} bytes at byte {offset} of file {}, which has {whole}", file.0))
    }
}
