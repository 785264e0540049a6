//! Compiled code on disk: by the content of the plugin and the engine that compiled it.
//!
//! Compiled code is code: whoever can write it can run what they like in this process. So the folder is ours alone (0700), an entry is believed
//! only if it is a plain file of ours that nobody else can write and its checksum is right, and is replaced whole (a rename). Anything else about an
//! entry makes it as good as missing.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    hash::{Hash as _, Hasher},
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use sha2::{Digest as _, Sha256};
use wasmtime::{Engine, component::Component};

/// What an entry begins with; then the SHA-256 of the code, then the code.
const MAGIC: &[u8; 8] = b"STMPWAS1";
/// How many entries are kept; the oldest go.
const ENTRIES_MAX: usize = 64;
/// The largest entry that is read, in bytes.
const ENTRY_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    /// What tells engines apart whose code is not each other's: version, settings, processor.
    engine: String,
}

impl Cache {
    /// The cache in a folder, which is made if it is not there.
    pub(crate) fn new(folder: &Path, engine: &Engine) -> Result<Self, String> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| error.to_string())?;
        let found = fs::symlink_metadata(folder).map_err(|error| error.to_string())?;
        if !found.is_dir() || !ours(&found) {
            return Err(String::from(
                "a folder for compiled code must be the target's own, and writable by nobody else (mode 0700)",
            ));
        }
        let mut hasher = Sha256Hasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { folder: folder.into(), engine: hex(&hasher.0.finalize()[..8]) })
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}-{}.code", self.engine))
    }

    /// What was compiled before.
    pub(crate) fn find(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let path = self.path(digest);
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&path).ok()?;
        let Some(code) = read(file) else {
            tracing::warn!(
                "{}: compiled code that is not whole, or not ours, is compiled anew",
                path.display()
            );
            return None;
        };
        load(engine, &code)
            .inspect_err(|error| tracing::warn!("{}: compiled anew: {error:#}", path.display()))
            .ok()
    }

    /// Keeps what was compiled. If that fails, it is compiled again next time.
    pub(crate) fn keep(&self, digest: &str, component: &Component) {
        let path = self.path(digest);
        let kept = component.serialize().map_err(|error| error.to_string()).and_then(|code| {
            let new = self.folder.join(format!("{digest}.{}.new", std::process::id()));
            let written = write(&new, &code).and_then(|()| fs::rename(&new, &path));
            written.map_err(|error| {
                // Whether or not there was anything to remove.
                let _ = fs::remove_file(&new);
                error.to_string()
            })
        });
        match kept {
            Ok(()) => self.trim(),
            Err(why) => tracing::warn!("{}: compiled code was not kept: {why}", path.display()),
        }
    }

    /// Removes the oldest entries beyond the limit.
    fn trim(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut found: Vec<(SystemTime, PathBuf)> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
            })
            .collect();
        found.sort();
        for (_, path) in &found[..found.len().saturating_sub(ENTRIES_MAX)] {
            // One that stays is removed another time.
            let _ = fs::remove_file(path);
        }
    }
}

/// Code that was compiled by us before.
#[allow(unsafe_code, reason = "compiled code is believed as it stands")]
fn load(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes are what `Component::serialize` gave: they come from `read`, which gives only what has our magic number and the right
    // checksum, out of a file that belongs to our user, that nobody else may write, in a folder of which the same is true. Whoever can write there
    // can replace this program as well. The engine itself refuses code of another version or with other settings. There is no safe call that
    // takes compiled code, by its nature, and compiling at each start takes longer than starting may.
    unsafe { Component::deserialize(engine, code) }
}

/// The code in an entry, if it is whole and ours.
fn read(mut file: File) -> Option<Vec<u8>> {
    let found = file.metadata().ok()?;
    if !found.is_file() || !ours(&found) || found.len() > ENTRY_BYTES_MAX {
        return None;
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    let (sum, code) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<32>()?;
    (Sha256::digest(code)[..] == sum[..]).then(|| code.to_vec())
}

fn write(path: &Path, code: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(MAGIC)?;
    file.write_all(&Sha256::digest(code))?;
    file.write_all(code)?;
    file.sync_all()
}

/// Whether a file or folder belongs to us and nobody else may write it.
fn ours(found: &fs::Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A hasher whose sums are the same in each process.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let sum = self.0.clone().finalize();
        sum.iter().take(8).fold(0, |word, byte| word << 8 | u64::from(*byte))
    }
}
