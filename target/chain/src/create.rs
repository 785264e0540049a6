//! Making images: in a file beside the one that is wanted, which takes its place when it is whole and durable.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, RenameFlags};
use stampede_plugin::{Created, Identity, Job, Mode, ParentHint, ParentRef};
use stampede_ring::file::{Access, OpenConfig, open_with};

use crate::chain::Chain;
use crate::layer::{Formats, Layer, LayerFile, OpenOptions};
use crate::{ChainError, Roots};

/// What an image that is made is to be.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Its format.
    pub format: String,
    /// The size of its disk in bytes; with a parent, `None` is the parent's.
    pub virtual_size: Option<u64>,
    /// The format's options, name and value.
    pub options: Vec<(String, String)>,
    /// Its parent.
    pub parent: Option<ParentOptions>,
    /// Whether a file that is there already is replaced.
    pub replace: bool,
}

/// The parent of an image that is made.
#[derive(Clone, Debug)]
pub struct ParentOptions {
    /// Where it is.
    pub path: PathBuf,
    /// Its format.
    pub format: String,
    /// Beneath which folders its own parents may lie.
    pub roots: Roots,
}

/// An identity that nobody else has (a random UUID, RFC 9562 version 4), and the time.
///
/// # Errors
/// When the kernel gives no random bytes.
pub fn fresh_identity() -> Result<Identity, ChainError> {
    let mut id = [0; 16];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| ChainError::Invalid(format!("the kernel gives no random bytes: {errno}")))?;
    id[6] = id[6] & 0x0F | 0x40;
    id[8] = id[8] & 0x3F | 0x80;
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).ok();
    Ok(Identity { id, time })
}

/// Makes an image at `path`.
///
/// # Errors
/// [`ChainError`]; then there is nothing new at `path`.
pub fn create(formats: &dyn Formats, path: &Path, options: &CreateOptions) -> Result<(), ChainError> {
    let draft = Draft::new(path, options.replace)?;
    make(formats, &draft, options)?.close()?;
    draft.publish()
}

/// Makes an image in a draft's file, and opens it.
pub(crate) fn make(
    formats: &dyn Formats,
    draft: &Draft,
    options: &CreateOptions,
) -> Result<Chain, ChainError> {
    let parent = options.parent.as_ref().map(|parent| open_parent(formats, parent)).transpose()?;
    let created = describe(&draft.wanted, options, parent.as_ref())?;
    let mut layer = Layer::bare(formats, draft.open()?, &options.format, Mode::ReadWrite)?;
    // The draft is worth nothing until it is whole.
    layer.barriers = false;
    layer.run(Job::Create(created), &mut [], &mut |_, _| ())?;
    layer.reopen(formats)?;
    let mut layers = vec![layer];
    layers.extend(parent.into_iter().flat_map(|parent| parent.layers));
    Ok(Chain { layers })
}

fn open_parent(formats: &dyn Formats, parent: &ParentOptions) -> Result<Chain, ChainError> {
    let options = OpenOptions {
        mode: Mode::ReadOnly,
        format: parent.format.clone(),
        roots: parent.roots.clone().with_folder_of(&parent.path),
        parent_format: None,
        parents: true,
        any_parent: false,
        lock: true,
    };
    Chain::open(formats, &parent.path, &options)
}

fn describe(wanted: &Path, options: &CreateOptions, parent: Option<&Chain>) -> Result<Created, ChainError> {
    let size = options.virtual_size.or(parent.map(Chain::virtual_size));
    let Some(virtual_size) = size else {
        return Err(ChainError::Invalid(format!("{}: say how large its disk is to be", wanted.display())));
    };
    let parent = match (parent, &options.parent) {
        (Some(chain), Some(parent)) => Some(reference(wanted, chain, parent)?),
        _ => None,
    };
    Ok(Created { virtual_size, options: options.options.clone(), parent, identity: fresh_identity()? })
}

/// How an image at `wanted` names its parent: relative to its own folder, and absolutely.
fn reference(wanted: &Path, chain: &Chain, parent: &ParentOptions) -> Result<ParentRef, ChainError> {
    let hint = |(kind, name): (&str, String)| ParentHint { kind: kind.into(), name };
    let opened = chain.opened();
    Ok(ParentRef {
        hints: names_of(wanted, &parent.path)?.into_iter().map(hint).collect(),
        format: Some(parent.format.clone()),
        identity: opened.identity,
        virtual_size: Some(opened.virtual_size),
    })
}

