//! An image on the model host beside a plain model of its disk.

use std::io::Read as _;

use stampede_format_qcow2::Qcow2;
use stampede_plugin::{
    Change, Codec, Job, Mode, Range, Repair, Report, View,
    model::{Disk, Model, ModelError},
};

use super::{config::Config, judge::Judge};

pub struct Bench {
    pub config: Config,
    pub model: Model<Qcow2>,
    /// What the disk must read as.
    pub disk: Vec<u8>,
    /// The snapshots' names and disks.
    pub snapshots: Vec<(String, Vec<u8>)>,
    pub judge: Judge,
}

pub fn unpack(codec: Codec, bytes: &[u8], length: usize) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let limit = length as u64;
    match codec {
        Codec::Deflate => flate2::read::DeflateDecoder::new(bytes).take(limit).read_to_end(&mut out),
        Codec::Zstd => zstd::stream::read::Decoder::new(bytes)
            .map_err(|error| error.to_string())?
            .take(limit)
            .read_to_end(&mut out),
    }
    .map_err(|error| error.to_string())?;
    Ok(out)
}

/// A model of files, opened.
pub fn open(files: Disk, parent: Option<&Vec<u8>>, mode: Mode) -> Result<Model<Qcow2>, ModelError> {
    let mut model = Model::new(Qcow2::default(), files).with_unpack(unpack);
    if let Some(parent) = parent {
        model = model.with_parent(parent.clone());
    }
    model.open(mode)?;
    Ok(model)
}

impl Bench {
    pub fn new(config: Config) -> Self {
        let files = config.make();
        Self::over(config, files, Judge::new())
    }

    /// Over an image that somebody else made; it reads as the parent, or as zeros.
    pub fn over(config: Config, files: Disk, judge: Judge) -> Self {
        let mut disk = config.parent.clone().unwrap_or_default();
        disk.resize(config.size as usize, 0);
        let model = open(files, config.parent.as_ref(), Mode::ReadWrite).unwrap();
        Self { config, model, disk, snapshots: Vec::new(), judge }
    }

    pub fn write(&mut self, offset: u64, data: &[u8]) {
        self.model.write(offset, data).unwrap();
        self.disk[offset as usize..offset as usize + data.len()].copy_from_slice(data);
    }

    pub fn zero(&mut self, range: Range) {
        self.model.change(range, Change::Zero).unwrap();
        self.disk[range.offset as usize..range.end() as usize].fill(0);
    }

    /// Each sector is zeros afterwards, or as before.
    pub fn unmap(&mut self, range: Range) {
        self.model.change(range, Change::Unmap).unwrap();
        let found = self.model.read(range).unwrap();
        let before = &mut self.disk[range.offset as usize..range.end() as usize];
        for (old, new) in before.chunks_mut(512).zip(found.chunks(512)) {
            assert!(
                new == old || new.iter().all(|&byte| byte == 0),
                "unmapped, and neither zeros nor as before"
            );
            old.copy_from_slice(new);
        }
    }

    pub fn verify(&mut self) {
        let length = self.disk.len() as u64;
        let found = self.model.read(Range { offset: 0, length }).unwrap();
        if let Some(at) = found.iter().zip(&self.disk).position(|(found, expected)| found != expected) {
            panic!("byte {at} reads {}, should be {}", found[at], self.disk[at]);
        }
        for (number, (name, disk)) in self.snapshots.iter().enumerate() {
            let range = Range { offset: 0, length: disk.len() as u64 };
            let found = self.model.read_view(View::Snapshot(number as u32), range).unwrap();
            assert!(found == *disk, "snapshot {name} reads otherwise");
        }
    }

    /// A job, and the image opened again. An error leaves the image as it was.
    pub fn job(&mut self, job: Job) -> Result<Report, ModelError> {
        self.model.flush_all().unwrap();
        let report = self.model.job(job);
        self.reload(Mode::ReadWrite);
        report
    }

    pub fn reload(&mut self, mode: Mode) {
        let files = self.model.disk().files().to_vec();
        self.model = open(Disk::new(files), self.config.parent.as_ref(), mode).unwrap();
    }

    /// Our own check.
    pub fn check(&mut self, repair: Repair) -> Report {
        let report = self.model.job(Job::Check(repair)).unwrap();
        self.reload(Mode::ReadWrite);
        report
    }

    /// Closes the image, has QEMU judge it, and opens it again.
    pub fn reopen(&mut self) {
        self.model.close().unwrap();
        self.judged(0);
        self.reload(Mode::ReadWrite);
    }

    /// Flushes, and does not close.
    pub fn kill(&mut self) {
        self.model.flush().unwrap();
        let files = self.model.disk().files().to_vec();
        self.model = open(Disk::new(files), self.config.parent.as_ref(), Mode::ReadWrite).unwrap();
        self.model.flush_all().unwrap();
        self.judged(u64::MAX);
        // Lazy patches that never came are leaks.
        let report = self.check(Repair::Leaks);
        assert_eq!((report.error_count, report.repaired_bytes), (0, report.leaked_bytes), "{report:?}");
    }

    /// QEMU finds no error, at most so many leaks, and the same disk.
    pub fn judged(&mut self, leaks_max: u64) {
        let files = self.model.disk().files().to_vec();
        self.judge.put(&files, self.config.parent.as_deref());
        let found = self.judge.check();
        assert!(found.errors == 0 && found.leaks <= leaks_max, "{found:?}");
        self.judge.agree(&files, &self.disk).unwrap();
    }
}
