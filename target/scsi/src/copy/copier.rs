//! The copy manager's work as a state machine: which command goes to which unit next.
//!
//! ```text
//!  EXTENDED COPY      find the units ─► each segment: READ ⇄ WRITE, chunk by chunk
//!  WRITE USING TOKEN  find its unit ─► ask for its ranges ─► READ ─► ask again ─► WRITE ⟲
//!  with zeros         WRITE SAME ⟲
//! ```
//!
//! One command is under way at a time, so a copy holds at most one chunk of data, takes its turn among all other
//! commands, and stops after the one under way. The token is asked for between reading and writing: a token that is
//! revoked never comes back, so whatever was read before it was still valid is what it stands for.

use super::limits::CHUNK_BYTES;
use super::list::{CopyList, Segment};
use super::moves::Run;
use super::parameters::{Ranges, total};
use super::resolve::{Place, Resolver};
use super::rod;
use super::rods::Served;
use super::state::{CopyId, Progress};
use super::target::SELF;
use super::using::Using;
use super::{DELETE_TOKEN, QUERY_TOKEN};
use crate::sense::{self, Sense};
use crate::{Device, Reply, Status};

/// How often in a row a command is tried that ends with BUSY or TASK SET FULL.
const TRIES: u8 = 8;

/// A command that a copier wants to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// For which unit: 0 is the copier's own, others as [`Moment::others`](super::Moment::others) counts them.
    pub unit: u16,
    /// The CDB.
    pub cdb: [u8; 16],
    /// Its data-out is the data-in of the READ before.
    pub writes_read_data: bool,
}

impl Ask {
    pub(super) fn of(unit: u16, cdb: [u8; 16]) -> Self {
        Self { unit, cdb, writes_read_data: false }
    }
}

/// How a command of a copier ended.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// Its status; `None` when it was aborted.
    pub status: Option<Status>,
    /// Data-in that was not read from the medium.
    pub data: &'a [u8],
    /// Bytes of data-in.
    pub len: u64,
}

/// What a copier wants next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This command, and then [`Copier::next`] with its end.
    Ask(Ask),
    /// The copy is over: send this.
    Done(Reply),
    /// The copy is over: it ends as the last command did, status and sense data.
    Forward,
}

/// One copy in progress.
#[derive(Debug)]
pub struct Copier {
    id: CopyId,
    work: Work,
    progress: Progress,
    tries: u8,
}

/// What there is to do.
#[derive(Debug)]
pub(super) enum Work {
    /// Nothing.
    Nothing,
    /// The segments of an EXTENDED COPY.
    Segments(Box<Segments>),
    /// Data that a token stands for.
    Token(Box<TokenWork>),
    /// Zeros.
    Zero(ZeroWork),
}

impl Copier {
    pub(super) fn new(id: CopyId, work: Work) -> Self {
        Self { id, work, progress: Progress::default(), tries: 0 }
    }

    pub(super) fn id(&self) -> CopyId {
        self.id
    }

    /// Whether it is this copy.
    pub fn is(&self, id: CopyId) -> bool {
        self.id == id
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    /// What to do next: at first without an answer, then with the end of what was asked for.
    pub fn next(&mut self, answer: Option<Answered<'_>>) -> Next {
        let busy = |answer: &Answered<'_>| matches!(answer.status, Some(Status::Busy | Status::TaskSetFull));
        let again = answer.as_ref().is_some_and(busy) && self.tries < TRIES;
        self.tries = if again { self.tries + 1 } else { 0 };
        match &mut self.work {
            Work::Nothing => Next::Done(Reply::good()),
            Work::Segments(work) => work.next(answer, again, &mut self.progress),
            Work::Token(work) => work.next(answer, again, &mut self.progress),
            Work::Zero(work) => work.next(answer, again, &mut self.progress),
        }
    }
}

/// Bytes that one command of a copy moves at most: within the unit's own limit, in whole blocks of 4,096 bytes.
pub(super) fn chunk_bytes(device: &Device) -> u64 {
    let config = device.config();
    let limit = match config.max_transfer_blocks {
        0 => u64::MAX,
        blocks => u64::from(blocks) * u64::from(config.block_size),
    };
    (limit.min(CHUNK_BYTES) & !4095).max(4096)
}

fn is_good(answer: &Answered<'_>) -> bool {
    answer.status == Some(Status::Good)
}

/// The segments of an EXTENDED COPY, and the one at hand.
#[derive(Debug)]
pub(super) struct Segments {
    list: CopyList,
    resolver: Resolver,
    own: Place,
    chunk: u64,
    index: usize,
    doing: Doing,
}

#[derive(Debug)]
enum Doing {
    Finding,
    Beginning,
    Testing(Place),
    Reading(Run),
    Writing(Run),
}

impl Work {
    pub(super) fn segments(list: CopyList, device: &Device, others: u16) -> Self {
        let resolver = Resolver::new(&list.targets, device, others);
        let (own, chunk) = (Place::own(device), chunk_bytes(device));
        Self::Segments(Box::new(Segments { list, resolver, own, chunk, index: 0, doing: Doing::Finding }))
    }

