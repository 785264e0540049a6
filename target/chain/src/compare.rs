//! Comparing the disks of two chains.

use stampede_plugin::{Range, View};

use crate::chain::Chain;
use crate::{ChainError, SegmentKind};

/// Bytes that are compared at once.
const CHUNK: u64 = 2 << 20;

/// What comparing found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Comparison {
    /// The disks have the same bytes.
    Same,
    /// One disk is longer, and has only zeros behind the other's end.
    SameButLength,
    /// They differ.
    Differs {
        /// The first byte that does.
        offset: u64,
    },
}

/// Compares two disks. `progress` hears how many bytes of how many were compared.
///
/// # Errors
/// [`ChainError`] of reading either.
pub fn compare(
    one: &mut Chain,
    other: &mut Chain,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Comparison, ChainError> {
    let size = one.virtual_size().max(other.virtual_size());
    let (mut left, mut right) = (vec![0; CHUNK as usize], vec![0; CHUNK as usize]);
    let mut at = 0;
    while at < size {
        progress(at, size);
        let range = Range { offset: at, length: CHUNK.min(size - at) };
        at = range.end();
        if is_zero(one, range)? && is_zero(other, range)? {
            continue;
        }
        let length = range.length as usize;
        one.read(View::Active, range.offset, &mut left[..length])?;
        other.read(View::Active, range.offset, &mut right[..length])?;
        let pairs = left[..length].iter().zip(&right[..length]);
        if left[..length] != right[..length]
            && let Some(first) = pairs.into_iter().position(|(left, right)| left != right)
        {
            return Ok(Comparison::Differs { offset: range.offset + first as u64 });
        }
    }
    progress(size, size);
    let same_length = one.virtual_size() == other.virtual_size();
    Ok(if same_length { Comparison::Same } else { Comparison::SameButLength })
}

/// Whether a range is known to be zeros; what is behind the end of a disk is.
fn is_zero(chain: &mut Chain, range: Range) -> Result<bool, ChainError> {
    Ok(chain.segments(range)?.iter().all(|segment| segment.kind == SegmentKind::Zero))
}
