//! Where each planted bug bites: on the way in, or on the way out.

use super::{Held, Mutant, Mutation, Note, is_chunk};
use stampede_ring::{
    Buffer, Completion, Errno, Event, FileId, Operation, Received, Ring, SendList, SocketId, Token,
};

impl<R: Ring> Mutant<R> {
    /// Passes an operation on, or breaks it.
    pub(super) fn push_mutated(&mut self, token: Token, operation: Operation) -> Result<(), Operation> {
        match operation {
            Operation::Flush { .. } if self.strikes(Mutation::FlushNoop) => self.pretend(token),
            Operation::Flush { file } if self.strikes(Mutation::FlushEarly) => {
                self.push_noted(token, Operation::Flush { file }, Note::Swallow)?;
                self.pretend(token)
            }
            Operation::Discard { .. } | Operation::Zero { .. } if self.strikes(Mutation::ZeroNoop) => {
                self.pretend(token)
            }
            Operation::Cancel { .. } if self.strikes(Mutation::CancelLost) => Ok(()),
            Operation::Cancel { target } => {
                if !self.release_held() {
                    return Err(Operation::Cancel { target });
                }
                let target = self.alias_of(target);
                self.ring.push(token, Operation::Cancel { target })
            }
            Operation::Send { socket, list } => self.push_send(token, socket, list),
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

    /// Passes an operation on under a token of the mutant's own.
    fn push_noted(&mut self, token: Token, operation: Operation, note: Note) -> Result<(), Operation> {
        let alias = self.next_alias();
        self.ring.push(alias, operation)?;
        self.notes.insert(alias, (token, note));
        Ok(())
    }

    fn pretend(&mut self, token: Token) -> Result<(), Operation> {
        self.report(token, Event::Finished { result: Ok(()) });
        Ok(())
    }

    fn push_send(&mut self, token: Token, socket: SocketId, list: SendList) -> Result<(), Operation> {
        if let Some(held) = &mut self.held
            && let Some(reused) = self.slots.reused(&held.list, &list)
        {
            held.list = reused;
        }
        if !self.release_held() {
            return Err(Operation::Send { socket, list });
        }
        if self.strikes(Mutation::SendSlotReused) {
            self.held = Some(Held { token, socket, list });
            return Ok(());
        }
        self.ring.push(token, Operation::Send { socket, list })
    }

    /// Passes a send on that was held back; false when the queue is full.
    pub(super) fn release_held(&mut self) -> bool {
        let Some(Held { token, socket, list }) = self.held.take() else { return true };
        match self.ring.push(token, Operation::Send { socket, list }) {
            Ok(()) => true,
            Err(Operation::Send { socket, list }) => {
                self.held = Some(Held { token, socket, list });
                false
            }
            Err(_) => false,
        }
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
        if self.strikes(Mutation::WriteEarly) {
            let copy = buffer.clone();
            self.push_noted(token, Operation::Write { file, offset, buffer, start, len }, Note::Swallow)?;
            self.report_moved(token, len, copy);
            return Ok(());
        }
        if len >= 1024 && self.strikes(Mutation::WriteTorn) {
            let half = len / 1024 * 512;
            let write = Operation::Write { file, offset, buffer, start, len: half };
            return self.push_noted(token, write, Note::Claim(len));
        }
        let shift = if self.strikes(Mutation::WriteMisplaced) { u64::from(len.max(512)) } else { 0 };
        let at = offset.saturating_add(shift);
        self.push_noted(token, Operation::Write { file, offset: at, buffer, start, len }, Note::Asked(len))
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
        let note = if self.is(Mutation::ReadStale) {
            Note::Stale { file, offset, start, len }
        } else {
            Note::Asked(len)
        };
        self.push_noted(token, Operation::Read { file, offset: at, buffer, start, len }, note)
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
        let (token, note) = match self.notes.remove(&token) {
            Some((_, Note::Swallow)) => return,
            Some((token, note)) => (token, Some(note)),
            None => (token, None),
        };
        let event = match event {
            Event::Transferred { result, buffer } => return self.pass_transfer(token, note, result, buffer),
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

    fn pass_transfer(
        &mut self,
        token: Token,
        note: Option<Note>,
        mut result: Result<u32, Errno>,
        mut buffer: Buffer,
    ) {
        match note {
            Some(Note::Claim(len)) => result = result.map(|_| len),
            Some(Note::Asked(len)) => {
                result = self.claimed(result, len);
            }
            Some(Note::Stale { file, offset, start, len }) => {
                let moved = result.unwrap_or(0).min(len);
                self.make_stale((file, offset), &mut buffer, start, moved);
            }
            Some(Note::Swallow) | None => {}
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

    /// What a transfer of `len` bytes is said to have come to.
    pub(super) fn claimed(&mut self, result: Result<u32, Errno>, len: u32) -> Result<u32, Errno> {
        let short = result.is_ok_and(|moved| moved < len);
        let lies = (short && self.strikes(Mutation::ShortAsComplete))
            || (result.is_err() && self.strikes(Mutation::ErrorAsSuccess));
        if lies { Ok(len) } else { result }
    }

    /// Perhaps puts old content over `moved` bytes that were read into the buffer from `start` on.
    pub(super) fn make_stale(
        &mut self,
        (file, offset): (FileId, u64),
        buffer: &mut Buffer,
        start: u32,
        moved: u32,
    ) {
        if self.config.one_in > 1 && self.rng.u32(..self.config.one_in) != 0 {
            return;
        }
        let (start, history) = (start as usize, &self.history);
        let changed = buffer
            .bytes_mut()
            .is_some_and(|bytes| history.make_stale(file, offset, &mut bytes[start..start + moved as usize]));
        self.hits += u64::from(changed);
    }
}
