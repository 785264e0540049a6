//! Recordings in `recordings/` of the state directory, one file for each golden's path; without a state directory, in
//! memory.

use sha2::{Digest, Sha256};
use stampede_image::golden::GoldenIdentity;
use stampede_image::recording::{FILE_MAX, Recording};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The folder in the state directory.
const FOLDER: &str = "recordings";

/// Where recordings are kept. The default keeps none.
#[derive(Debug, Default)]
pub struct RecordingFiles {
    folder: Option<PathBuf>,
}

impl RecordingFiles {
    /// In this state directory; without one recordings do not outlive the process.
    #[must_use]
    pub fn new(state_dir: Option<&Path>) -> Self {
        Self { folder: state_dir.map(|directory| directory.join(FOLDER)) }
    }

    /// The file for a golden's path: its name for people, and enough of a hash that no other path has it too.
    fn file(&self, golden: &Path) -> Option<PathBuf> {
        let name = golden.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let hash = Sha256::digest(golden.as_os_str().as_bytes());
        let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let name = name.get(..name.len().min(100)).unwrap_or_default();
        Some(self.folder.as_ref()?.join(format!("{name}-{hash}.boot")))
    }

    /// The recording of a golden, if there is one that is of this version of it. What cannot be used is left where it is,
    /// and said in the log: the next recording replaces it.
    #[must_use]
    pub fn load(&self, golden: &Path, identity: &GoldenIdentity) -> Option<Recording> {
        let path = self.file(golden)?;
        let ignored = |why: &dyn std::fmt::Display| {
            tracing::warn!(golden = %golden.display(), file = %path.display(), "its recorded boot is not used, and recorded anew: {why}");
        };
        let bytes = match read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                ignored(&error);
                return None;
            }
        };
        let recording = Recording::decode(&bytes).inspect_err(|damage| ignored(damage)).ok()?;
        if let Some(change) = recording.golden.changed(identity) {
            ignored(&format_args!("it is of another version of the golden: {change}"));
            return None;
        }
        Some(recording)
    }

    /// Keeps a recording in place of the one before: after a crash there is one or the other.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, golden: &Path, recording: &Recording) -> io::Result<()> {
        let (Some(path), Some(folder)) = (self.file(golden), &self.folder) else { return Ok(()) };
        fs::create_dir_all(folder)?;
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&recording.encode())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(folder)?.sync_all()
    }

    /// Deletes the recording of a golden, if there is one.
    ///
    /// # Errors
    /// It cannot be deleted.
    pub fn forget(&self, golden: &Path) -> io::Result<()> {
        match self.file(golden).map(fs::remove_file) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// A file's bytes, and no more of them than a recording has.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stampede_image::recording::FirstUse;

    const GOLDEN: GoldenIdentity =
        GoldenIdentity { device: 1, inode: 2, len_bytes: 1 << 30, mtime_ns: 3, generation: 0 };

    fn recording(blocks: u32) -> Recording {
        let uses = (0..blocks).map(|block| FirstUse { block, gap_us: 5 }).collect();
        Recording { golden: GOLDEN, complete: true, uses }
    }

    #[test]
    fn the_last_recording_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let files = RecordingFiles::new(Some(folder.path()));
        let (golden, other) = (Path::new("/images/a.img"), Path::new("/other/a.img"));
        assert_eq!(files.load(golden, &GOLDEN), None);
        files.save(golden, &recording(3)).unwrap();
        files.save(golden, &recording(4)).unwrap();
        assert_eq!(files.load(golden, &GOLDEN), Some(recording(4)));
        assert_eq!(files.load(other, &GOLDEN), None, "of the same name elsewhere");
        files.forget(golden).unwrap();
        assert_eq!(files.load(golden, &GOLDEN), None);
        files.forget(golden).unwrap();
    }

    #[test]
    fn what_is_damaged_or_of_another_version_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let files = RecordingFiles::new(Some(folder.path()));
        let golden = Path::new("a.img");
        files.save(golden, &recording(3)).unwrap();
        assert_eq!(files.load(golden, &GoldenIdentity { mtime_ns: 4, ..GOLDEN }), None);
        let path = files.file(golden).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[80] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(files.load(golden, &GOLDEN), None);
        fs::write(&path, vec![0; FILE_MAX as usize * 2]).unwrap();
        assert_eq!(files.load(golden, &GOLDEN), None);
        files.save(golden, &recording(3)).unwrap();
        assert_eq!(files.load(golden, &GOLDEN), Some(recording(3)));
    }

    #[test]
    fn a_file_that_was_written_half_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let files = RecordingFiles::new(Some(folder.path()));
        let golden = Path::new("a.img");
        files.save(golden, &recording(3)).unwrap();
        fs::write(files.file(golden).unwrap().with_extension("new"), b"STAMPREC").unwrap();
        assert_eq!(files.load(golden, &GOLDEN), Some(recording(3)));
    }

    #[test]
    fn without_a_state_directory_nothing_is_written() {
        let files = RecordingFiles::new(None);
        files.save(Path::new("a.img"), &recording(3)).unwrap();
        assert_eq!(files.load(Path::new("a.img"), &GOLDEN), None);
    }
}
