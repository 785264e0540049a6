//! The scratch space that overlays spill to: found or made, measured, locked, all before there are shards.
//!
//! It is never flushed, so its contents mean nothing after the host's next boot. Within one boot the ledger of clones that
//! outlive the process says which blocks are whose ([`crate::kept`]); nothing else in it is looked at that this run has not
//! written.

use crate::config::{ByteSize, Config};
use stampede_image::scratch::BLOCK;
use stampede_ring::file::{self, Access, OpenFileError, OpenedFile};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The smallest space that is of use, in bytes: a few writes of each of some shards.
pub const SCRATCH_MIN: u64 = 16 << 20;

/// Why there is no scratch space.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// It cannot be opened.
    #[error("scratch: {0}")]
    Open(#[from] OpenFileError),
    /// It cannot be made.
    #[error("scratch: {path} cannot be made: {source}", path = path.display())]
    Make {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has not the space.
    #[error("scratch: {path} cannot be given {size} of space: {source}. Free some, or give a smaller --scratch-size", path = path.display())]
    Space {
        /// The path.
        path: PathBuf,
        /// How much.
        size: ByteSize,
        /// Why.
        source: io::Error,
    },
    /// It is of no use.
    #[error("scratch: {path} {why}", path = path.display())]
    Unfit {
        /// The path.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
}

impl ScratchError {
    /// Whether another process has it, perhaps for a moment only.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Open(OpenFileError::Locked { .. }))
    }
}

/// An open scratch space.
#[derive(Debug)]
pub struct ScratchFile {
    file: OpenedFile,
    blocks: u32,
}

impl ScratchFile {
    /// Opens the file or device that the configuration names, if it names one; makes a file that is not there, and gives a
    /// file all of its space.
    ///
    /// # Errors
    /// See [`ScratchError`].
    pub fn open(config: &Config) -> Result<Option<Self>, ScratchError> {
        let Some(path) = &config.scratch else { return Ok(None) };
        if let Some(size) = config.scratch_size {
            make(path, size)?;
        }
        let file = file::open(path, Access::ReadWrite)?;
        let traits = file.traits();
        let unfit = |why: String| Err(ScratchError::Unfit { path: path.clone(), why });
        let most = config.scratch_size.map_or(traits.len_bytes, |size| size.0);
        if traits.device && traits.len_bytes < most {
            let has = ByteSize(traits.len_bytes);
            return unfit(format!(
                "has {has}, and --scratch-size wants more. Leave that away to use all of it"
            ));
        }
        if most < SCRATCH_MIN {
            let size = ByteSize(most);
            return unfit(format!(
                "has {size}, too little to be of use. Give it 16M at least, as with --scratch-size 64G"
            ));
        }
        if traits.direct.is_some_and(|direct| u64::from(direct.offset) > BLOCK) {
            return unfit("has blocks beyond 4,096 bytes. Give another file or device".to_owned());
        }
        if traits.in_memory {
            tracing::warn!(
                path = %path.display(),
                "the scratch space is in memory (tmpfs): what is spilled there frees none. Give a file on a disk"
            );
        } else if let Some(reason) = &traits.buffered_reason {
            tracing::warn!(path = %path.display(), reason, "the scratch space goes through the page cache");
        }
        let Ok(blocks) = u32::try_from(most / BLOCK) else {
            return unfit("is larger than 16T. Give --scratch-size 15T or less".to_owned());
        };
        if !traits.device {
            let space = |source| ScratchError::Space { path: path.clone(), size: ByteSize(most), source };
            file.allocate(u64::from(blocks) * BLOCK).map_err(space)?;
        }
        Ok(Some(Self { file, blocks }))
    }

    /// The file, of which each shard has a handle.
    #[must_use]
    pub fn file(&self) -> &OpenedFile {
        &self.file
    }

    /// Which file or device it is, as far as can be told: a file that was deleted and made anew is another one.
    #[must_use]
    pub fn stamp(&self) -> [u64; 3] {
        let identity = &self.file.traits().identity;
        let created = std::fs::metadata(self.file.path()).and_then(|metadata| metadata.created()).ok();
        let created = created.filter(|_| !self.file.traits().device);
        let created = created.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        [identity.device, identity.inode, created.map_or(0, |since| since.as_nanos() as u64)]
    }

    /// How many blocks of it are used.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.blocks
    }
}

/// Makes a file that is not there; a file gets its length when it is open and locked.
fn make(path: &Path, size: ByteSize) -> Result<(), ScratchError> {
    if size.0 < SCRATCH_MIN {
        return Ok(());
    }
    // What clones hold is nobody else's to read.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(ScratchError::Make { path: path.to_path_buf(), source: error })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Origin, Partial};

    fn config(path: &Path, size: Option<u64>) -> Config {
        let target = (Origin::Flag("--target"), "a=x,clone=ephemeral".parse().unwrap());
        let (scratch, scratch_size) = (Some(path.to_path_buf()), size.map(ByteSize));
        Partial { scratch, scratch_size, targets: vec![target], ..Partial::default() }.finish().unwrap()
    }

    #[test]
    fn a_file_is_made_whole_and_private_and_found_again() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scratch");
        let scratch = ScratchFile::open(&config(&path, Some(32 << 20))).unwrap().unwrap();
        assert_eq!(scratch.blocks(), 8192);
        let made = std::fs::metadata(&path).unwrap();
        assert_eq!((made.len(), made.mode() & 0o777), (32 << 20, 0o600));
        assert!(made.blocks() * 512 >= 32 << 20, "it has its space");
        assert!(ScratchFile::open(&config(&path, None)).unwrap_err().is_in_use(), "one process alone has it");
        drop(scratch);
        assert_eq!(ScratchFile::open(&config(&path, None)).unwrap().unwrap().blocks(), 8192);
        // A larger file is used in part, a smaller one grows.
        assert_eq!(ScratchFile::open(&config(&path, Some(16 << 20))).unwrap().unwrap().blocks(), 4096);
        assert_eq!(ScratchFile::open(&config(&path, Some(64 << 20))).unwrap().unwrap().blocks(), 16384);
    }

    #[test]
    fn what_cannot_be_scratch_space_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |path: &Path, size| ScratchFile::open(&config(path, size)).unwrap_err().to_string();
        let missing = folder.path().join("missing");
        assert!(refused(&missing, None).contains("missing"));
        assert!(refused(&folder.path().join("no/folder"), Some(1 << 30)).contains("cannot be made"));
        assert!(refused(folder.path(), Some(1 << 30)).contains("a folder"));
        let small = folder.path().join("small");
        std::fs::write(&small, [0; 4096]).unwrap();
        assert!(refused(&small, None).contains("too little"));
        assert!(refused(&small, Some(1 << 61)).contains("16T"));
        assert_eq!(std::fs::metadata(&small).unwrap().len(), 4096, "nothing was changed");
    }
}
