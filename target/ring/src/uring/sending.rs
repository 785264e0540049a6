//! Sends.
//!
//! ```text
//!  all in slots  ─► sendmsg, which the kernel finishes by itself as the socket gets room ─────────────► Sent
//!  some in files ─► sendmsg that does not wait ─┬─ sent something, or failed ──────────────────────────► Sent
//!                         ▲                     └─ EAGAIN ─► poll for room ─┐
//!                         └─────────────────────────────────────────────────┘
//! ```
//!
//! A send from files must be over before a file may change ([`super::late`]): so it is tried, and what it points at is
//! written down just before the kernel is entered.

use super::UringRing;
use super::inflight::{Entry, Kind};
use super::push::on;
use super::send_state::{Laid, SendState};
use super::table::Target;
use crate::seam::{Errno, Event, SocketId, Token};
use crate::send_list::SendList;
use io_uring::{opcode, squeue, types};

/// What the kernel was asked to do for a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of it, however long it takes.
    All,
    /// What the socket has room for.
    Try,
    /// To say when there is room.
    Room,
}

impl UringRing {
    pub(super) fn push_send(&mut self, token: Token, socket: SocketId, list: SendList) {
        let Some(target) = self.socket_target(socket) else {
            return self.finish_inline(token, Event::Sent { result: Err(Errno(libc::EBADF)), list });
        };
        if list.is_empty() {
            return self.finish_inline(token, Event::Sent { result: Ok(0), list });
        }
        let mut state = self.idle_sends.pop().unwrap_or_else(SendState::new);
        let (header, laid) = state.prepare(&list, self.number);
        let asked = match laid {
            Laid::InSlots => Asked::All,
            Laid::InFiles => Asked::Try,
            Laid::Lost => {
                return self.finish_inline(token, Event::Sent { result: Err(Errno(libc::EFAULT)), list });
            }
        };
        self.sends_queued = self.sends_queued.saturating_add(1);
        let kind = Kind::Send { list, state, target, asked, given_up: false };
        let user_data = self.start(token, kind, entry(target, header, asked));
        if asked == Asked::Try {
            self.late_sends.push(user_data);
        }
    }

    /// Before the kernel is entered: sends that may send from files point at where their bytes lie now. Those that it
    /// tried before are over.
    #[inline]
    pub(super) fn address_late_sends(&mut self) {
        let Self { late_sends, inflight, number, .. } = self;
        late_sends.retain(|user_data| match inflight.get_mut(*user_data).map(|entry| &mut entry.kind) {
            Some(Kind::Send { list, state, asked: Asked::Try, .. }) => {
                state.prepare(list, *number);
                true
            }
            _ => false,
        });
    }

    /// A send is to be cancelled: it is not tried again.
    pub(super) fn give_up_send(&mut self, user_data: u64) {
        if let Some(Entry { kind: Kind::Send { given_up, .. }, .. }) = self.inflight.get_mut(user_data) {
            *given_up = true;
        }
    }

    /// Whether a send goes on after what the kernel was asked, which is queued then.
    pub(super) fn send_goes_on(&mut self, user_data: u64, result: i32) -> bool {
        let Self { inflight, late_sends, number, .. } = self;
        let Some(Kind::Send { list, state, target, asked, given_up: false }) =
            inflight.get_mut(user_data).map(|entry| &mut entry.kind)
        else {
            return false;
        };
        let next = match (*asked, result) {
            (Asked::Try, result) if result == -libc::EAGAIN => {
                *asked = Asked::Room;
                on!(*target, fd => opcode::PollAdd::new(fd, libc::POLLOUT as u32).build())
            }
            // Whatever the poll found: the send says what is wrong.
            (Asked::Room, 0..) => {
                *asked = Asked::Try;
                late_sends.push(user_data);
                entry(*target, state.prepare(list, *number).0, Asked::Try)
            }
            _ => return false,
        };
        self.enqueue(next.user_data(user_data));
        true
    }
}

/// What a send comes to that was tried.
pub(super) fn outcome(asked: Asked, list: &SendList, result: Result<u32, Errno>) -> Result<u32, Errno> {
    match (asked, result) {
        // It was given up before there was room.
        (Asked::Try, Err(Errno(libc::EAGAIN))) | (Asked::Room, Ok(_)) => Err(Errno(libc::ECANCELED)),
        (Asked::Try, Err(Errno(libc::EFAULT))) => {
            // Looking at what is gone is how it is found out which file was shortened.
            list.settle();
            result
        }
        _ => result,
    }
}

fn entry(target: Target, header: *const libc::msghdr, asked: Asked) -> squeue::Entry {
    let flags = match asked {
        // The kernel itself goes on after a short send.
        Asked::All => libc::MSG_WAITALL,
        _ => libc::MSG_DONTWAIT,
    };
    on!(target, fd => opcode::SendMsg::new(fd, header).flags((libc::MSG_NOSIGNAL | flags) as u32).build())
}
