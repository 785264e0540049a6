//! What the parameter lists of all third-party copy commands share.

use super::limits::RANGES_MAX;
use crate::cdb::{be16, be32, be64};
use crate::sense::{PARAMETER_LIST_LENGTH_ERROR, Sense};
use crate::{Blocks, Device};
use smallvec::SmallVec;

/// The parameter list, as long as its CDB says (PARAMETER LIST LENGTH, bytes 10 to 13 of operation code 83h).
///
/// # Errors
/// PARAMETER LIST LENGTH ERROR when the initiator gave less than it said, or more than `most` bytes.
pub(super) fn parameter_list<'a>(cdb: &[u8; 16], param: &'a [u8], most: usize) -> Result<&'a [u8], Sense> {
    let length = be32(cdb, 10) as usize;
    if length > most {
        return Err(PARAMETER_LIST_LENGTH_ERROR);
    }
    param.get(..length).ok_or(PARAMETER_LIST_LENGTH_ERROR)
}

/// Ranges of blocks, in the order of their command.
pub(super) type Ranges = SmallVec<[Blocks; 4]>;

/// The block device range descriptors behind a list length field at `at` (SBC-3 5.19.4); they must lie inside the
/// capacity and not overlap. Empty ones are left out.
pub(super) fn ranges(list: &[u8], at: usize, device: &Device) -> Result<Ranges, Sense> {
    const DESCRIPTOR: usize = 16;
    let field = Sense::invalid_parameter(at as u16, None);
    let bytes = usize::from(be16(list, at));
    let descriptors = list.get(at + 2..at + 2 + bytes).ok_or(field)?;
    if !(DESCRIPTOR..=RANGES_MAX * DESCRIPTOR).contains(&bytes) {
        return Err(field);
    }
    let mut ranges = Ranges::new();
    for (index, descriptor) in descriptors.chunks_exact(DESCRIPTOR).enumerate() {
        let here = (at + 2 + index * DESCRIPTOR) as u16;
        let range = Blocks { lba: be64(descriptor, 0), count: be32(descriptor, 8) };
        let end = range.lba.checked_add(u64::from(range.count));
        if end.is_none_or(|end| end > device.config().blocks) {
            return Err(crate::sense::LBA_OUT_OF_RANGE.with_parameter_field(here, None));
        }
        if range.count == 0 {
            continue;
        }
        if ranges.iter().any(|other| overlap(*other, range)) {
            return Err(Sense::invalid_parameter(here, None));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

/// Whether two ranges have a block in common.
pub(super) fn overlap(a: Blocks, b: Blocks) -> bool {
    a.lba < b.lba.saturating_add(u64::from(b.count)) && b.lba < a.lba.saturating_add(u64::from(a.count))
}

/// Blocks in all ranges.
pub(super) fn total(ranges: &[Blocks]) -> u64 {
    ranges.iter().map(|range| u64::from(range.count)).sum()
}
