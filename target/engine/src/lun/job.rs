//! A job: one command's work on the medium.

use super::Io;
use super::journal::Announced;
use super::step::Step;
use crate::errno;
use crate::few::Few;
use crate::messages::LunId;
use crate::payload::{Payload, Piece};
use crate::request::{Origin, Request};
use crate::token::{Key, Kind, token};
use stampede_image::range_lock::ByteRange;
use stampede_image::scratch::Hold;
use stampede_ring::{Buffer, Errno, Event, FileId, Operation, Ring, Stretch};
use stampede_scsi::{Blocks, Media, MediaError, NexusId, Pattern, VerifyMode};

/// How long a job waits for buffers, in nanoseconds, before it ends with BUSY.
const STARVED_NS_MAX: u64 = 2_000_000_000;

/// What a transfer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the file into its buffer.
    Read,
    /// From its buffer into the file.
    Write,
    /// Something without a buffer: flush, discard, zero.
    Other,
}

/// One operation on a file, possibly in several goes.
#[derive(Debug)]
pub(super) struct Transfer {
    direction: Direction,
    file: FileId,
    /// Byte offset in the file of the next go.
    offset: u64,
    /// Where in the buffer the next go starts.
    start: u32,
    /// Bytes that the next go asks for.
    len: u32,
    /// Bytes of those that must arrive: a read widened to whole blocks may meet the end of the file after them.
    need: u32,
    /// A byte of the unit's disk, less where it is in the file; modulo 2^64.
    pub(super) shift: u64,
    /// The buffer, between goes and at the end.
    pub(super) buffer: Option<Buffer>,
}

/// Where a part of a read's data comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// It is there already.
    Ready(Piece),
    /// From the buffer of a transfer, once that is done.
    Transfer {
        /// Which.
        index: u16,
        /// First byte in its buffer.
        start: u32,
        /// Bytes.
        len: u32,
    },
}

/// One command's work on the medium.
#[derive(Debug)]
pub(crate) struct Job {
    origin: Origin,
    nexus: NexusId,
    lun: LunId,
    /// The unit's place among those of this shard.
    unit: Key,
    data: Payload,
    media: Media,
    block_size: u32,
    pub(super) step: Step,
    pub(super) transfers: Few<Transfer>,
    outstanding: u32,
    pub(super) sources: Few<Source>,
    pub(super) error: Option<MediaError>,
    /// A transfer said that the file cannot do this (EOPNOTSUPP, EINVAL): there is another way.
    pub(super) unsupported: bool,
    aborted: bool,
    priority: u8,
    /// Times that it has waited for blocks of the cache.
    rounds: u8,
    /// It reads what is not in the cache for itself.
    pub(super) past_cache: bool,
    /// Since when it has waited for buffers.
    starved_ns: Option<u64>,
    pub(super) lock: Lock,
    /// What was read.
    pub(super) read: Payload,
    /// What the next write step writes, and where.
    pub(super) write_start: u64,
    pub(super) write: Payload,
    /// Where the blocks that were read around an unaligned write start, until it is merged into them.
    pub(super) around: Option<u64>,
    /// How many bytes the cipher has worked on, of data that takes it several turns.
    pub(super) ciphered: Option<u64>,
    /// How far a step that goes through its range in chunks has come, in bytes from the range's start.
    pub(super) cursor: u64,
    /// Where the file has data and holes, as far as that was looked at.
    #[expect(clippy::box_collection, reason = "one word of a job, which is moved and mostly has none")]
    pub(super) stretches: Option<Box<Vec<Stretch>>>,
    /// What it has to do with the journal of atomic writes.
    pub(super) announced: Announced,
    /// What it reads from scratch space.
    pub(super) spilled: Option<Box<Spilled>>,
}

/// What a job reads from scratch space.
#[derive(Debug)]
pub(super) struct Spilled {
    /// Keeps the blocks from being used again meanwhile.
    _holds: Vec<Hold>,
    /// For each transfer the slot of the disk and its block, if they are read to be brought back into memory.
    pub(super) returns: Vec<(u64, u32)>,
}

/// Whether the job holds its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    /// Not asked for.
    None,
    /// Asked for.
    Waiting,
    /// Held.
    Held,
}

