//! The journals of atomic writes, in `atomic/` of the state directory: made, and at a start done over, before any
//! unit is there to be seen.
//!
//! A journal goes by its image and not by its target, so that it is found again whatever the configuration calls the
//! image meanwhile, and never applied to another file that took its path.

use crate::config::{CloneKind, Config, TargetConfig};
use crate::images::Images;
use stampede_image::intent;
use stampede_ring::file::{self, Access, OpenFileError, OpenedFile};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The folder in the state directory.
const FOLDER: &str = "atomic";
/// The longest name of a journal in bytes.
const NAME_MAX: usize = 250;

/// A journal that cannot be done over: the image cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it.
    #[error("{0}")]
    Open(#[from] OpenFileError),
    /// It cannot be read, or emptied.
    #[error("the journal of atomic writes {path}: {source}. The image of target `{target}` may be half written without it", path = path.display())]
    Journal {
        /// The target.
        target: String,
        /// The journal.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What it says cannot be written.
    #[error(
        "target `{target}`: an atomic write of {len} bytes at byte {offset} was cut off, and cannot be finished: {source}. Its data is in {path}",
        path = path.display()
    )]
    Image {
        /// The target.
        target: String,
        /// The journal.
        path: PathBuf,
        /// Where in the image.
        offset: u64,
        /// Its length in bytes.
        len: u32,
        /// Why.
        source: io::Error,
    },
}

impl JournalError {
    /// Whether another process has the journal, perhaps for a moment only.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Open(OpenFileError::Locked { .. }))
    }
}

/// The journals of all images that are written to, open and without an intent.
#[derive(Debug, Default)]
pub struct Journals {
    by_file: BTreeMap<usize, OpenedFile>,
}

impl Journals {
    /// Opens or makes the journals of all plain writable units in the state directory, and does over what was cut off.
    /// Without a state directory there are none. One that cannot be made is missing, with a warning: its unit then has no
    /// atomic writes.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn open(config: &Config, images: &Images) -> Result<Self, JournalError> {
        let mut journals = Self::default();
        let Some(folder) = folder_of(config) else { return Ok(journals) };
        let (mut known, mut written) = (BTreeSet::new(), BTreeSet::new());
        for (index, target) in config.targets.iter().enumerate() {
            let Some((at, image)) = images.file_of(index).and_then(|at| Some((at, images.files().get(at)?)))
            else {
                continue;
            };
            let Some(name) = name_of(image, &target.path) else { continue };
            if target.ro || target.clone == CloneKind::Ephemeral {
                known.insert(name);
                continue;
            }
            let path = folder.join(&name);
            written.insert(name);
            if let Some(journal) = open_one(target, &folder, &path, image)? {
                journals.by_file.insert(at, journal);
            }
        }
        if folder.is_dir() {
            sweep(&folder, &written, &known);
        }
        Ok(journals)
    }

    /// The journal of an image, by its place among [`Images::files`].
    #[must_use]
    pub fn of(&self, file: usize) -> Option<&OpenedFile> {
        self.by_file.get(&file)
    }
}

/// Opens or makes the journal of one image that comes to be written to, as [`Journals::open`] does.
///
/// # Errors
/// As [`Journals::open`].
pub(crate) fn open_for(
    config: &Config,
    target: &TargetConfig,
    image: &OpenedFile,
) -> Result<Option<OpenedFile>, JournalError> {
    let Some((folder, name)) = folder_of(config).zip(name_of(image, &target.path)) else { return Ok(None) };
    match target.ro {
        true => Ok(None),
        false => open_one(target, &folder, &folder.join(name), image),
    }
}

fn folder_of(config: &Config) -> Option<PathBuf> {
    config.state_dir.as_ref().map(|directory| directory.join(FOLDER))
}

