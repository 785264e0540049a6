//! Images and their parents: opening and reading.

use std::path::{Path, PathBuf};

use stampede_plugin::{
    Absent, Extent, FailKind, FileId, Mode, Opened, PagesExt, ParentRef, Place, Range, Span, View,
};

use crate::layer::{Formats, Layer, LayerFile, OpenOptions};
use crate::{ChainError, unpack};

/// The most images that a chain may have.
pub const DEPTH_MAX: usize = 64;

/// An image and its parents, open.
pub struct Chain {
    pub(crate) layers: Vec<Layer>,
}

impl Chain {
    /// Opens an image, and its parents.
    ///
    /// # Errors
    /// [`ChainError`]; nothing stays open.
    pub fn open(formats: &dyn Formats, path: &Path, options: &OpenOptions) -> Result<Self, ChainError> {
        let mut layers = vec![Layer::open(formats, path, &options.format, options.mode, options)?];
        while options.parents
            && let Some(child) = layers.last()
            && let Some(parent) = child.opened.parent.clone()
        {
            if layers.len() == DEPTH_MAX {
                let why = format!("the chain has more than {DEPTH_MAX} images; convert it into one");
                return Err(ChainError::Chain { path: child.path.clone(), why });
            }
            let format = parent.format.clone().or_else(|| options.parent_format.clone());
            let Some(format) = format else {
                return Err(ChainError::ParentFormat { path: child.path.clone() });
            };
            let found = find_parent(child, &parent, options)?;
            let layer = Layer::open(formats, &found, &format, Mode::ReadOnly, options)?;
            judge_parent(&layers, &layer, &parent, options)?;
            layers.push(layer);
        }
        Ok(Self { layers })
    }

    /// Opens an image alone to check it: one that contradicts itself so much that it cannot be opened otherwise, too. Its disk can then not be
    /// read.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn open_to_check(
        formats: &dyn Formats,
        path: &Path,
        options: &OpenOptions,
    ) -> Result<Self, ChainError> {
        let alone = OpenOptions { parents: false, ..options.clone() };
        match Self::open(formats, path, &alone) {
            Err(ChainError::Plugin { fail, .. }) if fail.kind == FailKind::Corrupt => {
                Ok(Self { layers: vec![Layer::open_damaged(formats, path, &alone)?] })
            }
            opened => opened,
        }
    }

    /// What the image itself says.
    pub fn opened(&self) -> &Opened {
        &self.layers[0].opened
    }

    /// The size of its disk, in bytes.
    pub fn virtual_size(&self) -> u64 {
        self.opened().virtual_size
    }

    /// Its path and those of its parents.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.layers.iter().map(|layer| layer.path.as_path())
    }

    /// Reads the disk from byte `offset` on, a multiple of 512, as `into` is long. Zeros beyond its end.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn read(&mut self, view: View, offset: u64, into: &mut [u8]) -> Result<(), ChainError> {
        read(&mut self.layers, view, offset, into)
    }
}

/// Reads through the layers: `layers[0]` is the uppermost. None: zeros.
pub(crate) fn read(layers: &mut [Layer], view: View, offset: u64, into: &mut [u8]) -> Result<(), ChainError> {
    let Some((top, parents)) = layers.split_first_mut() else {
        into.fill(0);
        return Ok(());
    };
    read_through(top, parents, view, offset, into)
}

/// As [`read`], with the uppermost layer apart.
pub(crate) fn read_through(
    top: &mut Layer,
    parents: &mut [Layer],
    view: View,
    offset: u64,
    into: &mut [u8],
) -> Result<(), ChainError> {
    let size = top.opened.virtual_size;
    let there = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX).min(into.len());
    into[there..].fill(0);
    if there == 0 {
        return Ok(());
    }
    for extent in top.resolve(view, Range { offset, length: there as u64 })? {
        // The extents are cut to the range, whose length is one of memory.
        let start = (extent.range.offset - offset) as usize;
        let part = &mut into[start..start + extent.range.length as usize];
        read_extent(top, parents, &extent, part)?;
    }
    Ok(())
}