/// A command's place among those that wait, by its PRI: smaller comes first. Commands without a priority are in the middle
/// (SAM-5 8.5 leaves that to us).
fn urgency(priority: u8) -> u8 {
    match priority {
        0 => 8,
        priority => priority,
    }
}

/// Where a job goes in a line of jobs: behind those that are as urgent, and before those that are less so.
pub(super) fn place_by_urgency(
    line: impl DoubleEndedIterator<Item = u8> + ExactSizeIterator,
    mine: u8,
) -> usize {
    line.enumerate().rev().find(|(_, urgency)| *urgency <= mine).map_or(0, |(at, _)| at + 1)
}

impl Job {
    pub(super) fn new(request: Request, unit: Key, media: Media, block_size: u32) -> Self {
        let step = Step::first(&media);
        let Request { origin, nexus, lun, data, priority, .. } = request;
        Self {
            origin,
            nexus,
            lun,
            unit,
            data,
            media,
            block_size,
            step,
            transfers: Few::None,
            outstanding: 0,
            sources: Few::None,
            error: None,
            unsupported: false,
            aborted: false,
            priority,
            rounds: 0,
            past_cache: false,
            starved_ns: None,
            lock: Lock::None,
            read: Payload::default(),
            write_start: 0,
            write: Payload::default(),
            around: None,
            ciphered: None,
            cursor: 0,
            stretches: None,
            announced: Announced::default(),
            spilled: None,
        }
    }

    /// Its place among those that wait for buffers.
    pub(super) fn urgency(&self) -> u8 {
        urgency(self.priority)
    }

    pub(super) fn lun(&self) -> LunId {
        self.lun
    }

    pub(super) fn unit(&self) -> Key {
        self.unit
    }

    pub(super) fn nexus(&self) -> NexusId {
        self.nexus
    }

    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    pub(super) fn media(&self) -> &Media {
        &self.media
    }

    /// Data-out.
    pub(super) fn data(&self) -> &Payload {
        &self.data
    }

    /// Moves data-out away: its last use.
    pub(super) fn take_data(&mut self) -> Payload {
        std::mem::take(&mut self.data)
    }

    /// Ends the job at its next step.
    pub(super) fn abort(&mut self) {
        self.aborted = true;
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.aborted
    }

    pub(super) fn locked(&self) -> bool {
        self.lock != Lock::None
    }

    pub(super) fn lock_granted(&mut self) {
        self.lock = Lock::Held;
    }

    /// Whether the command may change a block of this range.
    pub(super) fn may_change(&self, range: Blocks) -> bool {
        let meets = |own: &Blocks| {
            own.lba < range.lba.saturating_add(range.count.into())
                && range.lba < own.lba.saturating_add(own.count.into())
        };
        self.media.writes()
            && match &self.media {
                Media::Unmap { ranges } => ranges.iter().any(meets),
                media => media.range().is_none_or(|own| meets(&own)),
            }
    }

    /// Bytes that the command changes, for the counters.
    pub(super) fn written_bytes(&self) -> u64 {
        match &self.media {
            Media::Unmap { ranges } => ranges.iter().map(|range| self.bytes(*range).len).sum(),
            media => media.range().map_or(0, |range| self.bytes(range).len),
        }
    }

    /// Where a range of blocks is on the medium.
    pub(super) fn bytes(&self, blocks: Blocks) -> ByteRange {
        bytes_of(blocks, self.block_size)
    }

    /// The range of the command, in bytes.
    pub(super) fn range(&self) -> ByteRange {
        self.media.range().map_or(ByteRange { start: 0, len: 0 }, |range| self.bytes(range))
    }

    /// Notes that buffers are missing at `now_ns`; whether they have been for longer than a job may wait.
    pub(super) fn starves(&mut self, now_ns: u64) -> bool {
        now_ns.saturating_sub(*self.starved_ns.get_or_insert(now_ns)) > STARVED_NS_MAX
    }

    /// Whether transfers are under way.
    pub(super) fn is_waiting(&self) -> bool {
        self.outstanding > 0
    }

    /// Waits for one more block of the cache.
    pub(super) fn awaits_block(&mut self) {
        self.outstanding += 1;
    }

