//! What a guest does: reads, writes, zeros, unmaps.

use std::{format, vec, vec::Vec};

use super::{Model, ModelError, overwrite, usize_of, violation};
use crate::{
    Absent, Bitmap, Change, Extent, Fail, FailKind, FileId, Format, Patch, Place, Purpose, Range, View,
};

/// How many extents the model asks for at once: few, so that ranges are resolved in pieces.
const EXTENTS_MAX: u32 = 3;

/// An image beneath another.
pub trait Parent {
    /// The bytes from `offset` on; zeros beyond the end.
    fn read(&self, offset: u64, into: &mut [u8]);
}

impl Parent for Vec<u8> {
    fn read(&self, offset: u64, into: &mut [u8]) {
        into.fill(0);
        let start = usize_of(offset).min(self.len());
        let there = (self.len() - start).min(into.len());
        into[..there].copy_from_slice(&self[start..start + there]);
    }
}

impl<F: Format> Model<F> {
    /// The disk's bytes.
    ///
    /// # Errors
    /// When the plugin refuses, or breaks a rule.
    pub fn read(&mut self, range: Range) -> Result<Vec<u8>, ModelError> {
        self.read_at(View::Active, range.offset, usize_of(range.length))
    }

    /// The bytes of a snapshot's disk.
    ///
    /// # Errors
    /// When the plugin refuses, or breaks a rule.
    pub fn read_view(&mut self, view: View, range: Range) -> Result<Vec<u8>, ModelError> {
        self.read_at(view, range.offset, usize_of(range.length))
    }

