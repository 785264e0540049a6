//! Lives of images: writes, zeros, unmaps, flushes, other sizes, reopenings and kills, drawn by seeds, against a plain model of the disk.
//! After each reopening the second reader must agree, and qemu-img where it can judge (fixed and dynamic), and libvhdi where it can
//! (differencing, writes of 4 KiB).
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

mod common;

use common::{
    Draw, PARENT_ID, Shape, TIME, check,
    ledger::{Ledger, draw_range},
    reader::Reader,
    tools::{self, Folder},
    whole,
};
use stampede_format_vhd::Vhd;
use stampede_plugin::{
    Change, Created, Format, Identity, Job, Mode, OpenRequest, Place, Range, View,
    model::{Disk, Model},
};

const SHORT: std::ops::Range<u64> = 0..10;
const LONG: std::ops::Range<u64> = 1000..1200;
const STEPS: u32 = 60;

/// A life's image and everything that judges it.
struct Life {
    shape: Shape,
    model: Model<Vhd>,
    ledger: Ledger,
    /// Writes begin and end at multiples of so many sectors.
    unit: u64,
    folder: Folder,
    qemu: bool,
    python: Option<String>,
}

#[test]
fn fixed() {
    SHORT.for_each(|seed| live("fixed", seed));
}

#[test]
fn dynamic() {
    SHORT.for_each(|seed| live("dynamic", seed));
}

#[test]
fn differencing() {
    SHORT.for_each(|seed| live("differencing", seed));
}

#[test]
#[ignore = "long: 200 seeds"]
fn fixed_long() {
    LONG.for_each(|seed| live("fixed", seed));
}

#[test]
#[ignore = "long: 200 seeds"]
fn dynamic_long() {
    LONG.for_each(|seed| live("dynamic", seed));
}

#[test]
#[ignore = "long: 200 seeds"]
fn differencing_long() {
    LONG.for_each(|seed| live("differencing", seed));
}

fn live(kind: &'static str, seed: u64) {
    let mut draw = Draw(seed);
    let block_size = [4096, 8192, 64 << 10, 512 << 10, 2 << 20, 4 << 20][draw.below(6) as usize];
    let most = (u64::from(block_size) * 5).clamp(64 << 10, 6 << 20) / 512;
    let unit = if draw.below(2) == 0 { 8 } else { 1 };
    let size = (8 + draw.below(most)) * 512;
    let shape = Shape::new(kind, block_size, size);
    let mut file = shape.file();
    set_creator(&mut file, &mut draw);
    let mut life = Life {
        model: shape.opened(file, Mode::ReadWrite).unwrap(),
        ledger: Ledger::new(&shape),
        unit,
        folder: Folder::new(),
        qemu: kind != "differencing" && tools::have_qemu(),
        python: if kind == "differencing" { tools::python_with_libvhdi() } else { None },
        shape,
    };
    for step in 0..STEPS {
        life.step(&mut draw).unwrap_or_else(|text| panic!("{kind}, seed {seed}, step {step}: {text}"));
    }
    life.reopen().unwrap_or_else(|text| panic!("{kind}, seed {seed}, at the end: {text}"));
}

/// Gives the image another creator: of those whose geometry counts, the geometry counts for nothing here.
fn set_creator(file: &mut [u8], draw: &mut Draw) {
    let creator = [b"stpd", b"win ", b"vpc ", b"qemu", b"d2v\0"][draw.below(5) as usize];
    let end = file.len() - 512;
    for at in [0, end] {
        let footer = &mut file[at..at + 512];
        if footer.starts_with(b"conectix") {
            footer[28..32].copy_from_slice(creator);
            footer[56..60].copy_from_slice(&[0xFF, 0xFF, 16, 255]);
            footer[64..68].fill(0);
            let sum: u32 = footer.iter().map(|&byte| u32::from(byte)).sum();
            footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
        }
    }
}

