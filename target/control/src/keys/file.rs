//! One key in a file of its own, and how it is replaced so that nothing is left of it.
//!
//! ```text
//!  NAME.new written ─► NAME.old linked to the old key ─► NAME.new renamed to NAME ─► NAME.old overwritten ─► removed
//!                                                        the new key is in force from here on
//! ```
//!
//! `NAME` is always a whole key, and the one in force. Whatever else a crash leaves is destroyed by [`settle`]. The state
//! store is no place for keys: it writes its pages elsewhere each time, and what was in one stays where it was.

use crate::config::ValueError;
use aes_kw::{KeyInit, KwAes256};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use stampede_image::cipher::{DataKey, KEY};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of the operator's key.
const WRAPPING_KEY: usize = 32;
/// Bytes that wrapping adds to a key (RFC 3394).
const WRAPPED: usize = KEY + 8;
/// The bits of a file's mode that let others than its owner at it.
const MODE_OTHERS: u32 = 0o077;
/// No file of keys is longer.
const FILE_MAX: u64 = 64 << 10;
/// The format of key files.
const VERSION: u32 = 1;

/// What a key file says. It is TOML, so that an operator can tell which file is for what.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Text {
    version: u32,
    /// The image's path when the key was made: for people.
    image: String,
    block_size: u32,
    /// The key is wrapped with the operator's.
    wrapped: bool,
    key: String,
    /// SHA-256 of the bare key: whether it was read as it was written.
    check: String,
}

impl Drop for Text {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// The operator's key, which data keys are wrapped with (AES-KW, RFC 3394).
pub(super) struct WrappingKey(KwAes256);

impl WrappingKey {
    /// Reads it: 32 bytes, or 64 hexadecimal digits.
    pub(super) fn read(path: &Path) -> Result<Self, ValueError> {
        let bytes = read_private(path)?;
        let key = match bytes.len() {
            WRAPPING_KEY => bytes,
            _ => std::str::from_utf8(&bytes).ok().and_then(|text| from_hex(text.trim())).unwrap_or_default(),
        };
        KwAes256::new_from_slice(&key).map(Self).map_err(|_| {
            ValueError::new(
                format!("{} is no key", path.display()),
                "it has to hold 32 bytes or 64 hexadecimal digits: make one with `openssl rand -hex 32`",
            )
        })
    }
}

/// What was read from a key file.
pub(super) struct Stored {
    pub(super) key: DataKey,
    pub(super) block_size: u32,
    pub(super) wrapped: bool,
}

/// Reads a key file; `None` if there is none.
pub(super) fn read(path: &Path, wrapping: Option<&WrappingKey>) -> Result<Option<Stored>, ValueError> {
    if !path.exists() {
        return Ok(None);
    }
    let damaged = || {
        ValueError::new(
            format!("the key file {} is damaged", path.display()),
            "without its key nobody can read the image: restore the file from a backup",
        )
    };
    let bytes = read_private(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| damaged())?;
    let text: Text = toml::from_str(text).map_err(|_| damaged())?;
    if text.version != VERSION {
        let what = format!("the key file {} is of version {}", path.display(), text.version);
        return Err(ValueError::new(what, "use the stampede that made it"));
    }
    let stored = from_hex(&text.key).ok_or_else(damaged)?;
    let mut key = Zeroizing::new([0; KEY]);
    match (text.wrapped, wrapping) {
        (false, _) if stored.len() == KEY => key.copy_from_slice(&stored),
        (true, Some(WrappingKey(wrapping))) if stored.len() == WRAPPED => {
            wrapping.unwrap_key(&stored, &mut *key).map(drop).map_err(|_| {
                ValueError::new(
                    format!("the key in {} was wrapped with another key than encryption-key", path.display()),
                    "name the file that it was wrapped with",
                )
            })?;
        }
        (true, None) => {
            return Err(ValueError::new(
                format!("the key in {} is wrapped with a key of yours", path.display()),
                "name its file with encryption-key=FILE",
            ));
        }
        _ => return Err(damaged()),
    }
    let key = DataKey::new(key).filter(|key| check(key) == text.check).ok_or_else(damaged)?;
    Ok(Some(Stored { key, block_size: text.block_size, wrapped: text.wrapped }))
}

/// Which image a key file was made for.
pub(super) fn image_of(path: &Path) -> Option<PathBuf> {
    let bytes = read_private(path).ok()?;
    let text: Text = toml::from_str(std::str::from_utf8(&bytes).ok()?).ok()?;
    Some(PathBuf::from(&text.image))
}

/// A key file as it is to be.
pub(super) struct Draft<'a> {
    pub(super) key: &'a DataKey,
    pub(super) image: &'a Path,
    pub(super) block_size: u32,
    pub(super) wrapping: Option<&'a WrappingKey>,
}