    /// Begins to wait for blocks. What comes may be gone again before the job gets to it, but not for ever.
    pub(super) fn next_round(&mut self) {
        const ROUNDS_MAX: u8 = 3;
        self.rounds += 1;
        self.past_cache |= self.rounds > ROUNDS_MAX;
    }

    /// A block has come, or cannot. True when it was the last one that the job waited for.
    pub(super) fn fetched(&mut self, found: bool) -> bool {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.past_cache |= !found;
        self.outstanding == 0
    }

    /// Begins a transfer and returns its index.
    pub(super) fn transfer<R: Ring>(
        &mut self,
        key: Key,
        (direction, file, offset): (Direction, FileId, u64),
        (buffer, start, len): (Buffer, u32, u32),
        need: u32,
        io: &mut Io<'_, R>,
    ) -> u16 {
        let index = self.transfers.len() as u16;
        match direction {
            Direction::Read => io.counters.disk_reads += 1,
            _ => io.counters.disk_writes += 1,
        }
        self.transfers.push(Transfer {
            direction,
            file,
            offset,
            start,
            len,
            need,
            shift: 0,
            buffer: Some(buffer),
        });
        self.push(key, index, io);
        index
    }

    /// Begins an operation without a buffer.
    pub(super) fn operate<R: Ring>(&mut self, key: Key, operation: Operation, io: &mut Io<'_, R>) {
        let index = self.transfers.len() as u16;
        self.transfers.push(Transfer {
            direction: Direction::Other,
            file: FileId(0),
            offset: 0,
            start: 0,
            len: 0,
            need: 0,
            shift: 0,
            buffer: None,
        });
        self.outstanding += 1;
        io.pusher.push(token(Kind::Job, key, index), operation);
    }

    fn push<R: Ring>(&mut self, key: Key, index: u16, io: &mut Io<'_, R>) {
        let transfer = &mut self.transfers[usize::from(index)];
        let Some(buffer) = transfer.buffer.take() else { return };
        let Transfer { file, offset, start, len, .. } = *transfer;
        let operation = match transfer.direction {
            Direction::Read => Operation::Read { file, offset, buffer, start, len },
            _ => Operation::Write { file, offset, buffer, start, len },
        };
        self.outstanding += 1;
        io.pusher.push(token(Kind::Job, key, index), operation);
    }

    /// A transfer has completed. True when it was the step's last.
    pub(super) fn completed<R: Ring>(
        &mut self,
        key: Key,
        part: u16,
        event: Event,
        io: &mut Io<'_, R>,
    ) -> bool {
        self.outstanding = self.outstanding.saturating_sub(1);
        match event {
            Event::Transferred { result, buffer } => self.transferred(key, part, result, buffer, io),
            Event::Finished { result: Err(error) } => self.failed(Direction::Other, error, None),
            Event::Finished { result: Ok(()) } => {}
            // What cannot be looked at counts as mapped.
            Event::Surveyed { result } => self.stretches = result.ok().map(Box::new),
            _ => debug_assert!(false, "a job's token on a completion that is not a job's"),
        }
        self.outstanding == 0
    }

    fn transferred<R: Ring>(
        &mut self,
        key: Key,
        part: u16,
        result: Result<u32, Errno>,
        buffer: Buffer,
        io: &mut Io<'_, R>,
    ) {
        let Some(transfer) = self.transfers.get_mut(usize::from(part)) else { return };
        transfer.buffer = Some(buffer);
        let direction = transfer.direction;
        let lba = transfer.offset.wrapping_add(transfer.shift) / u64::from(self.block_size);
        match result {
            Ok(done) if done >= transfer.need => {}
            // Nothing more comes: the file is shorter than it was, or the device took nothing.
            Ok(0) => self.failed(direction, Errno(errno::EIO), Some(lba)),
            Ok(done) => {
                transfer.offset += u64::from(done);
                transfer.start += done;
                transfer.len -= done;
                transfer.need -= done;
                self.push(key, part, io);
            }
            Err(Errno(errno::EINTR | errno::EAGAIN)) if !self.aborted => self.push(key, part, io),
            Err(error) => self.failed(direction, error, Some(lba)),
        }
    }