impl Life {
    fn step(&mut self, draw: &mut Draw) -> Result<(), String> {
        let (start, count) = draw_range(draw, self.ledger.size() / 512, self.unit);
        let range = Range { offset: start as u64 * 512, length: count as u64 * 512 };
        let text = |error| format!("{error}");
        match draw.below(20) {
            0..8 => {
                let data = self.ledger.write(start, count);
                self.model.write(range.offset, &data).map_err(text)?;
            }
            8..10 => {
                self.ledger.zero(start, count);
                self.model.change(range, Change::Zero).map_err(text)?;
            }
            10..12 => {
                if self.shape.kind != "differencing" {
                    self.ledger.zero(start, count);
                }
                self.model.change(range, Change::Unmap).map_err(text)?;
            }
            12..15 => {
                self.model.flush().map_err(text)?;
                self.ledger.flushed();
            }
            15 => self.resize(draw)?,
            16 => self.reopen()?,
            17 => self.kill()?,
            _ => {
                let found = self.model.read(range).map_err(text)?;
                if found != self.ledger.disk()[start * 512..][..count * 512] {
                    return Err(format!("sectors {start} to {} are not what was written", start + count));
                }
            }
        }
        Ok(())
    }

    fn resize(&mut self, draw: &mut Draw) -> Result<(), String> {
        if self.shape.kind == "differencing" {
            return Ok(());
        }
        let block = u64::from(self.shape.block_size);
        let size = (8 + draw.below((block * 6).clamp(64 << 10, 8 << 20) / 512)) * 512;
        self.model.flush().map_err(|error| format!("{error}"))?;
        let before = self.ledger.size();
        let refused = self.model.job(Job::Resize { virtual_size: size, shrink: false });
        if refused.is_err() != (size < before) {
            return Err(format!("from {before} to {size} bytes: {refused:?}"));
        }
        if size < before {
            let done = self.model.job(Job::Resize { virtual_size: size, shrink: true });
            done.map_err(|error| format!("from {before} to {size} bytes: {error}"))?;
        }
        self.ledger.resize(size);
        self.reopen()
    }

    /// Closes the image, has it judged, and opens it again.
    fn reopen(&mut self) -> Result<(), String> {
        self.model.close().map_err(|error| format!("{error}"))?;
        let file = self.model.disk().files()[0].clone();
        let disk = self.ledger.disk();
        self.judge(&file, &disk)?;
        self.model = self.shape.opened(file, Mode::ReadWrite).map_err(|error| format!("{error}"))?;
        if self.model.opened().unwrap().needs_recovery {
            return Err("a closed image needs recovery".into());
        }
        let found = self.model.read(whole(self.ledger.size())).map_err(|error| format!("{error}"))?;
        self.ledger.adopt(&found)
    }

    fn judge(&mut self, file: &[u8], disk: &[u8]) -> Result<(), String> {
        if Reader::strict(file)?.disk(&self.shape.parent) != disk {
            return Err("the second reader reads something else".into());
        }
        let report = check(file.to_vec());
        if report.error_count != 0 {
            return Err(format!("{report:?}"));
        }
        if self.qemu {
            tools::qemu_agrees(&self.folder, file, disk)?;
            self.compare_maps(file)?;
        }
        if self.unit == 8
            && let Some(python) = &self.python
        {
            let child = self.folder.file("child.vhd", file);
            let parent = self.folder.file("golden.vhd", &parent_file(&self.shape.parent));
            let found = tools::read_by_libvhdi(python, &child, &parent)?;
            let differs = |sector: &usize| found.chunks(512).nth(*sector) != disk.chunks(512).nth(*sector);
            if let Some(sector) = (0..disk.len() / 512).find(differs) {
                return Err(format!(
                    "libvhdi reads something else at sector {sector} of {}",
                    disk.len() / 512
                ));
            }
        }
        Ok(())
    }

