//! Operations into submissions.

use super::files::{self, INLINE_MAX};
use super::inflight::{Kind, ZeroStep};
use super::receive_buffers;
use super::survey::{self, Wanted};
use super::table::Target;
use super::{UringRing, internal};
use crate::file::OpenedFile;
use crate::memory::Buffer;
use crate::seam::{Errno, Event, FileId, Operation, PeerId, SocketId, Token};
use io_uring::{opcode, squeue, types};

/// Builds an operation on a descriptor however it is named.
macro_rules! on {
    ($target:expr, $fd:ident => $build:expr) => {
        match $target {
            Target::Registered(index) => {
                let $fd = types::Fixed(index);
                $build
            }
            Target::Plain(number) => {
                let $fd = types::Fd(number);
                $build
            }
        }
    };
}

pub(super) use on;

/// A part of a file.
#[derive(Clone, Copy)]
struct Range {
    offset: u64,
    len: u64,
}

/// A transfer between a file and a part of a buffer.
struct Transfer {
    file: FileId,
    offset: u64,
    buffer: Buffer,
    start: u32,
    len: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

impl Transfer {
    fn operation(self, direction: Direction) -> Operation {
        let Self { file, offset, buffer, start, len } = self;
        match direction {
            Direction::Read => Operation::Read { file, offset, buffer, start, len },
            Direction::Write => Operation::Write { file, offset, buffer, start, len },
        }
    }
}

impl UringRing {
    pub(super) fn push_operation(&mut self, token: Token, operation: Operation) -> Result<(), Operation> {
        let full = match operation {
            Operation::Cancel { .. } => self.inflight.is_full_for_cancels(),
            Operation::Close { .. } | Operation::Release { .. } | Operation::Wake { .. } => false,
            _ => self.inflight.is_full(),
        };
        if full || self.ready.len() >= self.ready_max || self.ring.submission().is_full() {
            return Err(operation);
        }
        match operation {
            Operation::Accept { listener } => self.push_accept(token, listener),
            Operation::Receive { socket } => self.push_receive(token, socket),
            Operation::Send { socket, list } => self.push_send(token, socket, list),
            Operation::Read { file, offset, buffer, start, len } => {
                self.push_transfer(token, Direction::Read, Transfer { file, offset, buffer, start, len });
            }
            Operation::Write { file, offset, buffer, start, len } => {
                self.push_transfer(token, Direction::Write, Transfer { file, offset, buffer, start, len });
            }
            Operation::Flush { file } => self.push_flush(token, file),
            Operation::Discard { file, offset, len } => self.push_discard(token, file, Range { offset, len }),
            Operation::Zero { file, offset, len } => self.push_zero(token, file, Range { offset, len }),
            Operation::Allocate { file, offset, len } => {
                self.push_allocate(token, file, Range { offset, len });
            }
            Operation::Survey { file, offset, len, max } => {
                let wanted = Wanted { start: offset, end: offset.saturating_add(len), max };
                self.push_survey(token, file, wanted);
            }
            Operation::Cancel { target } => self.push_cancel(token, target),
            Operation::Close { socket } => {
                let result = self.close_socket(socket);
                self.finish_inline(token, Event::Finished { result });
            }
            Operation::Release { socket } => {
                let result = self.release_socket(socket);
                self.finish_inline(token, Event::Released { result });
            }
            Operation::Wake { peer } => self.push_wake(token, peer),
        }
        Ok(())
    }

    fn push_accept(&mut self, token: Token, listener: SocketId) {
        let Some(target) = self.socket_target(listener) else {
            return self
                .finish_inline(token, Event::Accepted { result: Err(Errno(libc::EBADF)), more: false });
        };
        let entry = on!(target, fd => opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build());
        self.start(token, Kind::Accept, entry);
    }

    fn push_receive(&mut self, token: Token, socket: SocketId) {
        let Some(target) = self.socket_target(socket) else {
            let received = crate::seam::Received::Failed(Errno(libc::EBADF));
            return self.finish_inline(token, Event::Received { received, more: false });
        };
        let entry = on!(target, fd => opcode::RecvMulti::new(fd, receive_buffers::GROUP).build());
        self.start(token, Kind::Receive, entry);
    }

