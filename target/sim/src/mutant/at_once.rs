//! Planted bugs in what is done at once: those that need no completion.

use super::{Mutant, Mutation};
use stampede_ring::{Buffer, Event, FileId, Operation, Ring};

/// A part of a file, and of the buffer that is read into or written from.
struct Transfer {
    file: FileId,
    offset: u64,
    buffer: Buffer,
    start: u32,
    len: u32,
}

impl<R: Ring> Mutant<R> {
    /// Passes an operation on, or breaks it. What it breaks by its completion is handed back.
    pub(super) fn at_once_mutated(&mut self, operation: Operation) -> Result<Event, Operation> {
        if matches!(
            self.config.mutation,
            Some(Mutation::WriteEarly | Mutation::CompletionLost | Mutation::TokensSwapped)
        ) {
            return Err(operation);
        }
        match operation {
            Operation::Read { file, offset, buffer, start, len } => {
                self.read_at_once(Transfer { file, offset, buffer, start, len })
            }
            Operation::Write { file, offset, buffer, start, len } => {
                self.write_at_once(Transfer { file, offset, buffer, start, len })
            }
            other => self.ring.at_once(other),
        }
    }

    fn read_at_once(&mut self, transfer: Transfer) -> Result<Event, Operation> {
        let Transfer { file, offset, buffer, start, len } = transfer;
        let shift = if self.strikes(Mutation::ReadMisplaced) { u64::from(len) } else { 0 };
        let at = offset.saturating_add(shift);
        let done = self.ring.at_once(Operation::Read { file, offset: at, buffer, start, len });
        match done {
            Ok(Event::Transferred { result, mut buffer }) => {
                let result = self.claimed(result, len);
                if self.is(Mutation::ReadStale) {
                    self.make_stale((file, offset), &mut buffer, start, result.unwrap_or(0).min(len));
                }
                Ok(Event::Transferred { result, buffer })
            }
            Err(Operation::Read { buffer, .. }) => Err(Operation::Read { file, offset, buffer, start, len }),
            other => other,
        }
    }

    fn write_at_once(&mut self, transfer: Transfer) -> Result<Event, Operation> {
        let Transfer { file, offset, buffer, start, len } = transfer;
        if self.strikes(Mutation::WriteDropped) {
            return Ok(Event::Transferred { result: Ok(len), buffer });
        }
        let torn = len >= 1024 && self.strikes(Mutation::WriteTorn);
        let most = if torn { len / 1024 * 512 } else { len };
        let shift = if self.strikes(Mutation::WriteMisplaced) { u64::from(len.max(512)) } else { 0 };
        let at = offset.saturating_add(shift);
        let done = self.ring.at_once(Operation::Write { file, offset: at, buffer, start, len: most });
        match done {
            Ok(Event::Transferred { result, buffer }) => {
                if self.is(Mutation::ReadStale) {
                    let bytes = &buffer.bytes()[start as usize..(start as usize + len as usize)];
                    self.history.write(file, offset, bytes);
                }
                let result = if torn { result.map(|_| len) } else { self.claimed(result, len) };
                Ok(Event::Transferred { result, buffer })
            }
            Err(Operation::Write { buffer, .. }) => {
                Err(Operation::Write { file, offset, buffer, start, len })
            }
            other => other,
        }
    }
}