    pub(super) fn token(using: Using) -> Self {
        Self::Token(Box::new(TokenWork { using, doing: TokenDoing::Finding, ranges: Ranges::new(), done: 0 }))
    }
}

impl Segments {
    fn next(&mut self, answer: Option<Answered<'_>>, again: bool, progress: &mut Progress) -> Next {
        match self.advance(answer, again, progress) {
            Ok(next) => next,
            Err(sense) => Next::Done(Reply::check(self.aborted(sense))),
        }
    }

    /// COMMAND-SPECIFIC INFORMATION has the segment's number in its third and fourth byte (SPC-4 5.16.7.4).
    fn aborted(&self, sense: Sense) -> Sense {
        Sense { command_specific: Some(self.index as u64), ..sense }
    }

    fn advance(
        &mut self,
        mut answer: Option<Answered<'_>>,
        again: bool,
        progress: &mut Progress,
    ) -> Result<Next, Sense> {
        loop {
            match &mut self.doing {
                Doing::Finding => match self.resolver.next(answer.take().as_ref()) {
                    Some(ask) => return Ok(Next::Ask(ask)),
                    None => self.doing = Doing::Beginning,
                },
                Doing::Beginning => match self.list.segments.get(self.index).copied() {
                    None => return Ok(Next::Done(Reply::good())),
                    Some(segment) => self.begin(segment)?,
                },
                Doing::Testing(place) => match answer.take() {
                    Some(end) if is_good(&end) => self.segment_done(progress),
                    Some(_) if !again => return Err(sense::THIRD_PARTY_DEVICE_FAILURE),
                    _ => return Ok(Next::Ask(Ask::of(place.unit, [0; 16]))),
                },
                Doing::Reading(run) => match answer.take() {
                    Some(end) if is_good(&end) && end.len == run.chunk_bytes() => {
                        let ask = run.write();
                        self.doing = Doing::Writing(*run);
                        return Ok(Next::Ask(ask));
                    }
                    Some(_) if !again => return Err(sense::THIRD_PARTY_DEVICE_FAILURE),
                    _ if run.is_over() => self.segment_done(progress),
                    _ => return Ok(Next::Ask(run.read())),
                },
                Doing::Writing(run) => match answer.take() {
                    Some(end) if is_good(&end) => {
                        progress.bytes += run.chunk_bytes();
                        run.wrote();
                        self.doing = Doing::Reading(*run);
                    }
                    // Its data is gone: it is read again.
                    Some(_) if again => self.doing = Doing::Reading(*run),
                    _ => return Err(sense::THIRD_PARTY_DEVICE_FAILURE),
                },
            }
        }
    }

    fn segment_done(&mut self, progress: &mut Progress) {
        self.index += 1;
        progress.segments += 1;
        self.doing = Doing::Beginning;
    }

    fn begin(&mut self, segment: Segment) -> Result<(), Sense> {
        match segment {
            Segment::Verify { target, test } => {
                let place = self.place(target)?;
                if test {
                    self.doing = Doing::Testing(place);
                } else {
                    self.doing = Doing::Reading(Run::new((place, 0), (place, 0), 0, self.chunk));
                }
            }
            Segment::Copy { from, to, in_destination_blocks, count, from_lba, to_lba } => {
                let (from, to) = (self.place(from)?, self.place(to)?);
                let (from_block, to_block) = (u64::from(from.block_size), u64::from(to.block_size));
                let bytes = u64::from(count) * if in_destination_blocks { to_block } else { from_block };
                // PAD and CAT would say what becomes of the rest; no rest is taken.
                if !bytes.is_multiple_of(from_block) || !bytes.is_multiple_of(to_block) {
                    return Err(sense::UNEXPECTED_INEXACT_SEGMENT);
                }
                let inside = |place: Place, lba: u64, block: u64| {
                    lba.checked_add(bytes / block).is_some_and(|end| end <= place.blocks)
                };
                if !inside(from, from_lba, from_block) || !inside(to, to_lba, to_block) {
                    return Err(sense::COPY_ABORTED);
                }
                self.doing = Doing::Reading(Run::new((from, from_lba), (to, to_lba), bytes, self.chunk));
            }
        }
        Ok(())
    }

