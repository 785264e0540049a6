//! The direct path: a READ or WRITE whose bytes can be had at once is done where its command arrives.
//!
//! ```text
//!  READ   clone  ─► slots of the overlay, zeros ──────────┐
//!                ─► blocks of the golden cache ─────────┤
//!         both   ─► bytes of the file ─► Ring::at_once ───┼─► Outcome
//!  WRITE  clone  ─► slots, which the overlay adopts ──────┤
//!         disk   ─► whole blocks ──────► Ring::at_once ───┘
//!
//!  anything else, a locked range, a file that takes a wait, an encrypted one ─► a Job, from the beginning
//! ```
//!
//! What a session of this shard reads of a file is read by `Ring::read_for_sending`: the ring sends it from the file, if it
//! is long.
//!
//! It makes no job, so no token, no transfer in flight and no lock: nothing else of the unit runs between its begin
//! and its end. What it began and cannot end is done over by the job: a read reads again, and a write writes the same
//! bytes to the same place.

use super::clone::{Base, CloneMedium, Found, Unwritten};
use super::disk::Disk;
use super::job::bytes_of;
use super::{Io, Lun, Medium, read_outcome};
use crate::few::Few;
use crate::payload::{Payload, Piece, zero_pieces};
use crate::request::{Data, Outcome, Request};
use stampede_image::align::Alignment;
use stampede_image::overlay::{Piece as OverlayPiece, SECTOR};
use stampede_image::range_lock::{ByteRange, Kind as LockKind};
use stampede_ring::{Event, FileId, IoMemory, Operation, Ring};
use stampede_scsi::{Media, MediaError, Status};

/// What becomes of the bytes that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// A connection of this shard sends them: the ring may send them from where they lie.
    Sent,
    /// Something else: a copy writes them elsewhere, or another shard, which cannot know when they change, sends them.
    Any,
}

impl Lun {
    /// Does a command now, if that takes no wait. `None`, and its data-out is what it was, if it takes a job.
    pub(super) fn direct<R: Ring>(
        &mut self,
        media: &Media,
        request: &mut Request,
        io: &mut Io<'_, R>,
    ) -> Option<Outcome> {
        let block_size = self.device.config().block_size;
        match *media {
            Media::Read { range } => {
                let range = bytes_of(range, block_size);
                let use_of = if request.origin.is_session_of(io.shard) { Use::Sent } else { Use::Any };
                let pieces = match &self.medium {
                    Medium::Disk(disk) if disk.isolates && self.locks.blocks(range, LockKind::Shared) => None,
                    Medium::Disk(disk) => disk.read_now(range, use_of, io),
                    Medium::Clone(clone) => clone.read_now(range, use_of, io),
                }?;
                self.report.reads += 1;
                self.report.read_bytes += range.len;
                Some(read_outcome(Payload(pieces)))
            }
            Media::Write { range, fua } => {
                let data = &mut request.data;
                let range = bytes_of(range, block_size);
                if data.len() != range.len || self.locks.blocks(range, LockKind::Exclusive) {
                    return None;
                }
                match &mut self.medium {
                    Medium::Disk(disk) => disk.write_now(range, fua, data, io)?,
                    // FUA of an ephemeral clone is ordering only: it does not outlive the host's power.
                    Medium::Clone(clone) => {
                        let mut at = range.start;
                        if let Err(why) = clone.write(&mut at, data, &mut io.slots()) {
                            // What stays in a receive buffer may find no other, and then it must not have begun.
                            let begun = at > range.start && request.borrowed;
                            if why == Unwritten::Spilled || (io.spills && !begun) {
                                clone.unwrite(range.start, at, data);
                                return None;
                            }
                            self.report.failed += 1;
                            return Some(self.device.media_failed(&MediaError::NoSpace, media).into());
                        }
                    }
                }
                self.report.writes += 1;
                self.report.written_bytes += range.len;
                Some(Outcome::Ended { status: Status::Good, sense: None, data: Data::Inline(Vec::new()) })
            }
            _ => None,
        }
    }
}

impl Disk {
    fn read_now<R: Ring>(&self, range: ByteRange, use_of: Use, io: &mut Io<'_, R>) -> Option<Few<Piece>> {
        if !self.in_memory {
            return None;
        }
        let mut pieces = Few::None;
        read_file(&mut pieces, (self.file, self.alignment, use_of), range.start, range.end(), io)?;
        Some(pieces)
    }