fn read_extent(
    top: &mut Layer,
    parents: &mut [Layer],
    extent: &Extent,
    into: &mut [u8],
) -> Result<(), ChainError> {
    match extent.place {
        Place::Zero => into.fill(0),
        Place::Parent => read(parents, View::Active, extent.range.offset, into)?,
        Place::Data { file, offset, .. } => file_of(top, file)?.read(offset, into)?,
        Place::Packed { codec, file, offset, length, unpacked, skip } => {
            let file = file_of(top, file)?;
            let mut packed = vec![0; length as usize];
            file.read(offset, &mut packed)?;
            let error = |why| ChainError::Packed { path: file.path.clone(), offset, why };
            let whole = unpack(codec, &packed, unpacked).map_err(error)?;
            let skip = skip as usize;
            let part = whole.get(skip..skip.saturating_add(into.len()));
            into.copy_from_slice(part.ok_or_else(|| error("it is shorter than what refers to it".into()))?);
        }
        Place::Sparse { file, offset, bitmap, absent } => {
            let unit = bitmap.unit.max(512) as usize;
            for (number, part) in into.chunks_mut(unit).enumerate() {
                let (at, mask) = bitmap.bit(number as u64);
                let before = (number * unit) as u64;
                if byte_of_metadata(top, bitmap.file, at)? & mask != 0 {
                    file_of(top, file)?.read(offset + before, part)?;
                } else if absent == Absent::Parent {
                    read(parents, View::Active, extent.range.offset + before, part)?;
                } else {
                    part.fill(0);
                }
            }
        }
    }
    Ok(())
}

/// A byte of a bitmap, as it is with what is not durable yet.
pub(crate) fn byte_of_metadata(layer: &mut Layer, file: FileId, at: u64) -> Result<u8, ChainError> {
    let span = Span { file, offset: at, length: 1 };
    let bytes = layer.call(|_, pages| pages.bytes(span))?;
    Ok(bytes.first().copied().unwrap_or(0))
}

pub(crate) fn file_of(layer: &Layer, file: FileId) -> Result<&LayerFile, ChainError> {
    layer.files.get(usize::from(file.0)).ok_or_else(|| {
        ChainError::Invalid(format!(
            "{}: its plugin speaks of file {}, which it has not",
            layer.path.display(),
            file.0
        ))
    })
}

/// The parent's file, by the first of its names that leads to one.
fn find_parent(child: &Layer, parent: &ParentRef, options: &OpenOptions) -> Result<PathBuf, ChainError> {
    let mut tried = String::new();
    for hint in &parent.hints {
        match options.roots.resolve(&child.path, &hint.name) {
            Ok(path) => return Ok(path),
            Err(why) => tried.push_str(&format!("Its {} name {:?}: {why}. ", hint.kind, hint.name)),
        }
    }
    if tried.is_empty() {
        tried.push_str("It has no name of it.");
    }
    Err(ChainError::ParentMissing { path: child.path.clone(), tried: tried.trim_end().into() })
}

/// Refuses a loop, a file outside the roots, and a parent that is another than the child was made on.
fn judge_parent(
    layers: &[Layer],
    found: &Layer,
    wanted: &ParentRef,
    options: &OpenOptions,
) -> Result<(), ChainError> {
    let Some(child) = layers.last() else { return Ok(()) };
    for file in &found.files {
        options.roots.judge_open(&file.file).map_err(|why| ChainError::Refused {
            path: child.path.clone(),
            name: file.path.display().to_string(),
            what: "its parent",
            why,
        })?;
    }
    let known = layers.iter().flat_map(|layer| &layer.files);
    if known.into_iter().any(|known| found.files.iter().any(|file| file.identity.same_file(&known.identity)))
    {
        let why = format!("the chain is a loop: {} is in it already", found.path.display());
        return Err(ChainError::Chain { path: child.path.clone(), why });
    }
    let other = |what: String| {
        Err(ChainError::OtherParent { path: child.path.clone(), parent: found.path.clone(), what })
    };
    if options.any_parent {
        return Ok(());
    }
    if let (Some(wanted), Some(is)) = (&wanted.identity, &found.opened.identity)
        && wanted.id != is.id
    {
        return other("its unique id differs".into());
    }
    match wanted.virtual_size {
        Some(size) if size != found.opened.virtual_size => {
            other(format!("its disk has {} bytes instead of {size}", found.opened.virtual_size))
        }
        _ => Ok(()),
    }
}
