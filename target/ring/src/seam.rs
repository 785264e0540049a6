//! The seam: operations in, completions out.

use crate::loose::{LooseFile, LooseSocket};
use crate::memory::Buffer;
use crate::send_list::SendList;
use std::net::SocketAddr;

/// What the caller chose to recognise an operation's completion by. The ring never looks inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub u64);

/// A listening or connected socket of this ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketId(pub u32);

/// A regular file or block device of this ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// Another shard's ring, by its shard number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerId(pub u16);

/// A positive Linux error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

/// One thing to do. Buffers inside belong to the operation until its completion hands them back.
#[derive(Debug)]
pub enum Operation {
    /// Accepts connections until cancelled: one [`Event::Accepted`] each.
    Accept {
        /// The listening socket.
        listener: SocketId,
    },
    /// Receives until cancelled, the peer closes, or an error: one [`Event::Received`] per chunk.
    Receive {
        /// The connected socket.
        socket: SocketId,
    },
    /// Sends a vectored list once; a short send is possible.
    Send {
        /// The connected socket.
        socket: SocketId,
        /// What to send, in order.
        list: SendList,
    },
    /// Reads `len` bytes at byte `offset` of the file into `buffer[start..start + len]`. The buffer must not
    /// be shared.
    Read {
        /// The file.
        file: FileId,
        /// Byte offset in the file.
        offset: u64,
        /// Memory to read into.
        buffer: Buffer,
        /// First byte of the buffer to fill.
        start: u32,
        /// Bytes to read.
        len: u32,
    },
    /// Writes `buffer[start..start + len]` at byte `offset` of the file.
    Write {
        /// The file.
        file: FileId,
        /// Byte offset in the file.
        offset: u64,
        /// Memory to write from.
        buffer: Buffer,
        /// First byte of the buffer to write.
        start: u32,
        /// Bytes to write.
        len: u32,
    },
    /// Makes completed writes of the file durable (fdatasync).
    Flush {
        /// The file.
        file: FileId,
    },
    /// Frees a byte range, which reads as zeros afterwards (punch hole; BLKDISCARD is not used since it need
    /// not zero).
    Discard {
        /// The file.
        file: FileId,
        /// Byte offset.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Zeroes a byte range and keeps it allocated.
    Zero {
        /// The file.
        file: FileId,
        /// Byte offset.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Gives a byte range memory or space where it has none, and changes no byte: a later write of it finds room.
    Allocate {
        /// The file.
        file: FileId,
        /// Byte offset.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Looks where a byte range has data and where holes: one [`Event::Surveyed`].
    Survey {
        /// The file.
        file: FileId,
        /// Byte offset.
        offset: u64,
        /// Bytes.
        len: u64,
        /// Stretches that are enough.
        max: u16,
    },
    /// Asks that the operation with this token end soon. The operation's own completion still arrives, and
    /// for multishot operations that is its last one. This operation's [`Event::Finished`] follows too.
    Cancel {
        /// The operation to cancel.
        target: Token,
    },
    /// Shuts both directions of a socket down and closes it. The caller has reaped the last completion of
    /// every other operation on it.
    Close {
        /// The socket; its id is invalid afterwards.
        socket: SocketId,
    },
    /// Takes a connected socket out of this ring without closing it, for another ring to [`Ring::adopt`]: one
    /// [`Event::Released`]. The caller has reaped the last completion of every other operation on it. What the peer
    /// has sent and no receive has brought stays in the socket.
    Release {
        /// The socket; its id is invalid afterwards.
        socket: SocketId,
    },
    /// Wakes another shard: it reaps an [`Event::Woken`].
    Wake {
        /// Whom.
        peer: PeerId,
    },
}

/// What an operation came to.
#[derive(Debug)]
pub struct Completion {
    /// The operation's token. For [`Event::Woken`] it has no meaning.
    pub token: Token,
    /// The result.
    pub event: Event,
}

/// The result of an operation.
#[derive(Debug)]
pub enum Event {
    /// Of [`Operation::Accept`].
    Accepted {
        /// The new connection, or why accepting failed.
        result: Result<Accepted, Errno>,
        /// Whether further completions of this operation will follow; if not, push it again.
        more: bool,
    },
    /// Of [`Operation::Receive`].
    Received {
        /// What arrived.
        received: Received,
        /// Whether further completions of this operation will follow.
        more: bool,
    },
    /// Of [`Operation::Send`].
    Sent {
        /// Bytes taken, from the start of the list; may be fewer than its length.
        result: Result<u32, Errno>,
        /// The list, back with its buffers.
        list: SendList,
    },
    /// Of [`Operation::Read`] and [`Operation::Write`].
    Transferred {
        /// Bytes moved; may be fewer than asked.
        result: Result<u32, Errno>,
        /// The buffer, back.
        buffer: Buffer,
    },
    /// Of [`Operation::Flush`], [`Operation::Discard`], [`Operation::Zero`], [`Operation::Allocate`] (EOPNOTSUPP where
    /// space cannot be had ahead), [`Operation::Cancel`] (0, or ENOENT when there was nothing to cancel), [`Operation::Close`] and [`Operation::Wake`] (reported only
    /// when it failed).
    Finished {
        /// Success or the reason.
        result: Result<(), Errno>,
    },
    /// Of [`Operation::Survey`].
    Surveyed {
        /// The stretches from the range's start on, without gaps, fewer than asked for if its end was met; or
        /// EOPNOTSUPP for a device, which has no holes.
        result: Result<Vec<Stretch>, Errno>,
    },
    /// Of [`Operation::Release`].
    Released {
        /// The connection; or EBADF for an id that is not valid, EINVAL for a listening socket, which both change
        /// nothing.
        result: Result<LooseSocket, Errno>,
    },
    /// Somebody woke this shard: a peer's [`Operation::Wake`] or a waker from outside.
    Woken,
}

/// A part of a file that is data or a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// Whether it may be anything but zeros; a hole reads as zeros and takes no space.
    pub is_data: bool,
}

/// A new connection.
#[derive(Debug)]
pub struct Accepted {
    /// Its socket, already set up: TCP_NODELAY, keepalive and user timeout as the listener's configuration says.
    pub socket: SocketId,
    /// The peer's address.
    pub peer: SocketAddr,
    /// The address on our side that it connected to.
    pub local: SocketAddr,
}

/// What a receive brought.
#[derive(Debug)]
pub enum Received {
    /// Bytes in one of the shard's receive buffers: parse them, then [`Ring::recycle`].
    Chunk(Chunk),
    /// The peer sent FIN.
    End,
    /// All receive buffers are in use (ENOBUFS): push the receive again once some are recycled.
    Starved,
    /// The receive was cancelled by [`Operation::Cancel`].
    Cancelled,
    /// The connection failed.
    Failed(Errno),
}

/// Received bytes in a receive buffer that is the shard's until it recycles it. Not `Clone`: one owner. A part of it may
/// be shared, as of any [`Buffer`]: the kernel gets it back when nobody has a handle to it any more.
#[derive(Debug)]
#[must_use = "a chunk that is not recycled is a receive buffer lost"]
pub struct Chunk {
    buffer: Buffer,
    len: u32,
}

impl Chunk {
    /// The first `len` bytes of a buffer, or all, if it has fewer.
    pub fn new(buffer: Buffer, len: u32) -> Self {
        let len = len.min(buffer.len() as u32);
        Self { buffer, len }
    }

    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer.bytes()[..self.len as usize]
    }

    /// How many bytes there are.
    #[allow(clippy::len_without_is_empty, reason = "a receive brings bytes or something else")]
    #[inline]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Where they lie, from the first byte on.
    #[inline]
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// The buffer, for the ring that it is from.
    pub fn into_buffer(self) -> Buffer {
        self.buffer
    }
}

/// How long [`Ring::submit`] may wait for a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// At most until this time of the monotonic clock, in nanoseconds.
    Until(u64),
    /// Until there is one.
    Forever,
}