    /// A write of whole device blocks from one buffer.
    fn write_now<R: Ring>(
        &self,
        range: ByteRange,
        fua: bool,
        data: &mut Payload,
        io: &mut Io<'_, R>,
    ) -> Option<()> {
        if fua || !self.in_memory || !self.takes(range, data) {
            return None;
        }
        let Few::One(Piece { buffer, start, len }) = std::mem::take(&mut data.0) else { return None };
        let operation = Operation::Write { file: self.file, offset: range.start, buffer, start, len };
        let (done, buffer) = match io.pusher.at_once(operation) {
            Ok(Event::Transferred { result, buffer }) => (result.unwrap_or(0), buffer),
            Err(Operation::Write { buffer, .. }) => (0, buffer),
            _ => return None,
        };
        if done < len {
            data.0 = Few::One(Piece { buffer, start, len });
            return None;
        }
        io.counters.disk_writes += 1;
        Some(())
    }

    /// Whether it is a write of whole blocks from one buffer. Where they lie in it does not matter: they are copied.
    fn takes(&self, range: ByteRange, data: &Payload) -> bool {
        let block = self.alignment.offset - 1;
        let [piece] = &data.0[..] else { return false };
        (range.start as u32 | piece.len) & block == 0
    }
}

impl CloneMedium {
    fn read_now<R: Ring>(&self, range: ByteRange, use_of: Use, io: &mut Io<'_, R>) -> Option<Few<Piece>> {
        let mut pieces = Few::None;
        let mut whole = Some(());
        let sectors = u32::try_from(range.len / SECTOR).unwrap_or(u32::MAX);
        self.overlay.resolve(range.start / SECTOR, sectors, |piece| match piece {
            OverlayPiece::Slot { handle, offset_in_slot, sectors, .. } => {
                let len = sectors * SECTOR as u32;
                pieces.push(Piece { buffer: handle.clone(), start: offset_in_slot, len });
            }
            OverlayPiece::Zero { sectors, .. } => {
                zero_pieces(io.zeros, u64::from(sectors) * SECTOR).for_each(|piece| pieces.push(piece));
            }
            OverlayPiece::Golden { start_sector, sectors } if matches!(self.base, Base::Golden) => {
                let start = start_sector * SECTOR;
                let end = start + u64::from(sectors) * SECTOR;
                if self.published.is_none() {
                    let file = (self.file, self.alignment, use_of);
                    whole = whole
                        .filter(|()| self.in_memory)
                        .and_then(|()| read_file(&mut pieces, file, start, end, io));
                    return;
                }
                self.in_blocks(start, end, io, |found| match found {
                    Found::Block(piece) => pieces.push(piece),
                    Found::Missing { .. } => whole = None,
                });
            }
            // Sanitized or spilled: a job knows the rest.
            OverlayPiece::Golden { .. } | OverlayPiece::Spilled { .. } => whole = None,
        });
        whole.map(|()| pieces)
    }
}

/// Reads bytes `start..end` of a file, in whole device blocks, and appends them; `None` when that takes a wait, for
/// the file or for buffers, or failed.
fn read_file<R: Ring>(
    pieces: &mut Few<Piece>,
    (file, alignment, use_of): (FileId, Alignment, Use),
    start: u64,
    end: u64,
    io: &mut Io<'_, R>,
) -> Option<()> {
    let block = alignment.offset - 1;
    let mut at = start;
    while at < end {
        let offset = at & !u64::from(block);
        let until = end.min(offset + u64::from(IoMemory::BUFFER_MAX));
        let need = (until - offset) as u32;
        let len = (need + block) & !block;
        let buffer = io.memory.take(len)?;
        let operation = Operation::Read { file, offset, buffer, start: 0, len };
        let event = match use_of {
            Use::Sent => io.pusher.read_for_sending(operation),
            Use::Any => io.pusher.at_once(operation),
        };
        let Ok(Event::Transferred { result: Ok(done), buffer }) = event else { return None };
        if done < need {
            return None;
        }
        io.counters.disk_reads += 1;
        pieces.push(Piece { buffer, start: (at - offset) as u32, len: (until - at) as u32 });
        at = until;
    }
    Some(())
}
