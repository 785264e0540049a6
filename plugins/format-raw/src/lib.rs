//! Raw images: the file's bytes are the disk's, one after the other.
//!
//! There is no metadata, so there is nothing to plan: every byte of the disk is one extent, which is written in place. Zeros and unmapped
//! ranges become holes of the file where the file system has them.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{format, string::String, vec, vec::Vec};

use stampede_plugin::{
    Change, Confidence, Created, Description, Extent, Fail, FailKind, FileId, Format, Job, JobStep,
    OpenRequest, Opened, Outcome, Pages, Place, Plan, Range, Report, Step, Token, View,
};

/// The unit in which file systems make holes.
const HOLE_BYTES: u32 = 4096;

/// A raw image.
#[derive(Debug, Default)]
pub struct Raw {
    virtual_size: u64,
    tokens: Token,
    job: Option<Running>,
}

/// A job under way.
#[derive(Debug)]
enum Running {
    /// The file is to get this length.
    SetLength(u64),
    /// Nothing is left to do.
    Finished(Report),
}

impl Raw {
    fn token(&mut self) -> Token {
        self.tokens += 1;
        self.tokens
    }
}

/// An extent of the disk: the file's bytes at the same place.
fn extent(range: Range) -> Extent {
    Extent { range, place: Place::Data { file: FileId::MAIN, offset: range.offset, in_place: true } }
}

/// Refuses a size that no raw disk can have.
fn check_size(virtual_size: u64) -> Result<(), Fail> {
    if virtual_size == 0 || !virtual_size.is_multiple_of(512) {
        let text = format!("a disk of {virtual_size} bytes: its size must be a multiple of 512, and not 0");
        return Err(Fail::new(FailKind::Invalid, text));
    }
    Ok(())
}

impl Format for Raw {
    fn describe(&self) -> Description {
        Description {
            name: String::from("raw"),
            version: String::from(env!("CARGO_PKG_VERSION")),
            extensions: vec![String::from("raw"), String::from("img")],
            writable: true,
            parents: false,
            snapshots: false,
            options: Vec::new(),
        }
    }

    fn probe(&self, _head: &[u8], _tail: &[u8], length: u64) -> Confidence {
        if check_size(length).is_ok() { Confidence::Maybe } else { Confidence::No }
    }

    fn open(&mut self, pages: &mut dyn Pages, _request: &OpenRequest) -> Outcome<Opened> {
        let length = pages.file_length(FileId::MAIN);
        check_size(length)?;
        self.virtual_size = length;
        Ok(Opened {
            virtual_size: length,
            block_size: 512,
            allocation_unit: 512,
            unmap_unit: HOLE_BYTES,
            files: Vec::new(),
            parent: None,
            identity: None,
            metadata: Vec::new(),
            needs_recovery: false,
            warnings: Vec::new(),
        })
    }

    fn recover(&mut self, _pages: &mut dyn Pages) -> Outcome<Plan> {
        Ok(Plan { token: self.token(), ..Plan::default() })
    }

    fn resolve(
        &mut self,
        _pages: &mut dyn Pages,
        view: View,
        _range: Range,
        _extents_max: u32,
    ) -> Outcome<Vec<Extent>> {
        match view {
            View::Active => Ok(vec![extent(Range { offset: 0, length: self.virtual_size })]),
            View::Snapshot(_) => Err(Fail::new(FailKind::Invalid, "raw images have no snapshots").into()),
        }
    }

    fn plan_write(&mut self, _pages: &mut dyn Pages, ranges: &[Range], change: Change) -> Outcome<Plan> {
        let mut plan = Plan { token: self.token(), ..Plan::default() };
        for &range in ranges {
            let (guest, offset, length, file) = (range.offset, range.offset, range.length, FileId::MAIN);
            plan.map.push(extent(range));
            match change {
                Change::Data => plan.now.push(Step::Put { guest, length, file, offset }),
                // Unmapped space is not named in `free`: it stays the disk's, and may be written, in place, before it would be punched.
                Change::Zero | Change::Unmap => plan.now.push(Step::Fill { file, offset, length }),
            }
        }
        Ok(plan)
    }

    fn done(&mut self, _token: Token) {}

    fn released(&mut self, _token: Token) {}

    fn job_start(&mut self, job: Job) -> Result<(), Fail> {
        self.job = Some(match job {
            Job::Create(Created { virtual_size, options, parent, .. }) => {
                check_size(virtual_size)?;
                if let Some((name, _)) = options.first() {
                    return Err(Fail::new(
                        FailKind::Invalid,
                        format!("option {name}: raw images have no options"),
                    ));
                }
                if parent.is_some() {
                    return Err(Fail::new(
                        FailKind::Unsupported,
                        "a raw image has no parent: clone to qcow2 or vhd",
                    ));
                }
                Running::SetLength(virtual_size)
            }
            Job::Resize { virtual_size, shrink } => {
                check_size(virtual_size)?;
                if virtual_size < self.virtual_size && !shrink {
                    let text = format!(
                        "the disk has {} bytes; making it smaller gives up what lies behind",
                        self.virtual_size
                    );
                    return Err(Fail::new(FailKind::Invalid, text));
                }
                Running::SetLength(virtual_size)
            }
            Job::Check(_) => {
                Running::Finished(Report { allocated_bytes: self.virtual_size, ..Report::default() })
            }
            Job::Close => Running::Finished(Report::default()),
            Job::SnapshotList
            | Job::SnapshotCreate { .. }
            | Job::SnapshotApply { .. }
            | Job::SnapshotDelete { .. } => {
                return Err(Fail::new(FailKind::Unsupported, "raw images have no internal snapshots"));
            }
            Job::Relink(_) => return Err(Fail::new(FailKind::Unsupported, "raw images have no parent")),
        });
        Ok(())
    }

    fn job_step(&mut self, _pages: &mut dyn Pages) -> Outcome<JobStep> {
        match self.job.take() {
            Some(Running::SetLength(length)) => {
                self.virtual_size = length;
                self.job = Some(Running::Finished(Report::default()));
                let now = vec![Step::SetLength { file: FileId::MAIN, length }];
                Ok(JobStep::Plan(Plan { token: self.token(), now, ..Plan::default() }))
            }
            Some(Running::Finished(report)) => Ok(JobStep::Done(report)),
            None => Err(Fail::new(FailKind::Invalid, "no job was begun").into()),
        }
    }
}

#[cfg(target_family = "wasm")]
stampede_guest::export_format!(Raw);

#[cfg(test)]
mod tests;
