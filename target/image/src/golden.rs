//! Goldens: what makes a published image the same image, and who may open which file how.
//!
//! A golden lies under its clones, so nobody may write to it while they live, and a file that is being written cannot
//! become a golden. [`UseTable`] keeps that rule inside one process; [`GoldenIdentity`] notices what others did.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

/// A file, whatever its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileKey {
    /// Device number of the filesystem; of a block device, its own (`st_rdev`).
    pub device: u64,
    /// Inode number; 0 for a block device, so that two device nodes of one disk are one file.
    pub inode: u64,
}

/// What a golden was when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoldenIdentity {
    /// As in [`FileKey::device`].
    pub device: u64,
    /// As in [`FileKey::inode`].
    pub inode: u64,
    /// Length in bytes.
    pub len_bytes: u64,
    /// Time of last modification, in nanoseconds since 1970 (of a block device: 0, it does not tell).
    pub mtime_ns: i128,
    /// Publish generation, from the state store.
    pub generation: u64,
}

/// In what a golden differs from what it was: it must not be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Change {
    /// The path leads to another file now.
    #[error("another file has taken its place")]
    Replaced,
    /// The length changed.
    #[error("its length changed from {was} to {is} bytes")]
    Length {
        /// Bytes when opened.
        was: u64,
        /// Bytes now.
        is: u64,
    },
    /// It was written to.
    #[error("it was modified")]
    Modified,
    /// Another version was published.
    #[error("generation {is} was published in place of {was}")]
    Generation {
        /// Generation when opened.
        was: u64,
        /// Generation now.
        is: u64,
    },
}

impl GoldenIdentity {
    /// The file that this golden is.
    #[must_use]
    pub fn file(&self) -> FileKey {
        FileKey { device: self.device, inode: self.inode }
    }

    /// In what `now` differs from `self`, the gravest first; `None` when it is the same golden.
    #[must_use]
    pub fn changed(&self, now: &Self) -> Option<Change> {
        if self.file() != now.file() {
            return Some(Change::Replaced);
        }
        if self.len_bytes != now.len_bytes {
            return Some(Change::Length { was: self.len_bytes, is: now.len_bytes });
        }
        if self.mtime_ns != now.mtime_ns {
            return Some(Change::Modified);
        }
        (self.generation != now.generation)
            .then_some(Change::Generation { was: self.generation, is: now.generation })
    }
}

/// How a file is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Read only: by the clones on it as a golden, or as a read-only LUN. Any number at once.
    Shared,
    /// Written to: by one user, alone.
    Writable,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared => "read-only or as a golden",
            Self::Writable => "for writing",
        })
    }
}

/// A file cannot be opened as asked, because of how it is used already.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{newcomer} cannot open the image {wanted}: {present} has it open {how}; \
     close {present} first (its clones too), or give {newcomer} a copy of the file"
)]
pub struct UseConflict {
    /// Who asked.
    pub newcomer: String,
    /// What it asked for.
    pub wanted: Use,
    /// Who has the file open.
    pub present: String,
    /// And how.
    pub how: Use,
}

#[derive(Debug)]
struct FileUse {
    how: Use,
    /// How often each user has it open.
    users: BTreeMap<String, u32>,
}

/// Which files are open, how, and by whom (users are named as the operator knows them: `target debian`).
#[derive(Debug, Default)]
pub struct UseTable {
    files: BTreeMap<FileKey, FileUse>,
}

impl UseTable {
    /// A table in which nothing is open.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that `user` opens `file`. A golden is opened once for its target and once more for each clone, under
    /// the same name or another; each needs its [`close`](Self::close).
    ///
    /// # Errors
    /// When the file is open for writing, or is to be opened for writing and is open at all.
    pub fn open(&mut self, file: FileKey, wanted: Use, user: &str) -> Result<(), UseConflict> {
        if let Some(present) = self.files.get_mut(&file) {
            if wanted == Use::Writable || present.how == Use::Writable {
                let name = present.users.keys().next().cloned().unwrap_or_default();
                let newcomer = user.to_owned();
                return Err(UseConflict { newcomer, wanted, present: name, how: present.how });
            }
            let count = present.users.entry(user.to_owned()).or_insert(0);
            *count = count.saturating_add(1);
            return Ok(());
        }
        let users = BTreeMap::from([(user.to_owned(), 1)]);
        self.files.insert(file, FileUse { how: wanted, users });
        Ok(())
    }