impl Draft<'_> {
    fn text(&self) -> io::Result<Zeroizing<String>> {
        let mut wrapped = Zeroizing::new([0; WRAPPED]);
        let key = match self.wrapping {
            Some(WrappingKey(wrapping)) => {
                wrapping.wrap_key(self.key.bytes(), &mut *wrapped).map_err(io::Error::other)?
            }
            None => self.key.bytes(),
        };
        let text = Text {
            version: VERSION,
            image: self.image.display().to_string(),
            block_size: self.block_size,
            wrapped: self.wrapping.is_some(),
            key: to_hex(key),
            check: check(self.key),
        };
        toml::to_string(&text).map(Zeroizing::new).map_err(io::Error::other)
    }
}

/// A step of a replacement: where, and the text of the new file.
type Step = fn(&Path, &[u8]) -> io::Result<()>;

/// The steps of a replacement. [`settle`] makes whole what is left when only some of them were done.
const STEPS: [Step; 5] = [write_new, link_old, commit, destroy_old, sync_folder];
/// From this step on the new key is in force.
const COMMIT: usize = 2;

/// Puts a key in a file, and destroys the one that was there, if one was: whether that is done.
///
/// # Errors
/// The file is what it was.
pub(super) fn replace(path: &Path, draft: &Draft<'_>) -> io::Result<bool> {
    replace_until(path, draft, STEPS.len())
}

fn replace_until(path: &Path, draft: &Draft<'_>, steps: usize) -> io::Result<bool> {
    let text = draft.text()?;
    for (at, step) in STEPS.iter().take(steps).enumerate() {
        match step(path, text.as_bytes()) {
            Ok(()) => {}
            Err(error) if at <= COMMIT => return Err(error),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the old key cannot be destroyed");
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(new(path))?;
    file.write_all(text)?;
    file.sync_all()
}

fn link_old(path: &Path, _: &[u8]) -> io::Result<()> {
    match fs::hard_link(path, old(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A replacement before this one could not destroy it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            settle_old(path)?;
            fs::hard_link(path, old(path))
        }
        linked => linked,
    }?;
    sync_folder(path, &[])
}

fn commit(path: &Path, _: &[u8]) -> io::Result<()> {
    fs::rename(new(path), path)
}

fn destroy_old(path: &Path, _: &[u8]) -> io::Result<()> {
    // Until the folder is durable the old key may still be the one that the next start finds.
    sync_folder(path, &[])?;
    destroy(&old(path))
}

fn sync_folder(path: &Path, _: &[u8]) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Destroys what a replacement that was cut off left beside a key.
pub(super) fn settle(path: &Path) -> io::Result<()> {
    settle_old(path)?;
    destroy(&new(path))?;
    sync_folder(path, &[])
}

fn settle_old(path: &Path) -> io::Result<()> {
    let inode = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    match inode(&old(path)) {
        // The key in force, by a second name.
        Some(old_inode) if Some(old_inode) == inode(path) => fs::remove_file(old(path)),
        _ => destroy(&old(path)),
    }
}

/// Overwrites a file where it lies, durably, and removes it. One that is not there is destroyed already.
fn destroy(path: &Path) -> io::Result<()> {
    let mut file = match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let len = usize::try_from(file.metadata()?.len().min(FILE_MAX)).unwrap_or_default();
    file.write_all(&vec![0; len])?;
    file.sync_all()?;
    fs::remove_file(path)
}

fn new(path: &Path) -> PathBuf {
    path.with_added_extension("new")
}

fn old(path: &Path) -> PathBuf {
    path.with_added_extension("old")
}

/// The bytes of a file that nobody but its owner may look at.
fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, ValueError> {
    let failed = |error: io::Error| {
        let what = format!("cannot read the key in {}: {error}", path.display());
        ValueError::new(what, "name a file that the user that runs stampede may read")
    };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.mode() & MODE_OTHERS != 0 {
        let what = format!("others than its owner may read or write the key in {}", path.display());
        return Err(ValueError::new(what, "chmod 600 the file"));
    }
    // Room for all, so that no copy is left where the bytes grew.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_MAX as usize + 1));
    file.take(FILE_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn check(key: &DataKey) -> String {
    to_hex(&Sha256::digest(key.bytes()))
}

fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble & 0xF)]);
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.extend([digit(byte >> 4), digit(*byte)]);
    }
    text
}

