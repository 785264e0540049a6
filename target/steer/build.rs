//! Finds the eBPF programs that `scripts/guests` has built, and passes their places on to be embedded. It builds nothing
//! itself: programs that are missing, or older than their source, end the build with the command to run.

#![forbid(unsafe_code)]

use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// What `scripts/guests` writes last: a line `SHA-256  path` for each file that the programs were made of.
const SUMS: &str = "ebpf.sum";

fn main() {
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");
    match find() {
        Ok(folder) => {
            println!("cargo::rustc-env=STAMPEDE_REUSEPORT={}", folder.join("reuseport").display())
        }
        Err(error) => {
            println!("cargo::error={error}: run `scripts/guests` (and once before, `scripts/setup --build`)")
        }
    }
}

/// The folder with the programs: `guests/` in the build folder that cargo uses now.
fn find() -> Result<PathBuf, Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let given = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let folders = given.into_iter().chain(out.ancestors().map(Path::to_path_buf)).chain([root.join("build")]);
    let mut folders = folders.map(|folder| folder.join("guests"));
    let Some(folder) = folders.find(|folder| folder.join(SUMS).is_file()) else {
        // Looked for again as soon as any of them could be there.
        println!("cargo::rerun-if-changed={}", root.join("build/guests").display());
        return Err("the eBPF programs have not been built".into());
    };
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-changed={}", root.join("ebpf").display());
    check(&root, &fs::read_to_string(folder.join(SUMS))?)?;
    Ok(folder)
}

/// Compares what the programs were made of with what is there now.
fn check(root: &Path, sums: &str) -> Result<(), Box<dyn Error>> {
    let mut known = BTreeSet::new();
    for line in sums.lines() {
        let (sum, path) = line.split_once("  ").ok_or("the eBPF programs' list of sources is broken")?;
        let path = root.join(path);
        println!("cargo::rerun-if-changed={}", path.display());
        let content = fs::read(&path).unwrap_or_default();
        let now: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        if now != sum {
            return Err(format!("the eBPF programs are not those of {}", path.display()).into());
        }
        known.insert(path);
    }
    match files(&root.join("ebpf"))?.into_iter().find(|path| !known.contains(path)) {
        Some(new) => Err(format!("the eBPF programs were built without {}", new.display()).into()),
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
