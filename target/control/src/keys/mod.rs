//! The keys of encrypted images, in `keys/` of the state directory: made, found, and destroyed when an initiator has its
//! unit erased (SANITIZE, CRYPTOGRAPHIC ERASE).
//!
//! A key goes by its image and not by its target, as journals do, so that a slip in the configuration never gives one
//! image the key of another, nor plain access to an encrypted one. An image without a key gets one only while there is
//! nothing in it: any zeros are zeros under any key ([`stampede_image::cipher`]), so nothing can be lost.

mod file;

use crate::config::{CloneKind, Config, Encryption, TargetConfig, ValueError};
use crate::entropy::SystemEntropy;
use crate::images::Images;
use crate::journals::name_of;
use file::{Draft, WrappingKey};
use stampede_image::cipher::{Cipher, DataKey, KEY};
use stampede_ring::file::OpenedFile;
use stampede_session::Entropy;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The folder in the state directory.
const FOLDER: &str = "keys";

/// An image whose key is not to be had, or that is configured as what it is not.
#[derive(Debug, thiserror::Error)]
#[error("target `{target}`: {why}")]
pub struct KeyError {
    /// The target.
    pub target: String,
    /// What is wrong, and what to do.
    pub why: ValueError,
}

/// The keys of all encrypted images.
#[derive(Default)]
pub struct Keys {
    by_file: BTreeMap<usize, UnitKey>,
}

/// The key of one image.
pub struct UnitKey {
    path: PathBuf,
    image: PathBuf,
    block_size: u32,
    wrapping: Option<WrappingKey>,
    cipher: Arc<Cipher>,
}

impl Keys {
    /// Finds the keys of all images that are encrypted, or makes them, and sees to it that no other image has one.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn open(config: &Config, images: &Images) -> Result<Self, KeyError> {
        let mut keys = Self::default();
        // An encrypted target has a state directory: that is checked with the configuration.
        let Some(folder) = config.state_dir.as_ref().map(|directory| directory.join(FOLDER)) else {
            return Ok(keys);
        };
        for (index, target) in config.targets.iter().enumerate() {
            let Some(at) = images.file_of(index) else { continue };
            let Some(image) = images.files().get(at) else { continue };
            let failed = |why| KeyError { target: target.name.clone(), why };
            if let Some(key) = find(target, image, &folder).map_err(failed)? {
                keys.by_file.insert(at, key);
            }
        }
        Ok(keys)
    }

    /// Looks at the keys of all images without making or changing any: whether each can be read, has the right length and
    /// mode, and is the image's. How many images are encrypted, and how many of those will get a key at the first start.
    ///
    /// # Errors
    /// The first that [`Keys::open`] would refuse, as far as that can be told without reading whole images.
    pub fn check(config: &Config, images: &Images) -> Result<(usize, usize), KeyError> {
        let (mut encrypted, mut without) = (0, 0);
        let Some(folder) = config.state_dir.as_ref().map(|directory| directory.join(FOLDER)) else {
            return Ok((0, 0));
        };
        for (index, target) in config.targets.iter().enumerate() {
            let Some(image) = images.file_of(index).and_then(|at| images.files().get(at)) else { continue };
            let failed = |why| KeyError { target: target.name.clone(), why };
            let Some(path) = place_of(target, image, &folder).map_err(failed)? else { continue };
            encrypted += 1;
            without += usize::from(read_key(target, &path).map_err(failed)?.1.is_none());
        }
        Ok((encrypted, without))
    }

    /// What the image at a place among [`Images::files`] is encrypted with.
    #[must_use]
    pub fn cipher(&self, file: usize) -> Option<Arc<Cipher>> {
        self.by_file.get(&file).map(|key| Arc::clone(&key.cipher))
    }

    /// Takes the key of the image at this place out.
    pub fn take(&mut self, file: usize) -> Option<UnitKey> {
        self.by_file.remove(&file)
    }
}

impl UnitKey {
    /// Makes a new key, and destroys the old one. What the image is encrypted with from now on, unless that is what it
    /// was, and whether the old key is destroyed.
    pub(crate) fn renew(&mut self) -> (Option<Arc<Cipher>>, bool) {
        let made = self.make();
        match made {
            Ok(destroyed) => (Some(Arc::clone(&self.cipher)), destroyed),
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "no new key can be made: the old one stays");
                (None, false)
            }
        }
    }

    fn make(&mut self) -> io::Result<bool> {
        let key = random()?;
        let destroyed = file::replace(&self.path, &self.draft(&key))?;
        self.cipher = Arc::new(Cipher::new(&key, self.block_size));
        Ok(destroyed)
    }

    fn draft<'a>(&'a self, key: &'a DataKey) -> Draft<'a> {
        let Self { image, block_size, wrapping, .. } = self;
        Draft { key, image, block_size: *block_size, wrapping: wrapping.as_ref() }
    }
}