fn from_hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    bytes.filter(|_| rest.is_empty()).map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> DataKey {
        let mut bytes = Zeroizing::new([byte; KEY]);
        bytes[0] = !byte;
        DataKey::new(bytes).unwrap()
    }

    fn draft<'a>(key: &'a DataKey, wrapping: Option<&'a WrappingKey>) -> Draft<'a> {
        Draft { key, image: Path::new("/srv/d.img"), block_size: 512, wrapping }
    }

    fn found(path: &Path) -> Option<u8> {
        read(path, None).unwrap().map(|stored| stored.key.bytes()[1])
    }

    #[test]
    fn whatever_cuts_a_replacement_off_one_key_is_left_and_it_is_whole() {
        for old_key in [None, Some(key(1))] {
            for steps in 0..=STEPS.len() {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("k");
                if let Some(key) = &old_key {
                    replace(&path, &draft(key, None)).unwrap();
                }
                // Somebody who looks at the file's bytes for ever.
                let spy = File::open(&path).ok();
                replace_until(&path, &draft(&key(2), None), steps).unwrap();
                settle(&path).unwrap();
                let (before, after) = (old_key.as_ref().map(|_| 1), Some(2));
                assert_eq!(found(&path), if steps > COMMIT { after } else { before }, "{steps}");
                assert!(fs::read_dir(folder.path()).unwrap().count() <= 1, "{steps}");
                let Some(mut spy) = spy else { continue };
                let mut seen = Vec::new();
                spy.read_to_end(&mut seen).unwrap();
                assert_eq!(seen.iter().all(|byte| *byte == 0), steps > COMMIT, "{steps}");
            }
        }
    }

    #[test]
    fn what_could_not_be_destroyed_is_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        replace(&path, &draft(&key(1), None)).unwrap();
        replace_until(&path, &draft(&key(2), None), COMMIT + 1).unwrap();
        let mut spy = File::open(old(&path)).unwrap();
        assert!(replace(&path, &draft(&key(3), None)).unwrap());
        let mut seen = Vec::new();
        spy.read_to_end(&mut seen).unwrap();
        assert!(!seen.is_empty() && seen.iter().all(|byte| *byte == 0));
        assert_eq!(found(&path), Some(3));
    }

    #[test]
    fn a_wrapped_key_needs_its_wrapping_key() {
        let folder = tempfile::tempdir().unwrap();
        let (path, own, other) =
            (folder.path().join("k"), folder.path().join("own"), folder.path().join("other"));
        let secret = |path: &Path, text: &[u8]| {
            fs::write(path, text).unwrap();
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        };
        secret(&own, "0123456789abcdef".repeat(4).as_bytes());
        secret(&other, &[7; 32]);
        let (own_key, other_key) = (WrappingKey::read(&own).unwrap(), WrappingKey::read(&other).unwrap());
        replace(&path, &draft(&key(1), Some(&own_key))).unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains(&"01".repeat(20)), "the bare key");
        let stored = read(&path, Some(&own_key)).unwrap().unwrap();
        assert!(stored.wrapped && stored.key.bytes() == key(1).bytes());
        let error = |wrapping| read(&path, wrapping).err().unwrap().to_string();
        assert!(error(Some(&other_key)).contains("another key"));
        assert!(error(None).contains("encryption-key=FILE"));
        for (bad, why) in [(&b"0123"[..], "is no key"), (&[1; 31], "is no key"), (&[b'x'; 64], "is no key")] {
            secret(&own, bad);
            assert!(WrappingKey::read(&own).err().unwrap().to_string().contains(why));
        }
        fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        assert!(WrappingKey::read(&other).err().unwrap().to_string().contains("chmod 600"));
    }

    #[test]
    fn a_damaged_file_is_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        replace(&path, &draft(&key(1), None)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(image_of(&path), Some(PathBuf::from("/srv/d.img")));
        let whole = fs::read_to_string(&path).unwrap();
        for text in [whole.replace("0101", "0102"), whole[..whole.len() / 2].to_owned(), String::new()] {
            fs::write(&path, text).unwrap();
            assert!(read(&path, None).err().unwrap().to_string().contains("damaged"));
        }
    }
}
