//! The image files of a configuration: opened, locked, and checked against each other.

use crate::config::{CloneKind, Config, TargetConfig};
use stampede_image::golden::{Change, FileKey, GoldenIdentity, Use, UseConflict, UseTable};
use stampede_ring::file::{self, Access, Identity, OpenFileError, OpenedFile};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// An image that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It cannot be opened.
    #[error("target `{target}`: {source}")]
    Open {
        /// The target.
        target: String,
        /// Why.
        source: OpenFileError,
    },
    /// It is used in another way by another target.
    #[error("{0}")]
    Conflict(#[from] UseConflict),
    /// There is nothing in it.
    #[error("target `{target}`: {path} is empty. Make a blank disk with `truncate -s 8G {path}`, or name another image", path = path.display())]
    Empty {
        /// The target.
        target: String,
        /// The file.
        path: PathBuf,
    },
    /// Its length is not a whole number of blocks.
    #[error(
        "target `{target}`: {path} has {bytes} bytes, which is not a multiple of {block}. If it is a raw image, lengthen it with \
         `truncate -s %{block} {path}`; other formats are not supported yet",
        path = path.display()
    )]
    Length {
        /// The target.
        target: String,
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The target's logical block length.
        block: u32,
    },
}

impl ImageError {
    /// Whether another process has the file, perhaps for a moment only.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        let Self::Open { source, .. } = self else { return false };
        matches!(source, OpenFileError::Locked { .. } | OpenFileError::DeviceBusy { .. })
    }
}

/// All images, each file open once however many targets use it.
#[derive(Debug)]
pub struct Images {
    files: Vec<OpenedFile>,
    /// For each target of the configuration its file's place.
    by_target: Vec<usize>,
}

impl Images {
    /// Opens and locks the images of all targets.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn open(config: &Config) -> Result<Self, ImageError> {
        let mut uses = UseTable::new();
        let mut images = Self { files: Vec::new(), by_target: Vec::new() };
        let mut keys: Vec<Option<FileKey>> = Vec::new();
        for target in &config.targets {
            let (wanted, access) = match target.ro || target.clone == CloneKind::Ephemeral {
                true => (Use::Shared, Access::ReadOnly),
                false => (Use::Writable, Access::ReadWrite),
            };
            // Our own locks would keep ourselves out, with a message that blames another program.
            let key = key_of(&target.path);
            if let Some(key) = key {
                uses.open(key, wanted, &format!("target `{}`", target.name))?;
            }
            if let Some(at) = keys.iter().position(|other| key.is_some() && *other == key) {
                if let Some(opened) = images.files.get(at) {
                    check_length(target, opened.traits().len_bytes)?;
                }
                images.by_target.push(at);
                continue;
            }
            let opened = file::open(&target.path, access)
                .map_err(|source| ImageError::Open { target: target.name.clone(), source })?;
            check_length(target, opened.traits().len_bytes)?;
            images.by_target.push(images.files.len());
            images.files.push(opened);
            keys.push(key);
        }
        Ok(images)
    }

    /// The files, each once.
    #[must_use]
    pub fn files(&self) -> &[OpenedFile] {
        &self.files
    }

    /// The place among [`Images::files`] of a target's image; targets count as in the configuration.
    #[must_use]
    pub fn file_of(&self, target: usize) -> Option<usize> {
        self.by_target.get(target).copied()
    }
}

/// Opens and locks the image of a plain target that comes to those that are served, whose images are `present` with
/// their users' names.
///
/// # Errors
/// See [`ImageError`].
pub(crate) fn open_beside<'a>(
    target: &TargetConfig,
    present: impl Iterator<Item = (&'a OpenedFile, String)>,
) -> Result<OpenedFile, ImageError> {
    let mut uses = UseTable::new();
    for (file, user) in present {
        let traits = file.traits();
        let how = if traits.writable { Use::Writable } else { Use::Shared };
        let key = FileKey { device: traits.identity.device, inode: traits.identity.inode };
        // They were checked against each other when they came.
        let _ = uses.open(key, how, &user);
    }
    let (wanted, access) = match target.ro {
        true => (Use::Shared, Access::ReadOnly),
        false => (Use::Writable, Access::ReadWrite),
    };
    if let Some(key) = key_of(&target.path) {
        uses.open(key, wanted, &format!("target `{}`", target.name))?;
    }
    let opened = file::open(&target.path, access)
        .map_err(|source| ImageError::Open { target: target.name.clone(), source })?;
    check_length(target, opened.traits().len_bytes)?;
    Ok(opened)
}