    fn push_transfer(&mut self, token: Token, direction: Direction, transfer: Transfer) {
        let Transfer { file, offset, buffer, start, len } = match self.transfer_at_once(direction, transfer) {
            Ok(event) => return self.finish_inline(token, event),
            Err(transfer) => transfer,
        };
        let Some(target) = self.files.get(file.0).map(|open| open.target) else {
            return self.finish_inline(token, Event::Transferred { result: Err(Errno(libc::EBADF)), buffer });
        };
        let address = buffer.as_ptr().wrapping_add(start as usize);
        let entry = match (direction, self.registered_index(&buffer)) {
            (Direction::Read, Some(index)) => {
                on!(target, fd => opcode::ReadFixed::new(fd, address, len, index).offset(offset).build())
            }
            (Direction::Read, None) => {
                on!(target, fd => opcode::Read::new(fd, address, len).offset(offset).build())
            }
            (Direction::Write, Some(index)) => {
                on!(target, fd => opcode::WriteFixed::new(fd, address, len, index).offset(offset).build())
            }
            (Direction::Write, None) => {
                on!(target, fd => opcode::Write::new(fd, address, len).offset(offset).build())
            }
        };
        self.start(token, Kind::Transfer { buffer }, entry);
    }

    /// See [`crate::Ring::at_once`].
    pub(super) fn do_at_once(&mut self, operation: Operation) -> Result<Event, Operation> {
        let (direction, transfer) = match operation {
            Operation::Read { file, offset, buffer, start, len } => {
                (Direction::Read, Transfer { file, offset, buffer, start, len })
            }
            Operation::Write { file, offset, buffer, start, len } => {
                (Direction::Write, Transfer { file, offset, buffer, start, len })
            }
            other => return Err(other),
        };
        self.transfer_at_once(direction, transfer).map_err(|transfer| transfer.operation(direction))
    }

    /// See [`crate::Ring::read_for_sending`].
    pub(super) fn do_read_for_sending(&mut self, operation: Operation) -> Result<Event, Operation> {
        let Operation::Read { file, offset, mut buffer, start: 0, len } = operation else {
            return self.do_at_once(operation);
        };
        let mapped = self.files.get_mut(file.0).and_then(|open| open.mapped.as_mut());
        if mapped.is_some_and(|mapped| mapped.read_late(offset, &mut buffer, len)) {
            return Ok(Event::Transferred { result: Ok(len), buffer });
        }
        self.do_at_once(Operation::Read { file, offset, buffer, start: 0, len })
    }

    /// Does a transfer of a file in memory, or refuses one that cannot be; any other comes back.
    fn transfer_at_once(&mut self, direction: Direction, transfer: Transfer) -> Result<Event, Transfer> {
        let Transfer { file, offset, buffer, start, len } = transfer;
        let Some(open) = self.files.get_mut(file.0) else {
            return Ok(Event::Transferred { result: Err(Errno(libc::EBADF)), buffer });
        };
        let inside = u64::from(start) + u64::from(len) <= buffer.len() as u64;
        if !inside || (direction == Direction::Read && buffer.is_shared()) {
            return Ok(Event::Transferred { result: Err(Errno(libc::EINVAL)), buffer });
        }
        if !open.file.traits().in_memory {
            return Err(Transfer { file, offset, buffer, start, len });
        }
        Ok(match direction {
            Direction::Read => open.read_inline(offset, buffer, start, len),
            Direction::Write => open.write_inline(offset, buffer, start, len),
        })
    }

    fn push_flush(&mut self, token: Token, file: FileId) {
        let Some(open) = self.files.get_mut(file.0) else {
            return self.finish(token, Err(Errno(libc::EBADF)));
        };
        if open.file.traits().in_memory {
            // There is nothing that memory could be flushed to.
            open.stamp();
            return self.finish(token, Ok(()));
        }
        let flags = types::FsyncFlags::DATASYNC;
        let entry = on!(open.target, fd => opcode::Fsync::new(fd).flags(flags).build());
        self.start(token, Kind::Finish, entry);
    }

    fn push_discard(&mut self, token: Token, file: FileId, range: Range) {
        self.push_range(token, file, range, files::discard_inline, |target, range| {
            (Kind::Finish, fallocate(target, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, range))
        });
    }

    fn push_zero(&mut self, token: Token, file: FileId, range: Range) {
        let in_memory = self.files.get(file.0).is_some_and(|open| open.file.traits().in_memory);
        let step = if in_memory { ZeroStep::Punch } else { ZeroStep::ZeroRange };
        self.push_range(token, file, range, files::zero_inline, |target, range| {
            let Range { offset, len } = range;
            (Kind::Zero { target, offset, len, step }, zero_entry(target, step, range))
        });
    }