/// The names by which an image refers to another file, each with its kind: relative to the image's own folder, and absolute.
///
/// # Errors
/// When either is not there, or the name is not UTF-8.
pub fn names_of(image: &Path, file: &Path) -> Result<[(&'static str, String); 2], ChainError> {
    let absolute = |path: &Path| {
        std::fs::canonicalize(path).map_err(|source| ChainError::Io {
            path: path.to_path_buf(),
            what: "finding its absolute path".into(),
            source,
        })
    };
    let target = absolute(file)?;
    let folder = absolute(folder_of(image))?;
    let text = |path: &Path| {
        path.to_str().map(str::to_string).ok_or_else(|| {
            ChainError::Invalid(format!(
                "{}: its name is not UTF-8, and an image cannot name it",
                path.display()
            ))
        })
    };
    Ok([("relative", text(&relative(&folder, &target))?), ("absolute", text(&target)?)])
}

/// The way from a folder to a file, both absolute and without links.
fn relative(folder: &Path, file: &Path) -> PathBuf {
    let mut from = folder.components().peekable();
    let mut to = file.components().peekable();
    while from.peek().is_some() && from.peek() == to.peek() {
        from.next();
        to.next();
    }
    from.map(|_| std::path::Component::ParentDir).chain(to).collect()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file that is being made, beside the one that it is to become. It is removed unless it is published.
pub(crate) struct Draft {
    wanted: PathBuf,
    path: PathBuf,
    replace: bool,
    published: bool,
}

impl Draft {
    pub(crate) fn new(wanted: &Path, replace: bool) -> Result<Self, ChainError> {
        if !replace && std::fs::symlink_metadata(wanted).is_ok() {
            let text = format!("{}: it is there already; say --replace to replace it", wanted.display());
            return Err(ChainError::Invalid(text));
        }
        let Some(name) = wanted.file_name() else {
            return Err(ChainError::Invalid(format!("{}: it is no name of a file", wanted.display())));
        };
        let mut draft = std::ffi::OsString::from(".");
        draft.push(name);
        draft.push(format!(".draft-{}", std::process::id()));
        let path = folder_of(wanted).join(draft);
        let io = |source| ChainError::Io { path: path.clone(), what: "making it".into(), source };
        File::options().write(true).create_new(true).open(&path).map_err(io)?;
        Ok(Self { wanted: wanted.to_path_buf(), path, replace, published: false })
    }

    fn open(&self) -> Result<LayerFile, ChainError> {
        let opened =
            open_with(&self.path, OpenConfig { access: Access::ReadWrite, lock: true, direct: false })?;
        Ok(LayerFile::from_opened(opened))
    }

    /// The file takes its place. Its contents are durable already.
    pub(crate) fn publish(mut self) -> Result<(), ChainError> {
        let io = |what: &str| {
            let (path, what) = (self.wanted.clone(), what.to_string());
            move |errno: rustix::io::Errno| ChainError::Io { path, what, source: errno.into() }
        };
        let flags = if self.replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        match rustix::fs::renameat_with(CWD, &self.path, CWD, &self.wanted, flags) {
            // Some file systems cannot rename without replacing; they can link.
            Err(rustix::io::Errno::INVAL) if !self.replace => {
                rustix::fs::linkat(CWD, &self.path, CWD, &self.wanted, AtFlags::empty())
                    .map_err(io("naming it"))?;
            }
            renamed => {
                renamed.map_err(io("naming it"))?;
                self.published = true;
            }
        }
        let folder = folder_of(&self.wanted);
        File::open(folder).and_then(|folder| rustix::fs::fsync(folder.as_fd()).map_err(Into::into)).map_err(
            |source| ChainError::Io {
                path: folder.to_path_buf(),
                what: "making the new name durable".into(),
                source,
            },
        )
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            // Nothing can be done about it, and the name says what it is.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_a_file_is_relative() {
        for (folder, file, way) in [
            ("/a/b", "/a/c/d", "../c/d"),
            ("/a", "/a/b", "b"),
            ("/", "/x", "x"),
            ("/a/b/c", "/d", "../../../d"),
        ] {
            assert_eq!(relative(Path::new(folder), Path::new(file)), Path::new(way));
        }
    }

    #[test]
    fn identities_are_random_uuids() {
        let (one, two) = (fresh_identity().unwrap(), fresh_identity().unwrap());
        assert_ne!(one.id, two.id);
        assert_eq!((one.id[6] >> 4, one.id[8] >> 6), (4, 2));
    }
}