/// The file that a path names now, if it names one.
fn key_of(path: &Path) -> Option<FileKey> {
    let found = std::fs::metadata(path).ok()?;
    Some(match found.file_type().is_block_device() {
        true => FileKey { device: found.rdev(), inode: 0 },
        false => FileKey { device: found.dev(), inode: found.ino() },
    })
}

fn check_length(target: &TargetConfig, bytes: u64) -> Result<(), ImageError> {
    let (name, path) = (target.name.clone(), target.path.clone());
    let block = target.block_bytes();
    match bytes {
        0 => Err(ImageError::Empty { target: name, path }),
        _ if !bytes.is_multiple_of(u64::from(block)) => {
            Err(ImageError::Length { target: name, path, bytes, block })
        }
        _ => Ok(()),
    }
}

/// In what a golden differs from what it was when it was opened.
pub(crate) fn golden_change(golden: &OpenedFile) -> Option<Change> {
    match golden.reidentify() {
        Ok(now) => identity(&golden.traits().identity).changed(&identity(&now)),
        // A file that cannot be looked at any more is not the one that was.
        Err(_) => Some(Change::Replaced),
    }
}

/// What a golden was when it was opened.
pub(crate) fn golden_identity(golden: &OpenedFile) -> GoldenIdentity {
    identity(&golden.traits().identity)
}

fn identity(file: &Identity) -> GoldenIdentity {
    GoldenIdentity {
        device: file.device,
        inode: file.inode,
        len_bytes: file.len_bytes,
        mtime_ns: file.modified_ns,
        generation: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Origin, Partial};
    use std::fs;
    use std::io::Write;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            for (name, bytes) in
                [("a.img", 4096), ("b.img", 8192), ("empty.img", 0), ("odd.img", 1000), ("half.img", 6144)]
            {
                fs::write(folder.0.path().join(name), vec![1; bytes]).unwrap();
            }
            folder
        }

        fn open(&self, targets: &[&str]) -> Result<Images, ImageError> {
            let parse = |text: &&str| {
                let text = text.replacen('=', &format!("={}/", self.0.path().display()), 1);
                (Origin::Flag("--target"), text.parse().unwrap())
            };
            let partial = Partial { targets: targets.iter().map(parse).collect(), ..Partial::default() };
            Images::open(&partial.finish().unwrap())
        }
    }

    #[test]
    fn one_golden_of_several_targets_is_opened_once() {
        let folder = Folder::new();
        let images = folder
            .open(&["x=a.img,clone=ephemeral", "d=b.img", "y=a.img,clone=ephemeral", "r=a.img,ro"])
            .unwrap();
        assert_eq!(images.files().len(), 2);
        let places: Vec<_> = (0..5).map(|target| images.file_of(target)).collect();
        assert_eq!(places, [Some(0), Some(1), Some(0), Some(0), None]);
        assert!(!images.files()[0].traits().writable);
    }

    #[test]
    fn a_golden_in_use_cannot_be_opened_for_writing() {
        let folder = Folder::new();
        std::os::unix::fs::symlink("a.img", folder.0.path().join("link.img")).unwrap();
        for targets in
            [["x=a.img,clone=ephemeral", "d=a.img"], ["d=link.img", "x=a.img,ro"], ["d=a.img", "e=link.img"]]
        {
            let error = folder.open(&targets).unwrap_err();
            assert!(matches!(error, ImageError::Conflict(_)), "{error}");
        }
        let _other_process = folder.open(&["x=a.img,clone=ephemeral"]).unwrap();
        let error = folder.open(&["d=a.img"]).unwrap_err();
        assert!(matches!(error, ImageError::Open { .. }), "{error}");
        folder.open(&["y=a.img,clone=ephemeral"]).unwrap();
    }

    #[test]
    fn unusable_images_say_what_to_do() {
        let folder = Folder::new();
        fs::create_dir(folder.0.path().join("folder")).unwrap();
        for (target, what) in [
            ("d=missing.img", "no such file"),
            ("d=empty.img", "truncate -s 8G"),
            ("d=odd.img,ro", "not a multiple of 512"),
            ("d=half.img,block-size=4K", "not a multiple of 4096"),
            ("d=folder", "a folder"),
        ] {
            let error = folder.open(&[target]).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("target `d`"), "{error}");
        }
    }

    #[test]
    fn a_golden_that_is_written_to_is_noticed() {
        let folder = Folder::new();
        let images = folder.open(&["x=a.img,clone=ephemeral"]).unwrap();
        let golden = &images.files()[0];
        assert_eq!(golden_change(golden), None);
        let path = folder.0.path().join("a.img");
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(&[0; 512]).unwrap();
        assert_eq!(golden_change(golden), Some(Change::Length { was: 4096, is: 4608 }));
    }
}
