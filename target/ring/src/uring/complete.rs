//! Completions into events.

use super::inflight::{Class, Kind, ZeroStep};
use super::{UringRing, internal, sending};
use crate::seam::{Completion, Errno, Event, PeerId, Received, Token};
use io_uring::cqueue;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};

/// Completions copied out of the kernel's queue at once.
const BATCH: usize = 32;
/// Send states kept for later sends; at most 16 KiB each.
const IDLE_SENDS_MAX: usize = 1024;

impl UringRing {
    /// See [`crate::Ring::reap`].
    pub(super) fn reap_into(&mut self, batch: &mut Vec<Completion>) -> usize {
        let before = batch.len();
        while batch.len() < batch.capacity() {
            let Some(completion) = self.ready.pop_front() else {
                break;
            };
            batch.push(completion);
        }
        let mut woken = false;
        loop {
            let room = (batch.capacity() - batch.len()).min(BATCH);
            if room == 0 {
                break;
            }
            let mut entries = [const { MaybeUninit::<cqueue::Entry>::uninit() }; BATCH];
            let filled = self.ring.completion().fill(&mut entries[..room]);
            if filled.is_empty() {
                break;
            }
            for entry in filled {
                match self.complete(entry) {
                    Some(Completion { event: Event::Woken, .. }) if woken => {}
                    Some(completion) => {
                        woken |= matches!(completion.event, Event::Woken);
                        batch.push(completion);
                    }
                    None => {}
                }
            }
        }
        batch.len() - before
    }

    /// What one entry of the completion queue comes to; nothing for the ring's own business.
    fn complete(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let user_data = entry.user_data();
        if user_data & internal::BIT != 0 {
            return self.complete_internal(entry);
        }
        let result = entry.result();
        let more = cqueue::more(entry.flags());
        let found = self.inflight.get_mut(user_data)?;
        let token = found.token;
        match found.kind.class() {
            Class::Receive => {
                if !more {
                    self.inflight.remove(user_data);
                }
                let received = self.received(result, cqueue::buffer_select(entry.flags()));
                Some(Completion { token, event: Event::Received { received, more } })
            }
            Class::Accept => {
                if !more {
                    self.inflight.remove(user_data);
                }
                let result = self.accepted(result);
                Some(Completion { token, event: Event::Accepted { result, more } })
            }
            Class::Zero if self.goes_on(user_data, result) => None,
            Class::Send if self.send_goes_on(user_data, result) => None,
            Class::Zero | Class::Send | Class::Single => self.finished(user_data, result),
        }
    }

    fn received(&mut self, result: i32, buffer: Option<u16>) -> Received {
        if let (Ok(len @ 1..), Some(id)) = (u32::try_from(result), buffer) {
            return self.receive.lend(id, len).map_or(Received::Failed(Errno(libc::EIO)), Received::Chunk);
        }
        if let Some(id) = buffer {
            self.receive.recycle_unused(id);
        }
        match result {
            0 => Received::End,
            1.. => Received::Failed(Errno(libc::EIO)),
            _ => match -result {
                libc::ENOBUFS => Received::Starved,
                libc::ECANCELED => Received::Cancelled,
                other => Received::Failed(Errno(other)),
            },
        }
    }

    fn accepted(&mut self, result: i32) -> Result<crate::seam::Accepted, Errno> {
        if result < 0 {
            return Err(Errno(-result));
        }
        // SAFETY: a successful accept gives a new descriptor that nobody else knows of.
        #[allow(unsafe_code, reason = "the kernel gives a bare descriptor number")]
        let fd = unsafe { OwnedFd::from_raw_fd(result) };
        self.take_accepted(fd)
    }

    /// Whether zeroing a range has a further step, which is queued then.
    fn goes_on(&mut self, user_data: u64, result: i32) -> bool {
        let Some(entry) = self.inflight.get_mut(user_data) else {
            return false;
        };
        let Kind::Zero { target, offset, len, ref mut step } = entry.kind else {
            return false;
        };
        let next = match (*step, result) {
            (ZeroStep::ZeroRange, result) if result == -libc::EOPNOTSUPP => ZeroStep::Punch,
            (ZeroStep::Punch, 0) => ZeroStep::Allocate,
            _ => return false,
        };
        *step = next;
        self.continue_zero(user_data, target, offset, len, next);
        true
    }

    /// The one completion of an operation that has one.
    fn finished(&mut self, user_data: u64, result: i32) -> Option<Completion> {
        let entry = self.inflight.remove(user_data)?;
        let count = u32::try_from(result).map_err(|_| Errno(-result));
        let event = match entry.kind {
            Kind::Send { list, state, asked, .. } => {
                if self.idle_sends.len() < IDLE_SENDS_MAX {
                    self.idle_sends.push(state);
                }
                Event::Sent { result: sending::outcome(asked, &list, count), list }
            }
            Kind::Transfer { buffer } => Event::Transferred { result: count, buffer },
            // It is running and cannot be stopped: it ends soon by itself.
            Kind::Cancel if result == -libc::EALREADY => Event::Finished { result: Ok(()) },
            _ => Event::Finished { result: count.map(drop) },
        };
        Some(Completion { token: entry.token, event })
    }

    fn complete_internal(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let woken = Some(Completion { token: Token(0), event: Event::Woken });
        match entry.user_data() & internal::KIND_MASK {
            internal::WOKEN => woken,
            internal::WAKER => {
                if !cqueue::more(entry.flags()) {
                    self.arm_waker();
                }
                // Before the event: what is written after this is a new wake.
                self.waker.noticed();
                self.surveyor.collect(&mut self.ready);
                woken
            }
            internal::WAKE if entry.result() < 0 => {
                let peer = PeerId((entry.user_data() & 0xffff) as u16);
                let token = self.peers.get(&peer)?.token;
                Some(Completion { token, event: Event::Finished { result: Err(Errno(-entry.result())) } })
            }
            _ => None,
        }
    }
}