    /// What lies in the file for qemu-img lies there for us.
    fn compare_maps(&self, file: &[u8]) -> Result<(), String> {
        let mut pages = AllPages(file.to_vec());
        let mut vhd = Vhd::default();
        let opened = vhd.open(&mut pages, &OpenRequest { mode: Mode::ReadOnly, files: 1 }).unwrap();
        for (start, length, offset) in tools::qemu_map(&self.folder, file) {
            let range = Range::between(start, (start + length).min(opened.virtual_size));
            let extent = vhd.resolve(&mut pages, View::Active, range, 1).unwrap()[0];
            match extent.place {
                Place::Data { offset: ours, .. } | Place::Sparse { offset: ours, .. }
                    if ours + (start - extent.range.offset) == offset => {}
                _ => return Err(format!("qemu-img has byte {start} at {offset}, we have {extent:?}")),
            }
        }
        Ok(())
    }

    /// The host dies with what it has not written; nothing that was flushed is lost.
    fn kill(&mut self) -> Result<(), String> {
        let file = self.model.disk().files()[0].clone();
        self.model = self.shape.opened(file, Mode::ReadWrite).map_err(|error| format!("{error}"))?;
        let found = self.model.read(whole(self.ledger.size())).map_err(|error| format!("{error}"))?;
        self.ledger.adopt(&found)
    }
}

/// The parent's disk as a fixed image.
fn parent_file(disk: &[u8]) -> Vec<u8> {
    let mut model = Model::new(Vhd::default(), Disk::new(vec![vec![]]));
    let identity = Identity { id: PARENT_ID, time: Some(TIME - 5) };
    let options = vec![("type".into(), "fixed".into())];
    let created = Created { virtual_size: disk.len() as u64, options, parent: None, identity };
    model.job(Job::Create(created)).unwrap();
    let mut file = model.into_disk().files()[0].clone();
    file[..disk.len()].copy_from_slice(disk);
    file
}

#[test]
fn images_of_qemu_open_here() {
    if !tools::have_qemu() {
        return;
    }
    for (kind, options) in [
        ("dynamic", "subformat=dynamic,force_size=on"),
        ("dynamic", "subformat=dynamic,force_size=off"),
        ("fixed", "subformat=fixed,force_size=on"),
        ("fixed", "subformat=fixed,force_size=off"),
    ] {
        let folder = Folder::new();
        let shape = Shape::new(kind, 2 << 20, 9 << 20);
        let disk = common::pattern(shape.size, 9);
        let raw = folder.file("disk.raw", &[&disk[..3 << 20], &vec![0; 6 << 20]].concat());
        let path = folder.0.join("made.vhd");
        let (raw, made) = (raw.to_str().unwrap(), path.to_str().unwrap());
        tools::qemu_img(&["convert", "-f", "raw", "-O", "vpc", "-o", options, raw, made]).unwrap();
        let mut model = shape.opened(std::fs::read(&path).unwrap(), Mode::ReadWrite).unwrap();
        let size = model.opened().unwrap().virtual_size;
        assert!(size >= shape.size && model.opened().unwrap().warnings.is_empty(), "{options}");
        let mut expected = model.read(whole(size)).unwrap();
        assert!(expected[..3 << 20] == disk[..3 << 20] && expected[3 << 20..].iter().all(|&byte| byte == 0));
        model.write(5 << 20, &[3; 8192]).unwrap();
        model.write(512, &[4; 512]).unwrap();
        model.flush().unwrap();
        expected[5 << 20..][..8192].fill(3);
        expected[512..1024].fill(4);
        let file = model.disk().files()[0].clone();
        assert!(Reader::strict(&file).unwrap().disk(&[]) == expected, "{options}");
        tools::qemu_agrees(&folder, &file, &expected).unwrap();
        assert_eq!(check(file).error_count, 0);
    }
}

/// Pages that are all at hand.
struct AllPages(Vec<u8>);

impl stampede_plugin::Pages for AllPages {
    fn read(&mut self, span: stampede_plugin::Span) -> Option<Vec<u8>> {
        Some(self.0.get(span.offset as usize..)?.get(..span.length as usize)?.to_vec())
    }

    fn file_length(&self, _file: stampede_plugin::FileId) -> u64 {
        self.0.len() as u64
    }
}
