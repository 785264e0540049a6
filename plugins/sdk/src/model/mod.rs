//! A host in memory, for a plugin's tests: it carries plans out by the host's rules, judges each step, and remembers in which order
//! things became durable, so that a test can look at every state that a power cut may leave ([`Disk::crash_states`]).
//!
//! ```text
//!   Model ─ calls ─► the plugin
//!     │ pages: what the files would be with all patches (`current`); only what was asked for is "at hand"
//!     │ pending: patches that are not durable yet
//!     ▼
//!   Disk: the files, and the log of writes, lengths and barriers since the test began
//! ```
//!
//! Everything that breaks a rule of the interface is a [`ModelError::Violation`]. The model is slow and simple on purpose.

mod crash;
mod disk;
mod guest;
mod pages;
mod patches;

use std::{
    boxed::Box,
    format,
    string::{String, ToString},
    vec::Vec,
};

pub use crash::CrashState;
pub use disk::{Disk, Event};
pub use guest::Parent;

use crate::{
    Bounds, Fail, FileId, Format, Halt, Job, JobStep, Judge, Mode, OpenRequest, Opened, Outcome, Pages,
    Patch, Plan, Purpose, Report, Step,
};
use pages::ModelPages;
use patches::Pending;

/// How many steps a job may take.
const JOB_STEPS_MAX: u32 = 1_000_000;

/// How many plans a recovery may take.
const RECOVERIES_MAX: u32 = 10_000;

/// Takes compressed bytes apart: codec, bytes, how many they give.
pub type Unpack = fn(crate::Codec, &[u8], usize) -> Result<Vec<u8>, String>;

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelError {
    /// The plugin said so.
    Fail(Fail),
    /// The plugin broke a rule of the interface.
    Violation(String),
}

impl From<Fail> for ModelError {
    fn from(fail: Fail) -> Self {
        Self::Fail(fail)
    }
}

impl core::fmt::Display for ModelError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Fail(fail) => write!(f, "the plugin refuses: {fail}"),
            Self::Violation(text) => write!(f, "the plugin breaks a rule: {text}"),
        }
    }
}

impl core::error::Error for ModelError {}

/// A rule that was broken.
fn violation<T>(text: impl ToString) -> Result<T, ModelError> {
    Err(ModelError::Violation(text.to_string()))
}

/// One image, open in a plugin's instance.
pub struct Model<F> {
    format: F,
    disk: Disk,
    /// The files as a reader of metadata sees them: with every patch.
    current: Vec<Vec<u8>>,
    pending: Pending,
    judge: Judge,
    parent: Option<Box<dyn Parent>>,
    unpack: Option<Unpack>,
    opened: Option<Opened>,
    mode: Mode,
    /// Which 4 KiB pages are at hand; emptied now and then, so that calls must ask.
    at_hand: pages::AtHand,
}

impl<F: Format> Model<F> {
    /// A model over these files with a fresh instance of the plugin; nothing was opened yet.
    pub fn new(format: F, disk: Disk) -> Self {
        let current = disk.files().to_vec();
        let judge =
            Judge::new(Bounds::default()).with_files(u16::try_from(current.len()).unwrap_or(u16::MAX));
        Self {
            format,
            disk,
            current,
            pending: Pending::default(),
            judge,
            parent: None,
            unpack: None,
            opened: None,
            mode: Mode::ReadOnly,
            at_hand: pages::AtHand::default(),
        }
    }

    /// What absent sectors are read from.
    #[must_use]
    pub fn with_parent(mut self, parent: impl Parent + 'static) -> Self {
        self.parent = Some(Box::new(parent));
        self
    }

    /// What takes compressed bytes apart.
    #[must_use]
    pub fn with_unpack(mut self, unpack: Unpack) -> Self {
        self.unpack = Some(unpack);
        self
    }

    /// The files and their log.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The files and their log; what is not durable is as it is.
    pub fn into_disk(self) -> Disk {
        self.disk
    }

    /// What opening said.
    pub fn opened(&self) -> Option<&Opened> {
        self.opened.as_ref()
    }

