//! For build scripts: finds what `scripts/guests` and `scripts/plugins` have built, to be embedded. It builds nothing itself: guests that are missing, or are not
//! made of the sources that are there, end the build with the command to run.

#![forbid(unsafe_code)]

use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// A kind of guests.
#[derive(Debug, Clone, Copy)]
pub struct Guests {
    /// What they are, in words.
    pub what: &'static str,
    /// What the script writes last, beside them: a line `SHA-256  path` for each file that they were made of.
    pub sums: &'static str,
    /// The folder of their sources, beneath the root of the repository.
    pub sources: &'static str,
    /// The endings of the files there that they are made of; all, if there are none.
    pub endings: &'static [&'static str],
}

/// The folder that has them: `guests/` in the build folder that cargo uses now. `root` is the repository's.
///
/// # Errors
/// When they are missing, or were made of other sources than those that are there.
pub fn find(root: &Path, guests: Guests) -> Result<PathBuf, Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");
    let root = root.canonicalize()?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let given = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let folders = given.into_iter().chain(out.ancestors().map(Path::to_path_buf)).chain([root.join("build")]);
    let mut folders = folders.map(|folder| folder.join("guests"));
    let Some(folder) = folders.find(|folder| folder.join(guests.sums).is_file()) else {
        // Looked for again as soon as any of them could be there.
        println!("cargo::rerun-if-changed={}", root.join("build/guests").display());
        return Err(format!("{} have not been built", guests.what).into());
    };
    println!("cargo::rerun-if-changed={}", folder.join(guests.sums).display());
    println!("cargo::rerun-if-changed={}", root.join(guests.sources).display());
    check(&root, guests, &fs::read_to_string(folder.join(guests.sums))?)?;
    Ok(folder)
}

/// Compares what the guests were made of with what is there now.
fn check(root: &Path, guests: Guests, sums: &str) -> Result<(), Box<dyn Error>> {
    let what = guests.what;
    let mut known = BTreeSet::new();
    for line in sums.lines() {
        let (sum, path) =
            line.split_once("  ").ok_or_else(|| format!("the list of sources of {what} is broken"))?;
        let path = root.join(path);
        println!("cargo::rerun-if-changed={}", path.display());
        let content = fs::read(&path).unwrap_or_default();
        let now: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        if now != sum {
            return Err(format!("{what} are not those of {}", path.display()).into());
        }
        known.insert(path);
    }
    let made_of = |path: &PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let test = path.iter().any(|piece| piece == "tests" || piece == "fuzz") || path.ends_with("tests.rs");
        guests.endings.is_empty() || (!test && guests.endings.contains(&ending))
    };
    match files(&root.join(guests.sources))?.into_iter().find(|path| made_of(path) && !known.contains(path)) {
        Some(new) => Err(format!("{what} were built without {}", new.display()).into()),
        None => Ok(()),
    }
}

/// All files beneath a folder.
fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    Ok(found)
}
