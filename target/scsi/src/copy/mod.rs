//! Third-party copy (SPC-4 5.16 and 6.4 to 6.6, SBC-3 4.7.5): EXTENDED COPY, the ROD tokens of offloaded data transfer, and
//! the commands that ask about them.
//!
//! ```text
//!  EXTENDED COPY      ─► CopyList ─┐
//!  WRITE USING TOKEN  ─► Using ────┴─► Copier ⇄ commands to the units: INQUIRY, READ CAPACITY, READ, WRITE, WRITE SAME
//!  POPULATE TOKEN     ─► Rods: a token names ranges until one of them is written
//!  RECEIVE COPY ...   ─► Copies: what each nexus' copies have done
//! ```
//!
//! The logical unit that gets the command is the copy manager. It does no I/O: a [`Copier`] says which command to send to
//! which unit next, and is told how that ended. Those commands are the nexus' own in every respect (reservations, write
//! protection, limits), but they neither report nor clear a unit attention, which is for the initiator to hear.
//!
//! Copies run in the foreground: IMMED lets a copy manager answer before it is done, and does not make it. So no copy
//! outlives its command, and a session's end is the end of its copies.

mod copier;
mod limits;
mod list;
mod moves;
mod parameters;
mod resolve;
mod results;
mod rod;
mod rods;
mod state;
mod target;
mod using;
mod vpd;

pub use copier::{Answered, Ask, Copier, Next};
pub use rod::TokenKey;
pub use state::CopyId;

pub(crate) use rods::Rods;
pub(crate) use state::Copies;
pub(crate) use vpd::third_party_copy;

use crate::device::{Device, Request};
use crate::sense::{self, Sense};
use crate::{Blocks, NexusId, Reply, Status, Step};
use copier::Work;
use state::Begin;

/// What third-party copy commands need beyond their CDB and parameter list.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    /// Now, in monotonic nanoseconds: tokens end when they are not used for a while.
    pub now_ns: u64,
    /// What tokens are made from.
    pub key: &'a TokenKey,
    /// How many other units the nexus sees; they are numbered from 1 on, 0 being this one.
    pub others: u16,
    /// Whether a command that changes these blocks of this unit is under way.
    pub changing: &'a dyn Fn(Blocks) -> bool,
}

/// How a third-party copy command goes on.
#[derive(Debug)]
pub enum CopyStep {
    /// It is finished: send this.
    Done(Reply),
    /// The engine carries out what the copier asks for, and ends it with [`Device::copy_ended`].
    Copy(Box<Copier>),
    /// COPY OPERATION ABORT: the engine ends this copy with TASK ABORTED, then sends the reply.
    Abort(CopyId, Reply),
}

/// The handler of every third-party copy command: the engine goes on with [`Device::third_party`].
pub(crate) fn third_party(_: &mut Device, _: &Request<'_>) -> Result<Step, Sense> {
    Ok(Step::Copy)
}

/// Operation codes that only copiers use, towards a unit that made a token. They are vendor-specific codes that no
/// initiator can reach.
pub(crate) const QUERY_TOKEN: u8 = 0xC0;
pub(crate) const DELETE_TOKEN: u8 = 0xC1;

impl Device {
    /// Goes on with a command that [`Device::start`] answered with [`Step::Copy`]. `param` is its parameter list.
    pub fn third_party(
        &mut self,
        nexus: NexusId,
        cdb: &[u8; 16],
        param: &[u8],
        moment: &Moment<'_>,
    ) -> CopyStep {
        self.rods.expire(moment.now_ns);
        let step = self.copy_command(nexus, cdb, param, moment);
        match step.unwrap_or_else(|sense| CopyStep::Done(sense.into())) {
            CopyStep::Done(reply) => CopyStep::Done(self.formatted(reply)),
            step => step,
        }
    }

    fn copy_command(
        &mut self,
        nexus: NexusId,
        cdb: &[u8; 16],
        param: &[u8],
        moment: &Moment<'_>,
    ) -> Result<CopyStep, Sense> {
        let reply = match (cdb[0], cdb[1] & 0x1F) {
            (0x83, action @ (0x00 | 0x01)) => {
                let Some(list) = list::parse(cdb, param)? else { return Ok(CopyStep::Done(Reply::good())) };
                let id = list.id;
                return Ok(self.begin((nexus, id, action), Work::segments(list, self, moment.others)));
            }
            (0x83, 0x10) => self.populate_token(nexus, cdb, param, moment)?,
            (0x83, 0x11) => {
                let (id, work) = using::parse(cdb, param, self, moment.others)?;
                return Ok(self.begin((nexus, Some(id), 0x11), work));
            }
            (0x83, _) => return self.copies.abort(nexus, cdb),
            (_, 0x00) => results::status_lid1(&mut self.copies, nexus, cdb)?,
            (_, 0x01) => results::data_lid1(&self.copies, nexus, cdb)?,
            (_, 0x03) => results::operating_parameters(cdb),
            (_, 0x04) => results::failure_details(&mut self.copies, nexus, cdb)?,
            (_, 0x05) => results::status_lid4(&self.copies, nexus, cdb)?,
            (_, 0x07) => results::token_information(&self.copies, nexus, cdb)?,
            _ => results::all_tokens(&self.rods, cdb),
        };
        Ok(CopyStep::Done(reply))
    }

    /// Takes a copy up, unless there are too many or one with its list identifier is running.
    fn begin(&mut self, (nexus, list, action): (NexusId, Option<u32>, u8), work: Work) -> CopyStep {
        match self.copies.begin(nexus, list, action) {
            Begin::Begun(id) => CopyStep::Copy(Box::new(Copier::new(id, work))),
            Begin::InProgress => CopyStep::Done(Reply::check(sense::OPERATION_IN_PROGRESS)),
            Begin::Full => CopyStep::Done(Reply::status(Status::Busy)),
        }
    }

    /// How far a copy has come: for RECEIVE COPY STATUS.
    pub fn copy_progressed(&mut self, copier: &Copier) {
        self.copies.progressed(copier.id(), copier.progress());
    }

    /// The reply of a copy that ended by itself, in the sense data format that D_SENSE selects.
    pub fn copy_reply(&self, reply: Reply) -> Reply {
        self.formatted(reply)
    }

    /// A copy is over: with this status and these sense data bytes, or aborted when there is no status.
    pub fn copy_ended(&mut self, copier: &Copier, status: Option<Status>, sense: &[u8]) {
        self.copies.progressed(copier.id(), copier.progress());
        self.copies.ended(copier.id(), status, sense);
    }

    /// Starts a command that a [`Copier`] asked for. It is the nexus' own, but for unit attentions: those are not its
    /// copy manager's to report.
    pub fn start_for_copy(&mut self, nexus: NexusId, cdb: &[u8; 16], data_out_len: u32, now_ns: u64) -> Step {
        match cdb[0] {
            QUERY_TOKEN | DELETE_TOKEN => {
                let reply = self.rods.serve(cdb, now_ns).unwrap_or_else(Reply::check);
                Step::Done(self.formatted(reply))
            }
            _ => self.start_regardless(nexus, cdb, data_out_len),
        }
    }

    /// What a command is about to change: tokens of those blocks are revoked.
    pub(crate) fn revoke_tokens(&mut self, media: &crate::Media) {
        match media {
            crate::Media::Unmap { ranges } => ranges.iter().for_each(|range| self.rods.changed(*range)),
            media => match media.range() {
                Some(range) => self.rods.changed(range),
                None => self.rods.all_changed(),
            },
        }
    }
}