    /// The plugin's instance.
    pub fn format(&self) -> &F {
        &self.format
    }

    /// Writes a mark into the log: crash states say between which marks they are.
    pub fn mark(&mut self, mark: u64) {
        self.disk.mark(mark);
    }

    /// Opens the image, and recovers it where it must be.
    ///
    /// # Errors
    /// When the plugin refuses, or breaks a rule.
    pub fn open(&mut self, mode: Mode) -> Result<Opened, ModelError> {
        self.mode = mode;
        let request = OpenRequest { mode, files: u16::try_from(self.current.len()).unwrap_or(u16::MAX) };
        self.judge.opening(&request);
        let mut opened = self.call(|format, pages| format.open(pages, &request))?;
        self.judge_with_lengths(|judge, lengths| judge.opened(&opened, lengths))?;
        for _ in 0..RECOVERIES_MAX {
            if !opened.needs_recovery {
                break;
            }
            let plan = self.call(Format::recover)?;
            self.carry_out(&plan, Purpose::Upkeep, None)?;
            if mode == Mode::ReadWrite {
                self.flush_all()?;
            }
            opened = self.call(|format, pages| format.open(pages, &request))?;
            self.judge_with_lengths(|judge, lengths| judge.opened(&opened, lengths))?;
            if mode == Mode::ReadOnly {
                break;
            }
        }
        if opened.needs_recovery && mode == Mode::ReadWrite {
            return violation("the image needs recovery again and again");
        }
        self.opened = Some(opened.clone());
        Ok(opened)
    }

    /// Asks the judge, who wants to know how long the files are.
    fn judge_with_lengths(
        &mut self,
        ask: impl FnOnce(&mut Judge, &dyn Fn(FileId) -> u64) -> crate::Verdict,
    ) -> Result<(), ModelError> {
        let current = &self.current;
        let lengths = |file: FileId| current.get(usize::from(file.0)).map_or(0, |file| file.len() as u64);
        ask(&mut self.judge, &lengths).map_err(ModelError::Violation)
    }

    /// Carries a job out, step by step, each durable before the next. Afterwards the image must be opened again, with a fresh instance.
    ///
    /// # Errors
    /// When the plugin refuses, or breaks a rule.
    pub fn job(&mut self, job: Job) -> Result<Report, ModelError> {
        self.format.job_start(job)?;
        for _ in 0..JOB_STEPS_MAX {
            match self.call(Format::job_step)? {
                JobStep::Plan(plan) => {
                    self.carry_out(&plan, Purpose::Upkeep, None)?;
                    self.flush_all()?;
                }
                JobStep::Progress { done, total } if done > total => {
                    return violation("a job did more than all");
                }
                JobStep::Progress { .. } => {}
                JobStep::Done(report) => {
                    self.judge.report(&report).map_err(ModelError::Violation)?;
                    return Ok(report);
                }
            }
        }
        violation("a job does not end")
    }

    /// Closes the image: the job [`Job::Close`], then everything durable.
    ///
    /// # Errors
    /// When the plugin refuses, or breaks a rule.
    pub fn close(&mut self) -> Result<(), ModelError> {
        self.flush_all()?;
        self.job(Job::Close)?;
        self.flush_all()
    }

    /// Makes what was acknowledged durable, as SYNCHRONIZE CACHE does. Lazy patches stay behind.
    ///
    /// # Errors
    /// When the plugin breaks a rule.
    pub fn flush(&mut self) -> Result<(), ModelError> {
        self.pending.flush(&mut self.disk, false)?;
        self.release();
        Ok(())
    }

    /// As [`flush`](Self::flush), lazy patches too.
    ///
    /// # Errors
    /// When the plugin breaks a rule.
    pub fn flush_all(&mut self) -> Result<(), ModelError> {
        self.pending.flush(&mut self.disk, true)?;
        self.release();
        Ok(())
    }

