//! One operation on a disk, from submission to completion.

use crate::disk::DiskId;
use stampede_ring::{Buffer, Errno, Event};
use std::collections::BTreeSet;
use std::ops::Range;

/// What a request wants.
#[derive(Debug)]
pub(crate) enum Action {
    Read { buffer: Buffer, start: usize },
    Write { buffer: Buffer, start: usize },
    Flush,
    Discard,
    Zero,
    Allocate,
}

/// How far a request has come.
#[derive(Debug)]
pub(crate) enum Stage {
    Submitted,
    /// Done at the disk, with this result; only its completion is outstanding.
    Executed(Result<u32, Errno>),
}

/// An operation on a disk that has not completed.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) disk: DiskId,
    pub(crate) action: Action,
    /// The bytes of the disk; empty for a flush.
    pub(crate) range: Range<u64>,
    pub(crate) stage: Stage,
    /// Atoms that landed before the request was executed.
    pub(crate) landed: BTreeSet<usize>,
    /// Of a flush: the writes that were not complete when it was submitted.
    pub(crate) unfinished: BTreeSet<u64>,
}

impl Request {
    /// Whether it changes the disk.
    pub(crate) fn is_change(&self) -> bool {
        matches!(self.action, Action::Write { .. } | Action::Discard | Action::Zero)
    }

    /// Whether it changes the disk, and has not yet been executed there.
    pub(crate) fn is_pending_change(&self) -> bool {
        self.is_change() && matches!(self.stage, Stage::Submitted)
    }

    /// The data of a write, all of it; `None` when it makes zeros.
    pub(crate) fn data(&self) -> Option<&[u8]> {
        match &self.action {
            Action::Write { buffer, start } => {
                let len = (self.range.end - self.range.start) as usize;
                Some(&buffer.bytes()[*start..*start + len])
            }
            _ => None,
        }
    }

    /// Whether zeros that it makes occupy space.
    pub(crate) fn allocates(&self) -> bool {
        !matches!(self.action, Action::Discard)
    }

    /// The completion's event, with the buffer back.
    pub(crate) fn into_event(self, result: Result<u32, Errno>) -> Event {
        match self.action {
            Action::Read { buffer, .. } | Action::Write { buffer, .. } => {
                Event::Transferred { result, buffer }
            }
            Action::Flush | Action::Discard | Action::Zero | Action::Allocate => {
                Event::Finished { result: result.map(|_| ()) }
            }
        }
    }
}