fn open_one(
    target: &TargetConfig,
    folder: &Path,
    path: &Path,
    image: &OpenedFile,
) -> Result<Option<OpenedFile>, JournalError> {
    if let Err(error) = make(folder, path) {
        tracing::warn!(
            target = target.name,
            journal = %path.display(),
            %error,
            "the unit has no atomic writes: its journal cannot be made"
        );
        return Ok(None);
    }
    let journal = file::open(path, Access::ReadWrite)?;
    replay(&target.name, path, image)?;
    Ok(Some(journal))
}

/// What the journal of an image is called, and its key; `None` when there is no name that would surely find it again.
pub(crate) fn name_of(image: &OpenedFile, configured: &Path) -> Option<String> {
    let (traits, identity) = (image.traits(), image.traits().identity);
    if traits.device {
        // A device has no inode of its own, and its number may change; the path that the operator chose names it.
        let escape = |byte: &u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(*byte).to_string(),
            other => format!("%{other:02x}"),
        };
        let path: String = configured.as_os_str().as_encoded_bytes().iter().map(escape).collect();
        return Some(format!("device-{path}")).filter(|name| name.len() <= NAME_MAX);
    }
    // An inode number is given anew once its file is gone; the time of birth tells the two apart.
    let born_ns = image.born_ns()?;
    let name = format!("file-{:x}-{born_ns:x}", identity.inode);
    if !traits.in_memory {
        return Some(name);
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("{name}-{}", boot.trim()))
}

/// Makes an empty journal, durably, unless there is one. All its blocks are written: to write them again later takes
/// no space and changes no metadata.
fn make(folder: &Path, path: &Path) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|journal| journal.len() == intent::JOURNAL) {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let half = folder.join("new");
    let mut file = File::create(&half)?;
    file.write_all(&vec![0; intent::JOURNAL as usize])?;
    file.sync_all()?;
    fs::rename(&half, path)?;
    File::open(folder)?.sync_all()
}

/// Does over what a journal says, and empties it.
fn replay(target: &str, path: &Path, image: &OpenedFile) -> Result<(), JournalError> {
    let failed = |source| JournalError::Journal { target: target.to_owned(), path: path.to_owned(), source };
    let journal = fs::read(path).map_err(failed)?;
    let mut replayed = 0;
    for (intent, data) in intent::complete(&journal) {
        let inside = intent.offset.checked_add(u64::from(intent.len));
        let written = match inside.is_some_and(|end| end <= image.traits().len_bytes) {
            true => image.write_durably(intent.offset, data),
            false => Err(io::Error::other("the image is shorter than it was")),
        };
        written.map_err(|source| {
            let (target, path) = (target.to_owned(), path.to_owned());
            JournalError::Image { target, path, offset: intent.offset, len: intent.len, source }
        })?;
        replayed += 1;
    }
    if replayed > 0 {
        tracing::warn!(
            target,
            replayed,
            "atomic writes that were cut off when stampede last ran are finished"
        );
    }
    if journal.iter().any(|byte| *byte != 0) {
        empty(path).map_err(failed)?;
    }
    Ok(())
}

fn empty(path: &Path) -> io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    file.write_all(&vec![0; intent::JOURNAL as usize])?;
    file.sync_all()
}