    /// Where a CSCD descriptor identifier leads.
    fn place(&self, id: u16) -> Result<Place, Sense> {
        if id == SELF {
            return Ok(self.own);
        }
        let target = self.list.targets.get(usize::from(id)).ok_or(sense::UNREACHABLE_COPY_TARGET)?;
        if target.designator.is_none() {
            return Err(sense::UNREACHABLE_COPY_TARGET);
        }
        let place = self.resolver.place(id.into()).ok_or(sense::COPY_TARGET_NOT_REACHABLE)?;
        let length_fits = target.block_length == 0 || target.block_length == place.block_size;
        if target.device_type != 0 || !length_fits {
            return Err(sense::INCORRECT_COPY_TARGET_TYPE);
        }
        Ok(place)
    }
}

/// WRITE USING TOKEN with a token that a unit made.
#[derive(Debug)]
pub(super) struct TokenWork {
    using: Using,
    doing: TokenDoing,
    /// What the token stands for.
    ranges: Ranges,
    /// Blocks that are written.
    done: u64,
}

#[derive(Debug)]
enum TokenDoing {
    Finding,
    Querying(Place),
    Beginning(Place),
    Reading(Place, Run),
    Checking(Place, Run),
    Writing(Place, Run),
    Deleting,
}

impl TokenWork {
    fn next(&mut self, answer: Option<Answered<'_>>, again: bool, progress: &mut Progress) -> Next {
        self.advance(answer, again, progress).unwrap_or_else(|sense| Next::Done(Reply::check(sense)))
    }

    fn advance(
        &mut self,
        mut answer: Option<Answered<'_>>,
        again: bool,
        progress: &mut Progress,
    ) -> Result<Next, Sense> {
        loop {
            match &mut self.doing {
                TokenDoing::Finding => match self.using.resolver.next(answer.take().as_ref()) {
                    Some(ask) => return Ok(Next::Ask(ask)),
                    None => {
                        let place = self.using.resolver.place(0).ok_or(sense::TOKEN_UNKNOWN)?;
                        self.doing = TokenDoing::Querying(place);
                    }
                },
                TokenDoing::Querying(place) => match answer.take() {
                    Some(end) if is_good(&end) => {
                        let place = *place;
                        self.queried(&end, place)?;
                        self.doing = TokenDoing::Beginning(place);
                    }
                    Some(end) if !again => return failed(&end),
                    _ => {
                        let unit = place.unit;
                        return Ok(Next::Ask(self.ask(QUERY_TOKEN, unit)));
                    }
                },
                TokenDoing::Beginning(place) => {
                    let place = *place;
                    match self.run(place) {
                        Some(run) => self.doing = TokenDoing::Reading(place, run),
                        None if !self.using.delete => return Ok(Next::Done(Reply::good())),
                        None => {
                            self.doing = TokenDoing::Deleting;
                            return Ok(Next::Ask(self.ask(DELETE_TOKEN, place.unit)));
                        }
                    }
                }
                TokenDoing::Reading(place, run) => match answer.take() {
                    Some(end) if is_good(&end) && end.len == run.chunk_bytes() => {
                        let unit = place.unit;
                        self.doing = TokenDoing::Checking(*place, *run);
                        return Ok(Next::Ask(self.ask(QUERY_TOKEN, unit)));
                    }
                    Some(end) if !again => return failed(&end),
                    _ => return Ok(Next::Ask(run.read())),
                },
                TokenDoing::Checking(place, run) => match answer.take() {
                    Some(end) if is_good(&end) => {
                        let ask = run.write();
                        self.doing = TokenDoing::Writing(*place, *run);
                        return Ok(Next::Ask(ask));
                    }
                    Some(end) if !again => return failed(&end),
                    _ => self.doing = TokenDoing::Reading(*place, *run),
                },
                TokenDoing::Writing(place, run) => match answer.take() {
                    Some(end) if is_good(&end) => {
                        let blocks = run.chunk_bytes() / u64::from(self.using.own.block_size);
                        progress.bytes += run.chunk_bytes();
                        progress.blocks += blocks;
                        self.done += blocks;
                        self.doing = TokenDoing::Beginning(*place);
                    }
                    Some(end) if !again => return failed(&end),
                    _ => self.doing = TokenDoing::Reading(*place, *run),
                },
                // Whether it was still there does not matter.
                TokenDoing::Deleting => return Ok(Next::Done(Reply::good())),
            }
        }
    }

