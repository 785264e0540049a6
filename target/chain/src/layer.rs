//! One image of a chain: its files, its plugin's instance, and what is known of it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use stampede_image::mapped::{ExtentMap, Metadata, PAGE, PageKey, Piece};
use stampede_plugin::{Extent, FileId, Format, Halt, Mode, OpenRequest, Opened, Outcome, Pages, Range, View};
use stampede_ring::file::{Access, Identity, OpenConfig, OpenedFile, open_with};

use crate::{ChainError, Roots};

/// Pages of metadata that a layer keeps.
const PAGES_MAX: usize = 16 << 10;
/// Extents that a layer keeps.
const EXTENTS_MAX: usize = 64 << 10;
/// Extents that a plugin is asked for at once.
const EXTENTS_AT_ONCE: u32 = 256;
/// Plans that one recovery may take.
const RECOVERIES_MAX: u32 = 1 << 16;
/// Files that one image may have.
const FILES_MAX: usize = 64;

/// Where plugins come from.
pub trait Formats {
    /// A fresh instance of the plugin of this format for an image, its answers judged ([`stampede_plugin::Checked`]), or why there
    /// can be none just now; `None` when there is no such plugin.
    fn instance(&self, format: &str, image: &Path) -> Option<Result<Box<dyn Format>, String>>;
    /// The formats that there are.
    fn names(&self) -> Vec<String>;
}

/// How a chain is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// What for. Parents are always opened to read.
    pub mode: Mode,
    /// The format of the image that is named.
    pub format: String,
    /// Beneath which folders its parents and data files may lie.
    pub roots: Roots,
    /// The format of a parent whose child does not say it.
    pub parent_format: Option<String>,
    /// Whether parents are opened at all: a check of one file, or a new link to a parent that moved, needs none.
    pub parents: bool,
    /// Whether a parent that is another than the image was made on is used all the same.
    pub any_parent: bool,
    /// Whether files are locked against other programs.
    pub lock: bool,
}

/// One image of a chain.
pub(crate) struct Layer {
    pub(crate) path: PathBuf,
    pub(crate) format_name: String,
    pub(crate) files: Vec<LayerFile>,
    pub(crate) format: Box<dyn Format>,
    pub(crate) metadata: Metadata,
    pub(crate) map: ExtentMap,
    pub(crate) opened: Opened,
    pub(crate) mode: Mode,
    /// Whether changes of metadata were made that are not in the files yet.
    pub(crate) barriers: bool,
}

/// One file of an image.
pub(crate) struct LayerFile {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) identity: Identity,
}

impl LayerFile {
    fn open(path: &Path, mode: Mode, lock: bool) -> Result<Self, ChainError> {
        let access = match mode {
            Mode::ReadOnly => Access::ReadOnly,
            Mode::ReadWrite => Access::ReadWrite,
        };
        Ok(Self::from_opened(open_with(path, OpenConfig { access, lock, direct: false })?))
    }

    pub(crate) fn from_opened(opened: OpenedFile) -> Self {
        let (path, identity) = (opened.path().to_path_buf(), opened.traits().identity);
        Self { path, file: OwnedFd::from(opened).into(), identity }
    }

    pub(crate) fn io(&self, what: String) -> impl FnOnce(std::io::Error) -> ChainError + use<> {
        let path = self.path.clone();
        move |source| ChainError::Io { path, what, source }
    }

    /// Reads what there is; zeros beyond the end.
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), ChainError> {
        let mut done = 0;
        while done < into.len() {
            match self.file.read_at(&mut into[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(self.io(format!("reading {} bytes at byte {offset}", into.len()))(error));
                }
            }
        }
        into[done..].fill(0);
        Ok(())
    }

    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), ChainError> {
        let what = format!("writing {} bytes at byte {offset}", bytes.len());
        self.file.write_all_at(bytes, offset).map_err(self.io(what))
    }
}

impl Layer {
    /// Opens one image, with the files that belong to it, and recovers it where it must be.
    pub(crate) fn open(
        formats: &dyn Formats,
        path: &Path,
        format_name: &str,
        mode: Mode,
        options: &OpenOptions,
    ) -> Result<Self, ChainError> {
        let file = LayerFile::open(path, mode, options.lock)?;
        let mut layer = Self::bare(formats, file, format_name, mode)?;
        layer.open_image(&options.roots, options.lock)?;
        layer.recover(formats)?;
        Ok(layer)
    }

