//! Copying a disk into an image of another format.

use std::path::Path;

use stampede_plugin::{Range, View};

use crate::chain::Chain;
use crate::create::{Draft, make};
use crate::layer::Formats;
use crate::{ChainError, CreateOptions, SegmentKind};

/// Bytes that are read and written at once.
const CHUNK: u64 = 2 << 20;
/// A run of zeros of so many bytes is left out.
const SPARSE: usize = 4096;

/// How a disk is copied.
#[derive(Clone, Debug)]
pub struct ConvertOptions {
    /// What it is copied into. Without a size it gets the disk's.
    pub create: CreateOptions,
    /// Which state of the disk.
    pub view: View,
}

/// Copies the disk of a chain into a new image at `path`: zeros take no space there. `progress` hears how many bytes of how many are done.
///
/// # Errors
/// [`ChainError`]; then there is nothing new at `path`.
pub fn convert(
    formats: &dyn Formats,
    source: &mut Chain,
    path: &Path,
    options: &ConvertOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), ChainError> {
    let draft = Draft::new(path, options.create.replace)?;
    let mut create = options.create.clone();
    let size = source.virtual_size_of(formats, options.view)?;
    create.virtual_size.get_or_insert(size);
    let mut target = make(formats, &draft, &create)?;
    target.without_barriers();
    if target.virtual_size() < size {
        let text = format!("a disk of {size} bytes does not fit into one of {}", target.virtual_size());
        return Err(ChainError::Invalid(text));
    }
    // A new image reads as its parent where there is one, and as zeros where there is none.
    let zeros_are_there = create.parent.is_none();
    copy(source, &mut target, options.view, size, zeros_are_there, progress)?;
    target.close()?;
    draft.publish()
}

fn copy(
    source: &mut Chain,
    target: &mut Chain,
    view: View,
    size: u64,
    zeros_are_there: bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), ChainError> {
    let mut buffer = vec![0; CHUNK as usize];
    let mut at = 0;
    while at < size {
        progress(at, size);
        let range = Range { offset: at, length: CHUNK.min(size - at) };
        at = range.end();
        if zeros_are_there && source.is_zero(view, range)? {
            continue;
        }
        let part = &mut buffer[..range.length as usize];
        source.read(view, range.offset, part)?;
        for (start, length) in stretches(part, zeros_are_there) {
            target.write(range.offset + start as u64, &part[start..start + length])?;
        }
    }
    progress(size, size);
    Ok(())
}

/// The stretches of a chunk that are written: all of it, or all that is not zeros.
fn stretches(chunk: &[u8], zeros_are_there: bool) -> Vec<(usize, usize)> {
    if !zeros_are_there {
        return vec![(0, chunk.len())];
    }
    let mut stretches: Vec<(usize, usize)> = Vec::new();
    for (number, part) in chunk.chunks(SPARSE).enumerate() {
        if part.iter().all(|&byte| byte == 0) {
            continue;
        }
        match stretches.last_mut() {
            Some((start, length)) if *start + *length == number * SPARSE => *length += part.len(),
            _ => stretches.push((number * SPARSE, part.len())),
        }
    }
    stretches
}

impl Chain {
    /// Whether a range is known to be zeros without looking at data.
    fn is_zero(&mut self, view: View, range: Range) -> Result<bool, ChainError> {
        if view != View::Active {
            return Ok(false);
        }
        Ok(self.segments(range)?.iter().all(|segment| segment.kind == SegmentKind::Zero))
    }

    /// The size of the disk in a state of it, in bytes.
    fn virtual_size_of(&mut self, formats: &dyn Formats, view: View) -> Result<u64, ChainError> {
        let View::Snapshot(number) = view else { return Ok(self.virtual_size()) };
        let report = self.job(formats, stampede_plugin::Job::SnapshotList, &mut |_, _| ())?;
        match report.snapshots.get(number as usize) {
            Some(snapshot) => Ok(snapshot.virtual_size),
            None => Err(ChainError::Invalid(format!("there is no snapshot {number}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::stretches;

    #[test]
    fn zeros_are_left_out_in_whole_parts() {
        let mut chunk = vec![0; 5 * 4096 + 512];
        assert_eq!(stretches(&chunk, true), vec![]);
        chunk[4096 + 7] = 1;
        chunk[2 * 4096] = 1;
        chunk[5 * 4096 + 1] = 1;
        assert_eq!(stretches(&chunk, true), vec![(4096, 8192), (5 * 4096, 512)]);
        assert_eq!(stretches(&chunk, false), vec![(0, chunk.len())]);
    }
}