/// Sees to it that an image that comes to be served as it is has no key.
///
/// # Errors
/// It has one.
pub(crate) fn check_is_plain(
    config: &Config,
    target: &TargetConfig,
    image: &OpenedFile,
) -> Result<(), KeyError> {
    let Some(directory) = &config.state_dir else { return Ok(()) };
    let found = find(target, image, &directory.join(FOLDER));
    found.map(drop).map_err(|why| KeyError { target: target.name.clone(), why })
}

fn random() -> io::Result<DataKey> {
    let mut bytes = Zeroizing::new([0; KEY]);
    SystemEntropy.fill(&mut *bytes).map_err(io::Error::other)?;
    DataKey::new(bytes).ok_or_else(|| io::Error::other("the system's random source repeats itself"))
}

/// The key of a target's image; `None` for one that is plain.
fn find(target: &TargetConfig, image: &OpenedFile, folder: &Path) -> Result<Option<UnitKey>, ValueError> {
    place_of(target, image, folder)?.map(|path| key_of(target, image, path)).transpose()
}

/// Where the key of a target's image belongs; `None` for an image that is plain, and has none.
fn place_of(target: &TargetConfig, image: &OpenedFile, folder: &Path) -> Result<Option<PathBuf>, ValueError> {
    let path = name_of(image, &target.path).map(|name| folder.join(name + ".key"));
    match (target.encryption, path) {
        (None, Some(path)) if path.exists() => Err(unwanted(target, &path)),
        (None, _) => Ok(None),
        (Some(Encryption::AesXts), Some(path)) => Ok(Some(path)),
        (Some(_), None) => Err(ValueError::new(
            format!("the file system of {} does not tell when a file was made", image.path().display()),
            "an encrypted image is known by that: keep it on ext4, xfs, btrfs or tmpfs, or on a device",
        )),
    }
}

/// The operator's key and the image's, as far as there are any.
fn read_key(
    target: &TargetConfig,
    path: &Path,
) -> Result<(Option<WrappingKey>, Option<file::Stored>), ValueError> {
    let wrapping = target.encryption_key.as_deref().map(WrappingKey::read).transpose()?;
    let found = file::read(path, wrapping.as_ref())?;
    if let Some(stored) = &found
        && stored.block_size != target.block_bytes()
    {
        let block_size = stored.block_size;
        let what = format!("the image was encrypted in blocks of {block_size} bytes");
        return Err(ValueError::new(what, format!("give block-size={block_size}")));
    }
    Ok((wrapping, found))
}

fn key_of(target: &TargetConfig, image: &OpenedFile, path: PathBuf) -> Result<UnitKey, ValueError> {
    prepare(&path).map_err(|error| unusable(&path, &error))?;
    let (wrapping, found) = read_key(target, &path)?;
    let (is_new, is_bare) = match &found {
        Some(stored) => (false, !stored.wrapped),
        None => (true, false),
    };
    let (key, block_size) = match found {
        Some(stored) => (stored.key, stored.block_size),
        None => {
            check_is_empty(image, &path)?;
            let key = random().map_err(|error| unusable(&path, &error))?;
            (key, target.block_bytes())
        }
    };
    let cipher = Arc::new(Cipher::new(&key, block_size));
    let unit = UnitKey { path, image: target.path.clone(), block_size, wrapping, cipher };
    if is_new || (is_bare && unit.wrapping.is_some()) {
        let destroyed = file::replace(&unit.path, &unit.draft(&key));
        if !destroyed.map_err(|error| unusable(&unit.path, &error))? {
            let what = format!("the bare key that was in {} cannot be destroyed", unit.path.display());
            return Err(ValueError::new(what, "look at the disk of --state-dir"));
        }
        let path = unit.path.display();
        tracing::info!(target = target.name, %path, is_new, "the key of an encrypted image is written");
    }
    Ok(unit)
}

/// Makes the folder, and destroys what a replacement that was cut off left there.
fn prepare(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    file::settle(path)
}