    /// Opens an image that its plugin refuses to open, for a check.
    pub(crate) fn open_damaged(
        formats: &dyn Formats,
        path: &Path,
        options: &OpenOptions,
    ) -> Result<Self, ChainError> {
        let file = LayerFile::open(path, options.mode, options.lock)?;
        let mut layer = Self::bare(formats, file, &options.format, options.mode)?;
        match layer.look() {
            Err(ChainError::Plugin { .. }) | Ok(()) => Ok(layer),
            Err(error) => Err(error),
        }
    }

    /// An image with its first file only, in which the plugin has not looked yet.
    pub(crate) fn bare(
        formats: &dyn Formats,
        file: LayerFile,
        format_name: &str,
        mode: Mode,
    ) -> Result<Self, ChainError> {
        let format = instance(formats, &file.path, format_name)?;
        let length = file.identity.len_bytes;
        Ok(Self {
            path: file.path.clone(),
            format_name: format_name.to_string(),
            files: vec![file],
            format,
            metadata: Metadata::new(vec![length], PAGES_MAX),
            map: ExtentMap::new(EXTENTS_MAX),
            opened: nothing_yet(),
            mode,
            barriers: true,
        })
    }

    /// Lets a fresh instance look at the image as it is now, with everything durable.
    pub(crate) fn reopen(&mut self, formats: &dyn Formats) -> Result<(), ChainError> {
        self.format = instance(formats, &self.path, &self.format_name)?;
        let lengths = (0..self.files.len()).map(|file| self.metadata.file_length(file_id(file)));
        self.metadata = Metadata::new(lengths.collect(), PAGES_MAX);
        self.map.clear();
        self.look()
    }

    fn open_image(&mut self, roots: &Roots, lock: bool) -> Result<(), ChainError> {
        loop {
            self.look()?;
            let wanted = self.opened.files.len() + 1;
            if wanted <= self.files.len() {
                return Ok(());
            }
            if wanted > FILES_MAX {
                let why = format!("it wants {wanted} files; an image has {FILES_MAX} at most");
                return Err(ChainError::Chain { path: self.path.clone(), why });
            }
            for index in self.files.len()..wanted {
                self.open_beside(index, roots, lock)?;
            }
            let lengths = self.files.iter().map(|file| file.identity.len_bytes).collect();
            self.metadata = Metadata::new(lengths, PAGES_MAX);
        }
    }

    /// Opens another file that belongs to the image, as the image names it.
    fn open_beside(&mut self, index: usize, roots: &Roots, lock: bool) -> Result<(), ChainError> {
        let hint = self.opened.files[index - 1].clone();
        let refused = |why| ChainError::Refused {
            path: self.path.clone(),
            name: hint.name.clone(),
            what: "its data file",
            why,
        };
        let path = roots.resolve(&self.path, &hint.name).map_err(refused)?;
        let file = LayerFile::open(&path, self.mode, lock)?;
        roots.judge_open(&file.file).map_err(refused)?;
        if self.files.iter().any(|other| other.identity.same_file(&file.identity)) {
            return Err(refused("it is the image itself, or named twice".into()));
        }
        if file.identity.len_bytes < hint.length_min {
            return Err(refused(format!(
                "it has {} bytes, and must have {}",
                file.identity.len_bytes, hint.length_min
            )));
        }
        self.files.push(file);
        Ok(())
    }

    fn look(&mut self) -> Result<(), ChainError> {
        let files = u16::try_from(self.files.len()).unwrap_or(u16::MAX);
        let request = OpenRequest { mode: self.mode, files };
        let opened = self.call(|format, pages| format.open(pages, &request))?;
        self.opened = opened;
        Ok(())
    }

    /// Puts right what an unclean end left, in as many plans as that takes.
    fn recover(&mut self, formats: &dyn Formats) -> Result<(), ChainError> {
        for _ in 0..RECOVERIES_MAX {
            if !self.opened.needs_recovery {
                return Ok(());
            }
            let plan = self.call(|format, pages| format.recover(pages))?;
            if self.mode == Mode::ReadWrite {
                self.carry_out(&plan, None, &mut |_, _, _| Ok(()))?;
                self.flush(true)?;
                self.reopen(formats)?;
            } else {
                // Nothing is written: what the plan says is only seen.
                self.apply(&plan)?;
                self.format = instance(formats, &self.path, &self.format_name)?;
                self.look()?;
            }
        }
        let text = "it needs recovery again each time it was recovered";
        Err(self.plugin_error(stampede_plugin::Fail::new(stampede_plugin::FailKind::Corrupt, text)))
    }

