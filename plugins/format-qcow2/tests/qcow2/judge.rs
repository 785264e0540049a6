//! `qemu-img` on the files of an image, in a folder of its own.

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use stampede_format_qcow2::Qcow2;
use stampede_plugin::{Extent, FileId, Format, Mode, OpenRequest, Pages, Place, Range, Span, View};
use tempfile::TempDir;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Found {
    pub errors: u64,
    pub leaks: u64,
}

pub struct Judge {
    folder: TempDir,
}

impl Judge {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts an image's files into the folder.
    pub fn put(&self, files: &[Vec<u8>], parent: Option<&[u8]>) {
        for (name, bytes) in ["image.qcow2", "data.raw"].iter().zip(files) {
            fs::write(self.folder().join(name), bytes).unwrap();
        }
        if let Some(parent) = parent {
            fs::write(self.folder().join("parent.raw"), parent).unwrap();
        }
    }

    pub fn take(&self, count: usize) -> Vec<Vec<u8>> {
        ["image.qcow2", "data.raw"][..count]
            .iter()
            .map(|name| fs::read(self.folder().join(name)).unwrap())
            .collect()
    }

    /// Runs `tool`, which must end well, and gives what it says.
    pub fn run(&self, tool: &str, arguments: &[&str]) -> String {
        let (ok, text) = self.try_run(tool, arguments);
        assert!(ok, "{tool} {arguments:?}: {text}");
        text
    }

    pub fn try_run(&self, tool: &str, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(tool).current_dir(self.folder()).args(arguments).output().unwrap();
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text)
    }

    /// `qemu-img check`.
    pub fn check(&self) -> Found {
        let arguments = ["check", "--output=json", "-f", "qcow2", "image.qcow2"];
        let output = Command::new("qemu-img").current_dir(self.folder()).args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let value: Value = serde_json::from_str(&text)
            .unwrap_or_else(|_| panic!("{text} {}", String::from_utf8_lossy(&output.stderr)));
        let number = |name: &str| value.get(name).and_then(Value::as_u64).unwrap_or(0);
        Found { errors: number("corruptions") + number("check-errors"), leaks: number("leaks") }
    }

    /// The disk's bytes, as QEMU reads them.
    pub fn read(&self, snapshot: Option<&str>) -> Vec<u8> {
        let mut arguments = vec!["convert", "-f", "qcow2", "-O", "raw"];
        arguments.extend(snapshot.map(|name| ["-l", name]).into_iter().flatten());
        arguments.extend(["image.qcow2", "read.raw"]);
        self.run("qemu-img", &arguments);
        fs::read(self.folder().join("read.raw")).unwrap()
    }

    /// That QEMU reads the disk as `expected`, and maps it as the plugin does.
    pub fn agree(&self, files: &[Vec<u8>], expected: &[u8]) -> Result<(), String> {
        fs::write(self.folder().join("expected.raw"), expected).unwrap();
        let arguments = ["compare", "-f", "qcow2", "-F", "raw", "image.qcow2", "expected.raw"];
        let (same, text) = self.try_run("qemu-img", &arguments);
        if !same {
            return Err(text);
        }
        let text = self.run("qemu-img", &["map", "--output=json", "-f", "qcow2", "image.qcow2"]);
        let map: Vec<Value> = serde_json::from_str(&text).unwrap();
        let ours = resolved(files, View::Active);
        for part in &map {
            same_map(part, &ours)?;
        }
        Ok(())
    }
}

fn same_map(part: &Value, ours: &[Extent]) -> Result<(), String> {
    let number = |name: &str| part[name].as_u64().unwrap();
    let flag = |name: &str| part[name].as_bool().unwrap();
    let (start, end) = (number("start"), number("start") + number("length"));
    for extent in ours.iter().filter(|extent| extent.range.offset < end && start < extent.range.end()) {
        let at = extent.range.offset.max(start);
        let right = match extent.place {
            // Beyond the parent's end QEMU says zeros.
            Place::Parent => number("depth") == 1 || !flag("present") || flag("zero"),
            Place::Zero => flag("zero") && number("depth") == 0,
            Place::Packed { .. } => flag("data") && number("depth") == 0 && part.get("offset").is_none(),
            Place::Data { offset, .. } => {
                let there = part["offset"].as_u64().map(|offset| offset + (at - start));
                !flag("zero") && number("depth") == 0 && there == Some(offset + (at - extent.range.offset))
            }
            Place::Sparse { .. } => false,
        };
        if !right {
            return Err(format!("QEMU maps {part}, the plugin {extent:?}"));
        }
    }
    Ok(())
}

/// Files as pages, all of them at hand.
pub struct Whole<'a>(pub &'a [Vec<u8>]);

impl Pages for Whole<'_> {
    fn read(&mut self, span: Span) -> Option<Vec<u8>> {
        let start = span.offset as usize;
        self.0.get(usize::from(span.file.0))?.get(start..start + span.length as usize).map(<[u8]>::to_vec)
    }

    fn file_length(&self, file: FileId) -> u64 {
        self.0.get(usize::from(file.0)).map_or(0, |file| file.len() as u64)
    }
}

/// The whole disk's extents.
pub fn resolved(files: &[Vec<u8>], view: View) -> Vec<Extent> {
    let mut format = Qcow2::default();
    let mut pages = Whole(files);
    let request = OpenRequest { mode: Mode::ReadOnly, files: files.len() as u16 };
    let size = format.open(&mut pages, &request).unwrap().virtual_size;
    let (mut extents, mut at) = (Vec::new(), 0);
    while at < size {
        let range = Range::between(at, size);
        let found: Vec<Extent> = format.resolve(&mut pages, view, range, 1000).unwrap();
        at = found.last().unwrap().range.end();
        extents.extend(found);
    }
    extents
}
