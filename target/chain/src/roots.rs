//! The path policy: which files the names inside images may lead to.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Folders beneath which files lie that images may name.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    folders: Vec<PathBuf>,
}

impl Roots {
    /// These folders, links in their own paths followed once, now. Folders that are not there are left out: nothing lies beneath them.
    pub fn new(folders: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        let folders = folders.into_iter().filter_map(|folder| std::fs::canonicalize(folder).ok());
        Self { folders: folders.collect() }
    }

    /// These folders and the one that a file lies in.
    #[must_use]
    pub fn with_folder_of(mut self, file: &Path) -> Self {
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.folders.extend(std::fs::canonicalize(parent));
        self
    }

    /// The path that a name means, which stands in the image at `image`: relative names begin in its folder.
    ///
    /// # Errors
    /// Why it is no name of a file that may be opened, in words.
    pub(crate) fn resolve(&self, image: &Path, name: &str) -> Result<PathBuf, String> {
        if name.is_empty() || name.contains('\0') || name.len() > 4096 {
            return Err("it is empty, too long or has a zero byte".into());
        }
        if has_scheme(name) {
            return Err("only files are followed, no URLs and no json: descriptions".into());
        }
        let path = match Path::new(name) {
            absolute if absolute.is_absolute() => absolute.to_path_buf(),
            relative => image.parent().unwrap_or(Path::new("")).join(relative),
        };
        let found = std::fs::canonicalize(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        self.judge(&found)?;
        Ok(found)
    }

    /// Judges an open file by where it is: a link may have been put in the way since its path was resolved.
    ///
    /// # Errors
    /// Why it may not be used, in words.
    pub(crate) fn judge_open(&self, file: &impl AsFd) -> Result<(), String> {
        let link = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
        let path = std::fs::read_link(&link).map_err(|error| format!("{link}: {error}"))?;
        self.judge(&path)
    }

    fn judge(&self, path: &Path) -> Result<(), String> {
        let plain = path.components().all(|part| !matches!(part, Component::ParentDir));
        if plain && self.folders.iter().any(|folder| path.starts_with(folder)) {
            return Ok(());
        }
        let folders: Vec<_> = self.folders.iter().map(|folder| folder.display().to_string()).collect();
        Err(format!(
            "that is {}, which is not beneath {}; if it may be used, allow its folder with --root",
            path.display(),
            if folders.is_empty() { "any allowed folder".into() } else { folders.join(" or ") }
        ))
    }
}

/// Whether a name begins like `json:` or `nbd://`: letters and digits, then a colon.
fn has_scheme(name: &str) -> bool {
    let Some((scheme, _)) = name.split_once(':') else { return false };
    let bytes = OsStr::new(scheme).as_bytes();
    !bytes.is_empty()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn names_are_followed_only_beneath_the_roots() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for sub in ["in/deep", "out"] {
            std::fs::create_dir_all(at(sub)).unwrap();
        }
        for file in ["in/a", "in/deep/b", "out/c"] {
            std::fs::write(at(file), "x").unwrap();
        }
        symlink(at("out/c"), at("in/link")).unwrap();
        symlink("deep/b", at("in/inner")).unwrap();
        let roots = Roots::new([at("in")]);
        let image = at("in/a");
        for good in ["deep/b", "./a", "../in/a", "inner", at("in/deep/b").to_str().unwrap()] {
            assert!(roots.resolve(&image, good).is_ok(), "{good}");
        }
        for bad in
            ["../out/c", "link", "missing", "", "json:{}", "nbd://host", "file:a", "a\0b", "/etc/passwd"]
        {
            assert!(roots.resolve(&image, bad).is_err(), "{bad}");
        }
        assert!(roots.judge_open(&std::fs::File::open(at("in/inner")).unwrap()).is_ok());
        assert!(roots.judge_open(&std::fs::File::open(at("in/link")).unwrap()).is_err());
    }
}
