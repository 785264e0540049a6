//! Files and the log of what was done to them.

use std::vec::Vec;

use super::{overwrite, usize_of};
use crate::FileId;

/// Something that was done to the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes were written.
    Write {
        /// The file.
        file: FileId,
        /// Where, in bytes.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// A file got another length.
    SetLength {
        /// The file.
        file: FileId,
        /// Its length in bytes.
        length: u64,
    },
    /// All before is durable before anything after is written.
    Barrier,
    /// The test's own mark.
    Mark(u64),
}

/// An image's files in memory, and what was done to them since they were given.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    base: Vec<Vec<u8>>,
    files: Vec<Vec<u8>>,
    log: Vec<Event>,
}

impl Disk {
    /// These files, durable as they are.
    pub fn new(files: Vec<Vec<u8>>) -> Self {
        Self { base: files.clone(), files, log: Vec::new() }
    }

    /// The files as they are now, durable or not.
    pub fn files(&self) -> &[Vec<u8>] {
        &self.files
    }

    /// The files as they were given.
    pub fn base(&self) -> &[Vec<u8>] {
        &self.base
    }

    /// What was done, in order.
    pub fn log(&self) -> &[Event] {
        &self.log
    }

    /// How many barriers there were.
    pub fn barriers(&self) -> usize {
        self.log.iter().filter(|event| **event == Event::Barrier).count()
    }

    pub(super) fn write(&mut self, file: FileId, offset: u64, bytes: &[u8]) {
        self.record(Event::Write { file, offset, bytes: bytes.to_vec() });
    }

    pub(super) fn set_length(&mut self, file: FileId, length: u64) {
        self.record(Event::SetLength { file, length });
    }

    pub(super) fn barrier(&mut self) {
        self.record(Event::Barrier);
    }

    pub(super) fn mark(&mut self, mark: u64) {
        self.record(Event::Mark(mark));
    }

    fn record(&mut self, event: Event) {
        apply(&mut self.files, &event);
        self.log.push(event);
    }
}

/// Does to files what an event did.
pub(super) fn apply(files: &mut [Vec<u8>], event: &Event) {
    match event {
        Event::Write { file, offset, bytes } => overwrite(&mut files[usize::from(file.0)], *offset, bytes),
        Event::SetLength { file, length } => files[usize::from(file.0)].resize(usize_of(*length), 0),
        Event::Barrier | Event::Mark(_) => {}
    }
}