/// One shard's view of the outside world.
pub trait Ring {
    /// Queues an operation. When the queue is full the operation comes back: submit, then push again.
    ///
    /// # Errors
    /// The operation itself, when there is no room.
    fn push(&mut self, token: Token, operation: Operation) -> Result<(), Operation>;

    /// Does a read or a write of a file now, if it takes no wait: of a file in memory, say. The event is what its
    /// completion would have brought; there is no completion then. It is not ordered with operations that were pushed
    /// and not reaped.
    ///
    /// # Errors
    /// The operation itself, untouched, when it would have to wait, or is none that can be done at once: push it.
    fn at_once(&mut self, operation: Operation) -> Result<Event, Operation>;

    /// Does a read as [`Ring::at_once`] does, of what is to be sent and mostly not looked at: the ring may leave the bytes
    /// where they lie, and send them from there. Nobody can tell: they are those of this moment, whatever is written
    /// by this ring later, and [`Buffer::bytes`] has them. But if somebody else shortens the file before they are needed, a
    /// send of them fails with EFAULT, and who looks finds zeros.
    ///
    /// # Errors
    /// As [`Ring::at_once`].
    fn read_for_sending(&mut self, operation: Operation) -> Result<Event, Operation> {
        self.at_once(operation)
    }

    /// Hands queued operations to the kernel, and waits as asked for at least one completion.
    ///
    /// # Errors
    /// The ring itself is broken; the shard cannot go on.
    fn submit(&mut self, wait: Wait) -> Result<(), Errno>;

    /// Whether a [`Ring::submit`] that does not wait, and a [`Ring::reap`], would bring something: for polling, so it
    /// costs a few loads and no system call. True may turn out to be nothing.
    fn has_news(&mut self) -> bool;

    /// Moves completions into the batch until it is full to its capacity or none is left; returns how many.
    fn reap(&mut self, batch: &mut Vec<Completion>) -> usize;

    /// Gives a receive buffer back to the kernel: at once, or, while a part of it is shared, at the next [`Ring::submit`]
    /// after nobody shares it.
    fn recycle(&mut self, chunk: Chunk);

    /// Puts a connection that another ring released into this ring's table. Bytes that came meanwhile arrive with
    /// the next receive, as do a FIN or a reset.
    ///
    /// # Errors
    /// The socket comes back, with ENFILE when the table is full, or EINVAL when it comes from another kind of ring.
    fn adopt(&mut self, socket: LooseSocket) -> Result<SocketId, (Errno, LooseSocket)>;

    /// Puts an open file into this ring's table.
    ///
    /// # Errors
    /// ENFILE when the table is full, or EINVAL when the file is meant for another kind of ring; it is closed then.
    fn take_file(&mut self, file: LooseFile) -> Result<FileId, Errno>;

    /// Takes a file out of the table and closes it; its id is invalid afterwards. The caller has reaped the last completion
    /// of every operation on it.
    fn drop_file(&mut self, file: FileId);
}
