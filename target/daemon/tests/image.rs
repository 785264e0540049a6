//! `stampede image`, by its command line, beside qemu-img where that is installed.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs `stampede image` in the folder.
    fn image(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stampede"));
        command.arg("image").args(arguments).current_dir(self.0.path()).output().unwrap()
    }

    /// The same, which must end with `code`; gives what it printed.
    fn ends(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.image(arguments);
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        text
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_slice(&self.image(&[arguments, &["--json"]].concat()).stdout).unwrap()
    }

    /// A raw image of 8 MiB with bytes in it.
    fn golden(&self) {
        let mut bytes = vec![0; 8 << 20];
        bytes[1 << 20..][..70_000].fill(0xA5);
        bytes[(8 << 20) - 512..].fill(0x5A);
        std::fs::write(self.path("golden.raw"), bytes).unwrap();
    }
}

#[test]
fn a_disk_goes_through_every_format_and_comes_back() {
    let folder = Folder::new();
    folder.golden();
    folder.ends(0, &["convert", "golden.raw", "a.vhd"]);
    folder.ends(0, &["convert", "a.vhd", "back.img", "--to", "raw"]);
    assert!(
        std::fs::read(folder.path("golden.raw")).unwrap() == std::fs::read(folder.path("back.img")).unwrap()
    );
    assert_eq!(folder.ends(0, &["compare", "golden.raw", "a.vhd"]), "The disks are the same.\n");
    folder.ends(0, &["check", "a.vhd"]);
    let info = folder.json(&["info", "a.vhd"]);
    assert_eq!(info["layers"][0]["format"], "vhd");
    assert_eq!(info["layers"][0]["virtual_size"], 8 << 20);
    assert!(folder.ends(0, &["info", "a.vhd"]).contains("8M"));
    let map = folder.json(&["map", "a.vhd"]);
    let covered: u64 =
        map.as_array().unwrap().iter().map(|segment| segment["length"].as_u64().unwrap()).sum();
    assert_eq!(covered, 8 << 20);
}

#[test]
fn a_clone_follows_its_parent_to_another_place() {
    let folder = Folder::new();
    folder.golden();
    folder.ends(0, &["convert", "golden.raw", "golden.vhd"]);
    std::fs::create_dir(folder.path("clones")).unwrap();
    folder.ends(0, &["clone", "golden.vhd", "clones/one.vhd"]);
    let text = folder.ends(2, &["info", "clones/one.vhd"]);
    assert!(text.contains("not beneath") && text.contains("--root"), "{text}");
    let info = folder.json(&["info", "clones/one.vhd", "--root", "."]);
    assert_eq!(info["layers"].as_array().unwrap().len(), 2);
    folder.ends(0, &["compare", "golden.raw", "clones/one.vhd", "--root", "."]);

    std::fs::rename(folder.path("golden.vhd"), folder.path("clones/moved.vhd")).unwrap();
    let text = folder.ends(2, &["info", "clones/one.vhd"]);
    assert!(text.contains("parent is missing") && text.contains("relink"), "{text}");
    folder.ends(0, &["relink", "clones/one.vhd", "clones/moved.vhd"]);
    folder.ends(0, &["compare", "clones/one.vhd", "golden.raw"]);
    folder.ends(0, &["convert", "golden.raw", "other.vhd"]);
    let text = folder.ends(2, &["relink", "clones/one.vhd", "other.vhd"]);
    assert!(text.contains("not the parent") && text.contains("--force"), "{text}");
}

#[test]
fn what_differs_and_what_is_broken_is_told_by_the_exit_code() {
    let folder = Folder::new();
    folder.golden();
    folder.ends(0, &["convert", "golden.raw", "a.vhd"]);
    let mut bytes = std::fs::read(folder.path("golden.raw")).unwrap();
    bytes[(1 << 20) + 3] = 1;
    std::fs::write(folder.path("other.raw"), &bytes).unwrap();
    assert_eq!(
        folder.ends(3, &["compare", "a.vhd", "other.raw"]),
        "The disks differ, first at byte 1048579.\n"
    );
    // The allocation table's first entries, to which the header leads, point to one block.
    let mut image = std::fs::read(folder.path("a.vhd")).unwrap();
    let header = u64::from_be_bytes(image[16..24].try_into().unwrap()) as usize;
    let table = u64::from_be_bytes(image[header + 16..header + 24].try_into().unwrap()) as usize;
    let entry: [u8; 4] = image[table..table + 4].try_into().unwrap();
    image[table + 4..table + 8].copy_from_slice(&entry);
    std::fs::write(folder.path("broken.vhd"), image).unwrap();
    let text = folder.ends(4, &["check", "broken.vhd"]);
    assert!(text.contains("error: "), "{text}");
}

#[test]
fn mistakes_are_explained() {
    let folder = Folder::new();
    folder.golden();
    for (arguments, part) in [
        (&["info", "missing.raw"][..], "no such file"),
        (&["info", "golden"], "say it with --format"),
        (&["info", "-f", "vhd", "golden.raw"], "golden.raw (vhd): "),
        (&["create", "golden.raw", "1M"], "--replace"),
        (&["create", "new.raw", "1M", "-o", "cluster_size=4K"], "no options"),
        (&["clone", "golden.raw", "one.raw"], "no parent"),
        (&["resize", "golden.raw", "4M"], "smaller"),
        (&["snapshot", "create", "golden.raw", "s"], "no internal snapshots"),
        (&["convert", "golden.raw", "b.xyz"], "formats are not guessed"),
    ] {
        let text = folder.ends(2, arguments);
        assert!(text.contains(part), "{arguments:?}: {text:?} does not say {part:?}");
    }
    folder.ends(0, &["resize", "golden.raw", "4M", "--shrink"]);
    assert_eq!(std::fs::metadata(folder.path("golden.raw")).unwrap().len(), 4 << 20);
    folder.ends(0, &["create", "golden.raw", "1M", "--replace"]);
    assert_eq!(std::fs::metadata(folder.path("golden.raw")).unwrap().len(), 1 << 20);
}
