//! What the tests of chains share: the format plugins as libraries, and a folder.
#![allow(dead_code, clippy::unwrap_used, reason = "tests, of which each file uses its part")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use stampede_chain::{Chain, ChainError, CreateOptions, Formats, OpenOptions, ParentOptions, Roots, create};
use stampede_plugin::{Bounds, Checked, Format, Mode};
use stampede_ring::file::OpenFileError;
use tempfile::TempDir;

/// The format plugins, not in a sandbox.
pub(crate) struct Libraries;

impl Formats for Libraries {
    fn instance(&self, format: &str, image: &Path) -> Option<Result<Box<dyn Format>, String>> {
        let found: Box<dyn Format> = match format {
            "raw" => Box::new(stampede_format_raw::Raw::default()),
            "qcow2" => Box::new(stampede_format_qcow2::Qcow2::default()),
            "vhd" => Box::new(stampede_format_vhd::Vhd::default()),
            _ => return None,
        };
        let name = format!("plugin {format}, image {}", image.display());
        Some(Ok(Box::new(Checked::new(found, name, Bounds::default()))))
    }

    fn names(&self) -> Vec<String> {
        vec!["raw".into(), "qcow2".into(), "vhd".into()]
    }
}

/// A folder that goes with the test.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn create(&self, name: &str, format: &str, virtual_size: u64) -> PathBuf {
        let path = self.path(name);
        create(&Libraries, &path, &plain(format, Some(virtual_size))).unwrap();
        path
    }

    /// The names in the folder, drafts too.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// An image with no options and no parent.
pub(crate) fn plain(format: &str, virtual_size: Option<u64>) -> CreateOptions {
    CreateOptions { format: format.into(), virtual_size, options: vec![], parent: None, replace: false }
}

pub(crate) fn options(path: &Path, format: &str, mode: Mode) -> OpenOptions {
    OpenOptions {
        mode,
        format: format.into(),
        roots: Roots::default().with_folder_of(path),
        parent_format: None,
        parents: true,
        any_parent: false,
        lock: true,
    }
}

/// Opens an image. What is locked is tried again for a second: a program that another test is just starting may hold, until it is
/// started, a copy of a descriptor that was closed here.
pub(crate) fn open(path: &Path, format: &str, mode: Mode) -> Result<Chain, ChainError> {
    for _ in 0..20 {
        match Chain::open(&Libraries, path, &options(path, format, mode)) {
            Err(ChainError::Open(OpenFileError::Locked { .. })) => {
                std::thread::sleep(Duration::from_millis(50))
            }
            opened => return opened,
        }
    }
    Chain::open(&Libraries, path, &options(path, format, mode))
}

/// Bytes that differ from place to place and from seed to seed.
pub(crate) fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(1..)).take(length).collect()
}

/// A child of `parent`, in the same format.
pub(crate) fn child(parent: &Path, format: &str) -> CreateOptions {
    child_of(parent, format, format)
}

/// A child of a parent of another format.
pub(crate) fn child_of(parent: &Path, parent_format: &str, format: &str) -> CreateOptions {
    let roots = Roots::default().with_folder_of(parent);
    let parent = ParentOptions { path: parent.to_path_buf(), format: parent_format.into(), roots };
    CreateOptions { parent: Some(parent), ..plain(format, None) }
}