/// Looks at the journals of images that are not written to now: those that say nothing go, the others are told of.
fn sweep(folder: &Path, written: &BTreeSet<String>, known: &BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        let Ok(journal) = fs::read(&path) else { continue };
        if written.contains(&name) {
            continue;
        }
        match intent::complete(&journal).count() {
            // Of no use any more; a journal that stays is only a waste of space.
            0 => drop(fs::remove_file(&path)),
            intents if known.contains(&name) => tracing::warn!(
                journal = %path.display(),
                intents,
                "atomic writes to an image that is only read now were cut off: serve it writable once, and they are finished"
            ),
            intents => tracing::warn!(
                journal = %path.display(),
                intents,
                "atomic writes to an image that is not served now were cut off: they are finished when it is served again"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Origin, Partial};
    use std::os::unix::fs::FileExt;

    struct Bed {
        folder: tempfile::TempDir,
    }

    impl Bed {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("a.img"), vec![1; 1 << 20]).unwrap();
            Self { folder }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn start(&self, options: &str) -> Result<(Journals, Images), JournalError> {
            let mut partial = Partial::default();
            let text = format!("d={}{options}", self.path("a.img").display());
            partial.targets.push((Origin::Flag("--target"), text.parse().unwrap()));
            let mut config = partial.finish().unwrap();
            config.state_dir = Some(self.path("state"));
            let images = Images::open(&config).unwrap();
            Ok((Journals::open(&config, &images)?, images))
        }

        fn journals(&self) -> Vec<PathBuf> {
            fs::read_dir(self.path("state/atomic")).unwrap().map(|entry| entry.unwrap().path()).collect()
        }

        /// Leaves an intent behind, as a power loss does.
        fn cut_off(&self, offset: u64, data: &[u8]) -> PathBuf {
            let path = self.journals().remove(0);
            let journal = File::options().write(true).open(&path).unwrap();
            let header = intent::Intent::new(offset, [data].into_iter()).unwrap().encode();
            journal.write_all_at(&header, 0).unwrap();
            journal.write_all_at(data, u64::from(intent::HEADER)).unwrap();
            path
        }
    }

    #[test]
    fn what_was_cut_off_is_finished_once() {
        let bed = Bed::new();
        let (journals, images) = bed.start("").unwrap();
        assert_eq!(journals.of(0).unwrap().traits().len_bytes, intent::JOURNAL);
        drop((journals, images));
        let path = bed.cut_off(8192, &[7; 4096]);
        drop(bed.start("").unwrap());
        let image = fs::read(bed.path("a.img")).unwrap();
        assert!(
            image[8192..12_288] == [7; 4096]
                && image[..8192] == [1; 8192]
                && image[12_288..12_800] == [1; 512]
        );
        assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 0));
        fs::write(bed.path("a.img"), vec![2; 1 << 20]).unwrap();
        drop(bed.start("").unwrap());
        assert!(fs::read(bed.path("a.img")).unwrap() == vec![2; 1 << 20], "finished a second time");
    }

    #[test]
    fn another_file_at_its_path_is_left_alone_and_empty_journals_go() {
        let bed = Bed::new();
        drop(bed.start("").unwrap());
        bed.cut_off(0, &[7; 4096]);
        // Both exist at once, so they do not share an inode.
        fs::write(bed.path("b.img"), vec![3; 1 << 20]).unwrap();
        fs::rename(bed.path("a.img"), bed.path("old.img")).unwrap();
        fs::rename(bed.path("b.img"), bed.path("a.img")).unwrap();
        drop(bed.start("").unwrap());
        assert!(fs::read(bed.path("a.img")).unwrap() == vec![3; 1 << 20]);
        assert_eq!(bed.journals().len(), 2, "an intent waits for its image");
        fs::rename(bed.path("old.img"), bed.path("a.img")).unwrap();
        drop(bed.start("").unwrap());
        assert!(fs::read(bed.path("a.img")).unwrap()[..4096] == [7; 4096]);
        assert_eq!(
            bed.journals().len(),
            1,
            "a journal that says nothing of an image that is not there is kept"
        );
    }

    #[test]
    fn what_is_only_read_is_not_written_to() {
        let bed = Bed::new();
        drop(bed.start("").unwrap());
        bed.cut_off(0, &[7; 4096]);
        let (journals, _images) = bed.start(",ro").unwrap();
        assert!(journals.of(0).is_none());
        assert!(fs::read(bed.path("a.img")).unwrap() == vec![1; 1 << 20]);
        assert_eq!(bed.journals().len(), 1);
    }

    #[test]
    fn what_cannot_be_finished_is_an_error() {
        let bed = Bed::new();
        drop(bed.start("").unwrap());
        bed.cut_off(1 << 20, &[7; 4096]);
        let error = bed.start("").map(drop).unwrap_err().to_string();
        assert!(error.contains("shorter") && error.contains("target `d`"), "{error}");
    }
}