    fn failed(&mut self, direction: Direction, error: Errno, lba: Option<u64>) {
        if direction == Direction::Other && matches!(error.0, errno::EOPNOTSUPP | errno::EINVAL) {
            self.unsupported = true;
            return;
        }
        let kind = match error.0 {
            errno::ENOSPC | errno::EDQUOT => MediaError::NoSpace,
            errno::EROFS | errno::EACCES | errno::EPERM => MediaError::ReadOnly,
            _ if direction == Direction::Read => MediaError::Unrecovered { lba },
            _ => MediaError::WriteFault { lba },
        };
        tracing::warn!(lun = self.lun.0, ?direction, ?lba, %error, "disk operation failed");
        self.error = Some(first_error(self.error.take(), kind));
    }

    /// Keeps what it reads from scratch space from being used again until it has.
    #[inline]
    pub(super) fn hold<R: Ring>(&mut self, holds: Vec<Hold>, io: &mut Io<'_, R>) {
        if !holds.is_empty() {
            io.counters.slots_read_back += holds.len() as u64;
            self.spilled = Some(Box::new(Spilled { _holds: holds, returns: Vec::new() }));
        }
    }

    /// What was read, in order, once all transfers are done.
    pub(super) fn gather(&mut self) -> Payload {
        let (sources, mut transfers) =
            (std::mem::take(&mut self.sources), std::mem::take(&mut self.transfers));
        if let (Few::One(Source::Transfer { start, len, .. }), Few::One(transfer)) =
            (&sources, &mut transfers)
            && let Some(buffer) = transfer.buffer.take()
        {
            return Payload(Few::One(Piece { buffer, start: *start, len: *len }));
        }
        let piece = |source| match source {
            Source::Ready(piece) => Some(piece),
            Source::Transfer { index, start, len } => {
                let buffer = transfers.get(usize::from(index))?.buffer.clone()?;
                Some(Piece { buffer, start, len })
            }
        };
        Payload(sources.into_iter().filter_map(piece).collect())
    }
}

/// Where a range of blocks of so many bytes is on the medium.
pub(super) fn bytes_of(blocks: Blocks, block_size: u32) -> ByteRange {
    let size = u64::from(block_size);
    // The device server has checked the range against the capacity, whose bytes fit 64 bits.
    ByteRange { start: blocks.lba.saturating_mul(size), len: u64::from(blocks.count) * size }
}

/// Bytes of data-out that a command works with.
pub(super) fn data_needed(media: &Media, block_size: u32) -> u64 {
    let block = u64::from(block_size);
    let range = media.range().map_or(0, |range| u64::from(range.count) * block);
    match media {
        Media::Write { .. }
        | Media::WriteVerify { .. }
        | Media::OrWrite { .. }
        | Media::AndWrite { .. }
        | Media::WriteAtomic { .. }
        | Media::Verify { mode: VerifyMode::Compare, .. } => range,
        Media::CompareWrite { .. } => range * 2,
        Media::Verify { mode: VerifyMode::CompareOneBlock, .. }
        | Media::WriteSame { pattern: Pattern::DataOut, .. } => block,
        _ => 0,
    }
}

/// The error that is told when one came before: that of the lower block, since what lies before the block that is told
/// counts as good.
fn first_error(before: Option<MediaError>, new: MediaError) -> MediaError {
    let block = |error: &MediaError| match error {
        MediaError::Unrecovered { lba } | MediaError::WriteFault { lba } => *lba,
        _ => None,
    };
    match before {
        Some(before) if block(&new).is_none_or(|new| block(&before).is_none_or(|first| first <= new)) => {
            before
        }
        _ => new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_served_by_priority_and_then_by_age() {
        // PRI, and when it came.
        let jobs = [(0, 0), (15, 1), (1, 2), (8, 3), (0, 4), (1, 5), (3, 6)];
        let mut line: Vec<(u8, u32)> = Vec::new();
        for (priority, came) in jobs {
            let place = place_by_urgency(line.iter().map(|(other, _)| urgency(*other)), urgency(priority));
            line.insert(place, (priority, came));
        }
        let order: Vec<u32> = line.iter().map(|(_, came)| *came).collect();
        assert_eq!(order, [2, 5, 6, 0, 3, 4, 1]);
    }
}
