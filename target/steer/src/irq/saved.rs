//! What interrupts' affinities were before they were moved: a file that outlives the process.

use crate::topology::files::Root;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The file's name in the state directory.
pub const SAVED_FILE: &str = "irq-affinity.json";

/// Interrupts cannot be moved or taken back.
#[derive(Debug, thiserror::Error)]
pub enum IrqError {
    /// The file cannot be written or read.
    #[error("{}: cannot {what} what interrupts' affinities were: {source}; make the state directory writable", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What failed.
        what: &'static str,
        /// The answer.
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{}: this is not what stampede wrote: {source}; set the interrupts' affinities by hand \
         (/proc/irq/N/smp_affinity_list) and remove the file",
        path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// The boot during which this was so: a reboot forgets all affinities.
    pub(super) boot_id: String,
    pub(super) interrupts: Vec<SavedIrq>,
}

/// One interrupt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedIrq {
    pub(super) irq: u32,
    /// Its handler: interrupt numbers are given anew when a driver is loaded again.
    pub(super) name: String,
    /// What its affinity was, as the kernel writes it.
    pub(super) before: String,
    /// What it was set to.
    pub(super) after: String,
}

impl Saved {
    pub(super) fn boot_id(root: Root<'_>) -> String {
        root.text("proc/sys/kernel/random/boot_id").unwrap_or_default()
    }

    /// Writes the file whole or not at all, and durably.
    pub(super) fn write(&self, path: &Path) -> Result<(), IrqError> {
        let error = |what| move |source| IrqError::File { path: path.to_owned(), what, source };
        let text = serde_json::to_string_pretty(self)
            .map_err(|source| IrqError::Content { path: path.to_owned(), source })?;
        let beside = path.with_extension("new");
        let write = || {
            let mut file = File::create(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, path)?;
            File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(error("save"))
    }

    /// Reads the file; `None` when there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, IrqError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IrqError::File { path: path.to_owned(), what: "read", source }),
        };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|source| IrqError::Content { path: path.to_owned(), source })
    }

    pub(super) fn remove(path: &Path) -> Result<(), IrqError> {
        match fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(IrqError::File { path: path.to_owned(), what: "remove", source })
            }
            _ => Ok(()),
        }
    }
}
