//! What the copies of a unit have done, for each nexus and list identifier (SPC-4 5.16.4.3).

use super::CopyStep;
use super::limits::{COPIES_MAX, RECORDS_MAX};
use super::rod::Token;
use crate::cdb::be32;
use crate::sense::Sense;
use crate::{NexusId, Reply, Status};
use smallvec::SmallVec;
use std::collections::VecDeque;

/// One copy of a unit: never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyId(u64);

/// How far a copy has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Progress {
    /// Segments that are done.
    pub(super) segments: u16,
    /// Bytes written.
    pub(super) bytes: u64,
    /// Logical blocks written, where the command counts those.
    pub(super) blocks: u64,
}

/// How a copy stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is under way.
    Running,
    /// It ended with this status and these sense data bytes.
    Ended(Status, SmallVec<[u8; 40]>),
    /// It was aborted.
    Aborted,
}

/// One copy.
#[derive(Debug)]
pub(super) struct Record {
    id: CopyId,
    nexus: NexusId,
    list: Option<u32>,
    /// Service action of operation code 83h that began it.
    pub(super) action: u8,
    pub(super) standing: Standing,
    pub(super) progress: Progress,
    /// The token that it made.
    pub(super) token: Option<Token>,
}

/// The copies of a unit, oldest first: at most [`RECORDS_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Copies {
    records: VecDeque<Record>,
    begun: u64,
}

/// Whether a copy may begin.
pub(super) enum Begin {
    /// Yes: it has.
    Begun(CopyId),
    /// One with its list identifier is under way.
    InProgress,
    /// As many as may be are under way.
    Full,
}

impl Copies {
    /// Begins a copy. What an ended one with the same list identifier has done is forgotten.
    pub(super) fn begin(&mut self, nexus: NexusId, list: Option<u32>, action: u8) -> Begin {
        let running = |record: &Record| record.standing == Standing::Running;
        if list.is_some()
            && let Some(at) = self.position(nexus, list)
        {
            if running(&self.records[at]) {
                return Begin::InProgress;
            }
            self.records.remove(at);
        }
        if self.records.iter().filter(|record| running(record)).count() >= COPIES_MAX {
            return Begin::Full;
        }
        if self.records.len() >= RECORDS_MAX
            && let Some(oldest) = self.records.iter().position(|record| !running(record))
        {
            self.records.remove(oldest);
        }
        let id = CopyId(self.begun);
        self.begun += 1;
        let (standing, progress) = (Standing::Running, Progress::default());
        self.records.push_back(Record { id, nexus, list, action, standing, progress, token: None });
        Begin::Begun(id)
    }

    fn position(&self, nexus: NexusId, list: Option<u32>) -> Option<usize> {
        self.records.iter().position(|record| record.nexus == nexus && record.list == list)
    }

    fn by_id(&mut self, id: CopyId) -> Option<&mut Record> {
        self.records.iter_mut().find(|record| record.id == id)
    }

    /// The copy of a nexus with this list identifier.
    pub(super) fn find(&self, nexus: NexusId, list: u32) -> Option<&Record> {
        self.position(nexus, Some(list)).map(|at| &self.records[at])
    }

    /// Forgets a copy that has ended: what was held for its initiator was sent.
    pub(super) fn forget(&mut self, nexus: NexusId, list: u32) {
        if let Some(at) = self.position(nexus, Some(list))
            && self.records[at].standing != Standing::Running
        {
            self.records.remove(at);
        }
    }

    /// A copy has come further.
    pub(super) fn progressed(&mut self, id: CopyId, progress: Progress) {
        if let Some(record) = self.by_id(id) {
            record.progress = progress;
        }
    }

    /// A copy has ended; without status it was aborted. One that has no list identifier, or whose nexus is gone, is
    /// forgotten.
    pub(super) fn ended(&mut self, id: CopyId, status: Option<Status>, sense: &[u8]) {
        let Some(record) = self.by_id(id) else { return };
        record.standing = match status {
            Some(status) => Standing::Ended(status, SmallVec::from_slice(sense)),
            None => Standing::Aborted,
        };
        self.records.retain(|record| record.id != id || record.list.is_some());
    }

    /// POPULATE TOKEN has made a token of so many blocks.
    pub(super) fn populated(&mut self, id: CopyId, blocks: u64, token: &Token) {
        self.progressed(id, Progress { blocks, ..Progress::default() });
        if let Some(record) = self.by_id(id) {
            record.token = Some(token.clone());
        }
        self.ended(id, Some(Status::Good), &[]);
    }

    /// COPY OPERATION ABORT (SPC-4 6.3).
    pub(super) fn abort(&self, nexus: NexusId, cdb: &[u8; 16]) -> Result<CopyStep, Sense> {
        let record = self.find(nexus, be32(cdb, 2)).ok_or(Sense::invalid_cdb(2, None))?;
        Ok(match record.standing {
            Standing::Running => CopyStep::Abort(record.id, Reply::good()),
            _ => CopyStep::Done(Reply::good()),
        })
    }

    /// Forgets what an I_T nexus has copied. Its copies that run are forgotten when they end.
    pub(crate) fn nexus_gone(&mut self, nexus: NexusId) {
        self.records.retain_mut(|record| {
            let keeps = record.nexus != nexus || record.standing == Standing::Running;
            if record.nexus == nexus {
                record.list = None;
            }
            keeps
        });
    }

    /// Forgets all that have ended (a reset).
    pub(crate) fn reset(&mut self) {
        self.records.retain(|record| record.standing == Standing::Running);
    }
}