    /// Holes for what is free, and the plugin's leave to use it again.
    fn release(&mut self) {
        for (token, frees) in self.pending.freed() {
            for free in frees.iter().filter(|free| free.punch) {
                self.disk.write(free.file, free.offset, &std::vec![0; usize_of(free.length)]);
                overwrite(
                    &mut self.current[usize::from(free.file.0)],
                    free.offset,
                    &std::vec![0; usize_of(free.length)],
                );
            }
            self.judge.released(token);
            self.format.released(token);
        }
    }

    /// Calls the plugin until it answers, with the pages that it asks for.
    fn call<T>(
        &mut self,
        mut ask: impl FnMut(&mut F, &mut dyn Pages) -> Outcome<T>,
    ) -> Result<T, ModelError> {
        self.at_hand.forget_some();
        loop {
            let mut pages = ModelPages { files: &self.current, at_hand: &self.at_hand };
            let halt = match ask(&mut self.format, &mut pages) {
                Ok(answer) => {
                    self.judge.answered();
                    return Ok(answer);
                }
                Err(halt) => halt,
            };
            match halt {
                Halt::Fail(fail) => {
                    self.judge.answered();
                    return Err(fail.into());
                }
                Halt::Need(spans) => {
                    self.judge.need(&mut pages, &spans).map_err(ModelError::Violation)?;
                    self.at_hand.bring(&spans);
                }
            }
        }
    }

    /// Carries a plan out; `data` is the guest's data by its place on the disk.
    fn carry_out(
        &mut self,
        plan: &Plan,
        purpose: Purpose<'_>,
        data: Option<(u64, &[u8])>,
    ) -> Result<(), ModelError> {
        self.judge_with_lengths(|judge, lengths| judge.plan(plan, purpose, lengths))?;
        // What is copied up is the disk before the plan.
        let mut writes: Vec<(FileId, u64, Vec<u8>)> = Vec::new();
        for step in &plan.now {
            match *step {
                Step::SetLength { .. } => {}
                Step::Copy { guest, length, file, offset } => {
                    writes.push((file, offset, self.read_at(crate::View::Active, guest, usize_of(length))?));
                }
                Step::Put { guest, length, file, offset } => {
                    let Some(bytes) = data.and_then(|(start, bytes)| {
                        bytes.get(usize_of(guest.checked_sub(start)?)..)?.get(..usize_of(length))
                    }) else {
                        return violation(format!(
                            "Put of {length} bytes at {guest} is not in the data of the change"
                        ));
                    };
                    writes.push((file, offset, bytes.to_vec()));
                }
                Step::Fill { file, offset, length } => {
                    writes.push((file, offset, std::vec![0; usize_of(length)]))
                }
            }
        }
        for step in &plan.now {
            if let Step::SetLength { file, length } = *step {
                self.disk.set_length(file, length);
                self.current[usize::from(file.0)].resize(usize_of(length), 0);
                // Lengths become durable as data does.
                self.pending.data_written();
            }
        }
        for (file, offset, bytes) in writes {
            self.disk.write(file, offset, &bytes);
            overwrite(&mut self.current[usize::from(file.0)], offset, &bytes);
            self.pending.data_written();
        }
        for patch in &plan.meta {
            self.patch(Some(patch.id), patch)?;
        }
        self.pending.free_later(plan.token, &plan.free);
        self.format.done(plan.token);
        Ok(())
    }

    /// Applies a patch to what readers see, and keeps it until it is durable.
    fn patch(&mut self, id: Option<u64>, patch: &Patch) -> Result<(), ModelError> {
        let Some(file) = self.current.get_mut(usize::from(patch.file.0)) else {
            return violation("a patch of no file");
        };
        if patch.offset.saturating_add(patch.bytes.len() as u64) > file.len() as u64 {
            return violation(format!(
                "patch {} at byte {} is beyond the end of its file",
                patch.id, patch.offset
            ));
        }
        overwrite(file, patch.offset, &patch.bytes);
        self.pending.add(id, patch)
    }
}

/// Puts bytes into a file, which grows where it must.
fn overwrite(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = usize_of(offset) + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[usize_of(offset)..end].copy_from_slice(bytes);
}

/// A length or offset of a file that is in memory.
fn usize_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
