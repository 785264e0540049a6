//! Where each planted bug bites: on the way in, or on the way out.

use super::{Mutant, Mutation, Note, is_chunk};
use stampede_ring::{Buffer, Completion, Errno, Event, FileId, Operation, Received, Ring, Token};

impl<R: Ring> Mutant<R> {
    /// Passes an operation on, or breaks it.
    pub(super) fn push_mutated(&mut self, token: Token, operation: Operation) -> Result<(), Operation> {
        match operation {
            Operation::Flush { .. } if self.strikes(Mutation::FlushNoop) => self.pretend(token),
            Operation::Flush { file } if self.is(Mutation::FlushEarly) => {
                self.ring.push(token, Operation::Flush { file })?;
                if self.strikes(Mutation::FlushEarly) {
                    self.note(token, Note::Swallow);
                    return self.pretend(token);
                }
                Ok(())
            }
            Operation::Discard { .. } | Operation::Zero { .. } if self.strikes(Mutation::ZeroNoop) => {
                self.pretend(token)
            }
            Operation::Cancel { .. } if self.strikes(Mutation::CancelLost) => Ok(()),
            Operation::Wake { .. } if self.strikes(Mutation::WakeLost) => Ok(()),
            Operation::Write { file, offset, buffer, start, len } => {
                self.push_write(token, file, offset, (buffer, start, len))
            }
            Operation::Read { file, offset, buffer, start, len } => {
                self.push_read(token, file, offset, (buffer, start, len))
            }
            other => self.ring.push(token, other),
        }
    }

    fn pretend(&mut self, token: Token) -> Result<(), Operation> {
        self.report(token, Event::Finished { result: Ok(()) });
        Ok(())
    }

    fn push_write(
        &mut self,
        token: Token,
        file: FileId,
        offset: u64,
        (buffer, start, len): (Buffer, u32, u32),
    ) -> Result<(), Operation> {
        if self.is(Mutation::ReadStale) {
            let bytes = &buffer.bytes()[start as usize..(start as usize + len as usize)];
            self.history.write(file, offset, bytes);
        }
        if self.strikes(Mutation::WriteDropped) {
            self.report_moved(token, len, buffer);
            return Ok(());
        }
        if self.is(Mutation::WriteEarly) {
            let copy = buffer.clone();
            self.ring.push(token, Operation::Write { file, offset, buffer, start, len })?;
            if self.strikes(Mutation::WriteEarly) {
                self.note(token, Note::Swallow);
                self.report_moved(token, len, copy);
            }
            return Ok(());
        }
        if len >= 1024 && self.strikes(Mutation::WriteTorn) {
            let half = len / 1024 * 512;
            self.ring.push(token, Operation::Write { file, offset, buffer, start, len: half })?;
            self.note(token, Note::Claim(len));
            return Ok(());
        }
        let shift = if self.strikes(Mutation::WriteMisplaced) { u64::from(len.max(512)) } else { 0 };
        self.ring
            .push(token, Operation::Write { file, offset: offset.saturating_add(shift), buffer, start, len })
    }

    fn push_read(
        &mut self,
        token: Token,
        file: FileId,
        offset: u64,
        (buffer, start, len): (Buffer, u32, u32),
    ) -> Result<(), Operation> {
        let shift = if self.strikes(Mutation::ReadMisplaced) { u64::from(len) } else { 0 };
        let at = offset.saturating_add(shift);
        self.ring.push(token, Operation::Read { file, offset: at, buffer, start, len })?;
        if self.is(Mutation::ReadStale) {
            self.note(token, Note::Stale { file, offset, start, len });
        }
        self.note_length(token, len);
        Ok(())
    }

    fn note_length(&mut self, token: Token, len: u32) {
        if self.is(Mutation::ErrorAsSuccess) || self.is(Mutation::ShortAsComplete) {
            self.note(token, Note::Asked(len));
        }
    }

    /// Takes completions out of the ring, breaks them, and queues what the shard is to see.
    pub(super) fn pull(&mut self, most: usize) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.reserve(most.clamp(1, 256));
        self.ring.reap(&mut scratch);
        for completion in scratch.drain(..) {
            self.pass(completion);
        }
        self.scratch = scratch;
    }

    fn pass(&mut self, Completion { token, event }: Completion) {
        let event = match event {
            Event::Transferred { result, buffer } => return self.pass_transfer(token, result, buffer),
            Event::Finished { .. } if matches!(self.take_note(token), Some(Note::Swallow)) => return,
            Event::Finished { result: Err(Errno(libc::EIO | libc::ENOSPC)) }
                if self.strikes(Mutation::ErrorAsSuccess) =>
            {
                Event::Finished { result: Ok(()) }
            }
            Event::Received { received: Received::Chunk(chunk), more: true }
                if self.strikes(Mutation::ChunkLost) =>
            {
                return self.ring.recycle(chunk);
            }
            Event::Received { received: Received::End, .. } if self.strikes(Mutation::EndLost) => return,
            Event::Sent { result: Ok(sent), list } => {
                let whole = u32::try_from(list.bytes()).unwrap_or(u32::MAX);
                let short = sent < whole;
                let claimed = if short && self.strikes(Mutation::SendTailLost) {
                    whole
                } else if sent > 1 && self.strikes(Mutation::SendTailRepeated) {
                    sent - 1
                } else {
                    sent
                };
                Event::Sent { result: Ok(claimed), list }
            }
            other => other,
        };
        if is_chunk(&event)
            && self.made.back().is_some_and(|last| last.token == token && is_chunk(&last.event))
            && matches!(event, Event::Received { more: true, .. })
            && self.strikes(Mutation::ChunksSwapped)
            && let Some(last) = self.made.pop_back()
        {
            self.report(token, event);
            return self.made.push_back(last);
        }
        self.report(token, event);
    }

    fn pass_transfer(&mut self, token: Token, result: Result<u32, Errno>, mut buffer: Buffer) {
        let note = self.take_note(token);
        let mut result = result;
        match note {
            Some(Note::Swallow) => return,
            Some(Note::Claim(len)) => result = result.map(|_| len),
            Some(Note::Asked(len)) => {
                let short = result.is_ok_and(|moved| moved < len);
                if (short && self.strikes(Mutation::ShortAsComplete))
                    || (result.is_err() && self.strikes(Mutation::ErrorAsSuccess))
                {
                    result = Ok(len);
                }
            }
            Some(Note::Stale { file, offset, start, len }) => {
                let moved = result.unwrap_or(0).min(len) as usize;
                if self.config.one_in <= 1 || self.rng.u32(..self.config.one_in) == 0 {
                    let start = start as usize;
                    let history = &self.history;
                    let changed = buffer.bytes_mut().is_some_and(|bytes| {
                        history.make_stale(file, offset, &mut bytes[start..start + moved])
                    });
                    self.hits += u64::from(changed);
                }
            }
            None => {}
        }
        if self.strikes(Mutation::CompletionLost) {
            return;
        }
        if self.is(Mutation::TokensSwapped)
            && let Some(last) = self.made.back_mut()
            && matches!(last.event, Event::Transferred { .. })
            && last.token != token
        {
            let swapped = std::mem::replace(&mut last.token, token);
            self.hits += 1;
            return self.report(swapped, Event::Transferred { result, buffer });
        }
        self.report(token, Event::Transferred { result, buffer });
    }
}