    fn ask(&self, opcode: u8, unit: u16) -> Ask {
        let mut cdb = [0; 16];
        cdb[0] = opcode;
        cdb[1..].copy_from_slice(&rod::secret(&self.using.token));
        Ask::of(unit, cdb)
    }

    /// The unit that made the token has said what it stands for.
    fn queried(&mut self, end: &Answered<'_>, place: Place) -> Result<(), Sense> {
        let served = Served::parse(end.data).ok_or(sense::INTERNAL_TARGET_FAILURE)?;
        if served.token != self.using.token[..] {
            return Err(sense::TOKEN_CORRUPT);
        }
        // A block of the token has to be a block of the destination.
        if served.block_size != self.using.own.block_size || served.block_size != place.block_size {
            return Err(sense::INVALID_TOKEN_OPERATION);
        }
        let wanted = self.using.offset.checked_add(total(&self.using.ranges));
        if wanted.is_none_or(|wanted| wanted > total(&served.ranges)) {
            return Err(Sense::invalid_parameter(8, None));
        }
        self.ranges = served.ranges;
        Ok(())
    }

    /// The next stretch that is whole in source and destination, at most a chunk long; `None` behind the last.
    fn run(&self, place: Place) -> Option<Run> {
        let (to, left) = at(&self.using.ranges, self.done)?;
        let (from, there) = at(&self.ranges, self.using.offset + self.done)?;
        let block = u64::from(place.block_size);
        let bytes = (left.min(there) * block).min(self.using.chunk);
        Some(Run::new((place, from), (self.using.own, to), bytes, bytes))
    }
}

/// A command failed: its status and sense data tell why, unless it has none that would.
fn failed(end: &Answered<'_>) -> Result<Next, Sense> {
    match end.status {
        Some(Status::CheckCondition | Status::Busy | Status::TaskSetFull) => Ok(Next::Forward),
        Some(_) | None => Err(sense::THIRD_PARTY_DEVICE_FAILURE),
    }
}

/// The block address of the `skip`th block of all ranges, and how many blocks of its range are left from there on.
fn at(ranges: &Ranges, skip: u64) -> Option<(u64, u64)> {
    let mut skip = skip;
    for range in ranges {
        let count = u64::from(range.count);
        if skip < count {
            return Some((range.lba + skip, count - skip));
        }
        skip -= count;
    }
    None
}

/// WRITE USING TOKEN with the block device zero ROD.
#[derive(Debug)]
pub(super) struct ZeroWork {
    ranges: Ranges,
    own: Place,
    chunk: u64,
    unmap: bool,
    index: usize,
    run: Option<Run>,
}

impl ZeroWork {
    pub(super) fn new(ranges: Ranges, device: &Device) -> Self {
        let config = device.config();
        let own = Place::own(device);
        let most = match config.max_write_same_blocks {
            0 => u32::MAX,
            blocks => blocks,
        };
        let chunk = u64::from(most) * u64::from(own.block_size);
        Self { ranges, own, chunk, unmap: config.thin, index: 0, run: None }
    }

    fn next(&mut self, answer: Option<Answered<'_>>, again: bool, progress: &mut Progress) -> Next {
        if let (Some(end), Some(run)) = (answer, &mut self.run) {
            if is_good(&end) {
                progress.bytes += run.chunk_bytes();
                progress.blocks += run.chunk_bytes() / u64::from(self.own.block_size);
                run.wrote();
            } else if !again {
                return failed(&end).unwrap_or_else(|sense| Next::Done(Reply::check(sense)));
            }
        }
        if self.run.is_none_or(|run| run.is_over()) {
            let Some(range) = self.ranges.get(self.index) else { return Next::Done(Reply::good()) };
            self.index += 1;
            let bytes = u64::from(range.count) * u64::from(self.own.block_size);
            let place = (self.own, range.lba);
            self.run = Some(Run::new(place, place, bytes, self.chunk));
        }
        self.run.map_or(Next::Done(Reply::good()), |run| Next::Ask(run.zero(self.unmap)))
    }
}