    /// Notes that `user` closed `file` once. False when it did not have it open.
    pub fn close(&mut self, file: FileKey, user: &str) -> bool {
        let Some(present) = self.files.get_mut(&file) else { return false };
        let Some(count) = present.users.get_mut(user) else { return false };
        *count = count.saturating_sub(1);
        if *count == 0 {
            present.users.remove(user);
        }
        if present.users.is_empty() {
            self.files.remove(&file);
        }
        true
    }

    /// How often the file is open, and how.
    #[must_use]
    pub fn usage(&self, file: FileKey) -> Option<(Use, u32)> {
        let present = self.files.get(&file)?;
        Some((present.how, present.users.values().fold(0, |sum, &count| sum.saturating_add(count))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileKey = FileKey { device: 8, inode: 42 };
    const WAS: GoldenIdentity =
        GoldenIdentity { device: 8, inode: 42, len_bytes: 4096, mtime_ns: 7, generation: 1 };

    #[test]
    fn an_untouched_golden_is_the_same() {
        assert_eq!(WAS.changed(&WAS), None);
    }

    #[test]
    fn every_kind_of_change_is_noticed_and_the_gravest_named() {
        let replaced = GoldenIdentity { inode: 43, len_bytes: 1, ..WAS };
        assert_eq!(WAS.changed(&replaced), Some(Change::Replaced));
        let other_device = GoldenIdentity { device: 9, ..WAS };
        assert_eq!(WAS.changed(&other_device), Some(Change::Replaced));
        let shorter = GoldenIdentity { len_bytes: 512, mtime_ns: 8, ..WAS };
        assert_eq!(WAS.changed(&shorter), Some(Change::Length { was: 4096, is: 512 }));
        assert_eq!(WAS.changed(&GoldenIdentity { mtime_ns: 6, ..WAS }), Some(Change::Modified));
        let published = GoldenIdentity { generation: 2, ..WAS };
        assert_eq!(WAS.changed(&published), Some(Change::Generation { was: 1, is: 2 }));
    }

    #[test]
    fn a_golden_with_live_clones_is_not_opened_for_writing() {
        let mut table = UseTable::new();
        table.open(FILE, Use::Shared, "target debian").unwrap();
        table.open(FILE, Use::Shared, "target debian").unwrap();
        table.open(FILE, Use::Shared, "target rescue").unwrap();
        assert_eq!(table.usage(FILE), Some((Use::Shared, 3)));
        let conflict = table.open(FILE, Use::Writable, "target data").unwrap_err();
        let text = conflict.to_string();
        assert!(
            text.contains("target data") && text.contains("target debian") && text.contains("copy"),
            "{text}"
        );

        assert!(table.close(FILE, "target rescue"));
        assert!(table.close(FILE, "target debian"));
        assert!(table.open(FILE, Use::Writable, "target data").is_err());
        assert!(table.close(FILE, "target debian"));
        assert_eq!(table.usage(FILE), None);
        table.open(FILE, Use::Writable, "target data").unwrap();
    }

    #[test]
    fn a_file_being_written_is_nobody_elses() {
        let mut table = UseTable::new();
        table.open(FILE, Use::Writable, "target data").unwrap();
        assert!(table.open(FILE, Use::Shared, "target debian").is_err());
        assert!(table.open(FILE, Use::Writable, "target copy").is_err());
        assert!(table.open(FILE, Use::Writable, "target data").is_err(), "not even twice by one user");
        table.open(FileKey { inode: 43, ..FILE }, Use::Writable, "target copy").unwrap();
    }

    #[test]
    fn closing_what_is_not_open_changes_nothing() {
        let mut table = UseTable::new();
        assert!(!table.close(FILE, "target debian"));
        table.open(FILE, Use::Shared, "target debian").unwrap();
        assert!(!table.close(FILE, "target data"));
        assert_eq!(table.usage(FILE), Some((Use::Shared, 1)));
    }
}
