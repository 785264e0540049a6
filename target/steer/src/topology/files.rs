//! Reading small files below a root folder: `/`, or a copy of another machine's `/sys` and `/proc`.

use super::CpuList;
use std::path::{Path, PathBuf};

/// A root folder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Root<'a>(pub(crate) &'a Path);

impl Root<'_> {
    /// Where a file of the machine is; `path` has no leading slash.
    pub(crate) fn path(self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// A file's text without its last line break; `None` when it cannot be read.
    pub(crate) fn text(self, path: &str) -> Option<String> {
        text(&self.path(path))
    }

    /// A file that holds one number.
    pub(crate) fn number<T: std::str::FromStr>(self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// A file that holds a set of CPUs.
    pub(crate) fn list(self, path: &str) -> Option<CpuList> {
        CpuList::parse(&self.text(path)?)
    }

    /// The names in a folder, in order; none when there is no such folder.
    pub(crate) fn names(self, path: &str) -> Vec<String> {
        names(&self.path(path))
    }
}

/// A file's text without its last line break; `None` when it cannot be read.
pub(crate) fn text(path: &Path) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim_end_matches('\n').to_owned())
}

/// The names in a folder, in order; none when there is no such folder.
pub(crate) fn names(path: &Path) -> Vec<String> {
    let Ok(folder) = std::fs::read_dir(path) else { return Vec::new() };
    let mut names: Vec<String> =
        folder.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The numbers of entries called `prefix` and a number, ascending.
pub(crate) fn numbered(names: &[String], prefix: &str) -> Vec<u16> {
    let number = |name: &String| name.strip_prefix(prefix)?.parse().ok();
    let mut numbers: Vec<u16> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}
