//! The end of a sanitize operation on a unit with a journal of atomic writes: what that still holds of earlier writes is
//! overwritten too.

use super::Io;
use crate::errno::{EAGAIN, EINTR, EIO};
use crate::token::{Key, Kind, token};
use stampede_image::intent::{HEADER, JOURNAL};
use stampede_ring::{Errno, Event, FileId, Operation, Ring};

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scrub {
    /// The journal is overwritten from this byte on.
    From(u64),
    /// That is made durable.
    Flush,
    /// Nothing.
    Done,
}

impl Scrub {
    /// Begins it. No atomic write is under way: commands do not get at the medium.
    pub(super) fn begin<R: Ring>(self, key: Key, file: FileId, io: &mut Io<'_, R>) {
        let operation = match self {
            Self::From(offset) => {
                let buffer = io.zeros.clone();
                // Both are multiples of a header, and so of a block of any device.
                let len = JOURNAL.saturating_sub(offset).min(buffer.len() as u64) as u32;
                io.counters.disk_writes += 1;
                Operation::Write { file, offset, buffer, start: 0, len }
            }
            Self::Flush | Self::Done => {
                io.counters.disk_flushes += 1;
                Operation::Flush { file }
            }
        };
        io.pusher.push(token(Kind::Sanitize, key, 0), operation);
    }

    /// It has completed: what follows.
    pub(super) fn after(self, event: &Event) -> Result<Self, Errno> {
        match (self, event) {
            (Self::From(offset), Event::Transferred { result: Ok(done), .. }) => match done - done % HEADER {
                0 => Err(Errno(EIO)),
                done if offset + u64::from(done) >= JOURNAL => Ok(Self::Flush),
                done => Ok(Self::From(offset + u64::from(done))),
            },
            (_, Event::Transferred { result: Err(Errno(EINTR | EAGAIN)), .. }) => Ok(self),
            (_, Event::Transferred { result: Err(error), .. } | Event::Finished { result: Err(error) }) => {
                Err(*error)
            }
            (Self::Flush, Event::Finished { result: Ok(()) }) => Ok(Self::Done),
            _ => Err(Errno(EIO)),
        }
    }
}