fn unusable(path: &Path, error: &io::Error) -> ValueError {
    ValueError::new(
        format!("the key file {} cannot be used: {error}", path.display()),
        "look at the disk of --state-dir",
    )
}

fn unwanted(target: &TargetConfig, path: &Path) -> ValueError {
    let what = format!("its image is encrypted, with the key in {}", path.display());
    ValueError::new(
        what,
        match target.clone {
            CloneKind::Ephemeral => "a golden cannot be: make clones of a plain image",
            CloneKind::None => {
                "give encryption=aes-xts; or, if everything in the image is to be lost, make it anew and remove the key"
            }
        },
    )
}

/// Only an image with nothing in it gets a key.
fn check_is_empty(image: &OpenedFile, path: &Path) -> Result<(), ValueError> {
    let shown = image.path().display();
    tracing::info!(image = %shown, "looking whether there is nothing in the image");
    let holds_data = image.holds_data().map_err(|error| {
        ValueError::new(format!("cannot read {shown}: {error}"), "look at the disk that it is on")
    })?;
    if !holds_data {
        return Ok(());
    }
    let what = format!("there is data in {shown}, and no key for it in {}", path.display());
    let entries = path
        .parent()
        .and_then(|folder| fs::read_dir(folder).ok())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let mut others = entries.filter(|other| file::image_of(other).as_deref() == Some(image.path()));
    let help = match others.next() {
        Some(other) => format!(
            "if it is a copy of the image that {} is for, copy that file there; if it is not encrypted, leave out encryption",
            other.display()
        ),
        None => "if it is encrypted, put its key there; if it is not, leave out encryption, or begin with an empty image and \
                 copy the data to its target"
            .to_owned(),
    };
    Err(ValueError::new(what, help))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Origin, Partial};
    use std::os::unix::fs::FileExt;

    struct Bed(tempfile::TempDir);

    impl Bed {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            for name in ["a.img", "b.img"] {
                fs::File::create(folder.path().join(name)).unwrap().set_len(3 << 20).unwrap();
            }
            Self(folder)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn start(&self, image: &str, options: &str) -> Result<(Keys, Images), KeyError> {
            let mut partial = Partial { state_dir: Some(self.path("state")), ..Partial::default() };
            let text = format!("d={}{options}", self.path(image).display());
            partial.targets.push((Origin::Flag("--target"), text.parse().unwrap()));
            let config = partial.finish().unwrap();
            let images = Images::open(&config).unwrap();
            Ok((Keys::open(&config, &images)?, images))
        }

        fn error(&self, image: &str, options: &str) -> String {
            self.start(image, options).map(drop).unwrap_err().to_string()
        }

        /// What a block of zeros is encrypted to.
        fn sealed(&self, image: &str, options: &str) -> Vec<u8> {
            let (keys, _images) = self.start(image, options).unwrap();
            let mut block = vec![0; 4096];
            keys.cipher(0).unwrap().seal(0, &mut block);
            block
        }

        fn write(&self, image: &str, bytes: &[u8]) {
            let file = fs::File::options().write(true).open(self.path(image)).unwrap();
            file.write_all_at(bytes, (3 << 20) - 4096).unwrap();
        }

        fn keys(&self) -> Vec<PathBuf> {
            fs::read_dir(self.path("state/keys")).unwrap().map(|entry| entry.unwrap().path()).collect()
        }
    }

    const AES: &str = ",encryption=aes-xts";

    #[test]
    fn an_empty_image_gets_a_key_of_its_own_and_keeps_it() {
        let bed = Bed::new();
        let sealed = bed.sealed("a.img", AES);
        bed.write("a.img", &sealed);
        assert_eq!(bed.sealed("a.img", AES), sealed);
        assert_ne!(bed.sealed("b.img", AES), sealed);
        fs::rename(bed.path("a.img"), bed.path("c.img")).unwrap();
        assert_eq!(bed.sealed("c.img", ",encryption=aes-xts,ro"), sealed, "it goes by its file");
        assert!(bed.start("b.img", "").is_err());
    }

    #[test]
    fn a_check_finds_what_a_start_would_and_changes_nothing() {
        let bed = Bed::new();
        let check = |options: &str| {
            let mut partial = Partial { state_dir: Some(bed.path("state")), ..Partial::default() };
            let text = format!("d={}{options}", bed.path("a.img").display());
            partial.targets.push((Origin::Flag("--target"), text.parse().unwrap()));
            let config = partial.finish().unwrap();
            let images = Images::open(&config).unwrap();
            Keys::check(&config, &images).map_err(|error| error.to_string())
        };
        assert_eq!((check(""), check(AES)), (Ok((0, 0)), Ok((1, 1))));
        assert!(!bed.path("state/keys").exists(), "a check makes no key");
        bed.sealed("a.img", AES);
        assert_eq!(check(AES), Ok((1, 0)));
        assert!(check("").unwrap_err().contains("its image is encrypted"));
        assert!(check(",encryption=aes-xts,block-size=4K").unwrap_err().contains("give block-size=512"));
        let own = bed.path("own");
        let wrapped = format!("{AES},encryption-key={}", own.display());
        assert!(check(&wrapped).unwrap_err().contains("cannot read the key"));
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        fs::write(&own, [7; 31]).unwrap();
        mode(&own, 0o600);
        assert!(check(&wrapped).unwrap_err().contains("32 bytes or 64 hexadecimal digits"));
        fs::write(&own, [7; 32]).unwrap();
        assert_eq!(check(&wrapped), Ok((1, 0)));
        assert!(
            !fs::read_to_string(&bed.keys()[0]).unwrap().contains("wrapped = true"),
            "a check wraps nothing"
        );
        mode(&bed.keys()[0], 0o640);
        assert!(check(AES).unwrap_err().contains("chmod 600"));
    }

    #[test]
    fn no_slip_costs_data() {
        let bed = Bed::new();
        bed.write("b.img", &[1]);
        let error = bed.error("b.img", AES);
        assert!(error.contains("there is data in") && error.contains("leave out encryption"), "{error}");
        assert!(bed.keys().is_empty());
        let sealed = bed.sealed("a.img", AES);
        for (options, why) in [
            ("", "its image is encrypted"),
            (",ro", "give encryption=aes-xts"),
            (",clone=ephemeral", "make clones of a plain image"),
            (",encryption=aes-xts,block-size=4K", "give block-size=512"),
        ] {
            let error = bed.error("a.img", options);
            assert!(error.contains(why) && error.contains("target `d`"), "{error}");
        }
        // Restored from a backup it is another file.
        bed.write("a.img", &sealed);
        fs::copy(bed.path("a.img"), bed.path("copy.img")).unwrap();
        fs::rename(bed.path("copy.img"), bed.path("a.img")).unwrap();
        let error = bed.error("a.img", AES);
        let key = bed.keys().remove(0);
        assert!(error.contains(&format!("that {} is for", key.display())), "{error}");
        let wanted = error.split(" in ").nth(2).and_then(|rest| rest.split(": if").next()).unwrap();
        fs::copy(key, wanted).unwrap();
        assert_eq!(bed.sealed("a.img", AES), sealed);
    }

    #[test]
    fn a_bare_key_is_wrapped_as_soon_as_there_is_a_key_for_that() {
        let bed = Bed::new();
        let sealed = bed.sealed("a.img", AES);
        fs::write(bed.path("own"), [7; 32]).unwrap();
        fs::set_permissions(bed.path("own"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let wrapped = format!("{AES},encryption-key={}", bed.path("own").display());
        let bare = fs::read_to_string(&bed.keys()[0]).unwrap();
        assert_eq!(bed.sealed("a.img", &wrapped), sealed);
        let text = fs::read_to_string(&bed.keys()[0]).unwrap();
        let key = bare.lines().find(|line| line.starts_with("key")).unwrap();
        assert!(text.contains("wrapped = true") && !text.contains(key) && bed.keys().len() == 1, "{text}");
        assert!(bed.error("a.img", AES).contains("encryption-key=FILE"));
        assert_eq!(bed.sealed("a.img", &wrapped), sealed);
    }

    #[test]
    fn a_renewed_key_is_another_one_for_good() {
        let bed = Bed::new();
        let before = bed.sealed("a.img", AES);
        let (mut keys, images) = bed.start("a.img", AES).unwrap();
        let mut key = keys.take(0).unwrap();
        let (cipher, destroyed) = key.renew();
        let mut block = vec![0; 4096];
        cipher.unwrap().seal(0, &mut block);
        drop(images);
        assert!(destroyed && block != before);
        assert_eq!(bed.sealed("a.img", AES), block);
        assert_eq!(bed.keys().len(), 1);
        // Where none can be made the old one stays.
        fs::rename(bed.path("state/keys"), bed.path("state/gone")).unwrap();
        let (cipher, destroyed) = key.renew();
        assert!(cipher.is_none() && !destroyed);
    }
}