    /// Writes data, in place where extents allow it, and by plans elsewhere. Offset and length are multiples of 512.
    ///
    /// # Errors
    /// When the plugin refuses, or breaks a rule.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), ModelError> {
        self.writable()?;
        let whole = Range { offset, length: data.len() as u64 };
        let mut planned = Vec::new();
        for extent in self.resolve(View::Active, whole)? {
            let part = &data[usize_of(extent.range.offset - offset)..][..usize_of(extent.range.length)];
            match extent.place {
                Place::Data { file, offset, in_place: true } => self.put(file, offset, part)?,
                Place::Sparse { file, offset, bitmap, .. } => {
                    self.put(file, offset, part)?;
                    self.set_bits(bitmap, extent.range.length)?;
                }
                _ => planned.push(extent.range),
            }
        }
        if planned.is_empty() {
            return Ok(());
        }
        let planned = merge(&planned);
        let plan = self.call(|format, pages| format.plan_write(pages, &planned, Change::Data))?;
        self.carry_out(&plan, Purpose::Change(&planned, Change::Data), Some((offset, data)))?;
        self.check_map(&plan.map, &planned)
    }

    /// Zeros, or gives space back, by a plan.
    ///
    /// # Errors
    /// When the plugin refuses, or breaks a rule.
    pub fn change(&mut self, range: Range, change: Change) -> Result<(), ModelError> {
        self.writable()?;
        let plan = self.call(|format, pages| format.plan_write(pages, &[range], change))?;
        self.carry_out(&plan, Purpose::Change(&[range], change), None)?;
        self.check_map(&plan.map, if change == Change::Zero { core::slice::from_ref(&range) } else { &[] })
    }

    fn writable(&self) -> Result<(), ModelError> {
        match self.mode {
            crate::Mode::ReadWrite => Ok(()),
            crate::Mode::ReadOnly => {
                Err(Fail::new(FailKind::ReadOnly, "the model was opened read-only").into())
            }
        }
    }

    fn put(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), ModelError> {
        let span = (file, offset, bytes.len() as u64);
        self.judge_with_lengths(|judge, lengths| judge.guest_data(span, lengths))?;
        self.disk.write(file, offset, bytes);
        overwrite(&mut self.current[usize::from(file.0)], offset, bytes);
        self.pending.data_written();
        Ok(())
    }

    /// Marks sectors as there; the host does it, once their data is durable.
    fn set_bits(&mut self, bitmap: Bitmap, length: u64) -> Result<(), ModelError> {
        for number in 0..length.div_ceil(u64::from(bitmap.unit)) {
            let (at, mask) = bitmap.bit(number);
            let Some(&byte) = self.current[usize::from(bitmap.file.0)].get(usize_of(at)) else {
                return violation("a bitmap goes beyond its file");
            };
            if byte & mask == 0 {
                let patch = Patch {
                    id: 0,
                    file: bitmap.file,
                    offset: at,
                    bytes: vec![byte | mask],
                    after: Vec::new(),
                    after_data: true,
                    lazy: false,
                };
                self.patch(None, &patch)?;
            }
        }
        Ok(())
    }

    /// A plan's map says what resolving says, and covers what was to be changed.
    fn check_map(&mut self, map: &[Extent], ranges: &[Range]) -> Result<(), ModelError> {
        for &range in ranges {
            let mut at = range.offset;
            while at < range.end() {
                match map.iter().find(|extent| extent.range.offset <= at && at < extent.range.end()) {
                    Some(extent) => at = extent.range.end(),
                    None => return violation(format!("a plan's map says nothing of byte {at}")),
                }
            }
        }
        for extent in map {
            let size = self.opened.as_ref().map_or(0, |opened| opened.virtual_size);
            let range = Range::between(extent.range.offset, extent.range.end().min(size));
            for found in self.resolve(View::Active, range)? {
                let expected = extent.cut(found.range);
                if found != expected {
                    return violation(format!("a plan's map has {expected:?}, resolving gives {found:?}"));
                }
            }
        }
        Ok(())
    }

    /// Where a range lies: extents cut to it, one after the other.
    pub(super) fn resolve(&mut self, view: View, range: Range) -> Result<Vec<Extent>, ModelError> {
        let mut extents = Vec::new();
        let mut at = range.offset;
        while at < range.end() {
            let rest = Range::between(at, range.end());
            let found = self.call(|format, pages| format.resolve(pages, view, rest, EXTENTS_MAX))?;
            self.judge_with_lengths(|judge, lengths| {
                judge.resolved(&found, (view, rest), EXTENTS_MAX, lengths)
            })?;
            for extent in found {
                let part = Range::between(at, extent.range.end().min(range.end()));
                if part.length > 0 {
                    extents.push(extent.cut(part));
                }
                at = part.end();
                if at >= range.end() {
                    break;
                }
            }
        }
        Ok(extents)
    }

    pub(super) fn read_at(&mut self, view: View, offset: u64, length: usize) -> Result<Vec<u8>, ModelError> {
        let mut bytes = vec![0; length];
        let range = Range { offset, length: length as u64 };
        for extent in self.resolve(view, range)? {
            let into = &mut bytes[usize_of(extent.range.offset - offset)..][..usize_of(extent.range.length)];
            self.read_extent(&extent, into)?;
        }
        Ok(bytes)
    }

    fn read_extent(&self, extent: &Extent, into: &mut [u8]) -> Result<(), ModelError> {
        match extent.place {
            Place::Zero => into.fill(0),
            Place::Parent => self.read_parent(extent.range.offset, into),
            Place::Data { file, offset, .. } => {
                into.copy_from_slice(self.file_bytes(file, offset, into.len())?)
            }
            Place::Packed { codec, file, offset, length, unpacked, skip } => {
                let Some(unpack) = self.unpack else {
                    return violation("the model was given nothing that unpacks");
                };
                let packed = self.file_bytes(file, offset, length as usize)?;
                let whole = unpack(codec, packed, unpacked as usize).map_err(|text| {
                    ModelError::from(Fail::corrupt(file, offset, format!("compressed data: {text}")))
                })?;
                match whole.get(skip as usize..).and_then(|rest| rest.get(..into.len())) {
                    Some(part) => into.copy_from_slice(part),
                    None => return violation("a packed extent is shorter than its range"),
                }
            }
            Place::Sparse { file, offset, bitmap, absent } => {
                self.read_sparse(extent, file, offset, bitmap, absent, into)?
            }
        }
        Ok(())
    }

    fn read_sparse(
        &self,
        extent: &Extent,
        file: FileId,
        offset: u64,
        bitmap: Bitmap,
        absent: Absent,
        into: &mut [u8],
    ) -> Result<(), ModelError> {
        let unit = bitmap.unit as usize;
        for (number, part) in into.chunks_mut(unit).enumerate() {
            let before = (number * unit) as u64;
            let (at, mask) = bitmap.bit(number as u64);
            if self.file_bytes(bitmap.file, at, 1)?[0] & mask != 0 {
                part.copy_from_slice(self.file_bytes(file, offset + before, part.len())?);
            } else if absent == Absent::Parent {
                self.read_parent(extent.range.offset + before, part);
            } else {
                part.fill(0);
            }
        }
        Ok(())
    }

    fn read_parent(&self, offset: u64, into: &mut [u8]) {
        match &self.parent {
            Some(parent) => parent.read(offset, into),
            None => into.fill(0),
        }
    }

    fn file_bytes(&self, file: FileId, offset: u64, length: usize) -> Result<&[u8], ModelError> {
        let bytes = self.current.get(usize::from(file.0)).and_then(|bytes| {
            let start = usize_of(offset);
            bytes.get(start..start.checked_add(length)?)
        });
        bytes.map_or_else(
            || violation(format!("an extent of {length} bytes at byte {offset} is not in file {}", file.0)),
            Ok,
        )
    }
}

/// Ranges one after the other become one.
fn merge(ranges: &[Range]) -> Vec<Range> {
    let mut merged: Vec<Range> = Vec::new();
    for &range in ranges {
        match merged.last_mut() {
            Some(last) if last.end() == range.offset => last.length += range.length,
            _ => merged.push(range),
        }
    }
    merged
}