    /// Calls the plugin until it answers, with the pages that it asks for.
    pub(crate) fn call<T>(
        &mut self,
        mut ask: impl FnMut(&mut dyn Format, &mut dyn Pages) -> Outcome<T>,
    ) -> Result<T, ChainError> {
        loop {
            match ask(&mut *self.format, &mut self.metadata) {
                Ok(answer) => {
                    self.metadata.answered();
                    return Ok(answer);
                }
                Err(Halt::Fail(fail)) => {
                    self.metadata.answered();
                    return Err(self.plugin_error(fail));
                }
                // The judge bounds how often a call may ask, and for how much.
                Err(Halt::Need(spans)) => {
                    let missing = self.metadata.missing(&spans);
                    self.supply(&missing)?;
                }
            }
        }
    }

    pub(crate) fn plugin_error(&self, fail: stampede_plugin::Fail) -> ChainError {
        ChainError::Plugin { path: self.path.clone(), format: self.format_name.clone(), fail }
    }

    /// Reads pages of metadata.
    pub(crate) fn supply(&mut self, keys: &[PageKey]) -> Result<(), ChainError> {
        let mut page = [0; PAGE];
        for &key in keys {
            let Some(file) = self.files.get(usize::from(key.file.0)) else { continue };
            file.read(key.index * PAGE as u64, &mut page)?;
            self.metadata.supply(key, &page);
        }
        Ok(())
    }

    /// Where a range of the disk lies, with no gap.
    pub(crate) fn resolve(&mut self, view: View, range: Range) -> Result<Vec<Extent>, ChainError> {
        if view != View::Active {
            return self.ask(view, range);
        }
        let mut extents = Vec::new();
        for piece in self.map.pieces(range) {
            match piece {
                Piece::Known(extent) => extents.push(extent),
                Piece::Unknown(range) => extents.extend(self.ask(view, range)?),
            }
        }
        Ok(extents)
    }

    fn ask(&mut self, view: View, range: Range) -> Result<Vec<Extent>, ChainError> {
        let mut extents = Vec::new();
        let mut at = range.offset;
        while at < range.end() {
            let rest = Range::between(at, range.end());
            let found = self.call(|format, pages| format.resolve(pages, view, rest, EXTENTS_AT_ONCE))?;
            let before = at;
            for extent in found {
                let part = Range::between(at.max(extent.range.offset), extent.range.end().min(range.end()));
                if extent.range.offset > at || part.length == 0 {
                    break;
                }
                if view == View::Active {
                    self.map.insert(extent);
                }
                extents.push(extent.cut(part));
                at = part.end();
            }
            if at == before {
                let text = format!("it does not say where byte {at} of the disk lies");
                return Err(
                    self.plugin_error(stampede_plugin::Fail::new(stampede_plugin::FailKind::Corrupt, text))
                );
            }
        }
        Ok(extents)
    }
}

fn instance(formats: &dyn Formats, path: &Path, format: &str) -> Result<Box<dyn Format>, ChainError> {
    let (path, format) = (path.to_path_buf(), format.to_string());
    match formats.instance(&format, &path) {
        Some(Ok(found)) => Ok(found),
        Some(Err(why)) => Err(ChainError::NoInstance { path, format, why }),
        None => Err(ChainError::NoSuchFormat { path, format, known: formats.names().join(", ") }),
    }
}

/// The number of one of an image's files, of which there are few.
pub(crate) fn file_id(index: usize) -> FileId {
    FileId(u16::try_from(index).unwrap_or(u16::MAX))
}

/// What is known of an image before its plugin has looked at it.
fn nothing_yet() -> Opened {
    Opened {
        virtual_size: 0,
        block_size: 512,
        allocation_unit: 512,
        unmap_unit: 0,
        files: Vec::new(),
        parent: None,
        identity: None,
        metadata: Vec::new(),
        needs_recovery: false,
        warnings: Vec::new(),
    }
}