    fn push_allocate(&mut self, token: Token, file: FileId, range: Range) {
        self.push_range(token, file, range, files::allocate_inline, |target, range| {
            (Kind::Finish, fallocate(target, libc::FALLOC_FL_KEEP_SIZE, range))
        });
    }

    fn push_range(
        &mut self,
        token: Token,
        file: FileId,
        range: Range,
        inline: impl FnOnce(&OpenedFile, u64, u64) -> Result<(), Errno>,
        build: impl FnOnce(Target, Range) -> (Kind, squeue::Entry),
    ) {
        let Some(open) = self.files.get_mut(file.0) else {
            return self.finish(token, Err(Errno(libc::EBADF)));
        };
        if range.len == 0 {
            return self.finish(token, Ok(()));
        }
        open.freed(range.offset, range.len);
        if open.file.traits().in_memory && range.len <= INLINE_MAX {
            let result = inline(&open.file, range.offset, range.len);
            return self.finish(token, result);
        }
        let (kind, entry) = build(open.target, range);
        self.start(token, kind, entry);
    }

    fn push_survey(&mut self, token: Token, file: FileId, wanted: Wanted) {
        let result = match self.files.get(file.0).map(|open| &open.file) {
            None => Err(Errno(libc::EBADF)),
            Some(file) if file.traits().device => Err(Errno(libc::EOPNOTSUPP)),
            Some(file) if file.traits().in_memory => survey::survey(file, wanted),
            Some(file) => match self.surveyor.order(token, file, wanted) {
                Ok(()) => return,
                Err(errno) => Err(errno),
            },
        };
        self.finish_inline(token, Event::Surveyed { result });
    }

    fn push_cancel(&mut self, token: Token, target: Token) {
        match self.inflight.find(target) {
            Some(user_data) => {
                self.give_up_send(user_data);
                self.start(token, Kind::Cancel, opcode::AsyncCancel::new(user_data).build());
            }
            None => self.finish(token, Err(Errno(libc::ENOENT))),
        }
    }

    fn push_wake(&mut self, token: Token, peer: PeerId) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return self.finish(token, Err(Errno(libc::ENOTCONN)));
        };
        known.token = token;
        if std::mem::replace(&mut known.queued, true) {
            return;
        }
        let entry = opcode::MsgRingData::new(types::Fd(known.handle.raw()), 0, internal::WOKEN, None)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(internal::WAKE | u64::from(peer.0));
        self.enqueue(entry);
    }

    /// The next step of zeroing a range, after the one before has ended.
    pub(super) fn continue_zero(
        &mut self,
        user_data: u64,
        target: Target,
        offset: u64,
        len: u64,
        step: ZeroStep,
    ) {
        self.enqueue(zero_entry(target, step, Range { offset, len }).user_data(user_data));
    }

    /// Has the ring tell when the waker's event descriptor is written to.
    pub(super) fn arm_waker(&mut self) {
        let poll = opcode::PollAdd::new(types::Fd(self.waker.raw()), libc::POLLIN as u32).multi(true);
        self.enqueue(poll.build().user_data(internal::WAKER));
    }

    fn finish(&mut self, token: Token, result: Result<(), Errno>) {
        self.finish_inline(token, Event::Finished { result });
    }

    pub(super) fn start(&mut self, token: Token, kind: Kind, entry: squeue::Entry) -> u64 {
        let user_data = self.inflight.insert(token, kind);
        self.enqueue(entry.user_data(user_data));
        user_data
    }

    /// Puts a submission into the queue; one that finds it full goes there with the next submit.
    pub(super) fn enqueue(&mut self, entry: squeue::Entry) {
        // SAFETY: what the entry points to is owned by the in-flight entry of its user data (or it points to
        // nothing), which lives until its last completion was reaped; and `UringRing::drop` waits for that or leaks.
        #[allow(unsafe_code, reason = "the kernel is given addresses")]
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_err() {
            self.deferred.push_back(entry);
        }
    }
}

fn fallocate(target: Target, mode: i32, range: Range) -> squeue::Entry {
    on!(target, fd => opcode::Fallocate::new(fd, range.len).offset(range.offset).mode(mode).build())
}

fn zero_entry(target: Target, step: ZeroStep, range: Range) -> squeue::Entry {
    let mode = match step {
        ZeroStep::ZeroRange => libc::FALLOC_FL_ZERO_RANGE,
        ZeroStep::Punch => libc::FALLOC_FL_PUNCH_HOLE,
        ZeroStep::Allocate => 0,
    };
    fallocate(target, mode | libc::FALLOC_FL_KEEP_SIZE, range)
}
